"""Who has which modification sequence (RFC 7162): some messages with it, packed.  Pure.

A chunk holds the messages of SPAN consecutive UIDs, what flags each had when it was last looked
at, and the number of its last change.  A whole mailbox is compared with what is kept of it chunk
by chunk, as octets; only a chunk that differs is looked into.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from sharefs.flags import FlagSet

SPAN: Final = 512  # UIDs; a chunk of them is at most 10 KB
LARGEST: Final = 2**63 - 1  # RFC 7162 section 7: mod-sequence-value is of 63 bits

_EACH: Final = 4 + 8 + 8  # octets for each message

Ranges = list[tuple[int, int]]  # of UIDs: the first and the last of each


@lru_cache(maxsize=4096)
def state_of(flags: FlagSet) -> int:
    """A sum over the flags, the same in every process."""
    text = f"{int(flags.system)} {' '.join(sorted(flags.keywords))}"
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")


def chunk_of(uid: int) -> int:
    return uid // SPAN


@dataclass(slots=True)
class Chunk:
    """Parallel arrays, by ascending UID."""

    uids: "array[int]" = field(default_factory=lambda: array("I"))
    states: "array[int]" = field(default_factory=lambda: array("Q"))
    modseqs: "array[int]" = field(default_factory=lambda: array("Q"))

    @classmethod
    def of(cls, uids: Iterable[int], states: Iterable[int], modseq: int) -> "Chunk":
        """Messages that all have the same number."""
        chunk = cls(array("I", uids), array("Q", states))
        chunk.modseqs = array("Q", [modseq]) * len(chunk.uids)
        return chunk

    @classmethod
    def unpack(cls, octets: bytes) -> "Chunk":
        """Raises ValueError for what pack() never made."""
        count, rest = divmod(len(octets), _EACH)
        if rest:
            raise ValueError(f"{len(octets)} octets are no chunk")
        chunk = cls()
        chunk.uids.frombytes(octets[: 4 * count])
        chunk.states.frombytes(octets[4 * count : 12 * count])
        chunk.modseqs.frombytes(octets[12 * count :])
        return chunk

    def pack(self) -> bytes:
        return self.uids.tobytes() + self.states.tobytes() + self.modseqs.tobytes()

    def highest(self) -> int:
        return max(self.modseqs, default=0)

    def place_of(self, uid: int) -> int:
        """Its position, -1 if it is not here."""
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else -1

    def since(self, modseq: int) -> list[int]:
        """UIDs of what changed after modseq."""
        return [uid for uid, last in zip(self.uids, self.modseqs, strict=True) if last > modseq]


def is_same(octets: bytes, uids: Sequence[int], states: Sequence[int]) -> bool:
    """Whether a packed chunk is about just these messages, with these flags."""
    size = 12 * len(uids)
    return (
        len(octets) == _EACH * len(uids)
        and octets[:size] == array("I", uids).tobytes() + array("Q", states).tobytes()
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """changed: new ones among them.  gone: of those that were kept, which are no longer there.

    ahead: those that are kept but that this process has not met yet; they stay.
    """

    changed: tuple[int, ...]
    gone: tuple[int, ...]
    ahead: tuple[int, ...]


def compare(kept: Chunk, uids: Sequence[int], states: Sequence[int], uidnext: int) -> Comparison:
    """What happened since kept was written, given what is there now."""
    before = dict(zip(kept.uids, kept.states, strict=True))
    now = dict(zip(uids, states, strict=True))
    missing = [uid for uid in kept.uids if uid not in now]
    return Comparison(
        changed=tuple(uid for uid in uids if before.get(uid) != now[uid]),
        gone=tuple(uid for uid in missing if uid < uidnext),
        ahead=tuple(uid for uid in missing if uid >= uidnext),
    )


def renewed(
    kept: Chunk, uids: Sequence[int], states: Sequence[int], compared: Comparison, modseq: int
) -> Chunk:
    """The chunk as it is to be kept from now on; what changed has the number modseq."""
    changed = set(compared.changed)
    last = dict(zip(kept.uids, kept.modseqs, strict=True))
    chunk = Chunk(array("I", uids), array("Q", states))
    chunk.modseqs.extend(modseq if uid in changed else last[uid] for uid in uids)
    for uid in compared.ahead:  # they have higher UIDs than all that are there
        at = kept.place_of(uid)
        chunk.uids.append(uid)
        chunk.states.append(kept.states[at])
        chunk.modseqs.append(kept.modseqs[at])
    return chunk


def ranges_of(uids: Iterable[int]) -> Ranges:
    """Ascending UIDs as (first, last) pairs."""
    ranges: Ranges = []
    for uid in uids:
        if ranges and ranges[-1][1] == uid - 1:
            ranges[-1] = ranges[-1][0], uid
        else:
            ranges.append((uid, uid))
    return ranges


def absent(uids: Sequence[int], first: int, last: int) -> Ranges:
    """The gaps that uids, ascending, leave from first to last."""
    gaps: Ranges = []
    for at in range(bisect_left(uids, first), len(uids)):
        uid = uids[at]
        if uid > last:
            break
        if uid > first:
            gaps.append((first, uid - 1))
        first = uid + 1
    if first <= last:
        gaps.append((first, last))
    return gaps


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same UIDs as ascending ranges that neither touch nor overlap."""
    result: Ranges = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = result[-1][0], max(last, result[-1][1])
        else:
            result.append((first, last))
    return result


def pack_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    return array("I", [uid for pair in ranges for uid in pair]).tobytes()


def unpack_ranges(octets: bytes) -> Ranges:
    """Raises ValueError for what pack_ranges() never made."""
    if len(octets) % 8:
        raise ValueError(f"{len(octets)} octets are no ranges")
    numbers = array("I", octets)
    return list(zip(numbers[::2], numbers[1::2], strict=True))
