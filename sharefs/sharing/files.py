"""ACL files on disk: read with a cache, updated under Dovecot's lock.

A file is named dovecot-acl and lies where Storage.acl_directory says.  Updates take the dotlock,
read the file again under it, and put a new file in its place.  Readers take no lock: a file is
replaced whole or not at all.
"""

import contextlib
import enum
import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.acl import EMPTY, Acl, Entry, Update
from sharefs.dotlock import DotLock
from sharefs.errors import Code, Place, SharingError
from sharefs.identifiers import ANYONE, OWNER
from sharefs.permissions.inherit import Creation
from sharefs.rights import NONE
from sharefs.sharing.acl_text import (
    AclProblem,
    ParsedGlobals,
    Severity,
    format_acl,
    parse_acl,
    parse_globals,
)
from sharefs.store.interface import Stamp
from sharefs.store.stamps import RECENT

FILE_NAME: Final = "dovecot-acl"
LOCK_TIMEOUT: Final = 30.0  # seconds; Dovecot's for this file
LOCK_STALE: Final = 120.0
MAX_SIZE: Final = 1 << 20  # octets; tens of thousands of entries.  More is an accident or an attack
REMEMBERED: Final = 10_000  # missing files


class Condition(enum.Enum):
    """What was found in the place of an ACL file."""

    MISSING = "missing"  # the defaults hold
    READ = "read"
    MALFORMED = "malformed"  # rights cannot be computed: see docs/decisions/0002
    NO_ACCESS = "no access"  # not "no ACL": nobody, the owner included, gets anything locally


@dataclass(frozen=True, slots=True)
class AclFile:
    """One reading of an ACL file.

    acl: what counts.  In a malformed file these are the good lines, which alone say little.
    mtime: seconds since 1970, as the list cache records it; 0 if there is no file.
    """

    path: Path
    condition: Condition
    acl: Acl = EMPTY
    problems: tuple[AclProblem, ...] = ()
    mtime: int = 0

    @property
    def readable(self) -> bool:
        """Whether the file, or its absence, could be read and understood."""
        return self.condition in (Condition.MISSING, Condition.READ)

    @property
    def malformed(self) -> bool:
        return self.condition is Condition.MALFORMED


@lru_cache(maxsize=4096)
def acl_path(directory: Path) -> Path:
    return directory / FILE_NAME


