"""The subscriptions file: bytes as Dovecot writes them, and nothing written without a change."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.errors import Code, SharingError
from sharefs.namespaces.subscriptions import (
    EMPTY,
    Content,
    Subscriptions,
    escape,
    parse,
    serialize,
    unescape,
)
from sharefs.permissions.inherit import DEFAULTS

V2 = b"V\t2\n\n"
FILES = [  # octets, layout separator, names
    (V2, ".", ()),
    (b"", ".", ()),
    (V2 + b"Work\nWork\tSub\n", ".", ("Work", "Work.Sub")),
    (V2 + b"Work\tSub\n", "/", ("Work/Sub",)),
    # Observed: Dovecot splits "shared/alice@ex.org/Work" at the dot of Maildir++.
    (V2 + b"shared/alice@ex\torg/Work\n", ".", ("shared/alice@ex.org/Work",)),
    (V2 + b"a\x01tb\x01nc\n", ".", ("a\tb\nc",)),
    (b"Work\nWork.Sub\n", ".", ("Work", "Work.Sub")),  # version 1
    (V2 + b"inbox\n", ".", ("INBOX",)),
    (V2 + b"Work\nWork\n", ".", ("Work",)),
    (V2 + b"Work", ".", ("Work",)),  # a truncated last line
    (b"V\t3\n\nWork\n", ".", ("V\t3", "Work")),
    (V2 + b"\xff\xfe\n", ".", ("\udcff\udcfe",)),
]


@pytest.mark.parametrize(("octets", "separator", "want"), FILES)
def test_parse(octets: bytes, separator: str, want: tuple[str, ...]) -> None:
    assert parse(octets, separator).names == want


NAME = st.text("ab./\t\n\r\x01\0é", min_size=1, max_size=8).filter(lambda name: name != "\0")


@given(st.lists(NAME, unique=True, max_size=4), st.sampled_from("./"))
def test_parsing_undoes_serializing(names: list[str], separator: str) -> None:
    content = Content(2, tuple(names))
    assert parse(serialize(content, separator), separator) == content


@given(st.text())
def test_unescaping_undoes_escaping(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set("\t\r\n\0")


@given(st.binary(max_size=60))
def test_garbage_is_read_as_some_names(octets: bytes) -> None:
    assert isinstance(parse(octets, ".").names, tuple)


def test_version_1_cannot_hold_a_line_end() -> None:
    with pytest.raises(SharingError) as refused:
        serialize(Content(1, ("a\nb",)), ".")
    assert refused.value.code is Code.CANNOT


def subscriptions(path: Path) -> Subscriptions:
    return Subscriptions(path, ".", lambda: DEFAULTS, fsync=False)


def test_a_new_file_is_version_2(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions"
    subs = subscriptions(path)
    assert subs.names() == EMPTY.names
    assert subs.add("Work")
    assert subs.add("shared/alice@ex.org/Work")
    assert subs.add("inbox")
    assert path.read_bytes() == V2 + b"Work\nshared/alice@ex\torg/Work\nINBOX\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert subs.names() == ("Work", "shared/alice@ex.org/Work", "INBOX")
    assert [entry.name for entry in tmp_path.iterdir()] == ["subscriptions"]


def test_version_1_stays(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions"
    path.write_bytes(b"Work.Sub\n")
    assert subscriptions(path).add("Other")
    assert path.read_bytes() == b"Work.Sub\nOther\n"


def test_nothing_is_written_when_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions"
    subs = subscriptions(path)
    subs.add("Work")
    before = path.stat()
    assert not subs.add("Work")
    assert not subs.remove("Other")
    assert path.stat() == before
    assert subs.remove("Work", "Other")
    assert path.read_bytes() == V2


def test_a_change_by_another_program_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions"
    subs, other = subscriptions(path), subscriptions(path)
    assert subs.names() == ()
    other.add("Work")
    assert subs.names() == ("Work",)
    other.add("Other")
    assert subs.add("Third")
    assert other.names() == ("Work", "Other", "Third")


def test_an_unreadable_place_is_reported_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "subscriptions").mkdir()
    with pytest.raises(SharingError) as refused:
        subscriptions(tmp_path / "subscriptions").names()
    assert refused.value.code is Code.UNAVAILABLE
    assert str(tmp_path) in refused.value.detail
