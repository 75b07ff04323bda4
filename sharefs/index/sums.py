"""Sums that find out flipped octets, which SQLite would pass on.  Pure.

CRC-32, started with the message's UID and the column, so that a value of another message or of
another column is as wrong as a damaged one.  Against accidents only: nobody but the user himself
can write here.
"""

from binascii import crc32
from collections.abc import Sequence
from typing import Final

# A CRC over a value followed by its own CRC (least significant octet first) is always this,
# whatever it was started with: so one call verifies.
_RESIDUE: Final = 0x2144DF1C
_SPREAD: Final = 0x9E3779B1  # odd, so that different UIDs and columns start differently


def start_of(uid: int, column: int) -> int:
    return (uid * _SPREAD + column) & 0xFFFFFFFF


def sealed(octets: bytes, uid: int, column: int) -> bytes:
    """octets with their sum behind them."""
    return octets + crc32(octets, start_of(uid, column)).to_bytes(4, "little")


def unsealed(octets: bytes, uid: int, column: int) -> bytes | None:
    """What was sealed; None if a single octet, the UID or the column differs."""
    if crc32(octets, (uid * _SPREAD + column) & 0xFFFFFFFF) != _RESIDUE:
        return None
    return octets[:-4]


def unsealed_all(
    values: Sequence[object], uids: Sequence[int], column: int
) -> list[bytes | int | None] | None:
    """unsealed() of a whole column at once; None if one of them is no sealed octets."""
    sums = [
        crc32(octets, (uid * _SPREAD + column) & 0xFFFFFFFF)
        for uid, octets in zip(uids, values, strict=True)
        if isinstance(octets, bytes)
    ]
    if sums.count(_RESIDUE) != len(values):
        return None
    return [octets[:-4] for octets in values if isinstance(octets, bytes)]


def sum_of(*values: object) -> int:
    """A sum over a row's values."""
    return crc32(repr(values).encode("utf-8", "surrogatepass"))
