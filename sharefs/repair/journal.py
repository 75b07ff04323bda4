"""What has been done so far, on disk before it is done: a kill at any point leaves a way on.

JSON lines, only ever appended to.  `intend` comes to disk before its changes are made, `done`
after them, `undo` and `undone` likewise on the way back.  A torn last line was never obeyed, so it
is cut off.  After a kill only the changes of the last `intend` or `undo` are in doubt, and no two
of those touch one subject: so the present value tells, for each, whether it happened.
"""

import base64
import binascii
import enum
import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.permissions.inherit import DEFAULTS
from sharefs.repair.change import Change, change_of, format_change
from sharefs.repair.deed import Picture
from sharefs.store.boot import this_boot

FORMAT: Final = 1
_START: Final = b'{"sharefs-journal": '
_MAX_HEADER: Final = 1024  # octets, amply

Pictures = Mapping[int, Picture | None]
Checkpoint = Callable[[str], None]


class Stage(enum.Enum):
    """How far one change has come."""

    INTENDED = "intended"  # in doubt
    DONE = "done"
    UNDOING = "undoing"  # in doubt
    UNDONE = "undone"


@dataclass(slots=True)
class Entry:
    """One change in the journal."""

    change: Change
    stage: Stage
    picture: Picture | None = None


@dataclass(slots=True)
class History:
    """What a journal says.

    plan: the fingerprint of its plan.  boot: which start of the host it was begun in.  entries: by
    the change's number, in the order in which they were intended.  pids: of the processes that
    wrote it before this one.
    """

    plan: str
    boot: str = ""
    entries: dict[int, Entry] = field(default_factory=dict)
    pids: list[int] = field(default_factory=list)
    good_size: int = 0

    @property
    def undoing(self) -> bool:
        """Whether an undo has begun: then only undoing goes on."""
        return any(one.stage in (Stage.UNDOING, Stage.UNDONE) for one in self.entries.values())


