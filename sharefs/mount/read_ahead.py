"""How much the kernel reads ahead through the mount.

It begins with 128 KiB, and with a request for each; a daemon may lower that, but only the
superuser may raise it, and only through /sys.  With requests of 1 MiB reading costs an eighth.
"""

import logging
import os
from pathlib import Path
from typing import Final

log: Final = logging.getLogger(__name__)

KIBIBYTES: Final = 1024  # the kernel's limit for one request is 1 MiB


def widen(
    mountpoint: Path,
    *,
    mountinfo: Path = Path("/proc/self/mountinfo"),
    devices: Path = Path("/sys/class/bdi"),
) -> bool:
    """Whether it could be.  Without, reading is slower and nothing else."""
    number = _number(mountpoint, mountinfo)
    if number is None:
        return False
    try:
        (devices / number / "read_ahead_kb").write_text(str(KIBIBYTES))
    except OSError as error:
        log.info("reading ahead stays short: %s", error)
        return False
    return True


def _number(mountpoint: Path, mountinfo: Path) -> str | None:
    """major:minor of what is mounted there now.  Never touches the mount: it could not answer."""
    found = None
    for line in mountinfo.read_bytes().splitlines():
        words = line.split(b" ")
        path = words[4].decode("unicode_escape").encode("latin-1")  # \040 and the like
        if path == os.fsencode(mountpoint):
            found = os.fsdecode(words[2])
    return found
