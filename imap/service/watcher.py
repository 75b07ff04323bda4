"""Tells when directories change: one inotify descriptor for the whole process.

inotify(7) limits descriptors per uid (128 by default), so with one uid for everybody a descriptor
for each connection would run out; watches are plentiful.  Where inotify cannot look (no read
permission, no watches left) the caller polls: watch() says so.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio
from inotify_simple import INotify, flags

from sharefs.mount.devices import LOCAL, Devices

log = logging.getLogger("imap.watcher")

MASK: Final = (
    flags.CREATE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.MODIFY
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)


# Beyond those that are known to be this machine's own: containers run on it.
_OWN: Final = LOCAL | {"overlay"}
_devices: Final = Devices()


def sees_everything(paths: Sequence[Path]) -> bool:
    """Whether inotify tells of every change there: nobody makes any but on this machine."""
    try:
        return all(_devices.kind_at(path) in _OWN for path in paths)
    except OSError:
        return False


class Watcher:
    """run() must be running for callbacks to come.  close() releases the descriptor."""

    def __init__(self) -> None:
        self._inotify = INotify(nonblocking=True)
        self._callbacks: dict[int, list[Callable[[], None]]] = {}

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    def watch(self, paths: Sequence[Path], callback: Callable[[], None]) -> tuple[set[int], bool]:
        """Call callback whenever something changes directly below one of paths.

        Returns the watches, for unwatch(), and whether all of paths could be watched.
        """
        watches = set()
        for path in paths:
            try:
                watch = self._inotify.add_watch(path, MASK)
            except OSError as error:
                log.debug("cannot watch %s: %s; polling instead", path, error)
                continue
            self._callbacks.setdefault(watch, []).append(callback)
            watches.add(watch)
        return watches, len(watches) == len(paths)

    def unwatch(self, watches: set[int], callback: Callable[[], None]) -> None:
        """Undo one watch().  The kernel may have dropped a watch already, with its directory."""
        for watch in watches:
            callbacks = self._callbacks.get(watch, [])
            if callback in callbacks:
                callbacks.remove(callback)
            if callbacks or watch not in self._callbacks:
                continue
            del self._callbacks[watch]
            try:
                self._inotify.rm_watch(watch)
            except OSError:
                log.debug("watch %d went with its directory", watch)

    async def run(self) -> None:
        """Deliver notices until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._inotify.fileno())
            events = self._inotify.read(timeout=0)
            overflow = any(event.mask & flags.Q_OVERFLOW for event in events)
            told = set(self._callbacks) if overflow else {event.wd for event in events}
            for watch in told:
                for callback in list(self._callbacks.get(watch, ())):
                    callback()

    def close(self) -> None:
        self._inotify.close()
