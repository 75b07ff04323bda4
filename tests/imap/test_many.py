"""What is asked of many messages at once is what each of them answers."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.commands import bulk
from imap.commands.bulk import internal_date, internal_dates
from imap.commands.kept import KeptRows
from imap.view import View
from imap.wire import Command
from imap.wire.fetch import parse_fetch
from sharefs.flags import FlagSet
from sharefs.store.maildir.config import MaildirConfig
from sharefs.store.maildir.filename import virtual_size_in, virtual_sizes_in
from sharefs.store.maildir.mailbox import MaildirMailbox
from sharefs.store.maildir.storage import MaildirStorage

NAMES = {
    "1.M1P1.host,S=10,W=12": ":2,S",
    "2.M1P1.host,W=12": ":2,",
    "3.M1P1.host": ":2,FSa",
    "4.M1P1.host,S=10": "",
    "5.M1P1.host,S=10,W=0": ":2,S",
    "6.M1P1.host,S=10,W=12,X=3": ":2,DFRST",
}


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[MaildirMailbox]:
    for name in ("cur", "new", "tmp"):
        (tmp_path / name).mkdir()
    for base, info in NAMES.items():
        directory = "cur" if info else "new"
        (tmp_path / directory / (base + info)).write_bytes(b"Subject: x\n\nx\n")
    with contextlib.closing(MaildirStorage(MaildirConfig(tmp_path)).open(("INBOX",))) as opened:
        opened.sync()
        yield opened


def flags_one_by_one(mailbox: MaildirMailbox, uids: list[int]) -> list[FlagSet | None]:
    found: list[FlagSet | None] = []
    for uid in uids:
        try:
            found.append(mailbox.flags_of(uid))
        except KeyError:
            found.append(None)
    return found


def test_flags(mailbox: MaildirMailbox) -> None:
    uids = [*mailbox.uids(), 99]
    assert len(uids) == len(NAMES) + 1
    assert mailbox.flags_of_each(uids) == flags_one_by_one(mailbox, uids)
    assert mailbox.flags_of_each([]) == []
    mailbox.expunge([2, 4])
    (mailbox.site.directory / "cur" / "1.M1P1.host,S=10,W=12:2,S").unlink()
    mailbox.sync()
    assert mailbox.flags_of_each(uids) == flags_one_by_one(mailbox, uids)
    assert mailbox.flags_of_each(uids).count(None) == 4


def test_plain_texts_are_read_in_windows_of_some_octets(mailbox: MaildirMailbox) -> None:
    uids = list(mailbox.uids())
    view = View(uids, 1)

    def windows(items: bytes, octets: int) -> list[int]:
        request = parse_fetch(Command("t", "FETCH", b"1:* " + items))
        renderer = bulk.Bulk(request.items, mailbox, view, KeptRows(request.items))
        assert renderer.usable
        at, ends = 0, []
        while at < len(uids):
            at = renderer.window(uids, at, octets)
            ends.append(at)
        return ends

    assert windows(b"BODY.PEEK[]", 24) == [2, 3, 4, 6]  # 12, 12, not told, not told, 0, 12
    assert windows(b"BODY.PEEK[]", 1) == [1, 2, 3, 4, 6]
    assert windows(b"(UID FLAGS)", 1) == [6]
    assert windows(b"BODY.PEEK[HEADER]", 8192) == [2, 4, 6]


def test_sizes(mailbox: MaildirMailbox) -> None:
    uids = list(mailbox.uids())
    known = mailbox.known_sizes([*uids, 99])
    assert known[-1] is None
    assert None in known[:-1]  # some names do not tell
    for uid, size in zip(uids, known, strict=False):
        assert size is None or size == mailbox.size(uid)
    assert mailbox.known_sizes(uids[:2]) == [12, 12]


@given(
    st.lists(
        st.from_regex(
            r"[0-9]{1,3}[.a-z]{0,3}(,[SWX]=[0-9a]{0,4}){0,3}(,W=[0-9]{1,21})?", fullmatch=True
        )
    )
)
def test_sizes_in_names(bases: list[str]) -> None:
    assert virtual_sizes_in(bases) in (None, [virtual_size_in(base) for base in bases])


def test_sizes_in_names_that_tell() -> None:
    assert virtual_sizes_in(["1.x,S=1,W=2", "2.x,W=30"]) == [2, 30]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"])
@given(many=st.lists(st.integers(-(1 << 36), 1 << 40) | st.integers(1_600_000_000, 1_650_000_000)))
def test_internal_dates(zone: str, many: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        bulk._offset_of_day.cache_clear()
        assert internal_dates(many) == [internal_date(seconds) for seconds in many]
    time.tzset()
