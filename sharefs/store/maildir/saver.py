"""Messages on their way into a Maildir: written to tmp/, then moved in place all at once.

A crash before the move leaves a file in tmp/, which is swept after 36 hours; a crash after it
leaves a whole message, which the next sync of anybody numbers.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from sharefs import fsops
from sharefs.errors import SharingError
from sharefs.flags import FlagSet
from sharefs.fsops import Entry
from sharefs.store.interface import Saver
from sharefs.store.maildir.config import Site
from sharefs.store.maildir.filename import Sizes, sizes_of, unique_names, with_sizes
from sharefs.store.maildir.folders import Folders
from sharefs.store.maildir.line_ends import LineEnds

log = logging.getLogger(__name__)

TMP_AGE: Final = 36 * 3600  # seconds; what maildir(5) gives a delivery to finish
TMP_SWEEP: Final = 8 * 3600  # seconds between two looks into tmp/
BUFFER: Final = 1 << 17  # octets
# Several files are flushed side by side, because a journal commits for all who wait for it: a
# hundred small messages in less than half the time.
SYNC_BATCH: Final = 16  # messages, and open descriptors
SYNC_THREADS: Final = 8


class Pending(NamedTuple):
    """A finished message in tmp/.  base: the base name to keep if it is free (copies).

    sizes: for a new name; None: those that base tells.
    """

    temp: str
    flags: FlagSet
    sizes: Sizes | None
    base: str | None = None

    def place(self, tmp_fd: int, fd: int, info: str, taken: Collection[str]) -> str:
        """Move it to the directory fd, new/ or, if it has an info, cur/.  Returns its base.

        taken: bases that would be mistaken for another message.
        """
        base = self.base if self.base is not None and self.base not in taken else None
        while True:
            name = self._new_name() if base is None else base
            try:
                fsops.rename_new(Entry(tmp_fd, self.temp), Entry(fd, name + info))
            except FileExistsError:
                base = None
            else:
                return name

    def _new_name(self) -> str:
        sizes = sizes_of(self.base or "") if self.sizes is None else self.sizes
        return with_sizes(unique_names.next(), sizes)


class MaildirSaver(Saver):
    """commit: takes the finished messages, in order, and a descriptor of the tmp/ that they are in;
    returns their UIDs."""

    def __init__(
        self, site: Site, folders: Folders, commit: Callable[[Sequence[Pending], int], list[int]]
    ) -> None:
        self._site = site
        self._folders = folders
        self._commit = commit
        self._creation = site.creation()
        self._done: list[Pending] = []
        self._temp: str | None = None
        self._fd = -1
        self._tmp_fd = -1  # of tmp/, once it was needed
        self._unsynced: list[int] = []  # descriptors of finished messages
        self._flags = FlagSet()
        self._internaldate: int | None = None
        self._ends = LineEnds(keep_crlf=False)
        self._buffer: list[bytes] = []
        self._buffered = 0

    def begin(self, flags: FlagSet, internaldate: int | None) -> None:
        if self._temp is not None:
            raise RuntimeError("begin() before finish() of the last message")
        temp = unique_names.next()
        self._fd = fsops.create_file(temp, self._creation, dir_fd=self._tmp())
        self._temp = temp
        self._flags = flags
        self._internaldate = internaldate
        self._ends = LineEnds(keep_crlf=self._site.config.save_crlf)

    def _tmp(self) -> int:
        """A descriptor of tmp/, for all messages of this saver.  Raises as Folders.mailbox()."""
        if self._tmp_fd < 0:
            with self._folders.mailbox() as top:
                sweep_tmp("tmp", dir_fd=top)
                self._tmp_fd = fsops.open_dir("tmp", dir_fd=top, search_only=True)
        return self._tmp_fd

    def write(self, octets: bytes | memoryview) -> None:
        self._put(self._ends.feed(octets))

    def _put(self, octets: bytes, *, flush: bool = False) -> None:
        self._buffer.append(octets)
        self._buffered += len(octets)
        if self._buffered >= BUFFER or flush:
            content, self._buffer, self._buffered = b"".join(self._buffer), [], 0
            fsops.write_all(self._fd, content)

    def finish(self) -> None:
        if self._temp is None:
            raise RuntimeError("finish() without begin()")
        self._put(self._ends.finish(), flush=True)
        if self._internaldate is not None:
            os.utime(self._fd, (self._internaldate, self._internaldate))
        if self._site.config.fsync:
            self._unsynced.append(self._fd)
            self._fd = -1
        self._close()
        sizes = Sizes(self._ends.stored, self._ends.virtual)
        self._done.append(Pending(self._temp, self._flags, sizes))
        self._temp = None
        if len(self._unsynced) >= SYNC_BATCH:
            self._sync()

    def _sync(self) -> None:
        """Flush what was finished; a full disk may tell only now (OSError)."""
        fds = self._unsynced
        if len(fds) == 1:
            os.fsync(fds[0])
        elif fds:
            with ThreadPoolExecutor(min(len(fds), SYNC_THREADS)) as pool:
                for _ in pool.map(os.fsync, fds):
                    pass
        self._close_unsynced()

    def _close_unsynced(self) -> None:
        while self._unsynced:
            os.close(self._unsynced.pop())

    def add_file(
        self, source: Entry, flags: FlagSet, base: str, sizes: Sizes | None, *, alike: bool
    ) -> bool:
        """Link or copy a message file.  Returns whether it was linked.

        base: the name to keep if it is free.  sizes: for another name, if base does not tell them.

        Raises FileNotFoundError if the source is gone, with nothing added.
        """
        temp = unique_names.next()
        placed = fsops.link_or_copy(
            source,
            Entry(self._tmp(), temp),
            self._creation,
            alike=alike,
            fsync=bool(self._site.config.fsync),
        )
        self._done.append(Pending(temp, flags, sizes, base))
        return placed is fsops.Placed.LINKED

    def commit(self) -> list[int]:
        if self._temp is not None:
            raise RuntimeError("commit() before finish()")
        self._sync()
        uids = self._commit(self._done, self._tmp_fd)
        self._done = []
        self._close_tmp()
        return uids

    def abort(self) -> None:
        self._close()
        self._close_tmp()
        self._close_unsynced()
        self._buffer, self._buffered = [], 0
        names = [item.temp for item in self._done]
        if self._temp is not None:
            names.append(self._temp)
        self._done, self._temp = [], None
        if not names:
            return
        # Gone with the mailbox, or out of reach: then tmp/ is swept one day.
        with contextlib.suppress(FileNotFoundError, SharingError), self._folders.tmp() as tmp_fd:
            for name in names:
                fsops.unlink(name, dir_fd=tmp_fd, missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _close_tmp(self) -> None:
        if self._tmp_fd >= 0:
            os.close(self._tmp_fd)
            self._tmp_fd = -1


def sweep_tmp(tmp: str, *, dir_fd: int | None = None, now: float | None = None) -> None:
    """Remove what crashed deliveries left in tmp/.  Looks only every eight hours: its atime."""
    now = time.time() if now is None else now
    try:
        if now - os.lstat(tmp, dir_fd=dir_fd).st_atime < TMP_SWEEP:
            return
        with fsops.directory(tmp, dir_fd=dir_fd) as fd:  # never through a link
            os.utime(fd)
            with os.scandir(fd) as entries:
                # ctime, because mtime is the INTERNALDATE of a message that is being saved.
                old = [
                    entry.name
                    for entry in entries
                    if now - entry.stat(follow_symlinks=False).st_ctime > TMP_AGE
                ]
            for name in old:
                fsops.unlink(name, dir_fd=fd, missing_ok=True)
                log.info("removed tmp/%s, which no delivery finished in 36 hours", name)
    except OSError as exc:
        log.debug("tmp was not swept: %s", exc)
