"""Which login names are let in, and what they become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.config.variables import Template, Variables
from sharefs.identity.usernames import (
    MAX_LOGIN,
    MAX_NAME,
    BadName,
    Flaw,
    Login,
    NameRules,
    normalise,
    parse_login,
    parse_translation,
)

ANYTHING = NameRules(chars=frozenset())
LOWER = NameRules(format=Template.parse("%{user | lower}"))


def expand(template: Template, user: str) -> str:
    return template.expand(Variables(user=user))


HOSTILE = [
    ("", Flaw.EMPTY),
    ("a/b", Flaw.SLASH),
    ("/etc/passwd", Flaw.SLASH),
    ("../bob", Flaw.SLASH),
    ("..", Flaw.DOTS),
    (".", Flaw.DOTS),
    ("..@example.com", Flaw.DOTS),
    ("bob@..", Flaw.DOTS),
    ("bob@.", Flaw.DOTS),
    ("bob\0", Flaw.CONTROL),
    ("bob\nalice", Flaw.CONTROL),
    ("bob\talice", Flaw.CONTROL),
    ("bob\x85alice", Flaw.CONTROL),
    ("bob\u2028alice", Flaw.CONTROL),
    ("bob\x7f", Flaw.CONTROL),
    ("b" * 10_000, Flaw.TOO_LONG),
    ("é" * (MAX_NAME - 1), Flaw.TOO_LONG),
    ("bob\udcff", Flaw.NOT_UNICODE),
    ("%{home}", Flaw.PERCENT),
]


@pytest.mark.parametrize(
    ("name", "want"), HOSTILE, ids=[f"{flaw.name}-{n}" for n, (_, flaw) in enumerate(HOSTILE)]
)
def test_hostile_names_are_refused_even_if_every_character_is_allowed(
    name: str, want: Flaw
) -> None:
    with pytest.raises(BadName) as caught:
        normalise(name, ANYTHING, expand)
    assert caught.value.flaw is want
    assert len(str(caught.value)) < 2_000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["bob smith", "bob*", "bob:x", "böb", "bob$", "a|b", "~bob", "a%b"]
)
def test_the_default_characters_are_dovecots(name: str) -> None:
    with pytest.raises(BadName) as caught:
        normalise(name, NameRules(), expand)
    assert caught.value.flaw is Flaw.CHARACTER


@pytest.mark.parametrize("name", ["bob", "b.o-b_1@example.com", "Bob", "a..b"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert normalise(name, NameRules(), expand) == name


NORMALISED = [
    ("lower case", LOWER, "BoB@Example.COM", "bob@example.com"),
    ("default domain", NameRules(default_domain="ex.org"), "bob", "bob@ex.org"),
    ("a domain stays", NameRules(default_domain="ex.org"), "bob@a.b", "bob@a.b"),
    ("domain dropped", NameRules(format=Template.parse("%{user | username}")), "bob@a.b", "bob"),
    ("percent hack", NameRules(translation={"%": "@"}), "bob%a.b", "bob@a.b"),
]


@pytest.mark.parametrize(("rules", "name", "want"), [row[1:] for row in NORMALISED],
                         ids=[row[0] for row in NORMALISED])  # fmt: skip
def test_normalisation(rules: NameRules, name: str, want: str) -> None:
    assert normalise(name, rules, expand) == want


def test_a_format_cannot_smuggle_a_slash_in() -> None:
    with pytest.raises(BadName):
        normalise("bob", NameRules(format=Template.parse("../%{user}")), expand)
    with pytest.raises(BadName):
        normalise("@example.com", NameRules(format=Template.parse("%{user | username}")), expand)


MASTER = NameRules(master_separator="*")

LOGINS = [
    ("plain", "bob", "", Login("bob")),
    ("separator", "bob*root", "", Login("bob", "root")),
    ("authorization identity", "root", "bob", Login("bob", "root")),
    ("separator, as oneself", "bob*bob", "", Login("bob")),
    ("authorization as oneself", "bob", "bob", Login("bob")),
]


@pytest.mark.parametrize(("login", "authorize", "want"), [row[1:] for row in LOGINS],
                         ids=[row[0] for row in LOGINS])  # fmt: skip
def test_master_logins(login: str, authorize: str, want: Login) -> None:
    assert parse_login(login, MASTER, expand, authorize=authorize) == want


@pytest.mark.parametrize(
    "login", ["*root", "bob*", "*", "bob*root*x", "a*b/c", "b" * (MAX_LOGIN + 1)]
)
def test_broken_master_logins(login: str) -> None:
    with pytest.raises(BadName):
        parse_login(login, MASTER, expand)


def test_without_a_separator_setting_there_is_no_master_login() -> None:
    with pytest.raises(BadName):
        parse_login("bob*root", NameRules(), expand)


def test_translation_pairs() -> None:
    assert parse_translation("#@/@") == {"#": "@", "/": "@"}
    assert parse_translation("") == {}


@given(st.text(max_size=80))
def test_whatever_is_let_in_stays_in_its_directory_and_on_its_line(text: str) -> None:
    try:
        name = normalise(text, ANYTHING, expand)
    except BadName:
        return
    assert "/" not in name
    assert name not in {"", ".", ".."}
    assert len(name.splitlines()) == 1
    assert "\0" not in name
