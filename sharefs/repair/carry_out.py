"""Carrying a plan out, continuing one that was interrupted, and taking it back.

Every change is looked at before and after; what is neither old nor new is left alone and told.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sharefs.errors import SharingError
from sharefs.repair.change import IN_DIRECTORY, Aspect, Change, Kind
from sharefs.repair.deed import (
    Picture,
    observed,
    perform,
    pinned,
    put_back,
    sweep,
    take_picture,
    way_back,
)
from sharefs.repair.edit import Changed
from sharefs.repair.journal import Checkpoint, Entry, Journal, Stage
from sharefs.store.boot import this_boot

BATCH: Final = 256  # subjects for one line of the journal, and so for two fsyncs
_FILES: Final = frozenset({Kind.ACL_LINE, Kind.MAP_ENTRY})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that was not made, and why."""

    change: Change
    reason: str

    def __str__(self) -> str:
        return f"{self.change}: {self.reason}"


class _Already(Changed):
    """Somebody else did it: nothing to do, and nothing to undo."""


@dataclass(slots=True)
class Report:
    """done: changes made now.  already: made earlier, by this plan or by others."""

    done: int = 0
    already: int = 0
    refused: list[Refusal] = field(default_factory=list)


def check(changes: Iterable[Change], skip: Mapping[int, Entry] | None = None) -> Report:
    """What apply() would find, without changing anything: done counts what would be made.

    Of several changes to one aspect of a subject the first speaks for all.
    """
    report = Report()
    seen: set[tuple[str, Aspect]] = set()
    for number, change in enumerate(changes):
        if skip and number in skip:
            report.already += skip[number].stage is Stage.DONE
            continue
        key = (change.path, change.aspect)
        if key in seen:
            report.done += 1
            continue
        seen.add(key)
        try:
            with pinned(change) as handle:
                _demand_old(change, observed(change, handle))
        except _Already:
            report.already += 1
        except (OSError, SharingError) as error:
            report.refused.append(Refusal(change, reason_of(error)))
        else:
            report.done += 1
    return report


def apply(
    changes: Sequence[Change],
    journal: Journal,
    *,
    keep_going: bool = False,
    checkpoint: Checkpoint = lambda what: None,
) -> Report:
    """Make the changes that the journal does not know as made.

    The first refusal ends it, unless keep_going; then the other changes of that subject are left
    out.  checkpoint: called around everything that leaves a trace, for tests that pull the plug.
    """
    report = Report()
    _settle(journal, report)
    known = journal.history.entries
    report.already += sum(entry.stage is Stage.DONE for entry in known.values()) - report.done
    left = {n: change for n, change in enumerate(changes) if n not in known}
    given_up: set[str] = set()
    for batch in batches(left, BATCH):
        ready = {n: change for n, change in batch.items() if change.path not in given_up}
        refused = _apply_batch(ready, journal, report, checkpoint)
        given_up |= refused
        if refused and not keep_going:
            break
    return report


def _apply_batch(
    batch: Mapping[int, Change], journal: Journal, report: Report, checkpoint: Checkpoint
) -> set[str]:
    """Returns the subjects that refused."""
    refused: set[str] = set()
    pictures: dict[int, Picture | None] = {}
    ready: dict[int, Change] = {}
    for number, change in batch.items():
        try:
            with pinned(change) as handle:
                _demand_old(change, observed(change, handle))
                if change.kind in IN_DIRECTORY:
                    pictures[number] = take_picture(change, handle)
            ready[number] = change
        except _Already:
            report.already += 1
        except (OSError, SharingError) as error:
            refused.add(change.path)
            report.refused.append(Refusal(change, reason_of(error)))
    if not ready:
        return refused
    journal.intend(ready, pictures)
    done: list[int] = []
    dropped: list[int] = []
    for number, change in ready.items():
        checkpoint("change")
        try:
            with pinned(change) as handle:
                _demand_old(change, observed(change, handle))
                _perform_whole(change, handle)
            done.append(number)
        except (OSError, SharingError) as error:
            refused.add(change.path)
            report.refused.append(Refusal(change, reason_of(error)))
            dropped.append(number)
        checkpoint("changed")
    for word, numbers in (("drop", dropped), ("done", done)):
        if numbers:
            journal.note(word, numbers)
    report.done += len(done)
    return refused


def _perform_whole(change: Change, handle: int) -> None:
    """All of it or nothing: a value that was kept in part goes back."""
    try:
        perform(change, handle)
    except (OSError, SharingError):
        with contextlib.suppress(OSError, SharingError):
            if change.kind not in _FILES and observed(change, handle) != change.old:
                perform(change.inverse(), handle)
        raise


def _settle(journal: Journal, report: Report) -> None:
    """After a kill: find out which of the intended changes happened."""
    done: list[int] = []
    dropped: list[int] = []
    for number, entry in journal.history.entries.items():
        if entry.stage is not Stage.INTENDED:
            continue
        try:
            with pinned(entry.change) as handle:
                sweep(entry.change, handle, journal.history.pids)
                happened = observed(entry.change, handle) == entry.change.new
        except (OSError, SharingError):
            happened = False  # it will be looked at again as a change still to be made
        (done if happened else dropped).append(number)
    for word, numbers in (("done", done), ("drop", dropped)):
        if numbers:
            journal.note(word, numbers)
    report.done += len(done)


