"""Lock files beside what they protect, as Dovecot makes and breaks them.

A lock is FILE.lock, made by linking a finished temporary file to that name.  It holds
`<pid>:<hostname>`, so that a lock whose holder died on this host can be broken after two seconds;
any other lock is broken when neither it nor the protected file has changed for its stale time.
"""

import contextlib
import enum
import errno
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.permissions.inherit import DEFAULTS, Creation

log = logging.getLogger(__name__)

PID_CHECK_AGE: Final = 2  # seconds; a younger lock's holder most likely lives
# Seconds, random between the two, so that waiters spread.  Most locks are held for as long as one
# message takes to reach the disk, and somebody's IDLE waits for what is listed then.
FIRST_WAIT: Final = (0.002, 0.004)
LONGEST_WAIT: Final = 3.0  # seconds between two looks at a lock
WAIT_GROWTH: Final = 1.5
MAX_CONTENT: Final = 512  # octets of a lock that are read in search of a pid

# Locks that this process holds, by device and inode: our own pid in a lock otherwise means that
# the holder died and we were given its number.
_held: set[tuple[int, int]] = set()
_held_guard: Final = threading.Lock()
os.register_at_fork(after_in_child=_held.clear)


class Verdict(enum.Enum):
    """What to do about a lock that somebody else holds."""

    WAIT = "wait"
    DEAD = "its holder is dead"
    STALE = "nothing changed for its stale time"


@dataclass(frozen=True, slots=True)
class LockFacts:
    """What is known of a lock that is in the way.  Times in seconds since 1970.

    changed: when the lock or the protected file was last seen to change.
    holder_alive: None if the lock names no process of this host.
    """

    modified: float
    changed: float
    holder_alive: bool | None


def judge(facts: LockFacts, *, now: float, stale: float) -> Verdict:
    """Pure.  A lock that names a living process is never broken; stale 0: only dead ones are."""
    if facts.holder_alive is not None and now - facts.modified > PID_CHECK_AGE:
        return Verdict.WAIT if facts.holder_alive else Verdict.DEAD
    if stale and now - facts.changed > stale:
        return Verdict.STALE
    return Verdict.WAIT


def parse_holder(content: bytes, hostname: str) -> int | None:
    """The pid in a lock of this host.  None: another host, no pid, or a new file's content."""
    digits, colon, host = content.removesuffix(b"\n").partition(b":")
    if not colon or host != os.fsencode(hostname) or not digits.isascii() or not digits.isdigit():
        return None
    return int(digits) if len(digits) < 11 and int(digits) > 0 else None


