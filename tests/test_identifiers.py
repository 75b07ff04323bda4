"""sharefs.identifiers: files, wire and command line."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.errors import Code, SharingError
from sharefs.identifiers import (
    ANYONE,
    AUTHENTICATED,
    MAX_BYTES,
    OWNER,
    Identifier,
    Kind,
    group,
    user,
)
from tests.strategies import identifiers


def override(name: str) -> Identifier:
    return Identifier(Kind.GROUP_OVERRIDE, name)


FILE = [
    ("anyone", ANYONE, False),
    ("anonymous", ANYONE, False),
    ("-authenticated", AUTHENTICATED, True),
    ("owner", OWNER, False),
    ("user=bob", user("bob"), False),
    ("-user=bob", user("bob"), True),
    ("user=user=bob", user("user=bob"), False),
    ("group=staff", group("staff"), False),
    ("group-override=staff", override("staff"), False),
    ("user=bob\tlr", user("bob\tlr"), False),  # the id ends at the first space, not at a tab
    ("user=", user(""), False),
    ("-user=-x", user("-x"), True),
]


@pytest.mark.parametrize(("text", "want", "negative"), FILE)
def test_file_forms(text: str, want: Identifier, negative: bool) -> None:
    assert Identifier.parse_file(text) == (want, negative)


@pytest.mark.parametrize(
    "text",
    ["", "-", "bob", "Anyone", "users=bob", "--user=bob", "user=a\x01", "user=\udcff", "owner ",
     "user=" + "x" * (MAX_BYTES + 1), "user=\x7f", "user=\x85"],
)  # fmt: skip
def test_bad_file_forms_are_refused(text: str) -> None:
    with pytest.raises(SharingError) as refused:
        Identifier.parse_file(text)
    assert refused.value.code is Code.INVALID


WIRE = [
    ("anyone", ANYONE, False),
    ("-anyone", ANYONE, True),
    ("authenticated", AUTHENTICATED, False),
    ("owner", OWNER, False),
    ("$staff", group("staff"), False),
    ("-$staff", group("staff"), True),
    ("!$staff", override("staff"), False),
    ("$!staff", override("staff"), False),  # as the documentation spells it
    ("group:staff", group("staff"), False),
    ("bob@ex.org", user("bob@ex.org"), False),
    ("-bob", user("bob"), True),
    ("anonymous", user("anonymous"), False),
]


@pytest.mark.parametrize(("text", "want", "negative"), WIRE)
def test_wire_forms(text: str, want: Identifier, negative: bool) -> None:
    assert Identifier.parse_wire(text) == (want, negative)


@pytest.mark.parametrize(
    "text", ["", "-", "$", "!$", "$!", "#bob", "-#bob", "a\tb", "a\0", "\udcff", "x" * 1025]
)
def test_bad_wire_forms_are_refused(text: str) -> None:
    with pytest.raises(SharingError) as refused:
        Identifier.parse_wire(text)
    assert refused.value.code is Code.INVALID


AWKWARD = [  # names that the short form would misread
    (user("anyone"), "user:anyone"),
    (user("$x"), "user:$x"),
    (user("-x"), "user:-x"),
    (user("#x"), "user:#x"),
    (user("user:x"), "user:user:x"),
    (user("$"), "user:$"),
    (user("bob\tlr"), "bob\tlr"),  # no client may set it, but it is shown as it stands
    (group("!ops"), "group:!ops"),
    (override("!ops"), "!$!ops"),
]


@pytest.mark.parametrize(("identifier", "want"), AWKWARD)
def test_awkward_names_have_a_long_wire_form(identifier: Identifier, want: str) -> None:
    assert identifier.wire() == want


CLI = [
    ("user=bob", user("bob"), False),
    ("-group=x", group("x"), True),
    ("anonymous", ANYONE, False),
    ("$staff", group("staff"), False),
    ("-!$staff", override("staff"), True),
]


@pytest.mark.parametrize(("text", "want", "negative"), CLI)
def test_command_line_forms(text: str, want: Identifier, negative: bool) -> None:
    assert Identifier.parse_cli(text) == (want, negative)


@pytest.mark.parametrize("text", ["bob", "onwer", "user=", "group=", "user=a\tb", "$", ""])
def test_bad_command_line_forms_are_refused(text: str) -> None:
    with pytest.raises(SharingError) as refused:
        Identifier.parse_cli(text)
    assert refused.value.code is Code.INVALID


@given(identifiers, st.booleans())
def test_every_form_round_trips(identifier: Identifier, negative: bool) -> None:
    assert Identifier.parse_file(identifier.file(negative=negative)) == (identifier, negative)
    assert Identifier.parse_wire(identifier.wire(negative=negative)) == (identifier, negative)
    assert Identifier.parse_cli(identifier.file(negative=negative)) == (identifier, negative)


@given(st.text(max_size=30))
def test_garbage_is_an_identifier_or_a_refusal(text: str) -> None:
    for parse in (Identifier.parse_file, Identifier.parse_wire, Identifier.parse_cli):
        with contextlib.suppress(SharingError):
            signed = parse(text)
            assert signed.identifier.name == "" or signed.identifier.name in text


def test_the_order_is_kind_then_name() -> None:
    order = [ANYONE, AUTHENTICATED, group("a"), group("b"), OWNER, user("a"), override("a")]
    assert sorted(reversed(order)) == order
