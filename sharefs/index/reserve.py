"""A file beside the index that says which modification sequences may have been given already.

They follow the clock, so an index that is lost is followed by one with higher numbers.  Should the
clock have been set back meanwhile, this is what keeps them from being given twice.  It is written
seldom: each time it reserves all numbers of the next hour.
"""

import logging
import os
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.index.numbers import LARGEST
from sharefs.index.place import RESERVE as NAME
from sharefs.permissions.inherit import DEFAULTS

log = logging.getLogger(__name__)

AHEAD: Final = 3_600_000  # an hour of the clock's milliseconds


class Reserve:
    """Of the index in one directory, which is this uid's alone.  None: of one in memory."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._limit: int | None = None

    def limit(self) -> int:
        """No number above this one was ever given.  0 if nothing is known."""
        if self._limit is None:
            self._limit = self._read()
        return self._limit

    def raise_to(self, number: int) -> None:
        """number is about to be given.  What the disk refuses is logged: the clock remains."""
        if self._directory is None or number <= self.limit():
            return
        limit = min(number + AHEAD, LARGEST)
        try:
            with fsops.directory(self._directory) as fd:
                content = b"%d\n" % limit
                fsops.replace_file(NAME, content, DEFAULTS, dir_fd=fd, fsync=False)
        except OSError as error:
            log.info("%s cannot be written: %s", self._directory / NAME, error)
            return
        self._limit = limit

    def _read(self) -> int:
        if self._directory is None:
            return 0
        try:
            with fsops.directory(self._directory) as dir_fd:
                fd = fsops.open_file(NAME, dir_fd=dir_fd)
                try:
                    text = os.read(fd, 64)
                finally:
                    os.close(fd)
        except OSError:
            return 0
        digits = text.strip()
        number = int(digits) if digits.isdigit() else 0
        return number if number <= LARGEST // 2 else 0
