"""SEARCH RETURN, "$" in every command that names messages, OLDER and YOUNGER, in conversations."""

import time

import pytest

from sharefs.errors import Code, SharingError
from sharefs.flags import NO_FLAGS, FlagSet, System
from sharefs.rights import Rights
from tests.imap.fakes import Client, MemoryAccount, MemoryMailbox
from tests.imap.test_commands import MAIL

SEEN, DELETED = FlagSet(System.SEEN), FlagSet(System.DELETED)


async def make_client(count: int = 6) -> Client:
    """UIDs 2 and up: messages 1 and up.  Odd ones have been seen."""
    account = MemoryAccount()
    inbox = account.mailboxes["INBOX"] = MemoryMailbox(uidvalidity=7)
    inbox.uidnext = 2
    for number in range(1, count + 1):
        inbox.add(MAIL, SEEN if number % 2 else NO_FLAGS)
    account.mailboxes["Work"] = MemoryMailbox(uidvalidity=8)
    client = Client(account)
    await client.say(b"SELECT INBOX")
    return client


async def told(client: Client, command: bytes) -> list[bytes]:
    """The untagged lines, after a command that went well."""
    *lines, last = await client.say(command)
    assert last.startswith(b"OK"), last
    return lines


RETURNS = [
    (b"SEARCH RETURN () SEEN", b"ALL 1,3,5"),
    (b"SEARCH RETURN (ALL) ALL", b"ALL 1:6"),
    (b"SEARCH RETURN (MIN MAX COUNT) UNSEEN", b"MIN 2 MAX 6 COUNT 3"),
    (b"UID SEARCH RETURN (MIN MAX COUNT) UNSEEN", b"UID MIN 3 MAX 7 COUNT 3"),
    (b"UID SEARCH RETURN (ALL) 1:3", b"UID ALL 2:4"),
    (b"SEARCH RETURN (COUNT) SUBJECT nowhere", b"COUNT 0"),
    (b"SEARCH RETURN (ALL) SUBJECT nowhere", b""),
    (b"SEARCH RETURN (PARTIAL 1:2) SEEN", b"PARTIAL (1:2 1,3)"),
    (b"UID SEARCH RETURN (PARTIAL -1:-2 COUNT) ALL", b"UID PARTIAL (-1:-2 6:7) COUNT 6"),
    (b"SEARCH RETURN (COUNT) CHARSET UTF-8 SUBJECT minutes", b"COUNT 6"),
    (b"SEARCH RETURN (ALL SAVE) UID 3:4", b"ALL 2:3"),
]


@pytest.mark.parametrize(("command", "want"), RETURNS, ids=[row[0].decode() for row in RETURNS])
async def test_returned(command: bytes, want: bytes) -> None:
    client = await make_client()
    tail = b" " + want if want else b""
    assert await told(client, command) == [b'* ESEARCH (TAG "t2")' + tail]


async def test_a_search_without_return_answers_in_the_old_way() -> None:
    client = await make_client()
    assert await told(client, b"SEARCH SEEN") == [b"* SEARCH 1 3 5"]


async def test_saving_alone_tells_nothing_and_the_result_stands_for_its_messages() -> None:
    client = await make_client()
    assert await told(client, b"SEARCH RETURN (SAVE) SEEN") == []
    assert await told(client, b"FETCH $ UID") == [b"* %d FETCH (UID %d)" % n for n in NUMBERED]
    assert await told(client, b"UID FETCH $ UID") == [b"* %d FETCH (UID %d)" % n for n in NUMBERED]
    assert await told(client, b"SEARCH $") == [b"* SEARCH 1 3 5"]
    assert await told(client, b"UID SEARCH UID $ 1:4") == [b"* SEARCH 2 4"]
    assert await told(client, b"SEARCH NOT $") == [b"* SEARCH 2 4 6"]
    assert await told(client, b"SEARCH OR UID $ 2") == [b"* SEARCH 1 2 3 5"]


NUMBERED = [(1, 2), (3, 4), (5, 6)]


