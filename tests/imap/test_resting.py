"""A session put away and taken up again: its client must not be able to tell."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.commands import engine, resting
from imap.commands.replies import LOST
from imap.commands.session import State
from imap.wire import Command, LiteralWanted
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.rights import LOOKUP
from tests.imap.fakes import Client, MemoryAccount, MemoryMailbox

SEEN = FlagChange(FlagOp.ADD, FlagSet(System.SEEN, frozenset({"work"})))


def reopened(mailbox: MemoryMailbox) -> MemoryMailbox:
    """As another process finds it: without a memory of what happened."""
    other = MemoryMailbox(mailbox.uidvalidity)
    other.messages, other.uidnext = mailbox.messages, mailbox.uidnext
    other.unclaimed = mailbox.unclaimed
    return other


async def slept(client: Client) -> Client:
    """The same client, served by another process now."""
    packed = resting.pack(client.session)
    assert packed is not None
    account = client.account
    account.mailboxes = {name: reopened(each) for name, each in account.mailboxes.items()}
    other = Client(account)
    other._tags = client._tags
    await resting.unpack(other.session, json.loads(json.dumps(packed)))
    return other


@pytest.fixture
def client() -> Client:
    mailbox = MemoryMailbox()
    for _ in range(5):
        mailbox.add(b"Subject: x\r\n\r\n")
    return Client(MemoryAccount({"INBOX": mailbox}))


async def test_nothing_happened_and_nothing_is_told(client: Client) -> None:
    await client.say(b"SELECT INBOX")
    awake = await slept(client)
    assert await awake.say(b"NOOP") == [b"OK NOOP completed."]
    assert awake.session.selected is not None
    assert awake.session.selected.view.recent == {1, 2, 3, 4, 5}


async def test_what_happened_is_told_when_it_would_have_been(client: Client) -> None:
    await client.say(b"SELECT INBOX")
    mailbox = client.account.mailboxes["INBOX"]
    mailbox.store_flags([2], SEEN)
    packed = await slept(client)  # with something untold already
    mailbox = packed.account.mailboxes["INBOX"]
    mailbox.store_flags([4], SEEN)
    mailbox.expunge([3])
    mailbox.add(b"\r\n")
    awake = await slept(packed)
    told = await awake.say(b"SEARCH UNSEEN")
    told.remove(b"* SEARCH 1 5 6")
    assert told == [
        b"* 6 EXISTS",
        b"* 6 RECENT",
        b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work)",
        b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work \\*)] Flags"
        b" permitted.",
        b"* 2 FETCH (UID 2 FLAGS (\\Seen \\Recent work))",
        b"* 4 FETCH (UID 4 FLAGS (\\Seen \\Recent work))",
        b"OK Search completed.",
    ]
    assert await awake.say(b"NOOP") == [b"* 3 EXPUNGE", b"OK NOOP completed."]


async def test_what_was_enabled_and_saved_stays(client: Client) -> None:
    await client.say(b"ENABLE QRESYNC")
    await client.say(b"SELECT INBOX")
    await client.say(b"SEARCH RETURN (SAVE) UID 2,4")
    awake = await slept(client)
    assert awake.session.enabled == client.session.enabled
    assert (await awake.say(b"SEARCH $"))[0] == b"* SEARCH 2 4"


async def test_unselected(client: Client) -> None:
    awake = await slept(client)
    assert awake.session.state is State.AUTHENTICATED


async def test_examined(client: Client) -> None:
    await client.say(b"EXAMINE INBOX")
    awake = await slept(client)
    told = await awake.say(b"STORE 1 +FLAGS (\\Seen)")
    assert told == [b"OK Store ignored with read-only mailbox."]


async def test_idle_goes_on_without_a_second_plus(client: Client) -> None:
    await client.say(b"SELECT INBOX")
    client.session.idle_tag = "t9"
    awake = await slept(client)
    awake.account.mailboxes["INBOX"].add(b"\r\n")
    awake.host.lines = [None, b"DONE"]
    await engine.run(awake.session, Command("t9", "IDLE"))
    await awake.session.flush()
    told = bytes(awake.host.sent).split(b"\r\n")
    assert told == [b"* 6 EXISTS", b"* 6 RECENT", b"t9 OK Idle completed.", b""]
    assert not awake.session.idle_tag


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("deleted", b"was deleted or replaced"),
        ("replaced", b"was deleted or replaced"),
        ("unreadable", b"cannot be read any more"),
    ],
)
async def test_a_mailbox_that_is_lost_ends_the_session(
    client: Client, change: str, why: bytes
) -> None:
    """With an answer to the command that woke it, like one whose mailbox goes while it is awake."""
    bye = b"* BYE The selected mailbox " + why
    awake = await slept(await lost(client, change))  # and it may have slept again meanwhile
    assert not awake.session.out
    assert await awake.say(b"NOOP") == [bye, b"NO [NONEXISTENT] The mailbox is gone"]
    assert awake.session.state is State.LOGOUT


async def lost(client: Client, change: str, *, idling: bool = False) -> Client:
    """The client awake again, after it slept while its mailbox was lost."""
    await client.say(b"SELECT INBOX")
    client.session.idle_tag = "t9" if idling else ""
    account, mailbox = client.account, client.account.mailboxes["INBOX"]
    packed = resting.pack(client.session)
    assert packed is not None
    match change:
        case "deleted":
            mailbox.deleted = True
        case "replaced":
            account.mailboxes["INBOX"] = MemoryMailbox(uidvalidity=2)
        case _:
            account.rights_on["INBOX"] = LOOKUP
    awake = Client(account)
    await resting.unpack(awake.session, packed)
    assert all(handle.released for handle in awake.host.handles)
    return awake


async def test_a_mailbox_that_is_lost_ends_idle(client: Client) -> None:
    awake = await lost(client, "deleted", idling=True)
    assert awake.session.state is State.LOGOUT
    assert bytes(awake.session.out) == (
        b"* BYE The selected mailbox was deleted or replaced\r\nt9 OK Idle completed.\r\n"
    )


async def test_a_mailbox_that_is_lost_may_be_left_for_another(client: Client) -> None:
    awake = await lost(client, "replaced")
    assert (await awake.say(b"SELECT INBOX"))[-1].startswith(b"OK ")
    assert await awake.say(b"NOOP") == [b"OK NOOP completed."]


async def test_a_message_is_not_taken_by_a_session_that_ends(client: Client) -> None:
    awake = await lost(client, "deleted")
    wanted = LiteralWanted(5, synchronising=True, so_far=Command("t2", "APPEND", b"INBOX "))
    assert await engine.literal_wanted(awake.session, wanted) == LOST
    assert awake.session.state is State.LOGOUT


async def test_nothing_is_packed_in_the_middle_of_something(client: Client) -> None:
    await client.say(b"SELECT INBOX")
    client.session.untagged(b"OK unsaid")
    assert resting.pack(client.session) is None
    client.session.out.clear()
    client.account.mailboxes["INBOX"].add(b"\r\n")
    assert resting.pack(client.session) is not None
    client.session.idle_tag = "a"
    assert resting.pack(client.session) is None, "in IDLE the client is told at once"


# --- the law ----------------------------------------------------------------------------------

_EXISTS = re.compile(rb"\* (\d+) EXISTS")
_EXPUNGE = re.compile(rb"\* (\d+) EXPUNGE")
_FETCH = re.compile(rb"\* (\d+) FETCH \(UID \d+ FLAGS \(([^)]*)\)\)")

steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "expunge", "flag", "unflag", "NOOP", "SEARCH ALL", "sleep"]),
        st.integers(0, 8),
    ),
    max_size=25,
)


class Model:
    """What a client knows: the flags of each message, by its number."""

    def __init__(self) -> None:
        self.flags: list[frozenset[bytes] | None] = []

    def hear(self, lines: list[bytes]) -> None:
        for line in lines:
            if found := _EXISTS.fullmatch(line):
                count = int(found[1])
                assert count >= len(self.flags), "only EXPUNGE takes messages away"
                self.flags += [None] * (count - len(self.flags))
            elif found := _EXPUNGE.fullmatch(line):
                del self.flags[int(found[1]) - 1]
            elif found := _FETCH.fullmatch(line):
                self.flags[int(found[1]) - 1] = frozenset(found[2].split()) - {b"\\Recent"}


@given(steps)
async def test_a_client_knows_all_however_often_it_sleeps(steps: list[tuple[str, int]]) -> None:
    client, model = Client(MemoryAccount({"INBOX": MemoryMailbox()})), Model()
    model.hear(await client.say(b"SELECT INBOX"))

    async def say(command: bytes) -> None:
        model.hear(await client.say(command))
        for number, flags in enumerate(model.flags, 1):
            if flags is None:
                model.hear(await client.say(b"FETCH %d (UID FLAGS)" % number))

    for what, number in steps:
        mailbox = client.account.mailboxes["INBOX"]
        uids = mailbox.uids()
        uid = uids[number % len(uids)] if uids else 0
        match what:
            case "add":
                mailbox.add(b"\r\n")
            case "expunge":
                mailbox.expunge([uid])
            case "flag":
                mailbox.store_flags([uid], SEEN)
            case "unflag":
                mailbox.store_flags([uid], FlagChange(FlagOp.REMOVE, SEEN.flags))
            case "sleep":
                client = await slept(client)
            case _:
                await say(what.encode())
    await say(b"NOOP")
    await say(b"NOOP")
    mailbox = client.account.mailboxes["INBOX"]
    truth = [
        frozenset({b"\\Seen", b"work"}) if mailbox.flags_of(uid) else frozenset[bytes]()
        for uid in mailbox.uids()
    ]
    assert model.flags == truth
