"""The unit under a real systemd, booted in name spaces of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sharefs.mount.main import NEEDED, USEFUL
from tests.support.server import wait_until

SYSTEMD: Final = Path("/lib/systemd/systemd")
CGROUPS: Final = tuple(
    map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"))
)  # v1 hosts, v2 hosts
UNIT: Final = Path("scripts/systemd/sharefs-mount.service")
BOOT: Final = """
mount --make-rprivate /
mount -t tmpfs tmpfs /run
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec "$0" --system --unit=sharefs-mount.service --log-target=console --show-status=no
"""

pytestmark = [
    pytest.mark.superuser,
    pytest.mark.fuse,
    pytest.mark.slow,
    pytest.mark.skipif(not SYSTEMD.exists(), reason="no systemd"),
]


class Booted:
    """A systemd, and what it mounts.  top: the mount point, in its name space."""

    def __init__(self, process: subprocess.Popen[bytes], top: Path) -> None:
        self.process = process
        self.top = top

    def _inside(self, *words: str) -> subprocess.CompletedProcess[str]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:  # not yet
            return subprocess.CompletedProcess(words, 1, "", "")
        target = ["nsenter", "-t", children[0], "-m", "-p", "--"]
        return subprocess.run(
            [*target, *words], capture_output=True, text=True, timeout=30, check=False
        )

    def systemctl(self, *words: str) -> str:
        return self._inside("systemctl", *words).stdout.strip()

    def tell(self, name: str) -> str:
        return self.systemctl("show", "--value", "-p", name, "sharefs-mount.service")

    def state(self) -> str:
        """For whoever looks at a failure."""
        return self.systemctl("status", "--no-pager", "-l", "sharefs-mount.service")

    def read(self) -> str:
        """What is in a file on the mount; "" if it is not there."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._inside("timeout", "1", "cat", str(self.top / "file")).stdout
        return ""


@pytest.fixture
def booted(open_tmp: Path) -> Iterator[Booted]:
    units, top = open_tmp / "units", open_tmp / "mail"
    units.mkdir()
    log_path = open_tmp / "log"
    (open_tmp / "source").mkdir()
    (open_tmp / "source" / "file").write_text("hello")
    command = f"{sys.executable} -m sharefs mount --mirror {open_tmp}/source --foreground {top}"
    text = UNIT.read_text()
    for before, after in (
        ("/usr/local/bin/sharefs mount --foreground /mail", command),
        ("-p /mail", f"-p {top}"),
        (
            "WatchdogSec=60",
            f"WatchdogSec=2\nWorkingDirectory={os.getcwd()}\nStandardError=append:{log_path}",
        ),
        ("TimeoutAbortSec=10", "TimeoutAbortSec=1"),
        ("After=", "DefaultDependencies=no\nAfter="),
        ("StateDirectory=sharefs/mount\nStateDirectoryMode=0700\n", ""),  # of this machine's /var
    ):
        assert before in text
        text = text.replace(before, after)
    (units / UNIT.name).write_text(text)
    holder = next(path for path in CGROUPS if (path / "cgroup.procs").exists())
    group = holder / f"sharefs-test-{os.getpid()}"
    group.mkdir()
    log = log_path.open("ab")
    process = subprocess.Popen(
        ["bash", "-c", f'echo $$ >{group}/cgroup.procs; exec unshare "$@"', "-", "--mount", "--pid",
         "--fork", "--kill-child", "--cgroup", "--mount-proc", "bash", "-ec", BOOT, str(SYSTEMD)],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        env={**os.environ, "container": "other", "SYSTEMD_UNIT_PATH": str(units)},
    )  # fmt: skip
    try:
        made = Booted(process, top)
        wait_until(lambda: made.read() == "hello", 30, log_path.read_text)
        yield made
    finally:
        process.kill()  # and the kernel everything below it
        process.wait()
        log.close()
        wait_until(lambda: removed(group), 10)


def removed(group: Path) -> bool:
    for path in sorted(group.rglob("*"), reverse=True):
        if path.is_dir():
            with contextlib.suppress(OSError):
                path.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def test_the_unit_lives_as_it_says(booted: Booted) -> None:
    """Ready when it is mounted; started anew when it stands still, or is killed; gone on stop."""
    assert shutil.which("nsenter")
    assert booted.tell("ActiveState") == "active"
    first = booted.tell("MainPID")
    booted.systemctl("kill", "--kill-whom=main", "--signal=SIGSTOP", "sharefs-mount.service")
    wait_until(lambda: booted.tell("MainPID") not in (first, "0"), 30, booted.state)
    wait_until(lambda: booted.read() == "hello", 30, booted.state)
    second = booted.tell("MainPID")
    booted.systemctl("kill", "--kill-whom=main", "--signal=SIGKILL", "sharefs-mount.service")
    wait_until(lambda: booted.tell("MainPID") not in (second, "0"), 30, booted.state)
    wait_until(lambda: booted.read() == "hello", 30, booted.state)
    assert int(booted.tell("NRestarts")) == 2
    booted.systemctl("stop", "sharefs-mount.service")
    assert booted.tell("ActiveState") == "inactive"
    assert booted.tell("Result") == "success"
    assert booted.read() == ""


def test_the_unit_leaves_the_daemon_what_it_needs() -> None:
    (line,) = (line for line in UNIT.read_text().splitlines() if "CapabilityBoundingSet" in line)
    left = set(line.partition("=")[2].split())
    to_begin = {"CAP_SYS_ADMIN", "CAP_SETPCAP"}  # mounts; gives the bounding set up
    assert left == {f"CAP_{one.name}" for one in (*NEEDED, *USEFUL)} | to_begin
