"""The worker's memory of open mailboxes: what repeated questions touch, and who holds what."""

import errno
import math
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from benchmarks.mail import make_maildir
from imap.commands import session as session_module
from imap.commands.session import Session
from imap.service import connection as connection_module
from imap.service import shared_handle
from imap.service.connection import Connection
from imap.service.mailboxes import MailboxPool
from imap.service.pace import Pace
from imap.service.recall import Recall
from imap.service.stream import ClientStream
from imap.service.watcher import Watcher
from imap.wire import CommandReader, Limits
from sharefs import fsops
from sharefs.account import Account
from sharefs.account.context import Context, Target
from sharefs.config import load
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser
from sharefs.index import MailboxIndex
from sharefs.store.maildir import keeping
from sharefs.store.maildir.picture import Picture
from sharefs.store.stamps import Stamps
from tests.imap.fakes import MemoryMailbox

COUNT = 40


class NoHomes(HomeLookup):
    def home_of(self, name: str) -> Path | None:
        return None

    def exists(self, name: str) -> bool:
        return False


class Calls:
    """Names of audit events, while recording.  An audit hook stays for good, hence one for all."""

    def __init__(self) -> None:
        self.recording = False
        self.seen: list[tuple[str, object]] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.recording and event in ("os.listdir", "os.scandir", "open"):
            self.seen.append((event, arguments[0] if arguments else None))


CALLS = Calls()


@pytest.fixture
def calls() -> Iterator[Calls]:
    CALLS.seen.clear()
    yield CALLS
    CALLS.recording = False


@pytest.fixture
async def pool() -> AsyncIterator[MailboxPool]:
    watcher = Watcher()
    opened = MailboxPool(watcher, keep_idle=2)
    yield opened
    opened.close()
    watcher.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("", ".Work", ".Empty"):
        count = 0 if name == ".Empty" else COUNT
        make_maildir(tmp_path / "Maildir" / name, count, uid=-1, gid=-1)
    return tmp_path


class Client:
    """The other end of a connection.  ask() returns the lines of an answer."""

    def __init__(self, stream: trio.SocketStream, server: ClientStream) -> None:
        self._stream = stream
        self.server = server  # the other end

    async def send(self, octets: bytes) -> None:
        await self._stream.send_all(octets)

    async def ask(self, command: str) -> list[str]:
        await self.send(f"t {command}\r\n".encode())
        answer = b""
        while not any(line.startswith(b"t ") for line in answer.split(b"\r\n")[:-1]):
            answer += await self._stream.receive_some()
        return answer.decode().split("\r\n")[:-1]

    async def line(self) -> str:
        return (await self._stream.receive_some()).decode().removesuffix("\r\n")


