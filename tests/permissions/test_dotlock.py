"""Dotlocks: content, waiting, breaking, replacing."""

import itertools
import os
import signal
import socket
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sharefs import dotlock, fsops
from sharefs.dotlock import DotLock, LockFacts, Verdict, judge, parse_holder
from sharefs.errors import Code, SharingError
from sharefs.permissions.inherit import DEFAULTS, Creation, GidReason
from tests.support.become import start_as

HOST = socket.gethostname()
GROUP_WRITES = Creation(0o660, 0o770, None, GidReason.SETGID, "/origin")
NOW = 1_000_000.0

JUDGEMENTS = [  # id, modified, changed, alive, stale -> verdict
    ("young-dead", NOW - 1, NOW - 1, False, 120, Verdict.WAIT),
    ("old-dead", NOW - 3, NOW - 3, False, 120, Verdict.DEAD),
    ("old-alive", NOW - 3, NOW - 3, True, 120, Verdict.WAIT),
    ("ancient-alive", NOW - 900, NOW - 900, True, 120, Verdict.WAIT),
    ("unknown-holder", NOW - 100, NOW - 100, None, 120, Verdict.WAIT),
    ("unknown-holder-stale", NOW - 121, NOW - 121, None, 120, Verdict.STALE),
    ("file-still-changes", NOW - 900, NOW - 5, None, 120, Verdict.WAIT),
    ("never-stale", NOW - 900, NOW - 900, None, 0, Verdict.WAIT),
    ("never-stale-but-dead", NOW - 900, NOW - 900, False, 0, Verdict.DEAD),
]


@pytest.mark.parametrize(
    ("modified", "changed", "alive", "stale", "want"),
    [row[1:] for row in JUDGEMENTS],
    ids=[row[0] for row in JUDGEMENTS],
)
def test_judge(
    modified: float, changed: float, alive: bool | None, stale: float, want: Verdict
) -> None:
    assert judge(LockFacts(modified, changed, alive), now=NOW, stale=stale) is want


@pytest.mark.parametrize(
    ("content", "want"),
    [
        (f"123:{HOST}", 123),
        (f"123:{HOST}\n", 123),
        ("123:elsewhere", None),
        ("123", None),
        (f":{HOST}", None),
        (f"-1:{HOST}", None),
        (f"0:{HOST}", None),
        (f"99999999999999:{HOST}", None),
        (f"१२३:{HOST}", None),
        ("", None),
        ("V\t2\n\nWork\n", None),
    ],
)
def test_parse_holder(content: str, want: int | None) -> None:
    assert parse_holder(content.encode(), HOST) == want


def test_the_lock_holds_pid_and_host_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "dovecot-uidlist"
    lock = DotLock(path, timeout=1, stale=120, creation=GROUP_WRITES)
    with lock:
        assert lock.locked
        assert os.listdir(tmp_path) == ["dovecot-uidlist.lock"]
        assert Path(lock.lock_path).read_text() == f"{os.getpid()}:{HOST}"
        assert stat.S_IMODE(os.stat(lock.lock_path).st_mode) == 0o660
    assert not lock.locked
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("excl", [False, True])
def test_the_second_one_waits_and_gives_up(tmp_path: Path, excl: bool) -> None:
    path = tmp_path / "f"
    with DotLock(path, timeout=1, stale=120, excl=excl):
        with pytest.raises(SharingError) as caught:
            DotLock(path, timeout=0.3, stale=120, excl=excl).acquire()
        assert caught.value.code is Code.IN_USE
        assert caught.value.retryable
        assert str(os.getpid()) in caught.value.detail
        assert os.listdir(tmp_path) == ["f.lock"]
    with DotLock(path, timeout=0, stale=120, excl=excl):
        pass


def test_waiting_grows_by_half_up_to_three_seconds(tmp_path: Path) -> None:
    path = tmp_path / "f"
    (tmp_path / "f.lock").write_text("1:elsewhere")
    now = time.time()
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        sleeps.append(seconds)

    lock = DotLock(path, timeout=60, stale=0, clock=lambda: now, sleep=sleep)
    with pytest.raises(SharingError):
        lock.acquire()
    assert sleeps[0] < 0.01  # most locks are held for no longer than a message takes
    assert sleeps[1] == pytest.approx(sleeps[0] * 1.5)
    assert max(sleeps) == 3.0
    assert sum(sleeps) == pytest.approx(60, abs=0.1)