def undo(
    journal: Journal,
    *,
    keep_going: bool = False,
    checkpoint: Checkpoint = lambda what: None,
) -> Report:
    """Take back what the journal says was made, last first.

    May be interrupted and called again.  A change whose value is not the one it was given is
    refused: somebody else has changed it since.
    """
    report = Report()
    _settle(journal, report)
    report.done = 0
    _settle_undo(journal)
    entries = journal.history.entries
    report.already = sum(entry.stage is Stage.UNDONE for entry in entries.values())
    left = {n: e.change for n, e in reversed(entries.items()) if e.stage is Stage.DONE}
    given_up: set[str] = set()
    for batch in batches(left, BATCH):
        ready = {n: change for n, change in batch.items() if change.path not in given_up}
        if not ready:
            continue
        journal.note("undo", list(ready))
        undone: list[int] = []
        back: list[int] = []
        for number, change in ready.items():
            checkpoint("change")
            try:
                _undo_one(change, entries[number].picture, journal)
                undone.append(number)
            except (OSError, SharingError) as error:
                given_up.add(change.path)
                report.refused.append(Refusal(change.inverse(), reason_of(error)))
                back.append(number)
            checkpoint("changed")
        for word, numbers in (("done", back), ("undone", undone)):
            if numbers:
                journal.note(word, numbers)
        report.done += len(undone)
        if given_up and not keep_going:
            break
    return report


def _pinned_again(change: Change, journal: Journal) -> contextlib.AbstractContextManager[int]:
    return pinned(change, any_device=journal.history.boot != this_boot())


def _undo_one(change: Change, picture: Picture | None, journal: Journal) -> None:
    inverse = change.inverse()
    with _pinned_again(change, journal) as handle:
        if change.kind in _FILES:
            put_back(change, handle, picture)
            return
        with contextlib.suppress(_Already):  # somebody has taken it back by hand
            _demand_old(inverse, observed(inverse, handle))
            perform(inverse, handle, picture)


def _settle_undo(journal: Journal) -> None:
    """After a kill while undoing: what was undone, and what was not."""
    undone: list[int] = []
    back: list[int] = []
    for number, entry in journal.history.entries.items():
        if entry.stage is not Stage.UNDOING:
            continue
        change, happened = entry.change, False
        try:
            with _pinned_again(change, journal) as handle:
                sweep(change, handle, journal.history.pids)
                # Putting a file back twice is putting it back once, so that is done again.
                happened = change.kind not in _FILES and observed(change, handle) == change.old
        except (OSError, SharingError):
            happened = False  # looked at again, and refused then
        (undone if happened else back).append(number)
    for word, numbers in (("undone", undone), ("done", back)):
        if numbers:
            journal.note(word, numbers)


def check_undo(journal: Journal) -> Report:
    """What undo() would do, without changing anything: done counts what would be taken back."""
    report = Report()
    seen: set[tuple[str, Aspect]] = set()
    for entry in reversed(journal.history.entries.values()):
        change = entry.change
        if entry.stage is Stage.UNDONE:
            report.already += 1
            continue
        key = (change.path, change.aspect)
        if key not in seen:
            seen.add(key)
            try:
                with _pinned_again(change, journal) as handle:
                    if change.kind in _FILES:
                        way_back(change, handle, entry.picture)
                    elif (got := observed(change, handle)) not in (change.new, change.old):
                        _demand_old(change.inverse(), got)
            except (OSError, SharingError) as error:
                report.refused.append(Refusal(change.inverse(), reason_of(error)))
                continue
        report.done += 1
    return report


def batches(changes: Mapping[int, Change], size: int) -> Iterator[dict[int, Change]]:
    """Changes in an order that keeps each subject's own, none of a subject twice in a batch.

    Subjects are taken `size` at a time, so that memory and the journal's lines stay bounded.
    """
    rounds: list[dict[int, Change]] = []
    depth: dict[str, int] = {}
    for number, change in changes.items():
        subject = change.path
        if subject not in depth and len(depth) == size:
            yield from rounds
            rounds, depth = [], {}
        level = depth.get(subject, 0)
        depth[subject] = level + 1
        if level == len(rounds):
            rounds.append({})
        rounds[level][number] = change
    yield from rounds


def _demand_old(change: Change, got: str | None) -> None:
    if got == change.old:
        return
    if got == change.new:
        raise _Already("it is so already")
    want = change.old or "nothing"
    raise Changed(f"it is {got or 'nothing'} now, and {want} was expected")


def reason_of(error: OSError | SharingError) -> str:
    if isinstance(error, SharingError):
        return error.detail
    where = "" if os.geteuid() == 0 else f" (as uid {os.geteuid()}; run it as root)"
    return f"{error.strerror or error}{where}"
