"""Our file system, mounted in a temporary directory by a real daemon, and gone at the end."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

READY: Final = 20.0  # seconds for the daemon to mount
ENDED: Final = 10.0


@dataclass
class Mount:
    """A mounted file system.  top: where.  process: its daemon, in the foreground."""

    top: Path
    process: subprocess.Popen[bytes]
    log_path: Path
    expected: list[str] = field(default_factory=list)
    died: bool = False  # the test has ended the daemon its own way

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def expect_log(self, text: str) -> None:
        """The log may have errors with this text in it; any other is a failure."""
        self.expected.append(text)

    def descriptors(self) -> int:
        """How many the daemon has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextlib.contextmanager
def mounted(
    work: Path,
    arguments: Sequence[str | Path],
    *,
    options: Sequence[str] = (),
    config: Path | None = None,
    shell: str = "",
) -> Iterator[Mount]:
    """`sharefs mount` with these arguments on work/mnt.  Ends with the block, cleanly, or fails.

    work: a directory that every user of the test can enter.  options: before the subcommand.
    shell: what a shell is to do before it becomes the daemon, "ulimit -n 99; exec ".
    """
    top = work / "mnt"
    top.mkdir(exist_ok=True)
    log_path = work / "mount.log"
    command = [sys.executable, "-m", "sharefs"]
    if config is not None:
        command += ["-c", str(config)]
    command += [*options, "mount", str(top), "--foreground", *map(str, arguments)]
    if shell:
        command = ["sh", "-c", shell + shlex.join(command)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment,
            start_new_session=True,
        )  # fmt: skip
    mount = Mount(top, process, log_path)
    try:
        _wait_ready(mount)
        yield mount
        if not mount.died:
            _end(mount)
    finally:
        _clean_up(mount)


def is_mounted(top: Path) -> bool:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return any(line.split(" ")[1] == str(top) for line in lines)


def _wait_ready(mount: Mount) -> None:
    deadline = time.monotonic() + READY
    while not is_mounted(mount.top):
        if mount.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"not mounted (status {mount.process.poll()}):\n{mount.log()}")
        time.sleep(0.01)
    os.stat(mount.top)  # the daemon answers this, so it also listens to signals


def _end(mount: Mount) -> None:
    """The daemon unmounts and ends when told to, and has nothing to complain of."""
    if mount.process.poll() is None:
        mount.process.send_signal(signal.SIGTERM)
    status = mount.process.wait(ENDED)
    text = mount.log()
    assert status == 0, f"the daemon ended with {status}:\n{text}"
    assert not is_mounted(mount.top), "still mounted after the daemon ended"
    bad = [
        line
        for line in text.splitlines()
        if line.startswith(("ERROR", "CRITICAL", "Traceback", "Exception"))
        and not any(text in line for text in mount.expected)
    ]
    told = [*bad, "and before it ended:", *text.splitlines()[-50:]]
    assert not bad, "the daemon complained:\n" + "\n".join(told)


def _clean_up(mount: Mount) -> None:
    if mount.process.poll() is None:
        mount.process.kill()
        mount.process.wait()
    if is_mounted(mount.top):
        subprocess.run(["umount", "-l", str(mount.top)], check=False)