def test_a_dead_holder_is_replaced_after_two_seconds(tmp_path: Path) -> None:
    with start_as(os.geteuid(), os.getegid(), os.getgroups(), lambda: None) as child:
        child.wait()
    lock = tmp_path / "f.lock"
    lock.write_text(f"{child.pid}:{HOST}")
    now = time.time() + 3
    with DotLock(tmp_path / "f", timeout=0, stale=120, clock=lambda: now):
        assert lock.read_text() == f"{os.getpid()}:{HOST}"


def test_a_young_lock_of_a_dead_holder_is_left(tmp_path: Path) -> None:
    (tmp_path / "f.lock").write_text(f"4194300:{HOST}")
    with pytest.raises(SharingError):
        DotLock(tmp_path / "f", timeout=0, stale=120).acquire()


def test_our_own_pid_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "f.lock").write_text(f"{os.getpid()}:{HOST}")
    now = time.time() + 3
    with DotLock(tmp_path / "f", timeout=0, stale=120, clock=lambda: now):
        pass


def test_a_lock_that_another_thread_holds_is_not_ours_to_break(tmp_path: Path) -> None:
    with DotLock(tmp_path / "f", timeout=0, stale=120):
        later = time.time() + 60
        with pytest.raises(SharingError):
            DotLock(tmp_path / "f", timeout=0, stale=120, clock=lambda: later).acquire()
        assert (tmp_path / "f.lock").exists()


def test_locks_of_other_hosts_go_stale(tmp_path: Path) -> None:
    (tmp_path / "f.lock").write_text("1:elsewhere")
    now = time.time()
    with pytest.raises(SharingError):
        DotLock(tmp_path / "f", timeout=0, stale=120, clock=lambda: now + 100).acquire()
    with DotLock(tmp_path / "f", timeout=0, stale=120, clock=lambda: now + 130):
        pass


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    counter = tmp_path / "f"
    counter.write_text("0")

    def work() -> None:
        for _ in range(10):
            with DotLock(counter, timeout=30, stale=120, sleep=lambda _: time.sleep(0.001)) as lock:
                lock.replace(str(int(counter.read_text()) + 1).encode(), fsync=False)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "40"
    assert os.listdir(tmp_path) == ["f"]


def test_processes_exclude_each_other(tmp_path: Path) -> None:
    counter = tmp_path / "f"
    counter.write_text("0")

    def work() -> None:
        for _ in range(10):
            with DotLock(counter, timeout=30, stale=120, sleep=lambda _: time.sleep(0.001)):
                value = int(counter.read_text())
                counter.write_text(str(value + 1))

    me = (os.geteuid(), os.getegid(), os.getgroups())
    children = [start_as(*me, work) for _ in range(3)]
    for child in children:
        child.result()
    assert counter.read_text() == "30"


