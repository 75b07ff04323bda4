"""Moves a viewer's private index when he renames a mailbox; removes it when he deletes one.

Only his own: other viewers' indexes lie in their homes.  After a rename theirs start anew; after a
deletion they do so by UIDVALIDITY, should the name be used again.
"""

import logging
import os
from pathlib import Path

from sharefs import fsops
from sharefs.fsops import Entry
from sharefs.permissions.inherit import DEFAULTS
from sharefs.store.private_seen.files import NAME

log = logging.getLogger(__name__)


def follow_rename(old: Path, new: Path) -> None:
    """Move the private index of one mailbox; its children's have calls of their own.

    What the new place held is replaced.  A disk that refuses costs no more than \\Seen: it is
    logged, and nothing is raised.
    """
    try:
        names = _files_in(old)
        if not names:
            return
        discard(new)
        fsops.make_dirs(new, DEFAULTS)
        # The log goes last: without it the other files mean nothing.
        for name in sorted(names, key=lambda name: name == f"{NAME}.log"):
            fsops.rename(Entry(None, old / name), Entry(None, new / name))
        _remove_empty(old)
    except OSError as error:
        log.warning("the private index %s stays behind: %s", old, error)


def discard(directory: Path) -> None:
    """Remove the private index of one mailbox.  Harmless if there is none; raises nothing."""
    try:
        for name in sorted(_files_in(directory), key=lambda name: name != f"{NAME}.log"):
            fsops.unlink(directory / name, missing_ok=True)
        _remove_empty(directory)
    except OSError as error:
        log.warning("the private index %s stays behind: %s", directory, error)


def _files_in(directory: Path) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.startswith(NAME)]
    except FileNotFoundError:
        return []


def _remove_empty(directory: Path) -> None:
    """In the fs layout the indexes of children lie below, and keep the directory."""
    if directory.is_dir() and not os.listdir(directory):
        fsops.rmdir(directory)
