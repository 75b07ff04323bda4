"""Processes that help to index: what is kept is the same, whatever becomes of them."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sharefs.index import MailboxIndex
from sharefs.index import helpers as module
from sharefs.index.harvest import Harvest, harvest
from sharefs.index.helpers import Helpers, helpers
from sharefs.index.schema import PER_MESSAGE
from sharefs.index.trigrams import are_sound
from sharefs.store.interface import MessageInfo
from tests.index.maildirs import age, fill, indexed, opened
from tests.index.test_index_search import MESSAGES

PATIENCE = 60  # seconds; no test that passes takes them


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "Maildir", MESSAGES)
    age(tmp_path / "Maildir")
    return tmp_path / "Maildir"


def kept(index: MailboxIndex) -> dict[str, object]:
    sql = index._database.sql
    assert are_sound(sql)
    return {name: sql.execute(f"SELECT * FROM {name}").fetchall() for name in PER_MESSAGE}


@pytest.fixture
def alone(root: Path, tmp_path: Path) -> Iterator[dict[str, object]]:
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "alone") as index:
        yield kept(index)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_same_is_kept(root: Path, tmp_path: Path, alone: dict[str, object], count: int) -> None:
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        with helpers(mailbox, count) as others:
            while not index.catch_up(0, bulk=True, helpers=others):
                pass
        assert kept(index) == alone
        assert index.verify() == []


def test_one_that_is_killed_is_done_without(
    root: Path, tmp_path: Path, alone: dict[str, object]
) -> None:
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        with helpers(mailbox, 2) as others:
            for _ in range(10):
                assert not index.catch_up(0, helpers=others)
            for each in others._helpers:
                os.kill(each.pid, signal.SIGKILL)
            assert index.catch_up(helpers=others)
            assert others._helpers == []
        assert kept(index) == alone


def test_what_came_and_went_after_they_were_made(root: Path, tmp_path: Path) -> None:
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        with helpers(mailbox, 2) as others:
            gone, renamed = sorted((root / "cur").iterdir())[3:5]
            gone.unlink()
            renamed.rename(f"{renamed}FS")
            fill(root, [b"Subject: new\n\nnew\n"], first=1000)
            assert not index.catch_up(0, helpers=others)
            mailbox.sync()
            assert index.catch_up(helpers=others)
        assert index.status().indexed == len(mailbox.uids()) == len(MESSAGES)
        assert index.missing() == 0
        assert index.verify() == []


def test_where_no_process_can_be_made(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refused)
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        with helpers(mailbox, 2) as others:
            assert index.catch_up(helpers=others)
        assert index.status().indexed == len(MESSAGES)


def test_they_work_ahead(root: Path, tmp_path: Path) -> None:
    """All but the first message, which is done while they begin."""
    with opened(root) as mailbox, helpers(mailbox, 2) as others:
        taken = Taken(others)
        with indexed(mailbox, tmp_path / "i", complete=False) as index:
            assert index.catch_up(helpers=taken)
        assert taken.missed == [mailbox.uids()[-1]]


def test_they_go_on_while_the_caller_writes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes their answers, which are larger than what the system keeps for a reader."""
    notes = tmp_path / "notes"

    def noted(octets: bytes, info: MessageInfo) -> Harvest:
        with notes.open("a") as file:
            file.write(f"{info.uid}\n")
        return replace(harvest(octets, info), preview=b"x" * (1 << 20))

    monkeypatch.setattr(module, "harvest", noted)
    monkeypatch.setattr(module, "BATCH", 1)
    with opened(root) as mailbox, helpers(mailbox, 1) as others:
        uids = list(mailbox.uids())
        assert others.take(uids[-1], uids[:-1]) is None
        want = [*reversed(uids[:-1])][: module.AHEAD]
        deadline = time.monotonic() + PATIENCE
        while not notes.exists() or len(notes.read_text().split()) < len(want):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert [*map(int, notes.read_text().split())] == want


class Taken(Helpers):
    """Notes what the others could not say."""

    def __init__(self, others: Helpers) -> None:
        super().__init__(others._helpers)
        self.missed: list[int] = []

    def take(self, uid: int, rest: Sequence[int]) -> module.Got | None:
        got = super().take(uid, rest)
        if got is None:
            self.missed.append(uid)
        return got
