"""Replays a written conversation with a server: what is said, what is heard, what is on disk then.

A transcript is a text file.  Its first lines begin with "#" and state the one claim it proves;
a line "host: NAME" says on which host, "index: yes" or "index: no" that it is about a server with
or without one.  The rest is played from top to bottom:

    [alice]             from here on alice's connection, opened and logged in at its first mention;
    [phone = alice]     another one of hers under a name of its own;
    [admin = bob*root]  the login name can be anything
    C: a LIST "" "*"    a line that this client sends
    C| Subject: x       a line of the literal announced by the {+} at the end of the line before
    C:  (\\Seen) {+}     with a space in front: the command goes on after the literal
    S: * OK done        a line that it hears next, to the letter
    S: ...              any number of lines
    S~ * ACL "Work" ... the same, but quotes around an atom do not matter
    S< * 1 EXISTS       the same as S:, within one second of the last thing that anybody did
    $ ls                a command, run by the superuser in the host's directory
    bob$ ls             the same by bob, with his own groups and none that only mail processes have
    > text              a line that the command prints; "> ..." any number of lines
    ! 1                 its exit status, when that is not 0
    L: drwxr-xr-x 2 alice staff home/*/Maildir    what ls -l says, of all that match, at least one

MAILBOXID (RFC 8474) is heard by S lines that name it; others pass over it.
In S, > and L lines "..." matches any text.  A word like $UIDVALIDITY is captured where it is met
first and stands for the captured text afterwards, in every kind of line.
"""

import glob
import os
import re
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Final, Protocol

PATIENCE: Final = 8.0  # seconds to wait for a line that has no limit of its own
PROMPT: Final = 1.0  # seconds: what IDLE promises

_KINDS: Final = re.compile(
    r"(?P<kind>\[|C: |C\| ?|S:(?: |$)|S~ |S< |[a-z]*\$ |>(?: |$)|! |L: )(?P<text>.*)"
)
_VARIABLE: Final = re.compile(r"\$[A-Z][A-Z0-9]*(?![a-z])")
_HOLE: Final = re.compile(r"\.\.\.|\$[A-Z][A-Z0-9]*(?![a-z])")
_MAILBOXID: Final = re.compile(r"\[MAILBOXID \([^)]*\)\] ")
_QUOTED_ATOM: Final = re.compile(r'"([^\s"(){%*\\\]]+)"')


class World(Protocol):
    """What a transcript plays on."""

    top: Path
    password: str  # everybody's

    @property
    def names(self) -> Mapping[str, int]:
        """Users and groups, for ls -l."""

    def connect(self) -> socket.socket: ...
    def command(self, user: str, line: str) -> subprocess.CompletedProcess[str]: ...


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    kind: str  # without the space after it
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    path: Path
    claim: str
    host: str
    index: str  # "yes", "no", or "" for either
    lines: tuple[Line, ...]

    @classmethod
    def read(cls, path: Path) -> "Transcript":
        """Raises ValueError for a line that is none of the kinds."""
        claim: list[str] = []
        host, index, lines = "", "", list[Line]()
        for number, text in enumerate(path.read_text().splitlines(), 1):
            if text.startswith("#"):
                claim += [] if lines else [text[1:].strip()]
            elif text.startswith("host: "):
                host = text[6:].strip()
            elif text.startswith("index: "):
                index = text[7:].strip()
            elif text.strip():
                found = _KINDS.fullmatch(text)
                if found is None:
                    raise ValueError(f"{path.name}:{number}: {text!r} is no line of a transcript")
                lines.append(Line(number, found["kind"].strip(), found["text"]))
        return cls(path, " ".join(claim), host, index, tuple(lines))


