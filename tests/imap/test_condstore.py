"""CONDSTORE and QRESYNC: what each session is told, when another one changes the same mailbox."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from imap.commands.numbered import overlap
from imap.commands.table import capability
from sharefs.errors import Code, SharingError
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.index import MailboxIndex, Modseqs
from tests.imap import fakes
from tests.imap.fakes import Client, MemoryAccount, MemoryMailbox

MAIL = b"From: a@example.org\r\nSubject: x\r\n\r\nhello\r\n"
FLAGGED = FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED))
DELETED = FlagChange(FlagOp.ADD, FlagSet(System.DELETED))


class Pair:
    """Two sessions with the same mailboxes, each with its own connection to the index's file."""

    def __init__(self, account: MemoryAccount) -> None:
        self.account = account
        self.mailbox = account.mailboxes["INBOX"]
        self.one, self.two = Client(account), Client(account)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    made: list[MailboxIndex] = []

    def with_index(host: fakes.MemoryHost, mailbox: MemoryMailbox) -> fakes.MemoryHandle:
        index = MailboxIndex.open(mailbox, [tmp_path / str(mailbox.uidvalidity)])
        made.append(index)
        host.handles.append(fakes.MemoryHandle(mailbox, kept=index))
        return host.handles[-1]

    monkeypatch.setattr(fakes.MemoryHost, "_handle", with_index)
    account = MemoryAccount()
    for name, uidvalidity in (("INBOX", 7), ("Work", 8)):
        account.mailboxes[name] = MemoryMailbox(uidvalidity)
    for _ in range(5):
        account.mailboxes["INBOX"].add(MAIL)
    account.mailboxes["INBOX"].unclaimed.clear()
    yield Pair(account)
    for index in made:
        index.close()


def highest(lines: list[bytes]) -> int:
    found = [int(n) for n in re.findall(rb"\[HIGHESTMODSEQ (\d+)\]", b"\n".join(lines))]
    assert len(found) == 1, lines
    return found[0]


def modseqs(lines: list[bytes]) -> list[int]:
    return [int(number) for number in re.findall(rb"MODSEQ \((\d+)\)", b"\n".join(lines))]


async def select(client: Client, *, qresync: bool = False) -> int:
    if qresync:
        assert await client.say(b"ENABLE QRESYNC") == [b"* ENABLED QRESYNC", b"OK Enabled."]
    return highest(await client.say(b"SELECT INBOX (CONDSTORE)"))


ENABLING = [
    b"ENABLE CONDSTORE",
    b"ENABLE QRESYNC",
    b"ENABLE QRESYNC CONDSTORE",
    b"STATUS Work (HIGHESTMODSEQ)",
    b"FETCH 1 MODSEQ",
    b"UID FETCH 1 (FLAGS MODSEQ)",
    b"FETCH 1 FLAGS (CHANGEDSINCE 1)",
    b"SEARCH MODSEQ 1",
    b"SEARCH NOT MODSEQ 1",
    b"STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
    b"UID STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
    b'LIST "" "*" RETURN (STATUS (HIGHESTMODSEQ))',
]


@pytest.mark.parametrize("command", ENABLING)
async def test_every_command_that_enables_it(pair: Pair, command: bytes) -> None:
    """RFC 7162 section 3.1: HIGHESTMODSEQ is told then, and numbers come with all news."""
    first = highest(await pair.one.say(b"SELECT INBOX"))
    pair.mailbox.store_flags([2], FLAGGED)
    assert modseqs(await pair.one.say(b"NOOP")) == []
    got = await pair.one.say(command)
    assert got[-1].startswith(b"OK")
    assert highest(got) > first
    pair.mailbox.store_flags([3], FLAGGED)
    (modseq,) = modseqs(await pair.one.say(b"NOOP"))
    assert modseq > highest(got)


async def test_select_enables_it_too(pair: Pair) -> None:
    await select(pair.one)
    pair.mailbox.store_flags([3], FLAGGED)
    assert len(modseqs(await pair.one.say(b"NOOP"))) == 1


