"""The passwd-file: `user:password:uid:gid:gecos:home:shell:extra fields`, and its rereading.

One file serves as passdb and as userdb.  A broken line is reported with its place and is nobody
else's problem.  Lines are only cut at load time and parsed when their user is asked for: a file of
50,000 users loads in tens of milliseconds and most of them never log in.
"""

import hashlib
import logging
import os
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sharefs.errors import Code, Place, SharingError

log = logging.getLogger(__name__)

# The eighth field is the last one: extra fields may hold colons (IPv6 in allow_nets).
_FIELDS: Final = 8

# Octets.  Far above any honest file; a wrong path must not fill the memory of the auth process.
_MAX_FILE: Final = 256 * 1024 * 1024

# libpam-pwdfile marks the scheme behind the hash: name[13] and name[34].
_PWDFILE_SUFFIX: Final = {"[13]": "CRYPT", "[34]": "PLAIN-MD5", "[56]": "DIGEST-MD5"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One user's line.  Texts are as written; an empty one was empty or missing.

    password: None if the line has no password field at all, which is not the same as empty.
    extra: (name, value) in file order; a name without = has the value "yes".
    """

    name: str
    password: str | None
    uid: str
    gid: str
    home: str
    extra: tuple[tuple[str, str], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line that makes no user, and why."""

    place: Place
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}; this line is ignored, other users are not affected"


@dataclass(frozen=True, slots=True)
class PasswdFile:
    """One version of the file.  Made by parse_file; every method is total but for parse errors."""

    path: str
    lines: dict[str, tuple[int, str]] = field(repr=False)
    broken: tuple[BrokenLine, ...]
    names: tuple[str, ...] = field(repr=False)

    def entry(self, name: str) -> Entry | None:
        """The user's line, None if there is none."""
        found = self.lines.get(name)
        return None if found is None else parse_line(found[1], Place(self.path, found[0]))

    def decoy(self, name: str) -> Entry | None:
        """Some user's line, always the same one for a name; None if the file has no user.

        Checking its password takes the time that checking a real one would take, so that
        answers do not tell which names exist.
        """
        if not self.names:
            return None
        digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
        return self.entry(self.names[int.from_bytes(digest, "big") % len(self.names)])


def parse_line(line: str, place: Place) -> Entry:
    """Read one line that has a user name.  Total: what does not fit is left empty."""
    name, *rest = line.split(":", _FIELDS - 1)
    password = _without_suffix(rest[0]) if rest else None
    rest += [""] * (_FIELDS - 1 - len(rest))
    _, uid, gid, _gecos, home, _shell, extra = rest
    if extra.startswith(":"):  # the oldest form: an empty field, then the mail location
        return Entry(name, password, uid, gid, home, (("userdb_mail", extra[1:]),), place)
    fields = (word.partition("=") for word in extra.split(" ") if word)
    pairs = tuple((key, value if equals else "yes") for key, equals, value in fields)
    return Entry(name, password, uid, gid, home, pairs, place)


def _without_suffix(password: str) -> str:
    scheme = _PWDFILE_SUFFIX.get(password[-4:])
    if scheme is None or len(password) <= 4 or password[0] in "{$":
        return password
    return f"{{{scheme}}}{password[:-4]}"


def parse_file(octets: bytes, path: str) -> PasswdFile:
    """Cut a file into lines by user.  Total: broken lines are listed in the result."""
    lines: dict[str, tuple[int, str]] = {}
    broken: list[BrokenLine] = []
    for number, line in enumerate(octets.decode("utf-8", "surrogateescape").split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, _ = line.partition(":")
        reason = ""
        if not name:
            reason = "the user name is missing"
        elif not colon and " " in name.strip():
            reason = "this is not user:password:uid:gid:gecos:home:shell:extra fields"
        elif "\0" in line:
            reason = "the line has a NUL character"
        elif name in lines:
            reason = f"user {name!r} is already defined in line {lines[name][0]}"
        if reason:
            broken.append(BrokenLine(Place(path, number), reason))
        else:
            lines[name] = number, line
    return PasswdFile(path, lines, tuple(broken), tuple(lines))


class PasswdFileReader:
    """One file, read again whenever it changed.  Several threads may share it.

    A failed reading raises SharingError(UNAVAILABLE): nobody is told that users vanished because
    a disk did.  missing_is_empty: for paths with variables, where a domain may have no file.
    """

    def __init__(self, path: Path, *, missing_is_empty: bool = False) -> None:
        self._path = path
        self._missing_is_empty = missing_is_empty
        self._lock = threading.Lock()
        self._version: tuple[int, ...] | None = None
        self._file = PasswdFile(str(path), {}, (), ())

    def current(self) -> PasswdFile:
        """The file as it is now.  Costs one stat(2) while nothing changed."""
        with self._lock:
            return self._current()

    def _current(self) -> PasswdFile:
        try:
            if self._version is not None and _version(os.stat(self._path)) == self._version:
                return self._file
            octets, version = self._read()
        except FileNotFoundError:
            if not self._missing_is_empty:
                raise self._unavailable("it does not exist") from None
            self._version, self._file = None, PasswdFile(str(self._path), {}, (), ())
            return self._file
        except OSError as exc:
            raise self._unavailable(exc.strerror or str(exc)) from exc
        self._file = parse_file(octets, str(self._path))
        self._version = version
        for line in self._file.broken:
            log.warning("%s", line)
        return self._file

    def _read(self) -> tuple[bytes, tuple[int, ...]]:
        # O_NONBLOCK: a FIFO put in the file's place must not hang the auth process.
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise self._unavailable("it is not a regular file")
            if status.st_size > _MAX_FILE:
                raise self._unavailable(f"it has more than {_MAX_FILE} octets")
            with open(fd, "rb", closefd=False) as stream:
                return stream.read(_MAX_FILE), _version(status)
        finally:
            os.close(fd)

    def _unavailable(self, why: str) -> SharingError:
        detail = f"cannot read the passwd-file {self._path}: {why}"
        return SharingError(Code.UNAVAILABLE, detail, retryable=True)


def _version(status: os.stat_result) -> tuple[int, ...]:
    # ctime as well: an editor may restore the mtime, and two writes may share one.
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)
