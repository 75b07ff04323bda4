"""Leave to answer: what a tree allows to be told for a while without asking it each time.  Pure.

The compiled part (`engine`) knows no rights and no mailboxes.  It answers a request about a name
only if the tree has given leave for the name's directory, to this caller, for this act, and the
time has not passed; everything else it hands to Python.  So the law stays in one place, and is
asked as often as docs/mount.md promises.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sharefs.fsops import Ownership
from sharefs.mount.creation import Place
from sharefs.mount.nodes import Node

ANYBODY: Final = -1
Tell = Callable[[Any, str, bool, float], float]  # lasting.Lasting.tell


class Acts(enum.IntFlag):
    """What may be done with names in a directory; compiled/engine.h has the same numbers."""

    SEE = 1  # LOOKUP, GETATTR, READDIRPLUS
    ITSELF = 2  # GETATTR of the directory
    OPEN = 4  # OPEN to read, READ
    BRING_ALONG = 8  # a short file's content goes with the answer to OPEN
    WRITE = 16
    FINISH = 32  # WRITE by who made the file with this very open(2)
    ANY_KIND = 64  # of directories, links and so on as well as of regular files
    DOTS = 128  # of names that begin with a dot as well
    LOCKS = 256  # of names that end in .lock as well
    REMOVE = 512  # UNLINK of a regular file, whatever its name
    RENAME = 1024  # RENAME of one within the directory that replaces nothing, likewise
    LINK = 2048  # LINK of one within the directory, likewise
    UNLOCKED = 4096  # programs do not lock such files: nobody needs to be told of close(2)
    LOCAL = 8192  # nor need the file system below be asked what it says to it
    MAKE = 16384  # CREATE of what is not there, whatever its name; see Making
    LASTS = 32768  # what is told may last (`lasting`); who comes back to a file asks the tree
    TOUCH = 65536  # SETATTR of times
    PERMIT = 131072  # SETATTR of mode, owner and group
    PRETEND = 262144  # SETATTR of mode and group, accepted without effect
    SIBLINGS = 524288  # RENAME and LINK from and to other such directories in the one above


@dataclass(frozen=True, slots=True)
class Leave:
    """For one directory.  uid: whose requests, or ANYBODY.  until: as time.monotonic() counts.

    hidden: mode bits of directories that the kernel is not told.  *_timeout: seconds that it may
    rely on a name and on attributes.
    """

    acts: Acts
    entry_timeout: float
    attr_timeout: float
    uid: int = ANYBODY
    until: float = math.inf
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Making:
    """What new files in a directory get, for one caller, while permissions are what they were.

    above: the directory above, if its permissions matter too; it must be open.
    """

    place: Place
    owned: Ownership
    above: Node | None


@dataclass(frozen=True, slots=True)
class KnownName:
    """The answer to one name, for one uid, in a directory whose names need thinking about."""

    node: Node
    uid: int
    until: float
    entry_timeout: float
    attr_timeout: float
    hidden: int = 0
