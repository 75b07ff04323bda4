"""One authenticated IMAP connection: its state, its selected mailbox, its output.

Rule: only synchronous code changes the session's state; after an `await` look again.
"""

import enum
import logging
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from imap.commands.host import Handle, Host
from imap.commands.numbered import look
from imap.view import Updates, View
from imap.wire import format as wire
from sharefs import rights as r
from sharefs.account import Account
from sharefs.errors import Code, SharingError
from sharefs.flags import NAMES, FlagFilter, FlagSet, System
from sharefs.rights import Rights
from sharefs.store.interface import Mailbox

if TYPE_CHECKING:
    from imap.commands.append import Appending

log = logging.getLogger("imap.session")

SYSTEM_NAMES: Final = tuple(NAMES.values())

# Output is handed to the network in pieces of about this size, so that a long answer neither
# waits for its end nor goes out in thousands of packets.
CHUNK: Final = 64 * 1024
# What is sooner handed over by itself than copied behind what is queued.
PIECE: Final = 16 * 1024

NO_MODSEQS: Final[Mapping[int, int]] = {}

# What a command has seen of its mailbox this lately need not be looked at again at its end.
LOOK_LASTS: Final = 0.005  # seconds


class State(enum.Enum):
    """RFC 3501 section 3, after authentication."""

    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


@dataclass(slots=True)
class Selected:
    """The selected mailbox.  examined: by EXAMINE, or the rights allow no change at all.

    saved: UIDs that a search saved as "$", ascending; some may be gone (RFC 5182).
    numbered: its messages have modification sequences (RFC 7162).  highest: HIGHESTMODSEQ when the
    client was last told everything; told: the last such number that it knows of; shown: the
    highest number of a message that it was told since.
    """

    name: str
    handle: Handle
    view: View
    examined: bool
    keywords: tuple[str, ...] = ()
    saved: Sequence[int] = ()
    numbered: bool = False
    highest: int = 0
    told: int = 0
    shown: int = 0


