"""Runs a mounted file system until it is unmounted or told to end."""

import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import pyfuse3

from sharefs.identity.privileges import Capability, has_capability, keep_capabilities
from sharefs.mount import engine, read_ahead
from sharefs.mount.handles import Handles
from sharefs.mount.mirror import Acting
from sharefs.mount.operations import Operations
from sharefs.mount.relief import Relief
from sharefs.mount.sentinel import Sentinel, open_connections
from sharefs.mount.session import Session
from sharefs.mount.turn import Relieved
from sharefs.mount.unmounter import Unmounter
from sharefs.mount.watching import Watcher

log: Final = logging.getLogger(__name__)

DESCRIPTORS: Final = 1 << 18  # wanted; what the hard limit allows otherwise
FUSE: Final = "/dev/fuse"
# A node for each file that the kernel knows makes collections long, and there are no cycles to
# find: they are a fence against leaks alone.
GARBAGE: Final = (50_000, 50, 100)
ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SWITCH: Final = 0.001  # seconds; a thread with long work in Python keeps requests waiting


# Opening what belongs to anybody, giving it owner, group, mode and times; and, for what is changed
# in a user's name (call_as), becoming that user to the file system.
NEEDED: Final = (
    Capability.CHOWN, Capability.DAC_OVERRIDE, Capability.DAC_READ_SEARCH, Capability.FOWNER,
    Capability.FSETID, Capability.SETGID, Capability.SETUID,
)  # fmt: skip
USEFUL: Final = (Capability.LEASE,)  # tells whether anybody writes to a file (`lasting`)


@dataclass(frozen=True, slots=True)
class Mounting:
    """Where and how.  options: for the kernel, besides our own.  source: shown by mount(8).

    mirrored: None for the view.
    """

    mountpoint: Path
    source: str
    options: frozenset[str] = frozenset()
    default_permissions: bool = True
    allow_other: bool = True
    mirrored: Path | None = None


def raise_limits() -> int:
    """As many descriptors as we may have.  Returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return soft


def serve(operations: Operations, mounting: Mounting, on_ready: Callable[[], None]) -> None:
    """Mount and answer until the end.  Unmounts.  Raises OSError or RuntimeError if it cannot.

    Root gives up every capability but NEEDED and USEFUL once the mount is there.  pyfuse3 mounts
    and unmounts (for users through fusermount3); the conversation with the kernel is the session's.
    """
    root = os.geteuid() == 0
    compiled = engine.wanted()
    where = PurePosixPath(mounting.mountpoint.resolve())  # asked later, it would wait for us
    unmounter = Unmounter(mounting.mountpoint) if root else None
    session: Session | None = None
    watcher: Watcher | None = None
    relief: Relief | None = None
    sentinel: Sentinel | None = None
    try:
        fd = _mount(mounting)
        try:
            watcher = Watcher.open(operations.tree)
            if unmounter is not None:
                unmounter.mounted()
                sentinel = _sentinel(mounting)
                keep_capabilities((*NEEDED, *filter(has_capability, USEFUL)))
            if sentinel is not None:
                sentinel.start()
            operations.start()
            session = Session(
                fd, operations, operations.handlers(),
                lambda: read_ahead.widen(mounting.mountpoint), compiled=compiled,
                silent=operations.tree.silent,
            )  # fmt: skip
            if watcher is not None:
                watcher.start(session)
            relief = Relief(session, where, sentinel.kept_waiting if sentinel else None)
            relief.start()
            _answer(session, on_ready)
        finally:
            if unmounter is not None:
                unmounter.end()
                unmounter = None
            if watcher is not None:
                watcher.stop()
            if session is not None:
                session.stop()
            if relief is not None:
                relief.close()
            if sentinel is not None:
                sentinel.close()
            pyfuse3.close(unmount=not root)
    finally:
        if unmounter is not None:
            unmounter.end()
        operations.close()


def _sentinel(mounting: Mounting) -> Sentinel | None:
    try:
        connections = open_connections()
    except OSError as error:
        log.info("users' own file systems may keep everybody waiting: fusectl: %s", error)
        return None
    spared = mounting.mirrored
    return Sentinel(connections, PurePosixPath(spared.resolve()) if spared is not None else None)


def _mount(mounting: Mounting) -> int:
    """The descriptor on which the kernel asks.  pyfuse3 owns it."""
    before = _fuse_descriptors()
    pyfuse3.init(pyfuse3.Operations(), os.fspath(mounting.mountpoint), set(_options(mounting)))
    new = _fuse_descriptors() - before
    if len(new) != 1:
        raise RuntimeError(f"{FUSE} is not open, or more than once")
    return new.pop()


def _fuse_descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == FUSE:
                found.add(int(name))
        except FileNotFoundError:
            continue  # the one that listed them
    return found


def _options(mounting: Mounting) -> frozenset[str]:
    source = mounting.source.replace("\\", "\\\\").replace(",", "\\,")
    options = {f"fsname={source}", "subtype=sharefs", *mounting.options}
    if mounting.allow_other:
        options.add("allow_other")
    if mounting.default_permissions:
        options.add("default_permissions")
    return frozenset(options)


def _answer(session: Session, on_ready: Callable[[], None]) -> None:
    """In a thread, so that this one can wait for signals.  Returns at the end of either."""
    threads: list[threading.Thread] = []
    with _waking_pipe() as (reader, writer):

        def answer() -> None:
            try:
                session.run(on_relief=begin)
            except Relieved:
                return  # another one goes on
            finally:
                if threading.current_thread() is threads[-1]:
                    with suppress(BrokenPipeError):  # a signal was first
                        os.write(writer, b"\0")

        def begin() -> None:
            threads.append(threading.Thread(target=answer, name="session", daemon=True))
            threads[-1].start()

        sys.setswitchinterval(SWITCH)
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        begin()
        on_ready()
        number = os.read(reader, 1)[0]
    log.info("ending on %s", signal.Signals(number).name if number else "unmounting")


@contextmanager
def _waking_pipe() -> Iterator[tuple[int, int]]:
    """A pipe into which a signal writes its number, whichever thread it reaches."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _written) for number in ENDING}
    signal.set_wakeup_fd(writer)
    try:
        yield reader, writer
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        # The session's thread may be about to write; the process ends soon.


def _written(number: int, frame: object) -> None:
    """A signal's handler in Python; its number is in the pipe already."""


def share_out(descriptors: int, tree: Acting) -> Handles:
    """Half of the descriptors for handles, a quarter for what the tree keeps, the rest for work."""
    tree.gate.stay_within(descriptors // 4)
    return Handles(max(descriptors // 2, 16))
