"""Mounting, unmounting, dying, and being told what is missing."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.mount.main import NEEDED, USEFUL
from sharefs.mount.service_manager import watch, watchdog_interval
from tests.account.world import UIDS, world_in_tmp
from tests.support.mount import Mount, is_mounted, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]


@pytest.fixture
def source(open_tmp: Path) -> Path:
    source = open_tmp / "source"
    source.mkdir()
    (source / "file").write_text("hello")
    return source


@pytest.fixture
def mirror(open_tmp: Path, source: Path) -> Iterator[Mount]:
    with mounted(open_tmp, ["--mirror", source]) as mount:
        yield mount


def sharefs(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sharefs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def wait_until_unmounted(top: Path) -> None:
    deadline = time.monotonic() + 10
    while is_mounted(top):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_only_the_needed_capabilities_are_kept(mirror: Mount) -> None:
    demand_few_capabilities(mirror)


def test_the_threads_of_the_view_have_no_more(open_tmp: Path) -> None:
    with world_in_tmp() as world:
        arguments: list[str | Path] = ["--state", world.top / "state"]
        with mounted(world.top, arguments, config=world.config_path) as view:
            os.listdir(view.top)  # root's own list: the user database is asked by a thread
            demand_few_capabilities(view)


def demand_few_capabilities(mount: Mount) -> None:
    """Of every thread: the kernel keeps them for each."""
    want = sum(1 << number for number in (*NEEDED, *USEFUL))
    for task in Path(f"/proc/{mount.process.pid}/task").iterdir():
        status = (task / "status").read_text().splitlines()
        masks = {
            line.split(":")[0]: int(line.split()[1], 16) for line in status if "Cap" in line[:3]
        }
        assert (masks["CapEff"], masks["CapPrm"], masks["CapBnd"]) == (want, want, want)
        assert masks["CapInh"] == masks["CapAmb"] == 0
        assert "NoNewPrivs:\t1" in status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_signals_unmount(open_tmp: Path, source: Path, number: signal.Signals) -> None:
    with mounted(open_tmp, ["--mirror", source]) as mount:
        held = os.open(mount.top / "file", os.O_RDONLY)  # somebody still has a file open
        mount.process.send_signal(number)
        assert mount.process.wait(10) == 0
        assert not is_mounted(mount.top)
        with pytest.raises(OSError, match="not connected"):
            os.fsync(held)
        with pytest.raises(OSError, match="not connected"):
            os.close(held)  # which would end locks; it is closed nevertheless


def test_umount_ends_the_daemon(mirror: Mount) -> None:
    subprocess.run(["umount", str(mirror.top)], check=True)
    assert mirror.process.wait(10) == 0


def test_a_killed_daemon_leaves_no_mount(mirror: Mount) -> None:
    mirror.died = True
    mirror.process.kill()
    wait_until_unmounted(mirror.top)


def test_a_daemon_that_stands_still_is_told_of(mirror: Mount) -> None:
    """And waits for nobody: --status and mount(8) must not stand still with it."""
    mirror.process.send_signal(signal.SIGSTOP)
    try:
        listed = sharefs("mount", "--status", mirror.top)
        assert "\tsilent: its process does not answer now" in listed.stdout
        again = sharefs("mount", "--mirror", "/srv", mirror.top)
        assert again.returncode != 0
        assert "is mounted already, and silent" in again.stderr
    finally:
        mirror.process.send_signal(signal.SIGCONT)
    assert "\tserving\t" in sharefs("mount", "--status", mirror.top).stdout


def test_in_the_background_until_unmounted(open_tmp: Path, source: Path) -> None:
    top = open_tmp / "mnt"
    top.mkdir()
    done = sharefs("mount", top, "--mirror", source)
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert (top / "file").read_text() == "hello"
        listed = sharefs("mount", "--status", top)
        assert f"{top}\tmirror of {source}\tserving" in listed.stdout
        again = sharefs("mount", top, "--mirror", source)
        assert "is mounted already" in again.stderr
    finally:
        subprocess.run(["umount", str(top)], check=True)
    assert sharefs("mount", "--status", top).returncode != 0


def test_a_stale_mount_is_replaced(open_tmp: Path, source: Path) -> None:
    """Of a daemon that died together with its unmounter."""
    with mounted(open_tmp, ["--mirror", source]) as mount:
        mount.died = True
        children = Path(f"/proc/{mount.process.pid}/task/{mount.process.pid}/children")
        (unmounter,) = map(int, children.read_text().split())
        os.kill(unmounter, signal.SIGKILL)
        mount.process.kill()
        mount.process.wait()
        with pytest.raises(OSError, match="not connected"):
            os.statvfs(mount.top)
        assert "dead" in sharefs("mount", "--status").stdout
        done = sharefs("mount", mount.top, "--mirror", source)
        assert (done.returncode, done.stderr) == (0, "")
        assert (mount.top / "file").read_text() == "hello"
        subprocess.run(["umount", str(mount.top)], check=True)


REFUSALS = [
    (["mount"], "Missing argument"),
    (["mount", "/nonexistent", "--mirror", "/"], "must be an existing directory"),
    (["mount", "{tmp}", "--mirror", "/nonexistent"], "/nonexistent"),
    (["mount", "{tmp}", "--mirror", "/", "-o", "wings"], "'wings' means nothing here"),
    (["mount", "{tmp}/file", "--mirror", "/"], "no directory"),
]


@pytest.mark.parametrize(("arguments", "want"), REFUSALS, ids=[want for _, want in REFUSALS])
def test_refusals_say_what_is_wrong(open_tmp: Path, arguments: list[str], want: str) -> None:
    (open_tmp / "file").write_text("")
    done = sharefs(*(word.format(tmp=open_tmp) for word in arguments))
    assert done.returncode != 0
    assert want in done.stderr
    assert "Traceback" not in done.stderr
    assert not is_mounted(open_tmp)


def test_no_descriptor_or_inode_is_lost(mirror: Mount, source: Path) -> None:
    def use(number: int) -> None:
        directory = mirror.top / f"d{number}"
        directory.mkdir()
        for name in ("a", "b"):
            (directory / name).write_text("x")
        os.link(directory / "a", directory / "c")
        os.rename(directory / "b", directory / "c")
        held = (directory / "a").open()
        os.unlink(directory / "a")
        assert os.fstat(held.fileno()).st_nlink == 0
        held.close()
        os.unlink(directory / "c")
        os.rmdir(directory)

    use(0)
    time.sleep(0.1)
    before = mirror.descriptors()
    for number in range(60):
        use(number + 1)
    Path("/proc/sys/vm/drop_caches").write_text("2")
    deadline = time.monotonic() + 5
    while mirror.descriptors() > before + 2:
        assert time.monotonic() < deadline, (before, mirror.descriptors())
        time.sleep(0.05)
    assert os.listdir(source) == ["file"]


def test_mount_runs_the_helper_for_fstab(open_tmp: Path, source: Path) -> None:
    top = open_tmp / "mnt"
    top.mkdir()
    script = "from sharefs.cli.mount import mount_helper; mount_helper()"
    command = [sys.executable, "-c", script, str(source), str(top), "-o", "rw,noauto,noatime,x-a=b"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert (top / "file").read_text() == "hello"
        lines = Path("/proc/self/mounts").read_text().splitlines()
        (line,) = (one for one in lines if str(top) in one)
        assert "noatime" in line
    finally:
        subprocess.run(["umount", str(top)], check=True)


def test_the_service_manager_is_told(open_tmp: Path, source: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(open_tmp / "notify"))
        manager.settimeout(10)
        prefix = f"WATCHDOG_USEC=200000 NOTIFY_SOCKET={open_tmp / 'notify'} exec "
        with mounted(open_tmp, ["--mirror", source], shell=prefix) as mount:
            assert manager.recv(100) == b"READY=1"
            for _ in range(3):
                assert manager.recv(100) == b"WATCHDOG=1"
            mount.process.send_signal(signal.SIGTERM)
            mount.process.wait(10)
        told = b"WATCHDOG=1"
        while told == b"WATCHDOG=1":
            told = manager.recv(100)
        assert told == b"STOPPING=1"


def test_signs_of_life_end_with_life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever does not answer the watchdog's question gives no sign."""
    stuck, ended = threading.Event(), threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        answers = iter([True, True])

        def answer() -> None:
            if next(answers, False):
                return
            stuck.set()
            ended.wait(10)
            raise OSError("unmounted")

        watch(answer)
        assert stuck.wait(10)
        manager.setblocking(False)
        assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        ended.set()
    while any(thread.name == "watchdog" for thread in threading.enumerate()):
        time.sleep(0.01)


