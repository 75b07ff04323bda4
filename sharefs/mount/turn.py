"""The turn: whoever looks at nodes has it, so that handlers never see each other half way.

A lock, but for one thing: it can be taken from a thread that has it and waits for a file system
that does not answer (`relief`).  That thread then gets Relieved wherever it is, as soon as it comes
back, and must not touch what others work with by now; leaving the block does not let go of what is
not its own any more.
"""

import threading
from collections.abc import Callable
from types import TracebackType


class Relieved(BaseException):
    """This thread's turn was given to others, and its request answered, while it waited.

    Not an Exception: whoever handles errors of the file system below is not to go on.
    """


class Turn:
    """As a context manager for any thread.

    acquire, release: for the compiled part and for the end, when nobody is relieved.
    holder: the thread inside the block; 0: none, or one that has used acquire().
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guard = threading.Lock()  # of holder, between leaving and being relieved
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        self.locked = self._lock.locked
        self.holder = 0
        self._successors: dict[int, Callable[[], object]] = {}

    def __enter__(self) -> None:
        self._lock.acquire()
        self.holder = threading.get_ident()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._guard:
            if self.holder == threading.get_ident():
                self.holder = 0
                self._lock.release()

    def when_relieved(self, successor: Callable[[], object]) -> None:
        """What is to be done, with the turn, if this thread is relieved from now on."""
        self._successors[threading.get_ident()] = successor

    def take_from(
        self, thread: int, leave_behind: Callable[[], bool], do: Callable[[], object]
    ) -> bool:
        """End another thread's turn, if leave_behind() says that it cannot go on by now.

        Then do() is done with the turn, and what that thread has said.  thread: who has the turn,
        as far as the caller knows.
        """
        successor = self._successors.get(thread)
        with self._guard:
            if successor is None or self.holder not in (0, thread) or not leave_behind():
                return False
            self.holder = threading.get_ident()
            del self._successors[thread]
        try:
            do()
            successor()
        finally:
            self.holder = 0
            self._lock.release()
        return True
