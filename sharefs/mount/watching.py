"""The thread that hears what others change below, and tells the kernel of it."""

import logging
import os
import select
import signal
import threading
from collections.abc import Callable
from typing import Final

from sharefs.mount.devices import mount_id
from sharefs.mount.fanotify import Group
from sharefs.mount.lasting import Lasting
from sharefs.mount.mirror import Mirror
from sharefs.mount.session import Session
from sharefs.mount.telling import AGAIN, Teller

log: Final = logging.getLogger(__name__)

GATHERING: Final = 0.02  # seconds between two looks at the queue, in which equal events become one
_MOUNTS: Final = "/proc/self/mountinfo"


class Watcher:
    """Open it before capabilities are given up, start it when there is a session."""

    def __init__(self, group: Group, tree: Mirror) -> None:
        self._group = group
        self._tree = tree
        self._teller: Teller | None = None
        self._thread: threading.Thread | None = None
        self._stop, self._stopped = os.pipe()

    @classmethod
    def open(cls, tree: object) -> "Watcher | None":
        """None where nothing can be watched: then the kernel asks again after a second."""
        if not isinstance(tree, Mirror):
            return None
        try:
            return cls(Group(), tree)
        except OSError as error:
            log.info("what changes below is not told by this kernel: %s", error)
            return None

    def start(self, session: Session) -> None:
        # Whoever breaks a lease of ours (`lasting`) has us told by this signal, too late.
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        self._teller = Teller(session.notify)
        lasting = Lasting(self._tree.gate, self._tree.devices, self._group, self._teller)
        self._tree.remember(lasting)
        self._thread = threading.Thread(
            target=self._run, args=(lasting, self._teller, session.turn), name="watching",
            daemon=True,
        )  # fmt: skip
        self._thread.start()

    def _run(self, lasting: Lasting, teller: Teller, turn: threading.Lock) -> None:
        try:
            self._hear(lasting, teller, turn)
        except Exception:
            log.exception("changes below are not heard of any more: nothing lasts over a second")
            with turn:
                lasting.give_up()
                teller.tick()

    def _hear(self, lasting: Lasting, teller: Teller, turn: threading.Lock) -> None:
        own = os.getpid()
        with open(_MOUNTS, "rb", buffering=0) as mounts:
            below = Mounts(self._tree.root_fd, lambda: mounts_in(mounts.fileno()))
            poll = select.poll()
            poll.register(self._group.fd, select.POLLIN)
            poll.register(self._stop, select.POLLIN)
            poll.register(mounts, select.POLLPRI)
            while True:
                ready = dict(poll.poll(AGAIN * 1000 if teller.has_more else None))
                if self._stop in ready:
                    return
                events = self._group.read(but_of=own) if self._group.fd in ready else []
                if events or teller.has_more or mounts.fileno() in ready:
                    with turn:
                        if mounts.fileno() in ready and below.changed():
                            lasting.take_everything_back()
                        lasting.happened(events)
                        teller.tick()
                if self._group.fd in ready:
                    select.select([self._stop], [], [], GATHERING)

    def stop(self) -> None:
        """While requests are still answered."""
        os.write(self._stopped, b"\0")
        if self._thread is not None:
            self._thread.join()
        if self._teller is not None:
            self._teller.close()
        for fd in (self._stop, self._stopped):
            os.close(fd)
        self._group.close()


class Mounts:
    """What is mounted below a directory: no event tells of that.

    read: the text of proc(5)'s mountinfo.
    """

    def __init__(self, root_fd: int, read: Callable[[], str]) -> None:
        self._root_fd = root_fd
        self._read = read
        self._known = self._below()

    def _below(self) -> frozenset[str]:
        try:
            top = os.readlink(f"/proc/self/fd/{self._root_fd}")
        except OSError:
            top = ""
        return mounts_below(top, mount_id(self._root_fd), self._read())

    def changed(self) -> bool:
        before, self._known = self._known, self._below()
        return before != self._known


def mounts_below(top: str, mount: str, mountinfo: str) -> frozenset[str]:
    """Lines of mounts below a path, which is on the mount with this number, and on those.  Pure."""
    children: dict[str, list[tuple[str, str]]] = {}
    for line in mountinfo.splitlines():
        number, parent, _, _, point, _ = line.split(" ", 5)
        path = point.encode("utf-8", "surrogateescape").decode("unicode_escape")  # \040
        path = path.encode("latin-1").decode("utf-8", "surrogateescape")
        if parent != mount or path.startswith(top.rstrip("/") + "/"):
            children.setdefault(parent, []).append((number, line))
    found, pending = set(), [mount]
    while pending:
        for number, line in children.pop(pending.pop(), ()):
            found.add(line)
            pending.append(number)
    return frozenset(found)


def mounts_in(fd: int) -> str:
    """The whole of a file of proc(5), from its beginning."""
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts).decode("utf-8", "surrogateescape")
