"""sd_notify(3): tell the service manager that we are ready, reloading or stopping."""

import os
import socket


def notify(state: str, *, address: str | None = None) -> bool:
    """Send state ("READY=1") to $NOTIFY_SOCKET, or to address.  False: nobody wants to know.

    A manager that went away is no reason to stop serving mail, so errors are not raised.
    """
    target = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
    if not target:
        return False
    if target.startswith("@"):
        target = "\0" + target[1:]  # the abstract namespace, as systemd writes it
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), target)
        except OSError:
            return False
    return True
