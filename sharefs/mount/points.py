"""Mount points: which are ours, which are dead, and what this host lacks for making one."""

import contextlib
import errno
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from sharefs.errors import Code, SharingError

TYPE: Final = "fuse.sharefs"
DEVICE: Final = Path("/dev/fuse")
FUSE_CONF: Final = Path("/etc/fuse.conf")
PATIENCE: Final = 2.0  # seconds


class State(Enum):
    """How a mount is; the value is what the user is told."""

    SERVING = "serving"
    DEAD = "dead: no process answers; umount it or mount anew"
    SILENT = "silent: its process does not answer now; end it if that lasts"


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of /proc/self/mounts."""

    source: str
    mountpoint: Path
    options: str

    def text(self) -> str:
        kind = "view" if self.source == "sharefs" else f"mirror of {self.source}"
        return f"{self.mountpoint}\t{kind}\t{state_of(self.mountpoint).value}\t{self.options}"


def mounts(table: Path = Path("/proc/self/mounts")) -> list[Mounted]:
    """Every mount of ours that this process can see."""
    found = []
    for line in table.read_text(errors="surrogateescape").splitlines():
        source, mountpoint, kind, options, *_ = line.split(" ")
        if kind == TYPE:
            found.append(Mounted(_unescape(source), Path(_unescape(mountpoint)), options))
    return found


def _unescape(text: str) -> str:
    """fstab(5): space, tab, newline and backslash are written in octal."""
    for octal, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(octal, plain)
    return text


def state_of(mountpoint: Path, patience: float = PATIENCE) -> State:
    """Whether the process of a FUSE file system answers.  patience: seconds to wait for that."""
    found: list[State] = []

    def ask() -> None:
        try:
            os.statvfs(mountpoint)  # never answered from the kernel's cache, as stat(2) may be
        except OSError as error:
            gone = error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
            found.append(State.DEAD if gone else State.SERVING)
        else:
            found.append(State.SERVING)

    # Nothing but the end of this process brings a thread back that waits for an answer.
    thread = threading.Thread(target=ask, name="status", daemon=True)
    thread.start()
    thread.join(patience)
    return found[0] if found else State.SILENT


def recover_stale(mountpoint: Path) -> None:
    """Unmount what a dead process of ours left.  Others' dead mounts are not touched.

    Raises SharingError if it cannot be unmounted, or if a living mount of ours is there.
    """
    ours = any(one.mountpoint == mountpoint for one in mounts())
    state = state_of(mountpoint)
    if state is State.DEAD:
        if not ours:
            raise SharingError(
                Code.UNAVAILABLE,
                f"{mountpoint} is a dead mount of another program; umount {mountpoint} first",
            )
        unmount(mountpoint)
    elif ours:
        raise SharingError(
            Code.ALREADY_EXISTS, f"{mountpoint} is mounted already, and {state.value}"
        )
    elif state is State.SILENT:
        raise SharingError(Code.UNAVAILABLE, f"what is mounted on {mountpoint} does not answer")


def unmount(mountpoint: Path) -> None:
    """Unmount lazily: who still has a file open there keeps getting errors, nobody else."""
    command = ["umount", "-l"] if os.geteuid() == 0 else [_fusermount(), "-u", "-z"]
    done = subprocess.run([*command, str(mountpoint)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SharingError(Code.UNAVAILABLE, f"{mountpoint}: {done.stderr.strip()}")


def _fusermount() -> str:
    return shutil.which("fusermount3") or "fusermount3"


def demand_fuse() -> None:
    """Raises SharingError saying what this host lacks."""
    if not DEVICE.exists():
        raise SharingError(
            Code.UNAVAILABLE,
            f"{DEVICE} is missing: load the kernel module (modprobe fuse), or give the container"
            " the device (--device /dev/fuse --cap-add SYS_ADMIN)",
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise SharingError(
            Code.UNAVAILABLE, f"{DEVICE} may not be opened by uid {os.geteuid()}; run this as root"
        )
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise SharingError(
            Code.UNAVAILABLE, "fusermount3 is missing, which mounts for users: install fuse3"
        )


def user_allow_other() -> bool:
    """Whether /etc/fuse.conf lets users mount for others too."""
    with contextlib.suppress(OSError):
        lines = FUSE_CONF.read_text().splitlines()
        return any(line.strip() == "user_allow_other" for line in lines)
    return False
