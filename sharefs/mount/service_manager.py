"""What systemd is told: sd_notify(3) and its watchdog, without a library."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Final

log: Final = logging.getLogger(__name__)


def notify(state: str) -> None:
    """READY=1, STOPPING=1, WATCHDOG=1, ...  Nobody listening is no error."""
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target:
        return
    address = "\0" + target[1:] if target.startswith("@") else target
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            log.info("the service manager at %s went away", target)


def watchdog_interval() -> float:
    """Seconds between two signs of life that are asked of this very process; 0: none are."""
    try:
        if int(os.environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return 0
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    except ValueError:
        return 0


def watch(demand_alive: Callable[[], object]) -> None:
    """Give signs of life twice as often as asked, as long as demand_alive() returns.

    It is called in a thread of its own, so that it may hang like what it asks; then the manager
    hears nothing any more, and ends this process.  When it raises OSError the watch is over.
    """
    interval = watchdog_interval()
    if interval <= 0:
        return
    pause = threading.Event()

    def keep_telling() -> None:
        with contextlib.suppress(OSError):
            while not pause.wait(interval / 2):
                demand_alive()
                notify("WATCHDOG=1")

    threading.Thread(target=keep_telling, name="watchdog", daemon=True).start()
