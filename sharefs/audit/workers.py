"""One iteration spread over several processes: results come back as they are made.

Forks, so that workers know all that was gathered before; they only read and end by themselves.
Python computes on one core for each process, and an audit of a large host has work for many.
"""

import gc
import os
import pickle
import selectors
import struct
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from sharefs.errors import Code, SharingError

T = TypeVar("T")

_LENGTH: Final = struct.Struct("!Q")
_END: Final = _LENGTH.pack(0)


def in_processes(jobs: int, work: Callable[[int], Iterable[T]]) -> Iterator[T]:
    """What work(0) to work(jobs - 1) yield, in any order.  It must be picklable.

    jobs 1: no process is started.  Raises SharingError(UNAVAILABLE) if a worker ended early; its
    traceback is on standard error.
    """
    if jobs <= 1:
        yield from work(0)
        return
    pids: dict[int, int] = {}
    try:
        with selectors.DefaultSelector() as selector:
            for number in range(jobs):
                pid, reader = _start(number, work, list(pids.values()))
                pids[pid] = reader
                selector.register(reader, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    octets = _frame(key.fd)
                    if octets:
                        yield pickle.loads(octets)
                    else:
                        selector.unregister(key.fd)
    finally:
        for pid, reader in pids.items():
            os.close(reader)  # a worker that still writes ends by that
            os.waitpid(pid, 0)


def _frame(fd: int) -> bytes:
    """One pickled result; b"" at the end.  Raises SharingError if it is cut off."""
    return _read(fd, _LENGTH.unpack(_read(fd, _LENGTH.size))[0])


def _read(fd: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length:
        part = os.read(fd, min(length, 1 << 20))
        if not part:
            raise SharingError(Code.UNAVAILABLE, "a worker process ended before its work was done")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _start(number: int, work: Callable[[int], Iterable[Any]], others: list[int]) -> tuple[int, int]:
    """The child's pid and the end of a pipe to read from."""
    sys.stdout.flush()
    sys.stderr.flush()
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write_fd)
        return pid, read_fd
    status = os.EX_SOFTWARE
    try:
        os.close(read_fd)
        for other in others:
            os.close(other)
        gc.freeze()  # what was there before need not be searched for garbage, nor copied for it
        with open(write_fd, "wb") as pipe:
            for item in work(number):
                octets = pickle.dumps(item)
                pipe.write(_LENGTH.pack(len(octets)) + octets)
                pipe.flush()
            pipe.write(_END)
        status = 0
    except BrokenPipeError:
        status = 0  # nobody wants the rest
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