async def test_saved_messages_are_stored_copied_moved_and_expunged() -> None:
    client = await make_client()
    inbox, work = client.account.mailboxes["INBOX"], client.account.mailboxes["Work"]
    await told(client, b"UID SEARCH RETURN (SAVE) UID 3:4")
    assert await told(client, b"STORE $ +FLAGS.SILENT (\\Flagged)") == []
    assert [uid for uid in inbox.uids() if inbox.flags_of(uid).system & System.FLAGGED] == [3, 4]
    assert await told(client, b"UID STORE $ -FLAGS (\\Flagged)") == [
        b"* 2 FETCH (UID 3 FLAGS (\\Recent))",
        b"* 3 FETCH (UID 4 FLAGS (\\Seen \\Recent))",
    ]
    await told(client, b"COPY $ Work")
    assert len(work.uids()) == 2
    await told(client, b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
    assert await told(client, b"UID EXPUNGE $") == [b"* 3 EXPUNGE", b"* 2 EXPUNGE"]
    assert list(inbox.uids()) == [2, 5, 6, 7]
    # RFC 5182 section 2.1: what is expunged leaves the result.
    assert await told(client, b"SEARCH $") == [b"* SEARCH"]
    await told(client, b"SEARCH RETURN (SAVE) 1,4")
    await told(client, b"UID MOVE $ Work")
    assert list(inbox.uids()) == [5, 6]
    assert len(work.uids()) == 4


async def test_an_empty_result_is_no_error() -> None:
    client = await make_client()
    for command in (b"FETCH $ FLAGS", b"UID FETCH $ FLAGS", b"STORE $ +FLAGS (\\Seen)"):
        assert await told(client, command) == []
    for command in (b"COPY $ Work", b"MOVE $ Work", b"UID EXPUNGE $"):
        assert await told(client, command) == []
    assert await told(client, b"SEARCH $") == [b"* SEARCH"]


async def test_what_another_session_expunged_is_not_in_the_result() -> None:
    client = await make_client()
    await told(client, b"SEARCH RETURN (SAVE) ALL")
    client.account.mailboxes["INBOX"].expunge([3])
    assert await told(client, b"SEARCH RETURN (COUNT) $") == [b'* ESEARCH (TAG "t3") COUNT 5']
    assert (await client.say(b"COPY $ Work"))[-1].startswith(b"OK")


async def test_new_messages_do_not_enter_a_saved_result() -> None:
    client = await make_client()
    await told(client, b"SEARCH RETURN (SAVE) ALL")
    client.account.mailboxes["INBOX"].add(MAIL)
    await told(client, b"NOOP")
    assert await told(client, b"SEARCH $") == [b"* SEARCH 1 2 3 4 5 6"]


async def test_no_empties_the_result_and_bad_leaves_it() -> None:
    client = await make_client()
    await told(client, b"SEARCH RETURN (SAVE) SEEN")
    for bad in (b"SEARCH RETURN (SAVE) NONSENSE", b"SEARCH RETURN (SAVE NONSENSE) ALL"):
        assert (await client.say(bad))[-1].startswith(b"BAD")
        assert await told(client, b"SEARCH $") == [b"* SEARCH 1 3 5"]
    assert (await client.say(b"SEARCH CHARSET X SUBJECT a"))[-1].startswith(b"NO [BADCHARSET")
    assert await told(client, b"SEARCH $") == [b"* SEARCH 1 3 5"]
    got = await client.say(b"SEARCH RETURN (SAVE) CHARSET X SUBJECT a")
    assert got[-1].startswith(b"NO [BADCHARSET")
    assert await told(client, b"SEARCH $") == [b"* SEARCH"]


async def test_a_search_that_fails_empties_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await make_client()
    await told(client, b"SEARCH RETURN (SAVE) SEEN")

    def damaged(uid: int) -> bytes:
        raise SharingError(Code.CORRUPT, "damaged")

    with monkeypatch.context() as patch:
        patch.setattr(client.account.mailboxes["INBOX"], "read", damaged)
        assert (await client.say(b"SEARCH RETURN (SAVE) BODY x"))[-1].startswith(b"NO [CORRUPTION]")
    assert await told(client, b"SEARCH $") == [b"* SEARCH"]


async def test_without_the_right_to_read_nothing_is_told_or_saved() -> None:
    client = await make_client()
    await told(client, b"SEARCH RETURN (SAVE) SEEN")
    client.account.rights_on["INBOX"] = Rights("l")
    for command in (b"SEARCH RETURN (COUNT) ALL", b"SEARCH RETURN (SAVE) ALL", b"FETCH $ UID"):
        assert await client.say(command) == [b"NO [NOPERM] Permission denied"]
    client.account.rights_on["INBOX"] = Rights("lr")
    assert await told(client, b"SEARCH $") == [b"* SEARCH"]


async def test_another_selection_forgets_the_result() -> None:
    client = await make_client()
    await told(client, b"SEARCH RETURN (SAVE) ALL")
    await client.say(b"EXAMINE INBOX")
    assert await told(client, b"SEARCH $") == [b"* SEARCH"]


async def test_older_and_younger() -> None:
    client = await make_client(0)
    inbox = client.account.mailboxes["INBOX"]
    now = int(time.time())
    for age in (-500, 500, 5000, 50_000):  # one of them arrives tomorrow
        inbox.add(MAIL, internaldate=now - age)
    assert await told(client, b"SEARCH YOUNGER 3600") == [
        b"* 4 EXISTS", b"* 4 RECENT", b"* SEARCH 1 2"
    ]  # fmt: skip
    assert await told(client, b"SEARCH OLDER 3600") == [b"* SEARCH 3 4"]
    assert await told(client, b"SEARCH OLDER 100 YOUNGER 20000") == [b"* SEARCH 2 3"]
    assert await told(client, b"SEARCH NOT OLDER 4294967295") == [b"* SEARCH 1 2 3 4"]
    assert (await client.say(b"SEARCH OLDER 0"))[-1].startswith(b"BAD")


PAGES = [
    (b"UID FETCH 1:* (UID) (PARTIAL 1:2)", [(1, 2), (2, 3)]),
    (b"UID FETCH 1:* (UID) (PARTIAL -1:-2)", [(5, 6), (6, 7)]),
    (b"UID FETCH 3:5,7 UID (PARTIAL 4:3)", [(4, 5), (6, 7)]),
    (b"UID FETCH 1:* UID (partial 7:9)", []),
    (b"UID FETCH 100:200 UID (PARTIAL 1:9)", []),
    (b"FETCH 2:* UID (PARTIAL -5:-4)", [(2, 3), (3, 4)]),
    (b"UID FETCH $ UID (PARTIAL 1:1)", [(5, 6)]),
]


@pytest.mark.parametrize(("command", "want"), PAGES, ids=[row[0].decode() for row in PAGES])
async def test_a_window_of_a_fetch(command: bytes, want: list[tuple[int, int]]) -> None:
    client = await make_client()
    await told(client, b"SEARCH RETURN (SAVE) 5:6")
    assert await told(client, command) == [b"* %d FETCH (UID %d)" % pair for pair in want]


@pytest.mark.parametrize(
    "modifiers", ["(PARTIAL 1:2 PARTIAL 1:2)", "(PARTIAL)", "()", "(NONSENSE)", "PARTIAL 1:2", "("]
)
async def test_wrong_modifiers_of_a_fetch(modifiers: str) -> None:
    client = await make_client()
    got = await client.say(b"UID FETCH 1:* UID " + modifiers.encode())
    assert got[-1].startswith(b"BAD")


async def test_a_window_bounds_what_is_marked_as_seen() -> None:
    client = await make_client()
    await client.say(b"UID FETCH 1:* BODY[TEXT] (PARTIAL 2:2)")
    assert await told(client, b"SEARCH SEEN") == [b"* SEARCH 1 2 3 5"]
