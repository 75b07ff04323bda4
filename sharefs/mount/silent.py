"""File systems that do not answer, and who is told so instead of waiting with everybody else.

For any thread.  Nothing here asks such a file system anything.
"""

import errno
import os
from pathlib import Path, PurePosixPath

from sharefs.mount.foreign import Mounted, holder_of

_MAX_LINKS = 40  # as the kernel follows in one path


class Silent:
    """None, most of the time: then asking costs nothing.

    devices: st_dev of each.  mounts: everything that is mounted, kept up to date by `relief`.
    """

    def __init__(self) -> None:
        self.devices: frozenset[int] = frozenset()
        self.mounts: tuple[Mounted, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.devices)

    def begin(self, device: int) -> None:
        self.devices |= {device}

    def end(self, device: int) -> None:
        self.devices -= {device}

    def demand(self, device: int) -> None:
        """Raises OSError(ETIMEDOUT) if that file system does not answer."""
        if device in self.devices:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def demand_path(self, path: str | os.PathLike[str]) -> None:
        """The same of the file system that a path leads to."""
        holder = mount_of(PurePosixPath(path), self.mounts) if self.devices else None
        if holder is not None:
            self.demand(holder.device)

    def demand_below(self, path: Path) -> None:
        """The same of a directory and of everything that is mounted below it."""
        self.demand_path(path)
        for one in self.mounts if self.devices else ():
            if one.path.is_relative_to(path):
                self.demand(one.device)

    def demand_name(self, dir_fd: int, name: str) -> None:
        """The same of what may be mounted on a name in an open directory."""
        if self.devices:
            self.demand_path(PurePosixPath(os.readlink(f"/proc/self/fd/{dir_fd}"), name))


def mount_of(path: PurePosixPath, mounts: tuple[Mounted, ...]) -> Mounted | None:
    """On which of them an absolute path lies, symbolic links followed.

    Links are looked at as long as the way is on file systems that always answer, which is as far
    as there is anything to find out.
    """
    here, ahead, links = PurePosixPath("/"), list(reversed(path.parts[1:])), 0
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = here.parent
            continue
        holder = holder_of(here / name, mounts)
        if holder is not None and holder.may_hang:
            return holder
        try:
            target = PurePosixPath(os.readlink(here / name))
        except OSError:
            here = here / name
            continue
        links += 1
        if links > _MAX_LINKS:
            return None
        if target.is_absolute():
            here = PurePosixPath("/")
        ahead.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
    return holder_of(here, mounts)
