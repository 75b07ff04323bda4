"""Where the mount's benchmark works: one Maildir, seen in four ways.

Plain, through bindfs, through the mirror and through its owner's view: all are the same tree on
the same file system, because a directory's place on the disk matters more to some calls (create
on ext4, which avoids inodes that were deleted lately) than who passes the call on.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.account.world import UIDS, world_in_tmp
from tests.support.mount import is_mounted, mounted

PLACES: Final = ("plain", "bindfs", "mirror", "view")
OWNER: Final = "alice"
UID: Final = UIDS[OWNER]


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A new mailbox.  below: its cur on the file system, seen: through one of the mounts."""

    below: Path
    seen: Path


@dataclass(frozen=True, slots=True)
class Places:
    """Nothing is removed before the end: what was deleted lately makes creating slow."""

    top: Path
    tree: Path
    tops: dict[str, Path]

    def mailbox(self, place: str, name: str) -> Mailbox:
        """A new one; every place gets a directory beside the others'."""
        box = self.tree / f".{name}"
        for path in (box, box / "cur", box / "new", box / "tmp"):
            path.mkdir(mode=0o700)
            os.chown(path, UID, UID)
        return Mailbox(box / "cur", self.tops[place] / f".{name}" / "cur")


@contextlib.contextmanager
def places() -> Iterator[Places]:
    """Everything mounted; unmounted and removed at the end."""
    with world_in_tmp() as world:
        home = world.home(OWNER)
        tree = home / "Maildir"
        for path in (home, tree, *(tree / name for name in ("cur", "new", "tmp"))):
            path.mkdir(exist_ok=True)
            os.chown(path, UID, UID)
            path.chmod(0o700)
        work = {name: world.top / name for name in ("bindfs", "mirror", "view")}
        for path in work.values():
            path.mkdir()
        with (
            _bound(tree, work["bindfs"] / "mnt") as bindfs,
            mounted(work["mirror"], ["--mirror", tree]) as mirror,
            mounted(
                work["view"], ["--state", world.top / "state"], config=world.config_path
            ) as view,
        ):
            tops = {
                "plain": tree, "bindfs": bindfs, "mirror": mirror.top, "view": view.top / OWNER,
            }  # fmt: skip
            yield Places(world.top, tree, tops)


@contextlib.contextmanager
def _bound(source: Path, point: Path) -> Iterator[Path]:
    point.mkdir()
    subprocess.run(["bindfs", str(source), str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)
        assert not is_mounted(point)


@contextlib.contextmanager
def as_owner() -> Iterator[None]:
    """To the file system this process is the mailbox's owner: his rights are asked for."""
    os.setegid(UID)
    os.seteuid(UID)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