class DotLock:
    """One lock file.  A context manager: entering waits, leaving removes the lock.

    path: what is protected; it need not exist.  timeout: seconds to wait, 0: one attempt.
    stale: seconds after which an unchanged lock without a living holder is broken, 0: never.
    creation: permissions of the lock, and so of the content that replace() puts in place.
    touch_every: seconds between two effective touch() calls while the lock is kept.
    excl: create with O_EXCL instead of a temporary file and a link (dotlock_use_excl).
    temp_prefix: start of the temporary file's name.  suffix: end of the lock's name.

    Raises SharingError(IN_USE, retryable) when the wait is over, OSError if no lock can be made.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        timeout: float,
        stale: float,
        creation: Creation | None = None,
        touch_every: float | None = None,
        excl: bool = False,
        temp_prefix: str = ".temp.",
        suffix: str = ".lock",
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = os.fspath(path)
        self.lock_path = self.path + suffix
        self.timeout = timeout
        self.stale = stale
        self._creation = creation or DEFAULTS
        self._touch_every = touch_every
        self._excl = excl
        self._temp_prefix = temp_prefix
        self._clock = clock
        self._sleep = sleep
        self._hostname = socket.gethostname()
        self._fd: int | None = None
        self._identity = (0, 0)
        self._touched = 0.0

    @property
    def locked(self) -> bool:
        return self._fd is not None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock.  Not recursive."""
        if self._fd is not None:
            raise RuntimeError(f"{self.lock_path} is already held by this object")
        attempt = _Attempt(self._temp_file, self.lock_path, excl=self._excl)
        try:
            self._wait_for(attempt)
            fd = attempt.take()
        finally:
            attempt.clean_up()
        self._fd = fd
        status = os.fstat(fd)
        self._identity = (status.st_dev, status.st_ino)
        self._touched = self._clock()
        with _held_guard:
            _held.add(self._identity)

    def release(self) -> None:
        """Remove the lock.  Harmless if it is not held; only a warning if somebody broke it."""
        if self._fd is None:
            return
        try:
            if self._still_ours():
                fsops.unlink(self.lock_path, missing_ok=True)
        finally:
            self._forget()

    def touch(self) -> None:
        """Keep waiters from breaking the lock.  Cheap when called more often than touch_every."""
        if self._fd is None or self._touch_every is None:
            return
        now = self._clock()
        if now - self._touched >= self._touch_every:
            os.utime(self._fd)
            self._touched = now

    def replace(self, content: bytes, *, fsync: bool = True, mtime: int | None = None) -> None:
        """Put content in the place of the protected file, at once, and release the lock.

        The lock file becomes the file, with the permissions of `creation`.  mtime: seconds since
        1970 to set, for readers that compare nothing else.  Raises SharingError(IN_USE) and
        changes nothing if the lock was broken meanwhile.
        """
        if self._fd is None:
            raise RuntimeError(f"{self.lock_path} is not held")
        if not self._still_ours():
            self._forget()
            raise SharingError(
                Code.IN_USE,
                f"{self.path} was not written: its lock was broken by another process",
                retryable=True,
            )
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            fsops.write_all(self._fd, content)
            if mtime is not None:
                os.utime(self._fd, (mtime, mtime))
            if fsync:
                os.fsync(self._fd)
            fsops.rename(fsops.Entry(None, self.lock_path), fsops.Entry(None, self.path))
        except BaseException:
            self.release()
            raise
        self._forget()
        if fsync:
            fsops.fsync_dir(os.path.dirname(self.path) or ".")

    def _still_ours(self) -> bool:
        try:
            status = os.stat(self.lock_path, follow_symlinks=False)
        except FileNotFoundError:
            log.warning("lock %s was removed while we held it", self.lock_path)
            return False
        if (status.st_dev, status.st_ino) != self._identity:
            log.warning("lock %s was taken over while we held it", self.lock_path)
            return False
        return True

    def _forget(self) -> None:
        with _held_guard:
            _held.discard(self._identity)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _temp_file(self, name: str | None) -> tuple[str, int]:
        """Make a file holding our pid, ready to become the lock."""
        if name is None:
            name = os.path.join(os.path.dirname(self.lock_path), fsops.temp_name(self._temp_prefix))
        elif (whole := self._lock_at_once(name)) is not None:
            return name, whole
        fd = fsops.create_file(name, self._creation)
        self._write_holder(fd, name)
        return name, fd

    def _lock_at_once(self, name: str) -> int | None:
        """Make the lock so that it holds our pid from its first moment.  None: impossible here.

        Whoever dies between making a lock and writing his pid leaves one that nobody can tell from
        a living holder's: all others wait until it is stale.  Raises FileExistsError.
        """
        fd = fsops.create_unnamed(os.path.dirname(name) or ".", self._creation)
        if fd is None:
            return None
        try:
            self._write_holder(fd, name)
            fsops.name_file(fd, name)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError) and error.errno in fsops.LINK_REFUSED:
                return None
            raise
        return fd

    def _write_holder(self, fd: int, name: str) -> None:
        try:
            fsops.write_all(fd, f"{os.getpid()}:{self._hostname}".encode())
        except OSError as error:
            # A full disk must not keep us from locking: an empty lock is legal, it just cannot
            # be checked for a dead holder.
            log.debug("no pid in %s: %s", name, error)
            os.ftruncate(fd, 0)

    def _wait_for(self, attempt: "_Attempt") -> None:
        deadline = self._clock() + self.timeout
        watch = _Watch(self.path, self.lock_path, self._hostname)
        wait = random.uniform(*FIRST_WAIT)
        while not attempt.create():
            now = self._clock()
            facts = watch.look(now)
            if facts is None:
                continue  # it went away between two calls
            verdict = judge(facts, now=now, stale=self.stale)
            if verdict is not Verdict.WAIT:
                if watch.break_lock():
                    log.warning(
                        "broke lock %s: %s", os.path.realpath(self.lock_path), verdict.value
                    )
                continue
            if now >= deadline:
                raise SharingError(
                    Code.IN_USE,
                    f"{self.path} is locked by {watch.holder_text()} and stayed so for"
                    f" {self.timeout:g} s ({self.lock_path})",
                    retryable=True,
                )
            self._sleep(min(wait, max(deadline - now, 0.01)))
            wait = min(wait * WAIT_GROWTH, LONGEST_WAIT)


