"""Runs a function as another Unix identity, in a forked child that cannot outlive the test.

The child becomes the identity for good, runs the function, sends back its result or its exception,
and ends without running any of the test runner's own exit code.
"""

import contextlib
import ctypes
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, cast

TIMEOUT: Final = 60.0  # seconds; a child that takes longer hangs
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """A Unix identity.  Nothing has to know it: neither /etc/passwd nor /etc/group."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_as(self.uid, self.gid, self.groups, lambda: function(*args, **kwargs))


class ChildFailed(AssertionError):
    """The child ended without an answer, or took too long."""


@dataclass
class Child(Generic[T]):
    """A function running as somebody else.  result() waits for it; leaving the `with` kills it."""

    pid: int
    _reader: int
    _answer: bytes | None = field(default=None, repr=False)
    _status: int | None = None

    def result(self, timeout: float = TIMEOUT) -> T:
        """The function's result.  Raises what it raised, with the child's traceback as a note."""
        if self._answer is None:
            self._answer = self._read(timeout)
            self.close()
        if not self._answer:
            raise ChildFailed(f"child {self.pid} ended without an answer, status {self._status}")
        kind, value, text = pickle.loads(self._answer)
        if kind == "value":
            return cast(T, value)
        error = cast(BaseException, value)
        error.add_note(f"in child {self.pid}:\n{text}")
        raise error

    def _read(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        chunks: list[bytes] = []
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._reader], [], [], left)[0]:
                self.close()
                raise ChildFailed(f"child {self.pid} did not answer within {timeout:g} s")
            chunk = os.read(self._reader, 1 << 16)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to the child alone."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def wait(self) -> int:
        """Wait for the end, whatever it is.  Returns the status as waitpid(2) gives it."""
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return self._status

    def close(self) -> None:
        """End the child and whatever it started.  Harmless twice."""
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1
        if self._status is None:
            # The child leads a process group of its own; killing it reaches what it forked, too.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self.kill()
            self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


def start_as(
    uid: int,
    gid: int,
    groups: Sequence[int],
    function: Callable[[], T],
    *,
    umask: int | None = None,
) -> Child[T]:
    """Start function() as that identity and return at once.  Use as a context manager."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # both sides do it, so that neither needs to wait
        return Child(pid, reader)
    try:
        os.close(reader)
        with contextlib.suppress(PermissionError):
            os.setpgid(0, 0)
        signal.alarm(0)
        answer = _child_answer(uid, gid, groups, function, umask)
        with open(writer, "wb") as pipe:
            pipe.write(answer)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


def run_as(
    uid: int,
    gid: int,
    groups: Sequence[int],
    function: Callable[[], T],
    *,
    umask: int | None = None,
    timeout: float = TIMEOUT,
) -> T:
    """function() as that identity: its result, or what it raised.  Both must be picklable.

    groups: supplementary groups; the gid is added by nobody.  umask None: the runner's.
    """
    with start_as(uid, gid, groups, function, umask=umask) as child:
        return child.result(timeout)


def _child_answer(
    uid: int, gid: int, groups: Sequence[int], function: Callable[[], Any], umask: int | None
) -> bytes:
    try:
        _become(uid, gid, groups)
        if umask is not None:
            os.umask(umask)
        return pickle.dumps(("value", function(), ""))
    except BaseException as error:
        text = traceback.format_exc()
        try:
            answer = pickle.dumps(("error", error, text))
            pickle.loads(answer)  # some exceptions pickle but cannot be made again
        except Exception:
            return pickle.dumps(("error", ChildFailed(f"{type(error).__name__}: {error}"), text))
        return answer


def _become(uid: int, gid: int, groups: Sequence[int]) -> None:
    if os.geteuid() == 0:
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    elif (uid, gid) != (os.geteuid(), os.getegid()):
        raise ChildFailed(f"only the superuser can become uid {uid}, gid {gid}")
    # After the change of identity, which clears it (prctl(2)).
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
