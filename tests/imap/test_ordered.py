"""SORT and THREAD in conversations: with an index, with half of one, and without."""

from collections.abc import Iterator

import pytest

from sharefs.flags import NO_FLAGS, FlagSet, System
from sharefs.index import MailboxIndex, building
from sharefs.rights import Rights
from tests.imap import fakes
from tests.imap.fakes import Client, MemoryAccount, MemoryMailbox


def mail(
    subject: str, sender: str, sent: str, ident: str, after: str = "", more: str = ""
) -> bytes:
    references = f"References: {after}\r\n" if after else ""
    return (
        f"Subject: {subject}\r\nFrom: {sender}\r\nDate: {sent}\r\nMessage-ID: <{ident}@x>\r\n"
        f"{references}{more}\r\nbody\r\n"
    ).encode()


MAILS = [  # UIDs 2 and up; seen are the odd numbers
    mail("plan", "Zoe <ann@x.org>", "1 Feb 2020 10:00 +0000", "a", more="Cc: m@x.org\r\n"),
    mail("Re: Plan", '"Ärger" <bob@x.org>', "3 Feb 2020 10:00 +0000", "b", "<a@x>"),
    mail("[list] apples", "Carl@x.org", "2 Feb 2020 23:00 -0500", "c", more="To: z@x.org\r\n"),
    mail("Re: plan", "adam <Dora@x.org>", "nonsense", "d", "<a@x> <b@x>", "X-Long: x\r\n"),
    mail("pears", "bob@x.org", "1 Jan 2020 10:00 +0000", "e", "<gone@x>"),
    mail("more pears", "bob@x.org", "2 Jan 2020 10:00 +0000", "f", "<gone@x>"),
]
ARRIVALS = [600, 500, 400, 300, 200, 100]


