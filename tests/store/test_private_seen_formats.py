"""The records of a private log and what they say, without files."""

import contextlib
import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.store.private_seen import records
from sharefs.store.private_seen.history import KEPT, History
from sharefs.store.private_seen.index_file import IndexFile, format_index, parse_index
from sharefs.store.private_seen.records import (
    BrokenLog,
    LogHeader,
    decode_size,
    encode_size,
    format_append,
    format_expunge,
    format_header_number,
    format_seen,
    format_transaction,
    iter_records,
    parse_header,
)
from sharefs.store.private_seen.state import Difference, PrivateState, compare, ranges_of

# A viewer's whole log as Dovecot 2.3.19.1 wrote it: a transaction with UIDVALIDITY, messages 1
# and 2 (2 seen in the shared mailbox), then message 3, then \Seen added to 1 and taken from 2.
OBSERVED = bytes.fromhex(
    "0103280024e2016b02000000000000000000000024e2016b01000000000000000100000000000000"
    "8080808300000810740000008080808620000010180004002 4e2016b4c000400ffffffff8080808602"
    "000010010000000000000002000000080000008080808e200000101c000400030000005400240000df"
    "006b01000000000000000000000000000000000000000000000000000000000000008080808300000810"
    "2c00000080808084020000100300000000000000808080842000001 01c0004000400000080808085040"
    "000000100000001000000080000008080808504000000020000000200000000080000".replace(" ", "")
)


def replay(octets: bytes, start: int = 0) -> PrivateState:
    state = PrivateState()
    for record, _ in iter_records(memoryview(octets), start):
        if record is not None:
            state.apply(record)
    return state


def test_a_log_that_dovecot_wrote() -> None:
    header = parse_header(OBSERVED)
    assert (header.index_id, header.file_seq, header.previous_seq) == (0x6B01E224, 2, 0)
    state = replay(OBSERVED, header.size)
    assert state.uids == [1, 2, 3]
    assert state.seen == {1}
    assert (state.uidvalidity, state.next_uid) == (0x6B01E224, 4)


def test_we_write_the_same_octets() -> None:
    """What we write for the same changes is, octet for octet, what Dovecot wrote."""
    for ours in (
        format_header_number(records.NEXT_UID_OFFSET, 4),
        format_append([3], set()),
        format_append([1, 2], {2}),
        format_seen([(1, 1)], add=True),
        format_seen([(2, 2)], add=False),
        format_transaction(
            [format_append([3], set()), format_header_number(records.NEXT_UID_OFFSET, 4)]
        ),
    ):
        assert ours in OBSERVED


def test_header_round_trips() -> None:
    header = LogHeader(7, 3, 2, 4096, 1_700_000_000, 9)
    assert parse_header(header.encode()) == header
    assert len(header.encode()) == records.HEADER_SIZE


@given(st.integers(1, (1 << 28) - 1))
def test_sizes_round_trip_and_show_when_they_are_not_whole(words: int) -> None:
    octets = encode_size(words * 4)
    assert decode_size(octets) == words * 4
    for position in range(4):
        torn = octets[:position] + bytes([octets[position] & 0x7F]) + octets[position + 1 :]
        assert decode_size(torn) is None


def test_the_observed_size() -> None:
    assert encode_size(24) == bytes.fromhex("80808086")


@pytest.mark.parametrize("size", [0, 3, 6, 1 << 30, -4])
def test_impossible_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="size of a record"):
        encode_size(size)


@given(st.binary(max_size=80))
def test_garbage_is_no_header(octets: bytes) -> None:
    try:
        header = parse_header(octets)
    except BrokenLog:
        return
    assert header.index_id
    assert header.file_seq


@given(st.binary(max_size=300))
def test_garbage_records_never_surprise(octets: bytes) -> None:
    state = PrivateState()
    try:
        for record, _ in iter_records(memoryview(octets), 0):
            if record is not None:
                state.apply(record)
    except BrokenLog:
        pass
    assert state.uids == sorted(set(state.uids))
    assert state.seen.issubset(state.uids)


def test_flipped_bits_never_surprise() -> None:
    random_bits = random.Random(20090221)
    for _ in range(2000):
        octets = bytearray(OBSERVED)
        for _ in range(random_bits.randint(1, 4)):
            octets[random_bits.randrange(40, len(octets))] ^= 1 << random_bits.randrange(8)
        with contextlib.suppress(BrokenLog):
            replay(bytes(octets), 40)


def test_every_truncation_is_a_prefix() -> None:
    """A transaction counts whole or not at all."""
    pictures = set()
    for end in range(40, len(OBSERVED) + 1):
        state = replay(OBSERVED[:end], 40)
        pictures.add((tuple(state.uids), tuple(sorted(state.seen)), state.next_uid))
    assert pictures == {
        ((), (), 1),
        ((1, 2), (2,), 3),
        ((1, 2, 3), (2,), 4),
        ((1, 2, 3), (1, 2), 4),
        ((1, 2, 3), (1,), 4),
    }


def test_ranges_touch_known_messages_only() -> None:
    state = replay(
        format_append([1, 2, 5, 9], set())
        + format_seen([(0, 0xFFFFFFFF)], add=True)
        + format_seen([(2, 8)], add=False)
    )
    assert state.seen == {1, 9}
    assert state.touched == {1, 2, 5, 9}


