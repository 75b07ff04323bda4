"""One of new/ and cur/: its files as last seen, and whether another look is needed.

A directory's mtime tells of changes, but only in steps of the file system's clock: what happens
within the step in which we looked leaves the same mtime.  So a look is trusted only when the
mtime was old enough by then; until that, every check asks for another look.  After changes of our
own the second look waits until that step is over, or longer where looking is expensive, so that a
burst of them needs one.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.store.maildir.filename import split

log = logging.getLogger(__name__)

# A server's clock may differ this much from ours (Dovecot allows 1 s); an older mtime is over.
SKEW: Final = 2.0  # seconds
FINE_STEP: Final = 0.05  # seconds; the kernel's coarse clock ticks every 1 to 10 ms
COARSE_STEP: Final = 1.0  # seconds; file systems that keep whole seconds (ext3, some NFS)
LOOK_SHARE: Final = 20  # a second look after our own change waits this many times its cost
LOOK_WAIT: Final = 1.0  # seconds; the longest such wait, however often we change something

_Key = tuple[int, int, int]  # device, inode, mtime in ns
# The same with octets and ctime in ns: for longer than a process lives, in which a program may set
# the mtime back, or the clock be.
Trace = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """One listing.  quiet: nothing can have been renamed under it, so what it lacks is gone.

    doubles: names whose base another name has too.
    """

    files: dict[str, str]
    doubles: list[tuple[str, str]]
    quiet: bool


class Directory:
    """files: info by base, of every message file seen; the caller keeps it up to date."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = os.fspath(path)
        self._files: dict[str, str] = {}
        self._unfold: Callable[[], None] | None = None
        self._clock = clock
        self._timer = timer
        self._key: _Key | None = None
        self._trace: Trace | None = None  # when it was last looked at
        self._first_seen = 0.0  # timer when this mtime was first seen
        self._trusted = False
        self._own_until = 0.0  # timer until which only our own changes are suspected
        self._own_since: float | None = None  # timer of the first of them since the last look
        self._cost = 0.0

    @property
    def files(self) -> dict[str, str]:
        if self._unfold is not None:
            self._unfold()
        return self._files

    @files.setter
    def files(self, files: dict[str, str]) -> None:
        self._unfold = None
        self._files = files

    def resume(self, trace: Trace, unfold: Callable[[], None]) -> None:
        """Go on where another process was, which had seen all that there was.

        unfold: sets `files` to what they were then; called when they are first asked for.
        """
        device, inode, _, mtime, _ = trace
        self._key, self._trace = (device, inode, mtime), trace
        self._trusted = True
        self._unfold = unfold

    def settled_trace(self) -> Trace | None:
        """For resume().  None: something could have been missed so far, or has come since."""
        if self._key is None or not self._trusted or self._trace != trace_of(self.path):
            return None
        return self._trace

    def needs_look(self) -> bool:
        """Raises FileNotFoundError if the directory is gone."""
        if _key_of(os.lstat(self.path)) != self._key:
            return True
        return not self._trusted and self._timer() >= self._own_until

    def settles_in(self) -> float | None:
        """Seconds until another look makes sense though no event may come.  None: none does."""
        if self._trusted:
            return None
        return max(self._own_until - self._timer(), FINE_STEP)

    def distrust(self) -> None:
        """The next needs_look() is true."""
        self._key = None

    def look(self) -> Look:
        """List the directory.  Does not touch `files`."""
        started, now = self._timer(), self._clock()
        trace, before = trace_of(self.path), _key_of(os.lstat(self.path))
        with fsops.directory(self.path) as fd:  # never through a link: see Folders
            names = os.listdir(fd)
        after = _key_of(os.lstat(self.path))
        if before != self._key:
            self._key, self._first_seen = before, started
        self._trace = trace
        self._trusted = before == after and self._is_over(before[2], started, now)
        self._own_until, self._own_since = 0.0, None
        files, doubles = _by_base(names, self.path)
        self._cost = self._timer() - started
        return Look(files, doubles, self._trusted)

    def _is_over(self, mtime: int, started: float, now: float) -> bool:
        step = FINE_STEP if mtime % 1_000_000_000 else COARSE_STEP
        return now - mtime / 1e9 > SKEW or started - self._first_seen >= step

    def begin_own(self) -> bool:
        """Before changes of ours.  Whether `files` was up to date, as end_own() wants to know."""
        return _key_of(os.lstat(self.path)) == self._key

    def end_own(self, was_current: bool) -> None:
        """After changes of ours, which the caller has made in `files` too."""
        if not was_current or self._key is None:
            self._key = None
            return
        try:
            self._key = _key_of(os.lstat(self.path))
        except FileNotFoundError:
            self._key = None
            return
        self._first_seen = self._timer()
        self._trusted = False
        if self._own_since is None:
            self._own_since = self._first_seen
        wait = max(FINE_STEP, self._cost * LOOK_SHARE)
        self._own_until = min(self._first_seen + wait, self._own_since + LOOK_WAIT)


def trace_of(path: str) -> Trace:
    """Raises OSError."""
    status = os.lstat(path)
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )  # fmt: skip


def _key_of(status: os.stat_result) -> _Key:
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _by_base(names: list[str], path: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Info by base, and the further names of bases that have several."""
    text = "\n".join(names)
    files = _by_base_quickly(names, text)
    if files is None:
        return _by_base_one_by_one(names, path)
    if text.startswith(".") or "\n." in text:
        for base in [base for base in files if base.startswith(".")]:
            del files[base]
    return files, []


def _by_base_quickly(names: list[str], text: str) -> dict[str, str] | None:
    """All names at once: every one without info, or every one `<base>:2,<flags>`.

    None if that is not so.  Counting colons is enough to know, since no name begins like an info.
    """
    if text.count("\n") + 1 != max(len(names), 1) or "\r" in text:
        return None
    if ":" not in text:
        return dict.fromkeys(names, "")
    if text.count(":") != len(names) or "\n2," in text or text.startswith("2,"):
        return None
    words = text.replace("\n", ":").split(":")
    infos = words[1::2]
    shared = {info: ":" + info for info in set(infos)}  # few strings for many messages
    if not all(info.startswith("2,") for info in shared):
        return None
    files = dict(zip(words[0::2], map(shared.__getitem__, infos), strict=True))
    return files if len(files) == len(names) and "" not in files else None


def _by_base_one_by_one(
    names: list[str], path: str
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    files: dict[str, str] = {}
    doubles: list[tuple[str, str]] = []
    for name in names:
        base, info = split(name)
        if base[:1] in ("", "."):
            continue
        if "\n" in name or "\r" in name:
            log.warning("ignoring %r in %s: it has a line break in its name", name, path)
        elif base in files:
            doubles.append((base, info))
        else:
            files[base] = sys.intern(info)
    return files, doubles
