"""What one Maildir holds right now, and how that is kept true while everybody changes it.

Any program may deliver into new/, and move, rename or remove files, at any time and without a
lock.  Only the numbering of messages is locked (uidlist.py).  The rules:

1. The list is read before the directories, so every file that was listed then is found, or gone.
2. A message is gone only if it is missing from a quiet listing, or from LOOKS listings in a row:
   readdir(3) may pass over a file that is renamed meanwhile.
3. A UID that was ever missing never comes back: its file, if it does, gets a new one.  So new
   UIDs are always higher than all that a client has heard of.
"""

import contextlib
import errno
import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.errors import Code, SharingError
from sharefs.flags import FlagSet, System
from sharefs.permissions.access import Want
from sharefs.permissions.explain import explain_refusal
from sharefs.store.interface import Changes
from sharefs.store.maildir import doubles
from sharefs.store.maildir.changes import ChangeLog
from sharefs.store.maildir.config import Site
from sharefs.store.maildir.filename import arrival_key, parse_info
from sharefs.store.maildir.folders import Folders, Touched
from sharefs.store.maildir.keyword_file import KeywordFile
from sharefs.store.maildir.keywords import Keywords
from sharefs.store.maildir.uidlist import UidList

log = logging.getLogger(__name__)

SYNC_PATIENCE: Final = 10.0  # seconds to wait for the lock before new messages are shown later
# Of a mailbox without a list that we may not make, while it is empty.  Every value that a writer
# gives it later is greater, as RFC 3501 section 2.3.1.1 demands.
NO_UIDVALIDITY: Final = 1
# Why a mailbox may refuse new list entries and still be read.
REFUSED: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT}
)


