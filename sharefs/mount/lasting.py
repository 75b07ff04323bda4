"""What the kernel may remember for longer than a second, and is told of when it changes below.

Three things: a file's attributes, what a name in a directory means, and that it means nothing.
Each rests on a mark (`fanotify`) that was there before we looked, so whatever happens afterwards is
an event.  Rules of this file:

- Attributes last for a file that has a mark of its own (one of its names' directories would not do:
  it may be changed through another name) and that nobody else has open for writing: a mapping
  changes a file without any event, and opening it is one.  After that they last no longer.
- Names last in a directory that has a mark.  `told` holds those that the kernel may remember.
- What was not asked for twice is not worth a mark.
- Our own doings are no events where each file below is one to the kernel: it knows of them, since
  they were its requests.  Where it may be several, in the view, those in the mask `ours` count; but
  they are told gently, and opening a file is none.
- When events were lost, or come too fast, everything is taken back; for some time nothing lasts.
"""

import contextlib
import fcntl
import logging
import os
import stat
import struct
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Protocol

from sharefs.errors import SharingError
from sharefs.mount.entries import TIMEOUT, Entry, entry_of
from sharefs.mount.fanotify import NAMES, OF_DIRECTORIES, OF_FILES, Event, Group, Mask, key_of
from sharefs.mount.gate import Gate
from sharefs.mount.marks import Marks
from sharefs.mount.nodes import Node
from sharefs.mount.questions import NotYet
from sharefs.mount.telling import Name, Teller

log: Final = logging.getLogger(__name__)

LONG: Final = 60.0  # seconds; how long what is not noticed at all could matter
SOON: Final = 0.8  # seconds; asked again after that, a file is one that programs come back to
BUSY: Final = 5.0  # seconds until a file that somebody has open is looked at again
NOISY: Final = 100  # events in a second, of one directory: not worth following
FLOOD: Final = 20_000  # events in a second altogether
MAX_WATCHES: Final = 1 << 16  # each keeps an inode in the kernel's memory
MAX_NAMES: Final = 200_000  # of those that the kernel may remember
MAX_MISSED: Final = 4096  # names remembered as asked for in vain, in directories without a mark
MAX_ORPHANS: Final = 4096  # marks that could not be taken away
PAUSES: Final = (5.0, 15.0, 60.0)  # seconds without anything that lasts, one after the other
WATCHABLE: Final = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs"})

_GETFLAGS: Final = 0x80086601  # FS_IOC_GETFLAGS (ioctl_iflags(2))
_CASEFOLD: Final = (
    0x40000000  # FS_CASEFOLD_FL: events tell names as they were spelt by whoever did it
)
_NOT_NOW: Final = (OSError, SharingError, NotYet)  # a way to a file that is not open any more
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID


class FileSystems(Protocol):
    """devices.Devices."""

    def kind(self, device: int, fd: int) -> str: ...


class Watch:
    """A mark.  told: name -> when the kernel forgets it by itself (seconds), times two, plus one
    for a directory.  events, since: how many there were since when."""

    __slots__ = ("events", "key", "node", "since", "told")

    def __init__(self, node: Node, key: bytes) -> None:
        self.node = node
        self.key = key
        self.told: dict[str, int] = {}
        self.events = 0
        self.since = 0.0


