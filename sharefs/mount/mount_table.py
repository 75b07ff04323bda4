"""What is mounted where, as far as it changes what names mean: no event tells of that.  Pure, but
for what reads the table."""

import os
from collections.abc import Callable, Iterator

from sharefs.mount.creation import MAIL_FOLDERS


class Mounts:
    """The mounts that matter.  read: the table's text (proc(5), mountinfo)."""

    def __init__(self, matter: Callable[[str], frozenset[str]], read: Callable[[], str]) -> None:
        self._matter = matter
        self._read = read
        self._known = matter(read())

    def changed(self) -> bool:
        """Whether there are others than the last time."""
        before, self._known = self._known, self._matter(self._read())
        return before != self._known


def mounts_below(top: str, mount: str, mountinfo: str) -> frozenset[str]:
    """Lines of mounts below a path, which is on the mount with this number, and on those."""
    children: dict[str, list[tuple[str, str]]] = {}
    for number, parent, path, line in _lines(mountinfo):
        if parent != mount or path.startswith(top.rstrip("/") + "/"):
            children.setdefault(parent, []).append((number, line))
    found, pending = set(), [mount]
    while pending:
        for number, line in children.pop(pending.pop(), ()):
            found.add(line)
            pending.append(number)
    return frozenset(found)


def mounts_in_mail_folders(mountinfo: str) -> frozenset[str]:
    """Lines of mounts on what lies in a cur, new or tmp, wherever that is."""
    return frozenset(
        line
        for _, _, path, line in _lines(mountinfo)
        if os.path.basename(os.path.dirname(path)) in MAIL_FOLDERS
    )


def mounted(mountinfo: str) -> tuple[frozenset[int], frozenset[str]]:
    """Devices (st_dev) and numbers of all mounts."""
    devices, numbers = set(), set()
    for line in mountinfo.splitlines():
        number, _, device, _ = line.split(" ", 3)
        major, _, minor = device.partition(":")
        devices.add(os.makedev(int(major), int(minor)))
        numbers.add(number)
    return frozenset(devices), frozenset(numbers)


def _lines(mountinfo: str) -> Iterator[tuple[str, str, str, str]]:
    """Number, that of the mount above, where, and the whole line."""
    for line in mountinfo.splitlines():
        number, parent, _, _, point, _ = line.split(" ", 5)
        path = point.encode("utf-8", "surrogateescape").decode("unicode_escape")  # \040
        yield number, parent, path.encode("latin-1").decode("utf-8", "surrogateescape"), line


def text_of(fd: int) -> str:
    """The whole of a file of proc(5), from its beginning."""
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts).decode("utf-8", "surrogateescape")
