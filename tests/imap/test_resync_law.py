"""Law: a client that resynchronises with QRESYNC whenever it likes, while others change the
mailbox, has exactly what a full fetch would give it."""

import contextlib
import re
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from imap.wire.sequence import SequenceSet
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.index import MailboxIndex, drop
from tests.imap.fakes import Client, MemoryAccount, MemoryHandle, MemoryHost, MemoryMailbox

MAIL = b"From: a@example.org\r\nSubject: x\r\n\r\nhello\r\n"
FLAGS = {
    b"\\Seen": FlagSet(System.SEEN),
    b"\\Deleted": FlagSet(System.DELETED),
    b"work": FlagSet(keywords=frozenset({"work"})),
}
Flags = frozenset[bytes]

_FETCH = re.compile(rb"\* (\d+) FETCH \(UID (\d+)(?: FLAGS \(([^)]*)\))?(?: MODSEQ \((\d+)\))?\)")
_HIGHEST = re.compile(rb"\[HIGHESTMODSEQ (\d+)\]")
_VANISHED = re.compile(rb"\* VANISHED (?:\(EARLIER\) )?([0-9:,]+)")


def done(coroutine: Coroutine[Any, Any, list[bytes]]) -> list[bytes]:
    """The fakes never wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        lines: list[bytes] = stop.value
        return lines
    raise AssertionError("a fake waited")


class Remembering:
    """A client that believes every line: what it has, and the highest number that it was told."""

    def __init__(self, account: MemoryAccount, host: "IndexedHost") -> None:
        self._account, self._host = account, host
        self.known: dict[int, Flags] = {}
        self.modseq = 0
        self.fetched = 0  # UID up to which it has asked
        self.uidvalidity = 7
        self.online = False

    def say(self, command: bytes) -> list[bytes]:
        lines = done(self.session.say(command))
        assert lines[-1].startswith((b"OK", b"NO")), (command, lines)
        for line in lines:
            self.believe(line)
        return lines

    def believe(self, line: bytes) -> None:
        if found := _FETCH.match(line):
            uid = int(found[2])
            if found[3] is not None:
                self.known[uid] = frozenset(found[3].split()) - {b"\\Recent"}
            if found[4] is not None:
                self.modseq = max(self.modseq, int(found[4]))
        elif found := _VANISHED.match(line):
            for low, high in SequenceSet.parse(found[1]).ranges:
                for uid in range(low, high + 1):
                    self.known.pop(uid, None)
        assert not re.match(rb"\* \d+ EXPUNGE", line)
        if found := _HIGHEST.search(line):
            self.modseq = int(found[1])

    def resync(self, *, with_known: bool) -> None:
        self.session = Client(self._account)
        self.session.host = self._host.another()
        self.session.session.host = self.session.host
        self.say(b"ENABLE QRESYNC")
        said = b""
        if self.modseq:
            said = b" (QRESYNC (%d %d" % (self.uidvalidity, self.modseq)
            if with_known and self.known:
                said += b" " + b",".join(b"%d" % uid for uid in sorted(self.known))
            said += b"))"
        before = self.modseq
        self.say(b"SELECT INBOX" + said)
        assert self.modseq >= before, "HIGHESTMODSEQ went back"
        self.fetch_new()
        self.online = True

    def fetch_new(self) -> None:
        """What came since it last did: news of a message are not yet the message."""
        self.say(b"UID FETCH %d:* (FLAGS)" % (self.fetched + 1))
        self.fetched = max(self.fetched, *self.known, 0)


class IndexedHost(MemoryHost):
    """Every handle has a connection of its own to the index's file."""

    __slots__ = ("made", "place")

    def __init__(self, place: Path, made: list[MailboxIndex]) -> None:
        super().__init__()
        self.place, self.made = place, made

    def another(self) -> "IndexedHost":
        return IndexedHost(self.place, self.made)

    def _handle(self, mailbox: Any) -> MemoryHandle:
        index = MailboxIndex.open(mailbox, [self.place])
        self.made.append(index)
        handle = MemoryHandle(mailbox, kept=index)
        self.handles.append(handle)
        return handle