@dataclass(slots=True)
class Session:
    """account: what the viewer can do.  host: how this process does it.

    looked: time.monotonic() at which the running command has found the selected mailbox to be as
    it was last seen; 0: it has not, or has waited for the client since.
    granted: when that command asked for the rights on it, and what they were.
    lost: what became of the selected mailbox while the connection slept; the client hears of it
    with its next command, unless that leaves the mailbox anyway.
    """

    account: Account
    host: Host
    capability: bytes
    state: State = State.AUTHENTICATED
    selected: Selected | None = None
    enabled: set[str] = field(default_factory=set)
    client_id: dict[bytes, bytes | None] = field(default_factory=dict)
    appending: "Appending | None" = None
    bad_commands: int = 0
    idle_tag: str = ""  # of the IDLE that is going on
    out: bytearray = field(default_factory=bytearray)
    looked: float = 0.0
    granted: tuple[float, Rights] | None = None
    lost: bytes = b""

    # -- output ------------------------------------------------------------------------------

    def untagged(self, *parts: bytes) -> None:
        """Queue one untagged response line."""
        self.out += b"* "
        for part in parts:
            self.out += part
        self.out += b"\r\n"

    async def drain(self) -> None:
        """Send what is queued once it is worth a packet."""
        if len(self.out) >= CHUNK:
            await self.flush()

    async def flush(self) -> None:
        if self.out:
            octets, self.out = self.out, bytearray()
            await self.host.send(octets)

    async def pass_on(self, octets: bytes) -> None:
        """Queue octets; where they are many, send them at once with what was queued before."""
        if len(octets) < PIECE:
            self.out += octets
            await self.drain()
        else:
            await self.flush()
            await self.host.send(octets)

    # -- the selected mailbox ----------------------------------------------------------------

    def current(self) -> Selected:
        """The selected mailbox; the command table guarantees that there is one."""
        assert self.selected is not None, "the command table let a command through unselected"
        return self.selected

    def rights(self) -> Rights:
        """The viewer's rights on the selected mailbox as they are now, not as they were."""
        granted = self._just_granted()
        if granted is None:
            granted = self.account.rights(self.current().name).rights
            self.granted = time.monotonic(), granted
        return granted

    def demand(self, right: Rights) -> None:
        """Raises SharingError: the rights may have been taken away while it was selected."""
        granted = self._just_granted()
        if granted is None or not granted.covers(right):
            self.granted = None
            rights = self.account.demand(self.current().name, right)
            self.granted = time.monotonic(), rights

    def _just_granted(self) -> Rights | None:
        """As the running command was told a moment ago."""
        if self.granted is None or time.monotonic() - self.granted[0] >= LOOK_LASTS:
            return None
        return self.granted[1]

    def begin_anew(self) -> None:
        """What was seen of the selected mailbox is over: a command begins, or goes on after it has
        waited for the client."""
        self.looked, self.granted = 0.0, None

    def unselect(self) -> None:
        if self.selected is not None:
            selected, self.selected = self.selected, None
            self.granted = None
            self.state = State.AUTHENTICATED
            selected.handle.release()

    async def refresh(self) -> None:
        """Bring the selected mailbox up to date with the disk, without telling the client."""
        selected = self.current()
        mailbox = selected.handle.mailbox
        if mailbox.looks_unchanged():
            self.looked = time.monotonic()
        elif await selected.handle.run(mailbox.sync):
            selected.handle.announce()

    def has_no_news(self, *, may_expunge: bool) -> bool:
        """Whether tell_updates() would have nothing to tell, if that can be said at once."""
        selected = self.selected
        if selected is None:
            return True
        mailbox, view = selected.handle.mailbox, selected.view
        if time.monotonic() - self.looked >= LOOK_LASTS:
            if not mailbox.looks_unchanged():
                return False
            self.looked = time.monotonic()
        return view.is_abreast(mailbox) and not (may_expunge and view.holds_back)

    @property
    def condstore(self) -> bool:
        """Whether the client wants modification sequences with its news."""
        return "CONDSTORE" in self.enabled

    @property
    def qresync(self) -> bool:
        return "QRESYNC" in self.enabled

    async def enable_condstore(self) -> None:
        """RFC 7162 section 3.1: many a command does that by the way."""
        if self.condstore:
            return
        self.enabled.add("CONDSTORE")
        selected = self.selected
        if selected is not None and selected.numbered and self._may_hear():
            await self._hear_numbered(selected, may_expunge=False)
            selected.told = selected.highest
            self.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % selected.told)

    async def tell_updates(
        self,
        *,
        may_expunge: bool,
        silent: Iterable[int] = (),
        told: Mapping[int, FlagSet] = MappingProxyType({}),
    ) -> None:
        """Queue what the client must hear of.

        silent: UIDs whose new flags it knows already.  told: flags by UID as it was told them a
        while ago; others may have changed them since.
        """
        selected = self.selected
        if selected is None:
            return
        try:
            await self.refresh()
        except SharingError as error:
            if error.code is not Code.NONEXISTENT:
                raise
            await self.lose_mailbox(error)
            return
        mailbox, view = selected.handle.mailbox, selected.view
        if view.is_abreast(mailbox) and not (may_expunge and view.holds_back):
            return
        if not self._may_hear():
            return
        if self.condstore and selected.numbered:
            await self._hear_numbered(selected, may_expunge=may_expunge, silent=silent, told=told)
            return
        recent: Iterable[int] = ()
        if view.changes(mailbox).added:
            recent = await selected.handle.run(self._recent, selected)
        # Asked again after waiting: another session may have changed the mailbox meanwhile, and
        # the generation that the view hears of must be that of the changes.
        changes = view.changes(mailbox)
        updates = view.hear(
            mailbox.generation,
            added=changes.added,
            expunged=changes.expunged,
            flags=_unknown(mailbox, changes.flags, set(silent), told),
            recent=recent,
            may_expunge=may_expunge,
        )
        self._queue(updates, {})

    async def _hear_numbered(
        self,
        selected: Selected,
        *,
        may_expunge: bool,
        silent: Iterable[int] = (),
        told: Mapping[int, FlagSet] = MappingProxyType({}),
    ) -> None:
        handle, view = selected.handle, selected.view
        before = handle.mailbox.generation
        news = await handle.run(look, handle, view, not selected.examined)
        if news.generation != before:
            handle.announce()
        updates = view.hear(
            news.generation,
            added=news.changes.added,
            expunged=news.changes.expunged,
            flags=_unknown(handle.mailbox, news.changes.flags, set(silent), told),
            recent=news.recent,
            may_expunge=may_expunge,
        )
        if not view.holds_back and news.highest:
            selected.highest = news.highest
        self._queue(updates, news.modseqs)

    def modseq_to_tell(self) -> int:
        """What HIGHESTMODSEQ must be told now that an answer is complete; 0 for nothing.

        A client may remember the highest number that it saw.  That is too low if messages only
        vanished or came, and too high while others that vanished earlier are held back.
        """
        selected = self.selected
        if selected is None or not (self.condstore and selected.numbered):
            return 0
        shown, selected.shown = selected.shown, 0
        if selected.view.holds_back:
            return selected.told if self.qresync and shown > selected.told else 0
        before, selected.told = selected.told, selected.highest
        return selected.highest if selected.highest > max(before, shown) else 0

    def _may_hear(self) -> bool:
        """Whether the viewer may still read the selected mailbox.

        Without the right, news wait: IDLE and NOOP must not tell what FETCH would refuse.
        """
        try:
            self.demand(r.READ)
        except SharingError as error:
            log.info("News of %r are not told: %s", self.current().name, error)
            return False
        return True

    async def lose_mailbox(self, error: SharingError) -> None:
        """The selected mailbox was deleted or replaced: nothing to do but part (RFC 2180 3.3)."""
        log.info("Mailbox lost: %s", error.detail)
        self.unselect()
        self.part(b"was deleted or replaced")

    def part(self, why: bytes) -> None:
        """Queue BYE for what became of the selected mailbox: the session is over."""
        self.untagged(b"BYE The selected mailbox ", why)
        self.state = State.LOGOUT

    def _recent(self, selected: Selected) -> frozenset[int]:
        return selected.handle.mailbox.recent(claim=not selected.examined)

    def _queue(self, updates: Updates, modseqs: Mapping[int, int]) -> None:
        if self.qresync and updates.vanished:
            self.untagged(b"VANISHED ", wire.sequence_set(updates.vanished))
        else:
            for seq in updates.expunged:
                self.untagged(b"%d EXPUNGE" % seq)
        if updates.exists is not None:
            self.untagged(b"%d EXISTS" % updates.exists)
        if updates.recent is not None:
            self.untagged(b"%d RECENT" % updates.recent)
        self.queue_flags(updates.flags, with_uid=True, modseqs=modseqs)

    def queue_flags(
        self,
        uids: Iterable[int],
        *,
        with_uid: bool,
        modseqs: Mapping[int, int] = NO_MODSEQS,
    ) -> None:
        """Queue FETCH FLAGS responses; messages that vanished meanwhile are passed over.

        with_uid: RFC 3501 requires it within UID commands and allows it for news, RFC 7162
        requires it once QRESYNC is enabled.  modseqs: of those whose number is to be told.
        """
        selected = self.current()
        mailbox, view = selected.handle.mailbox, selected.view
        self.tell_new_keywords()
        for uid in uids:
            try:
                flags = mailbox.flags_of(uid)
            except KeyError:
                continue
            items = b"FLAGS " + self.show_flags(flags, uid)
            if with_uid or self.qresync:
                items = b"UID %d %b" % (uid, items)
            if uid in modseqs:
                items += b" " + self.show_modseq(modseqs[uid])
            self.untagged(b"%d FETCH (%b)" % (view.seq_of(uid), items))

    def queue_modseqs(
        self, uids: Iterable[int], *, with_uid: bool, modseqs: Mapping[int, int]
    ) -> None:
        """Queue FETCH MODSEQ responses: the client knows the flags."""
        view = self.current().view
        for uid in uids:
            if uid in modseqs:
                items = self.show_modseq(modseqs[uid])
                if with_uid or self.qresync:
                    items = b"UID %d %b" % (uid, items)
                self.untagged(b"%d FETCH (%b)" % (view.seq_of(uid), items))

    def show_modseq(self, modseq: int) -> bytes:
        selected = self.current()
        selected.shown = max(selected.shown, modseq)
        return b"MODSEQ (%d)" % modseq

    def show_flags(self, flags: FlagSet, uid: int) -> bytes:
        """The parenthesised list, with \\Recent where it belongs to this session."""
        return render_flags(flags, uid in self.current().view.recent)

    def tell_new_keywords(self) -> None:
        """RFC 3501 section 7.2.6: a client may rely on FLAGS naming every keyword in use."""
        selected = self.current()
        keywords = tuple(selected.handle.mailbox.keywords())
        if keywords != selected.keywords:
            selected.keywords = keywords
            self.queue_flags_line(selected)
            # Without it a client does not know that it may set the new ones too.
            self.queue_permanent_flags(selected, self.rights())

    def queue_flags_line(self, selected: Selected) -> None:
        self.untagged(b"FLAGS ", wire.flags((*SYSTEM_NAMES, *selected.keywords)))

    def queue_permanent_flags(self, selected: Selected, rights: Rights) -> None:
        self.untagged(b"OK ", self.permanent_flags(selected, rights), b" Flags permitted.")

    def permanent_flags(self, selected: Selected, rights: Rights) -> bytes:
        """PERMANENTFLAGS with brackets: only what this viewer may really change for good."""
        if selected.examined:
            return b"[PERMANENTFLAGS ()]"
        mailbox = selected.handle.mailbox
        allowed = _changeable(allowed_flags(rights), mailbox.changeable())
        keywords = selected.keywords if allowed.keywords else ()
        invent = allowed.keywords and mailbox.can_add_keywords()
        return _permanent_flags(allowed, keywords, invent)