@pytest.fixture(params=["whole index", "half an index", "no index"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(building, "SLICE", 3)
    account = MemoryAccount()
    inbox = account.mailboxes["INBOX"] = MemoryMailbox(uidvalidity=7)
    inbox.uidnext = 2
    for number, (octets, arrival) in enumerate(zip(MAILS, ARRIVALS, strict=True), start=1):
        inbox.add(octets, FlagSet(System.SEEN) if number % 2 else NO_FLAGS, arrival)
    index = MailboxIndex.open(inbox, [])
    while request.param != "no index" and not index.catch_up(0):
        if request.param == "half an index" and index.missing() < 6:
            break
    kept = None if request.param == "no index" else index
    monkeypatch.setattr(
        fakes.MemoryHost, "_handle", lambda host, box: fakes.MemoryHandle(box, kept=kept)
    )
    yield Client(account)
    index.close()


async def told(client: Client, command: bytes) -> list[bytes]:
    *lines, last = await client.say(command)
    assert last.startswith(b"OK"), last
    return lines


SORTS = [
    ("(ARRIVAL) UTF-8 ALL", "6 5 4 3 2 1"),
    ("(REVERSE ARRIVAL) UTF-8 ALL", "1 2 3 4 5 6"),
    ("(DATE) UTF-8 ALL", "4 5 6 1 3 2"),  # 4 has no date: it counts as sent when it arrived
    ("(REVERSE DATE) US-ASCII ALL", "2 3 1 6 5 4"),
    ("(FROM) UTF-8 ALL", "1 2 5 6 3 4"),
    ("(REVERSE FROM) UTF-8 ALL", "4 3 2 5 6 1"),  # equals still ascend
    ("(DISPLAYFROM) UTF-8 ALL", "4 2 5 6 3 1"),
    ("(SUBJECT) UTF-8 ALL", "3 6 5 1 2 4"),
    ("(SUBJECT REVERSE DATE) UTF-8 ALL", "3 6 5 2 1 4"),
    ("(CC) UTF-8 ALL", "2 3 4 5 6 1"),
    ("(REVERSE TO) UTF-8 ALL", "3 1 2 4 5 6"),
    ("(DISPLAYTO REVERSE SIZE) UTF-8 2:4", "2 4 3"),
    ("(SUBJECT) UTF-8 UNSEEN", "6 2 4"),
    ("(SUBJECT) UTF-8 SUBJECT nowhere", ""),
    ("(date) iso-8859-1 SUBJECT plan SINCE 1-Jan-1970", "4 1 2"),
]


@pytest.mark.parametrize(("arguments", "want"), SORTS, ids=[row[0] for row in SORTS])
async def test_sorted(client: Client, arguments: str, want: str) -> None:
    await client.say(b"SELECT INBOX")
    numbers = [int(word) for word in want.split()]
    got = await told(client, b"SORT " + arguments.encode())
    assert got == [b"* SORT" + b"".join(b" %d" % number for number in numbers)]
    got = await told(client, b"UID SORT " + arguments.encode().replace(b"2:4", b"UID 3:5"))
    assert got == [b"* SORT" + b"".join(b" %d" % (number + 1) for number in numbers)]


RETURNS = [
    ("RETURN () (ARRIVAL) UTF-8 ALL", "ALL 6,5,4,3,2,1"),
    ("RETURN (MIN MAX COUNT) (ARRIVAL) UTF-8 ALL", "MIN 6 MAX 1 COUNT 6"),
    ("RETURN (ALL) (FROM) UTF-8 ALL", "ALL 1:2,5:6,3:4"),
    ("RETURN (PARTIAL 2:3) (FROM) UTF-8 ALL", "PARTIAL (2:3 2,5)"),
    ("RETURN (PARTIAL -1:-2 COUNT) (FROM) UTF-8 ALL", "PARTIAL (-1:-2 3:4) COUNT 6"),
    ("RETURN (MIN) (FROM) UTF-8 SUBJECT nowhere", ""),
]


@pytest.mark.parametrize(("arguments", "want"), RETURNS, ids=[row[0] for row in RETURNS])
async def test_sorted_and_returned(client: Client, arguments: str, want: str) -> None:
    await client.say(b"SELECT INBOX")
    tail = f" {want}" if want else ""
    assert await told(client, b"SORT " + arguments.encode()) == [
        f'* ESEARCH (TAG "t2"){tail}'.encode()
    ]


async def test_a_sort_saves_its_result(client: Client) -> None:
    await client.say(b"SELECT INBOX")
    assert await told(client, b"SORT RETURN (SAVE) (FROM) UTF-8 UNSEEN") == []
    assert await told(client, b"SORT (DATE) UTF-8 $") == [b"* SORT 4 6 2"]
    assert await told(client, b"THREAD REFERENCES UTF-8 $") == [b"* THREAD (6)(2 4)"]
    await told(client, b"UID SORT RETURN (SAVE MIN) (FROM) UTF-8 ALL")
    assert await told(client, b"SEARCH $") == [b"* SEARCH 1"]
    assert (await client.say(b"SORT RETURN (SAVE) (FROM) X-NONE ALL"))[-1].startswith(b"NO [BADCH")
    assert await told(client, b"SEARCH $") == [b"* SEARCH"]


THREADS = [
    ("REFERENCES UTF-8 ALL", "((5)(6))(1 2 4)(3)"),
    ("REFERENCES UTF-8 NOT 2", "((5)(6))(1 4)(3)"),
    ("REFERENCES UTF-8 4:5", "(4)(5)"),
    ("REFS UTF-8 ALL", "((5)(6))(3)(1 2 4)"),
    ("ORDEREDSUBJECT UTF-8 ALL", "(4 (1)(2))(5)(6)(3)"),
    ("references us-ascii SUBJECT nowhere", ""),
]


@pytest.mark.parametrize(("arguments", "want"), THREADS, ids=[row[0] for row in THREADS])
async def test_threaded(client: Client, arguments: str, want: str) -> None:
    await client.say(b"SELECT INBOX")
    want = f" {want}" if want else ""
    assert await told(client, b"THREAD " + arguments.encode()) == [b"* THREAD" + want.encode()]
    arguments = arguments.replace("2", "UID 3").replace("4:5", "UID 5:6")
    in_uids = "".join(str(int(c) + 1) if c.isdigit() else c for c in want)
    got = await told(client, b"UID THREAD " + arguments.encode())
    assert got == [b"* THREAD" + in_uids.encode()]


@pytest.mark.parametrize(
    "command",
    [
        "SORT (DATE) ALL", "SORT () UTF-8 ALL", "SORT DATE UTF-8 ALL", "SORT (NONSENSE) UTF-8 ALL",
        "SORT (REVERSE) UTF-8 ALL", "SORT (REVERSE REVERSE DATE) UTF-8 ALL", "SORT (DATE) UTF-8",
        "SORT (DATE) UTF-8 NONSENSE", "SORT RETURN (DATE) UTF-8 ALL", "SORT (DATE)",
        "THREAD UTF-8 ALL", "THREAD NONSENSE UTF-8 ALL", "THREAD REFERENCES ALL",
        "THREAD REFERENCES UTF-8", "THREAD RETURN (ALL) REFERENCES UTF-8 ALL",
    ],
)  # fmt: skip
async def test_refused(client: Client, command: str) -> None:
    await client.say(b"SELECT INBOX")
    (got,) = await client.say(command.encode())
    # An unknown charset is a NO of its own.
    assert got.startswith((b"BAD ", b"NO [BADCHARSET (UTF-8 US-ASCII)]"))


async def test_threads_are_told_anew_once_a_message_came_or_went(client: Client) -> None:
    inbox = client.account.mailboxes["INBOX"]
    await client.say(b"SELECT INBOX")
    for _ in range(2):
        assert await told(client, b"UID THREAD REFS UTF-8 ALL") == [b"* THREAD ((6)(7))(4)(2 3 5)"]
        assert await told(client, b"THREAD REFS UTF-8 2:4") == [b"* THREAD (3)(2 4)"]
    inbox.expunge([4])
    inbox.add(mail("new", "x@x.org", "1 Jan 2019 10:00 +0000", "new", "<e@x>"))
    await client.say(b"NOOP")
    for _ in range(2):
        got = await told(client, b"UID THREAD REFS UTF-8 ALL")
        assert got == [b"* THREAD ((6 8)(7))(2 3 5)"]
        assert await told(client, b"THREAD REFS UTF-8 ALL") == [b"* THREAD ((4 6)(5))(1 2 3)"]


async def test_messages_that_go_meanwhile_are_left_out(client: Client) -> None:
    await client.say(b"SELECT INBOX")
    client.account.mailboxes["INBOX"].expunge([3])
    assert await told(client, b"SORT (FROM) UTF-8 ALL") == [b"* SORT 1 5 6 3 4"]
    assert await told(client, b"THREAD REFERENCES UTF-8 ALL") == [b"* THREAD ((5)(6))(1 4)(3)"]


async def test_without_the_right_to_read_nothing_is_told(client: Client) -> None:
    await client.say(b"SELECT INBOX")
    client.account.rights_on["INBOX"] = Rights("l")
    for command in (b"SORT (DATE) UTF-8 ALL", b"THREAD REFERENCES UTF-8 ALL"):
        assert await client.say(command) == [b"NO [NOPERM] Permission denied"]
