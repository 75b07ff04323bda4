"""Becoming one user, or nobody in an empty room, for good.  The only home of set*id and chroot.

Rules of this file.  Groups, then gid, then uid: after the uid there is no right to do the rest.
Real, effective and saved ids all change.  Nothing here is temporary, and what could be undone
ends the process: os._exit() runs no handler that might still hold somebody's data.
Call these before any thread is started: the kernel keeps ids per thread, and only glibc's
wrappers, which os.set*id uses, carry them over.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NoReturn

# <linux/prctl.h>
_PR_SET_DUMPABLE: Final = 4
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

# <linux/capability.h>: version 3 has two sets of 32 bits.
_CAPABILITY_VERSION_3: Final = 0x20080522

_NO_CHANGE: Final = 2**32 - 1  # (uid_t)-1 means "leave it" to setresuid(2)

_libc = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def become(uid: int, gid: int, groups: Iterable[int]) -> None:
    """Drop to uid, gid and exactly these supplementary groups, irrevocably.

    Afterwards there are no capabilities, setuid programs give nothing (no_new_privs), and
    other processes of the uid may not attach (the process is not dumpable).
    Raises ValueError for uid or gid 0 or out of range, before anything is changed, and OSError
    if the kernel refuses.  After OSError the process may be half changed: end it.
    Ends the process if the superuser could be had back.

    Not root: the ids must be the process's own already; only groups are left as they are.
    """
    wanted = sorted({gid, *groups})
    for number in (uid, *wanted):
        if not 0 < number < _NO_CHANGE:
            raise ValueError(f"refusing to become id {number}: not between 1 and {_NO_CHANGE - 1}")
    if os.geteuid() == 0:
        os.setgroups(wanted)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        _demand_groups(wanted)
    elif (os.geteuid(), os.getegid()) != (uid, gid):
        raise PermissionError(
            1, f"only root may become {uid}:{gid}; this process is {os.geteuid()}"
        )
    _close_ways_back(uid, gid)


def enter_empty_root(path: Path) -> None:
    """Make the directory this process's whole file system.  Needs root; call before become().

    Raises ValueError if the directory is not empty, not root's, or writable by others: then it
    would be no prison.  Raises OSError if the kernel refuses.
    """
    status = os.stat(path)
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise ValueError(
            f"{path}: the empty root directory must be root's and nobody else's to write"
        )
    if os.listdir(path):
        raise ValueError(f"{path}: the empty root directory is not empty")
    os.chroot(path)
    os.chdir("/")


def _demand_groups(wanted: list[int]) -> None:
    if sorted(os.getgroups()) != wanted:
        _end("the kernel did not take the group list")


def _close_ways_back(uid: int, gid: int) -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_KEEPCAPS, 0)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _clear_capabilities()
    _prctl(_PR_SET_DUMPABLE, 0)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        _end("an id is not what was asked for")
    attempts: tuple[Callable[[], None], ...] = (
        lambda: os.setuid(0),
        lambda: os.setgid(0),
        lambda: os.setgroups([0]),
    )
    for attempt in attempts:
        try:
            attempt()
        except PermissionError:
            continue
        _end("the superuser could be had back")


def _clear_capabilities() -> None:
    """Leaving uid 0 clears permitted and effective sets; inheritable ones would remain."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    empty = (_CapData * 2)()
    if _libc.capset(ctypes.byref(header), empty) != 0:
        _raise_errno("capset")


def _prctl(option: int, argument: int) -> None:
    # Every argument is an unsigned long; unused ones must be zero.
    if _libc.prctl(option, *map(ctypes.c_ulong, (argument, 0, 0, 0))) != 0:
        _raise_errno(f"prctl({option})")


def _raise_errno(call: str) -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, f"{call}: {os.strerror(number)}")


def _end(why: str) -> NoReturn:
    print(f"sharefs: dropping privileges failed: {why}", file=sys.stderr, flush=True)
    os._exit(os.EX_SOFTWARE)
