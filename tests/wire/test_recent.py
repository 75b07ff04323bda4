"""What is remembered of arguments: little, and nothing long."""

from imap.wire.recent import LONGEST, MOST, Recent


def test_it_tells_what_was_kept() -> None:
    recent = Recent[int]()
    assert recent.get(b"a") is None
    assert recent.keep(b"a", 1) == 1
    assert recent.get(b"a") == 1


def test_nothing_long_is_kept() -> None:
    recent = Recent[int]()
    assert recent.keep(b"a" * (LONGEST + 1), 1) == 1
    assert recent.get(b"a" * (LONGEST + 1)) is None


def test_few_are_kept() -> None:
    recent = Recent[int]()
    for number in range(10 * MOST):
        recent.keep(b"%d" % number, number)
        assert recent.get(b"%d" % number) == number
    assert sum(recent.get(b"%d" % number) is not None for number in range(10 * MOST)) <= MOST
