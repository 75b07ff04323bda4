"""What a worker keeps for the next one: when, and that the next one tells nothing but the truth."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from imap.service.keeping import EVERY, QUIET, TRIES, Keeper
from sharefs.errors import Code, SharingError
from sharefs.store.maildir.kept import FILE_NAME
from tests.service.clients import Talk, logged_in
from tests.service.indexed import UID, file_of, user_with_mail
from tests.service.indexed import server as server
from tests.service.test_index_truth import deliver, kill_worker, told, truth_of, worker
from tests.support.dovecot import MailUser
from tests.support.server import Server, wait_until

# --- when ------------------------------------------------------------------------------------


class Box:
    """A mailbox that settles after some looks; notes when it was put away."""

    def __init__(self, looks: int = 0) -> None:
        self.lock = trio.Lock()
        self.looks = looks
        self.kept: list[float] = []
        self.hints = 0
        self.broken = False

    def hold(self) -> bool:
        return True

    def leave(self) -> None: ...

    def settles_in(self) -> float | None:
        return 0.1 if self.looks else None

    def sync(self) -> bool:
        if self.broken:
            raise SharingError(Code.NONEXISTENT, "gone")
        self.looks -= 1
        return True

    def put_away(self) -> None:
        self.kept.append(trio.current_time())

    def hint(self) -> None:
        self.hints += 1


@pytest.fixture
async def keeper(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> Keeper:
    async def at_once(function: Callable[[], object]) -> object:
        await trio.lowlevel.checkpoint()
        return function()

    started = Keeper(at_once)
    nursery.start_soon(started.run)
    await trio.testing.wait_all_tasks_blocked()
    return started


async def test_now_and_then_while_it_is_used(
    keeper: Keeper, autojump_clock: trio.abc.Clock
) -> None:
    box, began = Box(), trio.current_time()
    while trio.current_time() < began + 2.5 * EVERY:
        keeper.want(box)
        await trio.sleep(1)
    assert box.kept == pytest.approx([began + EVERY, began + 2 * EVERY], abs=2)


async def test_soon_after_it_was_left(keeper: Keeper, autojump_clock: trio.abc.Clock) -> None:
    box, began = Box(), trio.current_time()
    keeper.want(box)
    keeper.want_soon(box)
    await trio.sleep(EVERY)
    assert box.kept == pytest.approx([began + QUIET], abs=0.1)
    keeper.want_soon(box)  # left without having been used
    await trio.sleep(2 * EVERY)
    assert len(box.kept) == 1


async def test_not_before_it_has_settled(keeper: Keeper, autojump_clock: trio.abc.Clock) -> None:
    box, began = Box(looks=3), trio.current_time()
    keeper.want(box)
    keeper.want_soon(box)
    await trio.sleep(EVERY)
    assert box.kept == pytest.approx([began + 3 * QUIET], abs=0.2)
    assert box.hints == 3


async def test_what_never_settles_is_given_up(
    keeper: Keeper, autojump_clock: trio.abc.Clock
) -> None:
    box = Box(looks=1000)
    keeper.want(box)
    await trio.sleep(10 * EVERY)
    assert box.kept == []
    assert box.looks == 1000 - TRIES - 1


async def test_one_that_is_gone_does_not_end_it(
    keeper: Keeper, autojump_clock: trio.abc.Clock
) -> None:
    gone, other = Box(looks=1), Box()
    gone.broken = True
    keeper.want(gone)
    keeper.want(other)
    await trio.sleep(2 * EVERY)
    assert gone.kept == []
    assert len(other.kept) == 1


async def test_what_is_forgotten_is_not_looked_at(
    keeper: Keeper, autojump_clock: trio.abc.Clock
) -> None:
    box = Box()
    keeper.want(box)
    assert keeper.forget(box)
    assert not keeper.forget(box)
    await trio.sleep(2 * EVERY)
    assert box.kept == []


# --- through the whole server ----------------------------------------------------------------

COUNT = 260


@pytest.fixture
def user(open_tmp: Path) -> MailUser:
    return user_with_mail(open_tmp, COUNT)


def kept_at(user: MailUser) -> Path:
    return file_of(user).with_name(FILE_NAME)


def selected(client: Talk) -> dict[str, bytes]:
    """What SELECT says, by its kind."""
    lines = client.ask(b"s SELECT INBOX")
    assert lines[-1].startswith(b"s OK"), lines
    codes = re.findall(rb"\[(UNSEEN|UIDNEXT|UIDVALIDITY|HIGHESTMODSEQ|MAILBOXID) ([^\]]*)\]",
                       b"".join(lines))  # fmt: skip
    counts = re.findall(rb"\* (\d+) (EXISTS|RECENT)", b"".join(lines))
    flags = [line for line in lines if b"FLAGS" in line]
    return {
        **{name.decode(): value for name, value in codes},
        **{name.decode(): count for count, name in counts},
        "FLAGS": b"".join(flags),
    }


def end_worker() -> None:
    pid = worker()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def session(server: Server, user: MailUser) -> dict[str, bytes]:
    """Somebody reads his mail and leaves.  Returns what the last SELECT said."""
    with logged_in(server, "alice") as client:
        client.ask(b"s SELECT INBOX")
        client.ask(b"t UID STORE 1:9 +FLAGS (\\Seen $Work)")
        client.ask(b"t UID STORE 3 +FLAGS (\\Deleted)")
        client.ask(b"x EXPUNGE")
        said = selected(client)
    path = kept_at(user)
    wait_until(path.exists, explain=server.log_text)
    return said


@pytest.mark.superuser
@pytest.mark.parametrize("end", [end_worker, kill_worker], ids=["ended", "killed"])
def test_the_next_worker_says_the_same(
    server: Server, user: MailUser, end: Callable[[], None]
) -> None:
    before = session(server, user)
    assert (kept_at(user).stat().st_uid, kept_at(user).stat().st_mode & 0o777) == (UID, 0o600)
    end()
    with logged_in(server, "alice") as client:
        assert selected(client) == before
        assert told(client) == truth_of(user)
    assert "Our bug" not in server.log_text()


def _mark(user: MailUser) -> None:
    paths = sorted((user.home / "Maildir" / "cur").iterdir())
    for path in paths[20:25]:
        path.rename(path.with_name(path.name.partition(":2,")[0] + ":2,FR"))


def _remove(user: MailUser) -> None:
    for path in sorted((user.home / "Maildir" / "cur").iterdir())[30:40]:
        path.unlink()


def _mark_secretly(user: MailUser) -> None:
    """And the directory's time is as it was."""
    cur = user.home / "Maildir" / "cur"
    before = cur.stat()
    _mark(user)
    os.utime(cur, ns=(before.st_atime_ns, before.st_mtime_ns))


