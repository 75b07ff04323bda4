"""Two files with one base name in a Maildir: tell a race from a fault, and mend the fault.

A file seen twice was most likely just renamed under our eyes.  If both names stay, they are
either hard links of one file, left by a program that delivers with link(2), or two messages whose
deliverers chose the same name.  The first lose one link, the second get a new name.
"""

import logging
import os
import time

from sharefs import fsops
from sharefs.fsops import Entry
from sharefs.store.maildir.filename import unique_names
from sharefs.store.maildir.folders import Folders

log = logging.getLogger(__name__)

LINK_AGE = 30.0  # seconds; a younger pair of links may be a rename or delivery in progress


def mend(folders: Folders) -> None:
    """Mend what the last listings found, through descriptors: see Folders.

    The caller holds the lock.  Raises OSError for anything but a file that went away, which means
    it was a race; SharingError(NONEXISTENT) if the directory is no longer the one that was opened.
    """
    pairs, folders.doubles = folders.doubles, []
    with folders.opened() as fds:
        for first, second in pairs:
            _mend(Entry(fds[first[0]], first[1]), Entry(fds[second[0]], second[1]), fds[0])


def _mend(first: Entry, second: Entry, new_fd: int) -> None:
    try:
        one, two = (os.lstat(each.name, dir_fd=each.dir_fd) for each in (first, second))
        if (one.st_dev, one.st_ino) != (two.st_dev, two.st_ino):
            base = unique_names.next()
            fsops.rename_new(second, Entry(new_fd, base))
            log.warning("two messages had one name: renamed %s to new/%s", second.name, base)
        elif two.st_nlink > 1 and time.time() - two.st_ctime > LINK_AGE:
            fsops.unlink(second.name, dir_fd=second.dir_fd)
            log.warning("removed %s, a second link of %s", second.name, first.name)
    except FileNotFoundError:
        return