async def test_nothing_but_highestmodseq_without_it(pair: Pair) -> None:
    highest(await pair.one.say(b"SELECT INBOX"))
    pair.mailbox.store_flags([3], FLAGGED)
    assert await pair.one.say(b"NOOP") == [
        b"* 3 FETCH (UID 3 FLAGS (\\Flagged))",
        b"OK NOOP completed.",
    ]
    assert await pair.one.say(b"STORE 1 +FLAGS.SILENT (\\Seen)") == [b"OK Store completed."]


async def test_enabled_is_told_once(pair: Pair) -> None:
    assert await pair.one.say(b"ENABLE CONDSTORE CONDSTORE X") == [
        b"* ENABLED CONDSTORE",
        b"OK Enabled.",
    ]
    assert await pair.one.say(b"ENABLE CONDSTORE") == [b"* ENABLED", b"OK Enabled."]
    assert await pair.one.say(b"ENABLE QRESYNC") == [b"* ENABLED QRESYNC", b"OK Enabled."]


@pytest.mark.parametrize(
    "command",
    [
        b"SELECT INBOX (QRESYNC (7 1))",
        b"EXAMINE INBOX (QRESYNC (7 1))",
        b"UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)",
    ],
)
async def test_qresync_must_be_enabled(pair: Pair, command: bytes) -> None:
    await pair.one.say(b"SELECT INBOX (CONDSTORE)")
    assert (await pair.one.say(command))[-1] == b"BAD QRESYNC is not enabled."


async def test_not_offered_without_an_index(pair: Pair) -> None:
    pair.account.settings.sharefs_index = False
    assert await pair.one.say(b"ENABLE CONDSTORE QRESYNC") == [b"* ENABLED", b"OK Enabled."]
    assert b"CONDSTORE" not in capability(acl_enabled=True, indexed=False)
    assert b"CONDSTORE QRESYNC" in capability(acl_enabled=True, indexed=True)


