"""File systems of other kinds, each in a sparse file: what the tests' own directory is not on."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

# MiB; the least that mkfs makes (XFS, Btrfs), and enough (ext4).  Next to nothing is written.
_SIZES: Final = {"btrfs": 128, "ext4": 8, "vfat": 8, "xfs": 320}
_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"


def make_image(kind: str, image: Path) -> None:
    """Make a file system in a new file.  Skips the test where there is no mkfs.KIND."""
    program = shutil.which(f"mkfs.{kind}", path=_PATH)
    if program is None:
        pytest.skip(f"no mkfs.{kind} here")
    with image.open("wb") as file:
        file.truncate(_SIZES[kind] << 20)
    subprocess.run([program, str(image)], check=True, capture_output=True)


@contextlib.contextmanager
def loop_mounted(kind: str, top: Path, options: str = "rw") -> Iterator[Path]:
    """A new file system, mounted in a directory for everybody, and gone with the block.

    Skips the test where mkfs.KIND, the kernel's part or loop devices are missing.
    """
    image, point = top / f"{kind}.image", top / kind
    point.mkdir()
    make_image(kind, image)
    command = ["mount", "-t", kind, "-o", f"loop,{options}", str(image), str(point)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"{kind} cannot be mounted here: {mounted.stderr.strip()}")
    try:
        point.chmod(0o755)
        yield point
    finally:
        done = subprocess.run(["umount", str(point)], check=False).returncode
        if done:
            subprocess.run(["umount", "-l", str(point)], check=False)
        image.unlink()


def subvolume(path: Path) -> Path:
    """A new Btrfs subvolume: a directory with a device number of its own."""
    subprocess.run(["btrfs", "-q", "subvolume", "create", str(path)], check=True)
    return path
