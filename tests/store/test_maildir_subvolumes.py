"""Mailboxes that are Btrfs subvolumes: what is one rename(2) elsewhere is EXDEV between them."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.names import Layout, Naming
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from tests.store.contract import HELLO, INBOX, add, uids
from tests.support.file_systems import loop_mounted, subvolume

pytestmark = [pytest.mark.superuser, pytest.mark.slow]


@pytest.fixture(scope="module")
def btrfs() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="sharefs-subvolumes-"))
    try:
        with loop_mounted("btrfs", top) as point:
            yield point
    finally:
        shutil.rmtree(top)


def become_subvolume(path: Path) -> None:
    before = path.rename(path.with_name("..before"))
    shutil.copytree(before, subvolume(path), dirs_exist_ok=True)
    shutil.rmtree(before)


@pytest.mark.parametrize("layout", Layout)
def test_a_mailbox_that_is_a_subvolume(btrfs: Path, layout: Layout) -> None:
    root = btrfs / layout.name
    storage = MaildirStorage(MaildirConfig(root, naming=Naming(layout)))
    storage.create(INBOX)
    storage.create(("Work",))
    become_subvolume(root / (".Work" if layout is Layout.MAILDIRPP else "Work"))
    storage.create(("Work", "Sub"))
    with (
        contextlib.closing(storage.open(INBOX)) as inbox,
        contextlib.closing(storage.open(("Work",))) as work,
    ):
        add(inbox, HELLO)
        inbox.sync()
        [copied] = work.copy_from(inbox, [1])
        assert not copied.linked
        work.move_from(inbox, [1])
        assert (uids(inbox), uids(work)) == ([], [1, 2])
    storage.rename(("Work",), ("Done",))
    with contextlib.closing(storage.open(("Done",))) as done:
        assert uids(done) == [1, 2]
    storage.delete(("Done",))
    storage.delete(("Done", "Sub"))
    left = {"/".join(found.name) for found in storage.iterate()}
    assert left - {"Done"} == {"INBOX"}
    assert not [name for name in os.listdir(root) if "deleted" in name]
