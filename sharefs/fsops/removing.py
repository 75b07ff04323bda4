"""Removing names and trees, and nothing that a link leads to."""

import contextlib
import os

from sharefs.fsops.base import Name
from sharefs.fsops.opening import open_dir


def unlink(name: Name, *, dir_fd: int | None = None, missing_ok: bool = False) -> bool:
    """Remove a file or a symbolic link.  Returns whether there was one."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        if not missing_ok:
            raise
        return False
    return True


def rmdir(name: Name, *, dir_fd: int | None = None) -> None:
    """Remove an empty directory."""
    os.rmdir(name, dir_fd=dir_fd)


def remove_tree(name: Name, *, dir_fd: int | None = None) -> None:
    """Remove a directory and everything below it, never following a symbolic link.

    Names that vanish meanwhile are fine; one that cannot be removed raises and the rest stays.
    Depth is bounded by descriptors, not by Python's stack.
    """
    # Each level: its descriptor, its own name, the subdirectories still to be removed.
    top = open_dir(name, dir_fd=dir_fd)
    levels: list[tuple[int, str, list[str]]] = [(top, "", [])]
    try:
        levels[0][2].extend(_remove_files(top))
        while levels:
            fd, own, pending = levels[-1]
            if pending:
                child = pending.pop()
                try:
                    child_fd = open_dir(child, dir_fd=fd)
                except FileNotFoundError:
                    continue
                levels.append((child_fd, child, []))
                levels[-1][2].extend(_remove_files(child_fd))
                continue
            levels.pop()
            os.close(fd)
            if levels:
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(own, dir_fd=levels[-1][0])
    finally:
        for fd, _, _ in levels:
            os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def _remove_files(fd: int) -> list[str]:
    """Unlink all but the directories; return those."""
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in found:
        if not is_dir:
            unlink(name, dir_fd=fd, missing_ok=True)
    return [name for name, is_dir in found if is_dir]


def exists(name: Name, *, dir_fd: int | None = None) -> bool:
    """Whether the name is taken, by a dangling symbolic link too."""
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
