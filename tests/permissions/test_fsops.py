"""The hardened system calls, on a real file system."""

import errno
import os
import re
import stat
from pathlib import Path

import pytest

from sharefs import fsops
from sharefs.fsops import Entry, GroupRefused, Placed, pinning
from sharefs.permissions.inherit import DEFAULTS, Creation, GidReason
from tests.permissions.listing import make_owned, shown
from tests.support.become import Identity

BOB = Identity(5002, 5200, (6000,))
OPEN = Creation(0o666, 0o777, None, GidReason.GROUP_IS_OTHER, "/origin")
FOREIGN = Creation(0o640, 0o750, 7000, GidReason.COPIED, "/origin")
TEAM = Creation(0o640, 0o750, 6000, GidReason.COPIED, "/origin")


def test_created_files_have_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        os.close(fsops.create_file(tmp_path / "f", OPEN))
        fsops.make_dir(tmp_path / "d", OPEN)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o666
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o777


@pytest.mark.superuser
def test_the_umask_is_left_alone(open_tmp: Path) -> None:
    make_owned(open_tmp / "shared", 0o2777, 0, 7000)

    def run() -> tuple[int, str]:
        os.umask(0o027)
        fsops.make_dir(open_tmp / "shared/d", OPEN)
        return os.umask(0), shown(open_tmp / "shared/d")

    assert BOB.run(run) == (0o027, "drwxrwsrwx 5002:7000")


