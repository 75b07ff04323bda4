"""COMPRESS=DEFLATE: a raw deflate stream in each direction (RFC 4978).  No I/O.

Memory for one connection: about 256 KiB to compress and 44 KiB to decompress, whatever the
client sends.  What one octet of a bomb expands to is never held: it is taken in pieces.
"""

import zlib
from typing import Final

_WINDOW: Final = -15  # 32 KiB, without a header (RFC 4978 section 4)
_MEMORY: Final = 8  # zlib's default: 128 KiB besides two windows of 64 KiB


class Compressor:
    """level: 1, the fastest, to 9."""

    def __init__(self, level: int) -> None:
        """Raises MemoryError."""
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, _WINDOW, _MEMORY)

    def compress(self, octets: bytes | memoryview) -> bytes:
        """What is ready to be sent; some octets may wait for more."""
        return self._deflate.compress(octets)

    def flush(self) -> bytes:
        """What is left: with it the other side can read all that was compressed so far."""
        return self._deflate.flush(zlib.Z_SYNC_FLUSH)


class Decompressor:
    """feed() what came, then take() until it returns nothing."""

    def __init__(self) -> None:
        """Raises MemoryError."""
        self._inflate = zlib.decompressobj(_WINDOW)
        self._waiting = b""
        self._more = False  # the last piece was cut where it was as long as it could be

    @property
    def has_ended(self) -> bool:
        """The other side has ended its stream: nothing can follow."""
        return self._inflate.eof

    @property
    def is_waiting(self) -> bool:
        """Whether take() may have something without feed()."""
        return bool(self._waiting or self._more) and not self.has_ended

    def feed(self, octets: bytes) -> None:
        self._waiting += octets

    def take(self, most: int) -> bytes:
        """At most so many octets; none: more must be fed.  Raises ValueError for no deflate."""
        if self.has_ended:
            return b""
        try:
            octets = self._inflate.decompress(self._waiting, most)
        except zlib.error as error:
            raise ValueError(f"no deflate stream: {error}") from error
        self._waiting = self._inflate.unconsumed_tail
        self._more = len(octets) == most
        return octets