def test_replace_puts_the_content_in_place(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions"
    path.write_bytes(b"old and longer")
    with DotLock(path, timeout=1, stale=30, creation=GROUP_WRITES) as lock:
        lock.replace(b"new", mtime=1_000_000_000)
        assert not lock.locked
    assert path.read_bytes() == b"new"
    assert path.stat().st_mtime == 1_000_000_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert os.listdir(tmp_path) == ["subscriptions"]


def test_others_are_kept_out_until_the_content_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    real = os.rename
    refused: list[bool] = []

    def watch(*args: Any, **kwargs: Any) -> None:
        for _ in range(2):
            with pytest.raises(SharingError):
                DotLock(path, timeout=0, stale=0).acquire()
            refused.append(path.exists())
            if not path.exists():
                real(*args, **kwargs)

    monkeypatch.setattr(os, "rename", watch)
    with DotLock(path, timeout=1, stale=30) as lock:
        lock.replace(b"new")
    assert refused == [False, True]
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_refused_replacement_leaves_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A full disk, say."""
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with DotLock(path, timeout=1, stale=30) as lock:
        monkeypatch.setattr(os, call, refuse)
        with pytest.raises(OSError, match="No space"):
            lock.replace(b"new")
        monkeypatch.undo()
        assert not lock.locked
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("excl", [False, True])
@pytest.mark.parametrize("unnamed", [True, False], ids=["unnamed", "named"])
def test_who_is_killed_leaves_the_old_or_the_new_and_a_lock_that_names_him(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excl: bool, unnamed: bool
) -> None:
    """Killed before each of his system calls in turn.  Waiting until a lock is stale is no way out
    here: only who is known to be dead makes room."""
    if not unnamed:  # as on NFS
        monkeypatch.setattr(fsops, "create_unnamed", lambda *args: None)
    contents: list[bytes] = []
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "f"
        path.write_bytes(b"old")
        survived = replaces_until(path, number, excl=excl)
        contents.append(path.read_bytes())
        lock = folder / "f.lock"
        if not unnamed and excl and lock.exists() and not lock.read_bytes():
            continue  # made in place, and no time to say who he is: this one has to go stale
        later = time.time() + dotlock.PID_CHECK_AGE + 1
        with DotLock(path, timeout=0, stale=0, clock=lambda: later):  # noqa: B023
            if unnamed or excl:
                assert sorted(os.listdir(folder)) == ["f", "f.lock"], number
            assert path.read_bytes() == contents[-1]
        if survived:
            break
    olds = contents.count(b"old")
    assert contents == [b"old"] * olds + [b"new"] * (len(contents) - olds)
    assert min(olds, len(contents) - olds) > 2  # killed before and after the change


def replaces_until(path: Path, number: int, *, excl: bool) -> bool:
    """Replace the file in a process that is killed before a system call.  Whether it was not."""

    def replace() -> bool:
        calls = itertools.count()

        def kill_in_time(frame: object, event: str, called: object) -> None:
            if event == "c_call" and getattr(called, "__module__", "") == "posix":  # noqa: SIM102
                if next(calls) == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(kill_in_time)
        with DotLock(path, timeout=0, stale=0, excl=excl) as lock:
            lock.replace(b"new", mtime=1_000_000_000)
        sys.setprofile(None)
        return True

    with start_as(os.geteuid(), os.getegid(), os.getgroups(), replace) as child:
        if os.waitstatus_to_exitcode(child.wait()) == -signal.SIGKILL:
            return False
        return child.result()


def test_only_what_the_dead_holder_left_is_swept(tmp_path: Path) -> None:
    with start_as(os.geteuid(), os.getegid(), os.getgroups(), lambda: None) as child:
        child.wait()
    left = tmp_path / f"{fsops.temp_start(child.pid)}0123456789abcdef"
    mailbox = tmp_path / f"{fsops.temp_start(child.pid)}mailbox"
    mailbox.mkdir()
    others = tmp_path / fsops.temp_name()
    for path in (left, others):
        path.touch()
    (tmp_path / "f.lock").write_text(f"{child.pid}:{HOST}")
    later = time.time() + 3
    with DotLock(tmp_path / "f", timeout=0, stale=0, clock=lambda: later):
        pass
    assert set(tmp_path.iterdir()) == {mailbox, others}


def test_a_broken_lock_does_not_replace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"theirs")
    lock = DotLock(path, timeout=1, stale=30)
    lock.acquire()
    os.unlink(lock.lock_path)
    Path(lock.lock_path).write_text("1:elsewhere")
    with pytest.raises(SharingError):
        lock.replace(b"ours")
    lock.release()
    assert path.read_bytes() == b"theirs"
    assert Path(lock.lock_path).read_text() == "1:elsewhere"  # theirs stays
    assert sorted(os.listdir(tmp_path)) == ["f", "f.lock"]
    assert "taken over" in caplog.text


def test_touch_keeps_waiters_away_and_is_cheap(tmp_path: Path) -> None:
    now = time.time()
    lock = DotLock(tmp_path / "f", timeout=1, stale=120, touch_every=10, clock=lambda: now)
    with lock:
        os.utime(lock.lock_path, (1, 1))
        now += 5
        lock.touch()
        assert os.stat(lock.lock_path).st_mtime == 1
        now += 6
        lock.touch()
        assert os.stat(lock.lock_path).st_mtime > 1


def test_without_hard_links_the_lock_is_made_exclusively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with DotLock(tmp_path / "f", timeout=0, stale=120):
        assert os.listdir(tmp_path) == ["f.lock"]
        with pytest.raises(SharingError):
            DotLock(tmp_path / "f", timeout=0, stale=120).acquire()
    assert os.listdir(tmp_path) == []


def test_failure_inside_leaves_the_file_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), DotLock(path, timeout=0, stale=1):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["f"]
    with pytest.raises(RuntimeError, match="not held"):
        DotLock(path, timeout=0, stale=1).replace(b"x")


def test_no_directory_to_lock_in(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DotLock(tmp_path / "none/f", timeout=0, stale=1).acquire()
    assert not dotlock._held


def test_an_exclusive_lock_holds_its_pid_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed in between would leave a lock that nobody dares to break for long."""
    path = tmp_path / "file"
    seen: list[bytes] = []
    real = os.write

    def watch(fd: int, octets: bytes) -> int:
        lock = tmp_path / "file.lock"
        seen.append(lock.read_bytes() if lock.exists() else b"not there")
        return real(fd, octets)

    monkeypatch.setattr(os, "write", watch)
    with DotLock(path, timeout=1, stale=60, creation=DEFAULTS, excl=True):
        assert (tmp_path / "file.lock").read_bytes().startswith(b"%d:" % os.getpid())
    assert seen == [b"not there"]
