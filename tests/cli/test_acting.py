"""A command's two processes: what ends the one that asks ends the one that acts for it, too."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sharefs.cli._common.acting import run_as as act_as
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import Group, MailUser
from tests.support.become import Child, start_as

pytestmark = pytest.mark.superuser

UID = 47_101
ALICE = MailUser("alice", UID, UID, groups=(Group(UID, "", "a test"),))
PATIENCE = 60  # seconds; no test that passes takes them


class Nobody:
    """Homes of nobody."""

    def home_of(self, name: str) -> Path | None:
        return None

    def exists(self, name: str) -> bool:
        return False


def wait_for_ever(path: Path) -> Callable[[HomeLookup], None]:
    """To be done by a user: says in a file who does it, and tidies up at the end."""

    def action(homes: HomeLookup) -> None:
        began = path.with_suffix(".new")
        began.write_text(str(os.getpid()))
        began.rename(path)
        try:
            while True:
                signal.pause()
        finally:
            path.with_suffix(".tidied").touch()

    return action


@pytest.fixture
def spot(tmp_path: Path) -> Path:
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_uid == os.geteuid() and each != each.parent and each != Path("/tmp"):
            each.chmod(each.stat().st_mode | 0o011)
    os.chown(tmp_path, UID, UID)
    return tmp_path / "acting"


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def asking(work: Callable[[], str]) -> Child[str]:
    return start_as(os.geteuid(), os.getegid(), os.getgroups(), work)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_who_acts_ends_with_who_asked(spot: Path, number: signal.Signals) -> None:
    def ask() -> str:
        act_as(ALICE, Nobody(), wait_for_ever(spot))
        return "it came back"

    with asking(ask) as child:
        until(spot.exists)
        acting = int(spot.read_text())
        try:
            child.kill(number)
            child.wait()
            until(lambda: has_ended(acting))
        finally:
            if not has_ended(acting):
                os.kill(acting, signal.SIGKILL)
    assert spot.with_suffix(".tidied").exists()


@pytest.mark.parametrize("both", [True, False], ids=["both-processes", "only-who-asks"])
def test_ctrl_c_just_after_the_fork(spot: Path, both: bool) -> None:
    """Python passes over what is raised while it makes the new process its own."""

    def press() -> None:
        for pid in (os.getppid(), *([os.getpid()] if both else [])):
            os.kill(pid, signal.SIGINT)

    def ask() -> str:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.register_at_fork(after_in_child=press)
        try:
            act_as(ALICE, Nobody(), wait_for_ever(spot))
        except KeyboardInterrupt:
            return "interrupted"
        return "it came back"

    with asking(ask) as child:
        assert child.result(PATIENCE) == "interrupted"