def test_nobody_sees_a_file_before_its_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = os.fchmod

    def watch(fd: int, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        real(fd, mode)

    monkeypatch.setattr(os, "fchmod", watch)
    monkeypatch.setattr(os, "fchown", lambda fd, uid, gid: None)
    old = os.umask(0)
    try:
        os.close(fsops.create_file(tmp_path / "f", TEAM))
        assert seen == [0o600]
        # With the kernel's group there is nothing to wait for: a lock is to be looked at, too.
        os.close(fsops.create_file(tmp_path / "lock", OPEN))
        assert seen == [0o600]
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == OPEN.file_mode


def test_descriptors_are_close_on_exec(tmp_path: Path) -> None:
    fd = fsops.create_file(tmp_path / "f", DEFAULTS)
    again = fsops.open_file(tmp_path / "f")
    folder = fsops.open_dir(tmp_path)
    try:
        assert not any(os.get_inheritable(each) for each in (fd, again, folder))
    finally:
        for each in (fd, again, folder):
            os.close(each)


def test_create_never_opens_what_exists(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("target", "link", "dangling"):
        with pytest.raises(FileExistsError):
            fsops.create_file(tmp_path / name, DEFAULTS)
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_symbolic_links_are_followed_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"x")
    (tmp_path / "ld").symlink_to("d")
    (tmp_path / "lf").symlink_to("d/f")
    with pytest.raises(NotADirectoryError):
        fsops.open_dir(tmp_path / "ld")
    with pytest.raises(OSError, match="symbolic links"):
        fsops.open_file(tmp_path / "lf")
    with fsops.directory(tmp_path / "ld", follow=True) as fd:
        assert fsops.read_file("f", dir_fd=fd) == b"x"
    assert fsops.read_file(tmp_path / "lf", follow=True) == b"x"


def test_a_fifo_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        fsops.open_file(tmp_path / "pipe")


def test_open_file_refuses_to_create(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="create_file"):
        fsops.open_file(tmp_path / "f", os.O_WRONLY | os.O_CREAT)


@pytest.mark.superuser
def test_refused_group_keeps_the_file_but_not_the_directory(
    open_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    top = make_owned(open_tmp / "m", 0o777, 0, 0)

    def run() -> list[str]:
        os.close(fsops.create_file(top / "f", FOREIGN))
        lines = [str(record.getMessage()) for record in caplog.records]
        for attempt in (
            lambda: fsops.make_dir(top / "d", FOREIGN),
            lambda: fsops.create_file(top / "g", FOREIGN, group_required=True),
        ):
            with pytest.raises(GroupRefused) as caught:
                attempt()
            error = caught.value
            assert (error.errno, error.gid, error.origin) == (errno.EPERM, 7000, "/origin")
            lines.append(str(error))
        return lines

    lines = BOB.run(run)
    assert len(lines) == 3
    for line in lines:
        assert "7000" in line
        assert "/origin" in line
        assert "egid 5200" in line
    assert os.listdir(top) == ["f"]
    assert shown(top / "f") == "-rw-r----- 5002:5200"


@pytest.mark.superuser
def test_supplementary_groups_can_be_given(open_tmp: Path) -> None:
    top = make_owned(open_tmp / "m", 0o2777, 0, 7000)

    def run() -> None:
        os.close(fsops.create_file(top / "f", TEAM))
        fsops.make_dir(top / "d", TEAM)

    BOB.run(run)
    assert shown(top / "f") == "-rw-r----- 5002:6000"
    # A chosen group drops the setgid bit that the parent handed down for another group.
    assert shown(top / "d") == "drwxr-x--- 5002:6000"


def test_make_dirs_leaves_existing_directories_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    fsops.make_dirs(tmp_path / "a/b/c", OPEN)
    fsops.make_dirs(tmp_path / "a/b/c", OPEN)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o777
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        fsops.make_dirs(tmp_path / "file", OPEN)


def test_link_shares_the_inode_and_copy_does_not(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"mail" * 1000)
    os.utime(source, ns=(1, 1_234_567_890_123_456_789))
    with fsops.directory(tmp_path) as fd:
        one = fsops.link_or_copy(Entry(fd, "source"), Entry(fd, "linked"), OPEN, alike=True)
        two = fsops.link_or_copy(Entry(fd, "source"), Entry(fd, "copied"), OPEN, alike=False)
    assert (one, two) == (Placed.LINKED, Placed.COPIED)
    assert (tmp_path / "linked").stat().st_ino == source.stat().st_ino
    copied = tmp_path / "copied"
    assert copied.stat().st_nlink == 1
    assert copied.read_bytes() == source.read_bytes()
    assert copied.stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert stat.S_IMODE(copied.stat().st_mode) == 0o666


@pytest.mark.parametrize("code", sorted(fsops.LINK_REFUSED), ids=lambda c: errno.errorcode[c])
def test_refused_links_become_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"mail")
    got = fsops.link_or_copy(
        Entry(None, tmp_path / "a"), Entry(None, tmp_path / "b"), OPEN, alike=True
    )
    assert got is Placed.COPIED
    assert (tmp_path / "b").read_bytes() == b"mail"


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC, errno.EIO, errno.EEXIST])
def test_other_link_failures_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"mail")
    with pytest.raises(OSError, match=re.escape(os.strerror(code))):
        fsops.link_or_copy(
            Entry(None, tmp_path / "a"), Entry(None, tmp_path / "b"), OPEN, alike=True
        )
    assert not (tmp_path / "b").exists()


def test_a_failed_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    (tmp_path / "a").write_bytes(b"mail")
    with pytest.raises(OSError, match="No space"):
        fsops.copy_file(Entry(None, tmp_path / "a"), Entry(None, tmp_path / "b"), OPEN)
    assert os.listdir(tmp_path) == ["a"]


def test_copy_without_copy_file_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "copy_file_range", absent)
    content = os.urandom(3 * fsops.COPY_CHUNK + 17)
    (tmp_path / "a").write_bytes(content)
    fsops.copy_file(Entry(None, tmp_path / "a"), Entry(None, tmp_path / "b"), OPEN)
    assert (tmp_path / "b").read_bytes() == content


@pytest.mark.superuser
def test_protected_hard_links_fall_back_to_copying(open_tmp: Path) -> None:
    top = make_owned(open_tmp / "m", 0o777, 0, 0)
    (top / "a").write_bytes(b"mail")
    (top / "a").chmod(0o644)  # readable, but neither bob's nor writable for him
    got = BOB.run(
        lambda: fsops.link_or_copy(Entry(None, top / "a"), Entry(None, top / "b"), OPEN, alike=True)
    )
    assert got is Placed.COPIED


