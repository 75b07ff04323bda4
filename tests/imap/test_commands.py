"""Conversations with a session over mailboxes in memory: what each command answers and changes."""

import re
from collections.abc import Callable
from typing import Never

import pytest

from imap.commands.append import BINARY_LIMIT, HELD
from imap.commands.engine import MAX_BAD_COMMANDS
from imap.commands.replies import REFUSALS
from imap.commands.session import State
from imap.commands.table import BEFORE_LOGIN, COMMANDS, capability
from sharefs.errors import Code, SharingError
from sharefs.flags import NAMES, FlagChange, FlagOp, FlagSet, System
from sharefs.rights import Rights
from tests.imap.fakes import Client, MemoryAccount, MemoryMailbox

MAIL = (
    b"From: Alice <alice@example.org>\r\nTo: bob@example.org\r\nSubject: Minutes\r\n"
    b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\nAll agreed.\r\n"
)


def make_client(messages: int = 3) -> Client:
    account = MemoryAccount()
    inbox = account.mailboxes["INBOX"] = MemoryMailbox(uidvalidity=7)
    for _ in range(messages):
        inbox.add(MAIL)
    account.mailboxes["Work"] = MemoryMailbox(uidvalidity=8)
    return Client(account)


async def test_every_known_command_has_a_handler_and_says_bad_to_nonsense() -> None:
    client = make_client()
    await client.say(b"SELECT INBOX")
    for name in sorted(COMMANDS):
        if name in {"LOGOUT", "CLOSE", "UNSELECT", "IDLE"}:
            continue
        reply = (await client.say(name.encode() + b" (\x01"))[-1]
        assert reply.startswith((b"BAD", b"* BAD", b"* BYE")), (name, reply)
        client.session.bad_commands = 0
        if client.session.selected is None:  # SELECT leaves the mailbox even when it fails
            await client.say(b"SELECT INBOX")


@pytest.mark.parametrize("name", sorted(BEFORE_LOGIN))
async def test_login_commands_are_over(name: str) -> None:
    got = await make_client().say(name.encode() + b" a b")
    assert got == [b"BAD You are logged in already."]


@pytest.mark.parametrize(
    "name", sorted(n for n, spec in COMMANDS.items() if State.AUTHENTICATED not in spec.states)
)
async def test_selected_commands_need_a_mailbox(name: str) -> None:
    assert await make_client().say(name.encode() + b" 1") == [b"BAD No mailbox is selected."]


def test_every_refusal_has_an_answer() -> None:
    assert REFUSALS.keys() == set(Code)


async def test_select_tells_everything_rfc3501_asks_for() -> None:
    client = make_client()
    client.account.mailboxes["INBOX"].messages[1].flags = FlagSet(
        System.SEEN, frozenset({"$Label1"})
    )
    assert await client.say(b"SELECT inbox") == [
        rb"* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Label1)",
        rb"* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Label1 \*)]"
        rb" Flags permitted.",
        b"* 3 EXISTS",
        b"* 3 RECENT",
        b"* OK [UNSEEN 2] First unseen.",
        b"* OK [UIDVALIDITY 7] UIDs valid",
        b"* OK [UIDNEXT 4] Predicted next UID",
        b"* OK [MAILBOXID (F00000000000000000000000000000007)] Ok",
        b"* OK [NOMODSEQ] No permanent modification sequences",
        b"OK [READ-WRITE] Select completed.",
    ]


RIGHTS = [  # id, rights, PERMANENTFLAGS, mode
    ("reader", "lr", rb"()", b"READ-ONLY"),
    ("seen", "lrs", rb"(\Seen)", b"READ-WRITE"),
    ("flags", "lrw", rb"(\Answered \Flagged \Draft \*)", b"READ-WRITE"),
    ("deleter", "lrt", rb"(\Deleted)", b"READ-WRITE"),
    ("expunger", "lre", rb"()", b"READ-WRITE"),
    ("poster", "lrp", rb"()", b"READ-ONLY"),
    ("inserter", "lri", rb"()", b"READ-WRITE"),
]


@pytest.mark.parametrize(
    ("letters", "permanent", "mode"), [c[1:] for c in RIGHTS], ids=[c[0] for c in RIGHTS]
)
async def test_permanentflags_and_mode_tell_the_truth(
    letters: str, permanent: bytes, mode: bytes
) -> None:
    client = make_client()
    client.account.rights_on["INBOX"] = Rights(letters)
    got = await client.say(b"SELECT INBOX")
    assert b"* OK [PERMANENTFLAGS " + permanent + b"] Flags permitted." in got
    assert got[-1] == b"OK [" + mode + b"] Select completed."


async def test_examine_changes_nothing_not_even_recent() -> None:
    client = make_client()
    got = await client.say(b"EXAMINE INBOX")
    assert b"* OK [PERMANENTFLAGS ()] Flags permitted." in got
    assert got[-1] == b"OK [READ-ONLY] Examine completed."
    await client.say(b"FETCH 1 BODY[]")
    await client.say(rb"STORE 1 +FLAGS (\Flagged)")
    assert client.account.mailboxes["INBOX"].flags_of(1) == FlagSet()
    assert b"* 3 RECENT" in await client.say(b"SELECT INBOX")


