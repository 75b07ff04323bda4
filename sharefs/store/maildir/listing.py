"""Finding mailboxes in a directory tree.  Only reads.

What cannot be looked at is passed over, so that one private directory never breaks a listing.
"""

import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sharefs.errors import SharingError
from sharefs.names import Levels, Naming, levels_of
from sharefs.store.interface import Existence, StoredMailbox
from sharefs.store.stamps import is_over, stamp_of

log = logging.getLogger(__name__)

MAIL_DIRECTORIES: Final = frozenset({"cur", "new", "tmp"})
REMEMBERED: Final = 10_000  # mailboxes
MAX_DEPTH: Final = 64  # directories; a loop of symbolic links ends here if nowhere else


def existence_of(path: Path | str, *, bare: bool = False) -> Existence:
    """A directory with cur/ in it is a mailbox.  What may not be looked at is absent.

    bare: so is one without it, as in a Maildir++, whose mailboxes an administrator may make with
    mkdir(1); but not one that a link leads to, which may be anything.
    """
    missing = False
    try:
        if stat.S_ISDIR(os.stat(f"{os.fspath(path)}/cur").st_mode):
            return Existence.SELECTABLE
    except FileNotFoundError:
        missing = True
    except (OSError, ValueError):  # ValueError: NUL in a path
        pass
    if not os.path.isdir(path):
        return Existence.ABSENT
    if bare and missing and not os.path.islink(path):
        return Existence.SELECTABLE
    return Existence.NO_SELECT


class Looks:
    """Mailboxes as they were last seen, by path, while the stamps of their directories stay.

    For one process identity, as a storage is.  What lies in a directory with an old stamp is what
    lay there, so one lstat(2) tells what took three calls: that it may be entered, and has a cur/
    which is no link.  Nothing else is remembered.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: dict[str, StoredMailbox] = {}

    def known(self, path: str) -> StoredMailbox | None:
        """The mailbox there, if it is certainly as it was last seen."""
        seen = self._seen.get(path)
        if seen is None:
            return None
        try:
            if stamp_of(os.lstat(path)) == seen.stamp:
                return seen
        except OSError:
            pass  # gone, or out of reach: looking afresh tells which
        self._seen.pop(path, None)
        return None

    def look(self, path: str, name: Levels, *, bare: bool) -> StoredMailbox:
        """The mailbox there, which need not be one.  bare: see existence_of()."""
        known = self.known(path)
        if known is not None:
            return known
        now = self._clock()
        try:
            status = os.lstat(path)
        except (OSError, ValueError):
            return StoredMailbox(name, existence_of(path, bare=bare))
        stamp = stamp_of(status)
        existence = existence_of(path, bare=bare)
        if not (stat.S_ISDIR(status.st_mode) and is_over(stamp, now)):
            return StoredMailbox(name, existence)
        found = StoredMailbox(name, existence, stamp=stamp)
        if existence is Existence.SELECTABLE and _is_plain(f"{path}/cur"):
            if len(self._seen) >= REMEMBERED:  # a client may ask for any name
                self._seen.clear()
            self._seen[path] = found
        return found


def _is_plain(path: str) -> bool:
    """Whether there is a directory that no link leads to."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def in_maildirpp(root: Path, naming: Naming, looks: Looks) -> Iterator[StoredMailbox]:
    for entry in _entries(os.fspath(root)):
        if not entry.name.startswith("."):
            continue
        if found := _mailbox(entry, entry.name, naming, looks, bare=True):
            yield found


def in_fs(root: Path, naming: Naming, looks: Looks) -> Iterator[StoredMailbox]:
    yield from _in_fs(os.fspath(root), "", naming, looks, ())


def _in_fs(
    directory: str, prefix: str, naming: Naming, looks: Looks, above: tuple[tuple[int, int], ...]
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
        if found := _mailbox(entry, path, naming, looks):
            yield found
            yield from _in_fs(entry.path, path + "/", naming, looks, (*above, here))


def _entries(directory: str) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(directory) as entries:
            yield from list(entries)
    except FileNotFoundError:
        return
    except OSError as exc:
        log.info("%s is left out of the listing: %s", directory, exc.strerror)


def _mailbox(
    entry: "os.DirEntry[str]", path: str, naming: Naming, looks: Looks, *, bare: bool = False
) -> StoredMailbox | None:
    if (known := looks.known(entry.path)) is not None:
        return known
    try:
        if not entry.is_dir():
            return None
        link = Path(os.path.realpath(entry.path)) if entry.is_symlink() else None
        name = levels_of(path, naming)
    except OSError as exc:
        log.info("%s is left out of the listing: %s", entry.path, exc.strerror)
        return None
    except SharingError as exc:
        log.debug("%s is left out of the listing: %s", entry.path, exc.detail)
        return None
    if not os.access(entry.path, os.X_OK):
        log.info("%s is left out of the listing: it may not be entered", entry.path)
        return None
    if link is not None:
        return StoredMailbox(name, existence_of(entry.path, bare=bare), link)
    return looks.look(entry.path, name, bare=bare)


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