NOBODYS_WATCH = [
    ({}, 0),
    ({"WATCHDOG_USEC": "3000000"}, 3),
    ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0),
    ({"WATCHDOG_USEC": "soon"}, 0),
]


@pytest.mark.parametrize(("environment", "want"), NOBODYS_WATCH, ids=str)
def test_whose_signs_of_life_are_wanted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], want: float
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog_interval() == want


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_unit_is_one(tmp_path: Path) -> None:
    unit = tmp_path / "sharefs-mount.service"
    text = Path("scripts/systemd/sharefs-mount.service").read_text()
    unit.write_text(text.replace("/usr/local/bin/sharefs", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "sharefs" in line]
    assert (done.returncode, complaints) == (0, [])


# --- mount(8) ---------------------------------------------------------------------------------


@pytest.fixture
def helper() -> Iterator[Path]:
    """Where mount(8) looks for it, for as long as the test lasts."""
    path = Path("/sbin/mount.sharefs")
    assert not path.exists(), "a sharefs is installed here"
    path.write_text(
        f"#!/bin/sh\nexec env PYTHONPATH={os.getcwd()} {sys.executable} -c"
        ' "from sharefs.cli.mount import mount_helper; mount_helper()" "$@"\n'
    )
    path.chmod(0o755)
    yield path
    path.unlink()


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=60, check=False
    )


