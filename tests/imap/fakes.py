"""A mailbox in memory, an account over such mailboxes, and a host without processes.

The mailbox passes the same contract as the real storages, which is why the tests of commands may
trust it.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from imap.commands import engine
from imap.commands.append import Answer
from imap.commands.session import Session
from imap.commands.table import capability
from imap.wire import NEED_DATA, Command, CommandReader, LiteralData, LiteralWanted, ProtocolError
from sharefs.account import AclChange
from sharefs.acl import Acl, Effective, Mode
from sharefs.errors import Code, SharingError
from sharefs.flags import EVERY_FLAG, NO_FLAGS, FlagChange, FlagFilter, FlagSet
from sharefs.identifiers import Identifier, Kind
from sharefs.index import MailboxIndex, Modseqs
from sharefs.namespaces.listing import Branch, Listed, Selection, Visible, list_mailboxes
from sharefs.rights import ALL, DELETE, LOOKUP, NONE, READ, Rights
from sharefs.store.interface import Changes, Copied, Mailbox, MessageInfo, Saver

T = TypeVar("T")


@dataclass(slots=True)
class Stored:
    octets: bytes
    flags: FlagSet
    internaldate: int


class MemoryMailbox(Mailbox):
    """Messages in a dict.  Several views may look at one of these, as sessions of a worker do."""

    def __init__(self, uidvalidity: int = 1) -> None:
        self.uidvalidity = uidvalidity
        self.uidnext = 1
        self.readonly = False
        self.generation = 0
        self.messages: dict[int, Stored] = {}
        self.unclaimed: set[int] = set()
        self.deleted = False
        self._log: list[tuple[int, str, int]] = []

    def _note(self, kind: str, uids: Iterable[int]) -> None:
        self.generation += 1
        self._log += [(self.generation, kind, uid) for uid in uids]

    def guid(self) -> str:
        return f"{self.uidvalidity:032x}"

    def sync(self) -> bool:
        if self.deleted:
            raise SharingError(Code.NONEXISTENT, "the mailbox was deleted")
        return False

    def looks_unchanged(self) -> bool:
        return not self.deleted

    def uids(self) -> Sequence[int]:
        return sorted(self.messages)

    def flags_of(self, uid: int) -> FlagSet:
        return self.messages[uid].flags

    def changes_since(self, generation: int) -> Changes:
        since = [(kind, uid) for when, kind, uid in self._log if when > generation]
        added = {uid for kind, uid in since if kind == "added"}
        expunged = {uid for kind, uid in since if kind == "expunged"}
        changed = {uid for kind, uid in since if kind == "flags"}
        return Changes(
            tuple(sorted(expunged - added)),
            tuple(sorted(added - expunged)),
            tuple(sorted(changed - added - expunged)),
        )

    def keywords(self) -> Sequence[str]:
        return sorted({k for stored in self.messages.values() for k in stored.flags.keywords})

    def can_add_keywords(self) -> bool:
        return True

    def recent(self, *, claim: bool) -> frozenset[int]:
        found = frozenset(self.unclaimed)
        if claim:
            self.unclaimed.clear()
        return found

    def _stored(self, uid: int) -> Stored:
        try:
            return self.messages[uid]
        except KeyError:
            raise SharingError(Code.EXPUNGED, f"message {uid} is gone") from None

    def info(self, uid: int) -> MessageInfo:
        stored = self._stored(uid)
        return MessageInfo(uid, len(stored.octets), stored.internaldate, stored.internaldate)

    def read(self, uid: int) -> bytes:
        return self._stored(uid).octets

    def store_flags(
        self, uids: Iterable[int], change: FlagChange, *, unless_changed: bool = False
    ) -> list[int]:
        changed = []
        for uid in uids:
            stored = self.messages.get(uid)
            if stored is not None and change.apply(stored.flags) != stored.flags:
                stored.flags = change.apply(stored.flags)
                changed.append(uid)
        if changed:
            self._note("flags", changed)
        return changed

    def expunge(self, uids: Iterable[int]) -> list[int]:
        gone = [uid for uid in uids if self.messages.pop(uid, None)]
        if gone:
            self._note("expunged", gone)
        return gone

    def add(
        self, octets: bytes, flags: FlagSet = NO_FLAGS, internaldate: int = 1_000_000_000
    ) -> int:
        uid = self.uidnext
        self.uidnext += 1
        self.messages[uid] = Stored(octets, flags, internaldate)
        self.unclaimed.add(uid)
        self._note("added", [uid])
        return uid

    def saver(self) -> Saver:
        return MemorySaver(self)

    def copy_from(
        self, source: Mailbox, uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        found = [(uid, source.read(uid), source.info(uid).internaldate) for uid in uids]
        return [
            Copied(uid, self.add(text, allowed.apply(source.flags_of(uid)), date), linked=False)
            for uid, text, date in found
        ]

    def move_from(
        self, source: Mailbox, uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        copied = self.copy_from(source, uids, allowed)
        source.expunge(uids)
        return copied

    def watch_paths(self) -> Sequence[Path]:
        return ()

    def close(self) -> None: ...


class MemorySaver(Saver):
    def __init__(self, mailbox: MemoryMailbox) -> None:
        self._mailbox = mailbox
        self._finished: list[tuple[bytes, FlagSet, int]] = []

    def begin(self, flags: FlagSet, internaldate: int | None) -> None:
        self._flags = flags
        self._when = internaldate if internaldate is not None else int(time.time())
        self._octets = bytearray()

    def write(self, octets: bytes | memoryview) -> None:
        self._octets += octets

    def finish(self) -> None:
        self._finished.append((bytes(self._octets), self._flags, self._when))

    def commit(self) -> list[int]:
        finished, self._finished = self._finished, []
        return [self._mailbox.add(*one) for one in finished]

    def abort(self) -> None:
        self._finished.clear()


@dataclass(slots=True)
class MemoryAccount:
    """Mailboxes by name.  rights_on: the viewer's rights where they are not all."""

    mailboxes: dict[str, MemoryMailbox] = field(default_factory=dict)
    rights_on: dict[str, Rights] = field(default_factory=dict)
    private_seen: set[str] = field(default_factory=set)
    subscribed: set[str] = field(default_factory=set)
    acls: dict[str, Acl] = field(default_factory=dict)
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(
            imap_idle_notify_interval=120.0,
            acl_enabled=True,
            sharefs_strict_rights=False,
            sharefs_index=True,
        )
    )

    def _rights(self, name: str) -> Rights:
        return self.rights_on.get(name, ALL) if name in self.mailboxes else NONE

    def rights(self, name: str) -> Effective:
        if not self._rights(name).covers(LOOKUP):
            raise SharingError(Code.NONEXISTENT, f"no {name}")
        return Effective(self._rights(name))

    def demand(self, name: str, *rights: Rights) -> Rights:
        have = self.rights(name).rights
        if not all(have.covers(right) for right in rights):
            raise SharingError(Code.NO_PERMISSION, f"lacking a right on {name}")
        return have

    def open_mailbox(self, name: str, *, readonly: bool = False) -> MemoryMailbox:
        self.demand(name, READ)
        return self.mailboxes[name]

    def writable_target(self, name: str, right: Rights) -> MemoryMailbox:
        self.demand(name, right)
        return self.mailboxes[name]

    def mailbox_key(self, name: str) -> int:
        return id(self.mailboxes.get(name))

    def uses_private_seen(self, name: str) -> bool:
        return name in self.private_seen

    def separator_of(self, name: str) -> str:
        return "/"

    def namespaces(self) -> list[Any]:
        return [
            SimpleNamespace(type=kind, prefix=prefix, separator="/", hidden=hidden)
            for kind, prefix, hidden in [
                ("private", "", False),
                ("private", "old/", True),
                ("public", "Public/", False),
            ]
        ]

    def list(
        self, reference: str, patterns: Sequence[str], selection: Selection
    ) -> Iterable[Listed]:
        seen = [name for name in self.mailboxes if self._rights(name).covers(LOOKUP)]
        branch = Branch("", "/", "yes", [Visible(name) for name in seen])
        subscriptions = dict.fromkeys(self.subscribed, "/")
        joined = [reference + pattern for pattern in patterns]
        return list_mailboxes([branch], joined, subscriptions, selection)

    def create(self, name: str, special_use: tuple[str, ...] = ()) -> None:
        if name in self.mailboxes:
            raise SharingError(Code.ALREADY_EXISTS, f"{name} is there")
        self.mailboxes[name] = MemoryMailbox()

    def guid(self, name: str) -> str:
        self.rights(name)
        return self.mailboxes[name].guid()

    def delete(self, name: str) -> None:
        self.demand(name, DELETE)
        self.mailboxes.pop(name).deleted = True

    def rename(self, old: str, new: str) -> None:
        self.rights(old)
        # INBOX stays (RFC 3501 section 6.3.5).
        self.mailboxes[new] = MemoryMailbox() if old == "INBOX" else self.mailboxes.pop(old)

    def subscribe(self, name: str) -> None:
        self.subscribed.add(name)

    def unsubscribe(self, name: str) -> None:
        self.subscribed.discard(name)

    def acl(self, name: str) -> Acl:
        self.rights(name)
        return self.acls.get(name, Acl())

    def set_acl(
        self, name: str, identifier: Identifier, mode: Mode, rights: Rights, *, negative: bool
    ) -> AclChange:
        if identifier.kind is Kind.ANYONE:
            raise SharingError(Code.INVALID, "anyone cannot be given rights")
        return self._change(
            name, self.acl(name).update(identifier, mode, rights, negative=negative)
        )

    def delete_acl(self, name: str, identifier: Identifier, *, negative: bool) -> AclChange:
        return self._change(name, self.acl(name).delete(identifier, negative=negative))

    def _change(self, name: str, after: Acl) -> AclChange:
        before, self.acls[name] = self.acl(name), after
        return AclChange(before, after, before != after, ())


