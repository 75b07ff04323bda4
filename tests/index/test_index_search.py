"""A search through the index finds exactly what a scan of all messages finds."""

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from benchmarks.mail import make_message
from sharefs import message
from sharefs.index import MailboxIndex, building, columns, trigrams
from sharefs.index.query import (
    Among,
    And,
    ArrivedBy,
    ArrivedSince,
    BodyContains,
    DateIs,
    DateOf,
    Everything,
    HeaderContains,
    LargerThan,
    Not,
    Or,
    Query,
    SmallerThan,
    TextContains,
    When,
)
from sharefs.index.search import matches
from sharefs.message.decode import fold
from sharefs.message.search import body_texts, header_lines
from sharefs.store.maildir import MaildirMailbox
from tests.index.maildirs import age, file_of, fill, indexed, opened
from tests.message import corpus

MESSAGES = [
    *corpus.WELL_FORMED.values(),
    *corpus.BROKEN.values(),
    *corpus.SEARCHED,
    *(make_message(number, random.Random(number)) for number in range(40)),
    "Subject: 会議の議事録\r\n\r\n来週の会議は月曜日です。\r\n".encode(),
    b"Subject: nul \0 here\r\nFrom: a\0b <x@y.z>\r\n\r\nbo\0dy\r\n",
    b"Content-Type: text/plain; charset=utf-7\r\n\r\nsurrogate +2AA- half\r\n",
    "Subject: \ufffe\uffff nonchars\r\n\r\nx\ufffey\uffffz\r\n".encode(),
    b"Subject: long\r\nTo: " + b",\r\n ".join(b"u%d@x.org" % n for n in range(900)) + b"\r\n\r\n",
    b"Subject: big\r\n\r\n" + b"needle in a haystack " * 13_000,
    b"Sender: =?utf-8?q?J=C3=B6rg?= <jorg@x.org>\r\nX-Quote: say \"hello\" AND go\r\n\r\nx\r\n",
]  # fmt: skip
NEEDLES = [
    "", "a", "A", "ü", "gr", "GRÜ", "grüße", "STRASSE", "straße", "会", "会議", "議事録", "\0",
    "a\0b", "bo\0dy", "\ufffe", "y\uffffz", "\ud800", "e \ud800 h", "\n", "\r\n", "x\ny", " ",
    "  ", '"', '"hello" and', "'", "%", "_", "*", "hello* OR", "(a)", "needle in a haystack",
    "nowhere at all", "u899@x.org", "jörg", '"jörg" <jorg@', "subject: ", "from: alice", "zzz",
    "\u0308", "e", "@", "\U0001f600", "\U0010ffff", "\x02", "\x02\x02x",
]  # fmt: skip
NAMES = ["Subject", "from", "TO", "Cc", "BCC", "Sender", "Message-ID", "X-Quote", "Content-Type",
         "Nope", "", "a b", "x:y", "Sübject", "subject ", "\tx", "resent-from", "s"]  # fmt: skip


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaildirMailbox]:
    root = tmp_path_factory.mktemp("mail") / "Maildir"
    fill(root, MESSAGES)
    with opened(root) as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def index(
    mailbox: MaildirMailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MailboxIndex]:
    with indexed(mailbox, tmp_path_factory.mktemp("index") / "i") as index:
        yield index


def scan(query: Query, mailbox: MaildirMailbox, uids: list[int]) -> list[int]:
    """What the query means, said as plainly as can be."""

    def holds(query: Query, uid: int) -> bool:
        match query:
            case Everything():
                return True
            case Among(chosen):
                return uid in chosen
            case And(queries):
                return all(holds(one, uid) for one in queries)
            case Or(left, right):
                return holds(left, uid) or holds(right, uid)
            case Not(inner):
                return not holds(inner, uid)
            case _:
                return matches(query, uid, mailbox)

    return [uid for uid in uids if holds(query, uid)]


def check(query: Query, mailbox: MaildirMailbox, index: MailboxIndex) -> list[int]:
    uids = list(mailbox.uids())
    got = index.search(query, uids)
    assert got == scan(query, mailbox, uids), query
    return got


@pytest.mark.parametrize("needle", NEEDLES, ids=ascii)
def test_texts(needle: str, mailbox: MaildirMailbox, index: MailboxIndex) -> None:
    check(BodyContains(needle), mailbox, index)
    check(TextContains(needle), mailbox, index)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_header_fields(name: str, mailbox: MaildirMailbox, index: MailboxIndex) -> None:
    for needle in NEEDLES:
        check(HeaderContains(name, needle), mailbox, index)