def read_acl(path: Path) -> AclFile:
    """Read an ACL file.  Never raises and never waits, whatever lies there.

    A symbolic link is followed, as Dovecot does: one file may serve many mailboxes.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[AclFile, os.stat_result | None]:
    try:
        octets, status = _read_octets(path)
    except (FileNotFoundError, NotADirectoryError):
        return AclFile(path, Condition.MISSING), None
    except PermissionError as error:
        return no_access(path, error.strerror or ""), None
    except OSError as error:
        return _spoilt(path, f"it cannot be read: {error.strerror}"), None
    if octets is None:
        return _spoilt(path, f"it is larger than {MAX_SIZE} octets"), status
    parsed = parse_acl(octets, str(path))
    condition = Condition.MALFORMED if parsed.malformed else Condition.READ
    mtime = int(status.st_mtime)
    return AclFile(path, condition, parsed.acl, parsed.problems, mtime), status


def _read_octets(path: Path) -> tuple[bytes | None, os.stat_result]:
    """None: too large to be an ACL file.  The status is of what was read."""
    with open(fsops.open_file(path, follow=True), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        parts: list[bytes] = []
        size = 0
        while part := file.read(MAX_SIZE + 1 - size):
            parts.append(part)
            size += len(part)
            if size > MAX_SIZE:
                return None, status
        return b"".join(parts), status


def no_access(path: Path, why: str) -> AclFile:
    """What an ACL file says to a process that may not read it."""
    place = Place(str(path))
    text = f"no access to the ACL file ({why}): nobody gets rights from it"
    acl = Acl((Entry(ANYONE, NONE, place=place), Entry(OWNER, NONE, place=place)))
    return AclFile(path, Condition.NO_ACCESS, acl, (AclProblem(Severity.ERROR, place, text),))


def _spoilt(path: Path, text: str) -> AclFile:
    problem = AclProblem(Severity.ERROR, Place(str(path)), text)
    return AclFile(path, Condition.MALFORMED, problems=(problem,))


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """Changes whenever the file does, or almost: see RECENT."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "_Fingerprint":
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class AclReader:
    """Reads ACL files and remembers them: one stat(2) for each that did not change.

    Made for one process identity, since what may be read differs between users.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[str, tuple[_Fingerprint, AclFile]] = {}
        self._globals: dict[str, tuple[_Fingerprint, ParsedGlobals]] = {}
        # One object for a file that is missing each time, so that equal is mostly the same.
        self._missing: dict[str, AclFile] = {}
        self._absent: dict[Path, tuple[Stamp, AclFile]] = {}  # by directory

    def read_in(self, directory: Path, stamp: Stamp | None) -> AclFile:
        """The ACL file of a mailbox's directory.

        stamp: of the directory, from before this call, if whatever is done in it later changes it
        (StoredMailbox.stamp).  Where there was no file at the time of a stamp, there is none while
        the directory has it; then nothing is looked at.
        """
        known = self._absent.get(directory)
        if known is not None and known[0] == stamp:
            return known[1]
        file = self.read(acl_path(directory))
        if stamp is not None and file.condition is Condition.MISSING and _is_absent(file.path):
            if len(self._absent) >= REMEMBERED:
                self._absent.clear()
            self._absent[directory] = stamp, file
        return file

    def read(self, path: Path) -> AclFile:
        """As read_acl."""
        key = os.fspath(path)
        known = self._known.get(key)
        if known is not None:
            try:
                if _Fingerprint.of(os.stat(key)) == known[0]:
                    return known[1]
            except OSError:
                pass  # gone, or out of reach: reading it afresh tells which
            self._known.pop(key, None)
        now = self._clock()
        found, status = _read(path)
        if status is not None and self._settled(status, now):
            self._known[key] = (_Fingerprint.of(status), found)
        if found.condition is not Condition.MISSING:
            return found
        if len(self._missing) >= REMEMBERED:  # a client may ask for any name
            self._missing.clear()
        return self._missing.setdefault(key, found)

    def read_globals(self, path: Path) -> ParsedGlobals:
        """A global ACL file of Dovecot 2.3.  One that is missing or unreadable spoils all rights:
        the administrator asked for it."""
        key = os.fspath(path)
        now = self._clock()
        try:
            status = os.stat(key)
            known = self._globals.get(key)
            if known is not None and known[0] == _Fingerprint.of(status):
                return known[1]
            if stat.S_ISDIR(status.st_mode):
                return _spoilt_globals(
                    path, "a directory of global ACL files is not supported: name one file"
                )
            octets, status = _read_octets(path)
        except OSError as error:
            return _spoilt_globals(path, f"it cannot be read: {error.strerror}")
        if octets is None:
            return _spoilt_globals(path, f"it is larger than {MAX_SIZE} octets")
        parsed = parse_globals(octets, key)
        if self._settled(status, now):
            self._globals[key] = (_Fingerprint.of(status), parsed)
        return parsed

    @staticmethod
    def _settled(status: os.stat_result, now: float) -> bool:
        return max(status.st_mtime, status.st_ctime) < now - RECENT


def _is_absent(path: Path) -> bool:
    """Whether not even a link is there, whose file may be made elsewhere at any time."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _spoilt_globals(path: Path, text: str) -> ParsedGlobals:
    return ParsedGlobals((), (AclProblem(Severity.ERROR, Place(str(path)), text),))


@dataclass(frozen=True, slots=True)
class AclUpdate:
    """What an update did to a file."""

    before: Acl
    after: Acl

    @property
    def changed(self) -> bool:
        return self.before != self.after


Change = Update | Callable[[Acl], Acl]


