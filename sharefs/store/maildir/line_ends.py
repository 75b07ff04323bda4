"""Line ends: LF in the file, as Unix programs expect, CRLF on the wire.  Pure.

Storing must not lose an octet that reading cannot give back.  `CR LF` becomes `LF`, but not where
another CR stands before it: `CR CR LF` stays as it is, and reads back as it was.
"""

import re
from typing import Final

_CRLF: Final = re.compile(rb"(?<!\r)\r\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


def with_crlf(octets: bytes) -> bytes:
    """What a client is sent for the content of a file.  A lone CR stays."""
    if b"\r" not in octets:
        return octets.replace(b"\n", b"\r\n")
    return _BARE_LF.sub(b"\r\n", octets)


def without_crlf(octets: bytes) -> bytes:
    """What is stored for what a client sent; with_crlf() undoes it if there was no bare LF."""
    if b"\r\r\n" not in octets:
        return octets.replace(b"\r\n", b"\n")
    return _CRLF.sub(b"\n", octets)


def virtual_size(octets: bytes) -> int:
    """len(with_crlf(octets))."""
    return len(octets) + octets.count(b"\n") - octets.count(b"\r\n")


def header_end(octets: bytes) -> int:
    """Where the body begins: after the first empty line.  -1: there is none here."""
    ends = [octets.find(mark) + len(mark) for mark in (b"\n\n", b"\n\r\n") if mark in octets]
    ends += [len(mark) for mark in (b"\n", b"\r\n") if octets.startswith(mark)]
    return min(ends, default=-1)


class LineEnds:
    """Takes a message in pieces, split anywhere, and gives what is to be stored.

    keep_crlf: store CRLF as it comes.  stored, virtual: octets so far, see filename.Sizes.
    """

    def __init__(self, *, keep_crlf: bool) -> None:
        self._keep = keep_crlf
        self._held = b""  # a run of CR at the end of the last piece
        self.stored = 0
        self.virtual = 0

    def feed(self, octets: bytes | memoryview) -> bytes:
        piece = self._held + bytes(octets)
        end = len(piece.rstrip(b"\r"))
        self._held = piece[end:]
        return self._convert(piece[:end])

    def finish(self) -> bytes:
        piece, self._held = self._held, b""
        return self._convert(piece)

    def _convert(self, piece: bytes) -> bytes:
        # No piece begins after a CR, so the looks behind of this module see all they need.
        self.virtual += virtual_size(piece)
        stored = piece if self._keep else without_crlf(piece)
        self.stored += len(stored)
        return stored
