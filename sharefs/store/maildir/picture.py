"""What one Maildir holds right now, and how that is kept true while everybody changes it.

Any program may deliver into new/, and move, rename or remove files, at any time and without a
lock.  Only the numbering of messages is locked (uidlist.py).  The rules:

1. The list is read before the directories, so every file that was listed then is found, or gone.
2. A message is gone only if it is missing from a quiet listing, or from LOOKS listings in a row:
   readdir(3) may pass over a file that is renamed meanwhile.
3. A UID that was ever missing never comes back: its file, if it does, gets a new one.  So new
   UIDs are always higher than all that a client has heard of.
"""

import logging
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.flags import FlagSet, System
from sharefs.permissions.access import Want
from sharefs.permissions.explain import explain_refusal
from sharefs.store.interface import Changes
from sharefs.store.maildir import keeping
from sharefs.store.maildir.changes import ChangeLog
from sharefs.store.maildir.config import Site
from sharefs.store.maildir.control_lock import ControlLock
from sharefs.store.maildir.folders import Folders, Touched, letters_in
from sharefs.store.maildir.kept import FILE_NAME, Listing, Marks
from sharefs.store.maildir.keyword_file import KeywordFile
from sharefs.store.maildir.keywords import Keywords
from sharefs.store.maildir.meanings import Meanings
from sharefs.store.maildir.numbering import Numbering
from sharefs.store.maildir.sameness import NO_UIDVALIDITY, Sameness
from sharefs.store.maildir.uidlist import UidList
from sharefs.store.shelf import Shelf

log = logging.getLogger(__name__)


