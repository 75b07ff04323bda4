"""sharefs.acl: precedence, updates, and the reasons for both."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sharefs.acl import (
    Acl,
    AclViewer,
    Change,
    Effect,
    Entry,
    Mode,
    Update,
    effective,
    shown,
)
from sharefs.errors import Place
from sharefs.identifiers import OWNER, Identifier, user
from sharefs.rights import ALL, NONE, Rights
from tests.strategies import acls, entries, identifiers, standard_rights, viewers

STAFF = frozenset({"staff"})
ALICE = AclViewer("alice", STAFF, is_owner=True, owner_name="alice", private_namespace=True)
BOB = AclViewer("bob", STAFF, owner_name="alice")


def line(text: str, *, is_global: bool = False) -> Entry:
    """An entry from `<id> <letters>`; a leading # marks a global one."""
    is_global = is_global or text.startswith("#")
    name, _, letters = text.removeprefix("#").partition(" ")
    identifier, negative = Identifier.parse_file(name)
    rights = Rights(letters)
    return Entry(identifier, None if negative else rights, rights if negative else None, is_global)


def acl_of(*lines: str) -> Acl:
    return Acl(tuple(line(text) for text in lines))


# What Dovecot 2.3.19.1 answered (for the owner alice, for bob; both in group staff).
OBSERVED = [
    ("anyone", ["anyone lr"], ALL, "lr"),
    ("group-replaces-anyone", ["anyone lr", "group=staff lrs"], ALL, "lrs"),
    ("user-replaces-group", ["group=staff lrsi", "user=bob l"], ALL, "l"),
    ("override-binds-the-owner", ["user=bob lr", "group-override=staff l"], Rights("l"), "l"),
    ("negative-user", ["group=staff lrsi", "-user=bob s"], ALL, "lri"),
    ("negative-group", ["anyone lrswi", "-group=staff w"], ALL, "lrsi"),
    ("negative-anyone", ["-anyone r", "anyone lrs"], ALL, "ls"),
    ("owner-entry", ["owner lr", "anyone lrsw"], Rights("lr"), "lrsw"),
    ("empty", [], ALL, ""),
]


@pytest.mark.parametrize(
    ("lines", "alice", "bob"), [row[1:] for row in OBSERVED], ids=[row[0] for row in OBSERVED]
)
def test_the_observed_cases(lines: list[str], alice: Rights, bob: str) -> None:
    assert effective(acl_of(*lines), ALICE, ALL).rights == alice
    assert effective(acl_of(*lines), BOB, NONE).rights == Rights(bob)


RULES = [  # id, lines, viewer, want
    ("global-beats-user", ["user=bob lrs", "#anyone l"], BOB, "l"),
    ("global-beats-owner", ["owner lrswa", "#anyone l"], ALICE, "l"),
    ("global-clears-negatives", ["-user=bob lr", "#anyone lrs"], BOB, "lrs"),
    ("global-negative", ["user=bob lrs", "#-anyone s"], BOB, "lr"),
    ("global-negative-clears-local", ["user=bob lrs", "-user=bob r", "#-anyone s"], BOB, "lr"),
    ("global-override-wins", ["#user=bob lrs", "#group-override=staff l"], BOB, "l"),
    ("groups-merge", ["group=staff lr", "group=ops ls"],
     replace(BOB, groups=frozenset({"staff", "ops"})), "lrs"),
    ("other-groups-do-not", ["group=staff lr", "group=ops ls"], BOB, "lr"),
    ("empty-line-takes-all", ["anyone lr", "user=bob "], BOB, ""),
    ("negative-only", ["-user=bob r"], BOB, ""),
    ("owner-negative", ["-owner x"], ALICE, "lrwstipeka"),
    ("owner-by-name", ["user=alice l"], ALICE, "l"),
    ("stranger-is-no-owner", ["owner lr"], BOB, ""),
    ("authenticated", ["anyone l", "authenticated lr"], BOB, "lr"),
    ("anonymous", ["anyone l", "authenticated lr"], AclViewer(None), "l"),
    ("negative-dies-with-its-kind", ["-group=staff r", "user=bob lr", "-user=bob s"], BOB, "lr"),
    ("negative-lives-on", ["-group=staff r", "user=bob lr"], BOB, "l"),
    # Two lines about one identifier: Dovecot merges them, and then both parts are there.
    ("two-positive-lines-end-negatives", ["-group=staff r", "user=bob l", "user=bob r"], BOB, "lr"),
    ("two-negative-lines-leave-nothing", ["anyone lrst", "-user=bob s", "-user=bob t"], BOB, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "viewer", "want"), [row[1:] for row in RULES], ids=[row[0] for row in RULES]
)
def test_the_rules(lines: list[str], viewer: AclViewer, want: str) -> None:
    assert effective(acl_of(*lines), viewer, NONE).rights == Rights(want)


