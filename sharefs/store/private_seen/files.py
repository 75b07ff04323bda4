"""Reads and appends a viewer's `dovecot.index.pvt.log`, side by side with Dovecot.

Readers take no lock: a record counts once its size is whole.  Writers hold an fcntl lock on the
log and append with one write.  A new log is made through `.log.newlock`.  Whatever cannot be read
is dropped and the log written afresh from the rest: a lost \\Seen is a nuisance, a mailbox that
does not open is worse.
"""

import contextlib
import errno
import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.errors import Code, SharingError
from sharefs.fsops import Entry
from sharefs.permissions.inherit import DEFAULTS
from sharefs.store.private_seen import records
from sharefs.store.private_seen.index_file import IndexFile, format_index, parse_index
from sharefs.store.private_seen.records import BrokenLog, LogHeader
from sharefs.store.private_seen.state import PrivateState
from sharefs.store.stamps import Stamps

log = logging.getLogger(__name__)

NAME: Final = "dovecot.index.pvt"
LOCK_TIMEOUT: Final = 30.0  # seconds; locks are held for milliseconds
NEWLOCK_STALE: Final = 60.0  # seconds
MAX_LOG: Final = 256 << 20  # octets that are read at most; a log never gets near
ROTATE_ABOVE: Final = 1 << 20  # octets; a log smaller than this is never rotated
ROTATE_RATIO: Final = 8  # how many times larger than its content a log may grow
_FLOCK: Final = struct.Struct("hhqqi")  # struct flock on 64-bit Linux

# Directories that were complained about already: once is enough.
_reported: set[str] = set()

Plan = Callable[[PrivateState], Sequence[bytes]]
"""The records to append, given what is on disk now.  Empty: nothing to do."""

Remake = Callable[[PrivateState], PrivateState | None]
"""What should be on disk, given what is.  None: it may stay as it is."""


