"""The Maildir codecs: uidlist, keywords, file names, line ends.  Tables and laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.flags import System
from sharefs.store.maildir.filename import (
    KEYWORD_LETTERS,
    Sizes,
    UniqueNames,
    arrival_key,
    format_info,
    parse_info,
    sizes_of,
    split,
    virtual_size_in,
    with_sizes,
)
from sharefs.store.maildir.keywords import Keywords
from sharefs.store.maildir.line_ends import (
    LineEnds,
    header_end,
    virtual_size,
    with_crlf,
    without_crlf,
)
from sharefs.store.maildir.uidlist_format import (
    BrokenHeader,
    Header,
    extra_value,
    format_records,
    parse_records,
)

GUID = "29eb8a3bc4cf016bbf3d000083ecc375"

# --- uidlist ---------------------------------------------------------------------------------

HEADERS = [
    (f"3 V1795280836 N1 G{GUID}", Header(1795280836, 1, GUID)),
    (f"3 N7 G{GUID} V5", Header(5, 7, GUID)),
    ("3 V5 N7", Header(5, 7)),
    ("3 V5 N7 Gnot-hex", Header(5, 7, None, ("Gnot-hex",))),
    ("3 V5 N7 P%v.%u Xwhatever", Header(5, 7, None, ("P%v.%u", "Xwhatever"))),
    ("1 5 7", Header(5, 7, version=1)),
]
BROKEN_HEADERS = [
    "", "3", "3 V5", "3 N5", "3 V0 N1", "3 V5 N0", "2 V5 N7", "4 V5 N7", "1 5", "1 0 7", "V5 N7",
    "3 V-5 N7", "3 V5_0 N7", "3 V99999999999 N1", "garbage \x00\x01", "3 V\u0665 N7",
]  # fmt: skip


@pytest.mark.parametrize(("line", "want"), HEADERS)
def test_headers(line: str, want: Header) -> None:
    assert Header.parse(line) == want


@pytest.mark.parametrize("line", BROKEN_HEADERS)
def test_broken_headers(line: str) -> None:
    with pytest.raises(BrokenHeader):
        Header.parse(line)


def test_unknown_header_fields_survive() -> None:
    line = f"3 V5 N7 G{GUID} P%v.%u Xwhatever"
    assert Header.parse(line).format() == line + "\n"


def test_records() -> None:
    records = parse_records("1 :a\n2 S12 W13 :b,S=4\n7 Gx y :c:2,S\n")
    assert records.uids == [1, 2]
    assert records.bases == ["a", "b,S=4"]
    assert records.extras == {2: " S12 W13"}
    assert records.highest == 7
    assert len(records.faults) == 1
    assert extra_value(records.extras[2], "W") == "13"
    assert extra_value(records.extras[2], "P") is None


def test_flags_in_a_record_are_cut_off() -> None:
    assert parse_records("3 :a:2,S\n").bases == ["a"]


def test_version_1() -> None:
    records = parse_records("1 a\n2 b:2,S\n", version=1)
    assert list(zip(records.uids, records.bases, strict=True)) == [(1, "a"), (2, "b")]


FAULTS = [  # text, UIDs that can be used, highest UID that was ever given out
    ("1 :a\ngarbage\n3 :c\n", [1, 3], 3),
    ("1 :a\n1 :b\n", [1], 1),
    ("5 :a\n3 :b\n6 :c\n", [5, 6], 6),
    ("1 :a\n9 \n", [1], 9),
    ("1 :a\n9 :\n", [1], 9),
    ("1 :a/../b\n2 :c\n", [2], 2),
    ("0 :a\n2 :c\n", [2], 2),
    ("4294967295 :a\n2 :c\n", [2], 2),
    ("1 :a\n\n2 :b\n", [1, 2], 2),
    ("1 :a\n\0\0\0\n", [1], 1),
    ("1 :a\n2:b\n3 :c :d\n", [1, 3], 3),
]


@pytest.mark.parametrize(("text", "uids", "highest"), FAULTS)
def test_what_can_be_saved_of_a_broken_list(text: str, uids: list[int], highest: int) -> None:
    records = parse_records(text)
    assert records.uids == uids
    assert records.highest == highest
    assert len(records.faults) == text.count("\n") - len(uids)


bases = st.text(st.sampled_from("abcM0P9.,=S-_é\udc80 "), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.integers(1, 50), bases), max_size=30), st.booleans())
def test_records_come_back(steps: list[tuple[int, str]], extras: bool) -> None:
    uid = 0
    records: list[tuple[int, str]] = []
    for step, base in steps:
        uid += step
        records.append((uid, base))
    more = {uid: f" W{uid} Xodd" for uid, _ in records[::3]} if extras else {}
    got = parse_records(format_records(records, more))
    assert list(zip(got.uids, got.bases, strict=True)) == records
    assert got.extras == more
    assert not got.faults
    assert got.highest == (records[-1][0] if records else 0)


@given(st.text(st.sampled_from("0123 :ab\nS,/\0"), max_size=60))
def test_any_list_gives_growing_uids(text: str) -> None:
    records = parse_records(text + "\n", after=1)
    assert records.uids == sorted(set(records.uids))
    assert all(uid > 1 for uid in records.uids)
    assert records.highest >= max(records.uids, default=1)
    assert not any("/" in base or ":" in base or not base for base in records.bases)


# --- keywords --------------------------------------------------------------------------------

KEYWORD_FILES = [
    (b"0 MyKw\n1 $Label1\n", {"a": "MyKw", "b": "$Label1"}),
    (b"25 last", {"z": "last"}),
    (b"26 beyond\n-1 minus\nx y\n3\n4 \n\n5 ok\n", {"f": "ok"}),
    (b"0 Twice\n1 twice\n2 other\n", {"a": "Twice", "c": "other"}),
    (b"0 first\n0 second\n", {"a": "first"}),
    (b"\xff\xfe\x00", {}),
    (b"0 spaces in it\n", {}),
    (b"0 \xff\n1 fine\n", {"b": "fine"}),
    (b"", {}),
]


@pytest.mark.parametrize(("content", "want"), KEYWORD_FILES)
def test_keyword_files(content: bytes, want: dict[str, str]) -> None:
    keywords = Keywords.parse(content)
    assert set(keywords.known()) == set(want.values())
    for letter, name in want.items():
        assert keywords.name_of(letter) == name
        assert keywords.letter_of(name.upper()) == letter


def test_letters_without_names_are_shown_as_unknown() -> None:
    keywords = Keywords.parse(b"1 unknown-0\n")
    assert keywords.name_of("a") == "unknown-0?"
    assert keywords.name_of("c") == "unknown-2"
    assert keywords.letter_of("unknown-2") == "c"
    assert keywords.letter_of("nowhere") is None


def test_names_that_no_client_can_be_told_stay_in_the_file() -> None:
    content = b"0 two words\n1 \xff\xfe\n2 fine\n"
    keywords = Keywords.parse(content)
    assert keywords.name_of("a") == "unknown-0"
    assert keywords.format() == content


def test_new_keywords_take_free_letters() -> None:
    keywords, homeless = Keywords.parse(b"1 b\n").with_added(["new", "B", "more"], frozenset("a"))
    assert not homeless
    assert keywords.letter_of("new") == "c"
    assert keywords.letter_of("more") == "d"
    assert keywords.known() == ("b", "new", "more")


def test_the_27th_keyword_has_no_letter() -> None:
    keywords, homeless = Keywords().with_added([f"k{i}" for i in range(28)], frozenset())
    assert homeless == ["k26", "k27"]
    assert not keywords.has_room(frozenset())
    assert not Keywords().has_room(frozenset(KEYWORD_LETTERS))


@given(st.dictionaries(st.integers(0, 25), st.text("abc$-", min_size=1), max_size=26))
def test_keyword_files_come_back(table: dict[int, str]) -> None:
    lines = "".join(f"{index} {name}\n" for index, name in table.items())
    keywords = Keywords.parse(lines.encode())
    assert Keywords.parse(keywords.format()) == keywords
    named = [keywords.name_of(letter) for letter in KEYWORD_LETTERS]
    assert len({name.casefold() for name in named}) == len(named)


# --- file names ------------------------------------------------------------------------------

NAMES = [  # name, flags, keyword letters, other letters
    ("base", System.NONE, "", ""),
    ("base:2,", System.NONE, "", ""),
    ("base:2,FS", System.FLAGGED | System.SEEN, "", ""),
    ("base:2,DFRSTab", System(0x1F), "ab", ""),
    ("base:2,PSX", System.SEEN, "", "PX"),
    ("base:2,S,other", System.SEEN, "", ""),
    ("base:1,S", System.NONE, "", ""),
    ("base:2", System.NONE, "", ""),
    ("base:x:2,R", System.ANSWERED, "", ""),
]


@pytest.mark.parametrize(("name", "system", "letters", "other"), NAMES)
def test_names(name: str, system: System, letters: str, other: str) -> None:
    base, info = split(name)
    assert base == "base"
    assert base + info == name
    got = parse_info(info)
    assert (got.system, got.letters, got.other) == (system, frozenset(letters), frozenset(other))


RENAMES = [  # old info, new flags, letters, new info
    ("", System.SEEN, "", ":2,S"),
    (":2,S", System.NONE, "", ":2,"),
    (":2,", System(0x1F), "ba", ":2,DFRSTab"),
    (":2,PX", System.SEEN | System.FLAGGED, "c", ":2,FPSXc"),
    (":2,S,xyz", System.DRAFT, "", ":2,D,xyz"),
    (":x:2,R", System.SEEN, "", ":x:2,S"),
    (":1,odd", System.SEEN, "", ":2,S"),
    (":2,S:odd", System.FLAGGED, "", ":2,S:2,F"),
]


@pytest.mark.parametrize(("old", "system", "letters", "want"), RENAMES)
def test_changing_flags_in_names(old: str, system: System, letters: str, want: str) -> None:
    assert format_info(system, frozenset(letters), old) == want


infos = st.one_of(
    st.just(""), st.builds(":2,{}".format, st.text("DFRSTabzPX", max_size=8)),
    st.builds(":2,{},{}".format, st.text("DFRSTabPX", max_size=5), st.text("xS,", max_size=4)),
)  # fmt: skip


@given(infos, st.integers(0, 31), st.frozensets(st.sampled_from(KEYWORD_LETTERS)))
def test_written_flags_are_read(old: str, bits: int, letters: frozenset[str]) -> None:
    info = format_info(System(bits), letters, old)
    got = parse_info(info)
    assert (got.system, got.letters) == (System(bits), letters)
    assert got.other == parse_info(old).other
    assert info.partition(",")[2].partition(",")[2] == old.partition(",")[2].partition(",")[2]
    assert format_info(System(bits), letters, info) == info


SIZES = [
    ("a.b.c", Sizes()),
    ("a.b.c,S=12", Sizes(12)),
    ("a.b.c,S=12,W=13", Sizes(12, 13)),
    ("a.b.c,W=13,S=12", Sizes(12, 13)),
    ("a.b.c,S=12x,W=", Sizes()),
    ("a.b.c,S=-1", Sizes()),
    ("a.b.c,S=1,S=2", Sizes(1)),
    ("a.b.c,W=,W=5,x", Sizes(None, 5)),
    ("a.b.c,W=x,W=5", Sizes(None, 5)),
    ("a.b.c,S=" + "9" * 30, Sizes()),
]


@pytest.mark.parametrize(("base", "want"), SIZES)
def test_sizes(base: str, want: Sizes) -> None:
    assert sizes_of(base) == want
    assert virtual_size_in(base) == want.virtual


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_sizes_come_back(stored: int, virtual: int) -> None:
    assert sizes_of(with_sizes("a.b.c", Sizes(stored, virtual))) == Sizes(stored, virtual)


def test_arrival_order() -> None:
    names = ["2.M1P1.h", "10.M5P1.h", "10.M40P1.h", "10.M40P2.h", "11.P1Q9.h", "11.M1P1.h", "x"]
    assert sorted(names, key=arrival_key) == [
        "x", "2.M1P1.h", "10.M5P1.h", "10.M40P1.h", "10.M40P2.h", "11.P1Q9.h", "11.M1P1.h",
    ]  # fmt: skip


def test_unique_names_are_unique_when_the_clock_stands_still() -> None:
    names = UniqueNames(lambda: 1_700_000_000_999_999_000)
    made = [names.next() for _ in range(3)]
    assert len(set(made)) == 3
    assert made[0].startswith("1700000000.M999999P")
    assert made[1].startswith("1700000001.M0P")
    assert sorted(made, key=arrival_key) == made
    assert not any(character in name for name in made for character in ":/,")


# --- line ends -------------------------------------------------------------------------------

pieces = st.lists(st.text("\r\nab", max_size=6).map(str.encode), max_size=8)


@given(pieces, st.booleans())
def test_split_points_never_matter(octets: list[bytes], keep: bool) -> None:
    ends, whole = LineEnds(keep_crlf=keep), LineEnds(keep_crlf=keep)
    stored = b"".join(ends.feed(piece) for piece in octets) + ends.finish()
    assert stored == whole.feed(b"".join(octets)) + whole.finish()
    assert ends.stored == whole.stored == len(stored)
    assert ends.virtual == whole.virtual == len(with_crlf(stored))


@given(st.text("\r\nab").map(str.encode))
def test_reading_gives_back_what_was_stored(octets: bytes) -> None:
    wire = with_crlf(octets)  # a message without bare LF
    assert with_crlf(without_crlf(wire)) == wire
    assert with_crlf(wire) == wire
    assert virtual_size(octets) == len(wire)


HEADER_ENDS = [
    (b"a: b\n\nbody", 6), (b"a: b\r\n\r\nbody", 8), (b"a: b\n\r\nbody", 7), (b"a: b\n", -1),
    (b"\nbody", 1), (b"\r\nbody", 2), (b"", -1), (b"a: b\n\nx\r\n\r\n", 6),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "want"), HEADER_ENDS)
def test_header_ends(octets: bytes, want: int) -> None:
    assert header_end(octets) == want
