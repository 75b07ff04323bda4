"""Maildirs on a real file system: layouts, links, permissions, deleting and renaming."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.errors import Code
from sharefs.flags import FlagChange, FlagOp
from sharefs.names import Layout, Naming
from sharefs.store.interface import Existence
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from tests.store.contract import HELLO, INBOX, SEEN, add, refusal, uids
from tests.support.become import Identity

ADD_SEEN = FlagChange(FlagOp.ADD, SEEN)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "Maildir"


def maildirpp(root: Path) -> MaildirStorage:
    return MaildirStorage(MaildirConfig(root))


def fs(root: Path) -> MaildirStorage:
    return MaildirStorage(MaildirConfig(root, naming=Naming(Layout.FS)))


def names(storage: MaildirStorage, existence: Existence = Existence.SELECTABLE) -> set[str]:
    return {"/".join(found.name) for found in storage.iterate() if found.existence is existence}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_bare_directory_is_filled_with_its_own_permissions(root: Path) -> None:
    """shared-mailboxes.txt, "Permissions For New Files in Mailboxes": .foo before cur, new, tmp."""
    storage = maildirpp(root)
    storage.create(INBOX)
    (root / ".foo").mkdir()
    (root / ".foo").chmod(0o715)
    assert storage.existence(("foo",)) is Existence.SELECTABLE
    with refusal(Code.ALREADY_EXISTS):
        storage.create(("foo",))
    with contextlib.closing(storage.open(("foo",))) as mailbox:
        add(mailbox, HELLO)
        assert len(uids(mailbox)) == 1
    assert {mode(root / ".foo" / folder) for folder in ("cur", "new", "tmp")} == {0o715}
    assert mode(root / ".foo" / "dovecot-uidlist") == 0o604
    storage.delete(("foo",))
    assert not (root / ".foo").exists()


# --- listing ---------------------------------------------------------------------------------


def test_strange_things_in_a_maildirpp_root(root: Path) -> None:
    storage = maildirpp(root)
    storage.create(INBOX)
    storage.create(("Work",))
    for file in (".sieve", "dovecot.index.log", ".dotfile", "subscriptions"):
        (root / file).touch()
    for directory in ("..trash", "plain", ".a..b", ".bad&name", ".", ".cache"):
        (root / directory).mkdir(exist_ok=True)
    (root / ".dangling").symlink_to("nowhere")
    (root / ".INBOX").mkdir()
    (root / ".INBOX" / "cur").mkdir()
    (root / ".linked").symlink_to(root / "plain")  # leads to no mailbox, so it is none
    assert names(storage) == {"INBOX", "Work", "cache"}
    assert names(storage, Existence.NO_SELECT) == {"linked"}


def test_strange_things_in_an_fs_root(root: Path) -> None:
    storage = fs(root)
    storage.create(INBOX)
    storage.create(("a", "b"))
    (root / "a" / "file").touch()
    (root / ".hidden").mkdir()
    (root / "a" / "loop").symlink_to("..")
    (root / "dovecot-keywords").mkdir()
    assert names(storage) == {"INBOX", "a/b", "a/loop"}
    assert "a" in names(storage, Existence.NO_SELECT)
    storage.create(("a",))
    assert "a" in names(storage)


def test_a_missing_root_lists_nothing(root: Path) -> None:
    assert list(maildirpp(root).iterate()) == []
    assert list(fs(root).iterate()) == []
    assert not root.exists()


def test_symlinked_mailboxes(root: Path, tmp_path: Path) -> None:
    other = maildirpp(tmp_path / "other")
    other.create(("Work",))
    with contextlib.closing(other.open(("Work",))) as work:
        add(work, HELLO)
    storage = maildirpp(root)
    storage.create(INBOX)
    (root / ".shared.work").symlink_to(tmp_path / "other" / ".Work")
    [found] = [found for found in storage.iterate() if found.name != INBOX]
    assert found.name == ("shared", "work")
    assert found.existence is Existence.SELECTABLE
    assert found.link_target == tmp_path / "other" / ".Work"
    with contextlib.closing(storage.open(found.name)) as mailbox:
        assert uids(mailbox) == [1]
        assert mailbox.read(1) == HELLO
    storage.rename(found.name, ("linked",))
    assert (root / ".linked").is_symlink()
    storage.delete(("linked",))
    assert names(storage) == {"INBOX"}
    assert names(other) == {"Work"}


def test_a_link_to_what_is_not_mounted(root: Path, tmp_path: Path) -> None:
    storage = maildirpp(root)
    storage.create(INBOX)
    (root / ".away").symlink_to(tmp_path / "unmounted")
    with refusal(Code.NONEXISTENT):
        storage.open(("away",))
    with refusal(Code.UNAVAILABLE):
        storage.create(("away",))
    assert not (tmp_path / "unmounted").exists()
    shutil.rmtree(root)
    root.symlink_to(tmp_path / "unmounted")
    with refusal(Code.UNAVAILABLE):
        storage.create(("a",))
    with refusal(Code.UNAVAILABLE):
        storage.open(INBOX)


def test_opening_the_inbox_makes_it_only_for_its_owner(root: Path) -> None:
    stranger = MaildirStorage(MaildirConfig(root, create_inbox=False))
    with refusal(Code.NONEXISTENT):
        stranger.open(INBOX)
    with refusal(Code.NONEXISTENT):
        maildirpp(root).open(INBOX, readonly=True)
    assert not root.exists()
    maildirpp(root).open(("inbox",)).close()
    assert names(stranger) == {"INBOX"}


def test_without_an_inbox_it_is_a_name_like_any_other(root: Path) -> None:
    storage = MaildirStorage(MaildirConfig(root, has_inbox=False))
    storage.create(("INBOX",))
    assert (root / ".INBOX" / "cur").is_dir()
    assert names(storage) == {"INBOX"}
    storage.delete(("INBOX",))
    assert names(storage) == set()


# --- what is made ----------------------------------------------------------------------------


def test_the_marker_of_subfolders(root: Path) -> None:
    storage = maildirpp(root)
    storage.create(INBOX)
    storage.create(("Work",))
    assert not (root / "maildirfolder").exists()
    assert (root / ".Work" / "maildirfolder").stat().st_size == 0
    tree = fs(root.with_name("fs"))
    tree.create(("Work",))
    assert not (root.with_name("fs") / "Work" / "maildirfolder").exists()


@pytest.mark.parametrize(
    ("root_mode", "work_mode", "source", "want_dir", "want_file"),
    [
        (0o715, 0o777, "root", 0o715, 0o604),
        (0o715, 0o777, "parent", 0o777, 0o666),
        (0o2770, 0o700, "root", 0o2770, 0o660),
    ],
)
def test_new_mailboxes_copy_permissions(
    root: Path, root_mode: int, work_mode: int, source: str, want_dir: int, want_file: int
) -> None:
    config = MaildirConfig(root, permissions_from="parent" if source == "parent" else "root")
    storage = MaildirStorage(config)
    storage.create(INBOX)
    storage.create(("Work",))
    root.chmod(root_mode)
    (root / ".Work").chmod(work_mode)
    storage.create(("Work", "Sub"))
    made = root / ".Work.Sub"
    for path in (made, made / "cur", made / "new", made / "tmp"):
        assert mode(path) == want_dir
    assert mode(made / "maildirfolder") == want_file
    with contextlib.closing(storage.open(("Work", "Sub"))) as mailbox:
        add(mailbox, HELLO)
        mailbox.sync()
        mailbox.store_flags([1], FlagChange(FlagOp.ADD, SEEN))
        add(mailbox, HELLO, flags=SEEN)
    for path in [*(made / "cur").iterdir(), *(made / "new").iterdir(), made / "dovecot-uidlist"]:
        assert mode(path) == want_file


@pytest.mark.parametrize(("work_mode", "linked"), [(0o700, True), (0o750, False)])
def test_links_only_between_alike_mailboxes(root: Path, work_mode: int, linked: bool) -> None:
    storage = maildirpp(root)
    storage.create(INBOX)
    storage.create(("Work",))
    root.chmod(0o700)
    (root / ".Work").chmod(work_mode)
    with (
        contextlib.closing(storage.open(INBOX)) as inbox,
        contextlib.closing(storage.open(("Work",))) as work,
    ):
        add(inbox, HELLO, date=77)
        inbox.sync()
        [copied] = work.copy_from(inbox, [1])
        assert copied.linked is linked
        [path] = (root / ".Work" / "new").iterdir()
        assert path.stat().st_nlink == 1 + linked
        assert path.stat().st_mtime == 77
        assert mode(path) == (0o600 if linked else 0o640)
        assert os.listdir(root / ".Work" / "tmp") == []
        [source] = (root / "new").iterdir()
        assert source.name == path.name  # the base is the GUID
        [moved] = work.move_from(inbox, [1])
        assert moved.linked is linked
        assert uids(inbox) == []
        assert uids(work) == [1, 2]


def test_rename_refuses_conflicting_permissions(root: Path) -> None:
    storage = maildirpp(root)
    storage.create(INBOX)
    storage.create(("Work",))
    storage.create(("Other",))
    (root / ".Other").chmod(0o755)
    with refusal(Code.CANNOT):
        storage.rename(("Other",), ("Work", "Other"))
    storage.rename(("Other",), ("Top",))  # to the top level it is not asked
    assert names(storage) == {"INBOX", "Work", "Top"}


def test_rename_is_refused_if_a_child_cannot_follow(root: Path) -> None:
    storage = maildirpp(root)
    storage.create(("a",))
    storage.create(("a", "x"))
    storage.create(("b", "x"))
    with refusal(Code.ALREADY_EXISTS):
        storage.rename(("a",), ("b",))
    storage.create(("long",))
    storage.create(("long", "c" * 240))
    with refusal(Code.CANNOT):
        storage.rename(("long",), ("l" * 40,))
    assert names(storage) == {"a", "a/x", "b/x", "long", "long/" + "c" * 240}


def test_deleting_keeps_children_in_the_fs_layout(root: Path, tmp_path: Path) -> None:
    storage = fs(root)
    storage.create(INBOX)
    storage.create(("a",))
    storage.create(("a", "b"))
    (tmp_path / "target" / "cur").mkdir(parents=True)
    (root / "a" / "link").symlink_to(tmp_path / "target")
    with contextlib.closing(storage.open(("a",))) as mailbox:
        add(mailbox, HELLO)
    storage.delete(("a",))
    assert sorted(os.listdir(root / "a")) == ["b", "link"]
    assert names(storage) == {"INBOX", "a/b", "a/link"}
    with refusal(Code.CANNOT):
        storage.delete(("a",))
    storage.delete(("a", "link"))
    storage.delete(("a", "b"))
    storage.delete(("a",))
    assert names(storage, Existence.NO_SELECT) == set()
    assert (tmp_path / "target" / "cur").is_dir()
    assert not [name for name in os.listdir(root) if "deleted" in name]


def test_what_a_crash_left_of_a_deleted_mailbox_is_swept(root: Path) -> None:
    storage = maildirpp(root)
    storage.create(INBOX)
    left = root / "..sharefs-deleted.1.M1P1.h"
    (left / "cur").mkdir(parents=True)
    assert names(storage) == {"INBOX"}
    storage.create(("a",))
    storage.delete(("a",))
    assert left.exists()  # it might be somebody's at work


def test_control_files_elsewhere(root: Path, tmp_path: Path) -> None:
    control = tmp_path / "control"
    storage = MaildirStorage(MaildirConfig(root, control=control))
    storage.create(("Work",))
    with contextlib.closing(storage.open(("Work",))) as mailbox:
        add(mailbox, HELLO)
        assert uids(mailbox) == [1]
        assert mailbox.watch_paths()[-1] == control / ".Work"
    assert (control / ".Work" / "dovecot-uidlist").exists()
    assert (control / "dovecot-uidvalidity").exists()
    assert not (root / ".Work" / "dovecot-uidlist").exists()
    storage.rename(("Work",), ("Play",))
    with contextlib.closing(storage.open(("Play",))) as mailbox:
        assert uids(mailbox) == [1]
    storage.delete(("Play",))
    assert not (control / ".Play").exists()


# --- several uids ----------------------------------------------------------------------------

ALICE, BOB, EVE = Identity(5001, 5001), Identity(5002, 5002, (6000,)), Identity(5003, 5003)
TEAM = 6000


@pytest.fixture
def shared() -> Iterator[Path]:
    """alice's Maildir, setgid to a group that bob is in; and a home for everybody."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become several users")
    base = Path(tempfile.mkdtemp(prefix="sharefs-shared-"))
    base.chmod(0o755)
    try:
        for identity in (ALICE, BOB, EVE):
            home = base / str(identity.uid)
            home.mkdir(mode=0o700)
            os.chown(home, identity.uid, identity.gid)
        root = base / "Maildir"
        root.mkdir()
        os.chown(root, ALICE.uid, TEAM)
        root.chmod(0o2770)
        ALICE.run(_fill, root)
        yield root
    finally:
        shutil.rmtree(base)