def test_mount_and_umount_by_fstab(open_tmp: Path, source: Path, helper: Path) -> None:
    """A line of fstab(5) for a mirror, one for the view, with options of both kinds."""
    with world_in_tmp() as world:
        mirror, view = open_tmp / "a mirror", open_tmp / "view"
        for path in (mirror, view):
            path.mkdir()
        fstab = open_tmp / "fstab"
        options = f"noauto,ro,x-systemd.automount,config={world.config_path}"
        fstab.write_text(
            f"{source} {str(mirror).replace(' ', chr(92) + '040')} sharefs defaults,noexec 0 0\n"
            f"view {view} sharefs {options},state={world.top}/state 0 0\n"
        )
        try:
            for path in (mirror, view):
                done = run("mount", "-T", fstab, path)
                assert (done.returncode, done.stderr) == (0, "")
            assert (mirror / "file").read_text() == "hello"
            assert set(os.listdir(view)) == set(UIDS)
            listed = sharefs("mount", "--status").stdout
            assert f"{mirror}\tmirror of {source}\tserving\t" in listed
            assert f"{view}\tview\tserving\tro," in listed
            assert run("mount", "-T", fstab, mirror).returncode == 32
        finally:
            for path in (mirror, view):
                run("umount", path)
        assert sharefs("mount", "--status", mirror).returncode != 0
        assert not is_mounted(view)


def test_mount_says_what_is_wrong(open_tmp: Path, source: Path, helper: Path) -> None:
    done = run("mount", "-t", "sharefs", source, open_tmp / "missing")
    assert done.returncode == 32
    top = open_tmp / "mnt"
    top.mkdir()
    done = run("mount", "-t", "sharefs", "-o", "wings", source, top)
    assert (done.returncode, "'wings' means nothing here" in done.stderr) == (32, True)
    assert "Traceback" not in done.stderr
    done = run("mount", "-t", "sharefs", open_tmp / "nowhere", top)
    assert "cannot mirror" in done.stderr


# --- what a host may lack -----------------------------------------------------------------------

OWN_DEV = (
    "set -e; mkdir -p {top}.dev; mount -t tmpfs tmpfs {top}.dev;"
    " for n in null zero random urandom fuse; do cp -a /dev/$n {top}.dev/$n; done;"
    " mount --bind {top}.dev /dev; set +e"
)
MISSING = [
    ("no device", "umount /dev/fuse 2>/dev/null; mount --bind {empty} /dev", 0,
     "/dev/fuse is missing"),
    ("no right to the device", "chmod 600 /dev/fuse", 65432, "may not be opened by uid 65432"),
    ("no fusermount3", "for f in $(which -a fusermount3); do mount --bind {empty}/file $f; done;"
     " chmod 666 /dev/fuse", 65432, "fusermount3"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("prepare", "uid", "want"), [row[1:] for row in MISSING], ids=[row[0] for row in MISSING]
)
def test_a_host_that_lacks_something_is_told(
    open_tmp: Path, source: Path, prepare: str, uid: int, want: str
) -> None:
    """In a mount name space with a /dev of its own."""
    top, empty = open_tmp / "mnt", open_tmp / "empty"
    for path in (top, empty):
        path.mkdir()
    (empty / "file").write_text("")
    top.chmod(0o777)
    script = (
        OWN_DEV + "; " + prepare + "; "
        "exec setpriv --reuid {uid} --regid {uid} --clear-groups "
        "{python} -m sharefs mount {top} --mirror {source}"
    )
    words = {"top": top, "empty": empty, "uid": uid, "python": sys.executable, "source": source}
    done = run("unshare", "--mount", "bash", "-c", script.format(**words))
    assert done.returncode != 0
    assert want in done.stderr
    assert "Traceback" not in done.stderr


def test_not_root_serves_only_itself(open_tmp: Path, source: Path) -> None:
    """Unless /etc/fuse.conf says user_allow_other: then others find what this one may read."""
    top = open_tmp / "mnt"
    top.mkdir()
    os.chown(top, UIDS["bob"], UIDS["bob"])
    source.chmod(0o755)
    passwd = open_tmp / "passwd"
    passwd.write_text(f"root:x:0:0::/:\nbob:x:{UIDS['bob']}:{UIDS['bob']}::/:/bin/sh\n")
    for allowed in (False, True):
        conf = open_tmp / "fuse.conf"
        conf.write_text("user_allow_other\n" if allowed else "")
        script = (
            f"{OWN_DEV.format(top=top)}; chmod 666 /dev/fuse; mount --bind {conf} /etc/fuse.conf;"
            f" mount --bind {passwd} /etc/passwd;"
            ' as() { setpriv --reuid $1 --regid $1 --clear-groups "${@:2}"; };'
            f" as {UIDS['bob']} {sys.executable} -m sharefs mount {top} --mirror {source};"
            f" as {UIDS['bob']} cat {top}/file; as {UIDS['carol']} cat {top}/file;"
            f" as {UIDS['bob']} fusermount3 -u {top}"
        )
        done = run("unshare", "--mount", "bash", "-c", script)
        assert done.stdout == ("hellohello" if allowed else "hello"), done.stderr