def _flip(user: MailUser) -> None:
    octets = bytearray(kept_at(user).read_bytes())
    for at in range(7, len(octets), 501):
        octets[at] ^= 0x55
    kept_at(user).write_bytes(octets)


def _name(user: MailUser) -> None:
    path = user.home / "Maildir" / "dovecot-keywords"
    path.write_text(path.read_text().replace("$Work", "$Play"))


MEANWHILE: dict[str, Callable[[MailUser], object]] = {
    "flags": _mark,
    "flags, mtime set back": _mark_secretly,
    "removed": _remove,
    "delivered": lambda user: deliver(user, "one"),
    "delivered to cur": lambda user: deliver(user, "one", info=":2,S"),
    "keyword renamed": _name,
    "octets flipped": _flip,
    "listing removed": lambda user: kept_at(user).unlink(),
    "index removed": lambda user: file_of(user).unlink(),
}


@pytest.mark.superuser
@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
def test_what_happened_between_two_workers(
    server: Server, user: MailUser, meanwhile: Callable[[MailUser], object]
) -> None:
    """Whoever resynchronises is told of it, and no number goes back."""
    before = session(server, user)
    known = truth_of(user)
    old = kept_at(user).read_bytes()
    kill_worker()
    meanwhile(user)
    for again in range(2):
        want = truth_of(user)
        with logged_in(server, "alice") as client:
            client.ask(b"e ENABLE QRESYNC")
            modseq = before["HIGHESTMODSEQ"]
            lines = client.ask(
                b"q SELECT INBOX (QRESYNC (%b %b))" % (before["UIDVALIDITY"], modseq)
            )
            highest = re.search(rb"HIGHESTMODSEQ (\d+)", b"".join(lines))
            assert highest is not None
            assert int(highest[1]) >= int(modseq)
            fetched = {int(uid) for uid in re.findall(rb"FETCH \(UID (\d+)", b"".join(lines))}
            flags_then = {uid: flags for uid, flags, _, _ in known}
            changed = {uid for uid, flags, _, _ in want if flags_then.get(uid) != flags}
            assert changed <= fetched
            gone = flags_then.keys() - {uid for uid, *_ in want}
            assert gone == _vanished(lines) & flags_then.keys()
            assert told(client) == want
        if not again:  # an old one comes back
            kill_worker()
            kept_at(user).write_bytes(old)
    assert "Our bug" not in server.log_text()


def _vanished(lines: list[bytes]) -> set[int]:
    found: set[int] = set()
    for text in re.findall(rb"VANISHED \(EARLIER\) (\S+)", b"".join(lines)):
        for part in text.decode().split(","):
            first, _, last = part.partition(":")
            found.update(range(int(first), int(last or first) + 1))
    return found
