"""Ranges of locks against octets, one by one, and against the kernel's own."""

import fcntl
import itertools
import os
import struct
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.mount.lock_ranges import (
    LAST,
    READ,
    UNLOCK,
    WRITE,
    Range,
    Ranges,
    first_conflict,
    waits_for_itself,
    with_range,
)

SIZE = 24  # octets of the file in question
KINDS = st.sampled_from((READ, WRITE, UNLOCK))
PLACES = st.integers(0, SIZE - 1)
STEPS = st.lists(
    st.tuples(PLACES, PLACES, KINDS).map(lambda one: Range(min(one[:2]), max(one[:2]), one[2])),
    max_size=12,
)
FLOCK = struct.Struct("hhqqi4x")


def octets(ranges: Ranges) -> list[int]:
    found = [UNLOCK] * SIZE
    for one in ranges:
        found[one.start : one.end + 1] = [one.kind] * (one.end + 1 - one.start)
    return found


@given(STEPS)
def test_each_octet_has_what_it_was_given_last(steps: list[Range]) -> None:
    ranges: Ranges = ()
    want = [UNLOCK] * SIZE
    for step in steps:
        ranges = with_range(ranges, step)
        want[step.start : step.end + 1] = [step.kind] * (step.end + 1 - step.start)
        assert octets(ranges) == want
        pairs = list(itertools.pairwise(ranges))
        assert all(one.end < other.start for one, other in pairs)
        assert not any(
            one.end + 1 == other.start and one.kind == other.kind for one, other in pairs
        )


@given(STEPS, STEPS)
def test_what_stands_in_the_way_is_what_the_kernel_names(
    mine: list[Range], asked: list[Range]
) -> None:
    """Two open files of one file: F_OFD_GETLK through the other one."""
    ranges: Ranges = ()
    with tempfile.TemporaryFile() as holder:
        for step in mine:
            length = step.end - step.start + 1
            packed = FLOCK.pack(step.kind, os.SEEK_SET, step.start, length, 0)
            fcntl.fcntl(holder, fcntl.F_OFD_SETLK, packed)
            ranges = with_range(ranges, step)
        with open(f"/proc/self/fd/{holder.fileno()}", "r+b") as asker:
            for step in asked:
                if step.kind == UNLOCK:
                    continue
                packed = FLOCK.pack(
                    step.kind, os.SEEK_SET, step.start, step.end - step.start + 1, 0
                )
                kind, _, start, length, _ = FLOCK.unpack(
                    fcntl.fcntl(asker, fcntl.F_OFD_GETLK, packed)
                )
                got = None if kind == UNLOCK else (start, start + length - 1, kind)
                found = first_conflict(ranges, step)
                assert got == (found and (found.start, found.end, found.kind))


def test_the_end_of_the_file_is_no_number() -> None:
    ranges = with_range((), Range(10, LAST, WRITE, 7))
    assert with_range(ranges, Range(20, 29, UNLOCK)) == (
        Range(10, 19, WRITE, 7), Range(30, LAST, WRITE, 7)
    )  # fmt: skip
    assert with_range(ranges, Range(0, LAST, UNLOCK)) == ()


WAITING = [  # who is in whose way, who asks, whom for -> would it never end
    ("nobody waits", {}, "a", "b", False),
    ("each for the other", {"b": "a"}, "a", "b", True),
    ("three in a ring", {"b": "c", "c": "a"}, "a", "b", True),
    ("a ring of others", {"b": "c", "c": "b"}, "a", "b", False),
    ("two ways, one of them back", {"b": "cd", "d": "a"}, "a", "b", True),
    ("a chain that ends", {"b": "c", "c": "d"}, "a", "b", False),
]


@pytest.mark.parametrize(("ways", "asker", "first", "want"), [one[1:] for one in WAITING],
                         ids=[one[0] for one in WAITING])  # fmt: skip
def test_waiting_in_a_ring(ways: dict[str, str], asker: str, first: str, want: bool) -> None:
    assert waits_for_itself(asker, first, lambda owner: ways.get(str(owner), "")) is want