@dataclass(slots=True)
class MemoryHandle:
    """kept: the mailbox's index, if there is to be one; as full as it was left.  runs: how often
    something was done that would be done in a thread.  in_line: whether short work would not be.
    """

    mailbox: Mailbox
    released: int = 0
    kept: MailboxIndex | None = None
    runs: int = 0
    in_line: bool = True
    at_once: Rights | None = None

    def index(self) -> MailboxIndex | None:
        return self.kept

    def modseqs(self) -> Modseqs | None:
        return None if self.kept is None else self.kept.modseqs()

    def known_modseq(self) -> int | None:
        modseqs = self.modseqs()
        return 0 if modseqs is None else modseqs.known()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        self.runs += 1
        return function(*args)

    async def run_short(self, function: Callable[..., T], *args: object) -> T:
        return function(*args)

    def works_in_line(self) -> bool:
        return self.in_line

    async def run_with(self, other: object, function: Callable[..., T], *args: object) -> T:
        return function(*args)

    def announce(self) -> None: ...

    def release(self) -> None:
        self.released += 1
        assert self.released == 1, "released twice"


@dataclass(slots=True)
class MemoryHost:
    """Sends into `sent`.  lines: what a client says while IDLE waits; None: a change hint."""

    sent: bytearray = field(default_factory=bytearray)
    lines: list[bytes | None] = field(default_factory=list)
    on_wait: Callable[[], None] = lambda: None
    handles: list[MemoryHandle] = field(default_factory=list)
    compressed: bool = False

    def compress_after_answer(self) -> None:
        if self.compressed:
            raise SharingError(Code.ALREADY_EXISTS, "compressed")
        self.compressed = True

    async def send(self, octets: bytes | bytearray) -> None:
        self.sent += octets

    async def blocking(self, function: Callable[..., T], *args: object) -> T:
        return function(*args)

    def _handle(self, mailbox: Mailbox) -> MemoryHandle:
        self.handles.append(MemoryHandle(mailbox))
        return self.handles[-1]

    async def open(self, account: Any, name: str) -> MemoryHandle:
        return self._handle(account.open_mailbox(name))

    async def open_target(self, account: Any, name: str, right: Rights) -> MemoryHandle:
        return self._handle(account.writable_target(name, right))

    async def recall(self, account: object, name: str) -> dict[str, int]:
        return {}

    async def recall_each(self, account: object, names: Sequence[str]) -> dict[str, dict[str, int]]:
        return {}

    def remember(self, handle: object, told: dict[str, int]) -> None: ...

    @contextlib.asynccontextmanager
    async def idling(self, handle: object) -> AsyncIterator["MemoryHost"]:
        yield self

    async def line_or_change(self, seconds: float) -> bytes | None:
        self.on_wait()
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)