class Lasting:
    """One mount's.  All methods are for whoever has the session's turn."""

    def __init__(
        self,
        gate: Gate,
        devices: FileSystems,
        group: Group | Marks,
        teller: Teller,
        *,
        ours: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gate = gate
        self._devices = devices
        self._group = group
        self._teller = teller
        self._clock = clock
        self._own_pid = os.getpid()
        self._ours = ours
        self._by_key: dict[bytes, tuple[Watch, ...]] = {}  # one mark may be for several nodes
        self._by_scope: dict[Hashable, set[Watch]] = {}
        self._watches = 0
        self._names = 0
        self._orphans = 0
        self._missed: set[tuple[int, str]] = set()
        self._resume = 0.0
        self._pauses = 0
        self._events = 0
        self._since = 0.0

    def numbers(self) -> dict[str, int]:
        """For who looks after the daemon."""
        return {"watched": self._watches, "remembered": self._names}

    # --- answering -----------------------------------------------------------------------

    def found(
        self, parent: Node, name: str, node: Node, status: os.stat_result, *, listed: bool = False
    ) -> Entry:
        """The answer to LOOKUP.  listed: among others, which is no sign of interest in this one."""
        if not listed and self._is_due(node):
            if node.watch is None:
                status = self._watch(node) or status
            if parent.watch is None and self._may_watch(parent):
                self._watch_names(parent, name, node)
        entry = self.attributes(node, status)
        if parent.watch is not None:
            entry.entry_timeout = self.tell(parent.watch, name, node.is_dir, TIMEOUT)
        return entry

    def asked(self, node: Node, status: os.stat_result) -> Entry:
        """The answer to GETATTR."""
        if node.watch is None and self._is_due(node):
            status = self._watch(node) or status
        return self.attributes(node, status)

    def attributes(self, node: Node, status: os.stat_result) -> Entry:
        """A node's entry, for as long as its attributes last."""
        entry = entry_of(node, status, TIMEOUT)
        # Writing takes setuid away, which the kernel would not notice.
        if node.watch is not None and not (status.st_mode & _SET_ID and not node.is_dir):
            entry.attr_timeout = LONG
        return entry

    def missing(self, parent: Node, name: str) -> float:
        """For how many seconds the kernel may remember that there is none; 0: not at all."""
        if parent.watch is None:
            # Every file that is made is asked for once before: that is no sign of interest.
            if not self._is_missed_again(parent, name):
                return 0.0
            if not self._may_watch(parent) or self._watch(parent) is None:
                return 0.0
            if self._status_of(parent, name) is not None:
                return 0.0  # it came before the mark
        return self.tell(parent.watch, name, False, 0.0)

    def _is_missed_again(self, parent: Node, name: str) -> bool:
        key = parent.ino, name
        if key in self._missed:
            return True
        if len(self._missed) >= MAX_MISSED:
            self._missed.clear()
        self._missed.add(key)
        return False

    def _watch_names(self, parent: Node, name: str, node: Node) -> None:
        """The directory, where a name has just been seen to mean this node."""
        if self._watch(parent) is None:
            return
        now = self._status_of(parent, name)
        if now is None or not node.is_same(now):
            self._let_go(parent.watch)  # not any more, before there was the mark

    def _is_due(self, node: Node) -> bool:
        now = self._clock()
        if not node.due:
            node.due = now + SOON
        return now >= node.due and node.lookups > 0

    def _may_watch(self, directory: Node) -> bool:
        """Not if that did not work a moment ago, or too much happened there."""
        return directory.due - self._clock() <= SOON

    def _status_of(self, parent: Node, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._gate.directory(parent), follow_symlinks=False)
        except _NOT_NOW:
            return None

    def tell(self, watch: Watch, name: str, is_dir: bool, otherwise: float) -> float:
        """How long the kernel may remember a name.  otherwise: if there are too many."""
        if name not in watch.told:
            if self._names >= MAX_NAMES:
                self._sweep()
                if self._names >= MAX_NAMES:
                    return otherwise
            self._names += 1
        watch.told[name] = int(self._clock() + LONG + 2) << 1 | is_dir
        return LONG

    def _sweep(self) -> None:
        """Names that the kernel has forgotten by itself."""
        now = int(self._clock())
        for watch in self._all():
            for name in [name for name, until in watch.told.items() if until >> 1 < now]:
                del watch.told[name]
                self._names -= 1

    # --- watching ------------------------------------------------------------------------

    def _watch(self, node: Node) -> os.stat_result | None:
        """Mark it; what stat(2) says then.  None: what it is, or where, cannot be watched now."""
        now = self._clock()
        if now < self._resume or self._watches >= MAX_WATCHES:
            node.due = now + BUSY
            return None
        node.due = now + BUSY
        try:
            if node.kind not in _FOLLOWED or not self._is_watchable(node):
                node.due = float("inf")
                return None
            fd = self._open(node)
        except _NOT_NOW:
            return None
        try:
            return self._mark(node, fd)
        except OSError as error:
            log.debug("not watched: %s", error)
            return None
        finally:
            os.close(fd)

    def _is_watchable(self, node: Node) -> bool:
        """Whether events tell of all that happens there.  Raises OSError if it is gone."""
        directory = node if node.is_dir or not node.names else node.names[-1][0]
        device = node.identity[0]
        if directory.identity[0] != device:
            return False  # a single file may be mounted too
        return self._devices.kind(device, self._gate.directory(directory)) in WATCHABLE

    def _open(self, node: Node) -> int:
        if node.is_dir:
            return self._gate.open_directory(node)
        flags = os.O_RDONLY if node.kind == stat.S_IFREG else os.O_PATH
        return self._gate.open_file(node, flags)

    def _mark(self, node: Node, fd: int) -> os.stat_result | None:
        if node.is_dir and _folds_case(fd):
            return None
        self._group.mark(fd, _mask(node))
        key = key_of(fd)
        others = self._by_key.get(key, ())
        if node.kind == stat.S_IFREG and _is_written(fd):
            if not others:
                self._group.unmark(fd, _mask(node))
            return None
        node.watch = watch = Watch(node, key)
        self._by_key[key] = (*others, watch)
        self._by_scope.setdefault(node.scope, set()).add(watch)
        self._watches += 1
        for one in others:
            if one.node.scope == node.scope:  # the table knows it as this node now
                self._take_back(one)
        return os.fstat(fd)

    def _let_go(self, watch: Watch) -> None:
        """It is not watched any longer.  The kernel remembers nothing of it, or has been told."""
        node = watch.node
        self._names -= len(watch.told)
        watch.told.clear()
        node.watch = None
        here = self._by_key.get(watch.key, ())
        if watch not in here:
            return
        self._watches -= 1
        scope = self._by_scope[node.scope]
        scope.discard(watch)
        if not scope:
            del self._by_scope[node.scope]
        if len(here) > 1:
            self._by_key[watch.key] = tuple(one for one in here if one is not watch)
            return
        del self._by_key[watch.key]
        try:
            with self._gate.pinned(node) as fd:
                self._group.unmark(fd, _mask(node))
        except _NOT_NOW as error:
            # Of a file that is gone the kernel has dropped the mark; one with another name keeps
            # it, and we are told in vain.
            if not isinstance(error, FileNotFoundError):
                self._orphans += 1

    def _all(self) -> list[Watch]:
        return [watch for watches in self._by_key.values() for watch in watches]

    def gone(self, node: Node) -> None:
        """The kernel has forgotten it, or its number stands for another file now."""
        watch = node.watch
        if watch is not None:
            self._teller.attributes(node.ino)
            self._let_go(watch)

    def _take_back(self, watch: Watch) -> None:
        """Tell the kernel to ask for everything that it was told of this one."""
        self._teller.attributes(watch.node.ino)
        for name, until in watch.told.items():
            self._tell_name(watch.node, name, until)
        self._let_go(watch)

    def _tell_name(self, node: Node, name: str, until: int) -> None:
        self._teller.name(Name(node.ino, os.fsencode(name), gently=bool(until & 1)))

    # --- what happens below --------------------------------------------------------------

    def happened(self, events: Iterable[Event]) -> None:
        """Others have changed something, or we have."""
        for event in events:
            if event.mask & Mask.Q_OVERFLOW:
                self.take_everything_back("events were lost")
                return
            ours = event.pid == self._own_pid
            # Locks may be made elsewhere than was asked for.
            if ours and not event.mask & self._ours and not event.name.endswith(b".lock"):
                continue
            for watch in self._by_key.get(event.key, ()):
                if self._is_bearable(watch):
                    self._changed(watch, event, ours=ours)
        if self._orphans > MAX_ORPHANS:
            self.take_everything_back()

    def _changed(self, watch: Watch, event: Event, *, ours: bool) -> None:
        node = watch.node
        self._teller.attributes(node.ino)
        if event.mask & NAMES:
            name = os.fsdecode(event.name)
            until = watch.told.pop(name, None)
            if until is not None:
                self._names -= 1
                # What we have just made may be open, and would be shown as deleted.
                self._tell_name(node, name, until | (ours and bool(self._ours)))
        elif not node.is_dir and (not ours or event.mask & Mask.DELETE_SELF):
            self._let_go(watch)  # whoever has opened it may go on without further notice
            node.due = self._clock() + SOON

    def _is_bearable(self, watch: Watch) -> bool:
        """Counts.  False if what was told was taken back because too much happens."""
        now = self._clock()
        if now - watch.since > 1:
            watch.since, watch.events = now, 0
        watch.events += 1
        if watch.events > NOISY:
            self._take_back(watch)
            watch.node.due = now + BUSY
            return False
        if now - self._since > 1:
            self._since, self._events = now, 0
        self._events += 1
        if self._events > FLOOD:
            self.take_everything_back("too much happens below")
            return False
        return True

    def lasts(self, scope: Hashable) -> bool:
        """Whether the kernel may remember anything of the nodes in a scope for long."""
        return scope in self._by_scope

    def take_back(self, scope: Hashable) -> None:
        """Nothing that was told of the nodes in a scope counts any longer."""
        for watch in list(self._by_scope.get(scope, ())):
            self._take_back(watch)

    def give_up(self) -> None:
        """Nobody hears of events any more."""
        self.take_everything_back()
        self._resume = float("inf")

    def take_everything_back(self, why: str = "") -> None:
        """Nothing that was told counts any longer.  why: then nothing lasts for some time."""
        now = self._clock()
        if why:
            if now > self._resume + PAUSES[-1]:
                self._pauses = 0
            pause = PAUSES[min(self._pauses, len(PAUSES) - 1)]
            self._pauses += 1
            self._resume = now + pause
            log.info("%s: for %d s the kernel remembers nothing for longer", why, pause)
        with contextlib.suppress(OSError):
            self._group.flush()
        watches = self._all()
        self._by_key.clear()
        self._by_scope.clear()
        self._names = self._orphans = self._watches = 0
        for watch in watches:
            watch.node.watch = None
            self._teller.attributes(watch.node.ino)
            for name, until in watch.told.items():
                if until >> 1 >= now:
                    self._tell_name(watch.node, name, until)
            watch.told.clear()


_FOLLOWED: Final = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})


def _mask(node: Node) -> int:
    return OF_DIRECTORIES if node.is_dir else OF_FILES


def _is_written(fd: int) -> bool:
    """Whether anybody has it open to write, or a mapping of it.  fd: open to read.

    A lease (fcntl(2)) is refused then.  It is given back at once: it keeps writers waiting.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return True  # or leases are not for us here
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _folds_case(fd: int) -> bool:
    try:
        (flags,) = struct.unpack("=q", fcntl.ioctl(fd, _GETFLAGS, bytes(8)))
    except OSError:
        return False
    return bool(flags & _CASEFOLD)
