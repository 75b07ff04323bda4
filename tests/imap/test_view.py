"""A connection's view: sequence numbers never change their meaning under the client's feet."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.view import Updates, View
from sharefs.store.late import LateUids

CASES = [  # id, uids before, what is heard, want
    ("nothing", [1, 2], {}, Updates()),
    ("arrival", [1, 2], {"added": [3, 5]}, Updates(exists=4)),
    ("expunge", [1, 2, 5], {"expunged": [2]}, Updates((2,), (2,))),
    ("highest-first", [1, 2, 5], {"expunged": [1, 5]}, Updates((3, 1), (1, 5))),
    ("held-back", [1, 2], {"expunged": [1], "may_expunge": False}, Updates()),
    ("unknown-expunge", [1, 2], {"expunged": [9]}, Updates()),
    ("both", [1, 2], {"expunged": [1], "added": [3]}, Updates((1,), (1,), exists=2)),
    ("flags", [1, 4], {"flags": [4, 9]}, Updates(flags=(4,))),
    ("flags-of-gone", [1, 4], {"flags": [4], "expunged": [4]}, Updates((2,), (4,))),
    ("recent", [1], {"added": [2], "recent": [2]}, Updates(exists=2, recent=1)),
    ("old-uid-is-not-new", [5], {"added": [4]}, Updates()),
]


@pytest.mark.parametrize(
    ("uids", "heard", "want"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_hear(uids: list[int], heard: dict[str, object], want: Updates) -> None:
    assert View(uids, 0).hear(1, **heard) == want  # type: ignore[arg-type]  # table of kwargs
    late = View(LateUids(tuple(uids), lambda: uids), 0)
    assert late.hear(1, **heard) == want  # type: ignore[arg-type]


def test_who_only_selects_needs_no_list_of_uids() -> None:
    made = []

    def make() -> list[int]:
        made.append(True)
        return [3, 5, 9]

    view = View(LateUids(array("I", [3, 5, 9]), make), 0)
    assert (len(view), view.uidmax, view.seq_of(5)) == (3, 9, 2)
    with pytest.raises(KeyError):
        view.seq_of(4)
    assert not made
    assert view.between(4, 9) == [(2, 5), (3, 9)]
    assert (view.uids, made) == ([3, 5, 9], [True])


def test_a_held_message_keeps_its_number_until_the_client_may_know() -> None:
    view = View([1, 2, 3], 0)
    view.hear(1, expunged=[2], may_expunge=False)
    assert view.uid_of(2) == 2
    assert view.is_held(2)
    assert view.seq_of(3) == 3
    assert view.hear(2, added=[4], may_expunge=False) == Updates(exists=4)
    assert view.hear(3) == Updates(expunged=(2,), vanished=(2,))
    assert view.seq_of(3) == 2
    assert not view.is_held(2)


def test_unknown_numbers_raise() -> None:
    view = View([3], 0)
    with pytest.raises(KeyError):
        view.seq_of(2)
    for seq in (0, 2, -1):
        with pytest.raises(IndexError):
            view.uid_of(seq)


steps = st.lists(
    st.tuples(st.sets(st.integers(1, 30), max_size=6), st.booleans(), st.integers(0, 3)),
    max_size=12,
)


@given(steps)
def test_a_client_that_applies_updates_agrees_with_the_mailbox(
    steps: list[tuple[set[int], bool, int]],
) -> None:
    """Law: replaying our EXPUNGE and EXISTS, a client knows exactly the mailbox's messages."""
    mailbox, uidnext = [1, 2, 3], 4
    view, client = View(mailbox, 0), [1, 2, 3]
    for generation, (removed, may_expunge, arriving) in enumerate([*steps, (set(), True, 0)], 1):
        expunged = [uid for uid in mailbox if uid in removed]
        added = list(range(uidnext, uidnext + arriving))
        uidnext += arriving
        mailbox = [uid for uid in mailbox if uid not in removed] + added
        updates = view.hear(generation, added=added, expunged=expunged, may_expunge=may_expunge)
        for seq in updates.expunged:
            assert may_expunge
            del client[seq - 1]
        if updates.exists is not None:
            client += view.uids[len(client) : updates.exists]
        assert client == list(view.uids)
    assert client == mailbox
