"""sharefs.sharing.step and list_cache: three places, one change."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.acl import Mode, Update
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier, group, user
from sharefs.permissions.inherit import DEFAULTS, Creation, GidReason
from sharefs.rights import Rights
from sharefs.sharing.file_map import FileMap
from sharefs.sharing.files import AclReader
from sharefs.sharing.keys import Audience, MapDiff, ShareKey
from sharefs.sharing.list_cache import CachedMailbox, format_list, parse_list, read_list, write_list
from sharefs.sharing.maps import MemoryMap
from sharefs.sharing.step import OwnedMailbox, Shares, change_sharing, check_map, derive
from tests.support.become import Identity

BOB = ShareKey(Audience.USER, "bob")
STAFF = ShareKey(Audience.GROUP, "staff")


def give(identifier: Identifier, letters: str) -> Update:
    return Update.of(identifier, Mode.REPLACE, Rights(letters))


class Home:
    """Alice's mailboxes in a directory of their own."""

    def __init__(self, root: Path, *names: str) -> None:
        self.root = root
        for name in names:
            (root / f".{name}").mkdir()

    def acl(self, name: str) -> Path:
        return self.root / f".{name}" / "dovecot-acl"

    def mailboxes(self) -> Iterator[OwnedMailbox]:
        for path in sorted(self.root.glob(".*")):
            yield OwnedMailbox(path.name[1:], path / "dovecot-acl")

    def shares(self, share_map: MemoryMap | FileMap | None) -> Shares:
        return Shares(
            owner="alice",
            mailboxes=self.mailboxes,
            list_path=self.root / "dovecot-acl-list",
            list_creation=DEFAULTS,
            share_map=share_map,
        )

    def listed(self) -> list[str]:
        found = read_list(self.root / "dovecot-acl-list")
        assert found is not None
        return [mailbox.name for mailbox in found]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, "Work", "Play")


def test_one_step_changes_all_three(home: Home) -> None:
    share_map = MemoryMap()
    outcome = change_sharing(
        home.acl("Work"), give(user("bob"), "lr"), DEFAULTS, home.shares(share_map)
    )
    assert outcome.acl.changed
    assert home.acl("Work").read_bytes() == b"user=bob lr\n"
    assert outcome.derived.list_written
    assert home.listed() == ["Work"]
    assert outcome.derived.map_change == MapDiff(frozenset({BOB}))
    assert outcome.derived.warnings == ()
    assert share_map.all() == {"alice": {BOB}}


def test_a_key_stays_while_any_mailbox_needs_it(home: Home) -> None:
    share_map = MemoryMap()
    shares = home.shares(share_map)
    for name in ("Work", "Play"):
        change_sharing(home.acl(name), give(user("bob"), "lr"), DEFAULTS, shares)
    change_sharing(home.acl("Work"), Update.deletion(user("bob")), DEFAULTS, shares)
    assert share_map.all() == {"alice": {BOB}}
    assert home.listed() == ["Play"]
    change_sharing(home.acl("Play"), give(user("bob"), "r"), DEFAULTS, shares)
    assert share_map.all() == {}


def test_mailboxes_elsewhere_count_for_the_map(home: Home, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"group=staff l\n")
    share_map = MemoryMap()
    shares = replace(
        home.shares(share_map), elsewhere=lambda: [OwnedMailbox("X", tmp_path / "elsewhere")]
    )
    change_sharing(home.acl("Work"), give(user("bob"), "lr"), DEFAULTS, shares)
    assert share_map.all() == {"alice": {BOB, STAFF}}
    assert home.listed() == ["Work"]


def test_nothing_happens_when_nothing_changes(home: Home) -> None:
    home.acl("Work").write_bytes(b"user=bob lr\n")
    share_map = MemoryMap()
    same = give(user("bob"), "lr")
    outcome = change_sharing(home.acl("Work"), same, DEFAULTS, home.shares(share_map))
    assert not outcome.acl.changed
    assert share_map.all() == {}
    change_sharing(home.acl("Work"), same, DEFAULTS, home.shares(share_map), always=True)
    assert share_map.all() == {"alice": {BOB}}, "asking for it mends a lost map"


def test_a_refused_change_changes_nothing(home: Home) -> None:
    home.acl("Work").write_bytes(b"user=bob z\n")
    share_map = MemoryMap({"alice": frozenset({STAFF})})
    with pytest.raises(SharingError) as refused:
        change_sharing(home.acl("Work"), give(user("x"), "l"), DEFAULTS, home.shares(share_map))
    assert refused.value.code is Code.CORRUPT
    assert share_map.all() == {"alice": {STAFF}}
    assert not (home.root / "dovecot-acl-list").exists()


def test_an_unreadable_mailbox_takes_nothing_out_of_the_map(home: Home) -> None:
    home.acl("Play").write_bytes(b"group=staff lz\n")
    share_map = MemoryMap({"alice": frozenset({STAFF})})
    outcome = change_sharing(
        home.acl("Work"), give(user("bob"), "lr"), DEFAULTS, home.shares(share_map)
    )
    assert share_map.all() == {"alice": {BOB, STAFF}}
    assert (
        f"{home.acl('Play')}:1:14: error: unknown right 'z'; until" in outcome.derived.warnings[0]
    )
    assert home.listed() == ["Play", "Work"], "the cache is a superset"


def test_names_that_the_map_cannot_hold_are_reported(home: Home) -> None:
    share_map = MemoryMap()
    outcome = change_sharing(
        home.acl("Work"), give(group("a/b"), "l"), DEFAULTS, home.shares(share_map)
    )
    assert "cannot hold group a/b" in outcome.derived.warnings[0]
    assert share_map.all() == {}


