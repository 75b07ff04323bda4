"""FETCH: RFC 3501 section 6.4.5, RFC 3516.  Rendered in threads, in pieces, and streamed.

A long answer is never held whole: render a piece, send it, wait until the client took it, go on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imap.commands.bulk import Bulk, internal_date
from imap.commands.kept import KeptRows
from imap.commands.messages import named_uids
from imap.commands.numbered import (
    demand_numbered,
    demand_numbers,
    numbers_if_any,
    ranges_set,
    vanished_of,
)
from imap.commands.objectids import email_id
from imap.commands.replies import LOST, Reply, bad, no, ok
from imap.commands.session import Selected, Session, allowed_flags, render_flags
from imap.wire import Command
from imap.wire import format as wire
from imap.wire.fetch import (
    BinarySection,
    BinarySize,
    BodySection,
    Fetch,
    FetchItem,
    Item,
    Preview,
    Section,
    parse_fetch,
)
from sharefs import message
from sharefs import rights as r
from sharefs.errors import Code, SharingError
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.index import packed_fields
from sharefs.message import Part
from sharefs.store.interface import Mailbox

# Messages marked \Seen in one go when their bodies are fetched.
SEEN_BATCH: Final = 200
# Messages rendered at most before others get the mailbox.
RENDER_BATCH: Final = 2000
# Octets of responses rendered before they are sent; going to a thread takes its time, too.
CHUNK: Final = 256 * 1024
# Octets of messages put into one piece of that: larger ones take fresh pages from the kernel.
TEXTS: Final = 64 * 1024

# What is rendered at once without going to a thread, where that is quick: messages, their octets.
FEW: Final = 50
SMALL: Final = 128 * 1024
# Messages of a mailbox whose index is asked without going to a thread.
FEW_INDEXED: Final = 1000

_SEEN: Final = FlagSet(System.SEEN)

# What an item needs: nothing but what is in memory, stat(2), the header, or all octets.
_IN_MEMORY: Final = frozenset({Item.FLAGS, Item.UID, Item.MODSEQ})


async def fetch(session: Session, command: Command) -> Reply:
    return await _fetch(session, command, by_uid=False)


async def uid_fetch(session: Session, command: Command) -> Reply:
    return await _fetch(session, command, by_uid=True)


async def _fetch(session: Session, command: Command, *, by_uid: bool) -> Reply:
    request = parse_fetch(command)
    selected = session.current()
    session.demand(r.READ)
    if request.vanished and not session.qresync:
        return bad("QRESYNC is not enabled.")
    numbered = Item.MODSEQ in request.items
    if numbered:
        demand_numbered(selected.numbered)
        await session.enable_condstore()
    if request.vanished:
        # It is told again as VANISHED (EARLIER), which does not change the count of messages.
        await session.tell_updates(may_expunge=True)
        if session.selected is None:
            return LOST
    uids: Sequence[int] = named_uids(session, request.messages, by_uid=by_uid)
    if request.changed_since is not None:
        uids = await _changed(session, request, uids)
    if request.partial is not None:
        uids = request.partial.of(uids)
    session.tell_new_keywords()
    marking = request.sets_seen and _may_mark_seen(session, selected)
    renderer = _Renderer(selected, request)
    if not marking:
        if numbered:
            renderer.number(await selected.handle.run(_numbers_of, selected, uids))
        await _stream(session, renderer, uids)
    else:
        telling = session.condstore and selected.numbered
        for at in range(0, len(uids), SEEN_BATCH):
            batch = uids[at : at + SEEN_BATCH]
            renderer.marked = await _mark_seen(selected, batch)
            if numbered:
                renderer.number(await selected.handle.run(_numbers_of, selected, batch))
            elif telling and renderer.marked:
                marked = sorted(renderer.marked)
                renderer.number(await selected.handle.run(numbers_if_any, selected.handle, marked))
            await _stream(session, renderer, batch)
        await session.tell_updates(may_expunge=False, told=renderer.told)
    selected.shown = max(selected.shown, renderer.shown)
    if renderer.undecodable is not None:
        return renderer.undecodable
    if renderer.missing and not by_uid:
        return no("Some of the messages no longer exist.", b"EXPUNGEISSUED")
    return ok("Fetch completed.")


async def _changed(session: Session, request: Fetch, uids: Sequence[int]) -> Sequence[int]:
    """Those of uids that changed since.  Tells what vanished since, if that was asked for too."""
    selected = session.current()
    since = request.changed_since or 0

    def ask() -> tuple[list[int], bytes]:
        modseqs = demand_numbers(selected.handle, selected.numbered)
        changed = modseqs.changed_since(since)
        if not request.vanished:
            return changed, b""
        gone = vanished_of(selected.handle, modseqs, since, request.messages, selected.saved)
        return changed, ranges_set(gone)

    changed, vanished = await selected.handle.run(ask)
    if vanished:
        session.untagged(b"VANISHED (EARLIER) ", vanished)
    wanted = frozenset(changed)
    return [uid for uid in uids if uid in wanted]


def _numbers_of(selected: Selected, uids: Sequence[int]) -> dict[int, int]:
    return demand_numbers(selected.handle, selected.numbered).of(uids)


def _may_mark_seen(session: Session, selected: Selected) -> bool:
    if selected.examined:
        return False
    allowed = allowed_flags(session.rights()) & selected.handle.mailbox.changeable()
    return bool(allowed.mask & System.SEEN)


async def _mark_seen(selected: Selected, uids: Sequence[int]) -> set[int]:
    """Set \\Seen where it is not.  Returns the UIDs whose flags changed."""
    mailbox = selected.handle.mailbox
    unseen = [uid for uid in uids if not _has_seen(mailbox, uid)]
    if not unseen:
        return set()
    change = FlagChange(FlagOp.ADD, _SEEN)
    changed = await selected.handle.run(mailbox.store_flags, unseen, change)
    if changed:
        selected.handle.announce()
    return set(changed)


def _has_seen(mailbox: Mailbox, uid: int) -> bool:
    try:
        return bool(mailbox.flags_of(uid).system & System.SEEN)
    except KeyError:
        return True  # gone: nothing to mark


async def _stream(session: Session, renderer: "_Renderer", uids: Sequence[int]) -> None:
    at = 0
    handle = session.current().handle
    while at < len(uids):
        if renderer.in_memory:
            at = renderer.render(uids, at)
        elif renderer.is_short(uids):
            at = await handle.run_short(renderer.render, uids, at)
        elif renderer.may_be_kept:
            most = 0 if handle.works_in_line() else CHUNK
            at = await handle.run_short(renderer.render_kept, uids, at, most)
        else:
            at = await handle.run(renderer.render, uids, at)
        for octets in renderer.take():
            await session.pass_on(octets)
        if at < len(uids):
            await session.flush()


@dataclass(slots=True)
class _Message:
    """One message while its response is rendered; what is read is read once."""

    mailbox: Mailbox
    uid: int
    _octets: bytes | None = None
    _header: bytes | None = None
    _part: Part | None = None

    def octets(self) -> bytes:
        if self._octets is None:
            self._octets = self.mailbox.read(self.uid)
        return self._octets

    def header(self) -> bytes:
        if self._octets is not None:
            return self._octets[: message.find_header_end(self._octets)]
        if self._header is None:
            self._header = self.mailbox.read_header(self.uid)
        return self._header

    def part(self) -> Part:
        if self._part is None:
            self._part = message.parse(self.octets())
        return self._part


class _Renderer:
    """Renders the responses of one FETCH.  Knows which sources its items need.

    marked: UIDs that this command set \\Seen on; their responses carry FLAGS even unasked.
    told: the flags that went out, by UID, if this command changes any.
    missing: a message was gone when its turn came.
    may_be_kept: perhaps an index of few messages has all that is asked for.
    undecodable: what to answer because a message has a part that cannot be decoded.
    shown: the highest modification sequence that goes out.
    """

    def __init__(self, selected: Selected, request: Fetch) -> None:
        self._mailbox = selected.handle.mailbox
        self._index = selected.handle.index
        self._view = selected.view
        self._items = request.items
        self._kept = KeptRows(request.items)
        self._bulk = Bulk(request.items, self._mailbox, self._view, self._kept)
        self.in_memory = _IN_MEMORY.issuperset(request.items)
        wanted = _IN_MEMORY.union(self._kept.column_of)
        self.may_be_kept = wanted.issuperset(request.items) and len(selected.view) <= FEW_INDEXED
        self._modseqs: Mapping[int, int] = {}
        self.shown = 0
        self.marked: set[int] = set()
        self.told: dict[int, FlagSet] = {}
        self._changes_flags = request.sets_seen
        self.missing = False
        self.undecodable: Reply | None = None
        self._out: list[bytes] = []
        self._size = 0  # octets of that
        self._until = 0  # position of the first message that was not looked at yet
        self._all_rendered = False  # those up to there are in the output
        self._ready: dict[int, bytes] = {}  # responses of some of those up to there

    def is_short(self, uids: Sequence[int]) -> bool:
        """Whether little is read for these messages, even if nothing is kept of them."""
        if len(uids) > FEW:
            return False
        sizes = self._mailbox.known_sizes(uids)
        return None not in sizes and sum(size or 0 for size in sizes) <= SMALL

    def number(self, modseqs: Mapping[int, int]) -> None:
        """These are the numbers of the messages whose turn comes next, as far as they are told."""
        self._modseqs = self._bulk.modseqs = modseqs
        self.shown = max(self.shown, max(modseqs.values(), default=0))

    def take(self) -> list[bytes]:
        """What was rendered since the last call, in pieces."""
        pieces, self._out, self._size = self._out, [], 0
        return pieces

    def _put(self, octets: bytes) -> None:
        self._out.append(octets)
        self._size += len(octets)

    def render(self, uids: Sequence[int], at: int) -> int:
        """Render from position at until there is enough to send.  Returns where to go on.

        0 begins with another list of messages.
        """
        if not at:
            self._until, self._ready = 0, {}
        stop = min(len(uids), at + RENDER_BATCH)
        while at < stop and self._size < CHUNK:
            if at >= self._until:
                self._until = self._turn_to(uids, at)
                if self._all_rendered:
                    at = self._until
                    continue
            response = self._ready.pop(uids[at], b"")
            if response:
                self._put(response)
            else:
                self._render_one(uids[at])
            at += 1
        return at

    def render_kept(self, uids: Sequence[int], at: int, most: int) -> int:
        """As render(), but only what an index has.  Where it ends, may_be_kept does.

        most: octets after which no other window is begun.
        """
        while at < len(uids):
            until = self._turn_to(uids, at)
            if not self._all_rendered:
                self.may_be_kept = False
                self._until, self._ready = at, {}  # render() turns to it again
                break
            self._until = at = until
            if self._size >= most:
                break
        return at

    def _turn_to(self, uids: Sequence[int], at: int) -> int:
        """Render what can be rendered many at a time, from at to the position returned."""
        until = self._bulk.window(uids, at, TEXTS)
        some = uids[at:until]
        self._all_rendered = False
        if self._kept.wanted:
            index = self._index()
            if index is None:
                return until
            self._kept.load(index, some, len(uids))
        if not self._bulk.usable or not self.marked.isdisjoint(some):
            return until
        known, responses = self._bulk.render(some)
        if self._changes_flags and Item.FLAGS in self._items:
            for uid, flags in zip(known, self._mailbox.flags_of_each(known), strict=True):
                if flags is not None:
                    self.told[uid] = flags
        if len(known) == len(some):
            self._all_rendered = True
            self._put(b"".join(responses))
        else:
            self._ready = dict(zip(known, responses, strict=True))
        return until

    def _render_one(self, uid: int) -> None:
        try:
            items = b" ".join(self._values(uid))
        except KeyError:
            self.missing = True
        except message.UnknownEncoding:
            self.undecodable = no("Unknown Content-Transfer-Encoding.", b"UNKNOWN-CTE")
        except message.BadData:
            self.undecodable = no("Invalid data in a MIME part.", b"PARSE")
        except SharingError as error:
            if error.code is not Code.EXPUNGED:
                raise
            self.missing = True
        else:
            self._put(b"* %d FETCH (%b)\r\n" % (self._view.seq_of(uid), items))

    def _values(self, uid: int) -> Iterator[bytes]:
        message_ = _Message(self._mailbox, uid)
        flags_told = False
        if self._items == (Item.UID,):
            self._mailbox.flags_of(uid)  # or nothing would tell that it is gone
        for item in self._items:
            if item is Item.UID:
                yield b"UID %d" % uid
            elif item is Item.FLAGS:
                flags_told = True
                yield self._flags(uid)
            elif item is Item.MODSEQ:
                yield self._modseq(uid)
            else:
                yield self._value(message_, item)
        if uid in self.marked and not flags_told:
            yield self._flags(uid)
        if uid in self.marked and uid in self._modseqs and Item.MODSEQ not in self._items:
            yield self._modseq(uid)  # RFC 7162 section 3.2.4: with all news of flags

    def _modseq(self, uid: int) -> bytes:
        """Raises KeyError for a message that is gone."""
        return b"MODSEQ (%d)" % self._modseqs[uid]

    def _flags(self, uid: int) -> bytes:
        flags = self._mailbox.flags_of(uid)
        if self._changes_flags:
            self.told[uid] = flags
        return b"FLAGS " + render_flags(flags, uid in self._view.recent)

    def _value(self, message_: _Message, item: FetchItem) -> bytes:
        kept = self._kept.value(message_.uid, item)
        match item, kept:
            case Item.INTERNALDATE, _:
                if not isinstance(kept, int):
                    kept = self._mailbox.info(message_.uid).internaldate
                return b"INTERNALDATE " + internal_date(kept)
            case Item.SAVEDATE, _:
                if not isinstance(kept, int):
                    kept = self._mailbox.info(message_.uid).save_date
                return b"SAVEDATE " + internal_date(kept)
            case Item.EMAILID, _:
                if not isinstance(kept, bytes):
                    date = self._mailbox.info(message_.uid).internaldate
                    kept = message.email_id(message_.octets(), date)
                return b"EMAILID (%b)" % email_id(kept)
            case Item.THREADID, _:
                # RFC 8474 section 5.2: a server that knows no threads says so of every message.
                self._mailbox.flags_of(message_.uid)  # or nothing would tell that it is gone
                return b"THREADID NIL"
            case Preview(), bytes():
                return b"PREVIEW " + wire.string(kept)
            case Preview(lazy), _:
                return b"PREVIEW " + (b"NIL" if lazy else _preview(message_))
            case Item.SIZE, int():
                return b"RFC822.SIZE %d" % kept
            case Item.SIZE, _:
                return b"RFC822.SIZE %d" % self._mailbox.size(message_.uid)
            case Item.ENVELOPE, bytes():
                return b"ENVELOPE " + kept
            case Item.ENVELOPE, _:
                return b"ENVELOPE " + message.envelope_of(message_.header())
            case Item.BODY, bytes():
                return b"BODY " + kept
            case Item.BODY, _:
                return b"BODY " + message.body(message_.part())
            case Item.BODYSTRUCTURE, bytes():
                return b"BODYSTRUCTURE " + kept
            case Item.BODYSTRUCTURE, _:
                return b"BODYSTRUCTURE " + message.bodystructure(message_.part())
            case BodySection(), bytes():
                octets = packed_fields.picker(item.section.fields)([kept])[0]
                return item.name + b" " + _literal(octets, item)
            case BodySection(), _:
                return item.name + b" " + _section(message_, item)
            case BinarySection(), _:
                return item.name + b" " + _binary(message_, item)
            case BinarySize(), _:
                found = message.decoded(message_.octets(), message_.part(), item.part)
                return item.name + b" %d" % (len(found[0]) if found else 0)
        raise AssertionError(f"the parser let an unknown fetch item through: {item}")


def _section(message_: _Message, item: BodySection) -> bytes:
    octets = _section_octets(message_, item.section)
    if octets is None:
        return b"NIL"
    return _literal(octets, item)


def _literal(octets: bytes, item: BodySection) -> bytes:
    if item.partial is not None:
        first, length = item.partial
        octets = octets[first : first + length]
    return wire.literal(octets)


def _preview(message_: _Message) -> bytes:
    text = message.preview(message_.octets(), message_.part())
    return wire.string(text.encode("utf-8", "replace"))


def _binary(message_: _Message, item: BinarySection) -> bytes:
    found = message.decoded(message_.octets(), message_.part(), item.part)
    if found is None:
        return b"NIL"
    octets, was_encoded = found
    binary = was_encoded or b"\0" in octets
    if item.partial is not None:
        first, length = item.partial
        octets = octets[first : first + length]
    return wire.literal8(octets) if binary else wire.literal(octets)


def _section_octets(message_: _Message, section: Section) -> bytes | None:
    """The octets named by section; None where the message has no such part.

    The commonest sections need no MIME parser, and most need no body.
    """
    match section.part, section.text:
        case (), "":
            return message_.octets()
        case (), "HEADER":
            return message_.header()
        case (), "HEADER.FIELDS":
            return message.header_fields(message_.header(), section.fields)
        case (), "HEADER.FIELDS.NOT":
            return message.header_fields(message_.header(), section.fields, inverted=True)
        case (), _:
            return message_.octets()[len(message_.header()) :]
    return message.section(message_.octets(), message_.part(), section)
