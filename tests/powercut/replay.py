"""What a disk may hold after a power cut, for a list of recorded calls.

Two models.  Both: the content of a file is certain up to its last fsync(2); of what was written
later there may be nothing, a part, all, or zeros in its place.

ordered   as ext4 with data=ordered, or XFS: names change in the order of the calls, so a cut leaves
          a prefix of all changes; fsync(2) of anything makes all changes before it durable.
strict    what POSIX promises, and no more: a change of names is certain once its directory was
          synced, and any subset of the other changes may have happened.  Only one thing is taken
          for granted: a rename removes the old name only if the new one is there.
"""

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.powercut.record import (
    Create,
    CreateUnnamed,
    Link,
    MakeDir,
    Op,
    Rename,
    Said,
    Sync,
    Truncate,
    Unlink,
    Write,
)

EXHAUSTIVE = 5  # so many changes that may be lost are tried in all combinations
SAMPLES = 24  # of more


class Model(Enum):
    ORDERED = "ordered"
    STRICT = "strict"


@dataclass(eq=False, slots=True)
class File:
    """versions: (index of the call, content after it).  synced: indices of its fsync calls."""

    versions: list[tuple[int, bytes]] = field(default_factory=list)
    synced: list[int] = field(default_factory=list)

    def content(self, before: int) -> bytes:
        return next((text for at, text in reversed(self.versions) if at < before), b"")


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of one directory: a file, a directory (None) or nothing any more.

    needs: the change without which this one cannot have happened.
    """

    at: int
    folder: str
    name: str
    entry: "File | None"
    gone: bool = False
    needs: "Change | None" = None


@dataclass(frozen=True, slots=True)
class State:
    """A tree.  cut: calls before the cut.  folders: all directories.

    files: path, which file (names of one file have the same number), content.
    """

    cut: int
    folders: frozenset[str]
    files: tuple[tuple[str, int, bytes], ...]

    @property
    def tree(self) -> tuple[frozenset[str], tuple[tuple[str, int, bytes], ...]]:
        """What it is, wherever it was cut."""
        return self.folders, self.files

    def write_below(self, old_top: Path, top: Path) -> None:
        """As real files, below top what was below old_top."""
        for folder in sorted(self.folders):
            (top / os.path.relpath(folder, old_top)).mkdir(parents=True, exist_ok=True)
        made: dict[int, Path] = {}
        for path, number, content in self.files:
            place = top / os.path.relpath(path, old_top)
            if number in made:
                place.hardlink_to(made[number])
            else:
                place.write_bytes(content)
                made[number] = place


class History:
    """What was there when the recording began, and the calls since."""

    def __init__(self, top: Path, before: dict[str, bytes | None], ops: Sequence[Op]) -> None:
        """before: the tree that was there, by path; None is a directory."""
        self.top = os.fspath(top)
        self.ops = ops
        self._names: dict[str, File | None] = {
            path: None if content is None else File([(-2, content)], [-1])
            for path, content in before.items()
        }
        self._start = dict(self._names)
        self._unnamed: dict[str, File] = {}
        self.changes: list[Change] = []
        self.folder_syncs: dict[str, list[int]] = {}
        self.syncs: list[int] = []
        for at, op in enumerate(ops):
            self._take(at, op)

    def _take(self, at: int, op: Op) -> None:
        match op:
            case Create(path):
                self._put(at, path, File([(at, b"")]))
            case CreateUnnamed(path):
                self._unnamed[path] = File([(at, b"")])
            case MakeDir(path):
                self._put(at, path, None)
            case Write(path, octets, where):
                if (file := self._file(path)) is not None:
                    old = file.content(at)
                    where = len(old) if where is None else where
                    new = old[:where].ljust(where, b"\0") + octets + old[where + len(octets) :]
                    file.versions.append((at, new))
            case Truncate(path, size):
                if (file := self._file(path)) is not None:
                    file.versions.append((at, file.content(at)[:size].ljust(size, b"\0")))
            case Link(path, new):
                self._put(at, new, self._file(path))
            case Rename(path, new):
                added = self._put(at, new, self._names.pop(path))
                folder, name = os.path.split(path)
                # Within one directory both names change at once.
                self.changes.append(Change(at, folder, name, None, gone=True, needs=added))
            case Unlink(path):
                file = self._names.pop(path)
                if file is not None:
                    self._unnamed[path] = file  # open it may still be, and have other names
                self.changes.append(Change(at, *os.path.split(path), None, gone=True))
            case Sync(path):
                self.syncs.append(at)
                file = self._file(path)
                if file is not None:
                    file.synced.append(at)
                else:
                    self.folder_syncs.setdefault(path, []).append(at)
            case Said():
                pass

    def _file(self, path: str) -> File | None:
        return self._names.get(path) or self._unnamed.get(path)

    def _put(self, at: int, path: str, entry: File | None) -> Change:
        self._names[path] = entry
        self.changes.append(Change(at, *os.path.split(path), entry))
        return self.changes[-1]

    def final(self) -> dict[str, bytes | None]:
        """The tree after all calls, without a cut."""
        return {
            path: None if file is None else file.content(len(self.ops))
            for path, file in self._names.items()
        }

    def states(self, model: Model, dice: random.Random) -> Iterator[State]:
        """What the disk may hold after a cut behind any number of calls; each tree once a cut."""
        for cut in range(len(self.ops) + 1):
            seen: set[tuple[object, ...]] = set()
            for happened in self._possible(model, cut, dice):
                for state in self._with_contents(cut, happened, dice):
                    if state.tree not in seen:
                        seen.add(state.tree)
                        yield state

    def _possible(self, model: Model, cut: int, dice: random.Random) -> Iterator[Sequence[Change]]:
        """Changes of names that have reached the disk."""
        before = [change for change in self.changes if change.at < cut]
        if model is Model.ORDERED:
            committed = max((at for at in self.syncs if at < cut), default=-1)
            for until in range(committed + 1, cut + 1):
                yield [change for change in before if change.at < until]
            return
        certain = {id(change) for change in before if self._is_synced(change, cut)}
        open_ones = [change for change in before if id(change) not in certain]
        for chosen in _subsets(open_ones, dice):
            there = certain | {id(change) for change in chosen}
            yield [
                change
                for change in before
                if id(change) in there and (change.needs is None or self._has(change, there))
            ]

    def _has(self, change: Change, there: set[int]) -> bool:
        assert change.needs is not None
        return id(change.needs) in there

    def _is_synced(self, change: Change, cut: int) -> bool:
        if change.needs is not None and change.needs.folder == change.folder:
            return self._is_synced(change.needs, cut)
        return any(change.at < at < cut for at in self.folder_syncs.get(change.folder, ()))

    def _with_contents(
        self, cut: int, happened: Sequence[Change], dice: random.Random
    ) -> Iterator[State]:
        names = dict(self._start)
        for change in happened:
            path = os.path.join(change.folder, change.name)
            if change.gone:
                names.pop(path, None)
            else:
                names[path] = change.entry
        folders = {self.top}
        for path in sorted(path for path, entry in names.items() if entry is None):
            if os.path.dirname(path) in folders:  # else nothing leads there
                folders.add(path)
        files = {
            path: entry
            for path, entry in names.items()
            if entry is not None and os.path.dirname(path) in folders
        }
        variants = {file: _contents(file, cut) for file in files.values()}
        numbers = {file: number for number, file in enumerate(variants)}
        for pick in (_first, _last, dice.choice, dice.choice):
            texts = {file: pick(choices) for file, choices in variants.items()}
            yield State(cut, frozenset(folders), tuple(
                sorted((path, numbers[file], texts[file]) for path, file in files.items())
            ))  # fmt: skip


def _first(texts: Sequence[bytes]) -> bytes:
    return texts[0]


def _last(texts: Sequence[bytes]) -> bytes:
    return texts[-1]


def _subsets(changes: Sequence[Change], dice: random.Random) -> Iterator[Sequence[Change]]:
    if len(changes) <= EXHAUSTIVE:
        for size in range(len(changes) + 1):
            yield from itertools.combinations(changes, size)
        return
    yield ()
    yield changes
    for one in changes:
        yield [one]
        yield [change for change in changes if change is not one]
    for _ in range(SAMPLES):
        yield [change for change in changes if dice.random() < 0.5]


def _contents(file: File, cut: int) -> list[bytes]:
    """What may be in a file, from the least to the most."""
    certain = file.content(max((at for at in file.synced if at < cut), default=-2))
    whole = file.content(cut)
    if whole == certain:
        return [whole]
    part = whole[: (len(certain) + len(whole)) // 2]
    zeros = certain + bytes(max(0, len(whole) - len(certain)))
    return [certain, zeros, part, whole]
