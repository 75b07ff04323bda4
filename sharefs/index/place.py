"""Where an index file lies, and opening it without trusting what lies there.

Rules: the directory belongs to this very uid and nobody else may write to it, so nobody can put
a file or a journal of his own in the way; the file belongs to the uid, is no link, has no second
name and is for nobody else's eyes.  Whatever breaks a rule is not opened: the index is in memory.
"""

import contextlib
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.fsops import Entry
from sharefs.permissions.inherit import DEFAULTS
from sharefs.store.maildir.kept import FILE_NAME as LISTING

log = logging.getLogger(__name__)

NAME: Final = "sharefs.index.sqlite3"
JOURNAL: Final = NAME + "-journal"
BROKEN: Final = NAME + ".broken"  # the last index that was set aside, for whoever wants to know why

HIGHEST: Final = "sharefs.highest"  # HIGHESTMODSEQ, and when it is that (highest.py)
RESERVE: Final = "sharefs.modseq"  # which numbers may have been given (reserve.py)

# Directories that are made at most: enough for ~/.cache/sharefs/index and one below, so that a
# home that is gone, or not mounted, is never made in its place.
MAKES: Final = 4

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


# Device, inode, octets, mtime and ctime in ns, and the change counter in the file's header: the
# times alone would not tell of a change in the tick of the clock in which they were taken.
State = tuple[int, int, int, int, int, int]
_COUNTER_AT: Final = 24  # big-endian, four octets (https://sqlite.org/fileformat.html)


class Unusable(Exception):
    """Nothing may be kept there; the text says why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that may be opened.

    changed: when its inode last was, in nanoseconds since 1970.  interrupted: a writer died and
    left a journal.
    """

    path: Path
    inode: int
    changed: int
    interrupted: bool


def prepare(directory: Path) -> Prepared:
    """Make the directory and the file if need be, and see that they are this uid's alone.

    Raises Unusable, also for what the file system refuses (full, read-only, not permitted).
    """
    try:
        with _made(directory) as fd:
            status = _file(directory, fd)
            journal = _has_journal(directory, fd)
            return Prepared(directory / NAME, status.st_ino, status.st_ctime_ns, journal)
    except OSError as error:
        raise Unusable(f"{directory}: {error.strerror or error}") from error


@contextlib.contextmanager
def _made(directory: Path) -> Iterator[int]:
    """A descriptor of a directory that is this uid's alone, made if need be."""
    if not directory.parents[min(MAKES, len(directory.parents)) - 1].is_dir():
        raise Unusable(f"{directory}: too much of the way there is missing")
    fsops.make_dirs(directory, DEFAULTS)
    with _ours(directory) as fd:
        yield fd


@contextlib.contextmanager
def _ours(directory: Path) -> Iterator[int]:
    with fsops.directory(directory) as fd:
        _demand_private(directory, os.fstat(fd), _OTHERS_WRITE)
        yield fd


def read(directory: Path, name: str, limit: int) -> bytes:
    """A small file beside the index that only this uid can have written.

    limit: octets that it may have.  Raises Unusable, OSError.
    """
    with _ours(directory) as dir_fd:
        fd = fsops.open_file(name, dir_fd=dir_fd)
        try:
            status = os.fstat(fd)
            _demand_private(directory / name, status, _OTHERS)
            if status.st_nlink != 1:
                raise Unusable(f"{directory / name} has {status.st_nlink} names")
            if status.st_size > limit:
                raise Unusable(f"{directory / name} has {status.st_size} octets")
            return os.read(fd, status.st_size)
        finally:
            os.close(fd)


def state(directory: Path) -> State:
    """What tells whether anybody has written to the index.  Raises Unusable, OSError."""
    with _ours(directory) as dir_fd:
        fd = fsops.open_file(NAME, dir_fd=dir_fd)
        try:
            status = os.fstat(fd)
            _demand_private(directory / NAME, status, _OTHERS)
            counter = int.from_bytes(os.pread(fd, 4, _COUNTER_AT), "big")
        finally:
            os.close(fd)
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
        counter,
    )  # fmt: skip


