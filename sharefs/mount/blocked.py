"""Where in the kernel threads of ours are: which system call, about which path (proc(5))."""

import os
from pathlib import Path, PurePosixPath
from typing import Final

_PATH_MAX: Final = 4096
_AT_FDCWD: Final = 0xFFFFFF9C
_TASKS: Final = Path("/proc/self/task")


def call_path(thread: int) -> str:
    """The file that tells of a thread, by its number as the kernel has it."""
    return f"{_TASKS}/{thread}/syscall"


def call_of(thread: int) -> bytes:
    """Number and arguments of its system call, or "running".  Raises OSError if it has ended."""
    with open(call_path(thread), "rb", buffering=0) as file:
        return file.read()


def switches_of(thread: int) -> str:
    """Another one whenever the thread has waited for something else.  Raises OSError likewise."""
    status = Path(_TASKS, str(thread), "status").read_text()
    return next(line for line in status.splitlines() if line.startswith("voluntary"))


def in_fuse() -> list[tuple[int, str]]:
    """Threads of ours that wait for a FUSE file system, and their system call."""
    found = []
    for thread in threads():
        try:
            if Path(_TASKS, str(thread), "wchan").read_text() == "request_wait_answer":
                found.append((thread, call_of(thread).decode()))
        except OSError:
            continue  # it has ended
    return found


def threads() -> list[int]:
    """All of this process's."""
    return [int(name) for name in os.listdir(_TASKS)]


def places_of(call: str) -> list[PurePosixPath]:
    """The paths that a system call may be about, by its arguments; the last is the likeliest.

    The first argument is a path, or a descriptor with or without a name in the second, which may
    be a buffer as well.
    """
    words = call.split()
    if len(words) < 3:
        return []
    first, second = int(words[1], 16), int(words[2], 16)
    path = _text_at(first)
    if path.startswith("/"):
        return [PurePosixPath(path)]
    name = _text_at(second)
    if first & 0xFFFFFFFF == _AT_FDCWD:
        return [PurePosixPath(name)] if name.startswith("/") else []
    try:
        directory = os.readlink(f"/proc/self/fd/{first}")
    except OSError:
        return [PurePosixPath(name)] if name.startswith("/") else []
    if not directory.startswith("/"):
        return []
    return [PurePosixPath(directory), PurePosixPath(directory, name)]


def _text_at(address: int) -> str:
    """What is in our memory there, if it is a string; "" if there is nothing."""
    if address < 1 << 16 or address >= 1 << 63:
        return ""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        try:
            octets = os.pread(memory.fileno(), _PATH_MAX, address)
        except (OSError, OverflowError):
            return ""
    text, end, _ = octets.partition(b"\0")
    return os.fsdecode(text) if end else ""