def _unknown(
    mailbox: Mailbox, changed: Iterable[int], silent: Container[int], told: Mapping[int, FlagSet]
) -> list[int]:
    """Of messages whose flags changed, those whose flags the client does not know as they are."""
    rest = [uid for uid in changed if uid not in silent]
    if not told:
        return rest
    now = mailbox.flags_of_each(rest)
    return [uid for uid, flags in zip(rest, now, strict=True) if told.get(uid) != flags]


@lru_cache(maxsize=64)
def _changeable(allowed: FlagFilter, possible: FlagFilter) -> FlagFilter:
    return allowed & possible


@lru_cache(maxsize=64)
def _permanent_flags(allowed: FlagFilter, keywords: tuple[str, ...], invent: bool) -> bytes:
    names = [name for flag, name in NAMES.items() if flag & allowed.mask]
    star = ("\\*",) if invent else ()
    return b"[PERMANENTFLAGS %b]" % wire.flags((*names, *keywords, *star))


@lru_cache(maxsize=4096)
def render_flags(flags: FlagSet, recent: bool) -> bytes:
    """A parenthesised flag list.  Cached: a mailbox has few different sets."""
    names = [name for flag, name in NAMES.items() if flags.system & flag]
    if recent:
        names.append("\\Recent")
    return wire.flags((*names, *sorted(flags.keywords)))


@lru_cache(maxsize=256)
def allowed_flags(rights: Rights) -> FlagFilter:
    """RFC 4314 section 4: s for \\Seen, t for \\Deleted, w for every other flag and keyword."""
    mask = System.NONE
    if rights.covers(r.SEEN):
        mask |= System.SEEN
    if rights.covers(r.DELETED):
        mask |= System.DELETED
    if rights.covers(r.WRITE):
        mask |= System.ANSWERED | System.FLAGGED | System.DRAFT
    return FlagFilter(mask, keywords=rights.covers(r.WRITE))
