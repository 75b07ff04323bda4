"""What every sharing map must do.  Fake and real pass it, so other tests may trust the fake."""

from collections.abc import Callable

import pytest

from sharefs.acl import AclViewer
from sharefs.errors import Code, SharingError
from sharefs.sharing.keys import Audience, MapDiff, ShareKey, Wanted, keys_for
from sharefs.sharing.maps import ShareMap

BOB = ShareKey(Audience.USER, "bob@ex.org")
STAFF = ShareKey(Audience.GROUP, "staff")
ANYONE = ShareKey(Audience.ANYONE)
# Names that a file name, a line or a component could stumble over.
AWKWARD = ["a b", "..", "...", ".hidden", "é", 'quo"te', "back\\slash", "ta\tb", "\x01t", "100%"]


def check_share_map(make: Callable[[], ShareMap]) -> None:
    """make: opens the same, at first empty, map again and again."""
    assert make().all() == {}
    assert make().owners_for({BOB, ANYONE}) == frozenset()
    assert make().shares_of("alice") == frozenset()
    _check_replacing(make)
    _check_owners_are_apart(make)
    _check_incomplete_findings(make)
    _check_names(make)
    for owner in list(make().all()):
        make().replace(owner, ())
    assert make().all() == {}


def _check_replacing(make: Callable[[], ShareMap]) -> None:
    one = make()
    assert one.replace("alice", {BOB, STAFF}) == MapDiff(frozenset({BOB, STAFF}))
    assert not one.replace("alice", {BOB, STAFF}), "saying it twice changes nothing"
    assert one.shares_of("alice") == make().shares_of("alice") == {BOB, STAFF}
    assert one.replace("alice", {STAFF, ANYONE}) == MapDiff(frozenset({ANYONE}), frozenset({BOB}))
    assert make().owners_for({BOB}) == frozenset()
    assert make().owners_for({STAFF}) == make().owners_for({ANYONE, BOB}) == {"alice"}
    assert make().owners_for(()) == frozenset()


def _check_owners_are_apart(make: Callable[[], ShareMap]) -> None:
    make().replace("carl", {ANYONE, BOB})
    assert make().all() == {"alice": {STAFF, ANYONE}, "carl": {ANYONE, BOB}}
    viewer = AclViewer("bob@ex.org", frozenset({"staff"}))
    assert make().owners_for(keys_for(viewer)) == {"alice", "carl"}
    make().replace("carl", ())
    assert make().all() == {"alice": {STAFF, ANYONE}}
    make().replace("alice", {STAFF})


def _check_incomplete_findings(make: Callable[[], ShareMap]) -> None:
    partial = Wanted(frozenset({BOB}), complete=False)
    assert make().refresh("alice", lambda: partial) == MapDiff(frozenset({BOB}))
    assert make().shares_of("alice") == {BOB, STAFF}

    def fail() -> Wanted:
        raise SharingError(Code.UNAVAILABLE, "no")

    with pytest.raises(SharingError, match="no"):
        make().refresh("alice", fail)
    assert make().shares_of("alice") == {BOB, STAFF}
    assert not make().replace("alice", {BOB, STAFF}), "the lock was given back"


def _check_names(make: Callable[[], ShareMap]) -> None:
    for name in AWKWARD:
        key = ShareKey(Audience.USER, name)
        make().replace(name, {key, ANYONE})
        assert make().owners_for({key}) == {name}
        assert make().shares_of(name) == {key, ANYONE}
    assert set(make().all()) == {"alice", *AWKWARD}
    for bad in ("a/b", "", "nul\0", "../../etc"):
        with pytest.raises(SharingError) as refused:
            make().replace(bad, {BOB})
        assert refused.value.code is Code.INVALID
        if bad:
            with pytest.raises(SharingError) as refused:
                make().replace("alice", {ShareKey(Audience.USER, bad)})
            assert refused.value.code is Code.INVALID
            assert make().owners_for({ShareKey(Audience.GROUP, bad)}) == frozenset()
        assert make().shares_of(bad) == frozenset()