async def test_no_numbers_in_memory(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The viewer has nowhere to write: they would be lost with the process."""
    monkeypatch.undo()
    client = Client(pair.account)
    await client.say(b"ENABLE QRESYNC")
    got = await client.say(b"SELECT INBOX (QRESYNC (7 1))")
    assert b"* OK [NOMODSEQ] No permanent modification sequences" in got
    assert not [line for line in got if b"VANISHED" in line or b"FETCH" in line]
    for command in (b"FETCH 1 MODSEQ", b"SEARCH MODSEQ 1", b"STORE 1 (UNCHANGEDSINCE 5) FLAGS ()"):
        (refused,) = await client.say(command)
        assert refused == b"BAD This mailbox has no modification sequences"
    assert (await client.say(b"STATUS INBOX (HIGHESTMODSEQ)"))[0].endswith(b"(HIGHESTMODSEQ 0)")
    pair.mailbox.store_flags([1], FLAGGED)
    pair.mailbox.expunge([2])
    assert await client.say(b"NOOP") == [
        b"* VANISHED 2",
        b"* 1 FETCH (UID 1 FLAGS (\\Flagged))",
        b"OK NOOP completed.",
    ]


async def test_a_silent_store_hides_nothing_of_others(pair: Pair) -> None:
    """What another session did to the same message meanwhile is told, with the flags."""
    await select(pair.one)
    store = pair.mailbox.store_flags

    def meanwhile(*args: object, **kwargs: object) -> list[int]:
        pair.mailbox.store_flags = store  # type: ignore[method-assign]  # once
        store([2], FLAGGED)  # after the session looked, before its own change
        return store(*args, **kwargs)  # type: ignore[arg-type]  # as it was called

    pair.mailbox.store_flags = meanwhile  # type: ignore[method-assign]  # a faster session
    got = await pair.one.say(b"STORE 2:3 +FLAGS.SILENT (\\Seen)")
    (told,) = set(modseqs(got))
    assert got == [
        b"* 2 FETCH (UID 2 FLAGS (\\Flagged \\Seen) MODSEQ (%d))" % told,
        b"* 3 FETCH (MODSEQ (%d))" % told,
        b"OK Store completed.",
    ]


async def test_one_of_two_conditional_stores_wins(pair: Pair) -> None:
    first = await select(pair.one)
    await select(pair.two)
    command = b"STORE 4 (UNCHANGEDSINCE %d) +FLAGS.SILENT (%b)"
    *_, won, done = await pair.one.say(command % (first, b"mine"))
    assert done == b"OK Store completed."
    got = await pair.two.say(command % (first, b"yours"))
    assert got[-1] == b"OK [MODIFIED 4] Conditional store failed for some messages."
    assert pair.mailbox.flags_of(4).keywords == {"mine"}
    # It has heard why, and may try again.
    (told,) = modseqs([line for line in got if b"FETCH" in line])
    assert told == modseqs([won])[0]
    assert (await pair.two.say(command % (told, b"yours")))[-1] == b"OK Store completed."
    assert pair.mailbox.flags_of(4).keywords == {"mine", "yours"}


async def test_a_conditional_store_to_messages_that_are_gone(pair: Pair) -> None:
    """RFC 7162 section 3.1.3: NO, and what was modified besides."""
    first = await select(pair.one)
    pair.mailbox.store_flags([3], FLAGGED)
    pair.mailbox.expunge([2])
    got = await pair.one.say(b"STORE 1:3 (UNCHANGEDSINCE %d) +FLAGS.SILENT (\\Seen)" % first)
    assert got[-1] == b"NO [MODIFIED 3] Conditional store failed for some messages."
    assert pair.mailbox.flags_of(1).system & System.SEEN
    assert not pair.mailbox.flags_of(3).system & System.SEEN
    by_uid = await pair.one.say(b"UID STORE 2 (UNCHANGEDSINCE %d) +FLAGS (\\Seen)" % first)
    assert by_uid[-1].startswith(b"OK ")


async def test_a_conditional_store_that_changes_nothing_succeeds(pair: Pair) -> None:
    pair.mailbox.store_flags([1], FLAGGED)
    first = await select(pair.one)
    got = await pair.one.say(b"STORE 1 (UNCHANGEDSINCE %d) +FLAGS.SILENT (\\Flagged)" % first)
    assert got == [b"* 1 FETCH (MODSEQ (%d))" % first, b"OK Store completed."]


async def test_a_conditional_store_in_an_examined_mailbox(pair: Pair) -> None:
    await pair.one.say(b"EXAMINE INBOX (CONDSTORE)")
    got = await pair.one.say(b"STORE 1 (UNCHANGEDSINCE 99999999999999) +FLAGS (\\Seen)")
    assert got == [b"NO [NOPERM] Mailbox is read-only"]


async def test_held_back_expunges_hold_back_highestmodseq(pair: Pair) -> None:
    """A client that took the number of a FETCH for its own would never hear of the expunge."""
    first = await select(pair.one, qresync=True)
    pair.mailbox.expunge([2])
    assert modseqs(await pair.two.say(b"SELECT INBOX")) == []  # it is numbered now
    pair.mailbox.store_flags([3], FLAGGED)
    got = await pair.one.say(b"FETCH 1:5 (FLAGS MODSEQ)")
    assert not [line for line in got if b"VANISHED" in line]
    assert max(modseqs(got)) > first
    assert highest(got) == first
    told = await pair.one.say(b"NOOP")
    assert b"* VANISHED 2" in told
    assert highest(told) >= max(modseqs(got))


async def test_highestmodseq_after_expunge(pair: Pair) -> None:
    first = await select(pair.one, qresync=True)
    pair.mailbox.store_flags([2, 3, 5], DELETED)
    (*_, before) = modseqs(await pair.one.say(b"NOOP"))
    got = await pair.one.say(b"EXPUNGE")
    assert got[0] == b"* VANISHED 2:3,5"
    assert re.fullmatch(rb"OK \[HIGHESTMODSEQ \d+\] Expunge completed.", got[1])
    assert highest(got) > before > first
    assert await pair.one.say(b"EXPUNGE") == [b"OK Expunge completed."]


async def test_close_tells_no_number(pair: Pair) -> None:
    await select(pair.one, qresync=True)
    pair.mailbox.store_flags([2], DELETED)
    await pair.one.say(b"NOOP")
    assert await pair.one.say(b"CLOSE") == [b"OK Close completed."]


async def test_new_messages_move_the_number(pair: Pair) -> None:
    first = await select(pair.one, qresync=True)
    pair.mailbox.add(MAIL)
    got = await pair.one.say(b"NOOP")
    assert got[0] == b"* 6 EXISTS"
    assert highest(got) > first
    assert await pair.one.say(b"NOOP") == [b"OK NOOP completed."]


async def test_reading_a_message_tells_its_new_number(pair: Pair) -> None:
    first = await select(pair.one)
    got = await pair.one.say(b"FETCH 1:2 BODY[TEXT]")
    assert len(modseqs(got)) == 2
    assert min(modseqs(got)) > first
    assert modseqs(await pair.one.say(b"FETCH 1:2 BODY[TEXT]")) == []


async def test_closed_when_another_mailbox_is_selected(pair: Pair) -> None:
    assert not (await pair.one.say(b"SELECT Work"))[0].startswith(b"* OK [CLOSED]")
    assert (await pair.one.say(b"SELECT INBOX"))[0].startswith(b"* OK [CLOSED]")
    assert (await pair.one.say(b"SELECT Nowhere"))[0].startswith(b"* OK [CLOSED]")
    assert not (await pair.one.say(b"SELECT Work"))[0].startswith(b"* OK [CLOSED]")


RESYNCS = [  # id, what the client says besides, UIDs vanished, UIDs told
    ("all", b"", b"2:3", [1, 5, 6]),
    ("known ones", b" 1:2", b"2", [1]),
    ("none known", b" 90", b"", []),
    ("what matched", b" 1:5 (1,4 1,4)", b"2:3", [1, 5]),
]


@pytest.mark.parametrize(
    ("said", "vanished", "told"), [row[1:] for row in RESYNCS], ids=[row[0] for row in RESYNCS]
)
async def test_resynchronising(pair: Pair, said: bytes, vanished: bytes, told: list[int]) -> None:
    first = await select(pair.two)
    pair.mailbox.store_flags([1, 5], FLAGGED)
    pair.mailbox.expunge([2, 3])
    pair.mailbox.add(MAIL)
    await pair.one.say(b"ENABLE QRESYNC")
    got = await pair.one.say(b"SELECT INBOX (QRESYNC (7 %d%b))" % (first, said))
    gone = [line for line in got if b"VANISHED" in line]
    assert gone == ([b"* VANISHED (EARLIER) " + vanished] if vanished else [])
    assert [int(uid) for uid in re.findall(rb"UID (\d+) FLAGS", b"\n".join(got))] == told
    assert all(first < modseq <= highest(got) for modseq in modseqs(got))
    # Numbers first, then what vanished, then what changed.
    kinds = [
        word for line in got for word in (b"HIGHESTMODSEQ", b"VANISHED", b"FETCH") if word in line
    ]
    assert kinds == sorted(kinds, key=[b"HIGHESTMODSEQ", b"VANISHED", b"FETCH"].index)


@pytest.mark.parametrize(
    ("said", "vanished"),
    [
        (b"", b"2:3"),
        (b" 1:3", b"2:3"),
        (b" 1:5 (1:2 1:2)", b"2:3"),  # the client's second message is gone: no help
        (b" 1:5 (1 1)", b"2:3"),
        (b" 3:9 (1,2 1,4)", b""),  # its second one has UID 4 here too: nothing below is gone
    ],
)
async def test_what_is_no_longer_remembered(pair: Pair, said: bytes, vanished: bytes) -> None:
    """All that is absent is told, but for what the client shows to be in place."""
    pair.mailbox.expunge([2, 3])
    await pair.one.say(b"ENABLE QRESYNC")
    got = await pair.one.say(b"SELECT INBOX (QRESYNC (7 1%b))" % said)
    gone = [line for line in got if b"VANISHED" in line]
    assert gone == ([b"* VANISHED (EARLIER) " + vanished] if vanished else [])


async def test_another_uidvalidity_is_ignored(pair: Pair) -> None:
    await pair.one.say(b"ENABLE QRESYNC")
    got = await pair.one.say(b"SELECT INBOX (QRESYNC (6 1 1:9))")
    assert not [line for line in got if b"VANISHED" in line or b"FETCH" in line]
    assert highest(got)


async def test_a_number_from_the_future(pair: Pair) -> None:
    """It was given, and lost with the index and the clock: the client is told everything anew."""
    first = await select(pair.two)
    await pair.one.say(b"ENABLE QRESYNC")
    got = await pair.one.say(b"SELECT INBOX (QRESYNC (7 %d 1:5))" % (first + 10**6))
    assert len(modseqs(got)) == 5
    assert highest(got) > first + 10**6


async def test_vanished_with_fetch(pair: Pair) -> None:
    first = await select(pair.one, qresync=True)
    pair.mailbox.expunge([2, 4])
    pair.mailbox.store_flags([5], FLAGGED)
    got = await pair.one.say(b"UID FETCH 3:9 FLAGS (CHANGEDSINCE %d VANISHED)" % first)
    # The client's count changes by the first line alone, which names what it had.
    assert got[0] == b"* VANISHED 2,4"
    assert b"* VANISHED (EARLIER) 4" in got
    fetched = [line for line in got if b"FETCH" in line]
    assert len(fetched) == 2  # the news itself, and what was asked for
    assert all(line.startswith(b"* 3 FETCH (UID 5 FLAGS (\\Flagged) MODSEQ (") for line in fetched)


async def test_numbers_out_of_reach(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk costs numbers, not news; what depends on them is refused."""
    first = await select(pair.one)

    def full(self: Modseqs) -> int:
        raise SharingError(Code.UNAVAILABLE, "the disk is full", retryable=True)

    monkeypatch.setattr(Modseqs, "note", full)
    monkeypatch.setattr(Modseqs, "_note", full)
    pair.mailbox.store_flags([1], FLAGGED)
    assert await pair.one.say(b"NOOP") == [
        b"* 1 FETCH (UID 1 FLAGS (\\Flagged))",
        b"OK NOOP completed.",
    ]
    assert (await pair.one.say(b"STORE 2 +FLAGS (\\Seen)")) == [
        b"* 2 FETCH (FLAGS (\\Seen))",
        b"OK Store completed.",
    ]
    conditional = b"STORE 2 (UNCHANGEDSINCE %d) FLAGS ()" % first
    for command in (b"FETCH 1 MODSEQ", conditional, b"SEARCH MODSEQ 1"):
        assert (await pair.one.say(command))[-1].startswith(b"NO [UNAVAILABLE]")
    assert b"* OK [NOMODSEQ] No permanent modification sequences" in await pair.two.say(
        b"SELECT INBOX"
    )
    caplog.clear()


@pytest.mark.parametrize(
    ("some", "others", "want"),
    [
        ([], [(1, 5)], []),
        ([(1, 5)], [(5, 9)], [(5, 5)]),
        ([(1, 5)], [(6, 9)], []),
        ([(1, 2), (5, 9)], [(2, 6), (8, 8), (9, 20)], [(2, 2), (5, 6), (8, 8), (9, 9)]),
    ],
)
def test_overlap(
    some: list[tuple[int, int]], others: list[tuple[int, int]], want: list[tuple[int, int]]
) -> None:
    assert overlap(some, others) == want
    assert overlap(others, some) == want
