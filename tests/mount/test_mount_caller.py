"""Who calls: groups of the calling process, and what is answered when it cannot be asked."""

import os
from pathlib import Path

import pytest

from sharefs.mount.caller import KEPT, Caller, Groups
from tests.support.become import Identity, start_as

STATUS = "Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t5\t5\t5\t5\nGroups:\t{groups} \n"
STAT = "{pid} (a) b (c)) S 1 " + "0 " * 17 + "{start} 0 0\n"


class Clock:
    """Stands still until told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Processes:
    """A /proc of our own."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def start(self, pid: int, uid: int, groups: str, start: int = 7) -> None:
        directory = self.top / str(pid)
        directory.mkdir(exist_ok=True)
        (directory / "stat").write_text(STAT.format(pid=pid, start=start))
        (directory / "status").write_text(STATUS.format(uid=uid, groups=groups))

    def end(self, pid: int) -> None:
        for file in (self.top / str(pid)).iterdir():
            file.unlink()
        (self.top / str(pid)).rmdir()


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


def test_groups_come_from_the_process(processes: Processes, tmp_path: Path) -> None:
    processes.start(10, 1000, "20 30")
    assert Groups(tmp_path).groups_of(Caller(1000, 5, 10)) == {20, 30}


@pytest.mark.parametrize("pid", [0, 11], ids=["another pid namespace", "dead"])
def test_who_cannot_be_asked_has_his_primary_group(tmp_path: Path, pid: int) -> None:
    who = Groups(tmp_path).credentials_of(Caller(1000, 5, pid))
    assert (who.uid, who.gid, who.groups, who.superuser) == (1000, 5, frozenset(), False)


def test_a_process_of_another_uid_lends_nothing(processes: Processes, tmp_path: Path) -> None:
    processes.start(10, 0, "0 20")
    assert Groups(tmp_path).groups_of(Caller(1000, 5, 10)) == frozenset()


def test_garbage_is_no_groups(processes: Processes, tmp_path: Path) -> None:
    processes.start(10, 1000, "20 x")
    assert Groups(tmp_path).groups_of(Caller(1000, 5, 10)) == frozenset()
    (tmp_path / "10" / "stat").write_text("nonsense")
    assert Groups(tmp_path).groups_of(Caller(1000, 5, 10)) == frozenset()


def test_an_answer_is_kept_for_a_moment(processes: Processes, tmp_path: Path) -> None:
    clock = Clock()
    groups = Groups(tmp_path, clock)
    processes.start(10, 1000, "20")
    assert groups.groups_of(Caller(1000, 5, 10)) == {20}
    processes.start(10, 1000, "30")
    assert groups.groups_of(Caller(1000, 5, 10)) == {20}
    clock.now += KEPT
    assert groups.groups_of(Caller(1000, 5, 10)) == {30}


def test_a_pid_that_is_used_again_inherits_nothing(processes: Processes, tmp_path: Path) -> None:
    groups = Groups(tmp_path, Clock())
    processes.start(10, 1000, "20", start=7)
    assert groups.groups_of(Caller(1000, 5, 10)) == {20}
    processes.end(10)
    assert groups.groups_of(Caller(1000, 5, 10)) == frozenset()
    processes.start(10, 1000, "30", start=8)
    assert groups.groups_of(Caller(1000, 5, 10)) == {30}


@pytest.mark.superuser
def test_real_processes() -> None:
    who = Identity(61001, 61001, (61500, 61501))
    reader, writer = os.pipe()

    def wait() -> None:
        os.write(writer, b"x")
        os.read(reader_two, 1)

    reader_two, writer_two = os.pipe()
    with start_as(who.uid, who.gid, who.groups, wait) as child:
        os.read(reader, 1)
        assert Groups().groups_of(Caller(who.uid, who.gid, child.pid)) == {61500, 61501}
        os.write(writer_two, b"x")
    assert Groups().groups_of(Caller(who.uid, who.gid, child.pid)) == frozenset()
    for fd in (reader, writer, reader_two, writer_two):
        os.close(fd)
