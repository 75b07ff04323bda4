"""Who gets which worker, how many connections, and when a worker has nothing left to do."""

import pytest

from imap.service.placement import NEW, Identity, Placement

ALICE = Identity.of(1001, 1001, (1001,))
VMAIL = Identity.of(5000, 5000, ())


def placement(pool_size: int = 2, limit: int = 0) -> Placement:
    return Placement(pool_size=pool_size, max_per_address=limit)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param((1, 1, (7, 8)), (1, 1, (8, 7, 8)), True, id="order-and-repeats"),
        pytest.param((1, 1, (1, 7)), (1, 1, (7,)), True, id="primary-group-named-again"),
        pytest.param((1, 1, (7,)), (1, 1, ()), False, id="a-group-more"),
        pytest.param((1, 1, ()), (1, 2, ()), False, id="another-primary-group"),
        pytest.param((1, 1, ()), (2, 1, ()), False, id="another-uid"),
    ],
)
def test_identity(
    one: tuple[int, int, tuple[int, ...]], other: tuple[int, int, tuple[int, ...]], same: bool
) -> None:
    assert (Identity.of(*one) == Identity.of(*other)) is same


def test_all_connections_of_a_user_go_to_one_worker() -> None:
    places = placement()
    assert places.place(ALICE, "alice") is NEW
    places.add_worker(11, ALICE, now=0)
    for session in "abc":
        assert places.place(ALICE, "alice") == 11
        places.connect(11, session, "alice", "::1")


def test_identities_never_share_a_worker() -> None:
    places = placement()
    places.add_worker(11, ALICE, now=0)
    assert places.place(VMAIL, "alice") is NEW


def test_users_of_one_uid_spread_over_the_pool_and_stay() -> None:
    places = placement(pool_size=2)
    places.add_worker(11, VMAIL, now=0)
    places.connect(11, "1", "ann", "::1")
    assert places.place(VMAIL, "ben") is NEW
    places.add_worker(12, VMAIL, now=0)
    places.connect(12, "2", "ben", "::1")
    places.connect(12, "3", "ben", "::1")
    assert places.place(VMAIL, "cat") == 11, "the pool is full: the least busy one"
    assert places.place(VMAIL, "ben") == 12, "a user stays"


def test_an_idle_worker_is_used_before_a_new_one() -> None:
    places = placement(pool_size=4)
    places.add_worker(11, VMAIL, now=0)
    assert places.place(VMAIL, "ann") == 11


def test_connections_per_user_and_address() -> None:
    places = placement(limit=2)
    places.add_worker(11, ALICE, now=0)
    for session in "ab":
        assert places.may_connect("alice", "192.0.2.1")
        places.connect(11, session, "alice", "192.0.2.1")
    assert not places.may_connect("alice", "192.0.2.1")
    assert places.may_connect("alice", "192.0.2.2")
    assert places.may_connect("bob", "192.0.2.1")
    places.disconnect(11, "a", now=0)
    assert places.may_connect("alice", "192.0.2.1")


def test_a_dead_workers_connections_no_longer_count() -> None:
    places = placement(limit=1)
    places.add_worker(11, ALICE, now=0)
    places.connect(11, "a", "alice", "::1")
    assert places.remove_worker(11) == 1
    assert places.remove_worker(11) == 0
    assert places.may_connect("alice", "::1")
    assert places.place(ALICE, "alice") is NEW
    places.disconnect(11, "a", now=0)  # its last words came late
    assert places.connections == 0


def test_workers_become_idle_when_the_last_connection_ends() -> None:
    places = placement()
    places.add_worker(11, ALICE, now=0)
    places.connect(11, "a", "alice", "::1")
    places.connect(11, "b", "alice", "::1")
    places.disconnect(11, "a", now=5)
    assert places.idle(now=1000, limit=60) == []
    assert places.next_idle(limit=60) is None
    places.disconnect(11, "b", now=10)
    places.disconnect(11, "b", now=40)  # told twice is told once
    assert places.next_idle(limit=60) == 70
    assert places.idle(now=69, limit=60) == []
    assert places.idle(now=70, limit=60) == [11]


def test_those_asleep_count_and_have_no_worker() -> None:
    places = placement(limit=2)
    places.add_worker(11, ALICE, now=0)
    for session in ("1", "2"):
        places.connect(11, session, "alice", "::1")
    assert places.sessions(11) == {"1", "2"}
    places.sleep(11)
    assert (places.workers, places.connections) == ((), 2)
    assert places.place(ALICE, "alice") is NEW
    assert not places.may_connect("alice", "::1")
    assert places.next_idle(limit=60) is None

    places.add_worker(12, ALICE, now=5)
    places.wake(12, "1")
    assert places.connections == 2
    assert places.place(ALICE, "alice") == 12
    places.leave("2")
    assert places.may_connect("alice", "::1")
    places.disconnect(12, "1", now=9)
    assert places.connections == 0