def test_a_public_namespace_has_no_map(home: Home) -> None:
    shares = replace(home.shares(MemoryMap()), owner="")
    outcome = change_sharing(home.acl("Work"), give(user("bob"), "l"), DEFAULTS, shares)
    assert outcome.derived.map_change is None
    assert home.listed() == ["Work"]


def test_a_lost_map_is_found_and_mended(home: Home) -> None:
    home.acl("Work").write_bytes(b"user=bob lr\n")
    shares = home.shares(MemoryMap({"alice": frozenset({STAFF})}))
    want = MapDiff(frozenset({BOB}), frozenset({STAFF}))
    assert check_map(shares) == want
    assert derive(shares).map_change == want
    assert not check_map(shares)


@pytest.mark.superuser
def test_the_change_stands_when_the_map_cannot_be_written(open_tmp: Path) -> None:
    """As in Dovecot the ACL is in force; unlike there, the remedy is told."""
    (open_tmp / "home").mkdir()
    home = Home(open_tmp / "home", "Work")
    for path in (home.root, home.root / ".Work"):
        os.chown(path, 5001, 5001)
    (open_tmp / "db").mkdir(mode=0o755)

    def as_alice() -> tuple[bool, bool, tuple[str, ...]]:
        shares = home.shares(FileMap(open_tmp / "db" / "shared.db"))
        outcome = change_sharing(home.acl("Work"), give(user("bob"), "lr"), DEFAULTS, shares)
        derived = outcome.derived
        return outcome.acl.changed, derived.map_change is None, derived.warnings

    changed, no_map, warnings = Identity(5001, 5001, ()).run(as_alice)
    assert changed
    assert no_map
    assert home.acl("Work").read_bytes() == b"user=bob lr\n"
    (warning,) = warnings
    assert str(open_tmp / "db" / "shared.db") in warning
    assert "Permission denied" in warning
    assert "sharefs map rebuild -u alice" in warning


def test_two_owners_mailboxes_at_once(tmp_path: Path) -> None:
    """Processes that change different mailboxes of one owner: the map ends with all of it."""
    (tmp_path / "home").mkdir()
    home = Home(tmp_path / "home", *(f"M{number}" for number in range(6)))
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                shares = home.shares(FileMap(tmp_path / "shared.db"))
                name = f"M{number}"
                update = give(user(f"user{number}"), "lr")
                change_sharing(home.acl(name), update, DEFAULTS, shares)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    got = FileMap(tmp_path / "shared.db").shares_of("alice")
    assert {key.name for key in got} == {f"user{number}" for number in range(6)}


# --- the list cache ------------------------------------------------------------------------

LISTS = [
    (b"", ()),
    (b"1795280837 Work\n", (CachedMailbox("Work", 1795280837),)),
    (b"0 a b\n1 Work.Sub\n", (CachedMailbox("a b", 0), CachedMailbox("Work.Sub", 1))),
    (b"Work\n", None),
    (b"1\n", None),
    (b"1 \n", None),
    (b" Work\n", None),
    (b"-1 Work\n", None),
    (b"1 Work\n\n", None),
    (b"1 Work", None),
    (b"x" * 100, None),
]


@pytest.mark.parametrize(("octets", "want"), LISTS)
def test_parsing(octets: bytes, want: tuple[CachedMailbox, ...] | None) -> None:
    assert parse_list(octets) == want


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1)


@given(st.lists(st.builds(CachedMailbox, names, st.integers(0, 1 << 40))))
def test_lists_round_trip(found: list[CachedMailbox]) -> None:
    assert parse_list(format_list(found)) == tuple(found)


@given(st.binary(max_size=100))
def test_garbage_is_a_list_or_none(octets: bytes) -> None:
    parse_list(octets)


def test_a_malformed_cache_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "dovecot-acl-list"
    path.write_bytes(b"garbage\n")
    assert read_list(path) is None
    assert not path.exists()
    assert read_list(path) is None


def test_a_name_with_a_line_end_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "list"
    assert write_list(path, [CachedMailbox("a\nb", 1), CachedMailbox("c", 2)], DEFAULTS)
    assert read_list(path) == (CachedMailbox("c", 2),)


def test_a_missing_root_has_no_cache(tmp_path: Path) -> None:
    assert not write_list(tmp_path / "gone" / "list", [], DEFAULTS)


@pytest.mark.superuser
def test_permissions_forbid_silently(open_tmp: Path, caplog: pytest.LogCaptureFixture) -> None:
    def outsider() -> bool:
        return write_list(open_tmp / "list", [], DEFAULTS)

    assert not Identity(5001, 5001, ()).run(outsider)
    chgrp = Creation(0o660, 0o770, 6000, GidReason.COPIED, "root")
    open_tmp.chmod(0o777)

    def not_in_group() -> bool:
        return write_list(open_tmp / "list", [], chgrp)

    assert not Identity(5001, 5001, ()).run(not_in_group)
    assert list(open_tmp.iterdir()) == []


def test_deriving_reads_each_file_once_settled(home: Home) -> None:
    home.acl("Work").write_bytes(b"user=bob lr\n")
    reader = AclReader(clock=lambda: 1 << 40)
    shares = home.shares(MemoryMap())
    assert derive(shares, reader).map_change == MapDiff(frozenset({BOB}))
    assert derive(shares, reader).map_change == MapDiff()
