"""Maildirs with messages in them, and indexes over them."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sharefs.index import MailboxIndex, Modseqs, Shelf
from sharefs.index.place import NAME
from sharefs.store.maildir import MaildirConfig, MaildirMailbox, MaildirStorage

INBOX = ("INBOX",)


def fill(root: Path, messages: Iterable[bytes], *, first: int = 0) -> None:
    """Messages as another program would have left them, one a minute."""
    for name in ("cur", "new", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number, octets in enumerate(messages, start=first):
        (root / "cur" / f"{1_600_000_000 + 60 * number}.M1P1.host:2,").write_bytes(octets)


def age(root: Path) -> None:
    """The last change was a while ago."""
    for name in ("new", "cur"):
        before = time.time_ns() - 10 * 10**9
        os.utime(root / name, ns=(before, before))


@contextlib.contextmanager
def opened(root: Path, place: Path | None = None) -> Iterator[MaildirMailbox]:
    """place: where its listing is kept."""
    with contextlib.closing(MaildirStorage(MaildirConfig(root)).open(INBOX)) as mailbox:
        if place is not None:
            mailbox.keep_in(Shelf([place]))
        mailbox.sync()
        yield mailbox


@contextlib.contextmanager
def indexed(
    mailbox: MaildirMailbox, directory: Path | None, *, complete: bool = True
) -> Iterator[MailboxIndex]:
    places = [directory] if directory else []
    with contextlib.closing(MailboxIndex.open(mailbox, places, label="test")) as index:
        if complete:
            assert index.catch_up()
        yield index


def numbers_of(index: MailboxIndex) -> Modseqs:
    """Of an index that has a file."""
    modseqs = index.modseqs()
    assert modseqs is not None
    return modseqs


def file_of(directory: Path) -> Path:
    return directory / NAME


def statements(index: MailboxIndex, action: Callable[[], object]) -> list[str]:
    """What SQLite is told meanwhile."""
    seen: list[str] = []
    sql = index._database.sql
    sql.set_trace_callback(seen.append)
    try:
        action()
    finally:
        sql.set_trace_callback(None)
    return seen