async def test_a_mailbox_that_may_not_be_known_of_is_as_one_that_does_not_exist() -> None:
    client = make_client()
    client.account.rights_on["Work"] = Rights("rw")
    for command in [
        b"SELECT %s", b"EXAMINE %s", b"STATUS %s (MESSAGES)", b"MYRIGHTS %s", b"GETACL %s",
        b"SETACL %s bob lr", b"DELETEACL %s bob", b"LISTRIGHTS %s bob", b"DELETE %s",
        b"RENAME %s x",
    ]:  # fmt: skip
        hidden = await client.say(command % b"Work")
        assert hidden == await client.say(command % b"Nowhere")
        assert hidden[-1].startswith(b"NO [NONEXISTENT] ")


async def test_a_failed_select_leaves_nothing_selected() -> None:
    client = make_client()
    await client.say(b"SELECT INBOX")
    await client.say(b"SELECT Nowhere")
    assert client.session.selected is None
    assert await client.say(b"CHECK") == [b"BAD No mailbox is selected."]


async def test_fetch_answers_in_the_order_asked_and_marks_seen() -> None:
    client = make_client(1)
    await client.say(b"SELECT INBOX")
    got = await client.say(b"FETCH 1 (FLAGS UID RFC822.SIZE INTERNALDATE)")
    assert got[0].startswith(rb"* 1 FETCH (FLAGS (\Recent) UID 1 RFC822.SIZE %d INTERN" % len(MAIL))
    got = await client.say(b"FETCH 1 BODY[TEXT]<0.3>")
    assert got == [
        rb"* 1 FETCH (BODY[TEXT]<0> {3}",
        rb"All FLAGS (\Seen \Recent))",
        b"OK Fetch completed.",
    ]
    assert client.account.mailboxes["INBOX"].flags_of(1).system == System.SEEN
    # Already seen: no FLAGS unasked.
    assert await client.say(b"UID FETCH 1 BODY[TEXT]<0.3>") == [
        b"* 1 FETCH (UID 1 BODY[TEXT]<0> {3}", b"All)", b"OK Fetch completed.",
    ]  # fmt: skip


async def test_peeking_leaves_seen_alone() -> None:
    client = make_client(1)
    await client.say(b"SELECT INBOX")
    await client.say(b"FETCH 1 (BODY.PEEK[] RFC822.HEADER ENVELOPE BODYSTRUCTURE)")
    assert client.account.mailboxes["INBOX"].flags_of(1) == FlagSet()


async def test_without_right_s_reading_marks_nothing() -> None:
    client = make_client(1)
    client.account.rights_on["INBOX"] = Rights("lrwt")
    await client.say(b"SELECT INBOX")
    await client.say(b"FETCH 1 BODY[]")
    assert client.account.mailboxes["INBOX"].flags_of(1) == FlagSet()


async def test_numbers_beyond_the_mailbox_are_bad_but_uids_are_not() -> None:
    client = make_client(3)
    await client.say(b"SELECT INBOX")
    assert (await client.say(b"FETCH 4 FLAGS"))[0].startswith(b"BAD ")
    assert await client.say(b"UID FETCH 9 FLAGS") == [b"OK Fetch completed."]
    assert len(await client.say(b"UID FETCH 9:* FLAGS")) == 2


async def test_another_sessions_expunge_waits_until_it_may_be_told() -> None:
    client = make_client(3)
    await client.say(b"SELECT INBOX")
    client.account.mailboxes["INBOX"].expunge([2])
    got = await client.say(b"FETCH 1:3 UID")
    assert got == [
        b"* 1 FETCH (UID 1)",
        b"* 3 FETCH (UID 3)",
        b"NO [EXPUNGEISSUED] Some of the messages no longer exist.",
    ]
    got = await client.say(b"FETCH 2 FLAGS")
    assert got == [b"NO [EXPUNGEISSUED] Some of the messages no longer exist."]
    assert await client.say(b"SEARCH ALL") == [b"* SEARCH 1 3", b"OK Search completed."]
    assert await client.say(b"NOOP") == [b"* 2 EXPUNGE", b"OK NOOP completed."]


async def test_news_of_others_come_with_uid() -> None:
    client = make_client(1)
    await client.say(b"SELECT INBOX")
    inbox = client.account.mailboxes["INBOX"]
    inbox.messages[1].flags = FlagSet(System.FLAGGED)
    inbox._note("flags", [1])
    inbox.add(MAIL)
    assert await client.say(b"NOOP") == [
        b"* 2 EXISTS", b"* 2 RECENT", rb"* 1 FETCH (UID 1 FLAGS (\Flagged \Recent))",
        b"OK NOOP completed.",
    ]  # fmt: skip


async def test_what_another_session_does_meanwhile_is_not_lost() -> None:
    client = make_client(1)
    await client.say(b"SELECT INBOX")
    inbox = client.account.mailboxes["INBOX"]

    def claim_while_another_session_stores(*, claim: bool) -> frozenset[int]:
        inbox.messages[1].flags = FlagSet(System.FLAGGED)
        inbox._note("flags", [1])
        return frozenset({2})

    inbox.add(MAIL)
    inbox.recent = claim_while_another_session_stores  # type: ignore[method-assign]  # at the await
    got = await client.say(b"NOOP") + await client.say(b"NOOP")
    assert rb"* 1 FETCH (UID 1 FLAGS (\Flagged \Recent))" in got


