"""Lays a viewer's own \\Seen over a shared mailbox; everything else passes through.

Rules (Dovecot's, so that a viewer may use both servers): a message without a private record is
unseen; new messages start unseen, but in public namespaces the shared \\Seen is copied first, so
that a filter can set it; if UIDVALIDITY changes, the private index starts anew.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sharefs.errors import Code, SharingError
from sharefs.flags import EVERY_FLAG, FlagChange, FlagFilter, FlagOp, FlagSet, System
from sharefs.store.interface import Changes, Copied, Mailbox, Memento, MessageInfo, Saver
from sharefs.store.maildir.config import Fsync
from sharefs.store.private_seen import records
from sharefs.store.private_seen.files import PrivateFiles
from sharefs.store.private_seen.history import History
from sharefs.store.private_seen.state import (
    Difference,
    PrivateState,
    compare,
    ranges_of,
)
from sharefs.store.shelf import Shelf

log = logging.getLogger(__name__)


def overlay(
    mailbox: Mailbox,
    directory: Path,
    *,
    public: bool,
    examine: bool | None = None,
    fsync: Fsync = Fsync.OPTIMIZED,
) -> Mailbox:
    """The mailbox as this viewer sees it, with his own \\Seen.

    directory: where his private index of it lives; made when needed, for him alone.  Closing the
    result closes the mailbox.  public: the namespace's type.  examine: whether not even \\Seen may
    change (EXAMINE); None: as mailbox.readonly.  False makes sense for a mailbox on a file system
    that the viewer cannot write to: his own \\Seen he still can.  fsync: as for the mailbox.
    """
    files = PrivateFiles(directory, fsync=bool(fsync))
    return PrivateSeenMailbox(mailbox, files, public=public, examine=examine, fsync=fsync)


class PrivateSeenMailbox(Mailbox):
    """See overlay().  Opening reads nothing; the private files are read when first needed."""

    def __init__(
        self,
        shared: Mailbox,
        files: PrivateFiles,
        *,
        public: bool,
        examine: bool | None,
        fsync: Fsync,
    ) -> None:
        self._shared = shared
        self._fsync = fsync
        self._files = files
        self._public = public
        self._history = History()
        self._loaded = False
        self._uids: Sequence[int] = ()
        self._uid_set: frozenset[int] = frozenset()
        self._matched: tuple[Sequence[int], int] = ((), 0)  # what the private index agrees with
        self._merged: dict[FlagSet, tuple[FlagSet, FlagSet]] = {}  # shared -> unseen, seen
        self.readonly = shared.readonly if examine is None else examine

    # --- the picture -----------------------------------------------------------------------

    @property
    def uidvalidity(self) -> int:  # type: ignore[override]  # the shared mailbox's, lazily
        return self._shared.uidvalidity

    @property
    def uidnext(self) -> int:  # type: ignore[override]  # as above
        return self._shared.uidnext

    @property
    def generation(self) -> int:  # type: ignore[override]  # as above
        return self._history.moment(self._shared.generation)

    def backing(self) -> Mailbox:
        return self._shared.backing()

    def sync(self) -> bool:
        changed = self._shared.sync()
        before = self._history.private
        if not self._loaded or changed or not self._files.looks_unchanged():
            self._reconcile()
        return changed or self._history.private != before

    def looks_unchanged(self) -> bool:
        return self._loaded and self._files.looks_unchanged() and self._shared.looks_unchanged()

    def looks_the_same(self) -> bool:
        return self._loaded and self._shared.looks_the_same()

    def memento(self) -> "_PrivateMemento | None":
        shared, private = self._shared.memento(), self._files.memento()
        if shared is None or private is None or not self.looks_unchanged():
            return None
        return _PrivateMemento(shared, private)

    def keep_in(self, shelf: Shelf) -> None:
        self._shared.keep_in(shelf)

    def put_away(self) -> None:
        self._shared.put_away()

    def settles_in(self) -> float | None:
        return self._shared.settles_in()

    def uids(self) -> Sequence[int]:
        return self._shared.uids()

    def flags_of(self, uid: int) -> FlagSet:
        if not self._loaded:
            self._reconcile()
        return self._pair_of(self._shared.flags_of(uid))[uid in self._files.state.seen]

    def flags_of_each(self, uids: Sequence[int]) -> list[FlagSet | None]:
        """Each different set of the shared mailbox's is looked up once."""
        if not self._loaded:
            self._reconcile()
        shared, seen = self._shared.flags_of_each(uids), self._files.state.seen
        pairs = {
            which: (None, None) if flags is None else self._pair_of(flags)
            for which, flags in {id(flags): flags for flags in shared}.items()
        }
        which = map(pairs.__getitem__, map(id, shared))
        return [pair[uid in seen] for uid, pair in zip(uids, which, strict=True)]

    def _pair_of(self, shared: FlagSet) -> tuple[FlagSet, FlagSet]:
        """The set without and with \\Seen."""
        pair = self._merged.get(shared)
        if pair is None:
            unseen = FlagSet(shared.system & ~System.SEEN, shared.keywords)
            pair = (unseen, FlagSet(shared.system | System.SEEN, shared.keywords))
            self._merged[shared] = pair
        return pair

    def changes_since(self, generation: int) -> Changes:
        changes = self._shared.changes_since(self._history.shared_at(generation))
        private = self._history.changed_since(generation)
        present = self._present()
        flags = (present if private is None else private & present).difference(changes.added)
        if flags.issubset(changes.flags):
            return changes
        return Changes(changes.expunged, changes.added, tuple(sorted(flags.union(changes.flags))))

    def keywords(self) -> Sequence[str]:
        return self._shared.keywords()

    def can_add_keywords(self) -> bool:
        return self._shared.can_add_keywords()

    def changeable(self) -> FlagFilter:
        shared = self._shared.changeable()
        private = System.NONE if self.readonly else System.SEEN
        return FlagFilter((shared.mask & ~System.SEEN) | private, shared.keywords)

    def has_recent(self) -> bool:
        return self._shared.has_recent()

    def recent(self, *, claim: bool) -> frozenset[int]:
        return self._shared.recent(claim=claim)

    def info(self, uid: int) -> MessageInfo:
        return self._shared.info(uid)

    def size(self, uid: int) -> int:
        return self._shared.size(uid)

    def known_sizes(self, uids: Sequence[int]) -> list[int | None]:
        return self._shared.known_sizes(uids)

    def total_size(self) -> int:
        return self._shared.total_size()

    def guid(self) -> str:
        return self._shared.guid()

    def identity_of(self, uid: int) -> str:
        return self._shared.identity_of(uid)

    def read(self, uid: int) -> bytes:
        return self._shared.read(uid)

    def read_header(self, uid: int) -> bytes:
        return self._shared.read_header(uid)

    def watch_paths(self) -> Sequence[Path]:
        """The private directory too: another session of the viewer may read there."""
        if not self._loaded:
            self._reconcile()
        paths = list(self._shared.watch_paths())
        if os.path.isdir(self._files.directory):  # unlike Path's, no error if it is hidden
            paths.append(self._files.directory)
        return paths

    def close(self) -> None:
        self._shared.close()

    # --- changing --------------------------------------------------------------------------

    def store_flags(
        self, uids: Iterable[int], change: FlagChange, *, unless_changed: bool = False
    ) -> list[int]:
        if self.readonly:
            raise SharingError(
                Code.NO_PERMISSION, "the mailbox is open for reading only; private \\Seen stays"
            )
        wanted = list(uids)
        before = {uid: self._flags_or_none(uid) for uid in wanted} if unless_changed else {}
        if unless_changed:
            self._reconcile()  # another session of the viewer may have been at work
            wanted = [uid for uid in wanted if self._flags_or_none(uid) == before[uid]]
        changed = set(self._store_shared(wanted, change, unless_changed=unless_changed))
        if unless_changed:
            # Those that others were faster with keep their \\Seen as well.
            self._reconcile()
            wanted = [
                uid for uid in wanted if uid in changed or self._flags_or_none(uid) == before[uid]
            ]
        seen = _wanted_seen(change)
        if seen is not None:
            durable = self._fsync is Fsync.ALWAYS
            changed.update(self._set_seen(wanted, seen=seen, durable=durable))
        return sorted(changed)

    def _flags_or_none(self, uid: int) -> FlagSet | None:
        try:
            return self.flags_of(uid)
        except KeyError:
            return None

    def _store_shared(
        self, uids: list[int], change: FlagChange, *, unless_changed: bool
    ) -> list[int]:
        rest = FlagSet(change.flags.system & ~System.SEEN, change.flags.keywords)
        allowed = _without_seen(change.allowed)
        pointless = change.op is not FlagOp.REPLACE and not allowed.apply(rest)
        if pointless or not (allowed.mask or allowed.keywords) or self._shared.readonly:
            return []
        shared = FlagChange(change.op, rest, allowed)
        return self._shared.store_flags(uids, shared, unless_changed=unless_changed)

    def _set_seen(self, uids: Iterable[int], *, seen: bool, durable: bool) -> frozenset[int]:
        """Returns the messages for which that is news."""
        self._reconcile()
        wanted = self._present().intersection(uids)
        done: frozenset[int] = frozenset()

        def plan(state: PrivateState) -> list[bytes]:
            nonlocal done
            news = wanted - state.seen if seen else wanted & state.seen
            done = frozenset(uid for uid in news if state.knows(uid))
            return [records.format_seen(ranges_of(sorted(done)), add=seen)] if done else []

        if wanted:
            self._watching(lambda: self._files.update(plan, durable=durable))
        return done

    def expunge(self, uids: Iterable[int]) -> list[int]:
        gone = self._shared.expunge(uids)
        if gone and self._loaded:
            self._reconcile()
        return gone

    def saver(self) -> Saver:
        return _PrivateSaver(self, self._shared.saver())

    def adopt(self, added: Sequence[int], seen: Sequence[int]) -> None:
        """Messages that we added ourselves, and those of them that the viewer has seen."""
        self._reconcile()
        if seen and not self.readonly:
            self._set_seen(seen, seen=True, durable=bool(self._fsync))

    def copy_from(
        self, source: Mailbox, uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        seen = _seen_among(source, uids, allowed)
        copies = self._shared.copy_from(source, uids, _without_seen(allowed))
        return self._adopt_copies(copies, seen)

    def move_from(
        self, source: Mailbox, uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        seen = _seen_among(source, uids, allowed)
        copies = self._shared.move_from(source, uids, _without_seen(allowed))
        return self._adopt_copies(copies, seen)

    def _adopt_copies(self, copies: list[Copied], seen: frozenset[int]) -> list[Copied]:
        self.adopt(
            [copy.uid for copy in copies], [copy.uid for copy in copies if copy.source_uid in seen]
        )
        return copies

    # --- keeping the private index in step ---------------------------------------------------

    def _present(self) -> frozenset[int]:
        uids = self._shared.uids()
        if uids is not self._uids:
            self._uids, self._uid_set = uids, frozenset(uids)
        return self._uid_set

    def _reconcile(self) -> None:
        """Read what other sessions wrote, and make the private index match the mailbox."""
        now = (self._shared.uids(), self._shared.uidvalidity)
        same = now[0] is self._matched[0] and now[1] == self._matched[1]
        if self._loaded and same and self._files.looks_unchanged():
            return
        self._watching(self._match_shared)
        self._matched = now
        self._loaded = True

    def _watching(self, action: Callable[[], None]) -> None:
        """Run something that may change private flags, and note which it changed."""
        before = self._files.state
        action()
        after = self._files.state
        changed = after.touched
        if after is not before:  # read anew
            changed = changed | (before.seen ^ after.seen)
        if self._loaded and changed:
            self._history.note(frozenset(changed))
        after.touched = set()

    def _match_shared(self) -> None:
        self._files.refresh()
        difference = self._difference(self._files.state)
        if difference.reset or difference.rebuild:
            self._files.rewrite(self._remade)
        elif difference:
            self._files.update(self._missing_records)

    def _difference(self, state: PrivateState) -> Difference:
        present = self._present()
        return compare(state, self._uids, present, self._shared.uidvalidity, self._shared.uidnext)

    def _missing_records(self, state: PrivateState) -> list[bytes]:
        difference = self._difference(state)
        parts: list[bytes] = []
        if difference.reset or difference.rebuild:
            return parts  # another session was here in between; the next sync sees to it
        if not state.uidvalidity:
            parts.append(
                records.format_header_number(records.UIDVALIDITY_OFFSET, self._shared.uidvalidity)
            )
        if difference.expunged:
            parts.append(records.format_expunge(ranges_of(difference.expunged)))
        if difference.added:
            parts.append(records.format_append(difference.added, self._seen_at_first(difference)))
        if difference.next_uid:
            parts.append(records.format_header_number(records.NEXT_UID_OFFSET, difference.next_uid))
        return parts

    def _seen_at_first(self, difference: Difference) -> set[int]:
        """Which new messages do not start unseen."""
        if not self._public:
            return set()
        flags_of = self._shared.flags_of
        return {uid for uid in difference.added if flags_of(uid).system & System.SEEN}

    def _remade(self, old: PrivateState) -> PrivateState | None:
        difference = self._difference(old)
        uidvalidity = self._shared.uidvalidity
        seen = self._seen_at_first(difference)
        if difference.reset:
            log.info(
                "UIDVALIDITY changed (%d -> %d): the private index %s starts anew",
                old.uidvalidity, uidvalidity, self._files.directory,
            )  # fmt: skip
        elif difference.rebuild:
            log.warning(
                "the private index %s lacks messages that it should have had; it is written"
                " afresh, keeping what was seen", self._files.directory,
            )  # fmt: skip
            seen |= old.seen & self._present()
        else:
            return None
        return PrivateState(uidvalidity, self._shared.uidnext, list(self._uids), seen)


class _PrivateMemento(Memento):
    """Of the shared mailbox, and of what the viewer has seen of it."""

    __slots__ = ("_private", "_shared")

    def __init__(self, shared: Memento, private: Memento) -> None:
        self._shared = shared
        self._private = private

    def looks_unchanged(self) -> bool:
        return self._shared.looks_unchanged() and self._private.looks_unchanged()

    def fingerprint(self) -> bytes:
        shared, private = self._shared.fingerprint(), self._private.fingerprint()
        return shared + private if shared and private else b""


class _PrivateSaver(Saver):
    """Keeps \\Seen back from the shared mailbox, and gives it to the viewer after the commit."""

    def __init__(self, mailbox: PrivateSeenMailbox, shared: Saver) -> None:
        self._mailbox = mailbox
        self._shared = shared
        self._seen: list[bool] = []
        self._begun = False

    def begin(self, flags: FlagSet, internaldate: int | None) -> None:
        self._begun = bool(flags.system & System.SEEN)
        self._shared.begin(FlagSet(flags.system & ~System.SEEN, flags.keywords), internaldate)

    def write(self, octets: bytes | memoryview) -> None:
        self._shared.write(octets)

    def finish(self) -> None:
        self._shared.finish()
        self._seen.append(self._begun)

    def commit(self) -> list[int]:
        uids = self._shared.commit()
        seen = [uid for uid, was in zip(uids, self._seen, strict=True) if was]
        self._mailbox.adopt(uids, seen)
        return uids

    def abort(self) -> None:
        self._shared.abort()


def _without_seen(allowed: FlagFilter) -> FlagFilter:
    return FlagFilter(allowed.mask & ~System.SEEN, allowed.keywords)


def _wanted_seen(change: FlagChange) -> bool | None:
    """What a STORE makes of \\Seen.  None: it stays."""
    if not change.allowed.mask & System.SEEN:
        return None
    named = bool(change.flags.system & System.SEEN)
    match change.op:
        case FlagOp.REPLACE:
            return named
        case FlagOp.ADD:
            return True if named else None
        case FlagOp.REMOVE:
            return False if named else None


def _seen_among(source: Mailbox, uids: Sequence[int], allowed: FlagFilter) -> frozenset[int]:
    """The messages that the viewer has seen in the source, as far as he may say so here."""
    if not allowed.mask & System.SEEN:
        return frozenset()
    seen = set()
    for uid in uids:
        try:
            if source.flags_of(uid).system & System.SEEN:
                seen.add(uid)
        except KeyError:
            continue  # copying will say that it is gone
    return frozenset(seen)
