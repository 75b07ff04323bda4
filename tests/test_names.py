"""Names: modified UTF-7 laws, layouts, and the table of what is refused and why."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.errors import Code, SharingError
from sharefs.names import (
    Flaw,
    Layout,
    Naming,
    decode_mutf7,
    encode_mutf7,
    flaw_of,
    levels_of,
    storage_path,
)

MAILDIRPP = Naming()
FS = Naming(Layout.FS)
UTF8 = Naming(utf8=True)

ENCODED = [  # decoded, encoded; the first is RFC 3501 section 5.1.3's own example
    ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
    ("plain", "plain"),
    ("R&D", "R&-D"),
    ("&&", "&-&-"),
    ("Entwürfe", "Entw&APw-rfe"),
    ("é&è", "&AOk-&-&AOg-"),
    ("😀", "&2D3eAA-"),
    ("tab\there", "tab&AAk-here"),
    ("", ""),
]

BROKEN = {
    "unterminated": "&AOk",
    "lone ampersand": "a&b",
    "8-bit octet": "caf\u00e9",
    "control character": "a\tb",
    "printable in base64": "&AGE-",
    "two runs that should be one": "&AOk-&AOg-",
    "half a code unit": "&AO-",
    "stray padding bits": "&AOl-",
    "lone high surrogate": "&2D0-",
    "slash of plain base64": "&U/BTFw-",
    "one base64 character": "&A-",
    "padding": "&AOk=-",
}

text = st.text(st.characters(codec="utf-8"))


@pytest.mark.parametrize(("decoded", "encoded"), ENCODED)
def test_modified_utf7_both_ways(decoded: str, encoded: str) -> None:
    assert encode_mutf7(decoded) == encoded
    assert decode_mutf7(encoded) == decoded


@pytest.mark.parametrize("encoded", BROKEN.values(), ids=BROKEN)
def test_broken_modified_utf7_is_refused(encoded: str) -> None:
    with pytest.raises(SharingError) as refused:
        decode_mutf7(encoded)
    assert refused.value.code is Code.INVALID


def test_lone_surrogates_are_no_text() -> None:
    with pytest.raises(SharingError):
        encode_mutf7("a\udc80")


@given(text)
def test_decode_undoes_encode(decoded: str) -> None:
    encoded = encode_mutf7(decoded)
    assert encoded.isascii()
    assert decode_mutf7(encoded) == decoded


@given(st.text(st.sampled_from("&-,+/=AOkwé a2D0")))
def test_what_decodes_is_canonical(encoded: str) -> None:
    with contextlib.suppress(SharingError):
        assert encode_mutf7(decode_mutf7(encoded)) == encoded


PATHS = [
    (("Work",), MAILDIRPP, ".Work"),
    (("Work", "Sub"), MAILDIRPP, ".Work.Sub"),
    (("Work", "Sub"), FS, "Work/Sub"),
    (("Entwürfe", "R&D"), MAILDIRPP, ".Entw&APw-rfe.R&-D"),
    (("Entwürfe", "R&D"), UTF8, ".Entwürfe.R&D"),
    (("alice@example.org",), FS, "alice@example.org"),
    (("cur",), MAILDIRPP, ".cur"),
    (("dovecot",), FS, "dovecot"),
    (("a" * 254,), MAILDIRPP, "." + "a" * 254),
]


@pytest.mark.parametrize(("levels", "naming", "path"), PATHS)
def test_storage_paths_both_ways(levels: tuple[str, ...], naming: Naming, path: str) -> None:
    assert storage_path(levels, naming) == path
    assert levels_of(path, naming) == levels


REFUSED = [
    ((), MAILDIRPP, Flaw.EMPTY),
    (("",), MAILDIRPP, Flaw.EMPTY_LEVEL),
    (("a", "", "b"), FS, Flaw.EMPTY_LEVEL),
    ((".",), FS, Flaw.DOT_LEVEL),
    (("a", ".."), FS, Flaw.DOT_LEVEL),
    (("..",), MAILDIRPP, Flaw.DOT_LEVEL),
    (("a\0b",), MAILDIRPP, Flaw.CONTROL),
    (("a\nb",), MAILDIRPP, Flaw.CONTROL),
    (("a\x7f",), FS, Flaw.CONTROL),
    (("a\x85",), FS, Flaw.CONTROL),
    (("a\ud800",), MAILDIRPP, Flaw.NOT_UNICODE),
    (("~root",), FS, Flaw.TILDE),
    (("~",), MAILDIRPP, Flaw.TILDE),
    (("a/b",), MAILDIRPP, Flaw.SLASH),
    (("../etc",), FS, Flaw.SLASH),
    (("a.b",), MAILDIRPP, Flaw.SEPARATOR),
    ((".hidden",), FS, Flaw.HIDDEN),
    (("cur",), FS, Flaw.RESERVED),
    (("a", "tmp"), FS, Flaw.RESERVED),
    (("dovecot-uidlist",), FS, Flaw.RESERVED),
    (("dovecot.index.log",), FS, Flaw.RESERVED),
    (("subscriptions",), FS, Flaw.RESERVED),
    (("a" * 255,), MAILDIRPP, Flaw.COMPONENT_TOO_LONG),
    (("a" * 256,), FS, Flaw.COMPONENT_TOO_LONG),
    (("é" * 100,), MAILDIRPP, Flaw.COMPONENT_TOO_LONG),
    (("a" * 250,) * 17, FS, Flaw.TOO_LONG),
    (("a",) * 256, FS, Flaw.TOO_DEEP),
]


@pytest.mark.parametrize(("levels", "naming", "flaw"), REFUSED)
def test_refused_names(levels: tuple[str, ...], naming: Naming, flaw: Flaw) -> None:
    assert flaw_of(levels, naming) is flaw
    with pytest.raises(SharingError) as refused:
        storage_path(levels, naming)
    assert refused.value.code is Code.CANNOT
    assert flaw in refused.value.detail


NO_MAILBOX = [
    ("Work", MAILDIRPP),
    (".", MAILDIRPP),
    ("..", MAILDIRPP),
    ("..Work", MAILDIRPP),
    (".Work.", MAILDIRPP),
    (".Entwürfe", MAILDIRPP),
    (".a&b", MAILDIRPP),
    (".a\udcff", UTF8),
    ("cur", FS),
    (".hidden", FS),
    ("a//b", FS),
]


@pytest.mark.parametrize(("path", "naming"), NO_MAILBOX)
def test_paths_that_are_no_mailbox(path: str, naming: Naming) -> None:
    with pytest.raises(SharingError) as refused:
        levels_of(path, naming)
    assert refused.value.code is Code.CANNOT


@given(st.lists(text, min_size=1, max_size=4), st.sampled_from([MAILDIRPP, FS, UTF8]))
def test_legal_names_come_back(levels: list[str], naming: Naming) -> None:
    name = tuple(levels)
    if flaw_of(name, naming) is None:
        path = storage_path(name, naming)
        assert levels_of(path, naming) == name
        assert ".." not in path.split("/")
        assert not path.startswith("/")


@given(st.text(), st.sampled_from([MAILDIRPP, FS, UTF8]))
def test_any_path_is_a_name_or_a_refusal(path: str, naming: Naming) -> None:
    with contextlib.suppress(SharingError):
        assert storage_path(levels_of(path, naming), naming) == path
