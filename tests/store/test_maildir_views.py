"""Several views of one Maildir in a storm of changes: what each is told, replayed, is the truth.

The storm is random but seeded: deliveries, renames, removals and restorations by other programs,
changes through any of the views, rewritten and broken lists.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.store.maildir import Fsync, MaildirConfig, MaildirMailbox, MaildirStorage
from tests.store.contract import HELLO, INBOX, add

KEYWORDS = ("$Label1", "Work", "later")


class Client:
    """Follows a mailbox by nothing but what it is told, and checks that this is legal."""

    def __init__(self, mailbox: MaildirMailbox) -> None:
        self.mailbox = mailbox
        self.uids = list(mailbox.uids())
        self.generation = mailbox.generation
        self.flags = {uid: mailbox.flags_of(uid) for uid in self.uids}
        self.high = max(self.uids, default=0)

    def catch_up(self) -> None:
        self.mailbox.sync()
        changes = self.mailbox.changes_since(self.generation)
        self.generation = self.mailbox.generation
        assert set(changes.expunged) <= set(self.uids)
        assert all(uid > self.high for uid in changes.added), "a UID came back"
        assert not set(changes.flags) & {*changes.added, *changes.expunged}
        self.uids = [uid for uid in self.uids if uid not in changes.expunged]
        self.uids += changes.added
        for uid in changes.expunged:
            del self.flags[uid]
        for uid in (*changes.added, *changes.flags):
            self.flags[uid] = self.mailbox.flags_of(uid)
        self.high = max([self.high, *changes.added])

    def check(self) -> None:
        assert self.uids == list(self.mailbox.uids())
        assert self.flags == {uid: self.mailbox.flags_of(uid) for uid in self.uids}
        unseen = [uid for uid in self.uids if not self.flags[uid].system & System.SEEN]
        assert self.mailbox.first_unseen() == (unseen[0] if unseen else 0)
        assert list(self.mailbox.unseen()) == unseen


class Storm:
    """One step() is one change by somebody."""

    def __init__(self, root: Path, clients: list[Client], seed: int) -> None:
        self.root = root
        self.clients = clients
        self.random = random.Random(seed)
        self.delivered = 0
        self.away: list[str] = []

    def step(self) -> None:
        steps = [
            self.deliver, self.deliver, self.rename, self.rename, self.remove, self.hide,
            self.restore, self.claim, self.add, self.store, self.store, self.expunge,
            self.rewrite_list, self.break_list, self.tear_list, self.name_keyword,
        ]  # fmt: skip
        self.random.choice(steps)()

    def some_uids(self, client: Client) -> list[int]:
        return self.random.sample(client.uids, min(len(client.uids), self.random.randrange(5)))

    def some_flags(self) -> FlagSet:
        names = self.random.sample(KEYWORDS, self.random.randrange(3))
        return FlagSet(System(self.random.randrange(32)), frozenset(names))

    def files(self) -> list[Path]:
        return sorted([*(self.root / "cur").iterdir(), *(self.root / "new").iterdir()])

    def deliver(self) -> None:
        self.delivered += 1
        to = self.random.choice(["new/{}.x.h", "cur/{}.x.h:2,", "cur/{}.x.h:2,Sa", "cur/{}.x.h"])
        (self.root / to.format(self.delivered)).write_bytes(b"Subject: x\n\n")

    def rename(self) -> None:
        if files := self.files():
            path = self.random.choice(files)
            flags = "".join(sorted(self.random.sample("DFRSTabz", self.random.randrange(4))))
            path.rename(self.root / "cur" / f"{path.name.partition(':')[0]}:2,{flags}")

    def remove(self) -> None:
        if files := self.files():
            self.random.choice(files).unlink()

    def hide(self) -> None:
        if files := self.files():
            path = self.random.choice(files)
            path.rename(self.root / "away" / path.name)

    def restore(self) -> None:
        for name in os.listdir(self.root / "away"):
            (self.root / "away" / name).rename(self.root / "cur" / name)

    def claim(self) -> None:
        self.random.choice(self.clients).mailbox.recent(claim=True)

    def add(self) -> None:
        mailbox = self.random.choice(self.clients).mailbox
        add(mailbox, *[HELLO] * self.random.randrange(1, 4), flags=self.some_flags())

    def store(self) -> None:
        client = self.random.choice(self.clients)
        change = FlagChange(self.random.choice(list(FlagOp)), self.some_flags())
        client.mailbox.store_flags(self.some_uids(client), change)

    def expunge(self) -> None:
        client = self.random.choice(self.clients)
        client.mailbox.expunge(self.some_uids(client))

    def rewrite_list(self) -> None:
        """As another program under the lock: drop records of files that are not there."""
        path = self.root / "dovecot-uidlist"
        header, *records = path.read_text().splitlines(keepends=True)
        if any(" :" not in line or not line.endswith("\n") for line in records):
            return  # broken; ours to mend
        here = {file.name.partition(":")[0] for file in self.files()}
        high = max([0, *(int(line.partition(" ")[0]) for line in records)])
        words = [f"N{max(high + 1, int(word[1:]))}" if word[0] == "N" else word
                 for word in header.split()]  # fmt: skip
        kept = [line for line in records if line.rstrip("\n").partition(" :")[2] in here]
        temp = self.root / "dovecot-uidlist.tmp"
        temp.write_text(" ".join(words) + "\n" + "".join(kept))
        temp.rename(path)

    def break_list(self) -> None:
        if self.random.random() < 0.3:
            with (self.root / "dovecot-uidlist").open("a") as file:
                file.write("garbage\n")

    def tear_list(self) -> None:
        if self.random.random() < 0.3:
            with (self.root / "dovecot-uidlist").open("a") as file:
                file.write("77 :to")

    def name_keyword(self) -> None:
        path = self.root / "dovecot-keywords"
        before = path.read_text() if path.exists() else ""
        if "25 " not in before and self.random.random() < 0.2:
            path.write_text(before + "25 Named\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "Maildir"


@pytest.fixture
def clients(root: Path) -> Iterator[list[Client]]:
    storage = MaildirStorage(MaildirConfig(root, fsync=Fsync.NEVER))
    storage.create(INBOX)
    (root / "away").mkdir()
    mailboxes = [storage.open(INBOX) for _ in range(3)]
    yield [Client(mailbox) for mailbox in mailboxes]
    for mailbox in mailboxes:
        mailbox.close()


@pytest.mark.parametrize("seed", range(12))
def test_what_views_are_told_is_the_truth(root: Path, clients: list[Client], seed: int) -> None:
    storm = Storm(root, clients, seed)
    for _ in range(120):
        storm.step()
        for client in clients:
            if storm.random.random() < 0.4:
                client.catch_up()
                client.check()
    for _ in range(2):  # the second time for new numbers that the others gave
        for client in clients:
            client.catch_up()
            client.check()
    bases = {path.name.partition(":")[0] for path in storm.files()}
    for client in clients:
        assert {client.mailbox.picture.base_of[uid] for uid in client.uids} == bases
    assert clients[0].uids == clients[1].uids == clients[2].uids
    assert clients[0].flags == clients[1].flags == clients[2].flags
    with contextlib.closing(MaildirStorage(clients[0].mailbox.site.config).open(INBOX)) as fresh:
        assert list(fresh.uids()) == clients[0].uids
        assert {uid: fresh.flags_of(uid) for uid in fresh.uids()} == clients[0].flags
    assert not list(root.glob(".temp.*"))