class Resyncing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()

    @initialize(count=st.integers(0, 4))
    def begin(self, count: int) -> None:
        place = Path(self.stack.enter_context(tempfile.TemporaryDirectory())) / "index"
        self.made: list[MailboxIndex] = []
        account = MemoryAccount()
        self.mailbox = account.mailboxes["INBOX"] = MemoryMailbox(7)
        for _ in range(count):
            self.mailbox.add(MAIL)
        self.place = place
        host = IndexedHost(place, self.made)
        self.clients = [Remembering(account, host), Remembering(account, host)]
        for client in self.clients:
            client.resync(with_known=False)

    def truth(self) -> dict[int, Flags]:
        mailbox = self.mailbox
        return {
            uid: frozenset(
                name
                for name, flag in FLAGS.items()
                if flag.system & mailbox.flags_of(uid).system
                or flag.keywords & mailbox.flags_of(uid).keywords
            )
            for uid in mailbox.uids()
        }

    def one_of(self, at: int) -> list[int]:
        uids = self.mailbox.uids()
        return [uids[at % len(uids)]] if uids else []

    who = st.integers(0, 1)
    at = st.integers(0, 9)
    flag = st.sampled_from(sorted(FLAGS))

    @rule(at=at, flag=flag, on=st.booleans())
    def others_store(self, at: int, flag: bytes, on: bool) -> None:
        op = FlagOp.ADD if on else FlagOp.REMOVE
        self.mailbox.store_flags(self.one_of(at), FlagChange(op, FLAGS[flag]))

    @rule(at=at)
    def others_expunge(self, at: int) -> None:
        self.mailbox.expunge(self.one_of(at))

    @rule()
    def others_deliver(self) -> None:
        self.mailbox.add(MAIL)

    @rule(who=who, at=at, flag=flag, how=st.sampled_from([b"+FLAGS", b"-FLAGS", b"FLAGS"]))
    def store(self, who: int, at: int, flag: bytes, how: bytes) -> None:
        if self.clients[who].online and (uids := self.one_of(at)):
            self.clients[who].say(b"UID STORE %d %b (%b)" % (uids[0], how, flag))

    @rule(who=who, at=at, flag=flag)
    def store_silently(self, who: int, at: int, flag: bytes) -> None:
        client = self.clients[who]
        if client.online and (uids := self.one_of(at)) and uids[0] in client.known:
            client.say(b"UID STORE %d +FLAGS.SILENT (%b)" % (uids[0], flag))
            if uids[0] in client.known:
                client.known[uids[0]] |= {flag}  # what it takes for granted

    @rule(who=who, at=at, flag=flag)
    def store_if_unchanged(self, who: int, at: int, flag: bytes) -> None:
        client = self.clients[who]
        if client.online and (uids := self.one_of(at)):
            command = b"UID STORE %d (UNCHANGEDSINCE %d) +FLAGS (%b)"
            client.say(command % (uids[0], client.modseq, flag))

    @rule(who=who)
    def expunge(self, who: int) -> None:
        if self.clients[who].online:
            self.clients[who].say(b"EXPUNGE")

    @rule(who=who)
    def fetch_by_number(self, who: int) -> None:
        """While this goes on, no message may vanish."""
        client = self.clients[who]
        if client.online and len(client.session.session.current().view):
            client.say(b"FETCH 1:* (UID FLAGS MODSEQ)")

    @rule(who=who, at=at, flag=flag)
    def fetch_while_expunges_are_held(self, who: int, at: int, flag: bytes) -> None:
        """It is shown numbers above those of expunges that it may not hear of yet."""
        self.others_expunge(at)
        self.others_store(at + 1, flag, True)
        self.fetch_by_number(who)

    @rule(who=who)
    def search(self, who: int) -> None:
        if self.clients[who].online:
            self.clients[who].say(b"SEARCH MODSEQ %d" % self.clients[who].modseq)

    @rule(who=who)
    def noop(self, who: int) -> None:
        if self.clients[who].online:
            self.clients[who].say(b"NOOP")
            self.clients[who].fetch_new()
            assert self.clients[who].known == self.truth()

    @rule(who=who)
    def hang_up(self, who: int) -> None:
        self.clients[who].online = False

    @rule(who=who, with_known=st.booleans())
    def resync(self, who: int, with_known: bool) -> None:
        self.clients[who].resync(with_known=with_known)
        assert self.clients[who].known == self.truth()

    @rule()
    def the_index_is_lost(self) -> None:
        drop(self.place)

    def teardown(self) -> None:
        for index in getattr(self, "made", ()):
            index.close()
        self.stack.close()


TestResyncing = Resyncing.TestCase
TestResyncing.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
