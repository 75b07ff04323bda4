"""How far an audit has come, in a file, so that one that was killed goes on where it was.

The first line says of what: tool version, configuration and selection.  Then one line for each
user whose mail was looked at, with all that came of it, after a checksum; lines are only ever
appended, so what a kill leaves behind is at most a torn last one, which is cut off.  The file is
removed when the audit is complete.  It is the only thing that an audit ever writes.
"""

import fcntl
import hashlib
import json
import os
import stat
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sharefs import __version__, fsops
from sharefs.audit.findings import RULES, Finding, Severity
from sharefs.config import Config
from sharefs.errors import Code, SharingError
from sharefs.permissions.inherit import DEFAULTS

FORMAT: Final = 2
MAX_AGE: Final = 86_400.0  # seconds; what was found earlier than that is not worth much
SYNC_EVERY: Final = 1.0  # seconds; so much work may have to be done again after a power cut

# Device and inode -> a mailbox that has the file, and the mode and group it gives new files.
LinkedFiles = dict[tuple[int, int], tuple[str, int, int]]


@dataclass(slots=True)
class Outcome:
    """What came of one user's mail.

    entries: looked at.  bad: why the user's settings cannot work.  linked: message files with
    several names.  crossing: pairs of mailboxes whose files and permissions cross.  public: roots
    of public mail that the user sees.
    """

    user: str
    mailboxes: int = 0
    entries: int = 0
    findings: list[Finding] = field(default_factory=list)
    bad: str = ""
    linked: LinkedFiles = field(default_factory=dict)
    crossing: list[tuple[str, str]] = field(default_factory=list)
    public: list[str] = field(default_factory=list)


def fingerprint(config: Config, only: Collection[str], namespaces: Collection[str]) -> str:
    """Equal for audits that look for the same in the same way; hexadecimal."""
    parts = (__version__, config.root, config.overrides, sorted(only), sorted(namespaces))
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


class ResumeFile:
    """The file.  afresh: why what it had was not used; "" if it was, or there was none."""

    def __init__(self, path: Path, fd: int, afresh: str) -> None:
        self.path = path
        self.afresh = afresh
        self._fd = fd
        self._synced = time.monotonic()

    @classmethod
    def open(cls, path: Path, mark: str) -> Self:
        """mark: of fingerprint().  The caller closes it.

        Raises SharingError: INVALID if there is something else by that name, IN_USE if another
        audit is at it; OSError.
        """
        try:
            fd = fsops.open_file(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return cls(path, _new(path, mark), "")
        try:
            flaw = _flaw_of(fd, path, mark)
        except BaseException:
            os.close(fd)
            raise
        if not flaw:
            return cls(path, fd, "")
        os.close(fd)
        return cls(path, _new(path, mark), flaw)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def outcomes(self) -> Iterator[Outcome]:
        """Of users that are done.  Cuts off what a kill has torn; call it once, before add()."""
        good = 0
        with open(os.dup(self._fd), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file):
                outcome = _outcome_of(line) if number else None
                if number and outcome is None:
                    break
                good += len(line)
                if outcome is not None:
                    yield outcome
        os.ftruncate(self._fd, good)

    def add(self, outcome: Outcome) -> None:
        """Raises OSError."""
        fsops.write_all(self._fd, _line(_fields(outcome)))
        if time.monotonic() - self._synced > SYNC_EVERY:
            os.fsync(self._fd)
            self._synced = time.monotonic()

    def finish(self) -> None:
        """The audit is complete: there is nothing to go on with."""
        fsops.unlink(self.path, missing_ok=True)


def _new(path: Path, mark: str) -> int:
    header = {"sharefs-audit": FORMAT, "mark": mark, "begun": time.time()}
    fsops.replace_file(path, json.dumps(header).encode("ascii") + b"\n", DEFAULTS)
    fd = fsops.open_file(path, os.O_RDWR | os.O_APPEND)
    try:
        _lock(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SharingError(Code.IN_USE, f"another audit is using {path}", retryable=True) from None


def _flaw_of(fd: int, path: Path, mark: str) -> str:
    """Why an audit cannot go on from an open file; "" if it can.  Locks it."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise SharingError(
            Code.INVALID, f"{path} can be written by others, who could make up findings: remove it"
        )
    _lock(fd, path)
    with open(os.dup(fd), "rb") as file:
        line = file.readline(4096)
    try:
        header = json.loads(line)
        is_ours = isinstance(header, dict) and "sharefs-audit" in header
    except ValueError:
        is_ours = False
    if not is_ours:
        raise SharingError(
            Code.INVALID,
            f"{path} is no file of an audit; name another one, or one that is not there",
        )
    if header["sharefs-audit"] != FORMAT or header.get("mark") != mark:
        return "the configuration, the selection or the version of sharefs has changed since"
    begun = header.get("begun")
    if not isinstance(begun, float | int) or not 0 <= time.time() - begun <= MAX_AGE:
        return "it is older than a day"
    return ""


def _line(fields: Mapping[str, Any]) -> bytes:
    text = json.dumps(fields, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _fields(outcome: Outcome) -> dict[str, Any]:
    linked = [[*inode, *mailbox] for inode, mailbox in outcome.linked.items()]
    return {
        "user": outcome.user, "mailboxes": outcome.mailboxes, "entries": outcome.entries,
        "findings": [finding.data() for finding in outcome.findings], "bad": outcome.bad,
        "linked": linked, "crossing": outcome.crossing, "public": outcome.public,
    }  # fmt: skip


def _outcome_of(line: bytes) -> Outcome | None:
    """None: it is torn, or not what was written."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        fields = json.loads(text)
        return Outcome(
            fields["user"], fields["mailboxes"], fields["entries"],
            [_finding_of(each) for each in fields["findings"]], fields["bad"],
            {(one[0], one[1]): (one[2], one[3], one[4]) for one in fields["linked"]},
            [(one, other) for one, other in fields["crossing"]], fields["public"],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _finding_of(fields: Mapping[str, Any]) -> Finding:
    """The reverse of Finding.data()."""
    severity = next(each for each in Severity if each.word == fields["severity"])
    return Finding(
        RULES[fields["id"]].name, severity, fields["subject"], tuple(fields["evidence"]),
        fields["why"], fields["remedy"], tuple(fields["commands"]), fields["mailbox"],
        fields["user"], fields["place"],
    )  # fmt: skip