def test_random_pieces_of_the_messages_themselves(
    mailbox: MaildirMailbox, index: MailboxIndex
) -> None:
    dice = random.Random(20261121)
    texts = []
    for octets in map(message.crlf, MESSAGES):
        part = message.parse(octets)
        texts += [text for text in (*body_texts(octets, part), *header_lines(part)) if text]
    hits = 0
    for _ in range(60):
        text = dice.choice(texts)
        at = dice.randrange(len(text))
        needle = text[at : at + dice.choice([1, 2, 3, 4, 5, 8, 20, 100, 400])]
        needle = dice.choice([needle, needle.upper(), fold(needle)])
        hits += bool(check(TextContains(needle), mailbox, index))
        check(BodyContains(needle), mailbox, index)
        check(HeaderContains(dice.choice(NAMES), needle), mailbox, index)
    assert hits > 40


def test_sizes_and_dates(
    mailbox: MaildirMailbox, index: MailboxIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = mailbox.uids()
    sizes = {mailbox.size(uid) for uid in uids}
    for octets in {0, *sizes, *(size + 1 for size in sizes), 1 << 70}:
        check(LargerThan(octets), mailbox, index)
        check(SmallerThan(octets), mailbox, index)
    arrivals = [mailbox.info(uid).internaldate for uid in uids]
    for seconds in {-1 << 33, 0, *arrivals, *(second + 1 for second in arrivals), 1 << 40}:
        check(ArrivedBy(seconds), mailbox, index)
        check(ArrivedSince(seconds), mailbox, index)
    day = date.fromtimestamp(mailbox.info(uids[0]).internaldate)
    days = [day + timedelta(days=offset) for offset in range(-3, 4)]
    for zone in ("UTC", "Pacific/Kiritimati", "Etc/GMT+12", "America/Sao_Paulo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        for when in When:
            for one in [*days, date(1, 1, 1), date(9999, 12, 31)]:
                check(DateIs(DateOf.INTERNAL, when, one), mailbox, index)
    monkeypatch.undo()
    time.tzset()
    sent = {message.sent_day(mailbox.read_header(uid)) for uid in uids}
    for when in When:
        for one in {*sent, date(1, 1, 1), date(9999, 12, 31)}:
            check(DateIs(DateOf.SENT, when, one), mailbox, index)


def test_days_of_arrival_in_zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages around midnights, where zones matter."""
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: x\n\nx\n"] * 60)
    for number, path in enumerate(sorted((root / "cur").iterdir())):
        os.utime(path, (1_700_000_000 + 7000 * number,) * 2)
    with opened(root) as mailbox, indexed(mailbox, None) as index:
        for zone in ("UTC", "Pacific/Kiritimati", "Etc/GMT+12"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            for when in When:
                for offset in range(-2, 9):
                    day = date(2023, 11, 14) + timedelta(days=offset)
                    check(DateIs(DateOf.INTERNAL, when, day), mailbox, index)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("few", [1, columns.FEW])
def test_numbers_asked_for_again_and_again(
    few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in memory then, which must know of what comes and goes; so must what is kept."""
    monkeypatch.setattr(columns, "FEW", few)
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: x\nDate: %d Nov 2023 10:00:00 +0000\n\n" % day for day in (3, 1, 2)])
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i") as index:

        def ask() -> None:
            for number in range(1, 6):
                size = mailbox.size(mailbox.uids()[0]) + number - 3
                arrived = mailbox.info(mailbox.uids()[0]).internaldate + number - 3
                for when in When:
                    check(DateIs(DateOf.SENT, when, date(2023, 11, number)), mailbox, index)
                check(LargerThan(size), mailbox, index)
                check(SmallerThan(size), mailbox, index)
                check(ArrivedBy(arrived), mailbox, index)
                check(ArrivedSince(arrived), mailbox, index)

        for round_ in range(3):
            ask()
            texts = b"x" * round_, b"x" * 2 * round_
            fill(
                root,
                [b"Date: %d Nov 2023 10:00:00 +0000\n\n%b" % (4 - round_, text) for text in texts],
                first=10 * (round_ + 1),
            )
            mailbox.sync()
            ask()  # some of them are not indexed
            assert index.catch_up()
            ask()
            mailbox.expunge([mailbox.uids()[round_]])
            ask()
            assert index.catch_up()
            age(root)
            mailbox.sync()
            index.put_away()
            with indexed(mailbox, tmp_path / "i") as next_one:
                check(DateIs(DateOf.SENT, When.SINCE, date(2023, 11, 2)), mailbox, next_one)
                check(LargerThan(1), mailbox, next_one)


def test_combinations(mailbox: MaildirMailbox, index: MailboxIndex) -> None:
    dice = random.Random(7)

    def query(depth: int) -> Query:
        kind = dice.randrange(8 if depth else 4)
        match kind:
            case 0:
                return TextContains(dice.choice(NEEDLES))
            case 1:
                return HeaderContains(dice.choice(NAMES), dice.choice(NEEDLES))
            case 2:
                size = dice.randrange(3000)
                return LargerThan(size) if dice.random() < 0.5 else SmallerThan(size)
            case 3:
                chosen = frozenset(dice.sample(list(mailbox.uids()), 30))
                return Among(chosen) if dice.random() < 0.5 else Everything()
            case 4 | 5:
                return And(tuple(query(depth - 1) for _ in range(dice.randint(1, 3))))
            case 6:
                return Or(query(depth - 1), query(depth - 1))
        return Not(query(depth - 1))

    for _ in range(60):
        check(query(3), mailbox, index)


def test_what_is_not_indexed_yet_is_read(
    mailbox: MaildirMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "SLICE", 1)
    with indexed(mailbox, None, complete=False) as index:
        check(TextContains("grüße"), mailbox, index)
        index.catch_up(0)
        assert 0 < index.missing() < len(mailbox.uids())
        for needle in NEEDLES[:12]:
            check(TextContains(needle), mailbox, index)
            check(HeaderContains("subject", needle), mailbox, index)
        check(LargerThan(1000), mailbox, index)


def test_a_needle_that_is_nowhere_reads_nothing(
    mailbox: MaildirMailbox, index: MailboxIndex
) -> None:
    textless = index.narrow(BodyContains("qqqq never there"))
    big = index.narrow(LargerThan(256 * 1024)).certain
    assert textless.certain == frozenset()
    assert textless.possible <= big
    subjects = index.narrow(HeaderContains("subject", "qqqq never there"))
    assert not subjects.certain
    assert not subjects.possible


def test_merging_leaves_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes the file larger for a while, with pages that are empty after it."""
    monkeypatch.setattr(building, "SLICE", 50)
    monkeypatch.setattr(building, "FREE_OCTETS", 2400)
    monkeypatch.setattr(trigrams, "SEGMENTS_LIMIT", 12)
    root = tmp_path / "Maildir"
    fill(root, (make_message(number, random.Random(number)) for number in range(900)))
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i") as index:
        status = index.status()
        assert status.texts == status.indexed == 900
        assert not index.narrow(BodyContains("qqqq never there")).possible


def test_a_merge_lets_others_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made in steps: between two of them all is found, all sums are right, and whoever wants
    the mailbox or the file gets it."""
    monkeypatch.setattr(building, "SLICE", 5)
    monkeypatch.setattr(building, "MERGED_AT_ONCE", 3)
    monkeypatch.setattr(trigrams, "SEGMENTS_LIMIT", 6)
    root = tmp_path / "Maildir"
    fill(root, (make_message(number, random.Random(number)) for number in range(150)))
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        sql, missing, steps = index._database.sql, -1, 0
        while not index.catch_up(0):
            left = index.missing()
            if left == missing:
                steps += 1
                assert trigrams.are_sound(sql)
                check(BodyContains("the"), mailbox, index)
                with contextlib.closing(sqlite3.connect(file_of(tmp_path / "i"))) as other:
                    other.execute("BEGIN IMMEDIATE")
            missing = left
        assert steps > 5
        assert trigrams.are_sound(sql)
        assert len(trigrams.segments(sql)) <= trigrams.SEGMENTS_LIMIT
        assert index.verify() == []


def test_merged_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small additions: their sums stay right, and searches ask few segments."""
    monkeypatch.setattr(building, "SLICE", 1)
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: s%d\n\nbody %d of many\n" % (n, n) for n in range(300)])
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        while not index.catch_up(0):
            pass
        sql = index._database.sql
        assert 1 < len(trigrams.segments(sql)) <= trigrams.SEGMENTS_LIMIT
        assert trigrams.are_sound(sql)
        assert index.search(BodyContains("body 123 of"), mailbox.uids()) == [124]
        assert index.verify() == []
