"""With an index, whole or partial, every answer is the one that it would be without."""

import random
import re
from collections.abc import Iterator, Sequence

import pytest

from imap.commands import bulk
from imap.commands.kept import column_of
from imap.wire import Command
from imap.wire.fetch import parse_fetch
from sharefs.index import Column, MailboxIndex, building
from tests.imap import fakes
from tests.imap.fakes import Client, MemoryAccount, MemoryMailbox
from tests.index.test_index_search import MESSAGES

COMMANDS = [
    b"FETCH 1:* (UID ENVELOPE)",
    b"FETCH 1:* ALL",
    b"FETCH 1:* FULL",
    b"FETCH 1:* FAST",
    b"FETCH 5,9:12,3 (RFC822.SIZE INTERNALDATE BODYSTRUCTURE)",
    b"UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (From To cc Subject DATE References)])",
    b"UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (From)]<3.10> BODY.PEEK[HEADER.FIELDS (X-Nope To)])",
    b"FETCH 1:* (BODY.PEEK[HEADER.FIELDS.NOT (From To)] BODY.PEEK[1.HEADER.FIELDS (Subject)])",
    b"FETCH 1:* (ENVELOPE BODY.PEEK[1] BODY.PEEK[HEADER])",
    b"FETCH 2 (ENVELOPE BODY[TEXT])",
    b"FETCH 1:* (UID PREVIEW)",
    b"FETCH 1:* (SAVEDATE EMAILID THREADID FLAGS)",
    b"UID FETCH 1:* EMAILID",
    b"SEARCH SAVEDSINCE 1-Jan-1970 SAVEDBEFORE 1-Jan-2100",
    b"SEARCH EMAILID E0123",
    b"SEARCH EMAILID E8fd9c6cf8f2a1e5b3f8f8b8f7a6c5d4e3f2a1b0c",
    b"SEARCH SUBJECT hello",
    b"SEARCH FROM alice NOT TO bob",
    b"SEARCH TEXT gr",
    b"SEARCH CHARSET UTF-8 BODY {7}\r\nGr\xc3\xbc\xc3\x9fe",
    b"UID SEARCH OR BODY nowhere TEXT inside",
    b"SEARCH HEADER Message-ID 1@example.org",
    b'SEARCH HEADER Reply-To ""',
    b"SEARCH SENTBEFORE 2-Nov-2026 SENTSINCE 1-Jan-2000",
    b"SEARCH SINCE 1-Jan-1970 BEFORE 1-Jan-2100",
    b"SEARCH NOT LARGER 300",
    b"SEARCH UNSEEN SMALLER 200 NOT BODY x",
    b"SEARCH 1:20 OR SEEN TEXT needle",
    b"SEARCH 2 BODY x",
]


@pytest.fixture
def indexes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[MailboxIndex]]:
    """Every handle gets an index of its own."""
    made: list[MailboxIndex] = []

    def with_index(host: fakes.MemoryHost, mailbox: MemoryMailbox) -> fakes.MemoryHandle:
        index = MailboxIndex.open(mailbox, [])
        made.append(index)
        host.handles.append(fakes.MemoryHandle(mailbox, kept=index))
        return host.handles[-1]

    monkeypatch.setattr(fakes.MemoryHost, "_handle", with_index)
    yield made
    for index in made:
        index.close()


def make_client() -> Client:
    account = MemoryAccount()
    inbox = account.mailboxes["INBOX"] = MemoryMailbox(uidvalidity=7)
    for octets in MESSAGES[:120:3] + MESSAGES[-12:]:
        inbox.add(octets)
    inbox.expunge([4, 7])
    return Client(account)


async def answers(client: Client, indexes: list[MailboxIndex], part: float) -> list[list[bytes]]:
    got = [await client.say(b"SELECT INBOX")]
    for index in indexes:
        while index.missing() > (1 - part) * 50:
            index.catch_up(0)
    got += [await client.say(command) for command in COMMANDS]
    return got


def responses(answer: list[bytes]) -> int:
    """FETCH responses in an answer; literals take lines, too."""
    return sum(bool(re.match(rb"\* \d+ FETCH \(", line)) for line in answer)


