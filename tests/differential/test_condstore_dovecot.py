"""CONDSTORE and QRESYNC beside Dovecot: the same commands, numbers in the same relations.

The numbers themselves are each server's own.  What is compared is where they stand among those
that the script gave names to: "=b" is the number called b, "b+" one between b and the next name.
"""

import contextlib
import re
from pathlib import Path
from typing import Final

import pytest

from tests.differential.twins import Side, Wire, normalised, twins
from tests.robust.world import UIDS, make_maildir

pytestmark = [pytest.mark.dovecot, pytest.mark.superuser, pytest.mark.slow]

MAIL: Final = [b"Subject: %d\n\ntext %d\n" % (number, number) for number in range(6)]

# (connection, command, what to call the highest number in the answer).  {v} is UIDVALIDITY.
SCRIPT: Final[list[tuple[str, str, str]]] = [
    ("one", "SELECT Box (CONDSTORE)", "a"),
    ("one", "STORE 1 +FLAGS.SILENT (\\Flagged)", "b"),
    ("one", "FETCH 1:3 (UID FLAGS MODSEQ)", ""),
    ("one", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE {a})", ""),
    ("one", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE {b})", ""),
    ("one", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE {a} VANISHED)", ""),
    ("one", "SEARCH MODSEQ {b}", ""),
    ("one", 'UID SEARCH MODSEQ "/flags/\\\\seen" all {b}', ""),
    ("one", "SEARCH MODSEQ 9223372036854775807", ""),
    ("one", "SEARCH NOT MODSEQ {b}", ""),
    ("one", "SEARCH RETURN (ALL COUNT) MODSEQ {b}", ""),
    ("one", "SEARCH RETURN (MIN MAX) MODSEQ {a}", ""),
    ("one", "STORE 2 (UNCHANGEDSINCE {b}) +FLAGS (\\Answered)", "c"),
    ("one", "STORE 2 (UNCHANGEDSINCE {b}) +FLAGS (\\Seen)", ""),
    ("one", "UID STORE 1:2 (UNCHANGEDSINCE {b}) +FLAGS.SILENT (\\Draft)", "d"),
    ("one", "STORE 3 (UNCHANGEDSINCE 0) +FLAGS (\\Seen)", ""),
    ("one", "FETCH 1:6 (UID MODSEQ)", ""),
    ("two", "ENABLE QRESYNC", ""),
    ("two", "SELECT Box (QRESYNC (1 {a}))", "d"),
    ("two", "SELECT Box (QRESYNC ({v} {d}))", ""),
    ("two", "SELECT Box (QRESYNC ({v} {a}))", ""),
    ("two", "SELECT Box (QRESYNC ({v} {a} 2:4))", ""),
    ("two", "SELECT Box (QRESYNC ({v} {a} 2:4 (2 2)))", ""),
    ("one", "STORE 4 +FLAGS.SILENT (\\Deleted)", "e"),
    ("two", "NOOP", ""),
    ("two", "STORE 5:6 +FLAGS (\\Deleted)", "f"),
    ("two", "FETCH 1 FLAGS", ""),
    ("two", "EXPUNGE", "g"),
    ("two", "EXPUNGE", ""),
    ("one", "NOOP", ""),
    ("two", "UID FETCH 1:9 (FLAGS) (CHANGEDSINCE {d} VANISHED)", ""),
    ("two", "UID FETCH 5:9 (FLAGS) (CHANGEDSINCE {d} VANISHED)", ""),
    ("two", "SELECT Box (QRESYNC ({v} {d}))", ""),
    ("two", "SELECT Box (QRESYNC ({v} {d} 1:4))", ""),
    ("two", "SELECT Box (QRESYNC ({v} {f}))", ""),
    ("two", "SELECT Box (CONDSTORE)", ""),
    ("two", "STATUS Box (MESSAGES HIGHESTMODSEQ)", ""),
    ("two", "UID STORE 3 FLAGS.SILENT (\\Deleted)", "h"),
    ("two", "UID EXPUNGE 3", "i"),
    ("two", "MOVE 1 Work", "j"),
    ("one", "CHECK", ""),
    ("two", "SELECT Nowhere", ""),
    # Refused by both.
    ("one", "SELECT Box", ""),
    ("one", "UID FETCH 1:* (FLAGS) (VANISHED)", ""),
    ("one", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE)", ""),
    ("one", "SELECT Box (QRESYNC ({v} 1))", ""),
]

# (connection, command): why we answer otherwise on purpose.
INTENDED: Final[dict[tuple[str, str], str]] = {
    ("one", "NOOP"): "without QRESYNC, too, a client learns HIGHESTMODSEQ when messages went",
    ("one", "CHECK"): "as with NOOP",
    (
        "two",
        "STATUS Box (MESSAGES HIGHESTMODSEQ)",
    ): "Dovecot calls STATUS of what is selected a bug",
    ("two", "SELECT Nowhere"): "NONEXISTENT (RFC 5530) is told",
}


class Talk:
    """One side: its connections, and the names of its numbers."""

    def __init__(self, side: Side) -> None:
        self._wires = {name: Wire(side.server.connect(), "alice") for name in ("one", "two")}
        self.names: dict[str, int] = {}
        self.uidvalidity = 0

    def ask(self, connection: str, command: str, name: str) -> list[str]:
        said = command.format(v=self.uidvalidity, **self.names)
        lines = normalised(self._wires[connection].ask(said.encode()), extensions=True)
        if name and (found := [int(number) for line in lines for number in _numbers(line)]):
            self.names[name] = max(found)
        return [_NUMBERS.sub(self._named, line) for line in lines]

    def learn_uidvalidity(self) -> None:
        (line, _) = self._wires["one"].ask(b"STATUS Box (UIDVALIDITY)")
        self.uidvalidity = int(line.rpartition(b" ")[2].rstrip(b")"))

    def _named(self, found: re.Match[str]) -> str:
        number = int(found[2])
        equal = [name for name, known in self.names.items() if known == number]
        lower = [name for name, known in self.names.items() if known < number]
        return found[1] + (f"={equal[0]}" if equal else f"{max(lower, default='')}+")

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()


_NUMBERS = re.compile(r"(MODSEQ \(?|HIGHESTMODSEQ )(\d+)")


def _numbers(line: str) -> list[str]:
    return [found[2] for found in _NUMBERS.finditer(line)]


def prepare(top: Path) -> None:
    root = top / "home" / "alice" / "Maildir"
    for name, mail in ((".Box", MAIL), (".Work", MAIL[:1])):
        make_maildir(root / name, UIDS["alice"], "", mail)


def test_both_tell_the_same_changes() -> None:
    differences, used = [], set()
    with twins(prepare) as pair, contextlib.ExitStack() as stack:
        talks = [stack.enter_context(contextlib.closing(Talk(side))) for side in pair.sides]
        for talk in talks:
            talk.learn_uidvalidity()
        for connection, command, name in SCRIPT:
            ours, theirs = (talk.ask(connection, command, name) for talk in talks)
            if ours == theirs:
                continue
            if (connection, command) in INTENDED:
                used.add((connection, command))
                continue
            differences.append(f"{connection}: {command}\n  ours:   {ours}\n  theirs: {theirs}")
        assert "Traceback" not in pair.server.log_text()
    assert not differences, "\n" + "\n".join(differences)
    assert used == INTENDED.keys(), "no longer a difference"
