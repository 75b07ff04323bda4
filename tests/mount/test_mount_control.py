"""Control files, rights as attributes, mailboxes that programs make: the view under real uids."""

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import xattr

from sharefs.dotlock import DotLock
from tests.account.world import UIDS, World
from tests.mount.test_mount_rights import make_box
from tests.mount.worlds import make_inboxes, users_at_home, view_of
from tests.support.become import Identity
from tests.support.mount import Mount

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

ALICE: Final = Identity(UIDS["alice"], UIDS["alice"])
BOB: Final = Identity(UIDS["bob"], UIDS["bob"])
UIDLIST: Final = "3 V1700000000 N3 G0123456789abcdef0123456789abcdef\n1 :1000.M1P1.host\n"


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[World, Mount]]:
    with users_at_home() as world:
        make_inboxes(world)
        with view_of(world) as mount:
            yield world, mount


def outcome(action: Callable[[], Any]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def replace(path: Path, content: str) -> None:
    """As every careful program does it: a lock file that becomes the file."""
    lock = path.with_name(path.name + ".lock")
    fd = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.write(fd, content.encode())
    os.close(fd)
    os.rename(lock, path)


def shared(place: tuple[World, Mount], name: str, rights: str) -> tuple[Path, Path]:
    """A mailbox of alice's with a uidlist and keywords: below, and as bob sees it."""
    world, mount = place
    box = make_box(world, name, rights)
    (box / "dovecot-uidlist").write_text(UIDLIST)
    (box / "dovecot-keywords").write_text("0 todo\n1 done\n")
    for control in ("dovecot-uidlist", "dovecot-keywords"):
        os.chown(box / control, ALICE.uid, ALICE.gid)
        (box / control).chmod(0o600)
    return box, mount.top / "bob" / f".shared.alice.{name}"


def test_writing_goes_to_a_copy_of_the_viewers_own(place: tuple[World, Mount]) -> None:
    box, seen = shared(place, "Copies", "lr")
    assert BOB.run((seen / "dovecot-uidlist").read_text) == UIDLIST
    BOB.run(replace, seen / "dovecot-uidlist", "3 V1 N9\n")
    BOB.run((seen / "dovecot.index.log").write_text, "log")
    with_appended = BOB.run(append_to, seen / "dovecot-uidlist", "more\n")
    assert with_appended == "3 V1 N9\nmore\n"
    assert {"dovecot-uidlist", "dovecot.index.log"} <= set(BOB.run(os.listdir, seen))
    assert (box / "dovecot-uidlist").read_text() == UIDLIST
    assert not (box / "dovecot.index.log").exists()
    own = place[1].top / "alice" / ".Copies"
    assert ALICE.run((own / "dovecot-uidlist").read_text) == UIDLIST
    BOB.run(os.unlink, seen / "dovecot-uidlist")
    assert outcome(lambda: BOB.run(os.unlink, seen / "dovecot-uidlist")) == "EACCES"
    assert (box / "dovecot-uidlist").read_text() == UIDLIST


def append_to(path: Path, text: str) -> str:
    with path.open("a") as file:
        file.write(text)
    return path.read_text()


def test_an_open_for_writing_copies_first(place: tuple[World, Mount]) -> None:
    box, seen = shared(place, "CopyUp", "lr")
    assert BOB.run(append_to, seen / "dovecot-uidlist", "more\n") == UIDLIST + "more\n"
    assert (box / "dovecot-uidlist").read_text() == UIDLIST
    BOB.run(os.truncate, seen / "dovecot-uidlist", 2)
    assert BOB.run((seen / "dovecot-uidlist").read_text) == UIDLIST[:2]


def test_keyword_names_stay_common(place: tuple[World, Mount]) -> None:
    box, seen = shared(place, "Keywords", "lrw")
    keywords = seen / "dovecot-keywords"
    assert outcome(lambda: BOB.run(keywords.write_text, "0 other\n")) == "EACCES"
    assert outcome(lambda: BOB.run(os.unlink, keywords)) == "EACCES"
    assert outcome(lambda: BOB.run(replace, keywords, "0 other\n1 done\n")) == "EACCES"
    BOB.run(os.unlink, seen / "dovecot-keywords.lock")
    assert outcome(lambda: BOB.run(replace, keywords, "nonsense")) == "EINVAL"
    BOB.run(os.unlink, seen / "dovecot-keywords.lock")
    assert (box / "dovecot-keywords").read_text() == "0 todo\n1 done\n"
    BOB.run(replace, keywords, "0 todo\n1 done\n2 new\n")
    assert (box / "dovecot-keywords").read_text() == "0 todo\n1 done\n2 new\n"
    assert (box / "dovecot-keywords").stat().st_uid == ALICE.uid
    assert not (box / "dovecot-keywords.lock").exists()


def test_keyword_names_need_the_right_to_write(place: tuple[World, Mount]) -> None:
    _, seen = shared(place, "KeywordsRead", "lrst")
    want = "0 todo\n1 done\n2 new\n"
    assert outcome(lambda: BOB.run(replace, seen / "dovecot-keywords", want)) == "EACCES"


def test_ones_own_control_files_are_ones_own(place: tuple[World, Mount]) -> None:
    box, _ = shared(place, "Mine", "lr")
    own = place[1].top / "alice" / ".Mine"
    ALICE.run(replace, own / "dovecot-uidlist", "3 V1 N9\n")
    ALICE.run(os.link, own / "dovecot-uidlist", own / ".temp.dotlock")
    ALICE.run(os.unlink, own / ".temp.dotlock")
    ALICE.run((place[1].top / "alice" / "subscriptions").write_text, "V\t2\n\nOwn\n")
    assert (box / "dovecot-uidlist").read_text() == "3 V1 N9\n"
    assert place[0].maildir("alice", "subscriptions").read_text() == "V\t2\n\nOwn\n"


# --- rights as extended attributes ------------------------------------------------------------


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.sharefs.{name}").decode()


def test_rights_can_be_read(place: tuple[World, Mount]) -> None:
    _, seen = shared(place, "Attributes", "lrs")
    assert BOB.run(attribute, seen, "myrights") == "lrs"
    assert BOB.run(attribute, seen, "owner") == "alice"
    assert "bob" in BOB.run(attribute, seen, "explain")
    assert BOB.run(os.listxattr, seen) == [
        "user.sharefs.myrights", "user.sharefs.owner", "user.sharefs.explain",
    ]  # fmt: skip
    own = place[1].top / "alice" / ".Attributes"
    assert ALICE.run(attribute, own, "acl") == "user=bob lrs\n"
    assert ALICE.run(attribute, own, "acl.user=bob") == "lrs"
    assert "user.sharefs.acl.user=bob" in ALICE.run(os.listxattr, own)


def test_rights_can_be_set_and_the_map_follows(place: tuple[World, Mount]) -> None:
    world, mount = place
    box = make_box(world, "Settable", "")
    own = mount.top / "alice" / ".Settable"
    name = "user.sharefs.acl.user=bob"
    ALICE.run(os.setxattr, own, name, b"lr\n")
    assert (box / "dovecot-acl").read_text() == "user=bob lr\n"
    assert (box / "dovecot-acl").stat().st_uid == ALICE.uid
    assert "user/bob/alice" in world.map_path.read_text()
    time.sleep(0.4)
    assert ".shared.alice.Settable" in BOB.run(os.listdir, mount.top / "bob")
    for bad in (b"lrz", b"\xff", b"lr wide"):
        assert outcome(lambda: ALICE.run(os.setxattr, own, name, bad)) == "EINVAL"  # noqa: B023
    bogus = "user.sharefs.acl.onwer"
    assert outcome(lambda: ALICE.run(os.setxattr, own, bogus, b"lr")) == "EINVAL"
    assert (box / "dovecot-acl").read_text() == "user=bob lr\n"
    ALICE.run(os.removexattr, own, name)
    assert (box / "dovecot-acl").read_text() == ""
    assert outcome(lambda: ALICE.run(os.removexattr, own, name)) == "ENODATA"


def test_the_acl_file_counts_when_it_is_closed_and_parses(place: tuple[World, Mount]) -> None:
    world, mount = place
    box = make_box(world, "File", "lr")
    file = mount.top / "alice" / ".File" / "dovecot-acl"
    assert ALICE.run(file.read_text) == "user=bob lr\n"
    ALICE.run(file.write_text, "user=bob lrs\n")
    assert (box / "dovecot-acl").read_text() == "user=bob lrs\n"
    assert outcome(lambda: ALICE.run(file.write_text, "user=bob lrz\n")) == "EINVAL"
    assert (box / "dovecot-acl").read_text() == "user=bob lrs\n"
    ALICE.run(replace, file, "user=bob lrw\n")
    assert (box / "dovecot-acl").read_text() == "user=bob lrw\n"
    assert outcome(lambda: ALICE.run(replace, file, "garbage!\n")) == "EINVAL"
    assert (box / "dovecot-acl").read_text() == "user=bob lrw\n"
    ALICE.run(os.unlink, file.with_name("dovecot-acl.lock"))
    (box / "dovecot-acl").unlink()
    time.sleep(1.1)
    ALICE.run(file.write_text, "user=bob l\n")
    assert (box / "dovecot-acl").read_text() == "user=bob l\n"


def test_who_holds_the_lock_of_the_acl_file_may_replace_it(place: tuple[World, Mount]) -> None:
    """He keeps it until after, so the daemon must not wait for it."""
    world, mount = place
    box = make_box(world, "Locked", "lr")
    file = mount.top / "alice" / ".Locked" / "dovecot-acl"

    def change() -> None:
        with DotLock(file, timeout=0, stale=0) as lock:
            lock.replace(b"user=bob lrs\n")

    def change_in_a_thread() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(change).result()

    ALICE.run(change_in_a_thread)
    assert (box / "dovecot-acl").read_text() == "user=bob lrs\n"
    assert {path.name for path in box.iterdir() if "lock" in path.name} == set()


# --- mailboxes ---------------------------------------------------------------------------------


def maildirmake(path: Path) -> None:
    for directory in (path, path / "tmp", path / "new", path / "cur"):
        directory.mkdir(0o700)


def test_mailboxes_are_made_renamed_and_removed(place: tuple[World, Mount]) -> None:
    world, mount = place
    home = mount.top / "alice"
    ALICE.run(maildirmake, home / ".Made")
    assert world.maildir("alice", ".Made", "cur").stat().st_uid == ALICE.uid
    ALICE.run(os.rename, home / ".Made", home / ".Renamed")
    assert world.maildir("alice", ".Renamed", "cur").is_dir()
    assert ".Renamed" in ALICE.run(os.listdir, home)
    for name in ("cur", "new"):
        ALICE.run(os.rmdir, home / ".Renamed" / name)
    assert outcome(lambda: ALICE.run(os.rmdir, home / ".Renamed")) == "ENOTEMPTY"
    ALICE.run(os.rmdir, home / ".Renamed" / "tmp")
    ALICE.run(os.rmdir, home / ".Renamed")
    assert not world.maildir("alice", ".Renamed").exists()


def test_a_new_mailbox_takes_its_parents_acl_and_owner(place: tuple[World, Mount]) -> None:
    world, mount = place
    make_box(world, "Team", "lrik")
    home = mount.top / "bob"
    BOB.run(maildirmake, home / ".shared.alice.Team.Sub")
    made = world.maildir("alice", ".Team.Sub")
    assert (made / "dovecot-acl").read_text() == "user=bob lrik\n".replace("lrik", "kilr")
    assert made.stat().st_uid == ALICE.uid  # mode 0700: else alice could not enter it
    assert outcome(lambda: BOB.run(os.mkdir, home / ".shared.alice.Nowhere")) == "EACCES"
    assert outcome(lambda: BOB.run(os.rmdir, home / ".shared.alice.Team.Sub")) == "EACCES"
    assert outcome(lambda: BOB.run(os.mkdir, home / "plain")) == "EPERM"
    assert outcome(lambda: BOB.run(os.mkdir, mount.top / "bob2")) == "EPERM"


def test_cutting_an_acl_short_is_changing_it(place: tuple[World, Mount]) -> None:
    """By ftruncate(2) and by unlink(2): what parses counts, and the map follows."""
    world, mount = place
    box = make_box(world, "Cut", "lr")
    file = mount.top / "alice" / ".Cut" / "dovecot-acl"
    ALICE.run(file.write_text, "user=bob lr\nuser=carol lr\n")
    assert "user/carol/alice" in world.map_path.read_text()
    assert outcome(lambda: ALICE.run(os.truncate, file, 14)) == "EPERM"

    def cut(size: int) -> None:
        fd = os.open(file, os.O_WRONLY)
        os.ftruncate(fd, size)
        os.close(fd)

    assert outcome(lambda: ALICE.run(cut, 14)) == "EINVAL"
    assert (box / "dovecot-acl").read_text() == "user=bob lr\nuser=carol lr\n"
    ALICE.run(cut, 12)
    assert (box / "dovecot-acl").read_text() == "user=bob lr\n"
    assert "user/carol/alice" not in world.map_path.read_text()

    def rewrite() -> str:
        fd = os.open(file, os.O_RDWR)
        try:
            assert os.read(fd, 100) == b"user=bob lr\n"
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"user=dave l\n", 0)
            return os.pread(fd, 100, 0).decode()
        finally:
            os.close(fd)

    assert ALICE.run(rewrite) == "user=dave l\n"
    assert (box / "dovecot-acl").read_text() == "user=dave l\n"
    assert "user/dave/alice" in world.map_path.read_text()
    ALICE.run(os.unlink, file)
    assert not (box / "dovecot-acl").exists()
    assert "user/dave/alice" not in world.map_path.read_text()


