"""The `dovecot-keywords` file of one mailbox: read when its mtime changed, replaced under locks."""

import logging
import os
import time

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.store.maildir.config import Site
from sharefs.store.maildir.keywords import FILE_NAME, Keywords

log = logging.getLogger(__name__)

TIMEOUT = 2.0  # seconds; the uidlist lock is held already, so only a dead holder can be in the way
STALE = 120.0  # seconds, as Dovecot's


class KeywordFile:
    """current: what the file says.  An unreadable or missing file says nothing."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.path = os.path.join(site.control, FILE_NAME)
        self._at = self.path  # what system calls get: see work_in()
        self.current = Keywords()
        self._key: tuple[int, int, int] | None = None

    def work_in(self, directory: str | None) -> None:
        """As UidList.work_in()."""
        self._at = self.path if directory is None else os.path.join(directory, FILE_NAME)

    def refresh(self) -> bool:
        """Returns whether the names changed."""
        key = self._look(self._at)
        if key == self._key:
            return False
        before = self.current
        self.current = Keywords() if key is None else self._read()
        self._key = key
        return self.current != before

    def looks_unchanged(self) -> bool:
        return self._look(self.path) == self._key

    @staticmethod
    def _look(path: str) -> tuple[int, int, int] | None:
        try:
            status = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _read(self) -> Keywords:
        try:
            return Keywords.parse(fsops.read_file(self._at))
        except FileNotFoundError:
            return Keywords()
        except OSError as exc:
            # Flags must not hide messages: letters without names are shown as unknown-<index>.
            log.warning("keyword names of %s cannot be read: %s", self._site.label, exc)
            return Keywords()

    def write(self, keywords: Keywords) -> None:
        """Replace the file.  The caller holds the uidlist lock and has refreshed."""
        now = int(time.time())
        lock = DotLock(
            self._at,
            timeout=TIMEOUT,
            stale=STALE,
            creation=self._site.control_creation(),
            excl=self._site.config.lock_excl,
        )
        with lock:
            try:
                before = int(os.stat(self._at).st_mtime)
            except FileNotFoundError:
                before = 0
            # Other readers compare nothing but whole seconds of the mtime, so it must grow.
            lock.replace(keywords.format(), fsync=True, mtime=max(now, before + 1))
        self.current = keywords
        self._key = self._look(self._at)
