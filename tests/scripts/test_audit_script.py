"""scripts/audit: exit statuses, news, what a mail says, and what happens when things go wrong."""

import fcntl
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.account.world import world_in_tmp
from tests.audit.auditing import share

TOP = Path(__file__).resolve().parents[2]
SCRIPT = TOP / "scripts" / "audit"
UNITS = TOP / "scripts" / "systemd"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_script", TOP / "scripts" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit_script"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


audit = load()


def finding(key: str, severity: str = "warning", **more: Any) -> dict[str, Any]:
    return {
        "key": key, "severity": severity, "id": "some-rule", "title": "Something is wrong",
        "subject": f"/mail/{key}", "evidence": ["seen here"], "why": "It matters.",
        "remedy": "Mend it.", "commands": ["chmod 2770 /mail"], **more,
    }  # fmt: skip


class Desk:
    """A host where sharefs answers what the test wants."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.state = where / "state" / "last.json"
        self.command = where / "sharefs"
        self.found()

    def found(self, *findings: dict[str, Any]) -> None:
        self.says(json.dumps({"findings": findings}))

    def says(self, output: str, *, status: int = 0, errors: str = "") -> None:
        (self.where / "output").write_text(output)
        (self.where / "errors").write_text(errors)
        self.command.write_text(
            f'#!/bin/sh\necho "$@" >{self.where}/arguments\n'
            f"cat {self.where}/errors >&2\ncat {self.where}/output\nexit {status}\n"
        )
        self.command.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, "--sharefs", str(self.command), "--state", str(self.state), *arguments],
            capture_output=True, text=True, timeout=30, check=False,
            env={**os.environ, "PYTHON": sys.executable},
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_clean_host_says_nothing(desk: Desk) -> None:
    done = desk.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (desk.where / "arguments").read_text() == (
        "audit --format json --quiet --fail-on never\n"
    )


STATUSES = [  # severity, --fail-on -> status
    ("critical", "critical", 1), ("critical", "notice", 1), ("critical", "never", 0),
    ("warning", "critical", 0), ("warning", "warning", 1), ("notice", "warning", 0),
    ("notice", "notice", 1),
]  # fmt: skip


@pytest.mark.parametrize(("severity", "fail_on", "status"), STATUSES)
def test_the_exit_status(desk: Desk, severity: str, fail_on: str, status: int) -> None:
    desk.found(finding("a", severity))
    done = desk.run("--fail-on", fail_on)
    assert done.returncode == status
    assert "/mail/a" in done.stdout


def test_a_mail_can_be_read(desk: Desk) -> None:
    long = "because " * 40
    desk.found(
        finding("b"), finding("a", why=long),
        finding("c", "critical", id="leak", title="Everybody reads it"),
    )  # fmt: skip
    lines = desk.run().stdout.splitlines()
    assert lines[0].startswith("3 findings on ")
    assert lines[2] == "CRITICAL: Everybody reads it  [leak]"
    assert lines.index("* /mail/a") < lines.index("* /mail/b")
    assert max(map(len, lines)) <= 78
    assert sum(line.startswith("WARNING: Something is wrong") for line in lines) == 1


def test_only_news_is_told(desk: Desk) -> None:
    desk.found(finding("a"), finding("b"))
    assert desk.run("--diff").returncode == 1
    again = desk.run("--diff")
    assert (again.returncode, again.stdout) == (0, "")
    desk.found(finding("b"), finding("c"))
    done = desk.run("--diff")
    assert done.returncode == 1
    assert done.stdout.startswith("1 new finding, 1 gone, 1 known before on ")
    assert "* /mail/c" in done.stdout
    assert "* /mail/b" not in done.stdout
    assert "* Something is wrong: /mail/a" in done.stdout


def test_what_became_worse_is_news(desk: Desk) -> None:
    desk.found(finding("a", "notice"))
    desk.run("--diff")
    desk.found(finding("a", "critical"))
    done = desk.run("--diff", "--fail-on", "critical")
    assert done.returncode == 1
    assert done.stdout.startswith("1 became worse on ")
    desk.found(finding("a", "notice"))
    assert desk.run("--diff").stdout == ""


def test_what_is_gone_is_told_but_no_failure(desk: Desk) -> None:
    desk.found(finding("a", "critical"))
    desk.run("--diff")
    desk.found()
    done = desk.run("--diff")
    assert done.returncode == 0
    assert done.stdout.startswith("1 gone on ")


BROKEN = [  # output, status, errors -> said
    ("", 2, "sharefs: the audit could not run: no users", "no users"),
    ("", 70, "", "ended with status 70"),
    ("no JSON", 0, "", "printed no report"),
    ("[]", 0, "", "printed no report"),
    ('{"findings": 3}', 0, "", "no list of findings"),
    ('{"findings": [{"key": "a", "severity": "terrible"}]}', 0, "", "unknown severity"),
    ('{"findings": ["a"]}', 0, "", "no JSON object"),
]


@pytest.mark.parametrize(("output", "status", "errors", "said"), BROKEN)
@pytest.mark.parametrize("mode", ["--diff", "--fail-on=never"])
def test_what_could_not_run(
    desk: Desk, output: str, status: int, errors: str, said: str, mode: str
) -> None:
    desk.found(finding("a"))
    desk.run("--diff")
    before = desk.state.read_bytes()
    desk.says(output, status=status, errors=errors)
    done = desk.run(mode)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert desk.state.read_bytes() == before, "the next run must not take old findings for new"


def test_no_command(desk: Desk) -> None:
    desk.command.unlink()
    done = desk.run()
    assert done.returncode == 2
    assert "no sharefs command found" in done.stderr


def test_it_gives_up_in_time(desk: Desk) -> None:
    desk.command.write_text("#!/bin/sh\nexec sleep 20\n")
    done = desk.run("--timeout", "0.2")
    assert done.returncode == 2
    assert "no answer within 0.2 seconds" in done.stderr


def test_two_runs_at_once_do_not_share_the_news(desk: Desk) -> None:
    desk.run("--diff")
    with open(f"{desk.state}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = desk.run("--diff")
    assert done.returncode == 2
    assert "another run is using" in done.stderr


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 9, "findings": []}', b"\xff"])
def test_a_damaged_memory_means_that_all_is_new(desk: Desk, content: bytes) -> None:
    desk.found(finding("a"))
    desk.run("--diff")
    desk.state.write_bytes(content)
    done = desk.run("--diff")
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert done.stdout.startswith("1 new finding on ")
    assert desk.run("--diff").stdout == ""


def test_the_memory_is_private_and_whole(desk: Desk) -> None:
    desk.found(finding("a"))
    desk.run("--diff")
    assert stat.S_IMODE(desk.state.stat().st_mode) == 0o600
    assert stat.S_IMODE(desk.state.parent.stat().st_mode) == 0o700
    assert sorted(os.listdir(desk.state.parent)) == ["last.json", "last.json.lock"]


def test_only_a_file_is_replaced_by_the_memory(desk: Desk) -> None:
    """As root --state /dev/null would take it from every program on the host."""
    desk.state.parent.mkdir()
    desk.state.symlink_to("/dev/null")
    done = desk.run("--diff")
    assert done.returncode == 2
    assert "is no regular file, and is not replaced" in done.stderr
    assert [entry.name for entry in desk.state.parent.iterdir()] == [desk.state.name]
    assert desk.state.is_symlink()


def test_news_that_reached_nobody_are_news_again(desk: Desk) -> None:
    desk.found(*(finding(str(number)) for number in range(150)))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SCRIPT, "--sharefs", str(desk.command), "--state", str(desk.state), "--diff"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
            env={**os.environ, "PYTHON": sys.executable},
        )  # fmt: skip
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert not desk.state.exists()


def test_hostile_names_stay_on_their_line(desk: Desk) -> None:
    evil = "a\nCRITICAL: forged\x1b[2J\u202e"
    desk.found(finding("a", subject=evil, evidence=[evil], remedy=evil, commands=[evil]))
    done = desk.run()
    assert not any(line.startswith("CRITICAL: forged") for line in done.stdout.splitlines())
    assert not any(char in done.stdout for char in "\x1b\u202e")


def test_very_many_findings_make_no_endless_mail(desk: Desk) -> None:
    desk.found(*(finding(f"{number:05}") for number in range(1000)))
    text = desk.run().stdout
    assert "... and 800 more" in text
    assert text.startswith("1000 findings on ")


def test_options_are_passed_on(desk: Desk) -> None:
    desk.run("--config", "/etc/x.conf", "--", "--user", "alice")
    assert (desk.where / "arguments").read_text().startswith("-c /etc/x.conf audit ")
    assert (desk.where / "arguments").read_text().endswith(" --user alice\n")


def test_the_script_is_found_through_a_link(desk: Desk) -> None:
    """As /etc/cron.daily/sharefs-audit -> .../scripts/audit."""
    link = desk.where / "sharefs-audit"
    link.symlink_to(SCRIPT)
    done = subprocess.run(
        [link, "--sharefs", str(desk.command)], capture_output=True, text=True, timeout=30,
        check=False, env={**os.environ, "PYTHON": sys.executable}, cwd="/",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_comparing_is_by_key_alone() -> None:
    make = audit.Finding.read
    old = [make(finding("a")), make(finding("b"))]
    new = [make(finding("b", subject="moved")), make(finding("c"))]
    news = audit.compare(old, new)
    assert [f.key for f in news.new] == ["c"]
    assert [f.key for f in news.known] == ["b"]
    assert [f.key for f in news.gone] == ["a"]
    assert news.worse == ()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("name", ["sharefs-audit.service", "sharefs-audit.timer"])
def test_systemd_accepts_the_units(tmp_path: Path, name: str) -> None:
    """With a command that is there instead of the one that is to be installed."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/usr/local/sbin/sharefs-audit", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "sharefs-audit" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.superuser