class Connection:
    """One client's socket, read line by line.  skips: any lines may come before the next."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unread = b""
        self.skips = False

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def line(self, patience: float) -> str | None:
        """The next line without its CRLF; "(closed)" when the server hung up, None if none came."""
        deadline = time.monotonic() + patience
        while b"\r\n" not in self._unread:
            self._socket.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                octets = self._socket.recv(65536)
            except (TimeoutError, BlockingIOError):
                return None
            if not octets:
                return "(closed)"
            self._unread += octets
        line, _, self._unread = self._unread.partition(b"\r\n")
        return line.decode("utf-8", "surrogateescape")

    def close(self) -> None:
        self._socket.close()


@dataclass
class _Player:
    script: Transcript
    world: World
    connections: dict[str, Connection] = field(default_factory=dict)
    here: Connection | None = None
    values: dict[str, str] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    acted: float = 0.0  # when anybody last did something
    printed: list[str] = field(default_factory=list)
    prints_more: bool = False
    status: int = 0

    # -- text ----------------------------------------------------------------------------------

    def filled(self, text: str) -> str:
        return _VARIABLE.sub(lambda found: self.values.get(found[0], found[0]), text)

    def matches(self, want: str, got: str) -> bool:
        """Whether got is want, capturing what want has no value for yet."""
        want = self.filled(want)
        names: list[str] = []
        pattern, at = "", 0
        for hole in _HOLE.finditer(want):
            pattern += re.escape(want[at : hole.start()])
            if hole[0] == "...":
                pattern += ".*"
            elif hole[0] in names:
                pattern += f"(?P=v{names.index(hole[0])})"
            else:
                pattern += f"(?P<v{len(names)}>[^\\s)\\]]+)"
                names.append(hole[0])
            at = hole.end()
        found = re.fullmatch(pattern + re.escape(want[at:]), got, re.DOTALL)
        if found is None:
            return False
        self.values.update({name: found[f"v{i}"] for i, name in enumerate(names)})
        return True

    def fail(self, line: Line, why: str) -> AssertionError:
        recent = "\n".join(self.heard[-25:])
        return AssertionError(
            f"{self.script.path.name}:{line.number}: {why}\n"
            f"claim: {self.script.claim}\nso far:\n{recent}"
        )

    # -- what a line does ----------------------------------------------------------------------

    def play(self) -> None:
        lines = self.script.lines
        at = 0
        while at < len(lines):
            line = lines[at]
            at += 1
            if line.kind == "C:":
                literal = []
                while at < len(lines) and lines[at].kind == "C|":
                    literal.append(self.filled(lines[at].text))
                    at += 1
                goes_on = at < len(lines) and lines[at].kind == "C:" and lines[at].text[:1] == " "
                self.say(line, literal, goes_on=goes_on)
            else:
                self.ACTIONS.get(line.kind, _Player.run)(self, line)
        self.check_status(lines[-1])
        for name, connection in self.connections.items():
            if not connection.skips and (left := connection.line(0.0)) not in (None, "(closed)"):
                raise self.fail(lines[-1], f"{name} heard this as well: {left}")

    def connection(self, line: Line) -> None:
        name, _, login = (word.strip() for word in line.text.rstrip("]").partition("="))
        if name not in self.connections:
            opened = self.connections[name] = Connection(self.world.connect())
            for said in (None, f"in LOGIN {login or name} {self.world.password}"):
                if said is not None:
                    opened.send(said.encode() + b"\r\n")
                answer = opened.line(PATIENCE)
                if answer is None or not re.match(r"(\* OK|in OK) ", answer):
                    raise self.fail(line, f"cannot log in: {answer}")
        self.here = self.connections[name]
        self.heard.append(line.text)

    def say(self, line: Line, literal: list[str], *, goes_on: bool) -> None:
        assert self.here is not None, f"{self.script.path.name}: who speaks in {line.number}?"
        text = self.filled(line.text)
        octets = text.encode()
        if literal:
            assert octets.endswith(b"{+}")
            body = "\r\n".join([*literal, ""]).encode()
            octets = octets[:-2] + b"%d+}\r\n" % len(body) + body
        self.heard.append(f"C: {text}")
        self.acted = time.monotonic()
        self.here.send(octets if goes_on else octets + b"\r\n")

    def hear(self, line: Line) -> None:
        assert self.here is not None, f"{self.script.path.name}: who hears {line.number}?"
        if line.text == "...":
            self.here.skips = True
            return
        limit = PROMPT if line.kind == "S<" else PATIENCE
        want = _plain(line.text) if line.kind == "S~" else line.text
        while True:
            got = self.here.line(max(0.0, self.acted + limit - time.monotonic()))
            if got is None:
                raise self.fail(line, f"not heard within {limit:g} s: {line.text}")
            self.heard.append(f"S: {got}")
            if "MAILBOXID" not in line.text:
                if got.startswith("* OK [MAILBOXID "):
                    continue
                got = _MAILBOXID.sub("", got)
            if self.matches(want, _plain(got) if line.kind == "S~" else got):
                break
            if not self.here.skips or got == "(closed)":
                raise self.fail(line, f"want {self.filled(line.text)}\n got {got}")
        self.here.skips = False

    def run(self, line: Line) -> None:
        self.check_status(line)
        user = line.kind.removesuffix("$") or "root"
        text = self.filled(line.text)
        self.heard.append(f"{line.kind} {text}")
        self.acted = time.monotonic()
        done = self.world.command(user, text)
        self.printed = done.stdout.splitlines()
        self.status = done.returncode
        self.heard += [f"> {text}" for text in (done.stdout + done.stderr).splitlines()]
        self.prints_more = False

    def read_printed(self, line: Line) -> None:
        if line.text == "...":
            self.prints_more = True
            return
        while self.printed:
            got = self.printed.pop(0)
            if self.matches(line.text, got):
                self.prints_more = False
                return
            if not self.prints_more:
                raise self.fail(line, f"want {self.filled(line.text)}\n got {got}")
        raise self.fail(line, f"not printed: {line.text}")

    def expect_status(self, line: Line) -> None:
        if self.status != int(line.text):
            raise self.fail(line, f"want exit status {line.text}, got {self.status}")
        self.status = 0

    def check_status(self, line: Line) -> None:
        """A command that nobody expects to fail has not failed, and printed what was told."""
        if self.status:
            raise self.fail(line, f"the command before ended with status {self.status}")
        if self.printed and not self.prints_more:
            raise self.fail(line, f"printed as well: {self.printed}")
        self.printed = []

    def list_files(self, line: Line) -> None:
        mode, links, owner, group, pattern = self.filled(line.text).split(maxsplit=4)
        paths = glob.glob(str(self.world.top / pattern), include_hidden=True)
        if not paths:
            raise self.fail(line, f"nothing matches {pattern}")
        known = {number: name for name, number in self.world.names.items()}
        for path in paths:
            found = os.lstat(path)
            got = (
                stat.filemode(found.st_mode), str(found.st_nlink),
                known.get(found.st_uid, str(found.st_uid)),
                known.get(found.st_gid, str(found.st_gid)),
            )  # fmt: skip
            want = (mode, links, owner, group)
            if any(one not in (got_one, "...") for one, got_one in zip(want, got, strict=True)):
                raise self.fail(line, f"want {' '.join(want)}\n got {' '.join(got)} {path}")

    def close(self) -> None:
        for opened in self.connections.values():
            opened.close()

    ACTIONS = {  # noqa: RUF012 - a table of methods, written once
        "[": connection,
        "S:": hear,
        "S~": hear,
        "S<": hear,
        ">": read_printed,
        "!": expect_status,
        "L:": list_files,
    }


def _plain(text: str) -> str:
    """text without the quotes around what could be an atom: both spell the same astring."""
    return _QUOTED_ATOM.sub(r"\1", text)


def play(script: Transcript, world: World) -> None:
    """Play it.  Raises AssertionError with line number and what was said and heard so far."""
    player = _Player(script, world)
    try:
        player.play()
    finally:
        player.close()


def transcripts(directory: Path) -> Iterator[Transcript]:
    """All of a directory, by host and name."""
    found = [Transcript.read(path) for path in sorted(directory.glob("*.txt"))]
    yield from sorted(found, key=attrgetter("host"))
