"""When the indexer looks at a mailbox: at once, or after what keeps coming has come."""

import pytest
import trio

from imap.service.indexing import LONGEST_WAIT, SETTLE, Indexer
from sharefs.index import MailboxIndex


class Box:
    """A mailbox without an index; notes when it was looked at."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.looked: list[float] = []
        self._token = trio.lowlevel.current_trio_token()

    def index(self) -> MailboxIndex | None:
        self.looked.append(trio.from_thread.run_sync(trio.current_time, trio_token=self._token))
        return None

    def hold(self) -> bool:
        return True

    def leave(self) -> None: ...


@pytest.fixture
async def indexer(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> Indexer:
    started = Indexer()
    nursery.start_soon(started.run)
    await trio.testing.wait_all_tasks_blocked()
    return started


async def test_at_once_if_a_client_asks(indexer: Indexer) -> None:
    box, began = Box(), trio.current_time()
    indexer.want(box)
    await trio.sleep(5)
    assert box.looked == pytest.approx([began], abs=0.1)


async def test_once_for_many_messages(indexer: Indexer) -> None:
    box, began = Box(), trio.current_time()
    for _ in range(10):
        indexer.want(box, at_leisure=True)
        await trio.sleep(SETTLE / 2)
    last = trio.current_time() - SETTLE / 2
    await trio.sleep(5)
    assert box.looked == pytest.approx([last + SETTLE], abs=0.1)
    assert box.looked[0] > began + 9 * SETTLE / 2


async def test_messages_that_keep_coming_do_not_put_it_off_for_good(indexer: Indexer) -> None:
    box, began = Box(), trio.current_time()
    while trio.current_time() < began + 1.5 * LONGEST_WAIT:
        indexer.want(box, at_leisure=True)
        await trio.sleep(SETTLE / 2)
    assert box.looked == pytest.approx([began + LONGEST_WAIT], abs=SETTLE)


async def test_a_client_that_asks_ends_the_wait(indexer: Indexer) -> None:
    quiet, asked, began = Box(), Box(), trio.current_time()
    indexer.want(quiet, at_leisure=True)
    indexer.want(asked, at_leisure=True)
    indexer.want(asked)
    await trio.sleep(5)
    assert asked.looked == pytest.approx([began], abs=0.1)
    assert quiet.looked == pytest.approx([began + SETTLE], abs=0.2)


async def test_what_is_forgotten_is_not_looked_at(indexer: Indexer) -> None:
    box = Box()
    indexer.want(box, at_leisure=True)
    indexer.forget(box)
    await trio.sleep(5)
    assert box.looked == []