class Client:
    """Types at a session and reads what comes back."""

    def __init__(self, account: MemoryAccount) -> None:
        self.account = account
        self.host = MemoryHost()
        self.session = Session(account, self.host, capability(acl_enabled=True, indexed=True))  # type: ignore[arg-type]  # fakes by shape
        self._reader = CommandReader()
        self._tags = 0

    async def say(self, text: bytes) -> list[bytes]:
        """Send one command without its tag; the response lines, the tagged one without the tag."""
        self._tags += 1
        tag = b"t%d" % self._tags
        self._reader.feed(tag + b" " + text + b"\r\n")
        while (event := self._next()) is not NEED_DATA:
            match event:
                case Command():
                    await engine.run(self.session, event)
                case LiteralWanted():
                    await self._decide(event)
                case LiteralData():
                    await engine.literal_data(self.session, event)
        await self.session.flush()
        octets = bytes(self.host.sent)
        self.host.sent.clear()
        lines = octets.split(b"\r\n")
        assert lines.pop() == b""
        return [line.removeprefix(tag + b" ") for line in lines]

    def _next(self) -> Any:
        try:
            return self._reader.next_event()
        except ProtocolError as error:
            self.session.out += error.response()
            return self._next()

    async def _decide(self, wanted: LiteralWanted) -> None:
        answer = await engine.literal_wanted(self.session, wanted)
        if answer is Answer.ACCEPT:
            self._reader.accept()
        elif answer is Answer.STREAM:
            self._reader.stream()
        else:
            assert not isinstance(answer, Answer)
            self._reader.refuse()
            self.session.out += answer.line(wanted.so_far.tag.encode())