def test_defaults_are_for_those_of_whom_nobody_speaks() -> None:
    inbox = Rights("lr")
    assert effective(acl_of("user=carl lrs"), BOB, inbox).rights == inbox
    assert effective(acl_of("-user=bob l"), BOB, inbox).rights == NONE
    assert effective(acl_of(), ALICE, inbox).rights == ALL


def test_reasons_name_the_lines() -> None:
    file = "/home/alice/Maildir/.Work/dovecot-acl"
    acl = Acl(
        (
            replace(line("anyone lrs"), place=Place(file, 1)),
            replace(line("group=ops lrswi"), place=Place(file, 2)),
            replace(line("-user=bob s"), negative_place=Place(file, 3)),
        )
    )
    got = effective(acl, BOB, NONE)
    assert got.rights == Rights("lr")
    assert [str(reason) for reason in got.reasons] == [
        f"{file}:1: anyone gives lrs",
        f"{file}:2: bob is not in group ops",
        f"{file}:3: -user=bob takes away s",
    ]
    took = got.reason_for(Rights("s"))
    assert took is not None
    assert took.effect is Effect.TOOK
    assert got.reason_for(Rights("i")) is None


def test_a_negative_line_that_waits_for_its_right_is_named() -> None:
    viewer = replace(BOB, groups=frozenset({"a", "b"}))
    got = effective(acl_of("-group=a s", "group=b ls"), viewer, NONE)
    reason = got.reason_for(Rights("s"))
    assert reason is not None
    assert str(reason) == "-group=a takes away s, which group=b gives"


