"""Sets of message numbers or UIDs (RFC 3501 sequence-set): parsed, resolved, picked, printed."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

STAR: Final = 0  # "*" in SequenceSet.ranges; no message has the number 0
LARGEST: Final = 0xFFFF_FFFF  # nz-number is 32 bits

_MANY_RANGES: Final = 64  # from here on a set is quicker than a search for each range

_SET: Final = re.compile(rb"(?:[1-9*][0-9]*(?::[1-9*][0-9]*)?)(?:,[1-9*][0-9]*(?::[1-9*][0-9]*)?)*")


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """The set as written.  ranges: (first, last) pairs in any order; STAR stands for "*".

    saved: it is "$", the result of an earlier search (RFC 5182), which only the session knows.
    """

    ranges: tuple[tuple[int, int], ...]
    saved: bool = False

    @classmethod
    def parse(cls, octets: bytes) -> "SequenceSet":
        """Read "1:3,5,7:*".  Raises ValueError for anything else."""
        if not _SET.fullmatch(octets):
            raise ValueError("not a sequence set")
        ranges = []
        for part in octets.split(b","):
            first, colon, last = part.partition(b":")
            low = _number(first)
            ranges.append((low, _number(last) if colon else low))
        return cls(tuple(ranges))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "SequenceSet":
        return cls(tuple((number, number) for number in numbers))

    def resolve(self, largest: int) -> tuple[tuple[int, int], ...]:
        """Ranges low to high, ascending, joined, with "*" replaced by largest.

        RFC 3501: "*" is the largest number in use and 3291:* always holds that number, so a
        range may turn round.  largest 0 means nothing is in use: only what was written out
        remains, and a "*" counts as nothing.
        """
        assert not self.saved, "whoever accepts $ must know what it stands for"
        pairs = []
        for first, last in self.ranges:
            if not largest and STAR in (first, last):
                continue
            low, high = first or largest, last or largest
            pairs.append((low, high) if low <= high else (high, low))
        if len(pairs) <= 1:
            return tuple(pairs)
        pairs.sort()
        joined: list[tuple[int, int]] = []
        low, high = pairs[0]
        for next_low, next_high in pairs:
            if next_low > high + 1:
                joined.append((low, high))
                low, high = next_low, next_high
            elif next_high > high:
                high = next_high
        joined.append((low, high))
        return tuple(joined)

    def pick(self, numbers: Sequence[int]) -> list[int]:
        """Those of numbers (ascending) that are in the set, ascending."""
        if not numbers:
            return []
        ranges = self.resolve(numbers[-1])
        if len(ranges) > _MANY_RANGES and sum(high - low for low, high in ranges) < len(numbers):
            wanted: set[int] = set()
            for low, high in ranges:
                wanted.update(range(low, high + 1))
            return [number for number in numbers if number in wanted]
        picked: list[int] = []
        for low, high in ranges:
            if low == high:
                at = bisect_left(numbers, low)
                if at < len(numbers) and numbers[at] == low:
                    picked.append(low)
            else:
                picked += numbers[bisect_left(numbers, low) : bisect_right(numbers, high)]
        return picked

    def beyond(self, largest: int) -> bool:
        """Whether a number that was written out is greater than largest.

        For sequence numbers that is an error of the client; for UIDs it is not.
        """
        return any(first > largest or last > largest for first, last in self.ranges)


SAVED: Final = SequenceSet((), saved=True)


def _number(octets: bytes) -> int:
    if octets == b"*":
        return STAR
    if len(octets) > 10 or not octets.isdigit():
        raise ValueError("not a 32-bit number")
    number = int(octets)
    if number > LARGEST:
        raise ValueError("not a 32-bit number")
    return number


def format_set(numbers: Sequence[int]) -> bytes:
    """Print ascending numbers without repeats in the shortest form: 1:3,5.  Empty for none."""
    if not numbers:
        return b""
    first, last = numbers[0], numbers[-1]
    if last - first == len(numbers) - 1:
        return b"%d:%d" % (first, last) if last > first else b"%d" % first
    return format_ordered(numbers)


def format_ordered(numbers: Sequence[int]) -> bytes:
    """Print numbers in the order given, which may be any, in a sequence set: 7,1:3.

    Only where they ascend by one are they joined: a range has no other order (RFC 5267 section 3).
    """
    if not numbers:
        return b""
    parts: list[str] = []
    start = previous = numbers[0]
    for number in numbers[1:]:
        if number != previous + 1:
            parts.append(f"{start}:{previous}" if previous > start else str(start))
            start = number
        previous = number
    parts.append(f"{start}:{previous}" if previous > start else str(start))
    return ",".join(parts).encode("ascii")


def format_copyuid(pairs: Sequence[tuple[int, int]]) -> tuple[bytes, bytes]:
    """The two sets of a COPYUID code for (source, destination) pairs, in the order given.

    RFC 4315 section 3: the n-th of one set corresponds to the n-th of the other, so ranges are
    joined only where both ascend by one.
    """
    sources: list[str] = []
    destinations: list[str] = []
    at = 0
    while at < len(pairs):
        end = at
        source, destination = pairs[at]
        while end + 1 < len(pairs) and pairs[end + 1] == (
            source + end + 1 - at,
            destination + end + 1 - at,
        ):
            end += 1
        for parts, first, last in (
            (sources, source, pairs[end][0]),
            (destinations, destination, pairs[end][1]),
        ):
            parts.append(f"{first}:{last}" if last > first else str(first))
        at = end + 1
    return ",".join(sources).encode("ascii"), ",".join(destinations).encode("ascii")