def update_acl(
    path: Path, change: Change, creation: Creation,
    *, timeout: float = LOCK_TIMEOUT, locked: bool = False,
) -> AclUpdate:  # fmt: skip
    """Change an ACL file under its lock.  Nothing is written if nothing changes.

    change: an Update, or a function from the ACL as it is under the lock to what it shall be;
    what that raises passes through, and nothing has happened.  creation: mode and group of the
    new file, those of the mailbox.  locked: whoever asks for it holds the lock, and goes on
    holding it.  Raises SharingError(CORRUPT) for a malformed file, which must be repaired first;
    SharingError(IN_USE); SharingError(UNAVAILABLE) if the environment refuses;
    SharingError(NONEXISTENT) if the mailbox's directory is gone.
    """
    lock = None
    if not locked:
        lock = DotLock(path, timeout=timeout, stale=LOCK_STALE, creation=creation)
    try:
        with lock or contextlib.nullcontext():
            old = read_acl(path)
            if old.condition is Condition.MALFORMED:
                raise _corrupt(old)
            if old.condition is Condition.NO_ACCESS:
                raise SharingError(Code.UNAVAILABLE, str(old.problems[0]))
            after = old.acl.apply(change) if isinstance(change, Update) else change(old.acl)
            if after.local() != old.acl:
                if lock is not None:
                    lock.replace(format_acl(after))
                else:
                    fsops.replace_file(path, format_acl(after), creation)
            return AclUpdate(old.acl, after.local())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SharingError(Code.NONEXISTENT, f"{path.parent} is not there") from error
    except OSError as error:
        raise _refused(path, error) from error


def repair_acl(path: Path, creation: Creation, *, timeout: float = LOCK_TIMEOUT) -> AclFile:
    """Drop the malformed lines of an ACL file.  Returns the file as it was, for the report.

    For a command that was asked to, after the problems have been shown: a dropped negative line
    may have been meant to keep somebody out.  Raises as update_acl.
    """
    try:
        with DotLock(path, timeout=timeout, stale=LOCK_STALE, creation=creation) as lock:
            old = read_acl(path)
            if old.condition is Condition.MALFORMED:
                if not old.problems[0].place.line:
                    raise _corrupt(old)  # no line to drop: not a file, or not of sane size
                lock.replace(format_acl(old.acl))
            return old
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SharingError(Code.NONEXISTENT, f"{path.parent} is not there") from error
    except OSError as error:
        raise _refused(path, error) from error


def rewrite_acl(
    path: Path, rewrite: Callable[[bytes], bytes], creation: Creation,
    *, timeout: float = LOCK_TIMEOUT,
) -> bool:  # fmt: skip
    """Put an ACL file's text in order, under its lock.  Returns whether anything was written.

    rewrite: from the octets as they are under the lock to those that shall be; what it raises
    passes through, and nothing has happened.  Raises as update_acl.
    """
    try:
        with DotLock(path, timeout=timeout, stale=LOCK_STALE, creation=creation) as lock:
            old, _ = _read_octets(path)
            if old is None:
                raise _corrupt(read_acl(path))
            new = rewrite(old)
            if new == old:
                return False
            lock.replace(new)
            return True
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SharingError(Code.NONEXISTENT, f"{path} is not there") from error
    except OSError as error:
        raise _refused(path, error) from error


def _corrupt(file: AclFile) -> SharingError:
    errors = [problem for problem in file.problems if problem.severity is Severity.ERROR]
    more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
    return SharingError(
        Code.CORRUPT, f"{errors[0]}{more}; the ACL can be changed again once that is repaired"
    )


def _refused(path: Path, error: OSError) -> SharingError:
    remedy = ""
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = (
            f": this process (euid {os.geteuid()}, egid {os.getegid()}) may not write to"
            f" {path.parent}; whoever changes an ACL needs write permission there"
        )
    return SharingError(
        Code.UNAVAILABLE, f"{path} was not changed: {error.strerror}{remedy}", retryable=True
    )


def initial_acl(parent: Acl) -> Acl:
    """What a new mailbox starts with: a copy of the nearest existing parent's local entries.

    The copy is made once; later changes of the parent do not reach it.
    """
    return Acl(
        tuple(
            replace(entry, place=None, negative_place=None)
            for entry in parent.entries
            if not entry.is_global
        )
    )
