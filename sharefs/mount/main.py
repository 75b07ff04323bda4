"""Runs a mounted file system until it is unmounted or told to end.  Uses trio, like `reading`."""

import logging
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyfuse3
import trio

from sharefs.identity.privileges import Capability, keep_capabilities
from sharefs.mount.handles import Handles
from sharefs.mount.mirror import Acting
from sharefs.mount.operations import Operations
from sharefs.mount.reading import Reading, install
from sharefs.mount.tree import Waiting
from sharefs.mount.unmounter import Unmounter

log: Final = logging.getLogger(__name__)

DESCRIPTORS: Final = 1 << 18  # wanted; what the hard limit allows otherwise
MAX_TASKS: Final = 1024  # requests that may wait for threads at the same time


# Opening what belongs to anybody, giving it owner, group, mode and times; and, for what is changed
# in a user's name (call_as), becoming that user to the file system.
NEEDED: Final = (
    Capability.CHOWN, Capability.DAC_OVERRIDE, Capability.DAC_READ_SEARCH, Capability.FOWNER,
    Capability.FSETID, Capability.SETGID, Capability.SETUID,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mounting:
    """Where and how.  options: for the kernel, besides our own.  source: shown by mount(8)."""

    mountpoint: Path
    source: str
    options: frozenset[str] = frozenset()
    default_permissions: bool = True
    allow_other: bool = True


_reading: Final = Reading()
waiting: Waiting = _reading


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

    Root gives up every capability but NEEDED once the mount is there.
    """
    root = os.geteuid() == 0
    unmounter = Unmounter(mounting.mountpoint) if root else None
    try:
        pyfuse3.init(operations, os.fspath(mounting.mountpoint), set(_options(mounting)))
        try:
            if unmounter is not None:
                unmounter.mounted()
                keep_capabilities(NEEDED)
            on_ready()
            trio.run(_answer)
        finally:
            if unmounter is not None:
                unmounter.end()
                unmounter = None
            pyfuse3.close(unmount=not root)
    finally:
        if unmounter is not None:
            unmounter.end()
        operations.close()


def _options(mounting: Mounting) -> frozenset[str]:
    source = mounting.source.replace("\\", "\\\\").replace(",", "\\,")
    options = {f"fsname={source}", "subtype=sharefs", *mounting.options}
    if mounting.allow_other:
        options.add("allow_other")
    if mounting.default_permissions:
        options.add("default_permissions")
    return frozenset(options)


async def _answer() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def end_on_signal() -> None:
                async for number in signals:
                    log.info("ending on %s", signal.Signals(number).name)
                    pyfuse3.terminate()

            nursery.start_soon(end_on_signal)
            install(_reading)
            await pyfuse3.main(max_tasks=MAX_TASKS)
            nursery.cancel_scope.cancel()


def share_out(descriptors: int, tree: Acting) -> Handles:
    """Half of the descriptors for handles, a quarter for what the tree keeps, the rest for work."""
    tree.gate.stay_within(descriptors // 4)
    return Handles(max(descriptors // 2, 16))
