"""Which namespace and storage name a mailbox name means, and that strangers' names mean nothing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.errors import Code, SharingError
from sharefs.namespaces.namespace import Namespace
from sharefs.namespaces.resolve import NOWHERE, REMEMBER
from tests.namespaces.support import (
    HOMES,
    PRIVATE,
    PUBLIC,
    SHARED,
    Homes,
    namespaces,
    settings,
)

NAMES = [  # name, namespace's prefix, levels, the one spelling of the name
    ("INBOX", "", ("INBOX",), "INBOX"),
    ("inbox", "", ("INBOX",), "INBOX"),
    ("Inbox/x", "", ("INBOX", "x"), "INBOX/x"),
    ("Work", "", ("Work",), "Work"),
    ("Work/Sub", "", ("Work", "Sub"), "Work/Sub"),
    ("Public/info", "Public/", ("info",), "Public/info"),
    ("Public", "Public/", (), "Public"),
    ("Public/INBOX", "Public/", ("INBOX",), "Public/INBOX"),
    ("Publicity", "", ("Publicity",), "Publicity"),
    ("shared/alice/Work", "shared/alice/", ("Work",), "shared/alice/Work"),
    ("shared/alice", "shared/alice/", ("INBOX",), "shared/alice"),
    ("shared/alice/", "shared/alice/", ("INBOX",), "shared/alice"),
    ("shared/alice/inbox", "shared/alice/", ("INBOX",), "shared/alice"),
    ("shared/alice/INBOX/x", "shared/alice/", ("INBOX", "x"), "shared/alice/INBOX/x"),
    ("shared/carl@ex.org/W", "shared/carl@ex.org/", ("W",), "shared/carl@ex.org/W"),
]


@pytest.mark.parametrize(("name", "prefix", "levels", "spelling"), NAMES)
def test_find(name: str, prefix: str, levels: tuple[str, ...], spelling: str) -> None:
    found = namespaces().find(name)
    assert found is not None
    assert (found.namespace.prefix, found.levels, found.name) == (prefix, levels, spelling)


@pytest.mark.parametrize("name", ["shared", "shared/", "shared//W", "shared/../W", "shared/~x/W"])
def test_names_that_no_namespace_covers(name: str) -> None:
    assert namespaces().find(name) is None


def test_an_owners_location_is_expanded() -> None:
    found = namespaces().find("shared/alice/Work")
    assert found is not None
    assert found.namespace.owner == "alice"
    assert found.namespace.location.path == Path("/home/alice/Maildir")


@pytest.mark.parametrize("owner", ["nobody", "homeless"])
def test_an_owner_who_is_not_there_has_mail_nowhere(owner: str) -> None:
    found = namespaces().find(f"shared/{owner}/Work")
    assert found is not None
    assert found.namespace.location.path == NOWHERE / "Maildir"


def test_a_new_account_is_noticed_after_a_while() -> None:
    now = [0.0]
    homes = Homes(dict(HOMES))
    spaces = namespaces(homes=homes, clock=lambda: now[0])
    spaces.find("shared/dora/Work")
    homes.homes = {"dora": Path("/home/dora")}
    now[0] += REMEMBER
    found = spaces.find("shared/dora/Work")
    assert found is not None
    assert found.namespace.location.path == Path("/home/dora/Maildir")


@pytest.mark.parametrize("owner", ["alice", "nobody"])
def test_owners_are_looked_up_as_often_whether_or_not_they_exist(owner: str) -> None:
    """Otherwise the time of an answer tells who has an account."""
    now = [0.0]
    homes = Homes(HOMES)
    spaces = namespaces(homes=homes, clock=lambda: now[0])
    for _ in range(3):
        spaces.find(f"shared/{owner}/Work")
    assert homes.asked == [owner]
    now[0] += REMEMBER
    spaces.find(f"shared/{owner}/Work")
    assert homes.asked == [owner, owner]


def test_homes_are_not_asked_for_if_the_path_does_without() -> None:
    shared = settings("shared/$user/", "shared", "/var/mail/%{owner_user}/Maildir")
    homes = Homes({})
    found = namespaces(PRIVATE, shared, homes=homes).find("shared/alice/W")
    assert found is not None
    assert found.namespace.location.path == Path("/var/mail/alice/Maildir")
    assert not homes.asked


def test_a_lookup_that_fails_is_not_a_missing_user() -> None:
    class Broken(Homes):
        def home_of(self, name: str) -> Path | None:
            raise SharingError(Code.UNAVAILABLE, "down", retryable=True)

    with pytest.raises(SharingError) as refused:
        namespaces(homes=Broken({})).find("shared/alice/W")
    assert refused.value.code is Code.UNAVAILABLE


def test_prefixes_nest() -> None:
    outer = settings("a/", "public", "/a")
    inner = settings("a/b/", "public", "/b")
    spaces = namespaces(PRIVATE, outer, inner)
    for name, prefix in {"a/x": "a/", "a/b": "a/b/", "a/b/x": "a/b/", "ab": ""}.items():
        found = spaces.find(name)
        assert found is not None
        assert found.namespace.prefix == prefix


def test_without_an_empty_prefix_other_names_mean_nothing() -> None:
    spaces = namespaces(settings("INBOX.", inbox=True, separator="."))
    assert spaces.find("Work") is None
    assert spaces.find("inbox") is not None
    found = spaces.find("Inbox.Work")
    assert found is not None
    assert (found.levels, found.name) == (("Work",), "INBOX.Work")


def test_disabled_namespaces_are_not_there() -> None:
    spaces = namespaces(PRIVATE, settings("Public/", "public", disabled=True))
    assert [one.prefix for one in spaces.fixed] == [""]


def test_separators() -> None:
    spaces = namespaces(PRIVATE, SHARED, settings("pub.", "public", "/p", separator="."))
    assert [spaces.separator_of(name) for name in ("", "Work", "pub.x", "shared/x")] == [*"//./"]


def test_what_a_longer_prefix_hides() -> None:
    spaces = namespaces()
    private = spaces.fixed[0]
    hidden = ["Public/x", "Public", "shared/alice", "shared"]
    assert all(spaces.is_shadowed(name, private) for name in hidden)
    assert not any(spaces.is_shadowed(name, private) for name in ["Work", "INBOX", "Publicity"])


STORED = [  # layout, levels, as it is spelled in files
    ("maildir++", ("Work", "Sub"), "Work.Sub"),
    ("fs", ("Work", "Sub"), "Work/Sub"),
    ("maildir++", ("INBOX",), "INBOX"),
    ("maildir++", ("INBOX", "x"), "INBOX.x"),
    ("maildir++", ("Entwürfe",), "Entw&APw-rfe"),
]


@pytest.mark.parametrize(("layout", "levels", "stored"), STORED)
def test_stored_names(layout: str, levels: tuple[str, ...], stored: str) -> None:
    namespace = namespaces(settings(layout=layout)).fixed[0]
    assert namespace.stored_name(levels) == stored
    assert namespace.levels_stored_as(stored) == levels


@pytest.mark.parametrize("stored", ["", "a..b", ".", "&bad", "a.\udcff"])
def test_stored_names_that_are_none(stored: str) -> None:
    assert namespaces(settings()).fixed[0].levels_stored_as(stored) is None


@given(st.text("abIinNbBoOxX/.é~\0", max_size=12))
def test_every_name_finds_one_place_or_none(name: str) -> None:
    """Finding never raises, and the one spelling of a name finds the same place again."""
    spaces = namespaces(PRIVATE, PUBLIC, SHARED)
    for prefix in ("", "Public/", "shared/", "shared/alice/"):
        found = spaces.find(prefix + name)
        if found is None:
            continue
        again = spaces.find(found.name)
        assert again is not None
        same: Namespace = again.namespace
        assert (same.prefix, again.levels) == (found.namespace.prefix, found.levels)