STORES = [  # id, rights, command, flags before, flags after, want in answer
    ("replace", "lrwst", rb"STORE 1 FLAGS (\Seen kw)", System.FLAGGED, "Seen kw", b"FETCH"),
    ("add", "lrwst", rb"STORE 1 +FLAGS \Seen", System.FLAGGED, "Flagged Seen", b"FETCH"),
    ("remove", "lrwst", rb"STORE 1 -FLAGS (\Flagged)", System.FLAGGED, "", b"FETCH"),
    ("silent", "lrwst", rb"STORE 1 +FLAGS.SILENT (\Seen)", System.NONE, "Seen", b"OK Store"),
    ("only-s", "lrs", rb"STORE 1 +FLAGS (\Seen \Flagged kw)", System.NONE, "Seen", b"FETCH"),
    ("only-t", "lrt", rb"STORE 1 FLAGS (\Deleted)", System.FLAGGED, "Flagged Deleted", b"FETCH"),
    ("no-t", "lrws", rb"STORE 1 +FLAGS (\Deleted)", System.NONE, "", b"OK Store"),
    ("reader", "lr", rb"STORE 1 +FLAGS (\Seen)", System.NONE, "", b"OK Store ignored"),
]


@pytest.mark.parametrize(
    ("letters", "command", "before", "after", "want"),
    [c[1:] for c in STORES],
    ids=[c[0] for c in STORES],
)
async def test_store(letters: str, command: bytes, before: System, after: str, want: bytes) -> None:
    client = make_client(1)
    inbox = client.account.mailboxes["INBOX"]
    inbox.messages[1].flags = FlagSet(before)
    client.account.rights_on["INBOX"] = Rights(letters)
    await client.say(b"SELECT INBOX")
    got = await client.say(command)
    assert want in b"\n".join(got)
    assert got[-1].startswith(b"OK ")
    names = {name[1:] for flag, name in NAMES.items() if flag in inbox.flags_of(1).system}
    assert names | inbox.flags_of(1).keywords == set(after.split())


