"""The lock of a mailbox's list, which every change of its control files needs."""

import contextlib
from collections.abc import Callable, Iterator

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.errors import SharingError
from sharefs.store.maildir.config import Site
from sharefs.store.maildir.folders import Folders
from sharefs.store.maildir.keyword_file import KeywordFile
from sharefs.store.maildir.uidlist import UidList


class ControlLock:
    """refresh: brings the list up to date once it is locked; may refuse to go on."""

    def __init__(
        self,
        site: Site,
        listed: UidList,
        keywords: KeywordFile,
        folders: Folders,
        refresh: Callable[[], None],
    ) -> None:
        self._site = site
        self._list = listed
        self._keywords = keywords
        self._folders = folders
        self._refresh = refresh
        self._lock: DotLock | None = None

    @contextlib.contextmanager
    def held(self, *, patience: float | None = None) -> Iterator[None]:
        """Hold the uidlist lock, with the list as it is on disk.  May be nested.

        patience: seconds to wait at most; None: as configured.

        Raises SharingError(IN_USE), SharingError(NONEXISTENT), OSError.
        """
        if self._lock is not None:
            self._lock.touch()
            yield
            return
        with self._place_held():
            lock = self._list.lock(patience=patience)
            self._acquire(lock)
            self._lock = lock
            try:
                self._refresh()
                yield
            finally:
                self._lock = None
                lock.release()

    @contextlib.contextmanager
    def _place_held(self) -> Iterator[None]:
        """Control files in the mailbox's own directory are written there, wherever its path leads
        meanwhile (see Folders)."""
        if self._site.control != self._site.directory:
            yield
            return
        with self._folders.mailbox() as top:
            place = f"/proc/self/fd/{top}"
            self._list.work_in(place)
            self._keywords.work_in(place)
            try:
                yield
            except SharingError as exc:
                if f"{place}/" not in exc.detail:
                    raise
                detail = exc.detail.replace(f"{place}/", f"{self._site.directory}/")
                raise SharingError(exc.code, detail, retryable=exc.retryable) from exc
            except OSError as exc:
                if isinstance(exc.filename, str):
                    exc.filename = exc.filename.replace(f"{place}/", f"{self._site.directory}/")
                raise
            finally:
                self._list.work_in(None)
                self._keywords.work_in(None)

    def _acquire(self, lock: DotLock) -> None:
        try:
            lock.acquire()
        except FileNotFoundError:
            if self._site.control == self._site.directory:
                raise
            fsops.make_dirs(self._site.control, self._site.control_creation())
            lock.acquire()
