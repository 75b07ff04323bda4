"""With which state of a mailbox the rows of its index agree, as octets and back.  Pure."""

import struct
from array import array
from dataclasses import dataclass
from typing import Final

_SIZES: Final = struct.Struct("=IIII")


@dataclass(frozen=True, slots=True)
class Agreement:
    """mark: of the mailbox (Memento.fingerprint()).  UIDs: of messages there without rows, of those
    with rows but without texts, and of rows whose messages are gone."""

    mark: bytes
    missing: tuple[int, ...]
    textless: tuple[int, ...]
    gone: tuple[int, ...]

    def pack(self) -> bytes:
        parts = [array("I", uids).tobytes() for uids in (self.missing, self.textless, self.gone)]
        sizes = _SIZES.pack(len(self.mark), *map(len, parts))
        return b"".join([sizes, self.mark, *parts])

    @classmethod
    def unpack(cls, octets: bytes) -> "Agreement":
        """Raises ValueError for what pack() never made."""
        if len(octets) < _SIZES.size:
            raise ValueError("too short for an agreement")
        sizes = _SIZES.unpack_from(octets)
        if len(octets) != _SIZES.size + sum(sizes):
            raise ValueError(f"{len(octets)} octets are no agreement")
        parts = []
        at = _SIZES.size
        for size in sizes:
            parts.append(octets[at : at + size])
            at += size
        return cls(parts[0], *(_uids(part) for part in parts[1:]))


def _uids(octets: bytes) -> tuple[int, ...]:
    uids = array("I")
    uids.frombytes(octets)
    return tuple(uids)