async def test_what_others_change_while_a_fetch_goes_on_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flags of 1 have gone out when another session changes them; those of 2 are as told."""
    client = make_client()
    await client.say(b"SELECT INBOX")
    mailbox = client.session.current().handle.mailbox
    read = MemoryMailbox.read

    def changed_meanwhile(self: MemoryMailbox, uid: int) -> bytes:
        if uid == 3:
            self.store_flags([1], FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED)))
        return read(self, uid)

    monkeypatch.setattr(MemoryMailbox, "read", changed_meanwhile)
    *got, done = await client.say(b"FETCH 1:3 (FLAGS BODY[])")
    assert done.startswith(b"OK")
    told = [line for line in got if b"FLAGS" in line and b"BODY" not in line]
    assert told == [rb"* 1 FETCH (UID 1 FLAGS (\Flagged \Seen \Recent))"]
    assert mailbox.flags_of(1).system == System.FLAGGED | System.SEEN


async def test_strict_rights_refuse_instead_of_dropping_silently() -> None:
    client = make_client(1)
    client.account.settings.sharefs_strict_rights = True
    client.account.rights_on["INBOX"] = Rights("lrs")
    await client.say(b"SELECT INBOX")
    assert await client.say(rb"STORE 1 +FLAGS (\Deleted)") == [b"NO [NOPERM] Permission denied"]
    assert (await client.say(rb"STORE 1 +FLAGS (\Deleted \Seen)"))[-1] == b"OK Store completed."
    assert await client.say(b"EXPUNGE") == [b"NO [NOPERM] Permission denied"]


async def test_expunge_needs_e_and_tells_numbers_from_above() -> None:
    client = make_client(3)
    inbox = client.account.mailboxes["INBOX"]
    await client.say(b"SELECT INBOX")
    await client.say(rb"STORE 1,3 +FLAGS.SILENT (\Deleted)")
    client.account.rights_on["INBOX"] = Rights("lrt")
    assert await client.say(b"EXPUNGE") == [b"OK Expunge ignored: Permission denied."]
    assert len(inbox.uids()) == 3
    client.account.rights_on["INBOX"] = Rights("lrte")
    assert await client.say(b"UID EXPUNGE 3") == [b"* 3 EXPUNGE", b"OK Expunge completed."]
    assert await client.say(b"EXPUNGE") == [b"* 1 EXPUNGE", b"OK Expunge completed."]


async def test_close_expunges_silently_only_with_e() -> None:
    for letters, left, want in [
        ("lrte", 1, b"OK Close completed."),
        ("lrt", 2, b"OK Closed without expunging: Permission denied."),
    ]:
        client = make_client(2)
        await client.say(b"SELECT INBOX")
        await client.say(rb"STORE 1 +FLAGS.SILENT (\Deleted)")
        client.account.rights_on["INBOX"] = Rights(letters)
        assert await client.say(b"CLOSE") == [want]
        assert len(client.account.mailboxes["INBOX"].uids()) == left


async def test_copy_and_move_answer_with_copyuid() -> None:
    client = make_client(3)
    work = client.account.mailboxes["Work"]
    await client.say(b"SELECT INBOX")
    assert await client.say(b"COPY 1,3 Work") == [b"OK [COPYUID 8 1,3 1,2] Copy completed."]
    assert await client.say(b"UID MOVE 2 Work") == [
        b"* OK [COPYUID 8 2 3] Moved UIDs.", b"* 2 EXPUNGE", b"OK Move completed.",
    ]  # fmt: skip
    assert list(work.uids()) == [1, 2, 3]


async def test_copy_drops_flags_that_the_target_does_not_allow_and_hides_uids() -> None:
    client = make_client(1)
    inbox, work = client.account.mailboxes["INBOX"], client.account.mailboxes["Work"]
    inbox.messages[1].flags = FlagSet(System.SEEN | System.DELETED, frozenset({"kw"}))
    client.account.rights_on["Work"] = Rights("lis")
    await client.say(b"SELECT INBOX")
    assert await client.say(b"COPY 1 Work") == [b"OK Copy completed."]
    assert work.flags_of(1) == FlagSet(System.SEEN)


REFUSED_COPIES: list[tuple[str, bytes, dict[str, str], bytes]] = [
    ("missing-target", b"COPY 1 Nowhere", {}, b"NO [TRYCREATE] "),
    ("hidden-target", b"COPY 1 Work", {"Work": "ri"}, b"NO [TRYCREATE] "),
    ("no-i", b"COPY 1 Work", {"Work": "lr"}, b"NO [NOPERM] "),
    ("post-is-not-insert", b"COPY 1 Work", {"Work": "lrp"}, b"NO [NOPERM] "),
    ("move-without-e", b"MOVE 1 Work", {"INBOX": "lrt"}, b"NO [NOPERM] "),
    ("revoked-read", b"COPY 1 Work", {"INBOX": "l"}, b"NO [NOPERM] "),
]


@pytest.mark.parametrize(
    ("command", "rights", "want"),
    [c[1:] for c in REFUSED_COPIES],
    ids=[c[0] for c in REFUSED_COPIES],
)
async def test_refused_copies_change_nothing(
    command: bytes, rights: dict[str, str], want: bytes
) -> None:
    client = make_client(1)
    await client.say(b"SELECT INBOX")
    client.account.rights_on.update({name: Rights(letters) for name, letters in rights.items()})
    assert (await client.say(command))[-1].startswith(want)
    assert list(client.account.mailboxes["Work"].uids()) == []
    assert list(client.account.mailboxes["INBOX"].uids()) == [1]
    assert sum(handle.released == 0 for handle in client.host.handles) == 1


async def test_append_streams_and_answers_with_appenduid() -> None:
    client = make_client(0)
    got = await client.say(
        rb'APPEND Work (\Seen kw) "17-Jul-1996 02:44:25 -0700" {%d+}' % len(MAIL) + b"\r\n" + MAIL
    )
    assert got == [b"OK [APPENDUID 8 1] Append completed."]
    stored = client.account.mailboxes["Work"].messages[1]
    assert stored.octets == MAIL
    assert stored.flags == FlagSet(System.SEEN, frozenset({"kw"}))
    assert stored.internaldate == 837596665


async def test_multiappend_adds_all_messages_in_one_command() -> None:
    client = make_client(0)
    got = await client.say(
        b"APPEND Work {3+}\r\none (kw \\Seen) {3+}\r\ntwo"
        b' "17-Jul-1996 02:44:25 -0700" {5+}\r\nthree'
    )
    assert got == [b"OK [APPENDUID 8 1:3] Append completed."]
    stored = client.account.mailboxes["Work"].messages
    assert [stored[uid].octets for uid in (1, 2, 3)] == [b"one", b"two", b"three"]
    assert [stored[uid].flags for uid in (1, 2, 3)] == [
        FlagSet(), FlagSet(System.SEEN, frozenset({"kw"})), FlagSet(),
    ]  # fmt: skip
    assert stored[3].internaldate == 837596665
    assert all(handle.released for handle in client.host.handles)


async def test_messages_of_all_kinds_in_one_append_keep_their_order() -> None:
    """Some are held until they are whole, some are written while they come."""
    client = make_client(0)
    long, even = b"l" * (HELD + 1), b"e" * HELD
    texts = [b"one", b"two", long, b"three", even, even, b"four", long]
    literals = [b" {%d+}\r\n%b" % (len(text), text) for text in texts]
    literals[1] = b" {3}\r\ntwo"  # the client waits: it is begun before it comes
    literals[3] = b" ~{5+}\r\nthree"
    literals[6] = b" (\\Seen) ~{4}\r\nfour"
    got = await client.say(b"APPEND Work" + b"".join(literals))
    assert got == [b"OK [APPENDUID 8 1:8] Append completed."]
    stored = client.account.mailboxes["Work"].messages
    assert [stored[uid].octets for uid in range(1, 9)] == texts
    assert [uid for uid in stored if stored[uid].flags == FlagSet(System.SEEN)] == [7]
    assert all(handle.released for handle in client.host.handles)


async def test_small_messages_are_written_many_at_a_time() -> None:
    client = make_client(0)
    await client.say(b"APPEND Work" + b" {3+}\r\nabc" * 50)
    assert len(client.account.mailboxes["Work"].messages) == 50
    assert [handle.runs for handle in client.host.handles] == [1]


@pytest.mark.parametrize("kind", [b"{%d+}", b"{%d}"])
async def test_a_target_that_goes_meanwhile_is_to_be_created(kind: bytes) -> None:
    client = make_client(0)

    def gone() -> Never:
        raise SharingError(Code.NONEXISTENT, "it was deleted")

    client.account.mailboxes["Work"].saver = gone  # type: ignore[method-assign]
    got = await client.say(b"APPEND Work " + kind % 3 + b"\r\nabc")
    assert got[0].startswith(b"NO [TRYCREATE] ")
    assert client.session.appending is None
    assert all(handle.released for handle in client.host.handles)


ENCODED = (
    b"MIME-Version: 1.0\r\nContent-Type: image/png\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nAP8KDQ==\r\n"
)


async def test_binary_tells_octets_without_their_encoding() -> None:
    client = make_client(0)
    inbox = client.account.mailboxes["INBOX"]
    inbox.add(ENCODED)
    inbox.add(ENCODED.replace(b"base64", b"x-none"))
    await client.say(b"SELECT INBOX")
    got = await client.say(b"FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1] BINARY.PEEK[1]<1.2>)")
    assert b"\r\n".join(got) == (
        b"* 1 FETCH (BINARY[1] ~{4}\r\n\0\xff\n\r BINARY.SIZE[1] 4 BINARY[1]<1> ~{2}\r\n\xff\n)"
        b"\r\nOK Fetch completed."
    )
    assert inbox.flags_of(1) == FlagSet()
    got = await client.say(b"FETCH 1:2 BINARY[1]")
    assert got[-1] == b"NO [UNKNOWN-CTE] Unknown Content-Transfer-Encoding."
    assert got[0].startswith(b"* 1 FETCH (BINARY[1] ~{4}")
    assert inbox.flags_of(1).system & System.SEEN
    assert (await client.say(b"FETCH 1 (BINARY[2] BINARY.SIZE[2])"))[0] == (
        b"* 1 FETCH (BINARY[2] NIL BINARY.SIZE[2] 0)"
    )


async def test_previews_and_object_ids() -> None:
    client = make_client(0)
    inbox = client.account.mailboxes["INBOX"]
    for octets, date in ((MAIL, 1_000_000_000), (MAIL, 1_000_000_000), (MAIL, 1_000_000_001)):
        inbox.add(octets, FlagSet(), date)
    await client.say(b"SELECT INBOX")
    got = await client.say(b"FETCH 1 (PREVIEW PREVIEW (LAZY) THREADID)")
    assert got[0] == b'* 1 FETCH (PREVIEW "All agreed." PREVIEW NIL THREADID NIL)'
    got = await client.say(b"FETCH 1:3 EMAILID")
    ids = [re.findall(rb"EMAILID \((E[0-9a-f]{40})\)\)", line)[0] for line in got[:-1]]
    assert ids[0] == ids[1] != ids[2]  # the same immutable facts, and not
    assert await client.say(b"SEARCH EMAILID " + ids[0]) == [
        b"* SEARCH 1 2",
        b"OK Search completed.",
    ]
    assert await client.say(b"SEARCH THREADID T1") == [b"* SEARCH", b"OK Search completed."]
    copied = await client.say(b"COPY 3 Work")
    assert copied[-1].startswith(b"OK [COPYUID")
    await client.say(b"SELECT Work")
    assert ids[2] in (await client.say(b"FETCH 1 EMAILID"))[0]
    assert (await client.say(b"SEARCH THREADID T1!x"))[-1].startswith(b"BAD ")


async def test_status_and_create_tell_the_mailboxid_and_the_size() -> None:
    client = make_client(2)
    got = await client.say(b"STATUS INBOX (SIZE MAILBOXID)")
    mailbox_id = b"(F%032x)" % 7
    assert got[0] == b'* STATUS "INBOX" (SIZE %d MAILBOXID %b)' % (2 * len(MAIL), mailbox_id)
    got = await client.say(b"CREATE New")
    assert re.fullmatch(rb"OK \[MAILBOXID \(F[0-9a-f]{32}\)\] Create completed\.", got[-1])
    client.account.rights_on["Blind"] = Rights("k")
    assert await client.say(b"CREATE Blind") == [b"OK Create completed."]


async def test_literal8_is_stored_so_that_it_comes_back() -> None:
    client = make_client(0)
    sent = ENCODED.replace(b"base64", b"binary").replace(b"AP8KDQ==\r\n", b"\0\xff\n\r\n\r\r")
    two = b"APPEND Work ~{%d+}\r\n%b {3+}\r\nabc" % (len(sent), sent)
    assert await client.say(two) == [b"OK [APPENDUID 8 1:2] Append completed."]
    assert b"\0" not in client.account.mailboxes["Work"].messages[1].octets
    assert client.account.mailboxes["Work"].messages[2].octets == b"abc"
    await client.say(b"SELECT Work")
    got = await client.say(b"FETCH 1 BINARY.PEEK[1]")
    assert b"\r\n".join(got) == (
        b"* 1 FETCH (BINARY[1] ~{7}\r\n\0\xff\n\r\n\r\r)\r\nOK Fetch completed."
    )


async def test_a_literal8_that_is_too_long_is_refused_before_it_comes() -> None:
    client = make_client(0)
    got = await client.say(b"APPEND Work ~{%d}" % (BINARY_LIMIT + 1))
    assert got[-1].startswith(b"NO [TOOBIG] ")
    assert client.session.appending is None


async def test_multiappend_without_the_right_to_read_tells_no_uids() -> None:
    client = make_client(0)
    client.account.rights_on["Work"] = Rights("li")
    got = await client.say(b"APPEND Work {3+}\r\none (\\Seen) {3+}\r\ntwo")
    assert got == [b"OK Append completed."]
    assert client.account.mailboxes["Work"].flags_of(2) == FlagSet()  # nor may it set \Seen


REFUSED_APPENDS: list[tuple[str, bytes, str, bytes]] = [
    ("missing", b"APPEND Nowhere {3+}\r\nabc", "lri", b"NO [TRYCREATE] "),
    ("no-i", b"APPEND Work {3+}\r\nabc", "lr", b"NO [NOPERM] "),
    ("no-literal", b"APPEND Work", "lri", b"BAD "),
    ("bad-date", b'APPEND Work "yesterday" {3+}\r\nabc', "lri", b"BAD "),
    ("no-space-before-second", b"APPEND Work {3+}\r\nabc{3+}\r\nabc", "lri", b"BAD "),
    ("bad-flags-of-second", b"APPEND Work {3+}\r\nabc (\\Odd) {3+}\r\nabc", "lri", b"BAD "),
    ("second-cancelled", b"APPEND Work {3+}\r\nabc {0+}\r\n", "lri", b"NO [CANNOT] "),
    ("rubbish-after-second", b"APPEND Work {3+}\r\nabc {3+}\r\nabc x", "lri", b"BAD "),
    ("nothing", b"APPEND Work {0+}\r\n", "lri", b"NO [CANNOT] "),
    ("literal8-name", b"APPEND ~{4+}\r\nWork {3+}\r\nabc", "lri", b"BAD "),
    ("rubbish-after", b"APPEND Work {3+}\r\nabc rubbish", "lri", b"BAD "),
]


@pytest.mark.parametrize(
    ("command", "letters", "want"),
    [c[1:] for c in REFUSED_APPENDS],
    ids=[c[0] for c in REFUSED_APPENDS],
)
async def test_refused_appends_leave_nothing(command: bytes, letters: str, want: bytes) -> None:
    client = make_client(0)
    client.account.rights_on["Work"] = Rights(letters)
    assert (await client.say(command))[-1].startswith(want)
    assert list(client.account.mailboxes["Work"].uids()) == []
    assert client.session.appending is None
    assert all(handle.released for handle in client.host.handles)
    assert await client.say(b"NOOP") == [b"OK NOOP completed."]


SEARCHES: list[tuple[bytes, list[int]]] = [
    (b"ALL", [1, 2, 3]),
    (b"2:*", [2, 3]),
    (b"UID 1,3", [1, 3]),
    (b"SEEN", [1]),
    (b"UNSEEN", [2, 3]),
    (b"NOT SEEN FLAGGED", [2]),
    (b"OR SEEN FLAGGED", [1, 2]),
    (b"KEYWORD KW", [2]),
    (b"UNKEYWORD kw", [1, 3]),
    (b"RECENT", [1, 2, 3]),
    (b"NEW", [2, 3]),
    (b"OLD", []),
    (b"SUBJECT minu", [1, 2, 3]),
    (b"FROM nobody", []),
    (b"HEADER Subject {0+}\r\n", [1, 2, 3]),
    (b'HEADER X-None ""', []),
    (b"BODY AGREED", [1, 2, 3]),
    (b"TEXT example.org", [1, 2, 3]),
    (b"BODY example.org", []),
    (b"LARGER 10 SMALLER 1000", [1, 2, 3]),
    (b"LARGER 1000", []),
    (b"SINCE 1-Sep-2001", [1, 2, 3]),
    (b"BEFORE 1-Sep-2001", []),
    (b"SENTON 7-Feb-1994", [1, 2, 3]),
    (b"SENTSINCE 8-Feb-1994", []),
    (b"SAVEDATESUPPORTED SAVEDSINCE 1-Jan-2001", [1, 2, 3]),
    (b"OR SAVEDBEFORE 1-Jan-2001 SAVEDON 1-Jan-2002", []),
    (b"CHARSET UTF-8 SUBJECT minutes", [1, 2, 3]),
]


@pytest.mark.parametrize(("keys", "want"), SEARCHES, ids=[s[0].decode() for s in SEARCHES])
async def test_search(keys: bytes, want: list[int]) -> None:
    client = make_client(3)
    inbox = client.account.mailboxes["INBOX"]
    inbox.messages[1].flags = FlagSet(System.SEEN)
    inbox.messages[2].flags = FlagSet(System.FLAGGED, frozenset({"kw"}))
    await client.say(b"SELECT INBOX")
    numbers = b"".join(b" %d" % number for number in want)
    assert await client.say(b"SEARCH " + keys) == [b"* SEARCH" + numbers, b"OK Search completed."]


async def test_search_in_an_unknown_charset_names_the_known_ones() -> None:
    client = make_client()
    await client.say(b"SELECT INBOX")
    got = (await client.say(b"SEARCH CHARSET X-NONE SUBJECT a"))[-1]
    assert got.startswith(b"NO [BADCHARSET (UTF-8 US-ASCII)] ")


LISTS: list[tuple[str, bytes, list[bytes]]] = [
    ("root", b'LIST "" ""', [rb'* LIST (\NoSelect) "/" ""']),
    ("all", b'LIST "" *', [
        rb'* LIST (\HasNoChildren) "/" "INBOX"', rb'* LIST (\HasChildren) "/" "Work"',
        rb'* LIST (\HasNoChildren) "/" "Work/Caf&AOk-"',
    ]),
    ("percent", b'LIST "" %', [
        rb'* LIST (\HasNoChildren) "/" "INBOX"', rb'* LIST (\HasChildren) "/" "Work"',
    ]),
    ("bad-utf7", b'LIST "" &', []),
    ("status", b'LIST "" INBOX RETURN (STATUS (MESSAGES UNSEEN))', [
        rb'* LIST (\HasNoChildren) "/" "INBOX"', b'* STATUS "INBOX" (MESSAGES 3 UNSEEN 3)',
    ]),
    ("myrights", b'LIST "" INBOX RETURN (MYRIGHTS)', [
        rb'* LIST (\HasNoChildren) "/" "INBOX"', b'* MYRIGHTS "INBOX" lrwstipekxacd',
    ]),
    ("subscribed", b'LIST (SUBSCRIBED) "" *', [
        rb'* LIST (\HasNoChildren \Subscribed) "/" "Work/Caf&AOk-"',
    ]),
    ("recursive", b'LIST (SUBSCRIBED RECURSIVEMATCH) "" %', [
        rb'* LIST (\HasChildren) "/" "Work" ("CHILDINFO" ("SUBSCRIBED"))',
    ]),
    ("return-subscribed", b'LIST "" Work* RETURN (SUBSCRIBED)', [
        rb'* LIST (\HasChildren) "/" "Work"',
        rb'* LIST (\HasNoChildren \Subscribed) "/" "Work/Caf&AOk-"',
    ]),
    ("lsub-all", b'LSUB "" *', [rb'* LSUB () "/" "Work/Caf&AOk-"']),
    ("lsub-percent", b'LSUB "" %', [rb'* LSUB (\NoSelect) "/" "Work"']),
]  # fmt: skip


@pytest.mark.parametrize(("command", "want"), [c[1:] for c in LISTS], ids=[c[0] for c in LISTS])
async def test_list(command: bytes, want: list[bytes]) -> None:
    client = make_client()
    client.account.mailboxes["Work/Café"] = MemoryMailbox()
    client.account.subscribed = {"Work/Café"}
    got = await client.say(command)
    assert got[:-1] == want
    assert got[-1].startswith(b"OK ")


async def test_status_of_a_mailbox_without_r_fails_but_not_a_listing() -> None:
    client = make_client()
    client.account.rights_on["Work"] = Rights("l")
    assert (await client.say(b"STATUS Work (MESSAGES)"))[-1].startswith(b"NO [NOPERM]")
    got = await client.say(b'LIST "" Work RETURN (STATUS (MESSAGES))')
    assert got == [rb'* LIST (\HasNoChildren) "/" "Work"', b"OK List completed."]


async def test_namespace_hides_what_is_hidden() -> None:
    assert await make_client().say(b"NAMESPACE") == [
        b'* NAMESPACE (("" "/")) NIL (("Public/" "/"))', b"OK Namespace completed.",
    ]  # fmt: skip


async def test_the_tree_of_mailboxes() -> None:
    client = make_client()
    for command in (b"CREATE New/", b"RENAME New Newer", b"SUBSCRIBE Newer", b"UNSUBSCRIBE Newer"):
        assert (await client.say(command))[-1].startswith(b"OK ")
    assert "Newer" in client.account.mailboxes
    assert (await client.say(b"CREATE Newer"))[-1].startswith(b"NO [ALREADYEXISTS] ")
    await client.say(b"SELECT Newer")
    assert (await client.say(b"DELETE Newer"))[-1] == b"OK Delete completed."
    assert client.session.selected is None


async def test_a_refused_delete_leaves_the_mailbox_selected() -> None:
    client = make_client()
    await client.say(b"SELECT Work")
    client.account.rights_on["Work"] = Rights("lr")
    assert (await client.say(b"DELETE Work"))[-1].startswith(b"NO [NOPERM] ")
    assert client.session.selected is not None
    assert (await client.say(b"CHECK")) == [b"OK Check completed."]


@pytest.mark.parametrize(
    ("renamed", "selected", "left"),
    [("Work", "Work", True), ("Work", "INBOX", False), ("INBOX", "INBOX", False)],
)
async def test_renaming_the_selected_mailbox_leaves_it(
    renamed: str, selected: str, left: bool
) -> None:
    client = make_client()
    await client.say(f"SELECT {selected}".encode())
    assert (await client.say(f"RENAME {renamed} New".encode()))[-1] == b"OK Rename completed."
    assert (client.session.selected is None) is left
    assert client.session.state is (State.AUTHENTICATED if left else State.SELECTED)


async def test_a_mailbox_deleted_by_another_ends_the_session_politely() -> None:
    client = make_client()
    await client.say(b"SELECT Work")
    client.account.mailboxes["Work"].deleted = True
    got = await client.say(b"NOOP")
    assert got == [b"* BYE The selected mailbox was deleted or replaced", b"OK NOOP completed."]
    assert client.session.state is State.LOGOUT


@pytest.mark.parametrize("command", [b"SEARCH UNSEEN", rb"STORE 1 +FLAGS (\Seen)", b"EXPUNGE"])
async def test_a_command_on_a_mailbox_that_has_just_gone(command: bytes) -> None:
    client = make_client()
    await client.say(b"SELECT INBOX")
    client.account.mailboxes["INBOX"].deleted = True
    got = await client.say(command)
    assert b"* BYE The selected mailbox was deleted or replaced" in got
    assert got[-1].startswith(b"NO ")
    assert [handle.released for handle in client.host.handles] == [1]


async def test_acl_conversation() -> None:
    client = make_client()
    say = client.say
    assert await say(b"SETACL Work bob rl") == [b"OK Setacl complete."]
    assert await say(b"SETACL Work bob +s") == [b"OK Setacl complete."]
    assert await say(b"SETACL Work -bob l") == [b"OK Setacl complete."]
    assert (await say(b"GETACL Work"))[0] == b'* ACL "Work" bob lrs -bob l'
    assert await say(b"DELETEACL Work -bob") == [b"OK Deleteacl complete."]
    assert (await say(b"GETACL Work"))[0] == b'* ACL "Work" bob lrs'
    assert (await say(b"LISTRIGHTS Work bob"))[0] == (
        b'* LISTRIGHTS "Work" bob "" l r w s t p i e k x a c d'
    )
    assert (await say(b"SETACL Work bob Q"))[-1].startswith(b"BAD ")
    assert (await say(b"SETACL Work #bob l"))[-1].startswith(b"NO ")
    # Not allowed by configuration: as Dovecot, an identifier that does not exist here.
    assert (await say(b"SETACL Work anyone l"))[-1].startswith(b"BAD The identifier anyone ")


async def test_idle_tells_news_until_done() -> None:
    client = make_client(1)
    await client.say(b"SELECT INBOX")
    inbox = client.account.mailboxes["INBOX"]
    happenings: list[Callable[[], object]] = [
        lambda: inbox.add(MAIL), lambda: inbox.expunge([1]), lambda: None,
    ]  # fmt: skip
    client.host.on_wait = lambda: (happenings.pop(0)(), None)[1]
    client.host.lines = [None, None, b"done"]
    assert await client.say(b"IDLE") == [
        b"+ idling", b"* 2 EXISTS", b"* 2 RECENT", b"* 1 EXPUNGE", b"OK Idle completed.",
    ]  # fmt: skip


async def test_idle_without_done_is_bad() -> None:
    client = make_client(1)
    client.host.lines = [b"NOOP"]
    assert (await client.say(b"IDLE"))[-1] == b"BAD Expected DONE."


async def test_id_enable_capability_logout() -> None:
    client = make_client()
    assert (await client.say(b'ID ("name" "mutt" "x" NIL)'))[0].startswith(
        b'* ID ("name" "sharefs"'
    )
    assert client.session.client_id[b"name"] == b"mutt"
    assert await client.say(b"ENABLE X-NONE") == [b"* ENABLED", b"OK Enabled."]
    assert (await client.say(b"CAPABILITY"))[0] == b"* CAPABILITY " + capability(
        acl_enabled=True, indexed=True
    )
    assert await client.say(b"LOGOUT") == [b"* BYE Logging out", b"OK Logout completed."]
    assert client.session.state is State.LOGOUT


async def test_nonsense_is_tolerated_only_so_long() -> None:
    client = make_client()
    for _ in range(MAX_BAD_COMMANDS - 1):
        assert await client.say(b"XYZZY") == [b"BAD Unknown command."]
    assert b"* BYE Too many invalid commands." in await client.say(b"XYZZY")
    assert client.session.state is State.LOGOUT


async def test_without_acls_none_of_their_commands_exists() -> None:
    client = make_client()
    client.account.settings.acl_enabled = False
    for name, spec in COMMANDS.items():
        if spec.acl:
            assert await client.say(name.encode() + b" INBOX") == [b"BAD Unknown command."]
    assert b"ACL" not in capability(acl_enabled=False, indexed=True)


async def test_deleting_what_is_selected_under_another_name_leaves_it() -> None:
    client = make_client()
    client.account.mailboxes["alias/Work"] = client.account.mailboxes["Work"]
    await client.say(b"SELECT Work")
    assert await client.say(b"DELETE alias/Work") == [b"OK Delete completed."]
    assert client.session.selected is None
    assert client.session.state is State.AUTHENTICATED


async def test_compress() -> None:
    client = make_client(0)
    assert (await client.say(b"COMPRESS GZIP")) == [b"BAD Unknown compression mechanism."]
    assert not client.host.compressed
    assert (await client.say(b"compress deflate")) == [b"OK Compression begins."]
    assert client.host.compressed
    got = await client.say(b"COMPRESS DEFLATE")
    assert got == [b"NO [COMPRESSIONACTIVE] Compression is active."]


def test_compression_is_told_only_where_it_is_offered() -> None:
    assert b"COMPRESS=DEFLATE" in capability(acl_enabled=True, indexed=True)
    assert b"COMPRESS" not in capability(acl_enabled=True, indexed=True, compress=False)
