"""How a command ends when its standard streams do, or when somebody presses Ctrl-C: never with an
answer's status, and never with a traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.account.world import UIDS, World

pytestmark = pytest.mark.superuser

TIMEOUT = 60  # seconds; no test waits for it
MAIN = [sys.executable, "-c", "from sharefs.cli import main; main()"]
# A command of its own process, one that forks for a user, and help, which click prints.
COMMANDS = ["user bob", "acl get -u alice INBOX", "--help"]


def shell(host: World, words: str, redirection: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with a shell's redirection, `{}` standing for the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", redirection.format('"$@"'), "bash", *MAIN,
         "-c", str(host.config_path), *words.split()],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_a_full_disk_is_said_in_one_line(host: World, words: str) -> None:
    done = shell(host, words, "{} >/dev/full")
    assert done.returncode == os.EX_TEMPFAIL
    assert done.stderr == "sharefs: standard output: No space left on device\n"


@pytest.mark.parametrize("words", COMMANDS)
def test_a_reader_who_went_away_is_no_answer(host: World, words: str) -> None:
    done = shell(host, words, "{} | true")
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(host: World, closed: str) -> None:
    assert shell(host, COMMANDS[1], f"{{}} {closed}").returncode == 0
    done = shell(host, "acl get -u alice Nowhere", f"{{}} {closed}")
    assert (done.returncode, done.stdout) == (os.EX_NOUSER, "")


def test_nothing_printed_gets_into_a_file_that_is_written(host: World, tmp_path: Path) -> None:
    """Without a descriptor 2 the plan's own would be 2, and the line about it go into it."""
    plan = tmp_path / "a.plan"
    done = shell(host, f"plan -u alice groups -o {plan}", "{} >&- 2>&-")
    assert done.returncode in (0, 1)
    assert all(line.startswith("{") for line in plan.read_text().splitlines())


def test_what_cannot_be_opened_is_named(host: World) -> None:
    done = shell(host, "plan -u alice groups -o /nonexistent/plan", "{}")
    assert done.stderr == "sharefs: /nonexistent/plan: No such file or directory\n"


def is_acting(pid: int, uid: int) -> bool:
    """Whether a process has a child that has become this user."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any(f"Uid:\t{uid}\t" in Path(f"/proc/{one}/status").read_text() for one in children)


def test_ctrl_c_is_the_end_by_a_signal(host: World) -> None:
    """Pressed while a process waits for a lock as alice.  It gets the signal, and so does ours."""
    assert shell(host, "mailbox create -u alice Work", "{}").returncode == 0
    (host.maildir("alice", ".Work") / "dovecot-acl.lock").write_text("")
    words = "acl set -u alice Work user=bob lookup"
    with subprocess.Popen(
        # Whoever runs the tests in the background may have told them to ignore the signal.
        ["env", "--default-signal=INT", *MAIN, "-c", str(host.config_path), *words.split()],
        text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + TIMEOUT
        while not is_acting(process.pid, UIDS["alice"]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (-signal.SIGINT, "")
    assert "sharefs: " not in errors
    assert "_be_the_child" not in errors  # no traceback of the other process
    assert not (host.maildir("alice", ".Work") / "dovecot-acl").exists()