def _fill(root: Path) -> None:
    storage = maildirpp(root)
    storage.create(INBOX)
    storage.create(("Work",))
    with contextlib.closing(storage.open(("Work",))) as work:
        add(work, HELLO, HELLO)
        work.sync()


def _use(root: Path) -> tuple[list[int], bool]:
    """As any member of the group: read, flag, add, expunge."""
    with contextlib.closing(maildirpp(root).open(("Work",))) as work:
        before = uids(work)
        assert work.read(before[0]) == HELLO
        work.store_flags(before[:1], ADD_SEEN)
        [uid] = add(work, HELLO)
        work.sync()
        work.expunge([uid])
        return before, work.readonly


@pytest.mark.superuser
def test_a_group_shares_a_mailbox(shared: Path) -> None:
    assert BOB.run(_use, shared) == ([1, 2], False)
    assert ALICE.run(_use, shared) == ([1, 2], False)
    for path in (shared / ".Work").rglob("*"):
        assert path.stat().st_gid == TEAM
        assert mode(path) == (0o2770 if path.is_dir() else 0o660)


def _look_in(root: Path) -> tuple[set[str], str]:
    storage = maildirpp(root)
    try:
        storage.open(("Work",))
    except Exception as exc:
        return names(storage), str(exc)
    return names(storage), ""


