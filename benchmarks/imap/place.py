"""Where the mail of a section is: in a directory that goes with the run, or kept for other runs."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SEARCHABLE: Final = 0o711  # the users' homes are below
_HALF_MADE: Final = ".part"


@dataclass(frozen=True, slots=True)
class Place:
    """top: below it are both servers' copies.  found: as an earlier run left them."""

    top: Path
    found: bool = False


@contextlib.contextmanager
def passing(make: Callable[[Path], None], directory: Path | None) -> Iterator[Place]:
    """Mail that is made for a `with`, below directory or in $TMPDIR."""
    top = Path(tempfile.mkdtemp(prefix="sharefs-bench-", dir=directory))
    try:
        top.chmod(_SEARCHABLE)
        make(top)
        yield Place(top)
    finally:
        shutil.rmtree(top)


@contextlib.contextmanager
def lasting(make: Callable[[Path], None], work: Path, section: str) -> Iterator[Place]:
    """Mail that stays in work/section, made if it is not there yet.

    Raises BlockingIOError if another run is in there.
    """
    work.mkdir(exist_ok=True)
    work.chmod(_SEARCHABLE)
    lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        top = work / section
        found = top.exists()
        if not found:
            part = work / (section + _HALF_MADE)  # what a run left that was cut short is no use
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            part.chmod(_SEARCHABLE)
            make(part)
            part.rename(top)
        yield Place(top, found)
    finally:
        os.close(lock)
