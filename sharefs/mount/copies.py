"""Where viewers' own copies of control files lie, and how much of them one uid may have.

A viewer may give his copies any name and any content, and they lie on the daemon's file system, so
without a limit whoever may read one mailbox could fill it for everybody.  Counting every octet
would cost at every write; so what is written is added up, and only when the sum says that it is too
much are the files looked at, once a second at most.
"""

import errno
import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.fsops import Ownership

log: Final = logging.getLogger(__name__)

LIMIT: Final = 1 << 30  # octets of one uid's
MAX_FILES: Final = 10_000  # of one uid's
RARELY: Final = 1.0  # seconds between two looks at one uid's files
UNUSED: Final = 90 * 86400.0  # seconds; then a mailbox's copies are removed
_BLOCK: Final = 512  # octets; what st_blocks counts


@dataclass(slots=True)
class _Account:
    """What a uid has at most.  looked: when the files were looked at."""

    octets: int
    files: int
    looked: float


class Copies:
    """top: the daemon's alone.  limit: octets on the disk.  clock: seconds, for how often.

    Only for the thread that handles requests.
    """

    def __init__(
        self, top: Path, limit: int = LIMIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._top = top
        self._limit = limit
        self._clock = clock
        self._accounts: dict[int, _Account] = {}

    def path_of(self, uid: int, words: Iterable[str]) -> Path:
        """The directory for one mailbox, named by these words, in the view of this uid."""
        key = "\0".join(words).encode("utf-8", "surrogateescape")
        return self._top / f"{uid}-{hashlib.sha256(key).hexdigest()[:32]}"

    def open(self, path: Path, *, make: bool) -> int | None:
        """An O_PATH descriptor of it, in use from now on.  None: it is not there."""
        try:
            fd = fsops.open_dir(path, search_only=True)
        except FileNotFoundError:
            if not make:
                return None
            fsops.make_owned_dir(path, Ownership(os.geteuid(), os.getegid(), 0o700))
            return fsops.open_dir(path, search_only=True)
        os.utime(f"/proc/self/fd/{fd}")
        return fd

    def pay(
        self, uid: int, octets: int, *, files: int = 0, nameless: Callable[[], int] = lambda: 0
    ) -> None:
        """Before a uid's copies grow.  Raises OSError(EDQUOT) if they may not.

        nameless: octets of removed files that are still open, asked when the files are looked at.
        """
        account = self._accounts.get(uid)
        if account is None or (
            self._is_full(account, octets, files) and self._clock() - account.looked >= RARELY
        ):
            account = self._accounts[uid] = self._look(uid, nameless())
        if self._is_full(account, octets, files):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        account.octets += octets
        account.files += files

    def _is_full(self, account: _Account, octets: int, files: int) -> bool:
        return account.octets + octets > self._limit or account.files + files > MAX_FILES

    def _look(self, uid: int, nameless: int) -> _Account:
        account = _Account(nameless, 0, self._clock())
        for directory in self._directories():
            if not directory.name.startswith(f"{uid}-"):
                continue
            with os.scandir(directory) as entries:
                for entry in entries:
                    account.files += 1
                    account.octets += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
        return account

    def _directories(self) -> list[os.DirEntry[str]]:
        with os.scandir(self._top) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]

    def remove_unused(self, now: float) -> list[str]:
        """Copies of mailboxes that nobody has entered for long; indexes are made anew.

        Before anybody uses them.  now: as time.time().  Returns the names of what was removed.
        """
        removed = []
        for directory in self._directories():
            try:
                if now - _last_used(directory) > UNUSED:
                    fsops.remove_tree(directory.path)
                    removed.append(directory.name)
            except OSError as error:
                log.warning("cannot remove the unused copies %s: %s", directory.path, error)
        return removed


def _last_used(directory: os.DirEntry[str]) -> float:
    last = directory.stat(follow_symlinks=False).st_mtime
    with os.scandir(directory) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                last = max(last, status.st_mtime)
    return last