def test_with_the_real_sharefs(tmp_path: Path) -> None:
    """A share that cannot work is news once, and gone when it is mended."""
    sharefs = Path(sys.executable).with_name("sharefs")
    if not sharefs.exists():
        pytest.skip("the sharefs command is not installed beside this Python")
    with world_in_tmp() as host:
        share(host, "Work", "bob", "lrs")
        command = [
            SCRIPT, "--sharefs", sharefs, "--config", host.config_path, "--diff", "--state",
            tmp_path / "last.json", "--", "--user", "alice",
        ]  # fmt: skip

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(word) for word in command], capture_output=True, text=True, timeout=60,
                check=False, env={**os.environ, "PYTHON": sys.executable},
            )  # fmt: skip

        run()  # whatever this small host has on its conscience is known now
        closed = host.maildir("alice", ".Work", "cur")
        before = stat.S_IMODE(closed.stat().st_mode)
        closed.chmod(0o700)
        broken = run()
        assert broken.returncode == 1, broken.stderr
        assert "The ACL grants what the kernel denies  [acl-without-access]" in broken.stdout
        assert "* alice: Work" in broken.stdout
        assert run().stdout == ""
        closed.chmod(before)
        mended = run()
        assert mended.returncode == 0
        assert "gone" in mended.stdout.splitlines()[0]
        assert "The ACL grants what the kernel denies: alice: Work" in mended.stdout
