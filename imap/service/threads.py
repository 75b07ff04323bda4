"""Runs what blocks in a thread: trio.to_thread.run_sync() without what nobody here needs.

That names the thread twice for each call, looks for coroutines, and lets the thread call back
into trio: more than half of the processor time of a short call.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final, TypeVar

import outcome
import trio

T = TypeVar("T")

LIMIT: Final = 40  # threads at once, as in trio

_limiter: trio.lowlevel.RunVar[trio.Semaphore] = trio.lowlevel.RunVar("imap.service.threads")
_in_line: Final = ContextVar("imap.service.threads.in_line", default=False)


@contextlib.contextmanager
def in_line() -> Iterator[None]:
    """For the length of a `with`, and for what trio runs there, nothing goes to a thread."""
    token = _in_line.set(True)
    try:
        yield
    finally:
        _in_line.reset(token)


def _places() -> trio.Semaphore:
    try:
        return _limiter.get()
    except LookupError:
        places = trio.Semaphore(LIMIT)
        _limiter.set(places)
        return places


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """Call function in a thread, with this task's context variables.

    A cancellation comes before the call or after it: what has begun is waited for.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    if _in_line.get():
        return function(*args)
    places = _places()
    try:
        places.acquire_nowait()
    except trio.WouldBlock:
        await places.acquire()
    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()
    context = contextvars.copy_context()

    def work() -> T:
        return context.run(function, *args)

    def done(result: outcome.Outcome[T]) -> None:
        places.release()
        trio.lowlevel.reschedule(task, outcome.Value(result))

    def deliver(result: outcome.Outcome[T]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done, result)

    try:
        trio.lowlevel.start_thread_soon(work, deliver)
    except BaseException:
        places.release()
        raise
    result: outcome.Outcome[T] = await trio.lowlevel.wait_task_rescheduled(_wait)
    return result.unwrap()


def _wait(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
