"""new/ and cur/ together: which message file is where, and listing them without missing any."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.store.maildir.directory import Directory, Trace
from sharefs.store.maildir.filename import parse_info

LOOKS: Final = 5  # listings before a missing file is believed to be gone

IN_NEW: Final = 0
IN_CUR: Final = 1  # as Folders.opened() has their descriptors
Found = tuple[int, str]

Touched = dict[str, str | None]
"""What listings found changed: the info that a base had before; None: it was not there."""


class Folders:
    """Whoever else may write to a shared mailbox could put symbolic links in the places of its
    directories, to have us rename or remove files of our own user elsewhere.  So changes go through
    descriptors of directories that are known to belong to the mailbox that was opened.

    quiet: whether the last listings cannot have missed anything.

    doubles: pairs of files that have one base name, as of the last listings: IN_NEW or IN_CUR, and
    the name there.
    """

    def __init__(self, directory: Path) -> None:
        self.new = Directory(directory / "new")
        self.cur = Directory(directory / "cur")
        self.quiet = False
        self.doubles: list[tuple[Found, Found]] = []
        self._first = True
        self._directory = os.fspath(directory)
        self._identity = _identity_of(self._directory)
        self._top: int | None = None  # while mailbox() is entered

    # --- asking ----------------------------------------------------------------------------

    def __contains__(self, base: str) -> bool:
        return base in self.cur.files or base in self.new.files

    def bases(self) -> set[str]:
        return self.cur.files.keys() | self.new.files.keys()

    def info_of(self, base: str) -> str | None:
        """The info of a base that is here; None: it is not."""
        info = self.cur.files.get(base)
        return self.new.files.get(base) if info is None else info

    def path_of(self, base: str) -> str:
        """Where its file was last seen.  Raises KeyError."""
        info = self.cur.files.get(base)
        if info is not None:
            return f"{self.cur.path}/{base}{info}"
        return f"{self.new.path}/{base}{self.new.files[base]}"

    def used_letters(self) -> frozenset[str]:
        """Keyword letters that stand in some file name."""
        return letters_in(set(self.cur.files.values()) | set(self.new.files.values()))

    def resume(self, new: Trace, cur: Trace, unfold: Callable[[], None]) -> None:
        """As Directory.resume(), instead of a first look.  unfold: sets the files of both."""
        self.new.resume(new, unfold)
        self.cur.resume(cur, unfold)
        self._first = False

    # --- listing ---------------------------------------------------------------------------

    def look(self, *, at_cur: bool, live: Collection[str], fresh: Collection[str]) -> Touched:
        """List until nothing that should be there is missing, or LOOKS times.

        new/ is always listed, and first: what leaves it for cur/ meanwhile is then seen twice,
        not never.  live: bases that were here.  fresh: bases that were listed since.
        """
        new: dict[str, str] = {}
        cur: dict[str, str] = {}
        for _ in range(LOOKS):
            self.quiet, self.doubles = True, []
            self._look_at(self.new, new)
            at_cur = (
                at_cur
                or not self.new.files.keys() <= new.keys()
                or any(base not in new and base not in self.cur.files for base in fresh)
            )
            if at_cur:
                self._look_at(self.cur, cur)
            expected = chain(live, fresh) if at_cur else self.new.files
            if self.quiet or not any(base not in cur and base not in new for base in expected):
                break
        touched: Touched = {}
        if self._first:
            self.cur.files, self.new.files, self._first = cur, new, False
        else:
            if at_cur:
                _take_over(self.cur.files, cur, touched)
            _take_over(self.new.files, new, touched)
        self._prefer_cur()
        return touched

    def _look_at(self, directory: Directory, found: dict[str, str]) -> None:
        look = directory.look()
        found.update(look.files)
        self.quiet = self.quiet and look.quiet
        where = IN_NEW if directory is self.new else IN_CUR
        for base, info in look.doubles:
            self.doubles.append(((where, base + look.files[base]), (where, base + info)))

    def _prefer_cur(self) -> None:
        """A base in both directories was moved while we looked, or there are two messages."""
        small, large = sorted((self.new.files, self.cur.files), key=len)
        for base in [base for base in small if base in large]:
            info = self.new.files.pop(base)
            self.doubles.append(((IN_CUR, base + self.cur.files[base]), (IN_NEW, base + info)))

    # --- changes of our own ----------------------------------------------------------------

    def lost_track(self) -> None:
        """A file was not where it was last seen: look everywhere again."""
        self.cur.distrust()
        self.new.distrust()

    def flush(self) -> None:
        """Have all names in new/ and cur/ on the disk."""
        with self.opened() as (new_fd, cur_fd):
            for fd in (cur_fd, new_fd):
                fsops.fsync_dir(dir_fd=fd)

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[int, int]]:
        """Descriptors of new/ and cur/.  Raises as mailbox() does."""
        with (
            self.mailbox() as top,
            fsops.directory("new", dir_fd=top, search_only=True) as new_fd,
            fsops.directory("cur", dir_fd=top, search_only=True) as cur_fd,
        ):
            yield new_fd, cur_fd

    @contextlib.contextmanager
    def tmp(self) -> Iterator[int]:
        """A descriptor of tmp/.  Raises as mailbox() does."""
        with self.mailbox() as top, fsops.directory("tmp", dir_fd=top, search_only=True) as fd:
            yield fd

    @contextlib.contextmanager
    def mailbox(self) -> Iterator[int]:
        """A descriptor of the mailbox's directory, which may itself be a link (symlink shares).
        Within another `with` of it, as while the list is locked, the same one.

        Raises SharingError(NONEXISTENT) if it is no longer the directory that was opened; OSError.
        """
        if self._top is not None:
            yield self._top
            return
        with fsops.directory(self._directory, follow=True, search_only=True) as top:
            self._demand_same(os.fstat(top))
            self._top = top
            try:
                yield top
            finally:
                self._top = None

    def demand_same(self) -> None:
        """Raises SharingError(NONEXISTENT), FileNotFoundError."""
        self._demand_same(os.stat(self._directory))

    def _demand_same(self, status: os.stat_result) -> None:
        found = status.st_dev, status.st_ino
        if self._identity is None:
            self._identity = found
        if found != self._identity:
            raise SharingError(
                Code.NONEXISTENT, f"{self._directory} is no longer the directory that was opened"
            )

    def is_current(self) -> bool:
        """Whether nobody moved anything since we looked, as far as mtimes tell."""
        return self.new.begin_own() and self.cur.begin_own()

    @contextlib.contextmanager
    def own_changes(self) -> Iterator[None]:
        """Around renames and removals of ours, which are made in the `files` too.

        Spares the next sync() a listing, unless somebody else changed something before us.
        Raises SharingError(NONEXISTENT) if the directories are gone.
        """
        try:
            current = self.new.begin_own(), self.cur.begin_own()
        except FileNotFoundError as exc:
            raise SharingError(Code.NONEXISTENT, f"the mailbox is gone: {exc}") from exc
        try:
            yield
        finally:
            self.new.end_own(current[0])
            self.cur.end_own(current[1])


def letters_in(infos: Iterable[str]) -> frozenset[str]:
    """Keyword letters that stand in some of them."""
    return frozenset().union(*(parse_info(info).letters for info in infos))


def _identity_of(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _take_over(files: dict[str, str], found: dict[str, str], touched: Touched) -> None:
    """Make files equal to found, keeping its strings; note what was different."""
    gone = [base for base in files if base not in found]
    for base in gone:
        touched[base] = files.pop(base)
    for base, info in found.items():
        old = files.get(base)
        if old != info:
            touched.setdefault(base, old)
            files[base] = info
