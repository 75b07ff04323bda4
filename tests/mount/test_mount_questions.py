"""Questions that take long: who waits, who does not, and what is told meanwhile."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from sharefs.errors import Code, SharingError
from sharefs.mount.questions import TRIES, WITHOUT_DATABASE, Age, NotYet, Questions
from tests.support.server import wait_until

AGE = Age(fresh=5, kept=60)
SOON = 10.0  # seconds that nothing here takes
ALICE, BOB = 1001, 1002


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Database:
    """Answers with how often it was asked; stands still for names that are held."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held: dict[str, threading.Event] = {}
        self.error: SharingError | None = None

    def hold(self, name: str) -> threading.Event:
        return self.held.setdefault(name, threading.Event())

    def look_up(self, name: str) -> str:
        self.asked.append(name)
        if name in self.held:
            assert self.held[name].wait(SOON)
        if self.error is not None:
            raise self.error
        return f"{name} {self.asked.count(name)}"


class Asking:
    def __init__(self) -> None:
        self.clock = Clock()
        self.database = Database()
        self.questions = Questions(lambda: self.database, clock=self.clock)
        self.questions.start()

    def now(self, name: str) -> str:
        return self.questions.answer(("user", name), _work(name), AGE)

    def begin(self, name: str, asker: int) -> "Future[None]":
        return self.questions.ask(("user", name), _work(name), asker)

    def wait(self, name: str, asker: int = ALICE) -> str:
        return self.questions.wait(("user", name), _work(name), AGE, asker)


def _work(name: str) -> Callable[[Database], str]:
    return lambda database: database.look_up(name)


@pytest.fixture
def asking() -> Iterator[Asking]:
    asking = Asking()
    yield asking
    for event in asking.database.held.values():
        event.set()
    asking.questions.close()


def test_what_is_not_known_is_not_waited_for(asking: Asking) -> None:
    with pytest.raises(NotYet) as raised:
        asking.now("alice")
    assert asking.database.asked == []
    raised.value.ask(ALICE).result(SOON)
    assert asking.now("alice") == "alice 1"
    assert asking.now("alice") == "alice 1"


def test_who_waited_is_told_however_long_it_took(asking: Asking) -> None:
    asking.begin("alice", ALICE).result(SOON)
    asking.clock.now += 1000
    assert asking.now("alice") == "alice 1"
    with pytest.raises(NotYet):
        asking.now("alice")


def test_the_old_answer_is_told_while_a_new_one_is_looked_for(asking: Asking) -> None:
    assert asking.wait("alice") == "alice 1"
    held = asking.database.hold("alice")
    asking.clock.now += AGE.fresh + 1
    for _ in range(100):
        assert asking.now("alice") == "alice 1"
    asked = asking.begin("alice", ALICE)
    held.set()
    asked.result(SOON)
    assert asking.now("alice") == "alice 2"
    assert len(asking.database.asked) == 2


def test_nobody_is_told_what_is_too_old(asking: Asking) -> None:
    asking.wait("alice")
    asking.clock.now += AGE.kept + 1
    with pytest.raises(NotYet):
        asking.now("alice")


def test_refusals_are_answers(asking: Asking) -> None:
    asking.database.error = SharingError(Code.NONEXISTENT, "nobody of that name")
    for _ in range(2):
        with pytest.raises(SharingError, match="nobody of that name"):
            asking.wait("alice")
    assert asking.database.asked == ["alice"]


def test_a_failing_database_leaves_what_is_known(asking: Asking) -> None:
    asking.wait("alice")
    asking.database.error = SharingError(Code.UNAVAILABLE, "no LDAP")
    for _ in range(5):
        asking.clock.now += AGE.kept + 1
        assert asking.wait("alice") == "alice 1"
    asking.clock.now += WITHOUT_DATABASE
    with pytest.raises(SharingError, match="no LDAP"):
        asking.wait("alice")
    with pytest.raises(SharingError, match="no LDAP"):
        asking.wait("bob")


def test_a_bug_is_the_askers(asking: Asking) -> None:
    asking.questions.ask(("user", "x"), lambda database: 1 // 0, ALICE).result(SOON)
    with pytest.raises(ZeroDivisionError):
        asking.now("x")
    assert asking.wait("alice") == "alice 1"


def test_many_questions_of_one_keep_nobody_waiting(asking: Asking) -> None:
    """bob asks a thousand things that take for ever, alice's own entry among them."""
    for number in range(1000):
        asking.database.hold(f"name{number}")
    waiting = [asking.begin(f"name{number}", BOB) for number in range(1000)]
    hers = asking.begin("alice", BOB)
    assert asking.wait("alice", ALICE) == "alice 1"
    assert hers.done()
    assert asking.wait("carol", 1003) == "carol 1"
    assert not any(one.done() for one in waiting)
    assert asking.database.asked[1:] == ["alice", "carol"]  # one of bob's at a time


def test_what_was_forgotten_meanwhile_does_not_count(asking: Asking) -> None:
    held = asking.database.hold("alice")
    before = asking.begin("alice", ALICE)
    while not asking.database.asked:
        threading.Event().wait(0.001)
    asking.questions.forget(("user", "alice"))
    held.set()
    before.result(SOON)
    with pytest.raises(NotYet):
        asking.now("alice")
    assert asking.wait("alice") == "alice 2"


def test_a_question_is_given_up(asking: Asking) -> None:
    """Its thread is replaced, and what it says in the end is nobody's answer any more."""
    assert asking.wait("alice") == "alice 1"
    release = asking.database.hold("stuck")
    waiting = asking.begin("stuck", ALICE)
    lost: list[int] = []
    for _ in range(TRIES):
        wait_until(lambda: len(asking.questions.at_work()) == 1)
        lost += asking.questions.at_work()
        assert not waiting.done()
        assert asking.questions.give_up(lost[-1])
    waiting.result(SOON)
    with pytest.raises(SharingError) as refused:
        asking.now("stuck")
    assert refused.value.code is Code.UNAVAILABLE
    assert not asking.questions.give_up(lost[0])
    assert asking.questions.at_work() == []
    assert asking.wait("bob", ALICE) == "bob 1"  # he may ask something else meanwhile
    release.set()
    wait_until(lambda: not {*lost} & {one.ident for one in threading.enumerate()})
    with pytest.raises(SharingError):
        asking.now("stuck")
