"""As whom the calling thread acts on files: as its process, or as the user call_as() made it.

setfsuid(2) has no twin that asks, so whoever changes a thread's ids notes them here.
"""

import os
import threading
from dataclasses import dataclass

from sharefs.permissions.access import Credentials


@dataclass(frozen=True, slots=True)
class FileIds:
    """Ids for access to files (credentials(7): fsuid, fsgid and the supplementary groups)."""

    uid: int
    gid: int
    groups: frozenset[int]


class _Noted(threading.local):
    ids: FileIds | None = None


_noted = _Noted()


def note(ids: FileIds) -> None:
    """For the rest of the calling thread's life."""
    _noted.ids = ids


def file_uid() -> int:
    """Who owns what this thread makes."""
    return os.geteuid() if _noted.ids is None else _noted.ids.uid


def file_gid() -> int:
    """Which group it gets where nothing else decides."""
    return os.getegid() if _noted.ids is None else _noted.ids.gid


def own_credentials() -> Credentials:
    """This thread, as the kernel sees it when it opens a file."""
    ids = _noted.ids or FileIds(os.geteuid(), os.getegid(), frozenset(os.getgroups()))
    return Credentials(ids.uid, ids.gid, ids.groups, superuser=ids.uid == 0)