def test_rename_new_replaces_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        (tmp_path / f"{name}.d").mkdir()
    with fsops.directory(tmp_path) as fd:
        with pytest.raises(FileExistsError):
            fsops.rename_new(Entry(fd, "a"), Entry(fd, "b"))
        with pytest.raises(FileExistsError):
            fsops.rename_new(Entry(fd, "a.d"), Entry(fd, "b.d"))
        with pytest.raises(FileNotFoundError):
            fsops.rename_new(Entry(fd, "none"), Entry(fd, "c"))
        fsops.rename_new(Entry(fd, "a"), Entry(fd, "c"))
    assert sorted(os.listdir(tmp_path)) == ["a.d", "b", "b.d", "c"]
    assert (tmp_path / "b").read_text() == "b"


def test_replace_file_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    fsops.replace_file(path, b"one", OPEN)
    with fsops.directory(tmp_path) as fd:
        fsops.replace_file("f", b"two", DEFAULTS, dir_fd=fd)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        fsops.replace_file(path, b"three", OPEN)
    assert os.listdir(tmp_path) == ["f"]
    assert path.read_bytes() == b"two"


def test_remove_tree_never_follows_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/f").touch()
    (tree / "a/link").symlink_to(outside)
    (tree / "dangling").symlink_to("nowhere")
    fsops.remove_tree(tree)
    assert not tree.exists()
    assert (outside / "precious").exists()
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        fsops.remove_tree(tmp_path / "link")
    assert (outside / "precious").exists()


def test_remove_tree_removes_deep_trees(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    deep = tree
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "f").touch()
    fsops.remove_tree(tree)
    assert not tree.exists()


@pytest.mark.superuser
def test_remove_tree_reports_what_it_may_not_remove(open_tmp: Path) -> None:
    tree = make_owned(open_tmp / "tree", 0o777, 0, 0)
    kept = make_owned(tree / "kept", 0o755, 0, 0)
    (kept / "f").touch()
    with pytest.raises(PermissionError):
        BOB.run(fsops.remove_tree, tree)
    assert (kept / "f").exists()


def test_unlink_and_exists(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    assert fsops.exists(tmp_path / "dangling")
    assert fsops.unlink(tmp_path / "dangling")
    assert not fsops.exists(tmp_path / "dangling")
    assert not fsops.unlink(tmp_path / "dangling", missing_ok=True)
    with pytest.raises(FileNotFoundError):
        fsops.unlink(tmp_path / "dangling")


def test_change_permissions_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "f").touch(mode=0o600)
    (tmp_path / "l").symlink_to("f")
    fsops.change_permissions(tmp_path / "f", mode=0o640)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640
    with pytest.raises(OSError, match="symbolic links"):
        fsops.change_permissions(tmp_path / "l", mode=0o666)


# --- pin -------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False], ids=["openat2", "step by step"])
def test_pin_follows_no_link_in_any_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(pinning, "_pin_at_once", lambda path: None)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    (tmp_path / "link").symlink_to(folder)
    (folder / "last").symlink_to("file")
    handle = fsops.pin(folder / "file")
    try:
        assert os.path.samestat(os.fstat(handle), os.stat(folder / "file"))
        os.rename(folder / "file", folder / "moved")
        fsops.set_mode(handle, 0o640)
        assert (folder / "moved").stat().st_mode & 0o777 == 0o640
    finally:
        os.close(handle)
    for path, code in (
        (tmp_path / "link" / "moved", {errno.ELOOP, errno.ENOTDIR}),
        (folder / "last", {errno.ELOOP}),
        (folder / "gone", {errno.ENOENT}),
        (folder / "moved" / "x", {errno.ENOTDIR}),
    ):
        with pytest.raises(OSError, match=str(path)) as caught:
            fsops.pin(path)
        assert caught.value.errno in code
    for bad in ("relative", "/a/../b", "/a/./b"):
        with pytest.raises(ValueError, match=r"component|absolute"):
            fsops.pin(bad)
