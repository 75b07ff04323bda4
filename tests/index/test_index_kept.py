"""What an index keeps for the next process: which rows are true, orders, threads."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.index import Column, MailboxIndex
from sharefs.index import query as q
from sharefs.index.agreement import Agreement
from sharefs.index.orders import read_facts
from sharefs.ordering.sorting import Criterion, SortKey, sort_messages
from sharefs.store.maildir import MaildirMailbox
from tests.index.maildirs import age, file_of, fill, indexed, opened, statements

BY_SUBJECT = [Criterion(SortKey.SUBJECT, False)]
FLAGGED = FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED))


def message(number: int) -> bytes:
    return b"From: a%d@example.org\nSubject: s%d\n\nhello\n" % (number, number * 7 % 10)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "Maildir", map(message, range(20)))
    return tmp_path / "Maildir"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "index"


@contextlib.contextmanager
def process(
    root: Path, place: Path, *, complete: bool = False
) -> Iterator[tuple[MaildirMailbox, MailboxIndex]]:
    with opened(root, place) as mailbox, indexed(mailbox, place, complete=complete) as index:
        yield mailbox, index


def rest(root: Path, place: Path) -> None:
    """A process that indexes, sorts and threads, and puts that away."""
    age(root)
    with process(root, place, complete=True) as (mailbox, index):
        answers(mailbox, index)
        index.keep_threads("REFS", mailbox.uids(), b"(1)(2)")
        index.put_away()


def answers(mailbox: MaildirMailbox, index: MailboxIndex) -> tuple[object, ...]:
    uids = list(mailbox.uids())
    assert index.catch_up()
    return (
        index.missing(),
        index.in_order(uids, BY_SUBJECT),
        index.in_order(uids[::3], BY_SUBJECT),
        [facts.uid for facts in index.facts(uids)],
        index.search(q.LargerThan(1), uids),
        index.search(q.DateIs(q.DateOf.INTERNAL, q.When.SINCE, date(1990, 1, 1)), uids),
        index.search(q.HeaderContains("subject", "s7"), uids),
        index.search(q.BodyContains("hello"), uids),
        index.rows(uids, [Column.SIZE, Column.ENVELOPE]),
        index.rows(uids[:3], [Column.INTERNALDATE]),
        index.rows(uids[:3], [Column.ENVELOPE]),
    )


def check(root: Path, place: Path, tmp_path: Path, *, damaged: bool = False) -> None:
    """Against an index that was never put away.

    damaged: it may say that it does not know, and be built anew.
    """
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "other") as fresh:
        want = answers(mailbox, fresh)
        in_order = sort_messages(read_facts(mailbox, mailbox.uids()), BY_SUBJECT)
        assert want[1] == in_order
    with process(root, place) as (mailbox, index):  # when the order is asked for first
        if not index.missing():
            assert index.in_order(list(mailbox.uids()), BY_SUBJECT) in (
                [in_order, None] if damaged else [in_order]
            )
    with process(root, place) as (mailbox, index):
        for got, right in zip(answers(mailbox, index), want, strict=True):
            if damaged and isinstance(got, dict) and isinstance(right, dict):
                assert got.items() <= right.items()
            elif not damaged or (got is not None and not (got == [] != right)):
                assert got == right


def test_nothing_is_compared_or_sorted_again(root: Path, place: Path, tmp_path: Path) -> None:
    rest(root, place)
    with process(root, place) as (mailbox, index):
        uids = list(mailbox.uids())
        told = statements(index, lambda: index.in_order(uids, BY_SUBJECT))
        assert not [text for text in told if "FROM messages" in text or "FROM orders" in text]
        assert index.kept_threads("REFS", uids) == b"(1)(2)"
        assert index.kept_threads("REFS", uids[1:]) is None
        assert index.kept_threads("REFERENCES", uids) is None
        day = date(1990, 1, 1)
        for number in (q.LargerThan(1), q.DateIs(q.DateOf.INTERNAL, q.When.SINCE, day)):
            told = statements(index, partial(index.search, number, uids))
            assert not [text for text in told if "FROM messages" in text]
        # Nobody asked for this one before, and numbers have no sums of their own.
        told = statements(
            index, lambda: index.search(q.DateIs(q.DateOf.SENT, q.When.SINCE, day), uids)
        )
        assert [text for text in told if "SELECT sum, uid, identity" in text]
    check(root, place, tmp_path)


def _others(root: Path, change: Callable[[MaildirMailbox], object]) -> None:
    with opened(root) as mailbox:
        change(mailbox)


def _another_message(root: Path) -> None:
    """Under the name, and so the UID, of one that was indexed."""
    path = sorted((root / "cur").iterdir())[4]
    path.rename(path.with_name("9999999999.M1P1.host:2,"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "more messages": lambda root: fill(root, [message(33)], first=50),
    "removed": lambda root: sorted((root / "cur").iterdir())[3].unlink(),
    "flags": lambda root: _others(root, lambda box: box.store_flags([4], FLAGGED)),
    "expunged": lambda root: _others(root, lambda box: box.expunge([5, 6])),
    "another name": _another_message,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_happened_meanwhile(
    root: Path, place: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    rest(root, place)
    change(root)
    check(root, place, tmp_path)
    rest(root, place)
    check(root, place, tmp_path)


def test_another_process_writes_rows(root: Path, place: Path, tmp_path: Path) -> None:
    """What was put away is forgotten with the first row that is written or removed."""
    rest(root, place)
    fill(root, [message(33)], first=50)
    with process(root, place, complete=True) as (mailbox, index):
        mailbox.expunge([1])
        assert index.catch_up()
    with contextlib.closing(sqlite3.connect(file_of(place))) as sql:
        names = {name for (name,) in sql.execute("SELECT name FROM kept")}
    assert names <= {"numbers"}
    check(root, place, tmp_path)


def test_nothing_is_put_away_over_what_others_wrote(root: Path, place: Path) -> None:
    rest(root, place)
    with process(root, place) as (mailbox, mine), process(root, place) as (theirs, other):
        mine.missing()
        fill(root, [message(33)], first=50)
        theirs.sync()
        assert other.catch_up()
        mine.put_away()
        with contextlib.closing(sqlite3.connect(file_of(place))) as sql:
            names = {name for (name,) in sql.execute("SELECT name FROM kept")}
        assert "rows" not in names
        assert len(list(mailbox.uids())) == 20


@pytest.mark.parametrize("name", ["rows", "order subject", "threads REFS", "column size"])
@pytest.mark.parametrize("octet", [0, 1, -1])
def test_flipped_octets(root: Path, place: Path, tmp_path: Path, name: str, octet: int) -> None:
    rest(root, place)
    with contextlib.closing(sqlite3.connect(file_of(place))) as sql, sql:
        ((value,),) = sql.execute("SELECT octets FROM kept WHERE name = ?", (name,)).fetchall()
        octets = bytearray(value)
        octets[octet] ^= 4
        sql.execute("UPDATE kept SET octets = ? WHERE name = ?", (bytes(octets), name))
    with process(root, place) as (mailbox, index):
        assert index.kept_threads("REFS", mailbox.uids()) in (None, b"(1)(2)")
    check(root, place, tmp_path, damaged=True)


@pytest.mark.parametrize(
    "damage",
    ["UPDATE messages SET size = size + 1 WHERE uid = 7", "DELETE FROM messages WHERE uid = 7"],
)
def test_rows_that_were_damaged_since(root: Path, place: Path, tmp_path: Path, damage: str) -> None:
    rest(root, place)
    with contextlib.closing(sqlite3.connect(file_of(place))) as sql, sql:
        sql.execute(damage)
    check(root, place, tmp_path, damaged=True)


_UIDS = st.lists(st.integers(1, 2**32 - 2), max_size=9).map(tuple)


@given(st.binary(max_size=40), _UIDS, _UIDS, _UIDS)
def test_packing_and_unpacking(
    mark: bytes, missing: tuple[int, ...], textless: tuple[int, ...], gone: tuple[int, ...]
) -> None:
    agreed = Agreement(mark, missing, textless, gone)
    assert Agreement.unpack(agreed.pack()) == agreed


@given(st.binary(max_size=60))
def test_garbage_is_an_agreement_or_refused(octets: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert Agreement.unpack(octets).pack() == octets
