"""Sums that find out flipped octets, which SQLite would pass on.  Pure.

CRC-32, started with the message's UID and the column, so that a value of another message or of
another column is as wrong as a damaged one.  Against accidents only: nobody but the user himself
can write here.
"""

from binascii import crc32
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

# A CRC over a value followed by its own CRC (least significant octet first) is always this,
# whatever it was started with: so one call verifies.
_RESIDUE: Final = 0x2144DF1C
_SPREAD: Final = 0x9E3779B1  # odd, so that different UIDs and columns start differently
_without_sum: Final = itemgetter(slice(-4))


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
    values: Sequence[Any], uids: Sequence[int], column: int
) -> list[bytes | int | None] | None:
    """unsealed() of a whole column at once; None if one of them is no sealed octets."""
    starts: Iterable[int]  # of which crc32() takes the lowest 32 bits
    if uids and uids[-1] - uids[0] == len(uids) - 1:
        starts = range(uids[0] * _SPREAD + column, (uids[-1] + 1) * _SPREAD + column, _SPREAD)
    else:
        starts = [uid * _SPREAD + column for uid in uids]
    try:
        sums = list(map(crc32, values, starts))
    except TypeError:
        return None
    if sums.count(_RESIDUE) != len(values):
        return None
    return list(map(_without_sum, values))


def sum_of(*values: object) -> int:
    """A sum over a row's values."""
    return crc32(repr(values).encode("utf-8", "surrogatepass"))
