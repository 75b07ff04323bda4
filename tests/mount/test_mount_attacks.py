"""A hostile user with a shell on both sides of the mount gains nothing and stops nobody."""

import contextlib
import ctypes
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sharefs.account import Account
from sharefs.acl import Mode
from sharefs.identifiers import user
from sharefs.mount.log_limit import LINES
from sharefs.rights import Rights
from tests.account.world import UIDS, World
from tests.mount.test_mount_control import outcome
from tests.mount.test_mount_rights import make_box
from tests.mount.worlds import viewed
from tests.support.become import Identity, start_as
from tests.support.mount import Mount, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

TEAM: Final = 61500
ALICE: Final = Identity(UIDS["alice"], UIDS["alice"], (TEAM,))
BOB: Final = Identity(UIDS["bob"], UIDS["bob"], (TEAM,))
SECRET: Final = b"the superuser's secret"
RACE: Final = 1.5  # seconds that an attacker is given
RENAME_EXCHANGE: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def tree(open_tmp: Path) -> Iterator[tuple[Path, Mount]]:
    """A mirror in which the team may write, and a secret outside of it."""
    source = open_tmp / "source"
    source.mkdir()
    os.chown(source, 0, TEAM)
    source.chmod(0o2775)
    (open_tmp / "secret").write_bytes(SECRET)
    (open_tmp / "secret").chmod(0o600)
    with mounted(open_tmp, ["--mirror", source]) as mount:
        yield source, mount


@contextlib.contextmanager
def attacker(identity: Identity, action: Callable[[], None]) -> Iterator[None]:
    """Repeats action as identity for the length of the block."""

    def forever() -> None:
        signal.alarm(60)
        while True:
            with contextlib.suppress(OSError):
                action()

    with start_as(identity.uid, identity.gid, identity.groups, forever):
        yield


def exchange(one: Path, other: Path) -> None:
    if _libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


# --- the mirror --------------------------------------------------------------------------------


def test_swapping_a_directory_for_a_link_leads_nowhere(tree: tuple[Path, Mount]) -> None:
    """bob swaps below, under the daemon's hands, a directory and a link to a closed one."""
    source, mount = tree
    closed = source.parent / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_bytes(SECRET)
    BOB.run(os.mkdir, source / "dir")
    BOB.run((source / "dir" / "file").write_bytes, b"bob's own")
    BOB.run(os.symlink, closed, source / "link")
    seen: set[bytes] = set()
    with attacker(BOB, lambda: exchange(source / "dir", source / "link")):
        deadline = time.monotonic() + RACE
        while time.monotonic() < deadline:
            BOB.run(use_directory, mount.top / "dir", seen)
    assert os.listdir(closed) == ["file"]
    assert (closed / "file").read_bytes() == SECRET
    assert (closed / "file").stat().st_uid == 0


def use_directory(path: Path, seen: set[bytes]) -> None:
    for _ in range(20):
        with contextlib.suppress(OSError):
            assert (path / "file").read_bytes() != SECRET
        with contextlib.suppress(OSError):
            (path / "planted").write_bytes(b"x")
        with contextlib.suppress(OSError):
            os.rename(path / "planted", path / "file")
        with contextlib.suppress(OSError):
            os.mkdir(path / "made")
        with contextlib.suppress(OSError):
            os.chmod(path / "file", 0o666)


def test_swapping_a_file_for_a_link_or_pipe_leads_nowhere(tree: tuple[Path, Mount]) -> None:
    source, mount = tree
    BOB.run((source / "file").write_bytes, b"bob's own")
    BOB.run(os.symlink, source.parent / "secret", source / "link")
    BOB.run(os.mkfifo, source / "pipe")

    def swap() -> None:
        exchange(source / "file", source / "link")
        exchange(source / "file", source / "pipe")

    def use() -> None:
        deadline = time.monotonic() + RACE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                fd = os.open(mount.top / "file", os.O_RDWR | os.O_NONBLOCK)
                try:
                    assert SECRET not in os.read(fd, 100)
                    os.write(fd, b"overwritten")
                    os.truncate(mount.top / "file", 1)
                    os.chmod(mount.top / "file", 0o666)
                finally:
                    os.close(fd)

    with attacker(BOB, swap):
        BOB.run(use)
    secret = source.parent / "secret"
    assert secret.read_bytes() == SECRET
    assert secret.stat().st_mode & 0o777 == 0o600
    assert os.statvfs(mount.top).f_namemax == 255  # and the daemon answers