UPDATES = [  # id, before, update, after
    ("add-new", [], Update.of(user("bob"), Mode.ADD, Rights("lr")), ["user=bob lr"]),
    ("add", ["user=bob l"], Update.of(user("bob"), Mode.ADD, Rights("r")), ["user=bob lr"]),
    ("replace", ["user=bob l"], Update.of(user("bob"), Mode.REPLACE, Rights("s")), ["user=bob s"]),
    ("remove", ["user=bob lr"], Update.of(user("bob"), Mode.REMOVE, Rights("r")), ["user=bob l"]),
    ("remove-last-leaves-a-line", ["user=bob l"],
     Update.of(user("bob"), Mode.REMOVE, Rights("l")), ["user=bob "]),
    ("remove-absent", [], Update.of(user("bob"), Mode.REMOVE, Rights("l")), []),
    ("nothing-new", [], Update.of(user("bob"), Mode.REPLACE, NONE), []),
    ("negative", ["user=bob lr"],
     Update.of(user("bob"), Mode.ADD, Rights("s"), negative=True), ["user=bob lr", "-user=bob s"]),
    ("whole", ["user=bob lr", "-user=bob s"], Update.whole(user("bob"), Rights("l")),
     ["user=bob l"]),
    ("whole-of-nothing", ["user=bob lr"], Update.whole(user("bob"), NONE), []),
    ("delete-both", ["user=bob lr", "-user=bob s"], Update.deletion(user("bob")), []),
    ("delete-positive", ["user=bob lr", "-user=bob s"],
     Update.deletion(user("bob"), negative=False), ["-user=bob s"]),
    ("delete-negative", ["user=bob lr", "-user=bob s"],
     Update.deletion(user("bob"), negative=True), ["user=bob lr"]),
    ("globals-are-out-of-reach", ["#user=bob lr"], Update.deletion(user("bob")), ["#user=bob lr"]),
    ("owner-is-not-alice", ["owner lr"], Update.of(user("alice"), Mode.ADD, Rights("s")),
     ["owner lr", "user=alice s"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "update", "after"), [row[1:] for row in UPDATES], ids=[row[0] for row in UPDATES]
)
def test_updates(before: list[str], update: Update, after: list[str]) -> None:
    assert acl_of(*before).apply(update) == acl_of(*after)


SHOWN = [
    ("default-at-the-end", ["user=bob lr"], ["user=bob lr", "user=alice lrwstipekxa"]),
    ("owner-by-name", ["owner lra", "user=bob l"], ["user=alice lra", "user=bob l"]),
    ("both", ["owner lra", "user=alice l"], ["owner lra", "user=alice l"]),
    ("own-negative", ["-user=alice l"], ["-user=alice l", "user=alice lrwstipekxa"]),
    ("own", ["user=alice lra"], ["user=alice lra"]),
]


@pytest.mark.parametrize(
    ("lines", "want"), [row[1:] for row in SHOWN], ids=[row[0] for row in SHOWN]
)
def test_the_owner_is_shown_by_name(lines: list[str], want: list[str]) -> None:
    assert shown(acl_of(*lines), ALICE) == tuple(line(text) for text in want)
    assert shown(acl_of(*lines), BOB) == acl_of(*lines).entries


@given(st.lists(entries, max_size=8), viewers, st.randoms(use_true_random=False))
def test_the_order_of_lines_never_matters(
    found: list[Entry], viewer: AclViewer, random: Random
) -> None:
    shuffled = random.sample(found, len(found))
    assert Acl(tuple(found)) == Acl(tuple(shuffled))
    assert effective(Acl(tuple(found)), viewer, NONE).rights == (
        effective(Acl(tuple(shuffled)), viewer, NONE).rights
    )


@given(acls, viewers, standard_rights, st.data())
def test_more_rights_never_refuse_more(
    acl: Acl, viewer: AclViewer, more: Rights, data: st.DataObject
) -> None:
    positive = [entry for entry in acl.entries if entry.rights is not None]
    assume(positive)
    entry = data.draw(st.sampled_from(positive))
    widened = replace(entry, rights=(entry.rights or NONE) | more)
    wider = Acl(tuple(widened if other is entry else other for other in acl.entries))
    assert effective(wider, viewer, NONE).rights.covers(effective(acl, viewer, NONE).rights)


@given(acls, viewers, standard_rights, st.data())
def test_more_negative_rights_never_allow_more(
    acl: Acl, viewer: AclViewer, more: Rights, data: st.DataObject
) -> None:
    negative = [entry for entry in acl.entries if entry.negative is not None]
    assume(negative)
    entry = data.draw(st.sampled_from(negative))
    widened = replace(entry, negative=(entry.negative or NONE) | more)
    wider = Acl(tuple(widened if other is entry else other for other in acl.entries))
    assert effective(acl, viewer, NONE).rights.covers(effective(wider, viewer, NONE).rights)


@given(acls, viewers, standard_rights)
def test_every_right_has_a_reason(acl: Acl, viewer: AclViewer, defaults: Rights) -> None:
    got = effective(acl, viewer, defaults)
    for right in ALL.each():
        reason = got.reason_for(right)
        held = got.rights.covers(right)
        assert held == (reason is not None and reason.effect in (Effect.GAVE, Effect.RESTORED))


@given(acls, viewers)
def test_entries_about_others_never_matter(acl: Acl, viewer: AclViewer) -> None:
    mine = Acl(tuple(entry for entry in acl.entries if viewer.matches(entry.identifier)))
    assert effective(acl, viewer, NONE).rights == effective(mine, viewer, NONE).rights


@given(acls, identifiers, standard_rights, standard_rights)
def test_the_arithmetic_of_updates(
    acl: Acl, identifier: Identifier, some: Rights, more: Rights
) -> None:
    assume(some and more)
    after = acl.update(identifier, Mode.REPLACE, some).find(identifier)
    assert after is not None
    assert after.rights == some
    added = acl.update(identifier, Mode.REPLACE, some).update(identifier, Mode.ADD, more)
    assert added == acl.update(identifier, Mode.REPLACE, some | more)
    removed = added.update(identifier, Mode.REMOVE, more).find(identifier)
    assert removed is not None
    assert removed.rights == some - more
    gone = added.delete(identifier)
    assert gone.find(identifier) is None
    assert gone.entries == acl.delete(identifier).entries
    assert acl.update(identifier, Mode.REMOVE, NONE) == acl


def test_an_update_leaves_the_other_part_alone() -> None:
    acl = acl_of("-owner x")
    assert acl.apply(Update(OWNER, Change(Mode.ADD, Rights("l")))) == acl_of("owner l", "-owner x")
