"""Since when this system runs: what was noted under another boot may be older than the disk."""

import functools
from pathlib import Path


@functools.lru_cache(maxsize=1)
def this_boot() -> str:
    """Another one whenever the system starts; empty if there is no such thing."""
    try:
        # As octets: a user's process may not be able to load the codec that a text file takes.
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().decode("ascii").strip()
    except (OSError, ValueError):
        return ""
