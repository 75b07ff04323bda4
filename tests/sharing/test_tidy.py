"""Tidying ACL files: what is mended, what is left, and that order changes no meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.sharing.acl_text import parse_acl
from sharefs.sharing.tidy import doubts, tidy

CASES = [  # before, after
    (b"user=bob lr\n", b"user=bob lr\n"),
    (b"user=bob rl\nanyone l", b"anyone l\nuser=bob lr\n"),
    (b"user=bob\tlr\n", b"user=bob lr\n"),
    (b"user=bob  lr\n", b"user=bob lr\n"),
    (b"  user=bob \t lr  \r\n", b"user=bob lr\n"),
    (b"# why\n\nuser=bob lr\n", b"user=bob lr\n"),
    (b'"user=bob b" lr\n', b'"user=bob b" lr\n'),
    (b"-user=bob\tr\n", b"-user=bob r\n"),
    (b"", b""),
]


@pytest.mark.parametrize(("before", "after"), CASES, ids=range(len(CASES)))
def test_tidying(before: bytes, after: bytes) -> None:
    got = tidy(before, "f")
    assert (got.content, got.left) == (after, ())
    assert tidy(after).content == after


@pytest.mark.parametrize("octets", [b"usr=bob lr\n", b"user=bob lrZ\n", b"user=b lr\nbob\n"])
def test_what_cannot_be_mended_is_left_alone(octets: bytes) -> None:
    got = tidy(octets, "f")
    assert got.content == octets
    assert str(got.left[0]).startswith("f:")


def test_what_was_mended_is_told() -> None:
    assert tidy(b"anyone l\nuser=bob\tlr\n").mended == (("user=bob\tlr", "user=bob lr"),)


@given(st.binary(max_size=80) | st.text('usrebo=- \tlrwanyg\n"#', max_size=60).map(str.encode))
def test_good_files_keep_their_meaning_and_garbage_is_left(octets: bytes) -> None:
    parsed = parse_acl(octets, "")
    got = tidy(octets)
    if got.left:
        assert got.content == octets
        assert parsed.malformed
    elif not parsed.problems:
        assert parse_acl(got.content, "").acl == parsed.acl
    assert tidy(got.content).content == got.content


def test_doubts() -> None:
    acl = parse_acl(
        b"anyone lr\nuser=bob lr\nuser=carol@ex.org lr\nuser=ghost lr\nuser=dave rs\nuser=erin p\n",
        "f",
    ).acl
    known = {"bob@ex.org", "carol", "dave", "erin"}
    got = [
        (str(one.place), one.note, one.text)
        for one in doubts(acl, exists=known.__contains__, domain="ex.org")
    ]
    assert got == [
        ("f:1", True, "anyone is everybody on this host"),
        ("f:2", False, "no user database knows bob; bob@ex.org exists: write that"),
        ("f:3", False, "no user database knows carol@ex.org; carol exists: write that"),
        ("f:5", True, "user=dave has rights without lookup: the mailbox stays hidden"),
        ("f:4", False, "no user database knows ghost"),
    ]