def test_expunges_of_both_kinds() -> None:
    by_guid = records.format_record(
        records.Type.EXPUNGE_GUID | records.EXPUNGE_PROTECTION | records.EXTERNAL,
        struct.pack("<I16s", 9, b"g" * 16),
    )
    state = replay(format_append([1, 2, 5, 9], {2, 9}) + format_expunge([(1, 2)]) + by_guid)
    assert (state.uids, state.seen) == ([5], set())


def test_an_expunge_that_is_only_a_wish() -> None:
    wish = records.format_record(
        records.Type.EXPUNGE | records.EXPUNGE_PROTECTION, struct.pack("<II", 1, 1)
    )
    assert replay(format_append([1], set()) + wish).uids == [1]


def test_appending_backwards_is_broken() -> None:
    with pytest.raises(BrokenLog, match="UID 3"):
        replay(format_append([5], set()) + format_append([3], set()))


@given(st.sets(st.integers(1, 60)))
def test_ranges_say_the_same(uids: set[int]) -> None:
    runs = ranges_of(sorted(uids))
    assert [uid for first, last in runs for uid in range(first, last + 1)] == sorted(uids)
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(runs))


COMPARISONS = [  # id, private (validity, next, uids), shared (uids, next) -> difference
    ("in-step", (7, 4, [1, 3]), ([1, 3], 4), Difference()),
    ("first-time", (0, 1, []), ([1, 3], 4), Difference(added=(1, 3), next_uid=4)),
    ("new-mail", (7, 4, [1, 3]), ([1, 3, 4], 5), Difference(added=(4,), next_uid=5)),
    ("expunged", (7, 4, [1, 2, 3]), ([2], 4), Difference(expunged=(1, 3))),
    ("came-and-went", (7, 4, [1]), ([1], 9), Difference(next_uid=9)),
    ("other-mailbox", (8, 4, [1]), ([1], 2), Difference(reset=True, added=(1,), next_uid=2)),
    ("lacks-one", (7, 4, [1]), ([1, 2], 4), Difference(rebuild=True)),
    ("ahead-of-us", (7, 6, [1, 5]), ([1], 5), Difference()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("private", "shared", "want"), [row[1:] for row in COMPARISONS], ids=[r[0] for r in COMPARISONS]
)
def test_compare(
    private: tuple[int, int, list[int]], shared: tuple[list[int], int], want: Difference
) -> None:
    state = PrivateState(private[0], private[1], list(private[2]))
    assert compare(state, shared[0], frozenset(shared[0]), 7, shared[1]) == want


def index_octets(record_size: int, rows: list[tuple[int, int]], *, extra_header: int = 0) -> bytes:
    header = bytearray(120 + extra_header)
    struct.pack_into("<BBHIIB", header, 0, 7, 3, 120, len(header), record_size, 1)
    struct.pack_into("<I", header, 16, 99)
    struct.pack_into("<III", header, 24, 1234, 10, len(rows))
    struct.pack_into("<III", header, 60, 2, 40, 400)
    body = b"".join(struct.pack("<IB", *row).ljust(record_size, b"\0") for row in rows)
    return bytes(header) + body


@pytest.mark.parametrize("record_size", [5, 8, 12, 14, 24])
def test_index_file(record_size: int) -> None:
    got = parse_index(index_octets(record_size, [(1, 0), (4, 8), (9, 0x88)], extra_header=40))
    assert (got.index_id, got.log_seq, got.log_head) == (99, 2, 400)
    assert (got.state.uidvalidity, got.state.next_uid) == (1234, 10)
    assert (got.state.uids, got.state.seen) == ([1, 4, 9], {4, 9})


def test_our_index_file_reads_back() -> None:
    state = PrivateState(1234, 10, [1, 4, 9], {4})
    index = IndexFile(99, 2, 400, state)
    assert parse_index(format_index(index)) == index


@given(st.binary(max_size=300), st.integers(0, 200))
def test_garbage_is_no_index(octets: bytes, keep: int) -> None:
    good = index_octets(8, [(1, 0), (4, 8)])
    for candidate in (octets, good[:keep], good[:keep] + octets):
        try:
            got = parse_index(candidate)
        except BrokenLog:
            continue
        assert got.state.uids == sorted(set(got.state.uids))


def test_history_adds_up_two_counters() -> None:
    history = History()
    start = history.moment(10)
    history.note(frozenset({1}))
    middle = history.moment(12)
    history.note(frozenset({2}))
    assert start < middle < history.moment(12)
    assert history.shared_at(start) == 10
    assert history.shared_at(middle) == 12
    assert history.changed_since(start) == frozenset({1, 2})
    assert history.changed_since(middle) == frozenset({2})
    assert history.changed_since(history.moment(12)) == frozenset()


def test_history_forgets_but_never_lies() -> None:
    history = History()
    start = history.moment(0)
    for number in range(KEPT + 10):
        history.note(frozenset({number}))
        history.moment(0)
    assert history.changed_since(start) is None
    assert history.changed_since(history.moment(0)) == frozenset()