@pytest.mark.superuser
def test_a_stranger_sees_nothing_and_the_log_says_why(shared: Path) -> None:
    assert EVE.run(_look_in, shared)[0] == set()
    shared.chmod(0o2775)
    found, why = EVE.run(_look_in, shared)
    assert found == {"INBOX"}
    assert why.startswith("unavailable: ")
    assert str(shared / ".Work") in why


def _read_only(root: Path, control: Path | None) -> tuple[bool, list[int], frozenset[int]]:
    storage = MaildirStorage(MaildirConfig(root, control=control, has_inbox=False))
    with contextlib.closing(storage.open(("Work",))) as work:
        found = uids(work)
        assert all(work.read(uid) == HELLO for uid in found)
        with refusal(Code.NO_PERMISSION):
            work.store_flags(found, ADD_SEEN)
        return work.readonly, found, work.recent(claim=True)


def _tree(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))


@pytest.mark.superuser
def test_who_may_only_read_changes_nothing(shared: Path) -> None:
    for path in [shared, *shared.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (shared / ".Work" / "new" / "9.late.h").write_bytes(b"Subject: hello\n\nworld\n")
    (shared / ".Work" / "new" / "9.late.h").chmod(0o644)
    before = _tree(shared)
    readonly, found, recent = EVE.run(_read_only, shared, None)
    assert readonly
    assert found == [1, 2]  # the new one has no number until somebody may write it down
    assert recent == {1, 2}
    control = shared.parent / str(EVE.uid) / "control"
    readonly, found, _ = EVE.run(_read_only, shared, control)
    assert readonly
    assert len(found) == 3  # with a control path of one's own there is a place for numbers
    assert (control / ".Work" / "dovecot-uidlist").stat().st_uid == EVE.uid
    assert mode(control / ".Work" / "dovecot-uidlist") == 0o600
    assert _tree(shared) == before


def test_one_write_of_a_journal_is_enough_for_the_list_and_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    def note(fd: int) -> None:
        flushed.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path / "Maildir"))

    with contextlib.closing(MaildirStorage(MaildirConfig(tmp_path / "Maildir")).open(INBOX)) as box:
        add(box, HELLO)  # makes the list
        monkeypatch.setattr(os, "fsync", note)
        monkeypatch.setattr(os, "fdatasync", note)
        add(box, HELLO)
    message, *rest = flushed
    assert message.startswith("tmp/")  # before it is seen
    assert rest == ["dovecot-uidlist", "new"]