def test_a_rename_between_mailboxes_discloses_nothing(tree: tuple[Path, Mount]) -> None:
    """bob may move alice's closed file, since the directory is the team's, but not read it."""
    source, mount = tree
    for name, uid, gid, mode in (("a", ALICE.uid, TEAM, 0o2770), ("b", BOB.uid, BOB.gid, 0o700)):
        (source / name).mkdir()
        os.chown(source / name, uid, gid)
        (source / name).chmod(mode)
    closed = source / "a" / "closed"
    closed.write_bytes(SECRET)
    os.chown(closed, ALICE.uid, ALICE.gid)
    closed.chmod(0o600)
    assert outcome(lambda: BOB.run(os.link, mount.top / "a/closed", mount.top / "b/l")) != "done"
    BOB.run(os.rename, mount.top / "a" / "closed", mount.top / "b" / "mine")
    status = (source / "b" / "mine").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (ALICE.uid, 0o600)
    assert outcome(lambda: BOB.run((mount.top / "b" / "mine").read_bytes)) == "EACCES"


def test_deep_trees_and_odd_names(tree: tuple[Path, Mount]) -> None:
    source, mount = tree

    def dig() -> int:
        os.chdir(mount.top)
        for _ in range(600):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        Path("bottom").write_text("x")
        for name in (b"new\nline", b"\xff\xfe", b" ", b"\\040", b"a" * 255, b"-rf", "ü".encode()):
            Path(os.fsdecode(name)).write_bytes(name)
            assert Path(os.fsdecode(name)).read_bytes() == name
        assert outcome(lambda: Path("a" * 256).write_text("x")) == "ENAMETOOLONG"
        return len(os.listdir("."))

    assert BOB.run(dig) == 8
    assert os.statvfs(mount.top).f_namemax == 255
    assert "Traceback" not in mount.log()
    del source


def test_one_user_cannot_have_all_handles(open_tmp: Path) -> None:
    source = open_tmp / "source"
    source.mkdir()
    source.chmod(0o777)
    (source / "file").write_text("x")
    limits = "ulimit -n 256; exec "
    with mounted(open_tmp, ["--mirror", source], shell=limits) as mount:

        def hoard() -> str:
            held: list[int] = []
            try:
                while len(held) < 1000:
                    held.append(os.open(mount.top / "file", os.O_RDONLY))
            except OSError as error:
                return f"{errno.errorcode[error.errno or 0]} after {len(held)}"
            return "never"

        def hoard_and_wait(writer: int) -> None:
            held: list[int] = []
            with contextlib.suppress(OSError):
                while len(held) < 1000:
                    held.append(os.open(mount.top / "file", os.O_RDONLY))
            os.write(writer, b"x")
            time.sleep(30)

        assert BOB.run(hoard) == "EMFILE after 32"
        reader, writer = os.pipe()
        with start_as(BOB.uid, BOB.gid, (), lambda: hoard_and_wait(writer)):
            os.read(reader, 1)
            assert ALICE.run((mount.top / "file").read_text) == "x"
        os.close(reader)
        os.close(writer)


def test_special_files_are_what_they_were(tree: tuple[Path, Mount]) -> None:
    source, mount = tree

    def use() -> str:
        os.chdir(mount.top)
        os.mkfifo("pipe")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("socket")
        return outcome(lambda: os.mknod("device", 0o060600, os.makedev(8, 0)))

    assert BOB.run(use) == "EPERM"
    assert (source / "pipe").is_fifo()
    assert (source / "socket").is_socket()
    assert (source / "pipe").stat().st_uid == BOB.uid


