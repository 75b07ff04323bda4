"""The sharing map in one dictionary file, shared with Dovecot's `dict file` driver.

Writers take the lock, read the file again, and replace it whole; readers take no lock and notice
a new file by its inode.  Keys of other programs in the same file are kept.
"""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.errors import Code, SharingError
from sharefs.permissions.lookup import creation_for_dictionary
from sharefs.sharing.dict_file import format_dict, parse_dict
from sharefs.sharing.keys import MapDiff, ShareKey
from sharefs.sharing.maps import ShareMap

LOCK_TIMEOUT: Final = 120.0  # seconds; Dovecot's for dictionary files
LOCK_STALE: Final = 60.0
_VALUE: Final = "1"
# struct flock: the whole file, for writing.  An open file description lock conflicts with others'
# fcntl locks as usual, but is not lost when this process closes another descriptor of the file.
_WRITE_LOCK: Final = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)

LockMethod = Literal["dotlock", "fcntl", "flock"]
_Identity = tuple[int, int, int, int]


class FileMap(ShareMap):
    """See ShareMap.  path need not exist; its directory is made when something is written.

    lock: how writers keep each other out; every program that writes the file must use the same.
    """

    def __init__(
        self, path: Path, *, lock: LockMethod = "dotlock", timeout: float = LOCK_TIMEOUT
    ) -> None:
        self.path = path
        self._lock = lock
        self._timeout = timeout
        self._dotlock: DotLock | None = None
        self._seen: _Identity | None = None
        self._by_owner: dict[str, frozenset[ShareKey]] = {}
        self._by_key: dict[ShareKey, frozenset[str]] = {}

    def all(self) -> Mapping[str, frozenset[ShareKey]]:
        self._read()
        return dict(self._by_owner)

    def owners_for(self, keys: Collection[ShareKey]) -> frozenset[str]:
        self._read()
        return frozenset().union(*(self._by_key.get(key, frozenset()) for key in keys))

    def shares_of(self, owner: str) -> frozenset[ShareKey]:
        self._read()
        return self._by_owner.get(owner, frozenset())

    def _read(self) -> None:
        """Bring the picture up to date.  Free when the file is the one already known."""
        try:
            status = os.stat(self.path)
            if self._seen == _identity(status):
                return
            with open(fsops.open_file(self.path, follow=True), "rb", buffering=0) as file:
                identity = _identity(os.fstat(file.fileno()))
                items = parse_dict(file.read())
        except (FileNotFoundError, NotADirectoryError):
            identity, items = None, {}
        except OSError as error:
            raise _refused(f"the sharing map {self.path} cannot be read", error) from error
        self._seen = identity
        by_owner: dict[str, set[ShareKey]] = {}
        by_key: dict[ShareKey, set[str]] = {}
        for path in items:
            if (parsed := ShareKey.parse(path)) is not None:
                key, owner = parsed
                by_owner.setdefault(owner, set()).add(key)
                by_key.setdefault(key, set()).add(owner)
        self._by_owner = {owner: frozenset(keys) for owner, keys in by_owner.items()}
        self._by_key = {key: frozenset(owners) for key, owners in by_key.items()}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._make_directory()
            with self._dotlocked() if self._lock == "dotlock" else self._filelocked():
                self._seen = None
                yield
        except OSError as error:
            raise _refused(f"the sharing map {self.path} was not changed", error) from error

    def _make_directory(self) -> None:
        """0700, or what a setgid ancestor hands down; the file's own rule does not apply."""
        if not self.path.parent.is_dir():
            creation = replace(creation_for_dictionary(self.path), gid=None)
            fsops.make_dirs(self.path.parent, creation)

    @contextlib.contextmanager
    def _dotlocked(self) -> Iterator[None]:
        creation = creation_for_dictionary(self.path)
        with DotLock(
            self.path, timeout=self._timeout, stale=LOCK_STALE, creation=creation
        ) as self._dotlock:
            try:
                yield
            finally:
                self._dotlock = None

    @contextlib.contextmanager
    def _filelocked(self) -> Iterator[None]:
        fd = self._lock_file(time.monotonic() + self._timeout)
        try:
            yield
        finally:
            os.close(fd)

    def _lock_file(self, deadline: float) -> int:
        """fcntl or flock on the file itself, which may be replaced while we wait for it."""
        while True:
            with contextlib.suppress(FileExistsError):
                os.close(fsops.create_file(self.path, creation_for_dictionary(self.path)))
            fd = -1
            try:
                fd = fsops.open_file(self.path, os.O_RDWR, follow=True)
                self._wait_for(fd, deadline)
                if _identity(os.stat(self.path))[:2] == _identity(os.fstat(fd))[:2]:
                    fd, locked = -1, fd
                    return locked
            except FileNotFoundError:
                continue  # replaced and removed between two calls
            finally:
                if fd >= 0:
                    os.close(fd)

    def _wait_for(self, fd: int, deadline: float) -> None:
        while True:
            try:
                if self._lock == "flock":
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                else:
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WRITE_LOCK)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SharingError(
                        Code.IN_USE,
                        f"the sharing map {self.path} stayed locked for {self._timeout:g} s",
                        retryable=True,
                    ) from None
                time.sleep(0.05)

    def _apply(self, owner: str, change: MapDiff) -> None:
        try:
            items = parse_dict(fsops.read_file(self.path, follow=True))
        except FileNotFoundError:
            items = {}
        for key in change.removed:
            items.pop(key.path(owner), None)
        for key in sorted(change.added):
            items[key.path(owner)] = _VALUE
        content = format_dict(items)
        if self._dotlock is not None:
            self._dotlock.replace(content)
        else:
            self._replace_locked(content)
        self._seen = None

    def _replace_locked(self, content: bytes) -> None:
        """Dovecot's name for the new version; a leftover of a crash is in nobody's use."""
        temp = f"{self.path}.tmp"
        fsops.unlink(temp, missing_ok=True)
        fd = fsops.create_file(temp, creation_for_dictionary(self.path))
        try:
            fsops.write_all(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        fsops.rename(fsops.Entry(None, temp), fsops.Entry(None, str(self.path)))


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _refused(what: str, error: OSError) -> SharingError:
    return SharingError(
        Code.UNAVAILABLE,
        f"{what}: {error.strerror} (euid {os.geteuid()}, egid {os.getegid()})",
        retryable=True,
    )
