"""What was started ends with a measurement, however that ends."""

import signal
import sys


def ended_by_sigterm() -> None:
    """SIGTERM from now on ends this process as an error does: servers stop, directories go."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
