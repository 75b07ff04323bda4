"""Becoming one user, or nobody in an empty room, for good.  The only home of set*id and chroot.

Rules of this file.  Groups, then gid, then uid: after the uid there is no right to do the rest.
Real, effective and saved ids all change.  Nothing here is temporary (call_as() uses up a thread),
and what could be undone ends the process: os._exit() runs no handler that might still hold
somebody's data.
Call these before any thread is started: the kernel keeps ids per thread, and only glibc's
wrappers, which os.set*id uses, carry them over.
"""

import ctypes
import enum
import errno
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from sharefs.permissions.acting import FileIds, note

T = TypeVar("T")

# <linux/prctl.h>
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_DROP: Final = 24
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


def end_with(parent: int, number: signal.Signals) -> None:
    """Be sent a signal when the parent, which is the thread that forked, ends.

    After become(): a change of ids takes it back.  Returns whatever became of the parent before.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        signal.raise_signal(number)


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


class Capability(enum.IntEnum):
    """Those that a daemon of ours may want to keep.  Values are linux/capability.h's."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    FOWNER = 3
    FSETID = 4
    SETGID = 6
    SETUID = 7
    SYS_ADMIN = 21
    SYS_RESOURCE = 24
    MKNOD = 27
    LEASE = 28


def keep_capabilities(wanted: Iterable[Capability]) -> None:
    """Give up every capability but these, for good; setuid programs give nothing either.

    For a daemon that stays uid 0.  The bounding set goes too, so that no program it starts gets
    more.  Raises OSError if the kernel refuses.
    """
    keep = set(wanted)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(_last_capability() + 1):
        if number not in keep:
            _prctl(_PR_CAPBSET_DROP, number)
    _set_capabilities(_bits(keep), _bits(keep))


def has_capability(wanted: Capability) -> bool:
    """Whether this thread could use it."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return bool(int(line.split()[1], 16) >> wanted & 1)
    return False


def _last_capability() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def _bits(capabilities: Iterable[int]) -> int:
    return sum(1 << number for number in capabilities)


def _set_capabilities(effective: int, permitted: int) -> None:
    """Of the calling thread; nothing is inheritable."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    for half in (0, 1):
        data[half].effective = effective >> 32 * half & 0xFFFFFFFF
        data[half].permitted = permitted >> 32 * half & 0xFFFFFFFF
    if _libc.capset(ctypes.byref(header), data) != 0:
        _raise_errno("capset")


# Only the calling thread: glibc's setgroups(3) would change them all.
_SYS_SETGROUPS: Final = {
    "x86_64": 116, "aarch64": 159, "riscv64": 159, "loongarch64": 159, "ppc64le": 81,
    "s390x": 206, "armv7l": 206, "i686": 206,
}  # fmt: skip


def call_as(uid: int, gid: int, groups: Iterable[int], work: Callable[[], T]) -> T:
    """work() in a thread of its own that is this user to the file system, and nobody else is.

    The thread's fsuid, fsgid and groups change (setfsuid(2)), and with the fsuid the kernel takes
    its capabilities over files away: what the user may not touch work() cannot touch either.  The
    thread ends afterwards.  access(2) still answers for the real uid.  Needs CAP_SETUID and
    CAP_SETGID unless the ids are the process's own.  Raises what work() raises.
    """
    wanted = sorted({gid, *groups})
    if not 0 < uid < _NO_CHANGE or not 0 < gid < _NO_CHANGE:
        raise ValueError(f"refusing to act as {uid}:{gid}")
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            if os.geteuid() == 0:
                _become_to_files(uid, gid, wanted)
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name=f"as {uid}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _become_to_files(uid: int, gid: int, groups: list[int]) -> None:
    number = _SYS_SETGROUPS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"setgroups(2) of one thread on {platform.machine()}")
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if _libc.syscall(ctypes.c_long(number), ctypes.c_size_t(len(groups)), array) != 0:
        _raise_errno("setgroups")
    # These two report the old id, never an error: a second call tells whether the first worked.
    for change, want in ((_libc.setfsgid, gid), (_libc.setfsuid, uid)):
        change(ctypes.c_uint32(want))
        if change(ctypes.c_uint32(_NO_CHANGE)) != want:
            raise OSError(errno.EPERM, f"cannot act as {uid}:{gid} to the file system")
    note(FileIds(uid, gid, frozenset(groups)))


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
    _set_capabilities(0, 0)


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
