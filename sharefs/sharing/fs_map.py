"""The sharing map as a tree of small files: Dovecot's `fs posix` key layout, and one that works.

Key `shared/shared-boxes/user/bob/alice` is the file `<prefix>shared-boxes/user/bob/alice`, holding
`1`.  Dovecot's own driver cannot list such a tree recursively, which its ACL code needs.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.errors import Code, SharingError
from sharefs.permissions.inherit import Creation, GidReason
from sharefs.permissions.lookup import facts_of
from sharefs.sharing.keys import ROOT, Audience, MapDiff, ShareKey, is_storable
from sharefs.sharing.maps import ShareMap

LOCK_TIMEOUT: Final = 120.0  # seconds, and no more is known: Dovecot takes no lock here
LOCK_STALE: Final = 60.0
_TEMP: Final = "temp.dovecot."  # files being written; never keys
_DOTS: Final = re.compile(r"\.+")


def escape_component(name: str) -> str:
    """Only `.`, `..`, `...` and so on need it: two more dots in front."""
    return ".." + name if _DOTS.fullmatch(name) else name


def unescape_component(name: str) -> str:
    return name[2:] if _DOTS.fullmatch(name) and len(name) > 2 else name


class FsPosixMap(ShareMap):
    """See ShareMap.  prefix: a plain string put before the keys, normally ending in a slash."""

    def __init__(self, prefix: str, *, timeout: float = LOCK_TIMEOUT) -> None:
        self._root = Path(prefix + ROOT.removeprefix("shared/").rstrip("/"))
        self._timeout = timeout

    def all(self) -> Mapping[str, frozenset[ShareKey]]:
        found: dict[str, set[ShareKey]] = {}
        for key, directory in self._keys():
            for owner in _files(directory):
                found.setdefault(unescape_component(owner), set()).add(key)
        return {owner: frozenset(keys) for owner, keys in found.items()}

    def owners_for(self, keys: Collection[ShareKey]) -> frozenset[str]:
        return frozenset(
            unescape_component(name)
            for key in keys
            if not key.name or is_storable(key.name)  # never a path out of the tree
            for name in _files(self._directory(key))
        )

    def shares_of(self, owner: str) -> frozenset[ShareKey]:
        if not is_storable(owner):
            return frozenset()
        name = escape_component(owner)
        return frozenset(key for key, directory in self._keys() if _is_file(directory / name))

    def _directory(self, key: ShareKey) -> Path:
        return self._root.joinpath(
            key.audience, *([escape_component(key.name)] if key.name else [])
        )

    def _keys(self) -> Iterator[tuple[ShareKey, Path]]:
        yield ShareKey(Audience.ANYONE), self._root / Audience.ANYONE
        for audience in (Audience.USER, Audience.GROUP):
            for name in _names(self._root / audience, directories=True):
                yield ShareKey(audience, unescape_component(name)), self._root / audience / name

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            parent = self._root.parent
            fsops.make_dirs(parent, _creation_below(parent))
            creation = _creation_below(self._root)
            with DotLock(self._root, timeout=self._timeout, stale=LOCK_STALE, creation=creation):
                yield
        except OSError as error:
            raise _refused(self._root, "was not changed", error) from error

    def _apply(self, owner: str, change: MapDiff) -> None:
        name = escape_component(owner)
        for key in sorted(change.added):
            directory = self._directory(key)
            creation = _creation_below(directory)
            fsops.make_dirs(directory, creation)
            _write(directory, name, creation)
        for key in change.removed:
            fsops.unlink(self._directory(key) / name, missing_ok=True)


def _write(directory: Path, name: str, creation: Creation) -> None:
    temp = fsops.Entry(None, str(directory / fsops.temp_name(_TEMP)))
    fd = fsops.create_file(temp.name, creation)
    try:
        fsops.write_all(fd, b"1")
    finally:
        os.close(fd)
    fsops.rename(temp, fsops.Entry(None, str(directory / name)))


def _creation_below(path: Path) -> Creation:
    """0600 and 0700, or what the nearest existing parent hands down if it is setgid."""
    while (facts := facts_of(path)) is None:
        path = path.parent
    if not facts.setgid:
        return Creation(0o600, 0o700, None, GidReason.DEFAULTS, "defaults")
    mode = facts.mode & 0o666
    search = (mode >> 2 | mode >> 1) & 0o111
    return Creation(mode, mode | search, None, GidReason.SETGID, facts.path)


def _files(directory: Path) -> list[str]:
    return [name for name in _names(directory) if not name.startswith(_TEMP)]


def _names(directory: Path, *, directories: bool = False) -> list[str]:
    try:
        # Not through links: nothing outside the tree is a share.
        with fsops.directory(directory) as fd, os.scandir(fd) as found:
            return [
                entry.name
                for entry in found
                if (entry.is_dir if directories else entry.is_file)(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return []
        raise _refused(directory, "cannot be read", error) from error


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path, follow_symlinks=False).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise _refused(path, "cannot be read", error) from error


def _refused(path: Path, what: str, error: OSError) -> SharingError:
    return SharingError(
        Code.UNAVAILABLE,
        f"the sharing map {path} {what}: {error.strerror}"
        f" (euid {os.geteuid()}, egid {os.getegid()})",
        retryable=True,
    )
