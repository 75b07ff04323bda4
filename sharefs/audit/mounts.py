"""Mounted file systems: which one a path is on, and which of its options change the rules.

From /proc/self/mountinfo (proc_pid_mountinfo(5)), of this process's own mount namespace.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.permissions.access import Inode
from sharefs.permissions.predict import GroupRule

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_IRRELEVANT: Final = frozenset({"nosuid", "noexec", "nodev"})
_SPECIAL: Final = frozenset({"ro", "nosuid", "noexec", "nodev"})
_GROUP_OF_DIRECTORY: Final = frozenset({"grpid", "bsdgroups"})
# What has no owners, modes or colons in names, or makes them up for the whole mount.
_FOREIGN: Final = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfs"})
# Locks that the other hosts do not see: nfs(5).
_LOCAL_LOCKS: Final = frozenset(
    {"nolock", "local_lock=all", "local_lock=posix", "local_lock=flock"}
)
_OVERLAYS: Final = frozenset({"overlay", "aufs"})
_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "afs"})


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount.  number: its id.  options: of the mount and of the file system together.

    read_only_bind: the mount is read-only, and its file system is not.
    """

    number: int
    point: str
    kind: str
    source: str
    options: frozenset[str]
    read_only_bind: bool = False

    @property
    def read_only(self) -> bool:
        return "ro" in self.options

    @property
    def group_of_directory(self) -> bool:
        """Whether every new file gets its directory's group, setgid or not."""
        return bool(self.options & _GROUP_OF_DIRECTORY)

    @property
    def group_rule(self) -> GroupRule:
        if not self.group_of_directory:
            return GroupRule.SYSV
        return GroupRule.BSD_SETGID if self.kind == "xfs" else GroupRule.BSD

    @property
    def is_network(self) -> bool:
        """Whether a server elsewhere has a say in what is allowed."""
        return self.kind in _NETWORK or self.kind.startswith("fuse.")

    @property
    def is_view(self) -> bool:
        """Whether `sharefs mount` shows each caller his own mailboxes there."""
        return self.kind == "fuse.sharefs" and self.source == "sharefs"

    @property
    def is_overlay(self) -> bool:
        """Whether what was there before is copied when it is first changed (overlayfs)."""
        return self.kind in _OVERLAYS

    @property
    def is_foreign(self) -> bool:
        """Whether the file system keeps no owners and modes."""
        return self.kind in _FOREIGN

    @property
    def locks_alone(self) -> bool:
        """Whether the locks taken here are unknown to other hosts that have the same files."""
        return self.is_network and bool(self.options & _LOCAL_LOCKS)

    @property
    def acls_off(self) -> bool:
        return "noacl" in self.options

    def describe(self) -> str:
        """One line, with what the options mean for mail."""
        telling = _SPECIAL | _GROUP_OF_DIRECTORY | _LOCAL_LOCKS | {"noacl"}
        shown = sorted(self.options & telling)
        text = self.kind + (f", mounted {','.join(shown)}" if shown else "")
        if self.is_overlay:
            text += ", where a directory from below cannot be renamed"
        if idle := sorted(self.options & _IRRELEVANT):
            verb = "does" if len(idle) == 1 else "do"
            text += f"; {' and '.join(idle)} {verb} not matter to mail"
        return text


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Read mountinfo.  Lines that do not parse are left out.  Pure."""
    found: list[Mount] = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(tail) < 3 or not fields[0].isdigit():
            continue
        # A bind mount may be read-only although its file system is not; never the other way.
        own, system = frozenset(fields[5].split(",")), frozenset(tail[2].split(","))
        bind = "ro" in own and "ro" not in system
        options = own | system - ({"rw"} if bind else frozenset())
        found.append(
            Mount(int(fields[0]), _plain(fields[4]), tail[0], _plain(tail[1]), options, bind)
        )
    return tuple(found)


def mounts_of_host() -> tuple[Mount, ...]:
    """The mounts of this process; none if /proc cannot be read."""
    try:
        octets = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return ()
    return parse_mounts(octets.decode("utf-8", "surrogateescape"))


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that a path without symbolic links is on.  None: it is not known.  Pure.

    Of two mounts on one point the later one hides the other.
    """
    best: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def has_view(point: str, mounts: Sequence[Mount]) -> bool:
    """Whether a view, and nothing above it, is mounted on a path without symbolic links.  Pure."""
    path = os.path.normpath(point)
    found = mount_of(path, mounts)
    return found is not None and found.is_view and found.point == path


def is_mount_point(path: str, mounts: Iterable[Mount]) -> bool:
    return any(mount.point == path for mount in mounts)


def has_mounts_inside(path: str, mounts: Iterable[Mount]) -> bool:
    """Whether something is mounted below a path without symbolic links.  Pure."""
    inside = path.rstrip("/") + "/"
    return any(mount.point.startswith(inside) for mount in mounts)


def group_rule_at(inode: Inode) -> GroupRule:
    """Whose group the file system gives a new name there.

    inode: a directory, which may not be made yet.
    """
    path = inode.path
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    mount = mount_of(os.path.realpath(path), mounts_of_host())
    return GroupRule.SYSV if mount is None else mount.group_rule


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)
