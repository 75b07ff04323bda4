"""What is done in line and what in threads, so that nobody waits long for somebody else's disk."""

import contextvars
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from imap.service import shared_handle
from imap.service.mailboxes import MailboxPool
from imap.service.pace import ENOUGH, QUICK, REST, SLOW, Pace, counted
from imap.service.shared_handle import SharedHandle
from imap.service.threads import LIMIT, in_thread
from imap.service.watcher import Watcher
from sharefs.errors import Code, SharingError
from tests.imap.fakes import MemoryMailbox


def pace_of(*seconds: float) -> Pace:
    """After work that took so long each time, at time 0."""
    pace = Pace()
    for each in seconds:
        pace.note(each, 0.0)
    return pace


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        ((), False),
        ((QUICK,) * (ENOUGH - 1), False),
        ((QUICK,) * ENOUGH, True),
        ((QUICK, SLOW, QUICK, QUICK), True),
        ((*(QUICK,) * 9, 2 * SLOW), False),
        ((2 * SLOW, *(QUICK,) * 9), False),
    ],
    ids=["unknown", "too-few", "quick", "neither", "slow-at-last", "resting"],
)
def test_pace(seconds: tuple[float, ...], want: bool) -> None:
    assert pace_of(*seconds).is_quick(0.0) is want


def test_after_a_rest_it_has_to_be_quick_again() -> None:
    pace = pace_of(*(QUICK,) * 9, 2 * SLOW)
    assert not pace.is_quick(REST)
    for _ in range(ENOUGH):
        pace.note(QUICK, REST)
    assert pace.is_quick(REST)
    assert not pace.is_quick(REST - 0.1)


@pytest.fixture
async def handle() -> AsyncIterator[SharedHandle]:
    watcher = Watcher()
    pool = MailboxPool(watcher)
    opened = await pool.open("box", MemoryMailbox)
    yield opened
    opened.release()
    pool.close()
    watcher.close()


async def until_in_line(handle: SharedHandle) -> None:
    """On a busy machine anything may take long, now and then."""
    with trio.fail_after(60):
        while await handle.run_short(threading.get_ident) != threading.get_ident():
            pass


async def test_what_is_quick_is_done_in_line(handle: SharedHandle) -> None:
    assert await handle.run_short(threading.get_ident) != threading.get_ident()
    assert not handle.works_in_line()
    await until_in_line(handle)
    assert await handle.run(threading.get_ident) != threading.get_ident()


async def test_once_slow_it_goes_to_a_thread(handle: SharedHandle) -> None:
    await until_in_line(handle)
    await handle.run_short(time.sleep, 2 * SLOW)
    assert await handle.run_short(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize(
    ("used", "waited", "want"),
    [(0.001, True, 0.1), (0.001, False, 0.001), (0.1, False, 0.1), (0.104, False, 0.1)],
    ids=["for-a-disk", "for-the-processor", "not-at-all", "coarse-clock"],
)
def test_waiting_for_the_processor_does_not_count(used: float, waited: bool, want: float) -> None:
    assert counted(0.1, used, waited=waited) == want


async def test_others_who_have_the_processor_make_nobody_slow(
    handle: SharedHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        late = 0.0

        def monotonic(self) -> float:
            return time.monotonic() + self.late

        def let_others_run(self) -> int:
            self.late += 2 * SLOW
            return threading.get_ident()

    clock = Clock()
    monkeypatch.setattr(shared_handle, "time", clock)
    await until_in_line(handle)
    for _ in range(3):
        assert await handle.run_short(clock.let_others_run) == threading.get_ident()


async def test_nothing_is_done_in_line_while_others_work_on_the_mailbox(
    handle: SharedHandle,
) -> None:
    await until_in_line(handle)
    begun, go_on, order = trio.Event(), threading.Event(), list[str]()
    token = trio.lowlevel.current_trio_token()

    def long() -> None:
        trio.from_thread.run_sync(begun.set, trio_token=token)
        go_on.wait(60)
        order.append("long")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle.run, long)
        await begun.wait()
        nursery.start_soon(handle.run_short, order.append, "short")
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        go_on.set()
    assert order == ["long", "short"]


async def test_a_refusal_in_line_is_heard(handle: SharedHandle) -> None:
    def refuse() -> None:
        raise SharingError(Code.EXPUNGED, "it is gone")

    await until_in_line(handle)
    with pytest.raises(SharingError, match="it is gone"):
        await handle.run_short(refuse)


# --- threads ---------------------------------------------------------------------------------

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


async def test_a_thread_knows_on_whose_behalf_it_works() -> None:
    WHO.set("alice")
    assert await in_thread(WHO.get) == "alice"


async def test_what_a_thread_raises_is_raised() -> None:
    with pytest.raises(FileNotFoundError):
        await in_thread(Path("/nonexistent/file").stat)
    assert await in_thread(int, "7") == 7


async def test_more_than_the_limit_wait_for_their_turn() -> None:
    together, most, lock = 0, 0, threading.Lock()

    def count() -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.005)
        with lock:
            together -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(3 * LIMIT):
            nursery.start_soon(in_thread, count)
    assert most <= LIMIT
    assert together == 0


async def test_what_has_begun_is_finished_before_a_cancellation_counts() -> None:
    done: list[str] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await in_thread(done.append, "never")
    assert scope.cancelled_caught
    assert done == []
    with trio.CancelScope() as scope:
        token = trio.lowlevel.current_trio_token()

        def work() -> None:
            trio.from_thread.run_sync(scope.cancel, trio_token=token)
            done.append("all")

        await in_thread(work)
        assert done == ["all"]
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
