"""Where a mailbox may keep what spares the next process work: derived, and never the truth."""

from typing import Protocol


class Shelf(Protocol):
    """Of one mailbox and one viewer, whom alone everything on it belongs to and reaches."""

    def read(self, name: str) -> bytes | None:
        """None: there is nothing, or nothing that can be trusted.  Raises nothing."""
        ...

    def write(self, name: str, octets: bytes) -> None:
        """All of it or nothing.  What the disk refuses is logged.  Raises nothing."""
        ...