def test_setuid_goes_when_somebody_writes(tree: tuple[Path, Mount]) -> None:
    source, mount = tree
    program = mount.top / "program"
    ALICE.run(program.write_bytes, b"x")
    ALICE.run(os.chmod, program, 0o6775)
    assert (source / "program").stat().st_mode & 0o7777 == 0o6775
    BOB.run(program.write_bytes, b"evil")
    assert (source / "program").stat().st_mode & 0o7777 == 0o775


# --- dotlocks through links ----------------------------------------------------------------------


def lock_by_link(path: Path) -> int:
    """As programs lock over NFS.  Returns the link count that tells whether it worked."""
    temp = path.with_name(f"{path.name}.{os.getpid()}")
    temp.write_text("")
    os.link(temp, path.with_name(path.name + ".lock"))
    count = temp.stat().st_nlink
    temp.unlink()
    return count


def test_locks_beside_a_link_are_locks_beside_the_file(tree: tuple[Path, Mount]) -> None:
    source, mount = tree
    for name in ("one", "two"):
        (source / name).mkdir()
        os.chown(source / name, 0, TEAM)
        (source / name).chmod(0o2770)
    ALICE.run((mount.top / "one" / "mbox").write_text, "From x\n")
    BOB.run(os.symlink, "../one/mbox", mount.top / "two" / "linked")
    BOB.run(os.symlink, mount.top / "one" / "mbox", mount.top / "two" / "absolute")
    for name in ("linked", "absolute"):
        lock = mount.top / "two" / f"{name}.lock"
        BOB.run(lock.touch, 0o600, False)
        assert (source / "one" / "mbox.lock").exists()
        assert not (source / "two" / f"{name}.lock").exists()
        assert outcome(lambda: ALICE.run((mount.top / "one/mbox.lock").touch, 0o600, False)) == (
            "EEXIST"
        )
        BOB.run(os.unlink, lock)
        assert not (source / "one" / "mbox.lock").exists()
        assert BOB.run(lock_by_link, mount.top / "two" / name) == 2
        assert (source / "one" / "mbox.lock").exists()
        BOB.run(os.unlink, lock)
    assert sorted(os.listdir(source / "one")) == ["mbox"]


def test_a_link_gives_no_way_into_a_closed_directory(tree: tuple[Path, Mount]) -> None:
    source, mount = tree
    (source / "closed").mkdir(mode=0o755)
    (source / "closed" / "mbox").write_text("")
    outside = source.parent / "outside"
    outside.mkdir(mode=0o777)
    BOB.run(os.symlink, "closed/mbox", mount.top / "a")
    BOB.run(os.symlink, "../outside/mbox", mount.top / "b")
    BOB.run(os.symlink, str(outside / "mbox"), mount.top / "c")
    BOB.run(os.symlink, "c", mount.top / "loop")
    assert outcome(lambda: BOB.run((mount.top / "a.lock").touch)) == "EACCES"
    for name in ("b", "c", "loop"):
        BOB.run((mount.top / f"{name}.lock").touch)
    assert os.listdir(source / "closed") == ["mbox"]
    assert os.listdir(outside) == []


# --- the view ----------------------------------------------------------------------------------


@pytest.fixture
def view(open_tmp: Path) -> Iterator[tuple[World, Mount]]:
    with viewed() as both:
        yield both


