"""Which file a subscription goes to, how it is spelled there, and that it comes back as it was."""

import logging
from pathlib import Path

import pytest

from sharefs.config.namespaces import Location, NamespaceSettings
from sharefs.config.variables import Template
from sharefs.errors import Code, SharingError
from sharefs.namespaces.namespace import Found, Namespace
from sharefs.namespaces.resolve import Namespaces
from sharefs.namespaces.subscribed import Subscribed
from sharefs.namespaces.subscriptions import Subscriptions
from sharefs.permissions.inherit import DEFAULTS
from tests.namespaces.support import Homes, location, namespaces, settings

V2 = b"V\t2\n\n"


class World:
    """A viewer's namespaces with subscriptions files below one directory, named as namespaces."""

    def __init__(self, top: Path, *spaces: NamespaceSettings) -> None:
        self.top = top
        homes = Homes({"alice@ex.org": Path("/home/alice"), "alice": Path("/home/alice")})
        self.namespaces: Namespaces = namespaces(*spaces, homes=homes)
        self.subscribed = Subscribed(self.namespaces, self.make)

    def make(self, namespace: Namespace) -> Subscriptions:
        path = self.top / namespace.settings.name
        separator = namespace.naming.layout.separator
        return Subscriptions(path, separator, lambda: DEFAULTS, fsync=False)

    def found(self, name: str) -> Found:
        found = self.namespaces.find(name)
        assert found is not None
        return found

    def octets(self, name: str = "inbox") -> bytes:
        return (self.top / name).read_bytes()


def test_a_childs_entry_goes_to_its_parents_file(tmp_path: Path) -> None:
    world = World(tmp_path)
    names = ["Work/Sub", "Public/info", "shared/alice@ex.org/Work", "shared/alice@ex.org"]
    for name in names:
        assert world.subscribed.add(world.found(name))
    # As observed with Dovecot: the dot of the domain became a TAB, the slashes stayed.
    assert world.octets() == V2 + (
        b"Work\tSub\nPublic/info\nshared/alice@ex\torg/Work\nshared/alice@ex\torg/INBOX\n"
    )
    assert list(world.subscribed.names()) == names
    assert world.subscribed.remove(world.found("shared/alice@ex.org/Work"))
    assert list(world.subscribed.names()) == [names[0], names[1], names[3]]


def test_levels_of_a_child_are_spelled_in_the_childs_layout(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.subscribed.add(world.found("Public/a/b"))
    assert world.octets() == V2 + b"Public/a\tb\n"
    assert list(world.subscribed.names()) == ["Public/a/b"]


def test_both_layouts_and_separators(tmp_path: Path) -> None:
    spaces = (
        settings(inbox=True, layout="fs"),
        settings("pub.", "public", "/p", separator=".", layout="fs", subscriptions=False),
    )
    world = World(tmp_path, *spaces)
    names = {"Work/Sub": "/", "pub.a.b": "."}
    for name in names:
        world.subscribed.add(world.found(name))
    assert world.octets() == V2 + b"Work\tSub\npub.a\tb\n"
    assert world.subscribed.names() == names


def test_the_hidden_namespace_of_the_documentation(tmp_path: Path) -> None:
    """`namespace subscriptions { prefix = ... hidden = yes ... }` keeps what others cannot."""
    spaces = (
        settings("INBOX/", name="inbox", inbox=True),
        settings("Public/", "public", "/p", subscriptions=False),
        settings("", name="subs", hidden=True, list="no", alias_for="inbox"),
    )
    world = World(tmp_path, *spaces)
    for name in ("INBOX/Work", "INBOX", "Public/info"):
        world.subscribed.add(world.found(name))
    assert world.octets() == V2 + b"Work\nINBOX\n"
    assert world.octets("subs") == V2 + b"Public/info\n"
    assert list(world.subscribed.names()) == ["INBOX/Work", "INBOX", "Public/info"]


def test_another_name_for_a_namespace_adds_no_names(tmp_path: Path) -> None:
    """`alias_for`, with the same file for both."""
    spaces = (
        settings(name="inbox", inbox=True),
        settings("mail/", name="inbox-too", hidden=True, list="no", alias_for="inbox"),
    )
    world = World(tmp_path, *spaces)
    world.subscribed.add(world.found("Work"))
    (tmp_path / "inbox-too").write_bytes(world.octets())
    assert list(world.subscribed.names()) == ["Work"]


def test_nowhere_to_keep_it(tmp_path: Path) -> None:
    spaces = (
        settings("INBOX/", name="inbox", inbox=True),
        settings("Public/", "public", "/p", subscriptions=False),
    )
    world = World(tmp_path, *spaces)
    with pytest.raises(SharingError) as refused:
        world.subscribed.add(world.found("Public/info"))
    assert refused.value.code is Code.CANNOT
    assert "hidden = yes" in refused.value.detail


def test_subscriptions_are_the_viewers_even_in_a_public_namespace(tmp_path: Path) -> None:
    world = World(tmp_path, settings(inbox=True), settings("Public/", "public", "/p"))
    world.subscribed.add(world.found("Public/info"))
    assert world.octets() == V2 + b"Public/info\n"


def test_a_public_namespace_with_a_control_path_of_the_viewers_own(tmp_path: Path) -> None:
    base = location("/p")
    own: Location = Location(
        driver=base.driver, path=base.path, viewer=base.viewer,
        templates={**base.templates, "mail_control_path": Template.parse("~/Maildir/public")},
    )  # fmt: skip
    public = settings("Public/", "public", name="public", location=own)
    world = World(tmp_path, settings(inbox=True), public)
    world.subscribed.add(world.found("Public/info"))
    assert world.octets("public") == V2 + b"info\n"
    assert list(world.subscribed.names()) == ["Public/info"]


def test_entries_that_mean_nothing_are_kept_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "inbox").write_bytes(V2 + b"\xff\nWork\n&bad\n")
    world = World(tmp_path)
    assert list(world.subscribed.names()) == ["Work"]
    world.subscribed.add(world.found("Other"))
    assert world.octets() == V2 + b"\xff\nWork\n&bad\nOther\n"


def test_a_failing_home_lookup_breaks_no_listing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "inbox").write_bytes(V2 + b"shared/alice/Work\nWork\n")

    class Broken(Homes):
        def home_of(self, name: str) -> Path | None:
            raise SharingError(Code.UNAVAILABLE, "down", retryable=True)

    world = World(tmp_path)
    spaces = namespaces(homes=Broken({}))
    with caplog.at_level(logging.WARNING):
        assert list(Subscribed(spaces, world.make).names()) == ["Work"]
    assert "shared/alice/Work" in caplog.text