class Journal:
    """One open journal.  A context manager.

    Raises SharingError(IN_USE) if another process has it open, (CORRUPT) if it is damaged other
    than at its end, (NO_PERMISSION) if somebody else could have written it.
    """

    def __init__(
        self, fd: int, path: Path, history: History, checkpoint: Checkpoint = lambda what: None
    ) -> None:
        self._fd = fd
        self.path = path
        self.history = history
        self._checkpoint = checkpoint

    @classmethod
    def create(cls, path: Path, plan: str, *, checkpoint: Checkpoint = lambda what: None) -> Self:
        """Raises FileExistsError, but goes on with one that a kill left without its first line."""
        try:
            fd = fsops.create_file(path, DEFAULTS)
        except FileExistsError:
            fd = fsops.open_file(path, os.O_RDWR)
        journal = cls(fd, path, History(plan), checkpoint)
        try:
            demand_trusted(fd, path)
            journal._lock()
            if not _only_begun(os.pread(fd, _MAX_HEADER, 0)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            os.ftruncate(fd, 0)
            journal.history.boot = this_boot()
            header = {"sharefs-journal": FORMAT, "plan": plan, "boot": journal.history.boot}
            journal._append(header)
            journal._append({"session": [os.getpid()]})
            fsops.fsync_dir(path.parent)
        except BaseException:
            os.close(fd)
            raise
        return journal

    @classmethod
    def open(cls, path: Path, *, checkpoint: Checkpoint = lambda what: None) -> Self:
        """An existing journal.

        Raises FileNotFoundError, also if a kill left it without its first line: nothing had been
        done, so there is none.
        """
        fd = fsops.open_file(path, os.O_RDWR)
        try:
            demand_trusted(fd, path)
            journal = cls(fd, path, History(""), checkpoint)
            journal._lock()
            with open(os.dup(fd), "rb") as file:
                octets = file.read()
            if _only_begun(octets):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            journal.history = parse_history(octets, str(path))
            os.ftruncate(fd, journal.history.good_size)
            os.lseek(fd, 0, os.SEEK_END)
            journal._append({"session": [os.getpid()]})
        except BaseException:
            os.close(fd)
            raise
        return journal

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SharingError(
                Code.IN_USE, f"{self.path} is in use by another process", retryable=True
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def intend(self, changes: Mapping[int, Change], pictures: Pictures) -> None:
        """These will be made next."""
        fields: list[dict[str, Any]] = []
        for number, change in changes.items():
            one: dict[str, Any] = {"n": number, "change": json.loads(format_change(change))}
            if number in pictures:
                one["before"] = _picture_fields(pictures[number])
            fields.append(one)
            self.history.entries[number] = Entry(change, Stage.INTENDED, pictures.get(number))
        self._append({"intend": fields})

    def note(self, word: str, numbers: Sequence[int]) -> None:
        """word: done, undo, undone, or drop for changes that turned out not to have been made."""
        for number in numbers:
            if word == "drop":
                del self.history.entries[number]
            else:
                self.history.entries[number].stage = _STAGES[word]
        self._append({word: list(numbers)})

    def _append(self, fields: dict[str, Any]) -> None:
        self._checkpoint("write")
        fsops.write_all(self._fd, json.dumps(fields).encode("ascii") + b"\n")
        os.fsync(self._fd)
        self._checkpoint("written")


def _only_begun(octets: bytes) -> bool:
    """Whether it ends within a journal's first line, before which nothing is intended."""
    return b"\n" not in octets and octets[: len(_START)] == _START[: len(octets)]


_STAGES: Final = {"done": Stage.DONE, "undo": Stage.UNDOING, "undone": Stage.UNDONE}


def parse_history(octets: bytes, file: str) -> History:
    """Pure.  Raises SharingError(CORRUPT)."""
    end = octets.rfind(b"\n") + 1
    lines = octets[:end].split(b"\n")[:-1]
    try:
        header = json.loads(lines[0]) if lines else None
        if not isinstance(header, dict) or header.get("sharefs-journal") != FORMAT:
            raise ValueError("the first line is not a journal's")
        history = History(str(header["plan"]), str(header["boot"]), good_size=end)
        for line in lines[1:]:
            _take(history, json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError, SharingError) as flaw:
        raise SharingError(Code.CORRUPT, f"{file} is no journal, or damaged: {flaw}") from flaw
    return history


def _take(history: History, fields: dict[str, Any]) -> None:
    ((word, value),) = fields.items()
    if word == "intend":
        for one in value:
            picture = _picture_of(one["before"]) if one.get("before") else None
            history.entries[one["n"]] = Entry(change_of(one["change"]), Stage.INTENDED, picture)
        return
    if word == "session":
        history.pids += map(int, value)
        return
    for number in value:
        if word == "drop":
            del history.entries[number]
        else:
            history.entries[number].stage = _STAGES[word]


def _picture_fields(picture: Picture | None) -> dict[str, Any] | None:
    if picture is None:
        return None
    dress = picture.dress
    return {
        "content": base64.b64encode(picture.content).decode("ascii"),
        "uid": dress.uid,
        "gid": dress.gid,
        "mode": dress.mode,
        "acl": None if dress.acl is None else base64.b64encode(dress.acl).decode("ascii"),
        "mtime_ns": dress.mtime_ns,
    }


def _picture_of(fields: dict[str, Any]) -> Picture:
    try:
        acl = fields["acl"]
        dress = fsops.Dress(
            int(fields["uid"]), int(fields["gid"]), int(fields["mode"]),
            None if acl is None else base64.b64decode(acl), fields["mtime_ns"],
        )  # fmt: skip
        return Picture(base64.b64decode(fields["content"]), dress)
    except binascii.Error as error:
        raise ValueError("a picture is not base64") from error


def demand_trusted(fd: int, path: Path | str) -> None:
    """A plan or journal is as powerful as who obeys it: nobody else may have written it.

    Raises SharingError(NO_PERMISSION).
    """
    status = os.fstat(fd)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SharingError(
            Code.NO_PERMISSION,
            f"{path} could have been written by somebody else (owner {status.st_uid}, mode"
            f" {stat.S_IMODE(status.st_mode):04o}); look through it, then chown it to yourself and"
            " chmod go-w it",
        )