class Picture:
    """uids, base_of and flags as of the last sync().  generation grows with every change.

    high: every UID up to this one is in base_of, or never will be.  looked_with: version of the
    list before the last look.

    A picture that was kept by another process (keeping.py) goes on from there, as if that process
    had never ended; names are put in their dictionaries when somebody asks for them.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.list = UidList(site)
        self.keywords = KeywordFile(site)
        self.folders = Folders(site.directory)
        self.generation = 1
        self.changes = ChangeLog()
        self._uids: list[int] | None = []  # None: as in what was kept
        self.loaded = False
        self.high = 0
        self.looked_with = -1
        self.shelf: Shelf | None = None  # where its listing is kept
        self._kept: Listing | None = None  # while names are not in their dictionaries
        self._kept_marks: Marks | None = None  # of what was kept last
        self._base_of: dict[int, str] = {}
        self._list_reads = -1  # its reads when last published
        self._same = Sameness(site)
        self._meanings = Meanings(self.keywords)
        self._numbering = Numbering(self)
        self._lock = ControlLock(site, self.list, self.keywords, self.folders, self._refresh_locked)

    # --- asking ----------------------------------------------------------------------------

    @property
    def base_of(self) -> dict[int, str]:
        if self._kept is not None:
            self._unfold()
        return self._base_of

    @property
    def uids(self) -> list[int]:
        kept = self._kept  # before: another thread may put it into dictionaries meanwhile
        if self._uids is None:
            assert kept is not None
            self._uids = kept.uids
        return self._uids

    def late_uids(self) -> Sequence[int]:
        """As uids; the list may be made when it is looked into."""
        kept = self._kept
        return kept.late_uids() if self._uids is None and kept is not None else self.uids

    @property
    def uidvalidity(self) -> int:
        """0 until it is known."""
        return self._same.uidvalidity

    @property
    def uidnext(self) -> int:
        return max(self.list.next_uid, self.high + 1)

    def flags_of_info(self, info: str) -> FlagSet:
        return self._meanings.of(info)

    def flags_of(self, uid: int) -> FlagSet:
        """Raises KeyError."""
        if self._kept is not None:
            place = self._kept.place_of(uid)
            info = None if place is None else place[1]
        else:
            info = self.folders.info_of(self.base_of[uid])
        if info is None:
            raise KeyError(uid)
        return self._meanings.of(info)

    def flags_of_each(self, uids: Sequence[int]) -> list[FlagSet | None]:
        """flags_of() for lists of 50,000 messages; None: not here."""
        infos = self._infos_of(uids) if self._kept is None else self._kept.infos_of(uids)
        flags: dict[str | None, FlagSet | None] = {
            info: None if info is None else self._meanings.of(info) for info in set(infos)
        }
        return [*map(flags.__getitem__, infos)]

    def _infos_of(self, uids: Sequence[int]) -> list[str | None]:
        bases = [*map(self.base_of.get, uids)]
        infos: list[str | None] = [*map(self.folders.cur.files.get, bases)]  # type: ignore[arg-type]
        if None in infos:  # in new/, or gone
            find = self.folders.info_of
            infos = [
                (None if base is None else find(base)) if info is None else info
                for base, info in zip(bases, infos, strict=True)
            ]
        return infos

    def uids_without(self, flag: System) -> list[int]:
        """UIDs of messages that lack a system flag, ascending."""
        if self._kept is not None:
            return self._kept.uids_with(self._meanings.lacking(self._kept.infos(), flag))
        found: list[int] = []
        uid_of, base_of = self.list.uid_of, self.base_of
        for files in (self.folders.cur.files, self.folders.new.files):
            infos = self._meanings.lacking(set(files.values()), flag)
            for base in [base for base, info in files.items() if info in infos]:
                uid = uid_of.get(base, 0)
                if base_of.get(uid) == base:  # not one that waits for its UID
                    found.append(uid)
        return sorted(found)

    def first_without(self, flag: System) -> int | None:
        """The first of uids_without(), 0 if there is none.  None: all must be looked for."""
        kept = self._kept
        return None if kept is None else kept.first_with(self._meanings.lacking(kept.infos(), flag))

    def used_letters(self) -> frozenset[str]:
        """Keyword letters that stand in some file name."""
        if self._kept is not None:
            return letters_in(self._kept.infos())
        return self.folders.used_letters()

    def has_new(self) -> bool:
        """Whether a message is in new/."""
        return bool(self.folders.new.files) if self._kept is None else self._kept.has_new()

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
        listed = self.list.version != self.looked_with
        return not (listed or self.strays or self.folders.doubles)

    @property
    def strays(self) -> set[str]:
        """Bases that wait for a UID."""
        return self._numbering.strays

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
            if self._resume():
                self.sync()
            else:
                self.list.refresh()
                self._same.check(self.list.header)
        if not self.uidvalidity:
            self.load()
        return self.uidvalidity

    def know_guid(self) -> str:
        """From the list.  Where that has none yet, what stays when the directory is renamed."""
        if not self._same.guid:
            self.know_uidvalidity()
        return self._same.guid or self._same.provisional_guid()

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
        if not (force or self.loaded):
            self._resume()
        self.list.refresh()
        reinterpreted = self._meanings.look_again() if self.keywords.refresh() else frozenset[str]()
        self._same.check(self.list.header)
        if self._kept is not None and self.list.reads != self._list_reads:
            self._unfold()
        force = force or not self.loaded
        folders = self.folders
        at_cur = folders.cur.needs_look() or force
        listed = self.list.version != self.looked_with
        look = folders.new.needs_look() or at_cur or listed
        touched = self.look(at_cur=at_cur) if look else {}
        if not self.loaded:
            self._load()
            return False
        untidy = look and self._numbering.is_untidy()
        waiting = self.strays or folders.doubles
        if not (touched or reinterpreted or listed or untidy or waiting):
            return False
        return self._publish(touched, reinterpreted)

    def look(self, *, at_cur: bool) -> Touched:
        self.looked_with = self.list.version
        if not self.loaded:
            return self.folders.look(at_cur=True, live=self.list.uid_of, fresh=())
        fresh = self.list.bases_after(self.high)
        return self.folders.look(at_cur=at_cur, live=self.base_of.values(), fresh=fresh)

    # --- keeping it ------------------------------------------------------------------------

    def _resume(self) -> bool:
        """Go on with the listing that another process has kept, if there is one that is true."""
        kept = None if self.loaded or self.shelf is None else keeping.resume(self, self.shelf)
        if kept is None:
            return False
        self._kept, self._kept_marks = kept, kept.marks
        self._uids = None
        self.high = self.list.next_uid - 1
        self.looked_with, self._list_reads = self.list.version, self.list.reads
        self.folders.resume(kept.marks.new, kept.marks.cur, self._unfold)
        self.keywords.refresh()
        self.loaded = True
        self._same.check(self.list.header)
        return True

    def _unfold(self) -> None:
        """Put names in their dictionaries: those that the list has for the kept UIDs."""
        kept = self._kept
        assert kept is not None
        self._uids = kept.uids
        bases = self.list.bases_of(kept.uids)
        cur: dict[str, str] = {}
        new: dict[str, str] = {}
        for base, (in_new, info) in zip(bases, kept.each_place(), strict=True):
            if base is not None:
                (new if in_new else cur)[base] = info
        self._kept = None
        self.folders.cur.files, self.folders.new.files = cur, new
        self._base_of = dict(zip(kept.uids, [base or "" for base in bases], strict=True))
        if lost := [uid for uid, base in self._base_of.items() if not base]:
            # The list was replaced since it was kept, and knows them by other UIDs or not at all.
            self.folders.lost_track()
            self._commit([], lost, ())

    def put_away(self) -> None:
        """Keep the listing for the next process, unless that has been done or cannot be yet."""
        marks = None if self.shelf is None else keeping.marks_of(self)
        if self.shelf is None or marks is None or marks == self._kept_marks:
            return
        self._kept_marks = marks
        listing = keeping.listing_of(self, marks)
        if listing is not None:
            self.shelf.write(FILE_NAME, listing.pack())

    # --- numbering -------------------------------------------------------------------------

    def locked(self, *, patience: float | None = None) -> AbstractContextManager[None]:
        """Hold the uidlist lock: see ControlLock.held()."""
        return self._lock.held(patience=patience)

    def _refresh_locked(self) -> None:
        self.list.refresh()
        self._same.check(self.list.header)

    def prepare_list(self) -> None:
        """Under the lock: make or mend the list, so that records can be added."""
        self.list.prepare()
        self._same.check(self.list.header)

    # --- publishing ------------------------------------------------------------------------

    def _load(self) -> None:
        """The first picture: no changes, for nobody saw another one."""
        self._match()
        folders = self.folders
        complete = len(self.base_of) == len(folders.cur.files) + len(folders.new.files)
        if not complete or not self.list.is_plain or folders.doubles:
            self._numbering.number(folders.bases() - self.list.uid_of.keys(), {})
            self._match()
        self._uids = sorted(self.base_of)
        self.high = self.list.next_uid - 1
        self._list_reads = self.list.reads
        self._same.uidvalidity = self.uidvalidity or NO_UIDVALIDITY
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
        self._base_of = base_of
        self.folders.cur.files = files

    def _publish(self, touched: Touched, reinterpreted: frozenset[str]) -> bool:
        """Number what is new, then tell what changed.  Returns whether anything did."""
        suspects = self.strays | touched.keys()
        if self.list.reads != self._list_reads:
            suspects |= {self.base_of[uid] for uid in self._unlisted()}
        self._numbering.number(set(filter(self._numbering.is_unnumbered, suspects)), touched)
        fresh = self.list.records_after(self.high)
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
        self.high = self.list.next_uid - 1
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
            self._uids = [*kept, *(uid for uid, _ in added)]
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
        return self.loaded and self.list.version == self.looked_with and self.folders.is_current()

    def publish_added(
        self, files: dict[str, str], records: list[tuple[int, str]], *, was_current: bool
    ) -> None:
        """We moved these files in place and listed them, under the lock.

        files: info by base.  records: as they were listed.  was_current: what is_current() said
        before.
        """
        folders = self.folders
        if was_current:
            for base, info in files.items():
                (folders.cur if info else folders.new).files[base] = info
            self.looked_with = self.list.version
        folders.new.end_own(was_current)
        folders.cur.end_own(was_current)
        if not was_current:
            return
        if self.strays or self.list.reads != self._list_reads:
            self._publish(dict.fromkeys(files), frozenset())
            return
        self.high = self.list.next_uid - 1  # nothing else is new
        self._commit(records, (), ())

    def refresh_keywords(self) -> None:
        if self.keywords.refresh():
            self._publish_reinterpreted()

    def write_keywords(self, keywords: Keywords) -> None:
        """Under the lock: give letters names, and tell of messages that have such letters."""
        self.keywords.write(keywords)
        self._publish_reinterpreted()

    def _publish_reinterpreted(self) -> None:
        if reinterpreted := self._meanings.look_again():
            info_of = self.folders.info_of
            uids = {u for u, b in self.base_of.items() if info_of(b) in reinterpreted}
            self._commit([], (), uids)