class _Attempt:
    """The file that wants to become the lock."""

    def __init__(
        self, make: Callable[[str | None], tuple[str, int]], lock_path: str, *, excl: bool
    ) -> None:
        self._make = make
        self._lock_path = lock_path
        self._excl = excl
        self._temp: str | None = None
        self._fd: int | None = None

    def create(self) -> bool:
        """Whether the lock is now ours."""
        if not self._excl:
            with contextlib.suppress(_NoLinks):
                return self._create_by_link()
            self._excl = True
        try:
            _, self._fd = self._make(self._lock_path)
        except FileExistsError:
            return False
        return True

    def _create_by_link(self) -> bool:
        if self._temp is None:
            self._temp, self._fd = self._make(None)
        elif self._fd is not None:
            os.utime(self._fd)  # a lock must look new, or waiters break it at once
        try:
            fsops.link(fsops.Entry(None, self._temp), fsops.Entry(None, self._lock_path))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            self.clean_up()
            raise _NoLinks from error
        fsops.unlink(self._temp, missing_ok=True)
        self._temp = None
        return True

    def take(self) -> int:
        """Hand over the descriptor of the lock, which the caller closes."""
        assert self._fd is not None
        fd, self._fd = self._fd, None
        return fd

    def clean_up(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._temp is not None:
            fsops.unlink(self._temp, missing_ok=True)
            self._temp = None


class _NoLinks(Exception):
    """The file system has no hard links."""


class _Watch:
    """Notices changes of a lock that is in the way and of the file it protects."""

    def __init__(self, path: str, lock_path: str, hostname: str) -> None:
        self._path = path
        self._lock_path = lock_path
        self._hostname = hostname
        self._seen: dict[str, tuple[int, int, int, int]] = {}
        self._changed = 0.0
        self._holder: int | None = None

    def look(self, now: float) -> LockFacts | None:
        """None: the lock is gone."""
        modified = self._notice(self._lock_path, now)
        if modified is None:
            return None
        self._notice(self._path, now)
        self._holder = self._read_holder()
        alive = None if self._holder is None else self._is_alive(self._holder)
        return LockFacts(modified=modified, changed=self._changed, holder_alive=alive)

    def break_lock(self) -> bool:
        """Remove the lock if it is still the one that was judged."""
        try:
            if self._fingerprint(self._lock_path)[0] != self._seen[self._lock_path]:
                return False
        except FileNotFoundError:
            return False
        return fsops.unlink(self._lock_path, missing_ok=True)

    def holder_text(self) -> str:
        return "another program" if self._holder is None else f"process {self._holder}"

    def _notice(self, path: str, now: float) -> float | None:
        try:
            fingerprint, changed, modified = self._fingerprint(path)
        except FileNotFoundError:
            return None
        if self._seen.get(path) != fingerprint:
            # At first sight the file's own times count, unless they lie in the future: those are
            # another host's clock, or were set on purpose.
            first = path not in self._seen
            self._changed = max(self._changed, min(changed, now) if first else now)
            self._seen[path] = fingerprint
        return min(modified, now)

    @staticmethod
    def _fingerprint(path: str) -> tuple[tuple[int, int, int, int], float, float]:
        status = os.stat(path, follow_symlinks=False)
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        return key, max(status.st_mtime, status.st_ctime), status.st_mtime

    def _read_holder(self) -> int | None:
        try:
            fd = fsops.open_file(self._lock_path)
        except OSError:
            return None  # gone, or not ours to read: it is judged by its age alone
        try:
            return parse_holder(os.read(fd, MAX_CONTENT), self._hostname)
        finally:
            os.close(fd)

    def _is_alive(self, pid: int) -> bool:
        if pid == os.getpid():
            with _held_guard:
                return self._seen[self._lock_path][:2] in _held
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
