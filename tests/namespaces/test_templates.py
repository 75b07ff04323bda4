"""Prefix templates: parsing and formatting are inverses, and nothing climbs out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.errors import Code, SharingError
from sharefs.namespaces.templates import Owner, is_template, parse_template

MATCHES = [  # template, viewer's domain, name -> owner, prefix, rest, bare
    ("shared/$user/", "", "shared/alice/Work", "alice", "shared/alice/", "Work", False),
    ("shared/$user/", "", "shared/alice/Work/Sub", "alice", "shared/alice/", "Work/Sub", False),
    ("shared/%%u/", "", "shared/al@ex.org/W", "al@ex.org", "shared/al@ex.org/", "W", False),
    ("shared/$user/", "", "shared/alice", "alice", "shared/alice/", "", True),
    ("shared/$user/", "", "shared/alice/", "alice", "shared/alice/", "", False),
    ("shared/$username/", "ex.org", "shared/alice/W", "alice@ex.org", "shared/alice/", "W", False),
    ("shared/$domain/$username/", "", "shared/ex.org/al/W", "al@ex.org", "shared/ex.org/al/", "W",
     False),
    ("shared/%%d/%%n/", "", "shared/ex.org/al", "al@ex.org", "shared/ex.org/al/", "", True),
    ("u.$user.", "", "u.alice.Work", "alice", "u.alice.", "Work", False),
    ("~$user/", "", "~alice/Work", "alice", "~alice/", "Work", False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "domain", "name", "owner", "prefix", "rest", "bare"), MATCHES)
def test_names_that_fit(
    text: str, domain: str, name: str, owner: str, prefix: str, rest: str, bare: bool
) -> None:
    got = parse_template(text, text[-1]).match(name, viewer_domain=domain)
    assert got is not None
    assert (got.owner.user, got.prefix, got.rest, got.bare) == (owner, prefix, rest, bare)


STRANGERS = [
    "shared", "shared/", "Shared/alice/Work", "sharedalice/W", "shared//Work", "shared/../Work",
    "shared/./Work", "shared/~root/Work", "shared/a\0b/Work", "shared/a\nb/Work",
    "shared/@ex.org/Work", "shared/a@../Work", "shared/" + "a" * 300 + "/Work", "",
]  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_names_without_a_possible_owner(name: str) -> None:
    assert parse_template("shared/$user/", "/").match(name) is None


BAD = ["shared/", "shared/$domain/", "shared/$user", "shared/$userx/", "shared/$username$domain/"]


@pytest.mark.parametrize("text", BAD)
def test_templates_that_cannot_work(text: str) -> None:
    with pytest.raises(SharingError) as refused:
        parse_template(text, "/")
    assert refused.value.code is Code.INVALID


def test_what_is_a_template() -> None:
    assert is_template("shared/%%u/")
    assert is_template("shared/$username/")
    assert not is_template("shared/$usernames/")
    assert not is_template("Public/")


def test_an_owner_of_another_domain_does_not_fit_a_username_prefix() -> None:
    template = parse_template("shared/$username/", "/")
    assert template.fits(Owner("alice@ex.org"), viewer_domain="ex.org")
    assert not template.fits(Owner("alice@else.org"), viewer_domain="ex.org")
    assert template.container == "shared"


WORD = st.text("ab-.", min_size=1, max_size=5).filter(lambda word: word not in (".", ".."))


@given(WORD, WORD, st.text("xy/.", max_size=6))
def test_parsing_undoes_formatting(username: str, domain: str, rest: str) -> None:
    owner = Owner(f"{username}@{domain}")
    for text in ("shared/$user/", "$domain/$username/", "s/$username@$domain/"):
        template = parse_template(text, "/")
        got = template.match(template.prefix_of(owner) + rest)
        assert got is not None
        assert (got.owner, got.rest) == (owner, rest)
