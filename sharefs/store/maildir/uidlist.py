"""The uidlist file of one mailbox: read without a lock, grown and replaced under its dotlock.

Rules that make lockless reading safe, here and in Dovecot: a writer moves message files into
place before it lists them; a list only grows in place, or is replaced as a whole by rename.  So
whoever reads the list first and the directories afterwards finds every file that was listed.
"""

import contextlib
import dataclasses
import logging
import os
import re
import secrets
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.errors import Code, SharingError
from sharefs.store.maildir import uidvalidity
from sharefs.store.maildir.config import Site
from sharefs.store.maildir.uidlist_format import (
    FILE_NAME,
    MAX_UID,
    VERSION,
    BrokenHeader,
    FileKey,
    Header,
    ListMark,
    Records,
    format_records,
    parse_records,
)

log = logging.getLogger(__name__)

STALE: Final = 120.0  # seconds, as Dovecot's
TOUCH: Final = 10.0  # seconds between two signs of life of a kept lock
LIVE_SHARE: Final = 0.75  # a list with no more than this part of live records is rewritten
SMALL: Final = 64  # records; a shorter list is not worth rewriting for its dead ones
# After a torn end nobody knows which UIDs the lost lines had.  Skipping this many keeps them from
# being given out twice, where a new UIDVALIDITY would make every client fetch everything again.
TORN_GAP: Final = 10_000
_LAST_LINE: Final = re.compile(r"([1-9]\d{0,9}) ", re.ASCII)


