"""Names on a screen: nothing in them moves the cursor, turns the text around or hides."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.audit.report.shown import shortened, shown

CASES = [
    ("plain", "alice/Work", "alice/Work"),
    ("umlauts stay", "Entwürfe/日本語/עברית", "Entwürfe/日本語/עברית"),
    ("escape sequence", "a\x1b[2Jb", "a\\x1b[2Jb"),
    ("line break", "a\nb\tc\rd", "a\\nb\\tc\\rd"),
    ("C1 control", "a\x9bb", "a\\x9bb"),
    ("right to left override", "a\u202egnp.b", "a\\u{202e}gnp.b"),
    ("zero width", "ad\u200bmin", "ad\\u{200b}min"),
    ("octets that were no UTF-8", b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
    ("line separator", "a\u2028b", "a\\u{2028}b"),
]


@pytest.mark.parametrize(
    ("name", "want"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_shown(name: str, want: str) -> None:
    assert shown(name) == want


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_what_is_shown_can_be_written_and_moves_nothing(name: str) -> None:
    text = shown(name)
    text.encode("utf-8")
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)
    assert not any(unicodedata.bidirectional(char) in ("RLO", "LRO", "RLE", "RLI") for char in text)


@given(st.text(max_size=60), st.integers(min_value=4, max_value=40))
def test_shortened_keeps_both_ends(text: str, limit: int) -> None:
    short = shortened(text, limit)
    assert len(short) <= limit
    assert (short == text) == (len(text) <= limit)
    assert short[:2] == text[:2]