@asynccontextmanager
async def connected(
    pool: MailboxPool, home: Path, acl: str = "", index: str = "no"
) -> AsyncIterator[Client]:
    config = load(
        text=f"""
dovecot_config_version = 2.4.0
first_valid_uid = 0
mail_driver = maildir
mail_path = ~/Maildir
mail_fsync = never
sharefs_index = {index}
sharefs_index_path = {home}/index
acl_driver = {acl}
namespace inbox {{
  inbox = yes
  separator = /
}}
"""
    )
    user = MailUser(
        name="alice", uid=0, gid=0, home=home, groups=(), acl_user="alice", fields={}, master=None,
        acl_groups=frozenset(), anonymous=False,
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    stream = ClientStream(ours, write_timeout=60)
    connection = Connection(stream, CommandReader(Limits()), pool)
    session = Session(Account.open(config, user, NoHomes()), connection, b"IMAP4rev1")
    async with trio.open_nursery() as nursery, stream:
        nursery.start_soon(connection.run, session)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as client_stream:
            client = Client(client_stream, stream)
            yield client
            await client.ask("LOGOUT")
        session.unselect()


async def test_a_client_may_be_silent_for_half_an_hour_but_in_idle(
    home: Path, pool: MailboxPool
) -> None:
    async with connected(pool, home) as client:
        await client.ask("NOOP")
        server = client.server
        assert server.patient_until == server.active + connection_module.INACTIVITY >= 1800
        await client.send(b"i IDLE\r\n")
        assert await client.line() == "+ idling"
        assert server.patient_until == math.inf
        await client.send(b"DONE\r\n")
        assert (await client.line()).startswith("i OK")
        await client.ask("NOOP")
        assert server.patient_until == server.active + connection_module.INACTIVITY


QUIET = {
    "NOOP": "NOOP",
    "CHECK": "CHECK",
    "SELECT again": "SELECT INBOX",
    "EXAMINE again": "EXAMINE INBOX",
    "STATUS of the selected": "STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)",
    "STATUS of another": "STATUS Work (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)",
    "STATUS of an empty one": "STATUS Empty (MESSAGES UNSEEN)",
}


@pytest.mark.parametrize("command", QUIET.values(), ids=QUIET)
@pytest.mark.parametrize("acl", ["", "vfile"], ids=["no-acl", "acl"])
@pytest.mark.parametrize("index", ["no", "yes"], ids=["no-index", "index"])
async def test_an_unchanged_mailbox_is_not_listed(
    command: str,
    acl: str,
    index: str,
    home: Path,
    pool: MailboxPool,
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No directory is listed, nothing but ACL files is opened, and no thread is asked."""
    async with connected(pool, home, acl, index) as client:
        await client.ask("SELECT INBOX")
        before = await client.ask(command)
        while not _settled(home, pool):
            await trio.sleep(0.02)
            before = await client.ask(command)

        def no_thread(*args: object) -> None:
            raise AssertionError(f"a thread was asked for {args}")

        monkeypatch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
        calls.recording = True
        for _ in range(3):
            assert await client.ask(command) == before
        calls.recording = False
        touched = [
            (event, path) for event, path in calls.seen if not str(path).endswith("dovecot-acl")
        ]
        assert touched == []


@pytest.mark.parametrize(
    "command", ["NOOP", "SELECT INBOX", "SEARCH UNSEEN", "SORT (DATE) UTF-8 1"]
)
async def test_a_command_looks_at_its_mailbox_once(
    home: Path, pool: MailboxPool, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """What it has found at its beginning it need not look for at its end."""
    looks = 0
    look = Picture.looks_unchanged

    def counting(picture: Picture) -> bool:
        nonlocal looks
        looks += 1
        return look(picture)

    async with connected(pool, home) as client:
        while not _settled(home, pool):
            await client.ask("SELECT INBOX")
        await client.ask(command)
        monkeypatch.setattr(Picture, "looks_unchanged", counting)
        monkeypatch.setattr(session_module, "LOOK_LASTS", 60.0)
        await client.ask(command)
        assert looks == 1
        make_maildir(home / "Other", 1, uid=-1, gid=-1, seed=99)
        (message,) = (home / "Other/cur").iterdir()
        message.rename(home / "Maildir/cur/new.message:2,S")
        assert f"* {COUNT + 1} EXISTS" in await client.ask("NOOP")  # each command looks itself


@pytest.mark.parametrize(
    "command", ["STORE 1 +FLAGS (\\Flagged)", "FETCH 1 BODY[]", "FETCH 1:5 (FLAGS)"]
)
async def test_a_command_asks_for_rights_once(
    home: Path, pool: MailboxPool, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """And the next one asks again, for they may be taken away at any time."""
    asked: list[str] = []
    target = Context.target

    def counting(context: Context, name: str) -> Target:
        asked.append(name)
        return target(context, name)

    async with connected(pool, home, acl="vfile") as client:
        await client.ask("SELECT INBOX")
        monkeypatch.setattr(Context, "target", counting)
        monkeypatch.setattr(session_module, "LOOK_LASTS", 60.0)
        for number in (1, 2):
            answer = await client.ask(command)
            assert "OK" in answer[-1]
            assert asked == ["INBOX"] * number
        acl = home / "Maildir/dovecot-acl"
        acl.write_text("owner l\n")
        answer = await client.ask(command)
        assert "NOPERM" in answer[-1]


def _settled(home: Path, pool: MailboxPool) -> bool:
    opened = list(pool._opened.values())
    return bool(opened) and all(one.mailbox.looks_unchanged() for one in opened)


@pytest.mark.parametrize("command", ["SORT (SUBJECT) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL"])
async def test_few_messages_are_put_in_order_without_a_thread(
    home: Path, pool: MailboxPool, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def no_thread(*args: object) -> None:
        raise AssertionError(f"a thread was asked for {args}")

    async with connected(pool, home, index="yes") as client:
        await client.ask("SELECT INBOX")
        while any(opened.settles_in() is not None for opened in pool._opened.values()):
            await client.ask("NOOP")
        before = await client.ask(command)
        for opened in pool._opened.values():
            index = opened.index()
            assert index is not None
            assert index.catch_up()
        assert await client.ask(command) == before
        monkeypatch.setattr(Pace, "is_quick", lambda *_: True)
        monkeypatch.setattr(shared_handle, "in_thread", no_thread)
        assert await client.ask(command) == before
        monkeypatch.undo()


async def test_what_is_indexed_is_not_looked_at_again(
    home: Path, pool: MailboxPool, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices: list[float] = []
    catch_up = MailboxIndex.catch_up

    def counting(index: MailboxIndex, budget: float | None = None) -> bool:
        slices.append(time.monotonic())
        return catch_up(index, budget)

    monkeypatch.setattr(MailboxIndex, "catch_up", counting)
    nursery.start_soon(pool.indexer.run)
    question = "FETCH 1:5 (ENVELOPE RFC822.SIZE)"
    flagged = ("STORE 2 +FLAGS (\\Flagged)", "STORE 2 -FLAGS (\\Flagged)")
    async with connected(pool, home, index="yes") as client:
        await client.ask("SELECT INBOX")
        for news in (question, "APPEND INBOX {11+}\r\nSubject: x\n"):
            before = len(slices)
            await client.ask(news)
            while len(slices) == before or not pool.indexer.is_idle:
                await client.ask("NOOP")
            before = len(slices)
            for command in (question, "SEARCH SUBJECT budget", *flagged, question, "NOOP"):
                await client.ask(command)
                assert pool.indexer.is_idle, command
            assert len(slices) == before
    nursery.cancel_scope.cancel()


async def test_a_new_process_selects_without_opening_the_index(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(acts: Callable[[Client, MailboxPool], Awaitable[None]]) -> list[str]:
        watcher = Watcher()
        pool = MailboxPool(watcher, keep_idle=2)
        async with connected(pool, home, index="yes") as client:
            lines = await client.ask("SELECT INBOX")
            await acts(client, pool)
        pool.close()
        watcher.close()
        return [line for line in lines if "HIGHESTMODSEQ" in line]

    async def settle(client: Client, pool: MailboxPool) -> None:
        for opened in pool._opened.values():
            while opened.settles_in() is not None:
                await client.ask("NOOP")
            opened.put_away()

    async def mark(client: Client, pool: MailboxPool) -> None:
        await client.ask("ENABLE CONDSTORE")
        (answer, *_) = await client.ask("STORE 1 +FLAGS (\\Flagged)")
        assert "MODSEQ" in answer  # by the index, which is opened for it

    monkeypatch.setattr(keeping, "WORTH", 0)
    made = await told(settle)
    with monkeypatch.context() as patched:

        def refuse(*args: object, **options: object) -> None:
            raise AssertionError("the index was opened")

        patched.setattr(MailboxIndex, "open", refuse)
        assert await told(settle) == made
    assert await told(mark) == made
    assert await told(settle) > made


async def test_a_changed_mailbox_is_listed(home: Path, pool: MailboxPool, calls: Calls) -> None:
    """The counter counts: otherwise the test above could not fail."""
    async with connected(pool, home) as client:
        await client.ask("SELECT INBOX")
        (home / "Maildir" / "new" / "1900000000.M1P1.other").write_bytes(b"Subject: x\n\n\n")
        calls.recording = True
        answer = await client.ask("NOOP")
        calls.recording = False
        assert f"* {COUNT + 1} EXISTS" in answer
        assert [event for event, _ in calls.seen if event == "os.listdir"]


class Gone(MemoryMailbox):
    """A mailbox that takes a while to be looked at, which is when others do something."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.closed = False
        self._meanwhile = meanwhile
        self._token = trio.lowlevel.current_trio_token()

    def looks_unchanged(self) -> bool:
        return False

    def sync(self) -> bool:
        trio.from_thread.run_sync(self._meanwhile, trio_token=self._token)
        return super().sync()

    def close(self) -> None:
        self.closed = True


async def test_a_mailbox_being_looked_at_is_not_put_away(pool: MailboxPool) -> None:
    """It is idle when it is asked for, and many others become idle before it is handed out."""

    def crowd() -> None:
        for number in range(5):
            pool.leave(others[number])

    mailbox = Gone(crowd)
    (await pool.open("it", lambda: mailbox)).release()
    handles = [await pool.open(number, MemoryMailbox) for number in range(5)]
    others = [pool._opened[number] for number in range(5)]
    handle = await pool.open("it", MemoryMailbox)
    assert handle.mailbox is mailbox
    assert not mailbox.closed
    handle.release()
    del handles


async def test_a_mailbox_that_is_gone_is_left_again(pool: MailboxPool) -> None:
    first = Gone(lambda: None)
    (await pool.open("it", lambda: first)).release()
    first.deleted = True
    handle = await pool.open("it", MemoryMailbox)
    assert handle.mailbox is not first
    assert first.closed
    handle.release()
    assert not pool._opening


async def test_a_refusal_leaves_nothing_behind(pool: MailboxPool) -> None:
    def refuse() -> MemoryMailbox:
        raise PermissionError("no")

    for _ in range(2):
        with pytest.raises(PermissionError):
            await pool.open("it", refuse)
    assert not pool._opening
    assert not pool._opened


STATUS = "(MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)"


async def test_status_of_many_is_told_from_memory(
    home: Path, pool: MailboxPool, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of mailboxes that are closed again, for only two are kept open here."""
    names = [f"Many{number}" for number in range(6)]
    for name in names:
        make_maildir(home / "Maildir" / f".{name}", 3, uid=-1, gid=-1)
    async with connected(pool, home) as client:
        want = [await client.ask(f"STATUS {name} {STATUS}") for name in names]
        while len(pool.recall._known) < len(names):  # not before their last change is over
            await trio.sleep(0.02)
            want = [await client.ask(f"STATUS {name} {STATUS}") for name in names]
        assert len(pool._opened) == 2

        def no_thread(*args: object) -> None:
            raise AssertionError(f"a thread was asked for {args}")

        with monkeypatch.context() as patch:
            patch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
            calls.recording = True
            assert [await client.ask(f"STATUS {name} {STATUS}") for name in names] == want
            calls.recording = False
        assert [event for event, _ in calls.seen if event != "open"] == []
        assert f'* STATUS "Many0" {STATUS}'.split("(")[0] in want[0][0]
    # Another session has yet to find out where they are, but opens none either.
    async with connected(pool, home) as client:
        opened = pool._orders
        assert [await client.ask(f"STATUS {name} {STATUS}") for name in names] == want
        assert pool._orders == opened


CHANGES: dict[str, Callable[[Path], object]] = {
    "a delivery": lambda box: (box / "new" / "1900000000.M1P1.x").write_bytes(b"Subject: x\n\n"),
    "a flag": lambda box: _only(box).rename(_only(box).with_name("1.M1P1.x:2,F")),
    "a removal": lambda box: _only(box).unlink(),
    "a new list": lambda box: (box / "dovecot-uidlist").unlink(),
}


def _only(box: Path) -> Path:
    return next((box / "cur").iterdir())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_changed_mailbox_is_not_told_from_memory(
    change: Callable[[Path], object], home: Path, pool: MailboxPool
) -> None:
    box = home / "Maildir" / ".One"
    make_maildir(box, 1, uid=-1, gid=-1)
    async with connected(pool, home) as client:
        before = await client.ask(f"STATUS One {STATUS}")
        while not pool.recall._known:
            await trio.sleep(0.02)
            assert await client.ask(f"STATUS One {STATUS}") == before
        for name in ("Work", "Empty", "INBOX"):  # so that it is closed
            await client.ask(f"STATUS {name} {STATUS}")
        change(box)
        assert await client.ask(f"STATUS One {STATUS}") != before


async def test_memory_is_bounded() -> None:
    class Settled(MemoryMailbox):
        def memento(self) -> Stamps:
            return Stamps([])

    recall = Recall(limit=3)
    for number in range(5):
        recall.remember(number, Settled(), {"MESSAGES": number})
        recall.recall(1)
    assert [key for key in range(5) if recall.recall(key)] == [1, 3, 4]
    recall.remember(1, MemoryMailbox(), {"MESSAGES": 9})  # it has just changed
    assert recall.recall(1) == {}


async def test_a_target_that_was_made_anew_gets_the_message(home: Path, pool: MailboxPool) -> None:
    """An open mailbox is used for APPEND without a look at its messages, but not a dead one."""
    work = home / "Maildir" / ".Work"
    message = "{3+}\r\na\r\n"
    async with connected(pool, home) as client:
        assert "APPENDUID" in (await client.ask(f"APPEND Work {message}"))[-1]
        assert f" {COUNT + 2}]" in (await client.ask(f"APPEND Work {message}"))[-1]
        shutil.rmtree(work)
        make_maildir(work, 0, uid=-1, gid=-1)
        assert " 1]" in (await client.ask(f"APPEND Work {message}"))[-1]
        assert len(list((work / "new").iterdir())) == 1


async def test_what_cannot_be_written_is_not_acknowledged(
    home: Path, pool: MailboxPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with connected(pool, home) as client:
        with monkeypatch.context() as patch:
            patch.setattr(fsops, "write_all", full)
            refused = await client.ask("APPEND Work {3+}\r\na\r\n")
            assert refused[-1].startswith("t NO [OVERQUOTA]")
            two = await client.ask("APPEND Work {3+}\r\na\r\n {3+}\r\nb\r\n")
            assert two[-1].startswith("t NO [OVERQUOTA]")
        assert not list((home / "Maildir" / ".Work" / "tmp").iterdir())
        assert "APPENDUID" in (await client.ask("APPEND Work {3+}\r\na\r\n"))[-1]


async def test_a_thousand_commands_at_once_leave_others_their_turn(
    pool: MailboxPool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "TURN", 0.0)
    turns = 0

    async def live() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with connected(pool, home) as client, trio.open_nursery() as nursery:
        await client.send(b"x NOOP\r\n" * 1000)
        nursery.start_soon(live)
        await client.ask("NOOP")
        nursery.cancel_scope.cancel()
    assert turns >= 1000
