"""RETURN options, PARTIAL ranges and ESEARCH responses: RFC 4731, 5182, 5267, 9394."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.wire import Cursor, ProtocolError
from imap.wire.esearch import Return, Returning, esearch, parse_returning
from imap.wire.partial import Partial, parse_partial
from imap.wire.sequence import SAVED, SequenceSet, format_ordered, format_set

ALL, COUNT, MAX, MIN = Return.ALL, Return.COUNT, Return.MAX, Return.MIN
PARTIAL, SAVE = Return.PARTIAL, Return.SAVE


def returning(*options: Return, partial: bytes = b"") -> Returning:
    window = parse_partial(Cursor.over(partial)) if partial else None
    return Returning(frozenset(options), window)


PARSED = [
    ("empty-is-all", b"RETURN () ALL", returning(ALL)),
    ("one", b"RETURN (MIN) ALL", returning(MIN)),
    ("any-case-any-order", b"return (count Min SAVE) ALL", returning(COUNT, MIN, SAVE)),
    ("twice-is-once", b"RETURN (ALL ALL) ALL", returning(ALL)),
    ("partial", b"RETURN (PARTIAL 1:10) ALL", returning(PARTIAL, partial=b"1:10")),
    (
        "partial-among-others",
        b"RETURN (MAX PARTIAL -10:-1 COUNT) ALL",
        returning(MAX, PARTIAL, COUNT, partial=b"-10:-1"),
    ),
    ("none", b"ALL", None),
    ("a-key-that-begins-like-it", b"RECENT", None),
]


@pytest.mark.parametrize(("text", "want"), [row[1:] for row in PARSED], ids=[r[0] for r in PARSED])
def test_parsed(text: bytes, want: Returning | None) -> None:
    cursor = Cursor.over(text)
    assert parse_returning(cursor) == want
    assert cursor.since(0) + cursor.peek() == text[: text.find(b")") + 3] if want else True


BAD = [
    b"RETURN",
    b"RETURN ALL",
    b"RETURN (",
    b"RETURN (MIN",
    b"RETURN (MIN)",
    b"RETURN (MINIMUM) ALL",
    b"RETURN (ALL PARTIAL 1:2) ALL",
    b"RETURN (PARTIAL) ALL",
    b"RETURN (PARTIAL 1:2 PARTIAL 1:2) ALL",
    b"RETURN (PARTIAL 0:2) ALL",
    b"RETURN (PARTIAL 1:0) ALL",
    b"RETURN (PARTIAL 1:*) ALL",
    b"RETURN (PARTIAL 1) ALL",
    b"RETURN (PARTIAL -1:2) ALL",
    b"RETURN (PARTIAL 1:-2) ALL",
    b"RETURN (PARTIAL 1:4294967296) ALL",
    b"RETURN (PARTIAL 1:99999999999) ALL",
    b'RETURN (PARTIAL "1:2") ALL',
]


@pytest.mark.parametrize("text", BAD, ids=bytes.decode)
def test_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError) as got:
        parse_returning(Cursor.over(text))
    assert got.value.condition == "BAD"


WINDOWS = [
    (b"1:3", "abc"), (b"3:1", "abc"), (b"2:2", "b"), (b"4:9", "de"), (b"6:9", ""),
    (b"-1:-2", "de"), (b"-2:-1", "de"), (b"-5:-5", "a"), (b"-4:-9", "ab"), (b"-6:-9", ""),
    (b"-1:-4294967295", "abcde"), (b"1:4294967295", "abcde"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), WINDOWS, ids=[w[0].decode() for w in WINDOWS])
def test_windows(text: bytes, want: str) -> None:
    assert parse_partial(Cursor.over(text)).of("abcde") == want


@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.integers(0, 50))
def test_a_window_counts_from_one_end_as_from_the_other(
    one: int, other: int, from_end: bool, count: int
) -> None:
    low, high = sorted((one, other))
    items = list(range(1, count + 1))
    got = Partial(low, high, from_end, b"").of(items)
    if from_end:
        assert got == [item for item in items if low <= count + 1 - item <= high]
    else:
        assert got == [item for item in items if low <= item <= high]


FOUND = [2, 3, 4, 9]
ANSWERS = [  # id, options, found, want
    ("all", returning(ALL), FOUND, b'ESEARCH (TAG "t") UID ALL 2:4,9'),
    ("min-max-count", returning(MIN, MAX, COUNT), FOUND,
     b'ESEARCH (TAG "t") UID MIN 2 MAX 9 COUNT 4'),
    ("nothing-found", returning(MIN, MAX, ALL, COUNT), [], b'ESEARCH (TAG "t") UID COUNT 0'),
    ("nothing-found-or-counted", returning(ALL), [], b'ESEARCH (TAG "t") UID'),
    ("sorted", returning(ALL, MIN, MAX), [9, 2, 3, 5, 4],
     b'ESEARCH (TAG "t") UID MIN 9 MAX 4 ALL 9,2:3,5,4'),
    ("only-saved", returning(SAVE), FOUND, b""),
    ("saved-and-counted", returning(SAVE, COUNT), FOUND, b'ESEARCH (TAG "t") UID COUNT 4'),
    ("partial", returning(PARTIAL, partial=b"2:3"), FOUND,
     b'ESEARCH (TAG "t") UID PARTIAL (2:3 3:4)'),
    ("partial-from-the-end", returning(PARTIAL, MIN, partial=b"-1:-2"), FOUND,
     b'ESEARCH (TAG "t") UID MIN 2 PARTIAL (-1:-2 4,9)'),
    ("partial-beyond", returning(PARTIAL, partial=b"10:20"), FOUND,
     b'ESEARCH (TAG "t") UID PARTIAL (10:20 NIL)'),
    ("partial-of-nothing", returning(PARTIAL, COUNT, partial=b"-1:-2"), [],
     b'ESEARCH (TAG "t") UID PARTIAL (-1:-2 NIL) COUNT 0'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "found", "want"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
def test_answers(asked: Returning, found: list[int], want: bytes) -> None:
    assert esearch("t", asked, found, None) == want


def test_answers_in_message_numbers() -> None:
    places = {2: 1, 3: 2, 4: 3, 9: 4}
    asked = returning(MIN, MAX, ALL, COUNT)
    got = esearch("t", asked, FOUND, lambda uids: [places[uid] for uid in uids])
    assert got == b'ESEARCH (TAG "t") MIN 1 MAX 4 ALL 1:4 COUNT 4'


SAVES = [  # what "$" becomes: RFC 5182 section 2.4, RFC 9394 section 3.2
    (returning(SAVE), [2, 3, 4, 9]),
    (returning(SAVE, MIN), [2]),
    (returning(SAVE, MAX), [9]),
    (returning(SAVE, MIN, MAX), [2, 9]),
    (returning(SAVE, COUNT), [2, 3, 4, 9]),
    (returning(SAVE, MIN, COUNT), [2, 3, 4, 9]),
    (returning(SAVE, MIN, ALL), [2, 3, 4, 9]),
    (returning(SAVE, PARTIAL, partial=b"2:3"), [3, 4]),
    (returning(SAVE, PARTIAL, MAX, partial=b"2:3"), [3, 4, 9]),
    (returning(SAVE, PARTIAL, MIN, MAX, partial=b"2:3"), [2, 3, 4, 9]),
    (returning(SAVE, PARTIAL, COUNT, partial=b"2:3"), [2, 3, 4, 9]),
]


@pytest.mark.parametrize(
    ("asked", "want"),
    SAVES,
    ids=["+".join(sorted(o.value for o in asked.options)) for asked, _ in SAVES],
)
def test_what_is_saved(asked: Returning, want: list[int]) -> None:
    assert asked.saves
    assert asked.saved(FOUND) == want
    assert asked.saved([]) == []


@given(st.lists(st.integers(1, 40), unique=True))
def test_ordered_sets_say_every_number_in_its_place(numbers: list[int]) -> None:
    text = format_ordered(numbers)
    got = [
        number
        for low, high in (SequenceSet.parse(text).ranges if text else ())
        for number in range(low, high + 1)
    ]
    assert got == numbers
    assert format_ordered(sorted(numbers)) == format_set(sorted(numbers))


def whole_set(text: bytes, *, may_be_saved: bool) -> SequenceSet:
    cursor = Cursor.over(text)
    got = cursor.message_set() if may_be_saved else cursor.sequence_set()
    cursor.end()
    return got


def test_the_saved_result_is_a_set_of_its_own() -> None:
    assert whole_set(b"$", may_be_saved=True) is SAVED
    assert whole_set(b"1:2", may_be_saved=True) == SequenceSet(((1, 2),))
    for text in (b"$,1", b"$$", b"1,$", b"$:2"):
        with pytest.raises(ProtocolError):
            whole_set(text, may_be_saved=True)
    with pytest.raises(ProtocolError):
        whole_set(b"$", may_be_saved=False)
