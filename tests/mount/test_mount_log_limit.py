"""What users can make the daemon log is bounded, and nothing that was left out goes untold."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from sharefs.mount.log_limit import LINES, MAX_KINDS, SPAN, LogLimit, about


class Written(logging.Handler):
    def __init__(self, limit: LogLimit) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(limit)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass
class Daemon:
    """A logger with two handlers, and a clock that stands still."""

    log: logging.Logger
    handlers: list[Written] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        limit = LogLimit(lambda: self.now)
        self.handlers = [Written(limit), Written(limit)]
        for handler in self.handlers:
            self.log.addHandler(handler)

    @property
    def lines(self) -> list[str]:
        first, second = self.handlers
        assert first.lines == second.lines
        return first.lines


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    log = logging.getLogger("tests.log_limit")
    log.propagate = False
    daemon = Daemon(log)
    yield daemon
    for handler in daemon.handlers:
        log.removeHandler(handler)
    log.propagate = True


def test_the_same_line_is_written_once_and_then_counted(daemon: Daemon) -> None:
    for _ in range(500):
        daemon.log.warning("%s of %s is not shown: %s", "Own", "bob", "a link", extra=about("bob"))
    assert daemon.lines == ["Own of bob is not shown: a link"]
    daemon.now += SPAN
    for _ in range(2):
        daemon.log.warning("%s of %s is not shown: %s", "Own", "bob", "a link", extra=about("bob"))
    assert daemon.lines[1:] == [
        "Own of bob is not shown: a link (and 499 more like it were left out)"
    ]


def test_lines_of_one_kind_are_bounded_and_others_are_not_touched(daemon: Daemon) -> None:
    for number in range(500):
        daemon.log.warning("%s of %s is not shown", f"Box{number}", "bob", extra=about("bob"))
    daemon.log.warning("%s of %s is not shown", "Own", "alice", extra=about("alice"))
    daemon.log.warning("something else")
    assert len(daemon.lines) == LINES + 2
    assert daemon.lines[-2:] == ["Own of alice is not shown", "something else"]


def test_another_bug_is_another_line(daemon: Daemon) -> None:
    for error in (ValueError("one"), ValueError("two"), ValueError("two")):
        daemon.log.error("a request failed", exc_info=error)
    assert len(daemon.lines) == 2


def test_it_remembers_no_more_than_it_may(daemon: Daemon) -> None:
    daemon.log.warning("first", extra=about("bob"))
    for number in range(MAX_KINDS):
        daemon.log.warning("more", extra=about(f"user{number}"))
    daemon.log.warning("first", extra=about("bob"))
    assert len(daemon.lines) == MAX_KINDS + 2