def replace(directory: Path, name: str, octets: bytes) -> None:
    """Write such a file, which need not outlive a power cut.  Raises Unusable, OSError."""
    with _made(directory) as dir_fd:
        fsops.replace_file(name, octets, DEFAULTS, dir_fd=dir_fd, fsync=False)


def _file(directory: Path, dir_fd: int) -> os.stat_result:
    """The index file, which is made if it is missing."""
    path = directory / NAME
    try:
        fd = fsops.open_file(NAME, dir_fd=dir_fd)
    except FileNotFoundError:
        fd = fsops.create_file(NAME, DEFAULTS, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        _demand_private(path, status, _OTHERS)
        if status.st_nlink != 1:
            raise Unusable(f"{path} has {status.st_nlink} names: it could be somebody else's too")
        return status
    finally:
        os.close(fd)


def _has_journal(directory: Path, dir_fd: int) -> bool:
    try:
        status = os.stat(JOURNAL, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(status.st_mode):
        raise Unusable(f"{directory / JOURNAL} is not a regular file")
    _demand_private(directory / JOURNAL, status, _OTHERS)
    return status.st_size > 0


def _demand_private(path: Path, status: os.stat_result, forbidden: int) -> None:
    if status.st_uid != os.geteuid():
        raise Unusable(f"{path} belongs to uid {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & forbidden:
        raise Unusable(f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: others could use it")


def is_there(directory: Path, state: State) -> bool:
    """Whether the index that had this state is still in its place, whatever was written to it."""
    try:
        status = os.lstat(f"{directory}/{NAME}")  # asked for with each SELECT
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == state[:2]


def existing(places: Sequence[Path]) -> list[Path]:
    """Those of places where there is an index, for who only wants to look at it."""
    return [place for place in places if os.path.exists(place / NAME)]


def set_aside(directory: Path) -> None:
    """Put a wrong index out of the way.  The one set aside before goes.  Raises OSError."""
    with fsops.directory(directory) as fd:
        fsops.unlink(JOURNAL, dir_fd=fd, missing_ok=True)
        try:
            fsops.rename(Entry(fd, NAME), Entry(fd, BROKEN))
        except FileNotFoundError:
            return


def drop(directory: Path, *, forget: bool = False) -> bool:
    """Remove an index, what was set aside, and the directory if nothing else is in it.

    forget: also which modification sequences were given; only if the mailbox is no more.
    Returns whether there was one.  Raises OSError, and Unusable if it is not this uid's alone.
    """
    try:
        with _ours(directory) as fd:
            gone = fsops.unlink(NAME, dir_fd=fd, missing_ok=True)
            for name in (JOURNAL, BROKEN, LISTING, HIGHEST, *([RESERVE] if forget else [])):
                fsops.unlink(name, dir_fd=fd, missing_ok=True)
        with contextlib.suppress(OSError):  # others keep files there too
            fsops.rmdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return gone


def follow_rename(old: Path, new: Path) -> None:
    """Let an index go along with its mailbox, which was renamed.  Raises nothing.

    Only a directory that holds nothing but an index: its files then stay as they are, and nobody
    takes them for put there by somebody else.  Where that cannot be, one is built anew.
    """
    try:
        names = set(os.listdir(old))
        if NAME not in names or not names <= {NAME, JOURNAL, BROKEN, LISTING, HIGHEST, RESERVE}:
            return
        drop(new, forget=True)  # of a mailbox that had the name before
        fsops.make_dirs(new.parent, DEFAULTS)
        fsops.rename_new(Entry(None, old), Entry(None, new))
    except FileNotFoundError:
        return
    except (OSError, Unusable) as error:
        log.info("the index in %s stays behind: %s", old, error)