class PrivateFiles:
    """The files of one viewer for one mailbox.

    state: what they say.  persistent: False once writing failed; from then on changes live in
    memory only, and the disk is not read again.  Keeps no descriptor.  fsync: of what lasts
    through a power cut nothing is lost when a file is replaced, and update() can be made to last.
    """

    def __init__(self, directory: Path, *, fsync: bool = True) -> None:
        self.directory = directory
        self._fsync = fsync
        self.state = PrivateState()
        self.persistent = True
        self._log = directory / f"{NAME}.log"
        self._header: LogHeader | None = None
        self._fingerprint: tuple[int, int, int, int] | None = None
        self._offset = 0  # what follows is not applied yet
        self._broken: str | None = None
        self._new: DotLock | None = None  # held while a first log is made

    # --- reading ---------------------------------------------------------------------------

    def looks_unchanged(self) -> bool:
        """Whether refresh() would find nothing, by stat(2) alone."""
        return not self.persistent or self._fingerprint == self._stat()

    def memento(self) -> Stamps | None:
        """Tells whether the log is still as it is now.  None: what is known is in memory only."""
        return Stamps([os.fspath(self._log)]) if self.persistent else None

    def refresh(self) -> bool:
        """Apply what other processes of the viewer have written.  Returns whether they did."""
        if self.looks_unchanged():
            return False
        try:
            with self._opened(os.O_RDONLY) as fd:
                self._read(fd)
        except FileNotFoundError:
            self._forget()
        except OSError as error:
            self._give_up(error)
        return True

    def _stat(self) -> tuple[int, int, int, int] | None:
        try:
            status = os.stat(self._log)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        fd = fsops.open_file(self._log, flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def _forget(self) -> None:
        self.state = PrivateState()
        self._header = None
        self._fingerprint = None
        self._offset = 0
        self._broken = None

    def _read(self, fd: int) -> None:
        """Bring the state up to the end of an open log."""
        status = os.fstat(fd)
        before = self._fingerprint
        same = before is not None and before[:2] == (status.st_dev, status.st_ino)
        if not same or status.st_size < self._offset or self._broken:
            self._forget()
        octets = _read_from(fd, self._offset, status.st_size)
        self._fingerprint = (
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        )  # fmt: skip
        try:
            if self._header is None:
                self._header = records.parse_header(octets)
                base = self._base(self._header)
                if not self._header.size <= base.log_head <= len(octets):
                    raise BrokenLog("the index is ahead of its log")
                self.state = base.state
                self._offset = base.log_head
                octets = octets[base.log_head :]
            self._replay(octets)
        except BrokenLog as error:
            self._broken = f"{self._log}: {error}"
            log.warning("%s; keeping what came before", self._broken)

    def _replay(self, octets: bytes) -> None:
        """Apply records that begin at the current offset."""
        base = self._offset
        with memoryview(octets) as view:
            for record, end in records.iter_records(view, 0):
                if record is not None:
                    self.state.apply(record)
                self._offset = base + end

    def _base(self, header: LogHeader) -> IndexFile:
        """What the log builds on: nothing, the index file, or the log before it."""
        index = self._read_index(header.index_id)
        if index is not None and index.log_seq == header.file_seq:
            return index
        if index is not None and (index.log_seq, index.log_head) == (
            header.previous_seq,
            header.previous_offset,
        ):
            return IndexFile(header.index_id, header.file_seq, header.size, index.state)
        nothing = IndexFile(header.index_id, header.file_seq, header.size, PrivateState())
        if header.previous_seq == 0:
            return nothing
        older = self._read_older(header, index)
        if older is None:
            self._broken = f"{self._log} continues a log that is gone"
            log.warning("%s; keeping what it has itself", self._broken)
            return nothing
        return IndexFile(header.index_id, header.file_seq, header.size, older)

    def _read_index(self, index_id: int) -> IndexFile | None:
        path = self.directory / NAME
        try:
            index = parse_index(fsops.read_file(path))
        except FileNotFoundError:
            return None
        except (BrokenLog, OSError) as error:
            log.warning("%s cannot be used: %s", path, error)
            return None
        return index if index.index_id == index_id else None

    def _read_older(self, header: LogHeader, index: IndexFile | None) -> PrivateState | None:
        """The state at the end of the log before this one."""
        path = self.directory / f"{NAME}.log.2"
        try:
            octets = fsops.read_file(path)
            older = records.parse_header(octets)
        except FileNotFoundError:
            return None
        except (BrokenLog, OSError) as error:
            log.warning("%s cannot be used: %s", path, error)
            return None
        if (older.index_id, older.file_seq) != (header.index_id, header.previous_seq):
            return None
        if index is not None and index.log_seq == older.file_seq:
            state, start = index.state, index.log_head
        elif older.previous_seq == 0:
            state, start = PrivateState(), older.size
        else:
            return None
        try:
            with memoryview(octets) as view:
                for record, _ in records.iter_records(view, start):
                    if record is not None:
                        state.apply(record)
        except BrokenLog as error:
            log.warning("%s: %s; keeping what came before", path, error)
        return state

    # --- writing ---------------------------------------------------------------------------

    def update(self, plan: Plan, *, durable: bool = False) -> None:
        """Append what plan asks for, given the newest state, and apply it.

        durable: with all that was written before it is on the disk when this returns.
        Raises nothing for a disk that refuses: from then on changes are kept in memory.
        """
        if self.persistent:
            try:
                self._update_on_disk(plan, durable=durable)
            except (OSError, SharingError) as error:
                self._give_up(error)
            else:
                return
        self._apply_in_memory(plan(self.state))

    def rewrite(self, remake: Remake) -> None:
        """Write everything afresh, as remake wants it given the newest state.

        For another mailbox under the same name, or files that contradict the mailbox.
        """
        if self.persistent:
            try:
                with self._locked_log() as fd:
                    if fd is not None:
                        self._read(fd)
                    state = remake(self.state)
                    if state is not None:
                        self._replace(state, [])
            except (OSError, SharingError) as error:
                self._give_up(error)
            else:
                return
        self.state = remake(self.state) or self.state

    def _update_on_disk(self, plan: Plan, *, durable: bool) -> None:
        with self._locked_log() as fd:
            if fd is not None:
                self._read(fd)
            appended = plan(self.state)
            if fd is None:
                if appended:
                    self._replace(self.state, appended)
            elif self._broken is not None:
                self._replace(self.state, appended)
            elif self._worth_rotating():
                self._rotate(appended)
            elif appended:
                self._append(fd, records.format_transaction(appended))
                if durable:
                    os.fsync(fd)

    def _append(self, fd: int, octets: bytes) -> None:
        size = os.fstat(fd).st_size
        if size != self._offset:
            # Somebody died while writing, and nobody else can be writing now.
            log.warning("%s: dropping %d unfinished octets", self._log, size - self._offset)
            os.ftruncate(fd, self._offset)
        try:
            fsops.write_all(fd, octets)
        except OSError:
            os.ftruncate(fd, self._offset)
            raise
        status = os.fstat(fd)
        self._replay(octets)
        self._fingerprint = (
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        )  # fmt: skip

    def _worth_rotating(self) -> bool:
        return self._offset > max(ROTATE_ABOVE, ROTATE_RATIO * 8 * len(self.state.uids))

    def _rotate(self, appended: Sequence[bytes]) -> None:
        """Write the state to the index file and go on in a new log, which the lock lets us do.

        Every step leaves files that belong together; Dovecot's open sessions follow.
        """
        old, end = self._header, self._offset
        assert old is not None
        index = IndexFile(old.index_id, old.file_seq, end, self.state)
        fsops.replace_file(self.directory / NAME, format_index(index), DEFAULTS, fsync=self._fsync)
        header = LogHeader(
            index_id=old.index_id,
            file_seq=old.file_seq % 0xFFFFFFFF + 1,
            previous_seq=old.file_seq,
            previous_offset=end,
            created=int(time.time()),
            # No record is shorter than 8 octets, so this is never less than what was counted.
            initial_modseq=old.initial_modseq + end // 8,
        )
        with self._newlock() as lock:
            spare = self.directory / fsops.temp_name(f"{NAME}.log.2.")
            fsops.link(Entry(None, self._log), Entry(None, spare))
            fsops.rename(Entry(None, spare), Entry(None, self.directory / f"{NAME}.log.2"))
            content = header.encode() + records.format_transaction(list(appended))
            lock.replace(content, fsync=self._fsync)
        if self._fsync:
            fsops.fsync_dir(self.directory)
        touched = self.state.touched
        self._read_anew()
        self.state.touched |= touched

    @contextlib.contextmanager
    def _locked_log(self) -> Iterator[int | None]:
        """The log open and locked, or None, with the right to make it, if there is none."""
        while True:
            try:
                fd = fsops.open_file(self._log, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                self._make_directory()
                with self._newlock():
                    if not self._log.exists():
                        self._forget()
                        yield None
                        return
                continue
            try:
                _lock(fd, self._log)
                if _same_file(fd, self._log):
                    yield fd
                    return
            finally:
                os.close(fd)

    def _make_directory(self) -> None:
        above = self.directory.parent
        while self._fsync and not above.is_dir():
            above = above.parent
        fsops.make_dirs(self.directory, DEFAULTS)
        if self._fsync:
            for folder in (self.directory, *self.directory.parents):
                fsops.fsync_dir(folder)
                if folder == above:
                    break

    @contextlib.contextmanager
    def _newlock(self) -> Iterator[DotLock]:
        lock = DotLock(self._log, timeout=LOCK_TIMEOUT, stale=NEWLOCK_STALE, suffix=".newlock")
        with lock:
            self._new = lock
            try:
                yield lock
            finally:
                self._new = None

    def _replace(self, state: PrivateState, appended: Sequence[bytes]) -> None:
        """Put a new log in place, which starts from nothing and says what state says."""
        now = int(time.time())
        old = self._header
        header = LogHeader(
            index_id=old.index_id if old else now,
            file_seq=old.file_seq % 0xFFFFFFFF + 1 if old else 1,
            created=now,
        )
        parts = [header.encode(), records.format_transaction(_content(state))]
        parts.append(records.format_transaction(list(appended)))
        if self._new is not None:
            self._new.replace(b"".join(parts), fsync=self._fsync)
        else:
            with self._newlock() as lock:
                lock.replace(b"".join(parts), fsync=self._fsync)
        if self._fsync:
            fsops.fsync_dir(self.directory)  # before what the old log built on goes
        for name in (NAME, f"{NAME}.log.2"):  # what the old log built on
            fsops.unlink(self.directory / name, missing_ok=True)
        self._read_anew()

    def _read_anew(self) -> None:
        self._forget()
        with self._opened(os.O_RDONLY) as fd:
            self._read(fd)

    def _give_up(self, error: Exception) -> None:
        self.persistent = False
        if str(self.directory) not in _reported:
            _reported.add(str(self.directory))
            log.warning(
                "private \\Seen is kept in memory only, and lost when the mailbox is closed:"
                " %s cannot be used: %s", self.directory, error,
            )  # fmt: skip

    def _apply_in_memory(self, appended: Sequence[bytes]) -> None:
        with memoryview(b"".join(appended)) as view:
            for record, _ in records.iter_records(view, 0):
                if record is not None:
                    self.state.apply(record)


def _content(state: PrivateState) -> list[bytes]:
    """The records that make an empty index say what state says."""
    parts = []
    if state.uidvalidity:
        parts.append(records.format_header_number(records.UIDVALIDITY_OFFSET, state.uidvalidity))
    if state.uids:
        parts.append(records.format_append(state.uids, state.seen))
    if state.next_uid > 1:
        parts.append(records.format_header_number(records.NEXT_UID_OFFSET, state.next_uid))
    return parts


def _read_from(fd: int, offset: int, size: int) -> bytes:
    parts = []
    end = min(size, MAX_LOG)
    while offset < end:
        part = os.pread(fd, end - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(fd: int, path: Path) -> None:
    """Wait for an exclusive lock on the whole file.  Raises SharingError(IN_USE).

    An open file description lock: it excludes Dovecot's fcntl locks as they do each other, and,
    unlike those, it also excludes another open of ours and survives its close.
    """
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    deadline = time.monotonic() + LOCK_TIMEOUT
    wait = 0.001
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return
        if time.monotonic() > deadline:
            raise SharingError(
                Code.IN_USE, f"{path} stayed locked for {LOCK_TIMEOUT:g} s", retryable=True
            )
        time.sleep(wait)
        wait = min(wait * 2, 0.1)
