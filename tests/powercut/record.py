"""What a process does to files, recorded with strace(1), as values that can be replayed.

The model of the file system is in replay.py; here is only what the kernel was asked for, in the
order in which the calls returned.  Only calls about files below one directory are kept.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from tests.support.server import wait_until


@dataclass(frozen=True, slots=True)
class Create:
    """A new empty file, or one that an open emptied."""

    path: str


@dataclass(frozen=True, slots=True)
class CreateUnnamed:
    """A file without a name (O_TMPFILE); path: what the kernel calls it, which no entry is."""

    path: str


@dataclass(frozen=True, slots=True)
class MakeDir:
    path: str


@dataclass(frozen=True, slots=True)
class Write:
    """At the end of the file, unless at says where."""

    path: str
    octets: bytes
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Truncate:
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Link:
    path: str
    new: str


@dataclass(frozen=True, slots=True)
class Rename:
    path: str
    new: str


@dataclass(frozen=True, slots=True)
class Unlink:
    path: str


@dataclass(frozen=True, slots=True)
class Sync:
    """fsync(2) or fdatasync(2) of a file or directory."""

    path: str


@dataclass(frozen=True, slots=True)
class Said:
    """What went out to the client: from here on it may rely on it."""

    octets: bytes


Op: TypeAlias = (
    Create | CreateUnnamed | MakeDir | Write | Truncate | Link | Rename | Unlink | Sync | Said
)

_CALLS: Final = (
    "open openat creat write pwrite64 writev pwritev ftruncate truncate fallocate rename renameat"
    " renameat2 link linkat unlink unlinkat mkdir mkdirat rmdir symlink symlinkat fsync fdatasync"
    " sync_file_range copy_file_range sendfile splice sendto sendmsg"
)
_LINE: Final = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
_RESULT: Final = re.compile(r"\) += (-?\d+)(.*)\Z")
_HEX: Final = re.compile(r"\\x([0-9a-f]{2})")
_FD: Final = re.compile(r"(?:AT_FDCWD|-?\d+)<([^>]*)>")
_NUMBERED: Final = re.compile(r"(?<!\d)(\d+)<([^>]*)>")
_PINNED: Final = re.compile(r"/proc/self/fd/(\d+)")
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@contextlib.contextmanager
def recording(pid: int, log: Path) -> Iterator[None]:
    """Record what the process does while inside; parse() reads the log.

    It must come to rest after what is to be recorded: of a call that has had its effect but has not
    returned, a tracer that leaves tells nothing.
    """
    tracer = subprocess.Popen(
        ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={_CALLS.replace(' ', ',')}",
         "-o", str(log), "-p", str(pid)],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        assert b"attached" in line, line
        yield
        wait_until(lambda: _rests(pid))
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=30)
    wait_until(lambda: not Path(f"/proc/{tracer.pid}").exists())


def _rests(pid: int) -> bool:
    """Whether every thread waits for something, and none for the tracer."""
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # a thread ended meanwhile
        return False
    return all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats)


def parse(log: Path, top: Path) -> list[Op]:
    """The calls that succeeded, about files below top; and all that was sent."""
    found: list[Op] = []
    begun: dict[str, str] = {}
    descriptors: dict[int, str] = {}
    for line in log.read_text("latin-1").splitlines():
        match = _LINE.match(line)
        if match is None or " +++ " in line or " --- " in line:
            continue
        pid, resumed, name, rest = match.groups()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
            continue
        if resumed:
            name, rest = resumed, begun.pop(pid) + rest
        result = _RESULT.search(rest)
        if result is None or int(result[1]) < 0:
            continue
        descriptors.update({int(fd): _text(path) for fd, path in _NUMBERED.findall(rest)})
        if name.startswith("open"):
            descriptors[int(result[1])] = _text(result[2][1:].partition(">")[0])
        call = _Call(name, rest[: result.start()], int(result[1]), result[2], descriptors)
        found += [op for op in call.ops() if _is_below(op, os.fspath(top))]
    return found


def _is_below(op: Op, top: str) -> bool:
    if isinstance(op, Said):
        return True
    paths = [op.path, op.new] if isinstance(op, Link | Rename) else [op.path]
    return any(path.startswith(top + "/") or path == top for path in paths)


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    arguments: str
    result: int
    after: str  # what -y says about a descriptor that was returned
    descriptors: Mapping[int, str]  # as far as calls have named them

    def ops(self) -> Iterator[Op]:
        match self.name:
            case "open" | "openat" | "creat":
                found = _FD.search(f"{self.result}{self.after}")
                assert found, (self.arguments, self.after)
                path = _text(found[1])
                if "O_TMPFILE" in self.arguments:
                    yield CreateUnnamed(path)
                elif "O_CREAT" in self.arguments and "O_EXCL" in self.arguments:
                    yield Create(path)
                elif "O_TRUNC" in self.arguments:
                    yield Truncate(path, 0)
                elif "O_CREAT" in self.arguments:
                    raise AssertionError(f"whether this made {path} cannot be told")
            case "write" | "pwrite64":
                octets = self.strings()[0][: self.result]
                at = int(self.arguments.rsplit(",", 1)[1]) if self.name == "pwrite64" else None
                yield Write(self.fd(), octets, at)
            case "ftruncate":
                yield Truncate(self.fd(), int(self.arguments.rsplit(",", 1)[1]))
            case "fsync" | "fdatasync":
                yield Sync(self.fd())
            case "rename" | "renameat" | "renameat2":
                yield Rename(*self.paths())
            case "link" | "linkat":
                yield Link(*self.paths())
            case "unlink" | "unlinkat":
                yield Unlink(self.paths()[0])
            case "mkdir" | "mkdirat":
                yield MakeDir(self.paths()[0])
            case "sendto" | "sendmsg":
                yield Said(b"".join(self.strings()))
            case _:
                raise AssertionError(f"the model does not know {self.name}({self.arguments[:200]}")

    def strings(self) -> list[bytes]:
        found = _STRING.findall(self.arguments)
        assert not any(cut for _, cut in found), "strace has cut a string"
        return [bytes.fromhex(text.replace("\\x", "")) for text, _ in found]

    def fd(self) -> str:
        """The path behind the first descriptor."""
        found = _FD.search(self.arguments)
        return _text(found[1]) if found else ""

    def paths(self) -> list[str]:
        """Every path argument, whole: relative ones count from the descriptor before them."""
        found: list[str] = []
        folder = ""
        for match in re.finditer(rf"{_FD.pattern}|{_STRING.pattern}", self.arguments):
            if match[2] is None:
                folder = _text(match[1])
            else:
                path = os.fsdecode(bytes.fromhex(match[2].replace("\\x", "")))
                if pinned := _PINNED.match(path):
                    path = self.descriptors[int(pinned[1])] + path[pinned.end() :]
                found.append(os.path.join(folder, path))
        return found


def _text(escaped: str) -> str:
    return _HEX.sub(lambda found: chr(int(found[1], 16)), escaped)
