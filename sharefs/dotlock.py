"""Lock files beside what they protect, as Dovecot makes and breaks them.

A lock is FILE.lock, made by linking a finished file to that name.  From its first moment to its
last it holds `<pid>:<hostname>`, so that a lock whose holder died on this host can be broken after
two seconds; any other lock is broken when neither it nor the protected file has changed for its
stale time.
"""

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


def read_holder(lock: fsops.Name, *, dir_fd: int | None = None) -> int | None:
    """The pid in a lock of this host that is there.  None: none, or it cannot be read."""
    try:
        fd = fsops.open_file(lock, dir_fd=dir_fd)
    except OSError:
        return None  # gone, or not ours to read: it is judged by its age alone
    try:
        return parse_holder(os.read(fd, MAX_CONTENT), socket.gethostname())
    finally:
        os.close(fd)


class DotLock:
    """One lock file.  A context manager: entering waits, leaving removes the lock.

    path: what is protected; it need not exist.  timeout: seconds to wait, 0: one attempt.
    stale: seconds after which an unchanged lock without a living holder is broken, 0: never.
    creation: permissions of the lock, and of the content that replace() puts in place.
    touch_every: seconds between two effective touch() calls while the lock is kept.
    excl: where files without a name are unknown, create the lock with O_EXCL instead of a
    temporary file and a link (dotlock_use_excl).  suffix: end of the lock's name.

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
        self._clock = clock
        self._sleep = sleep
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
        content = f"{os.getpid()}:{socket.gethostname()}".encode()
        attempt = _Attempt(self.lock_path, content, self._creation, excl=self._excl)
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

        It comes in a file of its own, with the permissions of `creation`, and the lock goes after
        it: who dies on the way leaves the old content or the new, and a lock that tells who held
        it.  mtime: seconds since 1970 to set, for readers that compare nothing else.  Raises
        SharingError(IN_USE) and changes nothing if the lock was broken meanwhile.
        """
        if self._fd is None:
            raise RuntimeError(f"{self.lock_path} is not held")
        try:
            fsops.put_file(
                self.path, content, self._creation,
                fsync=fsync, mtime=mtime, ready=self._demand_ours,
            )  # fmt: skip
        except BaseException:
            self.release()
            raise
        try:
            # Looked at once, just before the content took its place.
            fsops.unlink(self.lock_path, missing_ok=True)
        finally:
            self._forget()
        if fsync:
            fsops.fsync_dir(os.path.dirname(self.path) or ".")

    def _demand_ours(self) -> None:
        if not self._still_ours():
            self._forget()
            raise SharingError(
                Code.IN_USE,
                f"{self.path} was not written: its lock was broken by another process",
                retryable=True,
            )

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

    def _wait_for(self, attempt: "_Attempt") -> None:
        deadline = self._clock() + self.timeout
        watch = _Watch(self.path, self.lock_path)
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
                    if verdict is Verdict.DEAD:
                        watch.sweep()
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
    """The file that wants to become the lock.  It says who we are before it has that name.

    Whoever dies between making a lock and writing his pid leaves one that nobody can tell from a
    living holder's: all others wait until it is stale.
    """

    def __init__(self, lock_path: str, content: bytes, creation: Creation, *, excl: bool) -> None:
        self._lock_path = lock_path
        self._content = content
        self._creation = creation
        self._ways = [self._create_in_place]  # the next to be tried is the last
        if not excl:
            self._ways.append(self._create_by_link)
        self._ways.append(self._create_by_naming)
        self._temp: str | None = None
        self._fd: int | None = None

    def create(self) -> bool:
        """Whether the lock is now ours."""
        while True:
            try:
                return self._ways[-1]()
            except _Impossible:
                self.clean_up()
                self._ways.pop()

    def _create_by_naming(self) -> bool:
        """Nothing is left by who dies while waiting."""
        if self._fd is None:
            folder = os.path.dirname(self._lock_path) or "."
            self._fd = fsops.create_unnamed(folder, self._creation)
            if self._fd is None:
                raise _Impossible
            self._write_holder(self._fd)
        else:
            os.utime(self._fd)  # a lock must look new, or waiters break it at once
        try:
            fsops.name_file(self._fd, self._lock_path)
        except FileExistsError:
            return False
        except OSError as error:
            # No /proc, or no directory any more: the next way finds out which.
            if error.errno not in (*fsops.LINK_REFUSED, errno.ENOENT):
                raise
            raise _Impossible from error
        return True

    def _create_by_link(self) -> bool:
        if self._fd is None:
            self._temp = os.path.join(os.path.dirname(self._lock_path), fsops.temp_name())
            self._fd = fsops.create_file(self._temp, self._creation)
            self._write_holder(self._fd)
        else:
            os.utime(self._fd)
        assert self._temp is not None
        try:
            fsops.link(fsops.Entry(None, self._temp), fsops.Entry(None, self._lock_path))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            raise _Impossible from error
        fsops.unlink(self._temp, missing_ok=True)
        self._temp = None
        return True

    def _create_in_place(self) -> bool:
        try:
            self._fd = fsops.create_file(self._lock_path, self._creation)
        except FileExistsError:
            return False
        self._write_holder(self._fd)
        return True

    def _write_holder(self, fd: int) -> None:
        try:
            fsops.write_all(fd, self._content)
        except OSError as error:
            # A full disk must not keep us from locking: an empty lock is legal, it just cannot
            # be checked for a dead holder.
            log.debug("no pid in %s: %s", self._lock_path, error)
            os.ftruncate(fd, 0)

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


class _Impossible(Exception):
    """The file system cannot make a lock in this way."""


class _Watch:
    """Notices changes of a lock that is in the way and of the file it protects."""

    def __init__(self, path: str, lock_path: str) -> None:
        self._path = path
        self._lock_path = lock_path
        self._seen: dict[str, tuple[int, int, int, int]] = {}
        self._changed = 0.0
        self._holder: int | None = None

    def look(self, now: float) -> LockFacts | None:
        """None: the lock is gone."""
        modified = self._notice(self._lock_path, now)
        if modified is None:
            return None
        self._notice(self._path, now)
        self._holder = read_holder(self._lock_path)
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

    def sweep(self) -> None:
        """Remove what the dead holder left of a new content: it had the lock, so it is the last
        who could have put it in place.  Our own pid says nothing: other threads are at work."""
        if self._holder is None or self._holder == os.getpid():
            return
        folder = os.path.dirname(self._lock_path) or "."
        start = fsops.temp_start(self._holder)
        try:
            with fsops.directory(folder, follow=True) as fd:
                with os.scandir(fd) as entries:
                    left = [
                        entry.name
                        for entry in entries
                        if entry.name.startswith(start) and entry.is_file(follow_symlinks=False)
                    ]
                for name in left:
                    fsops.unlink(name, dir_fd=fd, missing_ok=True)
        except OSError as error:
            log.debug("leftovers of process %d in %s stay: %s", self._holder, folder, error)

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