@pytest.mark.parametrize("part", [0.0, 0.4, 1.0])
async def test_same_answers(
    part: float, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    want = await answers(make_client(), [], 0)
    monkeypatch.setattr(building, "SLICE", 1)
    indexes = request.getfixturevalue("indexes")
    client = make_client()
    got = await answers(client, indexes, part)
    assert len(indexes) == 1
    assert (indexes[0].missing() == 0) == (part == 1)
    for command, right, answer in zip([b"SELECT", *COMMANDS], want, got, strict=True):
        assert answer == right, command
    assert all(answer[-1].startswith(b"OK") for answer in got)


async def test_an_index_is_really_asked(
    indexes: list[MailboxIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is indexed is not read again."""
    client = make_client()
    await client.say(b"SELECT INBOX")
    assert indexes[0].catch_up()
    reads: list[int] = []

    def read(self: MemoryMailbox, uid: int) -> bytes:
        reads.append(uid)
        return b"\r\n"

    monkeypatch.setattr(MemoryMailbox, "read", read)
    many = await client.say(b"FETCH 1:10 (ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)")
    assert responses(many) == 10
    assert b"* SEARCH" in (await client.say(b"SEARCH BODY qqqqq-nowhere SUBJECT hello"))[0]
    assert len(reads) <= 1


async def test_lists_that_are_kept_need_no_thread(indexes: list[MailboxIndex]) -> None:
    account = MemoryAccount()
    inbox = account.mailboxes["INBOX"] = MemoryMailbox(uidvalidity=7)
    for number in range(60):
        inbox.add(b"Subject: %d\r\n\r\nx\r\n" % number)
    client = Client(account)
    await client.say(b"SELECT INBOX")
    assert indexes[0].catch_up()
    (handle,) = client.host.handles
    before = handle.runs
    for items in (b"(UID ENVELOPE)", b"FULL", b"BODY.PEEK[HEADER.FIELDS (From)]"):
        assert responses(await client.say(b"FETCH 1:* " + items)) == 60
    assert handle.runs == before
    for _ in range(60):
        inbox.add(b"Subject: not yet indexed\r\n\r\nx\r\n")
    await client.say(b"NOOP")
    before = handle.runs
    assert responses(await client.say(b"FETCH 1:* (UID ENVELOPE)")) == 120
    assert handle.runs == before + 1


async def test_messages_that_come_and_go(indexes: list[MailboxIndex]) -> None:
    dice = random.Random(3)
    client = make_client()
    inbox = client.account.mailboxes["INBOX"]
    await client.say(b"SELECT INBOX")
    for _ in range(30):
        match dice.randrange(3):
            case 0:
                inbox.add(dice.choice(MESSAGES))
            case 1:
                inbox.expunge([dice.choice(list(inbox.uids()))])
            case 2:
                indexes[0].catch_up()
        await client.say(b"NOOP")
        got = await client.say(b"UID FETCH 1:* (ENVELOPE)")
        assert responses(got) == len(inbox.uids())
        got = await client.say(b'UID SEARCH TEXT ""')
        assert got[0].split()[2:] == [b"%d" % uid for uid in inbox.uids()]


@pytest.mark.parametrize(
    ("items", "want"),
    [
        (b"ENVELOPE", Column.ENVELOPE),
        (b"BODY", Column.BODY),
        (b"BODY.PEEK[HEADER.FIELDS (from TO)]", Column.FIELDS),
        (b"BODY[HEADER.FIELDS (Subject X-Unheard-Of)]", None),
        (b"BODY.PEEK[HEADER.FIELDS.NOT (From)]", None),
        (b"BODY.PEEK[1.HEADER.FIELDS (From)]", None),
        (b"BODY.PEEK[HEADER]", None),
        (b"FLAGS", None),
    ],
)
def test_what_is_kept_for_an_item(items: bytes, want: Column | None) -> None:
    request = parse_fetch(Command("1", "FETCH", b"1 " + items))
    assert column_of(request.items[0]) is want


@pytest.mark.parametrize("in_line", [True, False])
async def test_a_long_answer_is_sent_while_the_rest_is_rendered(
    indexes: list[MailboxIndex], monkeypatch: pytest.MonkeyPatch, *, in_line: bool
) -> None:
    """But for one change to a thread much is rendered."""
    account = MemoryAccount()
    inbox = account.mailboxes["INBOX"] = MemoryMailbox(uidvalidity=7)
    for number in range(3 * bulk.WINDOW_KEPT):
        inbox.add(b"Subject: %s\r\n\r\n" % (b"%d." % number * 30))
    client = Client(account)
    await client.say(b"SELECT INBOX")
    (index,) = indexes
    assert index.catch_up()
    client.host.handles[-1].in_line = in_line
    rendered: list[int] = []
    table = MailboxIndex.table

    def noting(self: MailboxIndex, uids: Sequence[int], *more: object) -> object:
        rendered.append(len(client.host.sent))
        return table(self, uids, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(MailboxIndex, "table", noting)
    answer = await client.say(b"FETCH 1:* ENVELOPE")
    assert sum(line.startswith(b"* ") for line in answer) == 3 * bulk.WINDOW_KEPT
    assert len(rendered) > 1
    # In line more had been sent before each window.
    assert len(set(rendered)) == (len(rendered) if in_line else 1)
