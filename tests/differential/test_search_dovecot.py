"""SEARCH, SORT and THREAD beside Dovecot: the same answers over real, broken and made-up mail."""

import os
import random
import time
from collections.abc import Iterator
from email.header import Header
from pathlib import Path
from typing import Final

import pytest

from tests.differential.twins import Twins, twins
from tests.message import corpus
from tests.robust.world import UIDS, make_maildir

pytestmark = [pytest.mark.dovecot, pytest.mark.superuser, pytest.mark.slow]

NOW: Final = int(time.time())
HOUR: Final = 3600
SUBJECTS: Final = [
    "plan", "Plan", "PLAN B", "Ärger im Büro", "ärger im büro", "A\u0308rger im Bu\u0308ro",
    "会議", "Straße", "STRASSE", "_under", "Zebra", "", "\u017f", "Ω",
]  # fmt: skip  # none of the few characters that Dovecot does not decompose, as RFC 5051 has it
PREFIXES: Final = [
    "", "", "", "Re: ", "RE: ", "Fwd: ", "fw: ", "Re[2]: ", "[list] ", "[list] Re: ",
    "Re: [list] ", "[a][b] ", "Re: Re: ",
]  # fmt: skip
SUFFIXES: Final = ["", "", "", " (fwd)", "  ", " (FWD) (fwd)"]
NAMES: Final = ["", "Ann", "ann", '"Ärger, Bo"', "Zoë", "_x", "bob B"]
HOSTS: Final = ["x.org", "X.org", "y.org"]


def encoded(text: str, dice: random.Random) -> str:
    """As it is, or as RFC 2047 writes it."""
    if text.isascii():
        return text
    return Header(text, dice.choice(["utf-8", "utf-8"])).encode()


