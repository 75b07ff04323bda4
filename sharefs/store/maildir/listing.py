"""Finding mailboxes in a directory tree.  Only reads.

What cannot be looked at is passed over, so that one private directory never breaks a listing.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sharefs.errors import SharingError
from sharefs.names import Levels, Naming, levels_of
from sharefs.store.interface import Existence, StoredMailbox

log = logging.getLogger(__name__)

MAIL_DIRECTORIES: Final = frozenset({"cur", "new", "tmp"})
MAX_DEPTH: Final = 64  # directories; a loop of symbolic links ends here if nowhere else


def existence_of(path: Path | str) -> Existence:
    """A directory with cur/ in it is a mailbox.  What may not be looked at is absent."""
    try:
        if os.path.isdir(f"{os.fspath(path)}/cur"):
            return Existence.SELECTABLE
        return Existence.NO_SELECT if os.path.isdir(path) else Existence.ABSENT
    except ValueError:  # NUL in a path
        return Existence.ABSENT


def in_maildirpp(root: Path, naming: Naming) -> Iterator[StoredMailbox]:
    for entry in _entries(os.fspath(root)):
        if entry.name.startswith(".") and (found := _mailbox(entry, entry.name, naming)):
            yield found


def in_fs(root: Path, naming: Naming) -> Iterator[StoredMailbox]:
    yield from _in_fs(os.fspath(root), "", naming, ())


def _in_fs(
    directory: str, prefix: str, naming: Naming, above: tuple[tuple[int, int], ...]
) -> Iterator[StoredMailbox]:
    try:
        status = os.stat(directory)
    except OSError:
        return
    here = (status.st_dev, status.st_ino)
    if here in above or len(above) >= MAX_DEPTH:
        log.warning("%s leads back to a directory above it; its contents are not listed", directory)
        return
    for entry in _entries(directory):
        if entry.name.startswith(".") or entry.name in MAIL_DIRECTORIES:
            continue
        path = prefix + entry.name
        if found := _mailbox(entry, path, naming):
            yield found
            yield from _in_fs(entry.path, path + "/", naming, (*above, here))


def _entries(directory: str) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(directory) as entries:
            yield from list(entries)
    except FileNotFoundError:
        return
    except OSError as exc:
        log.info("%s is left out of the listing: %s", directory, exc)


def _mailbox(entry: "os.DirEntry[str]", path: str, naming: Naming) -> StoredMailbox | None:
    try:
        if not entry.is_dir():
            return None
        link = Path(os.path.realpath(entry.path)) if entry.is_symlink() else None
        name = levels_of(path, naming)
    except OSError as exc:
        log.info("%s is left out of the listing: %s", entry.path, exc)
        return None
    except SharingError as exc:
        log.debug("%s is left out of the listing: %s", entry.path, exc.detail)
        return None
    if not os.access(entry.path, os.X_OK):
        log.info("%s is left out of the listing: it may not be entered", entry.path)
        return None
    return StoredMailbox(name, existence_of(entry.path), link)


def below_in_maildirpp(root: Path, naming: Naming, name: Levels) -> list[Levels]:
    """Names of all mailboxes below one, dangling links included, for they are renamed too."""
    found: list[Levels] = []
    for entry in _entries(os.fspath(root)):
        try:
            levels = levels_of(entry.name, naming)
        except SharingError:
            continue
        if len(levels) > len(name) and levels[: len(name)] == name:
            found.append(levels)
    return sorted(found)


def has_children(path: Path) -> bool:
    """Whether a directory of the fs layout has mailboxes or levels below it."""
    return any(
        entry.is_dir() and entry.name not in MAIL_DIRECTORIES and not entry.name.startswith(".")
        for entry in _entries(os.fspath(path))
    )


def own_entries(path: Path) -> list[str]:
    """What in a directory of the fs layout belongs to the mailbox itself; cur first."""
    names = [
        entry.name
        for entry in _entries(os.fspath(path))
        if entry.name in MAIL_DIRECTORIES or not (entry.is_symlink() or entry.is_dir())
    ]
    return sorted(names, key=lambda name: name != "cur")
