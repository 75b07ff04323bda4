"""Who is asleep, who wakes first, and what is due: without processes or descriptors."""

from typing import Any

import pytest

from imap.service.asleep import LONGEST_STATE, Asleep, Company, Sleeper, beddings
from imap.service.channel import ChannelError, Message

GOOD = {
    "serial": 7, "state": "{}", "idle": True, "due": 12.5, "interval": 120, "in": 1, "out": 2,
}  # fmt: skip


def company(watch: int, *serials: int, due: float = 100.0, idle: bool = False) -> Company:
    """Descriptors of sockets are ten times their serials."""
    return Company(
        watch,
        {
            serial: Sleeper(serial, serial * 10, b"{}", "", idle, due, 120.0, 0, 0)
            for serial in serials
        },
    )


def test_what_a_worker_says_is_read() -> None:
    (bed,) = beddings(Message({"sleep": [GOOD]}))
    assert (bed.serial, bed.idle, bed.due, bed.interval) == (7, True, 12.5, 120.0)


@pytest.mark.parametrize(
    "change",
    [
        {"serial": "7"},
        {"serial": True},
        {"state": None},
        {"state": "x" * (LONGEST_STATE + 1)},
        {"due": "soon"},
        {"due": float("nan")},
        {"due": float("inf")},
        {"interval": 1e300},
        {"in": 1.5},
        {"out": None},
    ],
    ids=str,
)
def test_nonsense_of_a_worker_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ChannelError):
        beddings(Message({"sleep": [{**GOOD, **change}]}))


@pytest.mark.parametrize("body", [{"sleep": None}, {"sleep": {}}, {"sleep": [[]]}, {}], ids=str)
def test_other_shapes_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ChannelError):
        beddings(Message(body))


def test_descriptors_lead_to_their_company() -> None:
    asleep = Asleep()
    one, two = company(1, 10, 11), company(2, 20)
    asleep.add(one)
    asleep.add(two)
    assert asleep.whose(1) == (one, None)
    assert asleep.whose(110) == (one, one.sleepers[11])
    assert asleep.whose(200) == (two, two.sleepers[20])
    assert (len(asleep), list(asleep.companies())) == (3, [one, two])


def test_the_last_who_goes_takes_the_company_along() -> None:
    asleep = Asleep()
    one = company(1, 10, 11)
    asleep.add(one)
    asleep.wake(one, by_change=True)
    asleep.remove(one, one.sleepers[10])
    assert asleep.next_to_wake(roused_too=True) is one
    asleep.remove(one, one.sleepers[11])
    assert asleep.next_to_wake(roused_too=True) is None
    assert not len(asleep)
    with pytest.raises(KeyError):
        asleep.whose(1)


def test_clients_who_wait_wake_before_those_whom_a_change_wakes() -> None:
    asleep = Asleep()
    changed, typed = company(1, 10), company(2, 20)
    for each in (changed, typed):
        asleep.add(each)
    asleep.wake(changed, by_change=True)
    assert asleep.next_to_wake(roused_too=False) is None
    assert asleep.next_to_wake(roused_too=True) is changed
    asleep.wake(typed, by_change=False)
    assert asleep.next_to_wake(roused_too=True) is typed
    asleep.remove_company(typed)
    assert asleep.next_to_wake(roused_too=True) is changed


def test_a_change_does_not_make_a_client_wait_who_has_typed() -> None:
    asleep = Asleep()
    one = company(1, 10)
    asleep.add(one)
    asleep.wake(one, by_change=False)
    asleep.wake(one, by_change=True)
    assert not one.is_roused
    asleep = Asleep()
    one = company(1, 10)
    asleep.add(one)
    asleep.wake(one, by_change=True)
    assert one.is_roused
    asleep.wake(one, by_change=False)
    assert not one.is_roused


def test_those_in_idle_are_due_again_and_others_once() -> None:
    asleep = Asleep()
    idle, silent = company(1, 10, due=5, idle=True), company(2, 20, due=3)
    asleep.add(idle)
    asleep.add(silent)
    assert asleep.next_due() == 3
    assert asleep.due(2.9) == []
    assert asleep.due(6) == [(silent, silent.sleepers[20]), (idle, idle.sleepers[10])]
    assert asleep.next_due() == 6 + 120
    asleep.remove_company(idle)
    assert asleep.next_due() is None


def test_who_is_gone_is_due_no_more() -> None:
    asleep = Asleep()
    one, two = company(1, 10, due=5), company(2, 20, due=9)
    asleep.add(one)
    asleep.add(two)
    asleep.remove(one, one.sleepers[10])
    assert asleep.next_due() == 9