def made_up(count: int, seed: int) -> list[bytes]:
    """Threads among themselves, in which now and then a message lies or is missing."""
    dice = random.Random(seed)
    threads: list[list[int]] = []
    found = []
    for number in range(count):
        if threads and dice.random() < 0.7:
            thread = dice.choice(threads)
            at = dice.randrange(len(thread))
            after = thread[: at + 1][-dice.choice([1, 2, 9]) :]
            thread.append(number)
        else:
            after = [] if dice.random() < 0.8 else [1000 + number // 3]
            threads.append([number])
        if dice.random() < 0.05:
            continue  # it was never received
        subject = encoded(dice.choice(SUBJECTS), dice)
        lines = [
            f"Subject: {dice.choice(PREFIXES)}{subject}{dice.choice(SUFFIXES)}",
            f"From: {encoded(dice.choice(NAMES), dice)} <{dice.choice('aAbBzZ_')}@x.org>",
            f"To: {dice.choice(['u@x.org', 'V <v@x.org>, w@x.org', 'Team: a@x.org, b@x.org;'])}",
            f"Cc: {dice.choice(['u@x.org', 'V@X.org', ' T <t@x.org>'])}",
            f"Date: {dice.randrange(1, 29)} {dice.choice(['Feb', 'Mar'])} 2020 "
            f"{dice.randrange(24):02}:{number % 60:02}:{number // 60:02} "
            f"{dice.choice(['+0000', '-0500', '+0930'])}",
            f"Message-ID: <{number}@x.org>",
        ]
        if after:
            field = "References" if len(after) > 1 or dice.random() < 0.5 else "In-Reply-To"
            lines.append(f"{field}: " + " ".join(f"<{n}@x.org>" for n in after))
        kept = [line for line in lines if dice.random() < 0.93]
        found.append(("\n".join(kept) + "\n\n" + "text " * dice.randrange(20) + "\n").encode())
    return found


def fill(path: Path, messages: list[bytes]) -> None:
    """No two arrived at once: in what Dovecot does then with the threads of REFS is no system."""
    make_maildir(path, UIDS["alice"], "", messages)
    files = sorted((path / "cur").iterdir(), key=lambda file: int(file.name.partition(".")[0]))
    for number, file in enumerate(files):
        age = (number * 7 % len(files)) * HOUR + 1000 + number
        os.utime(file, (NOW - age, NOW - age))
        if number % 3 == 0:
            file.rename(file.with_name(file.name + "S"))


MADE_UP: Final = made_up(150, 5)
# But for addresses with obsolete spaces, which Dovecot 2.3.19 cannot read (RFC 5322 section 4.4).
REAL: Final = [
    octets
    for octets in (*corpus.WELL_FORMED.values(), *corpus.SEARCHED)
    if b"<a . b @" not in octets
]


def prepare(top: Path) -> None:
    root = top / "home/alice/Maildir"
    fill(root / ".Made", MADE_UP)
    fill(root / ".Real", [octets.replace(b"\r\n", b"\n") for octets in REAL])


@pytest.fixture(scope="module")
def both() -> Iterator[Twins]:
    with twins(prepare) as found:
        yield found


KEYS: Final = "ARRIVAL CC DATE DISPLAYFROM DISPLAYTO FROM SIZE SUBJECT TO".split()  # noqa: SIM905 -- one line
PROGRAMS: Final = [
    *(f"({direction}{key}) UTF-8 ALL" for key in KEYS for direction in ("", "REVERSE ")),
    "(SUBJECT REVERSE DATE) UTF-8 ALL",
    "(REVERSE FROM DISPLAYTO SIZE) UTF-8 SEEN",
    "(CC SUBJECT) US-ASCII UNSEEN",
    "(SUBJECT) ISO-8859-1 SUBJECT b\xfcro",
    "(SUBJECT) UTF-8 SUBJECT nowhere",
    "(DATE) KLINGON ALL",
]


@pytest.mark.parametrize("box", ["Made", "Real"])
@pytest.mark.parametrize("program", PROGRAMS, ids=ascii)
def test_sort(both: Twins, box: str, program: str) -> None:
    select(both, box)
    for form in ("SORT", "UID SORT", "SORT RETURN (MIN MAX COUNT ALL)"):
        agree(both, f"{form} {program}".encode("latin-1"))


@pytest.mark.parametrize("box", ["Made", "Real"])
@pytest.mark.parametrize("algorithm", ["REFERENCES", "REFS", "ORDEREDSUBJECT"])
@pytest.mark.parametrize("program", ["ALL", "UNSEEN", "1:70", "SUBJECT plan", "SUBJECT nowhere"])
def test_thread(both: Twins, box: str, algorithm: str, program: str) -> None:
    select(both, box)
    for form in ("THREAD", "UID THREAD"):
        agree(both, f"{form} {algorithm} UTF-8 {program}".encode())


SEARCHES: Final = [
    *(f"{form} RETURN ({options}) {keys}"
      for form in ("SEARCH", "UID SEARCH")
      for options in ("", "ALL", "MIN", "MAX", "COUNT", "MIN MAX", "ALL COUNT MIN MAX",
                      "PARTIAL 1:5", "PARTIAL 3:9 COUNT", "PARTIAL 500:600", "ALL PARTIAL 1:2",
                      "PARTIAL 0:1", "NONSENSE", "PARTIAL 1:2 PARTIAL 1:2", "MIN PARTIAL 2:2")
      for keys in ("ALL", "UNSEEN", "SUBJECT nowhere")),
    "SEARCH OLDER 3600", "SEARCH YOUNGER 3600", "SEARCH OLDER 100000 YOUNGER 300000",
    "SEARCH NOT OLDER 7200", "SEARCH OR YOUNGER 3600 OLDER 500000", "SEARCH OLDER 0",
    "SEARCH YOUNGER x", "SEARCH YOUNGER 4294967295", "SEARCH OLDER 4294967295",
    *(f'SEARCH CHARSET {charset} SUBJECT "{text}"'
      for charset, text in (("ISO-8859-1", "b\xfcro"), ("KLINGON", "x"), ("US-ASCII", "plan"),
                            ("UTF-8", "b\xc3\xbcRO"), ("UTF-8", "\xe4\xbc\x9a"),
                            ("utf-8", "stra\xc3\x9fe"), ("UTF-8", "strasse"))),
    'SEARCH CHARSET UTF-8 FROM "\xc3\xa4rger"', 'SEARCH FROM "\xc3\x84RGER, bo"',
    "SEARCH 1:5,100:* UNSEEN", "UID SEARCH UID 7:3 NOT SEEN", "SEARCH SEEN 1:*", "SEARCH *",
]  # fmt: skip


@pytest.mark.parametrize("command", SEARCHES, ids=ascii)
def test_search(both: Twins, command: str) -> None:
    select(both, "Made")
    agree(both, command.encode("latin-1"))


SAVED: Final = [
    "SEARCH RETURN (SAVE) UNSEEN", "SEARCH $", "UID SEARCH UID $ SUBJECT plan", "FETCH $ UID",
    "UID FETCH $ FLAGS", "SEARCH RETURN (SAVE MIN) SEEN", "SEARCH $",
    "SEARCH RETURN (SAVE MIN MAX) SEEN", "UID SEARCH $", "SEARCH RETURN (SAVE COUNT) 3:9",
    "SEARCH RETURN (ALL) $", "SORT RETURN (SAVE) (SUBJECT) UTF-8 10:20", "SEARCH $",
    "SORT (SUBJECT) UTF-8 $", "THREAD REFERENCES UTF-8 $", "SEARCH RETURN (SAVE) SUBJECT nowhere",
    "SEARCH $", "FETCH $ UID", "SEARCH NOT $", "SEARCH OR $ 1:3", "SEARCH RETURN (SAVE) $ 1",
]  # fmt: skip


def test_saved_results(both: Twins) -> None:
    select(both, "Made")
    for command in SAVED:
        agree(both, command.encode())


def test_saved_results_are_used_to_change_messages(both: Twins) -> None:
    for command in (
        "CREATE Other", "SELECT Made", "SEARCH RETURN (SAVE) 140:*",
        "STORE $ +FLAGS.SILENT (\\Flagged)", "SEARCH FLAGGED", "COPY $ Other",
        "STORE $ +FLAGS.SILENT (\\Deleted)", "SEARCH RETURN (SAVE) 120:121,141",
        "UID EXPUNGE $", "SEARCH $", "UID MOVE $ Other", "SEARCH $", "SEARCH DELETED", "UNSELECT",
        "STATUS Other (MESSAGES)", "EXAMINE Other", "SEARCH $",
    ):  # fmt: skip
        agree(both, command.encode())


def select(both: Twins, box: str) -> None:
    ours, theirs = both.ask("alice", b"EXAMINE " + box.encode())
    assert ours[-1] == theirs[-1]


def agree(both: Twins, command: bytes) -> None:
    ours, theirs = both.ask("alice", command)
    # Theirs ends "* THREAD" with a space, and twins.normalised() some of ours with one.
    assert [line.rstrip() for line in ours] == [line.rstrip() for line in theirs], command