def _key_of(status: os.stat_result) -> FileKey:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class UidList:
    """What dovecot-uidlist says, and the only writer of it.

    header: None while there is no readable list.  Records are taken apart only when asked for:
    delivering a message needs the next UID, not fifty thousand old ones.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.path = site.control / FILE_NAME
        self._named = self._at = os.fspath(self.path)  # what system calls get: see work_in()
        self.header: Header | None = None
        self.version = 0  # grows with every change seen or made
        self.reads = 0  # grows when the file was not just continued
        self._key: FileKey | None = None
        self._floor = (0, 1)  # UIDVALIDITY, and a UID that no later list of it may go below
        self._reset()

    def _reset(self) -> None:
        if self.header is not None:
            # Clients have seen these UIDs: a list that somebody restored must not give them again.
            self._floor = (self.header.uidvalidity, self.next_uid)
        self.reads += 1
        self.header = None
        self._header_faults: list[str] = []
        self._unparsed: list[str] = []
        self._records = Records()
        self._uid_of: dict[str, int] = {}
        self._consumed = 0  # octets taken in, whole lines only
        self._unread = 0  # of these, what only another process has read: see resume()
        self._torn = False  # the file ended inside a line when it was last read
        self._probe = b""  # the last octets taken in, to recognise the file by
        self._probe_at = 0

    def work_in(self, directory: str | None) -> None:
        """Use the file in that directory, which is where path led before somebody may have put a
        link into its place.  None: by path again."""
        self._at = os.path.join(directory or self._site.control, FILE_NAME)

    # --- reading ---------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take in what changed.  Returns whether anything did; two microseconds if not."""
        try:
            key = _key_of(os.stat(self._at, follow_symlinks=False))
        except FileNotFoundError:
            if self._key is None:
                return False
            self._key = None
            self._reset()
            self.version += 1
            return True
        if key == self._key:
            return False
        self._read(key)
        return True

    def resume(self, mark: ListMark) -> bool:
        """Before anything was read: go on where another process was, reading what it had read only
        when that is asked for.  Returns whether this is still the same file."""
        try:
            fd = fsops.open_file(self._at)
        except FileNotFoundError:
            return False
        try:
            self._key, self._consumed = mark.key, mark.consumed
            self._probe, self._probe_at = mark.probe, mark.probe_at
            status = os.fstat(fd)
            same = self._has_grown(fd, status)
        finally:
            os.close(fd)
        if _key_of(status) == mark.key:  # else it has grown, and is read from there on
            same = same and status.st_ctime_ns == mark.changed
        if same:
            with contextlib.suppress(BrokenHeader):
                self.header = Header.parse(mark.header)
        if self.header is None:
            self._key = None
            self._reset()
            return False
        self._unread = mark.consumed
        self._records.highest = mark.highest
        self.version += 1
        return True

    def mark(self) -> ListMark | None:
        """For resume().  None: there is no list that others could go on with, or it changed."""
        if self._unparsed:
            self._parse()
        if not self.is_plain or self.header is None:
            return None
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if _key_of(status) != self._key:
            return None
        return ListMark(
            self._key, status.st_ctime_ns, self.header.format().rstrip("\n"), self._consumed,
            self._probe, self._probe_at, self._records.highest,
        )  # fmt: skip

    def looks_unchanged(self) -> bool:
        try:
            return _key_of(os.lstat(self._named)) == self._key
        except FileNotFoundError:
            return self._key is None

    def _read(self, key: FileKey) -> None:
        fd = fsops.open_file(self._at)
        try:
            status = os.fstat(fd)
            if not self._has_grown(fd, status):
                self._reset()
            size = status.st_size - self._consumed
            octets = os.pread(fd, size, self._consumed)
        finally:
            os.close(fd)
        self._key = _key_of(status)
        self.version += 1
        self._take_in(octets)

    def _has_grown(self, fd: int, status: os.stat_result) -> bool:
        """Whether this is the file we know with more at its end.  Inode numbers are reused."""
        return (
            self._key is not None
            and self._key[:2] == (status.st_dev, status.st_ino)
            and status.st_size >= self._consumed > 0
            and os.pread(fd, len(self._probe), self._probe_at) == self._probe
        )

    def _take_in(self, octets: bytes) -> None:
        end = octets.rfind(b"\n") + 1
        self._torn = end != len(octets)
        if not end:
            return
        start = self._consumed
        self._consumed += end
        self._probe_at = max(start + end - 128, start)
        self._probe = octets[self._probe_at - start : end]
        text = octets[:end].decode("utf-8", "surrogateescape")
        if not start:
            line, _, text = text.partition("\n")
            try:
                self.header = Header.parse(line)
            except BrokenHeader as exc:
                self._header_faults.append(f"broken header: {exc}")
                return
        if text and self.header is not None:
            self._unparsed.append(text)

    def _read_beginning(self) -> None:
        """What another process had read.  If the file is another one by now, that is read."""
        unread, self._unread = self._unread, 0
        try:
            fd = fsops.open_file(self._at)
            try:
                same = self._has_grown(fd, os.fstat(fd))
                octets = os.pread(fd, unread, 0) if same else b""
            finally:
                os.close(fd)
        except FileNotFoundError:
            same, octets = False, b""
        if not same:
            self._key = None
            self._reset()
            self.version += 1
            self.refresh()
            return
        text = octets.decode("utf-8", "surrogateescape")
        self._unparsed.insert(0, text[text.index("\n") + 1 :])

    def _parse(self) -> None:
        if self._unread:
            self._read_beginning()
        if not self._unparsed or self.header is None:
            return
        text, self._unparsed = "".join(self._unparsed), []
        known = self._records
        last = known.uids[-1] if known.uids else 0
        fresh = parse_records(text, after=last, version=self.header.version)
        for fault in fresh.faults:
            log.warning("%s: %s", self.path, fault)
        known.highest = max(known.highest, fresh.highest)
        known.faults += fresh.faults
        known.extras |= fresh.extras
        known.uids += fresh.uids
        known.bases += fresh.bases
        self._uid_of.update(zip(fresh.bases, fresh.uids, strict=True))

    # --- what it says ----------------------------------------------------------------------

    @property
    def uid_of(self) -> Mapping[str, int]:
        """UID by base.  A base that is listed twice has its later UID.  Never changed in place
        by others: sync() of the mailbox reads it again."""
        self._parse()
        return self._uid_of

    @property
    def extras(self) -> Mapping[int, str]:
        self._parse()
        return self._records.extras

    @property
    def next_uid(self) -> int:
        """Higher than every UID that the list has ever held, as far as it can tell."""
        if self.header is None:
            return 1
        highest = self._records.highest
        if self._unparsed:
            line = self._unparsed[-1][self._unparsed[-1].rfind("\n", 0, -1) + 1 :]
            if match := _LAST_LINE.match(line):
                highest = max(highest, int(match[1]))
            else:
                self._parse()
                highest = self._records.highest
        uidvalidity, floor = self._floor
        lowest = floor if uidvalidity == self.header.uidvalidity else 1
        return max(self.header.next_uid, highest + 1, lowest)

    def bases_of(self, uids: Sequence[int]) -> list[str | None]:
        """Of messages by ascending UID.  None: not listed."""
        self._parse()
        if uids == self._records.uids:
            return [*self._records.bases]
        base_of = dict(zip(self._records.uids, self._records.bases, strict=True))
        return [*map(base_of.get, uids)]

    def records_after(self, uid: int) -> list[tuple[int, str]]:
        """(UID, base) of records with a higher UID."""
        self._parse()
        start = bisect_right(self._records.uids, uid)
        return list(zip(self._records.uids[start:], self._records.bases[start:], strict=True))

    def bases_after(self, uid: int) -> list[str]:
        self._parse()
        return self._records.bases[bisect_right(self._records.uids, uid) :]

    @property
    def faults(self) -> list[str]:
        """What is broken, as far as records were taken apart."""
        return self._header_faults + self._records.faults

    @property
    def is_plain(self) -> bool:
        """Whether records can simply be appended."""
        header = self.header
        return (
            header is not None
            and header.version == VERSION
            and header.guid is not None
            and not self._torn
            and not self.faults
        )

    # --- writing; the caller holds the lock ------------------------------------------------

    def lock(self, *, patience: float | None = None) -> DotLock:
        """patience: seconds to wait at most; None: as configured."""
        config = self._site.config
        return DotLock(
            self._at,
            timeout=min(config.lock_timeout, patience or config.lock_timeout),
            stale=STALE,
            creation=self._site.control_creation(),
            touch_every=TOUCH,
            excl=config.lock_excl,
        )

    def prepare(self) -> None:
        """Make or mend the file, so that records can be appended."""
        if not self.is_plain:
            self.rewrite(None)

    def numbered(self, bases: Sequence[str]) -> list[tuple[int, str]]:
        """Records for new messages, after prepare().  Raises SharingError(LIMIT)."""
        first = self.next_uid
        if first + len(bases) > MAX_UID:
            raise SharingError(Code.LIMIT, f"{self._site.label} has run out of UIDs")
        return list(enumerate(bases, first))

    def add(self, records: Sequence[tuple[int, str]]) -> None:
        """Append new records, after prepare().  On OSError nothing was added."""
        octets = format_records(records, {}).encode("utf-8", "surrogateescape")
        fd = fsops.open_file(self._at, os.O_WRONLY | os.O_APPEND)
        try:
            size = os.fstat(fd).st_size
            try:
                fsops.write_all(fd, octets)
                if self._site.config.fsync:
                    os.fdatasync(fd)
            except BaseException:
                os.ftruncate(fd, size)
                raise
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if size == self._consumed and status.st_size == size + len(octets):
            self._key = _key_of(status)
            self.version += 1
            self._take_in(octets)
        else:
            self._key = None  # a writer without the lock; read everything again
            self.refresh()

    def rewrite(self, live: Collection[str] | None) -> None:
        """Replace the file.

        live: bases worth keeping; None: all.  A broken file is set aside as FILE.broken first.
        """
        self._parse()
        header = self._new_header()
        if self.faults:
            self._set_aside()
        known = self._records
        kept = [
            (uid, base)
            for uid, base in zip(known.uids, known.bases, strict=True)
            if (live is None or base in live) and self._uid_of[base] == uid
        ]
        content = header.format() + format_records(kept, known.extras)
        octets = content.encode("utf-8", "surrogateescape")
        fsops.replace_file(
            self._at, octets, self._site.control_creation(), fsync=bool(self._site.config.fsync)
        )
        self._key = None
        self._reset()
        self.refresh()

    def _new_header(self) -> Header:
        guid = secrets.token_hex(16)
        if self.header is None:
            return Header(
                uidvalidity.allocate(self._site.control_root, self._site.root_creation()),
                1,
                guid,
            )
        next_uid = self.next_uid
        if self._torn or self._records.faults:
            next_uid = min(next_uid + TORN_GAP, 2**32 - 2)
        return dataclasses.replace(
            self.header, version=VERSION, next_uid=next_uid, guid=self.header.guid or guid
        )

    def _set_aside(self) -> None:
        aside = self._at + ".broken"
        log.error("%s is broken (%s); kept as %s and rebuilt", self.path, self.faults[0],
                  os.path.basename(aside))  # fmt: skip
        fsops.unlink(aside, missing_ok=True)
        try:
            fsops.link(fsops.Entry(None, self._at), fsops.Entry(None, aside))
        except OSError as exc:
            log.warning("%s could not be kept: %s", self.path, exc)

    def wants_rewrite(self, live: int) -> bool:
        """Whether dead records have become too many.  live: number of messages that exist."""
        self._parse()
        known = len(self._records.uids)
        return known >= SMALL and live <= known * LIVE_SHARE
