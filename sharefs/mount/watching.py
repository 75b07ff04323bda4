"""The thread that hears what others change below, and tells the kernel of it."""

import logging
import os
import select
import signal
import threading
import time
from typing import Final

from sharefs.mount.lasting import Lasting
from sharefs.mount.marks import Marks
from sharefs.mount.mount_table import Mounts, mounted, text_of
from sharefs.mount.remembering import Remembering
from sharefs.mount.session import Session
from sharefs.mount.telling import AGAIN, Teller
from sharefs.mount.turn import Relieved, Turn

log: Final = logging.getLogger(__name__)

GATHERING: Final = 0.02  # seconds between two looks at the queue, in which equal events become one
CHECK: Final = 0.4  # seconds between two looks at what lasts for other reasons than events
_MOUNTS: Final = "/proc/self/mountinfo"


class Watcher:
    """Open it before capabilities are given up, start it when there is a session."""

    def __init__(self, group: Marks, tree: Remembering) -> None:
        self._group = group
        self._tree = tree
        self._teller: Teller | None = None
        self._thread: threading.Thread | None = None
        self._stop, self._stopped = os.pipe()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._turn: Turn | None = None

    @classmethod
    def open(cls, tree: object) -> "Watcher | None":
        """None where nothing can be watched: then the kernel asks again after a second."""
        if not isinstance(tree, Remembering):
            return None
        try:
            return cls(Marks(), tree)
        except OSError as error:
            log.info("what changes below is not told by this kernel: %s", error)
            return None

    def start(self, session: Session) -> None:
        # Whoever breaks a lease of ours (`lasting`) has us told by this signal, too late.
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        self._teller = Teller(session.notify)
        lasting = Lasting(
            self._tree.gate, self._tree.devices, self._group, self._teller, ours=self._tree.ours
        )
        self._turn = session.turn
        self._tree.remember(lasting, lambda: os.eventfd_write(self._wake, 1))
        self._begin(lasting, self._teller, session.turn)

    def _begin(self, lasting: Lasting, teller: Teller, turn: Turn) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(lasting, teller, turn), name="watching", daemon=True
        )
        self._thread.start()

    def _run(self, lasting: Lasting, teller: Teller, turn: Turn) -> None:
        def relieved() -> None:
            lasting.take_everything_back()  # of what has happened meanwhile nobody has heard
            teller.tick()
            self._begin(lasting, teller, turn)

        turn.when_relieved(relieved)
        try:
            self._hear(lasting, teller, turn)
        except Relieved:
            return
        except Exception:
            log.exception("changes below are not heard of any more: nothing lasts over a second")
            with turn:
                lasting.give_up()
                teller.tick()

    def _hear(self, lasting: Lasting, teller: Teller, turn: Turn) -> None:
        own, ours = os.getpid(), self._tree.ours
        with open(_MOUNTS, "rb", buffering=0) as mounts:
            table = Mounts(self._tree.mounts, lambda: text_of(mounts.fileno()))
            poll = select.poll()
            poll.register(self._group.fd, select.POLLIN)
            poll.register(self._stop, select.POLLIN)
            poll.register(self._wake, select.POLLIN)
            poll.register(mounts, select.POLLPRI)
            checked = time.monotonic()
            while True:
                ready = dict(poll.poll(self._pause(teller, checked)))
                if self._stop in ready:
                    return
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                events = self._group.read(but_of=own, ours=ours) if self._group.fd in ready else []
                if events or teller.has_more or mounts.fileno() in ready:
                    with turn:
                        if mounts.fileno() in ready:
                            if table.changed():
                                lasting.take_everything_back()
                            self._tree.gate.leave_unmounted(*mounted(text_of(mounts.fileno())))
                        lasting.happened(events)
                        teller.tick()
                if self._tree.needs_checks and time.monotonic() - checked >= CHECK:
                    self._check(turn)
                    checked = time.monotonic()
                if self._group.fd in ready:
                    select.select([self._stop], [], [], GATHERING)

    def _pause(self, teller: Teller, checked: float) -> float | None:
        """Milliseconds until there is something to do; None: until something happens."""
        pauses = [AGAIN] if teller.has_more else []
        if self._tree.needs_checks:
            pauses.append(max(0.0, checked + CHECK - time.monotonic()))
        return min(pauses) * 1000 if pauses else None

    def _check(self, turn: Turn) -> None:
        """A part at a time: requests are waiting for the turn."""
        more = True
        while more:
            with turn:
                more = self._tree.check()

    def stop(self) -> None:
        """While requests are still answered."""
        os.write(self._stopped, b"\0")
        if self._thread is not None:
            self._thread.join()
        if self._turn is not None:
            with self._turn:  # nobody writes to what is another file's descriptor in a moment
                self._tree.wake_nobody()
        if self._teller is not None:
            self._teller.close()
        for fd in (self._stop, self._stopped, self._wake):
            os.close(fd)
        self._group.close()
