"""Two files with one base name in a Maildir: tell a race from a fault, and mend the fault.

A file seen twice was most likely just renamed under our eyes.  If both names stay, they are
either hard links of one file, left by a program that delivers with link(2), or two messages whose
deliverers chose the same name.  The first lose one link, the second get a new name.
"""

import logging
import os
import time
from collections.abc import Iterable

from sharefs import fsops
from sharefs.fsops import Entry
from sharefs.store.maildir.filename import unique_names

log = logging.getLogger(__name__)

LINK_AGE = 30.0  # seconds; a younger pair of links may be a rename or delivery in progress


def mend(pairs: Iterable[tuple[str, str]], new: str) -> None:
    """pairs: paths of files with one base.  new: the path of new/.  The caller holds the lock.

    Raises OSError for anything but a file that went away, which means it was a race.
    """
    for first, second in pairs:
        try:
            one, two = os.lstat(first), os.lstat(second)
        except FileNotFoundError:
            continue
        try:
            if (one.st_dev, one.st_ino) != (two.st_dev, two.st_ino):
                base = unique_names.next()
                fsops.rename_new(Entry(None, second), Entry(None, f"{new}/{base}"))
                log.warning("two messages had one name: renamed %s to new/%s", second, base)
            elif two.st_nlink > 1 and time.time() - two.st_ctime > LINK_AGE:
                fsops.unlink(second)
                log.warning("removed %s, a second link of %s", second, first)
        except FileNotFoundError:
            continue