def as_alice(*words: str | Path) -> subprocess.CompletedProcess[str]:
    ids = ["--reuid", str(ALICE.uid), "--regid", str(ALICE.gid), "--clear-groups"]
    return subprocess.run(
        ["setpriv", *ids, *map(str, words)],
        capture_output=True, text=True, check=False, timeout=30, cwd="/",
    )  # fmt: skip


def test_rights_by_the_commands_for_attributes(place: tuple[World, Mount]) -> None:
    """getfattr(1) and setfattr(1): a dump can be put back as it is."""
    box, _ = shared(place, "Commands", "lr")
    own = place[1].top / "alice" / ".Commands"
    assert as_alice("setfattr", "-n", "user.sharefs.acl.group=ops", "-v", "l", own).returncode == 0
    assert as_alice("setfattr", "-n", "user.sharefs.acl.-user=dave", "-v", "l", own).returncode == 0
    dump = as_alice("getfattr", "-d", "-m", "user.sharefs.acl", own).stdout.replace("\\075", "=")
    for line in ('acl.user=bob="lr"', 'acl.group=ops="l"', 'acl.-user=dave="l"'):
        assert f"user.sharefs.{line}" in dump, dump
    text = (box / "dovecot-acl").read_text()
    assert as_alice("setfattr", "-x", "user.sharefs.acl.user=bob", own).returncode == 0
    assert "user=bob" not in (box / "dovecot-acl").read_text()
    whole = as_alice("setfattr", "-n", "user.sharefs.acl", "-v", text, own)
    assert (whole.returncode, (box / "dovecot-acl").read_text()) == (0, text)
    for name, value in (
        ("acl", "user=bob lrz\n"),
        ("acl.user=bob", "lr?"),
        ("acl.nobody", "l"),
        ("acl.anyone", "l"),
    ):
        bad = as_alice("setfattr", "-n", f"user.sharefs.{name}", "-v", value, own)
        assert "Invalid argument" in bad.stderr, name
    for name in ("myrights", "owner", "explain", "other"):
        bad = as_alice("setfattr", "-n", f"user.sharefs.{name}", "-v", "x", own)
        assert "Operation not permitted" in bad.stderr, name
    assert (box / "dovecot-acl").read_text() == text
    missing = as_alice("getfattr", "-n", "user.sharefs.acl.user=carol", own)
    assert "No such attribute" in missing.stderr
    why = as_alice("getfattr", "--only-values", "-n", "user.sharefs.explain", own).stdout
    assert "alice has the rights: lookup" in why


def test_rights_by_pyxattr(place: tuple[World, Mount]) -> None:
    box, seen = shared(place, "Pyxattr", "lrs")
    own = place[1].top / "alice" / ".Pyxattr"

    def use() -> list[tuple[bytes, bytes]]:
        xattr.set(own, "sharefs.acl.user=carol", b"lr", namespace=xattr.NS_USER)
        with contextlib.suppress(OSError):
            xattr.set(own, "user.sharefs.acl.user=carol", b"bad value")
        xattr.set(own, "user.sharefs.acl.user=dave", b"l", xattr.XATTR_CREATE)
        xattr.remove(own, "user.sharefs.acl.user=dave")
        return list(xattr.get_all(own))

    found = dict(ALICE.run(use))
    assert found[b"user.sharefs.acl.user=carol"] == b"lr"
    assert found[b"user.sharefs.acl"] == (box / "dovecot-acl").read_bytes()
    assert found[b"user.sharefs.owner"] == b"alice"
    assert (
        b"user=bob gives lrs"
        in dict(BOB.run(lambda: list(xattr.get_all(seen))))[b"user.sharefs.explain"]
    )
    assert BOB.run(outcome, lambda: xattr.set(seen, "user.sharefs.acl", b"")) == "EACCES"