def get(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def test_a_mail_root_that_is_a_link_to_somebody_elses_shows_nothing(
    view: tuple[World, Mount],
) -> None:
    """carol's is readable for the daemon, which is root; alice's link must not make it hers."""
    world, mount = view
    mount.expect_log("cannot create INBOX")  # tried in alice's name, if the link is there for long
    make = world.maildir("carol", "cur")
    make.mkdir(parents=True, exist_ok=True)
    (make / "1:2,").write_bytes(SECRET)
    world.maildir("alice").rename(world.home("alice") / "before")
    ALICE.run(os.symlink, world.maildir("carol"), world.maildir("alice"))
    assert ALICE.run(get, lambda: os.listdir(mount.top / "alice" / "cur")) == "ENOENT"
    ALICE.run(os.unlink, world.maildir("alice"))
    ALICE.run(os.symlink, "/etc", world.maildir("alice"))
    assert "passwd" not in ALICE.run(get, lambda: os.listdir(mount.top / "alice"))
    ALICE.run(os.unlink, world.maildir("alice"))
    ALICE.run(os.symlink, "before", world.maildir("alice"))
    time.sleep(0.4)  # viewers.FRESH
    assert ".Own" in ALICE.run(get, lambda: os.listdir(mount.top / "alice"))


def test_a_mailbox_that_is_a_link_out_of_the_tree_is_not_there(view: tuple[World, Mount]) -> None:
    world, mount = view
    closed = make_box(world, "Closed", "")
    assert closed.is_dir()
    BOB.run(os.symlink, world.maildir("alice", ".Closed"), world.maildir("bob", ".Mine"))
    BOB.run(os.symlink, "/etc", world.maildir("bob", ".Etc"))
    for name in (".Mine", ".Etc"):
        assert BOB.run(get, lambda: os.listdir(mount.top / "bob" / name)) == "ENOENT"  # noqa: B023


def test_racing_links_against_the_view(view: tuple[World, Mount]) -> None:
    world, mount = view
    closed = make_box(world, "Closed", "")
    own, link = world.maildir("bob", ".Own"), world.home("bob") / "link"
    BOB.run(os.symlink, closed, link)
    # Looks that met the link were refused, at the ACL or at the directory's own permissions.
    mount.expect_log("Own cannot be used")
    mount.expect_log(f"permissions of {own} cannot be read")

    def use() -> None:
        deadline = time.monotonic() + RACE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                assert not os.listdir(mount.top / "bob" / ".Own" / "cur")
            with contextlib.suppress(OSError):
                (mount.top / "bob" / ".Own" / "tmp" / "planted").write_bytes(b"x")
            with contextlib.suppress(OSError):
                os.setxattr(mount.top / "bob" / ".Own", "user.sharefs.acl.user=bob", b"lrwstipekxa")

    before = sorted(closed.rglob("*"))
    with attacker(BOB, lambda: exchange(own, link)):
        BOB.run(use)
    assert sorted(closed.rglob("*")) == before
    assert (closed / "dovecot-acl").read_text() == "user=bob \n"
    # He met the link hundreds of times, and the log is none of his to fill.
    assert mount.log().count("Own of bob is not shown") <= LINES


def test_strangers_who_knock_do_not_disturb(view: tuple[World, Mount]) -> None:
    """Every look-up by a stranger makes the kernel forget the name; open work goes on."""
    _, mount = view
    knocking = mount.top / "alice"
    with attacker(BOB, lambda: os.stat(knocking) and None):

        def work() -> int:
            os.chdir(knocking / ".Own")
            for number in range(100):
                Path("tmp", str(number)).write_text("x")
                os.rename(f"tmp/{number}", f"new/{number}")
            return len(os.listdir("new"))

        assert ALICE.run(work) == 100


def test_an_acl_that_is_a_link_tells_nothing_of_its_target(view: tuple[World, Mount]) -> None:
    world, mount = view
    secret = world.top / "secret"
    secret.write_bytes(b"user=bob lr\nroot:SECRET:hash\n")
    secret.chmod(0o600)
    ALICE.run(os.symlink, secret, world.maildir("alice", ".Own", "dovecot-acl"))
    shown = mount.top / "alice" / ".Own"
    for name in ("explain", "acl", "acl.user=bob"):
        got = ALICE.run(get, lambda: os.getxattr(shown, f"user.sharefs.{name}"))  # noqa: B023
        assert "SECRET" not in str(got)
        assert "user=bob" not in str(got)
    assert ALICE.run(get, lambda: (shown / "dovecot-acl").read_text()) != secret.read_text()


def test_a_huge_directory_and_a_slow_reader_hold_nobody_up(view: tuple[World, Mount]) -> None:
    """bob lists 20,000 files a little at a time, and never finishes; alice works meanwhile."""
    world, mount = view
    cur = world.maildir("bob", ".Own", "cur")
    for number in range(20_000):
        os.close(os.open(cur / f"{number}.host:2,", os.O_CREAT | os.O_WRONLY, 0o600))
    shown = mount.top / "bob" / ".Own" / "cur"
    reader, writer = os.pipe()

    def read_slowly() -> None:
        scans = [os.scandir(shown) for _ in range(20)]
        for scan in scans:
            next(scan)
        os.write(writer, b"x")
        time.sleep(60)

    with start_as(BOB.uid, BOB.gid, (), read_slowly):
        os.close(writer)
        assert os.read(reader, 1) == b"x"
        own = mount.top / "alice" / ".Own"
        for number in range(50):
            ALICE.run((own / "tmp" / str(number)).write_text, "x")
        assert len(ALICE.run(os.listdir, own / "tmp")) == 50
        assert len(BOB.run(os.listdir, shown)) == 20_000
    os.close(reader)


def test_odd_names_in_the_view(view: tuple[World, Mount]) -> None:
    """Newlines, octets that are no UTF-8, what looks like an option: names of messages alone."""
    world, mount = view
    new = mount.top / "bob" / ".Own" / "new"
    names = [b"new\nline", b"\xff\xfe", b" ", b"-rf", b"a" * 255, b"\x01\x7f"]

    def use() -> list[bytes]:
        for name in names:
            path = os.fsencode(new) + b"/" + name
            with open(path, "wb") as file:
                file.write(name)
            os.rename(path, path[:-1] + b"~")
            os.rename(path[:-1] + b"~", path)
        for name in (
            b".a\nb",
            b".\xff",
            b".." + b"x" * 300,
            b".a..b",
            b".&AC4-.x",
            b"." + b"y" * 254,
        ):
            with contextlib.suppress(OSError):
                os.mkdir(os.fsencode(mount.top) + b"/bob/" + name)
        return sorted(os.listdir(os.fsencode(new)))

    assert BOB.run(use) == sorted(names)
    assert {os.fsencode(path.name) for path in world.maildir("bob", ".Own", "new").iterdir()} == (
        set(names)
    )
    assert "Traceback" not in mount.log()
    assert ALICE.run(os.listdir, mount.top / "alice")


TRAPS: Final = (
    "cur/1.host:2,", "new/1.host", "tmp/secret", "cur/2.host:2,", "dovecot-uidlist",
    "dovecot.index.log",
)  # fmt: skip


def test_what_lies_beside_in_a_mailbox_leads_nowhere(view: tuple[World, Mount]) -> None:
    """Links, FIFOs and devices that a hostile owner puts where a viewer's programs look."""
    world, mount = view
    box = make_box(world, "Trap", "lrswite")
    secret = world.top / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    for name in ("cur/1.host:2,", "new/1.host", "tmp/1.host", "dovecot-uidlist"):
        os.symlink(secret, box / name)
    os.mkfifo(box / "dovecot.index.log", 0o666)
    os.mkfifo(box / "cur" / "2.host:2,", 0o666)
    os.rename(box / "tmp", box / "away")
    os.symlink(world.top, box / "tmp")
    shown = mount.top / "bob" / ".shared.alice.Trap"

    def poke() -> list[str]:
        got = []
        for name in TRAPS:
            for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT):
                try:
                    fd = os.open(shown / name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
                except OSError:
                    continue
                with contextlib.suppress(OSError):
                    got.append(os.read(fd, 100).decode())
                with contextlib.suppress(OSError):
                    os.write(fd, b"overwritten")
                os.close(fd)
            with contextlib.suppress(OSError):
                os.rename(shown / name, shown / "new" / "moved")
            with contextlib.suppress(OSError):
                os.link(shown / name, mount.top / "bob" / "cur" / "linked")
        with contextlib.suppress(OSError):
            (shown / "tmp" / "planted").write_text("x")
        return got

    assert not any("secret" in text for text in BOB.run(poke))
    assert secret.read_bytes() == SECRET
    assert not (world.top / "planted").exists()
    assert ALICE.run(os.listdir, mount.top / "alice")


def test_handles_by_number_open_nothing(view: tuple[World, Mount]) -> None:
    """open_by_handle_at(2) needs a capability that bob has not, and root's are no way around."""
    _, mount = view
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.memmove(handle, (128).to_bytes(4, "little"), 4)
    mount_id = ctypes.c_int()
    path = os.fsencode(mount.top / "bob" / ".Own")

    def try_it() -> tuple[int, int]:
        made = _libc.name_to_handle_at(-100, path, handle, ctypes.byref(mount_id), 0)
        fd = os.open(mount.top / "bob", os.O_RDONLY)
        opened = _libc.open_by_handle_at(fd, handle, os.O_RDONLY)
        return made, opened

    _, opened = BOB.run(try_it)
    assert opened == -1


def test_a_dead_mount_over_a_shared_mailbox_spoils_nobodys_listing(
    view: tuple[World, Mount], open_tmp: Path
) -> None:
    world, mount = view

    def prepare(account: Account) -> None:
        for name in ("Good", "Dead"):
            account.create(name)
            account.set_acl(name, user("bob"), Mode.REPLACE, Rights.parse("lr"))

    world.as_user("alice", prepare)
    dead = world.maildir("alice", ".Dead")
    home = mount.top / "bob"
    source = open_tmp / "source"
    source.mkdir()
    with mounted(open_tmp, ["--mirror", source]) as other:
        other.died = True
        subprocess.run(["mount", "--bind", other.top, dead], check=True)
        try:
            other.process.kill()
            other.process.wait()
            with pytest.raises(OSError, match="not connected"):
                os.listdir(dead)
            time.sleep(0.5)
            assert "cur" in BOB.run(os.listdir, home / ".shared.alice.Good")
            shown = BOB.run(os.listdir, home)
            assert {".Own", ".shared.alice.Good"} <= set(shown)
            assert ".shared.alice.Dead" not in shown
            assert BOB.run(get, lambda: os.stat(home / ".shared.alice.Dead")) == "ENOENT"
        finally:
            subprocess.run(["umount", "-l", dead], check=True)


def test_unfinished_listings_take_only_so_much_memory(open_tmp: Path) -> None:
    """Each is a list of names in the daemon; bob begins hundreds and finishes none."""
    source = open_tmp / "source"
    source.mkdir()
    for number in range(5000):
        (source / f"{number:0200}").touch()
    with mounted(open_tmp, ["--mirror", source]) as mount:

        def memory() -> int:
            return int(Path(f"/proc/{mount.process.pid}/statm").read_text().split()[1])

        def hoard(scans: list[Iterator[os.DirEntry[str]]]) -> str:
            try:
                for _ in range(1000):
                    scans.append(os.scandir(mount.top))
                    next(scans[-1])
            except OSError as error:
                return f"{errno.errorcode[error.errno or 0]} after {len(scans)}"
            return "never"

        def hoard_and_wait(writer: int) -> None:
            scans: list[Iterator[os.DirEntry[str]]] = []
            told = hoard(scans)
            os.write(writer, told.encode())
            time.sleep(60)

        assert len(ALICE.run(os.listdir, mount.top)) == 5000
        before = memory()
        reader, writer = os.pipe()
        with start_as(BOB.uid, BOB.gid, (), lambda: hoard_and_wait(writer)):
            os.close(writer)
            assert os.read(reader, 100) == b"ENOMEM after 100"
            assert (memory() - before) * 4096 < 300 << 20
            assert len(ALICE.run(os.listdir, mount.top)) == 5000
        os.close(reader)
        for _ in range(3):
            assert BOB.run(lambda: len(os.listdir(mount.top))) == 5000
