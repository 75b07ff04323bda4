"""What the index keeps of a message is what the message says."""

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.mail import make_message
from sharefs import message
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.index import Column, MailboxIndex, building, packed_fields, trigrams
from sharefs.index.packed_fields import NAMES
from sharefs.index.query import HeaderContains, TextContains
from tests.index.maildirs import INBOX, file_of, fill, indexed, opened
from tests.index.test_index_search import MESSAGES

ALL = tuple(Column)


def test_kept_values_are_those_of_the_messages(tmp_path: Path) -> None:
    fill(tmp_path / "Maildir", MESSAGES)
    with opened(tmp_path / "Maildir") as mailbox, indexed(mailbox, tmp_path / "i") as index:
        uids = list(mailbox.uids())
        kept = dict(index.fetch(uids, ALL))
        assert list(kept) == uids
        left_out = 0
        for uid in uids:
            octets = mailbox.read(uid)
            part = message.parse(octets)
            header = mailbox.read_header(uid)
            info = mailbox.info(uid)
            want = (
                message.envelope_of(header),
                message.body(part),
                message.bodystructure(part),
                packed_fields.pack(header),
                message.preview(octets, part).encode("utf-8", "replace"),
                info.size,
                info.internaldate,
                info.save_date,
                message.email_id(octets, info.internaldate),
            )
            got = kept[uid]
            assert got is not None
            for right, value in zip(want, got, strict=True):
                if value is None:
                    assert len(right) > 16000  # type: ignore[arg-type]  # only octets are left out
                    left_out += 1
                else:
                    assert value == right
        assert 0 < left_out < 20
        assert index.verify() == []


def test_kept_fields_answer_for_any_choice_of_them(tmp_path: Path) -> None:
    fill(tmp_path / "Maildir", MESSAGES)
    with opened(tmp_path / "Maildir") as mailbox, indexed(mailbox, None) as index:
        for names in ((b"subject",), (b"From", b"TO", b"references"), (b"x-label",), NAMES):
            for uid, row in index.fetch(mailbox.uids(), [Column.FIELDS]):
                if row is None:
                    continue
                assert isinstance(row[0], bytes)
                (got,) = packed_fields.picker(names)([row[0]])
                assert got == message.header_fields(mailbox.read_header(uid), names)


@pytest.mark.parametrize("columns", [[column] for column in Column] + [list(ALL[:4]), list(ALL)])
def test_rows_of_some_messages(tmp_path: Path, columns: list[Column]) -> None:
    fill(tmp_path / "Maildir", [b"Subject: %d\n\nx\n" % number for number in range(30)])
    with opened(tmp_path / "Maildir") as mailbox, indexed(mailbox, None) as index:
        for uids in ([1], [30], [3, 4, 5], [1, 15, 30], list(range(1, 31))):
            assert sorted(index.rows(uids, columns)) == uids
        assert index.rows([31, 99], columns) == {}
        assert index.rows([], columns) == {}
        mailbox.expunge([4])
        assert sorted(index.rows([3, 4, 5], columns)) == [3, 5]
        assert index.catch_up()  # removes its row
        assert sorted(index.rows([3, 4, 5], columns)) == [3, 5]


def test_it_follows_the_mailbox(tmp_path: Path) -> None:
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: old %d\n\nx\n" % number for number in range(10)])
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i") as index:
        fill(root, [b"Subject: new %d\n\nx\n" % number for number in range(5)], first=10)
        mailbox.expunge([2, 3])
        mailbox.sync()
        assert index.missing() == 5
        found = index.search(HeaderContains("subject", "w 3"), mailbox.uids())
        assert found == [14]  # not indexed, so it was read
        assert index.catch_up()
        status = index.status()
        assert (status.messages, status.indexed, status.texts) == (13, 13, 13)
        assert index.rows([2, 3], ALL) == {}
        assert index.search(TextContains("old"), mailbox.uids()) == [1, 4, 5, 6, 7, 8, 9, 10]
        assert index.verify() == []
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        assert index.missing() == 0
        assert sorted(index.rows(range(1, 20), [Column.SIZE])) == list(mailbox.uids())


def test_flags_are_not_its_business(tmp_path: Path) -> None:
    """A rename by us or by another program changes nothing that is kept."""
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: x\n\nx\n"] * 5)
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i") as index:
        mailbox.store_flags([1, 2], FlagChange(FlagOp.ADD, FlagSet(System.SEEN)))
        third = sorted((root / "cur").iterdir())[2]
        third.rename(third.with_name(third.name + "F"))
        mailbox.sync()
        assert index.missing() == 0
        assert len(index.rows(mailbox.uids(), [Column.ENVELOPE])) == 5


