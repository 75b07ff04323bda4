"""sharefs.rights: three spellings of one value, and the laws of sets."""

import itertools

import pytest
from hypothesis import given

from sharefs.errors import Code, SharingError
from sharefs.rights import ALL, CANONICAL, NONE, ROLES, Rights
from tests.strategies import rights, standard_rights

WIRE = [  # what a client sends -> what it is told
    ("", ""),
    ("lr", "lr"),
    ("rl", "lr"),
    ("lrwstipekxa", "lrwstipekxacd"),
    ("c", "kxc"),
    ("d", "ted"),
    ("lrc", "lrkxc"),
    ("x", "xc"),
    ("e", "ed"),
    ("llrr", "lr"),
]


@pytest.mark.parametrize(("text", "want"), WIRE)
def test_the_wire_form_ties_old_letters(text: str, want: str) -> None:
    assert Rights.parse(text).wire() == want


@pytest.mark.parametrize("text", ["L", "lrz", "l r", ":foo", "l\0", "é", "1"])
def test_unknown_letters_are_refused(text: str) -> None:
    with pytest.raises(SharingError) as refused:
        Rights.parse(text)
    assert refused.value.code is Code.INVALID


FILE = [
    ("", Rights()),
    (" \t", Rights()),
    ("lr", Rights("lr")),
    ("  lr  ", Rights("lr")),
    ("lr :foo", Rights("lr", ("foo",))),
    ("lr:foo,bar", Rights("lr", ("bar", "foo"))),
    (":foo bar\tbaz", Rights("", ("bar", "baz", "foo"))),
    (":,, foo", Rights("", ("foo",))),
    (":", Rights()),
    (":read,lookup", Rights("lr")),
    ("::x", Rights("", (":x",))),
]


@pytest.mark.parametrize(("text", "want"), FILE)
def test_files_may_say_it_in_many_ways(text: str, want: Rights) -> None:
    assert Rights.parse_file(text) == want


@pytest.mark.parametrize(
    ("text", "column"), [("lrz", 3), (" c", 2), ("lr w", 4), ("d", 1), ("l\t!", 3)]
)
def test_a_bad_file_form_names_the_column(text: str, column: int) -> None:
    with pytest.raises(SharingError, match=f"column {column}:"):
        Rights.parse_file(text)


def test_the_file_form_is_sorted_by_long_names() -> None:
    assert ALL.file() == "akxeilprwts"
    assert Rights("lr", ("foo", "bar")).file() == "lr :bar foo"
    assert Rights("", ("foo",)).file() == " :foo"


NAMES = [
    (["lookup", "read"], "lr"),
    (["all"], CANONICAL),
    (["write-seen", "write-deleted"], "st"),
    (["post"], "p"),
    (["lrs"], "lrs"),
    (["l", "read", "c"], "lrkx"),
    (["reader"], "lrs"),
    (["contributor"], "lrsip"),
    (["editor"], "lrswtipe"),
    (["manager"], CANONICAL),
    ([], ""),
]


@pytest.mark.parametrize(("words", "want"), NAMES)
def test_people_may_say_it_in_words(words: list[str], want: str) -> None:
    assert Rights.parse_names(words) == Rights(want)


@pytest.mark.parametrize("word", ["reed", "writes", "reda", "craeet", "lrll", "deletes"])
def test_a_slip_of_the_pen_gives_no_rights(word: str) -> None:
    """All of them are letters of rights, and most have e or x among them."""
    with pytest.raises(SharingError, match=f"invalid right '{word}'"):
        Rights.parse_names([word])
    assert Rights.parse_names(word) == Rights.parse(word)  # letter by letter it is meant


@given(standard_rights)
def test_letters_in_their_order_are_always_letters(wanted: Rights) -> None:
    assert Rights.parse_names([wanted.letters] if wanted else []) == wanted


def test_extra_names_have_a_colon_on_the_command_line() -> None:
    assert Rights.parse_names(["l", ":foo", ":read"]) == Rights("lr", ("foo",))


@pytest.mark.parametrize("word", ["", "Lookup", "lookup,read", "z", ":", ":a b", ":a,b", ":a\0"])
def test_unknown_words_are_refused(word: str) -> None:
    with pytest.raises(SharingError) as refused:
        Rights.parse_names([word])
    assert refused.value.code is Code.INVALID


def test_each_role_covers_the_one_before() -> None:
    roles = list(ROLES.values())
    assert all(more.covers(less) for less, more in itertools.pairwise(roles))


@given(rights)
def test_file_form_round_trips(value: Rights) -> None:
    assert Rights.parse_file(value.file()) == value


@given(standard_rights)
def test_wire_form_never_loses_a_right(value: Rights) -> None:
    assert Rights.parse(value.letters) == value
    assert Rights.parse(value.wire()).covers(value)


@given(rights)
def test_long_names_round_trip(value: Rights) -> None:
    assert Rights.named(value.long_names()) == value


@given(rights, rights)
def test_the_laws_of_sets(a: Rights, b: Rights) -> None:
    assert (a | b).covers(a)
    assert (a | b) == (b | a)
    assert a.covers(a & b)
    assert (a & b) == (b & a)
    assert not (a - b) & b
    assert (a - b) | (a & b) == a
    assert a.covers(b) == (a | b == a)
    assert bool(a) == (a != NONE)
    union = NONE
    for one in a.each():
        union |= one
    assert union == a