class Picture:
    """uids, base_of and flags as of the last sync().  generation grows with every change."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.list = UidList(site)
        self.keywords = KeywordFile(site)
        self.folders = Folders(site.directory)
        self.generation = 1
        self.changes = ChangeLog()
        self.uids: list[int] = []
        self.base_of: dict[int, str] = {}
        self.loaded = False
        self.uidvalidity = 0
        self._high = 0  # every UID up to this one is in base_of, or never will be
        self._guid: str | None = None  # as the list said first
        self._strays: set[str] = set()  # bases that wait for a UID
        self._flags: dict[str, FlagSet] = {}
        self._looked_with = -1  # version of the list before the last look
        self._list_reads = -1  # its reads when last published
        self._lock: DotLock | None = None
        self._complaint = ""

    # --- asking ----------------------------------------------------------------------------

    @property
    def uidnext(self) -> int:
        return max(self.list.next_uid, self._high + 1)

    def flags_of_info(self, info: str) -> FlagSet:
        flags = self._flags.get(info)
        if flags is None:
            parsed = parse_info(info)
            names = map(self.keywords.current.name_of, parsed.letters)
            flags = self._flags[info] = FlagSet(parsed.system, frozenset(names))
        return flags

    def flags_of(self, uid: int) -> FlagSet:
        """Raises KeyError."""
        info = self.folders.info_of(self.base_of[uid])
        if info is None:
            raise KeyError(uid)
        return self.flags_of_info(info)

    def flags_of_each(self, uids: Sequence[int]) -> list[FlagSet | None]:
        """flags_of() for lists of 50,000 messages; None: not here."""
        bases = [*map(self.base_of.get, uids)]
        infos: list[str | None] = [*map(self.folders.cur.files.get, bases)]  # type: ignore[arg-type]
        if None in infos:  # in new/, or gone
            find = self.folders.info_of
            infos = [
                (None if base is None else find(base)) if info is None else info
                for base, info in zip(bases, infos, strict=True)
            ]
        flags: dict[str | None, FlagSet | None] = {
            info: None if info is None else self.flags_of_info(info) for info in set(infos)
        }
        return [*map(flags.__getitem__, infos)]

    def uids_without(self, flag: System) -> list[int]:
        """UIDs of messages that lack a system flag, ascending."""
        found: list[int] = []
        uid_of, base_of = self.list.uid_of, self.base_of
        for files in (self.folders.cur.files, self.folders.new.files):
            infos = {
                info for info in set(files.values()) if not self.flags_of_info(info).system & flag
            }
            for base in [base for base, info in files.items() if info in infos]:
                uid = uid_of.get(base, 0)
                if base_of.get(uid) == base:  # not one that waits for its UID
                    found.append(uid)
        return sorted(found)

    def looks_unchanged(self) -> bool:
        """Whether sync() would do nothing.  Also while it would let our own changes settle."""
        try:
            return (
                self.loaded
                and not self.folders.new.needs_look()
                and not self.folders.cur.needs_look()
                and self.list.looks_unchanged()
                and self.keywords.looks_unchanged()
                and (self.is_settled() or self._has_nothing_to_do())
            )
        except OSError:
            return False

    def is_settled(self) -> bool:
        """Whether another look will not be needed if nothing more happens."""
        return self.folders.new.settles_in() is None and self.folders.cur.settles_in() is None

    def _has_nothing_to_do(self) -> bool:
        listed = self.list.version != self._looked_with
        return not (listed or self._strays or self.folders.doubles)

    def looks_the_same(self) -> bool:
        """Nobody has touched anything since we last did, as far as mtimes tell."""
        try:
            return self.loaded and self.folders.is_current() and self.list.looks_unchanged()
        except OSError:
            return False

    # --- bringing it up to date ------------------------------------------------------------

    def load(self) -> None:
        """The first sync().  Harmless when done already."""
        if not self.loaded:
            self.sync()

    def know_uidvalidity(self) -> int:
        """Reads no more than the list, if there is one."""
        if not self.uidvalidity:
            self.list.refresh()
            self._check_same_mailbox()
        if not self.uidvalidity:
            self.load()
        return self.uidvalidity

    def know_guid(self) -> str:
        """From the list.  Where that has none yet, what stays when the directory is renamed."""
        if not self._guid:
            self.know_uidvalidity()
        if not self._guid:
            status = self.site.directory.stat()
            place = f"{status.st_dev}.{status.st_ino}.{self.uidvalidity}"
            return hashlib.blake2b(place.encode(), digest_size=16).hexdigest()
        return self._guid

    def sync(self, *, force: bool = False) -> bool:
        """Returns whether anything changed.

        Raises SharingError(NONEXISTENT); SharingError(UNAVAILABLE) with the reason if the
        directories or the list may not be read; OSError.
        """
        try:
            try:
                return self._sync(force=force)
            except FileNotFoundError as exc:
                if self.loaded:
                    # Most likely `rm -r` is at work: what we made now would outlive the mailbox,
                    # as ours.  Whoever opens it next makes what is missing.
                    gone = f"mailbox {self.site.label} lost {exc.filename} while it was open"
                    raise SharingError(Code.NONEXISTENT, gone) from exc
                self.make_missing_directories()
            return self._sync(force=True)
        except PermissionError as exc:
            why = explain_refusal(exc.filename, Want.READ) if exc.filename else exc
            raise SharingError(
                Code.UNAVAILABLE, f"mailbox {self.site.label} cannot be listed: {why}"
            ) from exc

    def make_missing_directories(self) -> None:
        """cur/ or new/ went away.  Raises SharingError(NONEXISTENT) if the whole mailbox did."""
        directory = self.site.directory
        if not directory.is_dir():
            raise SharingError(Code.NONEXISTENT, f"mailbox {self.site.label} is gone: {directory}")
        for name in ("cur", "new", "tmp"):
            try:
                fsops.make_dir(directory / name, self.site.creation())
            except FileExistsError:
                continue
            except OSError as exc:
                raise SharingError(
                    Code.NONEXISTENT, f"{directory / name} is missing and cannot be made: {exc}"
                ) from exc
            log.warning("made the missing directory %s", directory / name)

    def _sync(self, *, force: bool) -> bool:
        self.list.refresh()
        reinterpreted = self._reinterpret() if self.keywords.refresh() else frozenset[str]()
        self._check_same_mailbox()
        force = force or not self.loaded
        folders = self.folders
        at_cur = folders.cur.needs_look() or force
        listed = self.list.version != self._looked_with
        look = folders.new.needs_look() or at_cur or listed
        touched = self._look(at_cur=at_cur) if look else {}
        if not self.loaded:
            self._load()
            return False
        untidy = look and self._is_untidy()
        if not (touched or reinterpreted or listed or untidy or self._strays or folders.doubles):
            return False
        return self._publish(touched, reinterpreted)

    def _check_same_mailbox(self) -> None:
        header = self.list.header
        if header is not None:
            self.uidvalidity = self.uidvalidity or header.uidvalidity
            self._guid = self._guid or header.guid
        # UIDVALIDITY is a time: a mailbox removed and made again within its second has the same.
        if header is not None and header.guid and header.guid != self._guid:
            raise SharingError(
                Code.NONEXISTENT,
                f"the GUID of {self.site.label} was {self._guid} and is now {header.guid}: it is no"
                " longer the mailbox that was opened",
            )
        if self.uidvalidity == (header.uidvalidity if header else NO_UIDVALIDITY):
            return
        if not self.uidvalidity:
            return
        now = f"is now {header.uidvalidity}" if header else "is lost, and the list with it"
        raise SharingError(
            Code.NONEXISTENT,
            f"UIDVALIDITY of {self.site.label} was {self.uidvalidity} and {now}: it is no longer"
            " the mailbox that was opened",
        )

    def _reinterpret(self) -> frozenset[str]:
        """Returns the infos whose flags have another meaning now that letters have other names."""
        before, self._flags = self._flags, {}
        return frozenset(info for info, old in before.items() if self.flags_of_info(info) != old)

    def _look(self, *, at_cur: bool) -> Touched:
        self._looked_with = self.list.version
        if not self.loaded:
            return self.folders.look(at_cur=True, live=self.list.uid_of, fresh=())
        fresh = self.list.bases_after(self._high)
        return self.folders.look(at_cur=at_cur, live=self.base_of.values(), fresh=fresh)

    # --- numbering -------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, *, patience: float | None = None) -> Iterator[None]:
        """Hold the uidlist lock, with the list as it is on disk.  May be nested.

        patience: seconds to wait at most; None: as configured.

        Raises SharingError(IN_USE), SharingError(NONEXISTENT), OSError.
        """
        if self._lock is not None:
            self._lock.touch()
            yield
            return
        with self._control_held():
            lock = self.list.lock(patience=patience)
            self._acquire(lock)
            self._lock = lock
            try:
                self.list.refresh()
                self._check_same_mailbox()
                yield
            finally:
                self._lock = None
                lock.release()

    @contextlib.contextmanager
    def _control_held(self) -> Iterator[None]:
        """Control files in the mailbox's own directory are written there, wherever its path leads
        meanwhile (see Folders)."""
        if self.site.control != self.site.directory:
            yield
            return
        with self.folders.mailbox() as top:
            place = Path(f"/proc/self/fd/{top}")
            self.list.work_in(place)
            self.keywords.work_in(place)
            try:
                yield
            except SharingError as exc:
                if f"{place}/" not in exc.detail:
                    raise
                detail = exc.detail.replace(f"{place}/", f"{self.site.directory}/")
                raise SharingError(exc.code, detail, retryable=exc.retryable) from exc
            except OSError as exc:
                if isinstance(exc.filename, str):
                    exc.filename = exc.filename.replace(f"{place}/", f"{self.site.directory}/")
                raise
            finally:
                self.list.work_in(None)
                self.keywords.work_in(None)

    def _acquire(self, lock: DotLock) -> None:
        try:
            lock.acquire()
        except FileNotFoundError:
            if self.site.control == self.site.directory:
                raise
            fsops.make_dirs(self.site.control, self.site.control_creation())
            lock.acquire()

    def prepare_list(self) -> None:
        """Under the lock: make or mend the list, so that records can be added."""
        self.list.prepare()
        self._check_same_mailbox()

    def _number(self, strays: set[str], touched: Touched) -> None:
        """Give UIDs to files that have none, if we may write the list; else they stay hidden.

        touched grows by what another look under the lock found.  Raises as _do_without().
        """
        self._strays = strays
        mended = self.list.is_plain and not self.folders.doubles
        if not strays and mended and not self._is_untidy():
            return
        try:
            with self.locked(patience=SYNC_PATIENCE if self.list.header else None):
                self._number_locked(touched)
        except SharingError as exc:
            if exc.code is not Code.IN_USE:
                raise
            self._do_without(strays, exc)
        except OSError as exc:
            if exc.errno not in REFUSED or not self.site.directory.is_dir():
                raise
            self._do_without(strays, exc)

    def _number_locked(self, touched: Touched) -> None:
        if self.list.version != self._looked_with:
            # Others listed files since we looked; some of theirs may have come after our look.
            again = self._look(at_cur=True)
            for base, info in again.items():
                touched.setdefault(base, info)
            self._strays |= again.keys() if self.loaded else self.folders.bases()
        self.prepare_list()
        unnumbered = sorted(filter(self._is_unnumbered, self._strays), key=arrival_key)
        if unnumbered:
            self.list.add(self.list.numbered(unnumbered))
        if self._is_untidy():
            self.list.rewrite(self.folders.bases())
        self._looked_with = self.list.version
        self._strays = set()
        if self.folders.doubles:
            doubles.mend(self.folders)
        self._complaint = ""

    def _is_untidy(self) -> bool:
        """Whether the list holds too many records of dead messages, and we know which."""
        return self.folders.quiet and self.list.wants_rewrite(
            len(self.folders.cur.files) + len(self.folders.new.files)
        )

    def _is_unnumbered(self, base: str) -> bool:
        """Whether a file needs a new UID: it has none, or one that clients saw vanish (rule 3)."""
        if base not in self.folders:
            return False
        uid = self.list.uid_of.get(base)
        return uid is None or (uid <= self._high and self.base_of.get(uid) != base)

    def _do_without(self, strays: Collection[str], why: OSError | SharingError) -> None:
        """Go on with messages hidden that cannot be given UIDs, and complain once.

        Raises SharingError(UNAVAILABLE) if a mailbox that is being opened has messages and no
        list at all: it would look like an empty one, under a UIDVALIDITY less than a lost list
        had, and clients and private \\Seen would drop what they know of its messages.
        """
        if not self.loaded and strays and self.list.header is None:
            if isinstance(why, SharingError):
                raise why
            raise SharingError(
                Code.UNAVAILABLE,
                f"{self.site.label} has {len(strays)} messages that nobody has given UIDs yet, and"
                f" this user may not: {self._why_not_listed(why)}.  It can be opened once its"
                " owner, or somebody else who may write there, has opened it",
            ) from why
        if strays and str(why) != self._complaint:
            self._complaint = str(why)
            log.warning(
                "%d new messages in %s stay hidden, because they cannot be given UIDs: %s",
                len(strays), self.site.label, why,
            )  # fmt: skip

    def _why_not_listed(self, why: OSError) -> str:
        if isinstance(why, PermissionError):
            return explain_refusal(self.site.control, Want.WRITE | Want.SEARCH, with_remedy=False)
        return f"{self.list.path}: {why.strerror}"

    # --- publishing ------------------------------------------------------------------------

    def _load(self) -> None:
        """The first picture: no changes, for nobody saw another one."""
        self._match()
        folders = self.folders
        complete = len(self.base_of) == len(folders.cur.files) + len(folders.new.files)
        if not complete or not self.list.is_plain or folders.doubles:
            self._number(folders.bases() - self.list.uid_of.keys(), {})
            self._match()
        self.uids = sorted(self.base_of)
        self._high = self.list.next_uid - 1
        self._list_reads = self.list.reads
        self.uidvalidity = self.uidvalidity or NO_UIDVALIDITY
        self.loaded = True

    def _match(self) -> None:
        """Bring the list and the listings together.

        The files get the strings of the list: a big mailbox is mostly names, and should hold each
        of them once.
        """
        cur, new = self.folders.cur.files, self.folders.new.files
        base_of: dict[int, str] = {}
        files: dict[str, str] = {}
        find = cur.get
        for base, uid in self.list.uid_of.items():
            info = find(base)
            if info is not None:
                files[base] = info
                base_of[uid] = base
            elif base in new:
                base_of[uid] = base
        if len(files) < len(cur):
            files |= {base: info for base, info in cur.items() if base not in files}
        self.base_of = base_of
        self.folders.cur.files = files

    def _publish(self, touched: Touched, reinterpreted: frozenset[str]) -> bool:
        """Number what is new, then tell what changed.  Returns whether anything did."""
        suspects = self._strays | touched.keys()
        if self.list.reads != self._list_reads:
            suspects |= {self.base_of[uid] for uid in self._unlisted()}
        self._number(set(filter(self._is_unnumbered, suspects)), touched)
        fresh = self.list.records_after(self._high)
        info_of = self.folders.info_of
        if self.list.reads != self._list_reads or any(
            (touched[base] is not None if base in touched else base in self.folders)
            for _, base in fresh  # was here before, so under another UID
        ):
            expunged = set(self._unlisted())
            self._list_reads = self.list.reads
        else:
            expunged = set()
        flags: set[int] = set()
        uid_of = self.list.uid_of
        for base, old in touched.items():
            uid = uid_of.get(base, 0)
            if self.base_of.get(uid) != base:
                continue
            info = info_of(base)
            if info is None:
                expunged.add(uid)
            elif old is None or self.flags_of_info(old) != self.flags_of_info(info):
                flags.add(uid)  # None: it was in the other directory, and is there no more
        if reinterpreted:
            flags |= {u for u, b in self.base_of.items() if info_of(b) in reinterpreted}
        added = [
            (uid, base) for uid, base in fresh if uid_of.get(base) == uid and base in self.folders
        ]
        self._high = self.list.next_uid - 1
        return self._commit(added, expunged, flags - expunged)

    def _unlisted(self) -> list[int]:
        """Messages that the list now knows by another UID or not at all."""
        uid_of = self.list.uid_of
        return [uid for uid, base in self.base_of.items() if uid_of.get(base) != uid]

    def _commit(
        self, added: list[tuple[int, str]], expunged: Collection[int], flags: Collection[int]
    ) -> bool:
        if not (added or expunged or flags):
            return False
        for uid in expunged:
            del self.base_of[uid]
        self.base_of.update(added)
        kept = [uid for uid in self.uids if uid in self.base_of] if expunged else self.uids
        if added or expunged:
            self.uids = [*kept, *(uid for uid, _ in added)]
        self.generation += 1
        uids = tuple(uid for uid, _ in added)
        self.changes.record(self.generation, Changes(tuple(expunged), uids, tuple(flags)))
        return True

    # --- changes of our own ----------------------------------------------------------------

    def publish_flags(self, uids: Collection[int]) -> None:
        """Flags of these messages were changed by us."""
        self._commit([], (), uids)

    def publish_removal(self, uids: Collection[int]) -> None:
        """These messages were removed by us."""
        self._commit([], uids, ())

    def is_current(self) -> bool:
        """Under the lock: whether nobody but us has listed or moved anything since we looked."""
        return self.loaded and self.list.version == self._looked_with and self.folders.is_current()

    def publish_added(self, files: dict[str, str], *, was_current: bool) -> None:
        """We moved these files in place and listed them, under the lock.

        files: info by base.  was_current: what is_current() said before.
        """
        folders = self.folders
        if was_current:
            for base, info in files.items():
                (folders.cur if info else folders.new).files[base] = info
            self._looked_with = self.list.version
        folders.new.end_own(was_current)
        folders.cur.end_own(was_current)
        if was_current:
            self._publish(dict.fromkeys(files), frozenset())

    def refresh_keywords(self) -> None:
        if self.keywords.refresh():
            self._publish_reinterpreted()

    def write_keywords(self, keywords: Keywords) -> None:
        """Under the lock: give letters names, and tell of messages that have such letters."""
        self.keywords.write(keywords)
        self._publish_reinterpreted()

    def _publish_reinterpreted(self) -> None:
        if reinterpreted := self._reinterpret():
            info_of = self.folders.info_of
            uids = {u for u, b in self.base_of.items() if info_of(b) in reinterpreted}
            self._commit([], (), uids)