def test_two_processes_index_one_mailbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two connections take turns; neither doubles what the other has done."""
    monkeypatch.setattr(building, "SLICE", 3)
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: s%d\n\nbody %d\n" % (n, n) for n in range(200)])
    with (
        opened(root) as one,
        opened(root) as other,
        indexed(one, tmp_path / "i", complete=False) as first,
        indexed(other, tmp_path / "i", complete=False) as second,
    ):
        turns = 0
        while not (first.catch_up(0) & second.catch_up(0)):
            turns += 1
        assert turns > 20
        for index, mailbox in ((first, one), (second, other)):
            assert index.missing() == 0
            assert index.search(TextContains("body 77"), mailbox.uids()) == [78]
            assert index.verify() == []


def test_a_message_that_only_the_other_process_knows(tmp_path: Path) -> None:
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: x\n\nx\n"] * 3)
    with opened(root) as late, indexed(late, tmp_path / "i") as index:
        fill(root, [b"Subject: y\n\nx\n"], first=3)
        with opened(root) as early, indexed(early, tmp_path / "i") as other:
            assert other.missing() == 0
        assert index.catch_up()
        assert index.missing() == 0
        late.sync()
        assert index.missing() == 0
        assert index.search(HeaderContains("subject", "y"), late.uids()) == [4]


def test_bounds_of_one_message(tmp_path: Path) -> None:
    """Whatever a message contains, the index grows by a bounded part of it."""
    fill(tmp_path / "Maildir", [b"Subject: x\n\n" + b"%d " % n * 200_000 for n in range(10, 20)])
    with opened(tmp_path / "Maildir") as mailbox, indexed(mailbox, tmp_path / "i") as index:
        status = index.status()
        assert status.texts == 0
        assert status.share < 0.05
        assert index.search(TextContains("19 19"), mailbox.uids()) == [10]


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    fill(tmp_path / "Maildir", [b"Subject: x\n\nx\n"])
    cur = os.fsencode(tmp_path / "Maildir" / "cur")
    for number, name in enumerate([b"\xff\xfe", "grüß".encode(), b"a\nb", b"'\""]):
        with open(cur + b"/170000000%d.%b.host:2," % (number, name), "wb") as file:
            file.write(b"Subject: odd\n\nx\n")
    for complete in (True, False):
        with (
            opened(tmp_path / "Maildir") as mailbox,
            indexed(mailbox, tmp_path / "i", complete=complete) as index,
        ):
            readable = index.search(HeaderContains("subject", "odd"), mailbox.uids())
            assert len(readable) >= 2
            assert index.missing() == 0
            assert index.verify() == []


def test_a_few_messages_are_checked_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first FETCH of a session is for a handful, and rows are compared all the same."""
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: %d\n\nx\n" % number for number in range(6)])
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i"):
        pass
    uidlist = root / "dovecot-uidlist"
    head, *lines = uidlist.read_text().splitlines()
    names = [line.partition(":")[2] for line in lines]
    names[2], names[3] = names[3], names[2]
    lines = [f"{uid} :{name}" for uid, name in enumerate(names, start=1)]
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        assert sorted(index.rows([1, 2, 9], ALL)) == [1, 2]
    uidlist.write_text("\n".join([head, *lines]) + "\n")
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        assert sorted(index.rows([1, 2, 9], ALL)) == [1, 2]
        assert not caplog.messages
        assert index.rows([3, 4], ALL) == {}
        assert "another one" in caplog.text
        assert index.catch_up()
        got = index.rows([3, 4], [Column.FIELDS])
        want = [packed_fields.pack(b"Subject: %d\r\n\r\n" % number) for number in (3, 2)]
        assert [row[0] for row in got.values()] == want
    caplog.clear()


def test_an_empty_mailbox(tmp_path: Path) -> None:
    fill(tmp_path / "Maildir", [])
    with opened(tmp_path / "Maildir") as mailbox, indexed(mailbox, tmp_path / "i") as index:
        assert index.search(TextContains("x"), mailbox.uids()) == []
        assert index.status().share == 0


def test_inbox_is_what_is_opened(tmp_path: Path) -> None:
    """close() is harmless twice, and the index never closes the mailbox."""
    fill(tmp_path / "Maildir", [b"Subject: x\n\nx\n"])
    with opened(tmp_path / "Maildir") as mailbox:
        index = MailboxIndex.open(mailbox, [tmp_path / "i"], label=INBOX[0])
        assert index.catch_up()
        index.close()
        index.close()
        assert mailbox.read(1)


def test_the_file_stays_within_its_bound_and_keeps_every_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged texts give their room back, a little at a time."""
    monkeypatch.setattr(building, "SLICE", 100)
    monkeypatch.setattr(building, "PAGES_AT_ONCE", 7)
    monkeypatch.setattr(trigrams, "SEGMENTS_LIMIT", 2)
    dice = random.Random(4)
    fill(tmp_path / "mail", (make_message(number, dice) for number in range(1200)))
    with opened(tmp_path / "mail") as mailbox, indexed(mailbox, tmp_path / "index") as index:
        status = index.status()
        assert status.texts == 1200
        size = file_of(tmp_path / "index").stat().st_size
        assert size <= 0.5 * status.mail + 2048 * status.messages + 512 * 1024
        assert size == status.octets
        with closing(sqlite3.connect(file_of(tmp_path / "index"))) as database:
            assert database.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_long_texts_are_not_held_for_many_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "TEXT_AT_ONCE", 10_000)
    fill(tmp_path / "mail", [b"Subject: x\n\n" + 4000 * b"x" for _ in range(12)])
    with (
        opened(tmp_path / "mail") as mailbox,
        indexed(mailbox, tmp_path / "index", complete=False) as index,
    ):
        for taken in range(1, 9):
            assert not index.catch_up(0, bulk=True)
            assert taken - index.status().indexed < 3


def test_what_has_rows_is_added_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else building would take the longer for each slice the more there are."""
    monkeypatch.setattr(building, "SLICE", 3)
    fill(tmp_path / "mail", [b"Subject: x\n\nx\n"] * 30)
    with (
        opened(tmp_path / "mail") as mailbox,
        indexed(mailbox, tmp_path / "index", complete=False) as index,
    ):
        asked: list[str] = []
        index._database.sql.set_trace_callback(asked.append)
        assert index.catch_up()
        index._database.sql.set_trace_callback(None)
        assert len([text for text in asked if text == "BEGIN IMMEDIATE"]) >= 10
        assert len([text for text in asked if "sum(size)" in text]) == 1
