"""The plan file: a header and one change a line, for people to read and for apply to obey.  Pure.

JSON lines.  The first says what the file is; lines with "note" say what no change can cure and
are skipped by apply.  Lines may be deleted to leave a change out; nothing else may be edited in
without being checked as if it came from a stranger.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sharefs.errors import Code, Place, SharingError
from sharefs.repair.change import Change, change_of, format_change

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Note:
    """What the planner could not cure, or what the administrator must know of.

    blocking: the plan leaves somebody without what the ACL promises.
    """

    path: str
    text: str
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """strategy: the word it was made with.  made: when and for whom, for people."""

    strategy: str
    made: str
    changes: tuple[Change, ...]
    notes: tuple[Note, ...] = ()


def format_plan(plan: Plan) -> Iterator[str]:
    """The lines of the file, each with its line end."""
    yield from plan_lines(plan.strategy, plan.made, plan.notes, plan.changes)


def plan_lines(
    strategy: str, made: str, notes: Iterable[Note], changes: Iterable[Change]
) -> Iterator[str]:
    """As format_plan, for a plan that is too large to be held as a whole."""
    yield json.dumps({"sharefs-plan": FORMAT, "strategy": strategy, "made": made}) + "\n"
    for change in changes:
        yield format_change(change) + "\n"
    for note in notes:
        fields = {"note": note.text, "path": note.path, "blocking": note.blocking}
        yield json.dumps(fields) + "\n"


def parse_plan(octets: bytes, file: str) -> Plan:
    """Raises SharingError(INVALID) naming file and line."""
    lines = octets.split(b"\n")
    header = _parsed(lines[0], Place(file, 1))
    if not isinstance(header, dict) or header.get("sharefs-plan") != FORMAT:
        raise _bad(Place(file, 1), f'it does not begin with {{"sharefs-plan": {FORMAT}, ...}}')
    changes: list[Change] = []
    notes: list[Note] = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        place = Place(file, number)
        fields = _parsed(line, place)
        if isinstance(fields, dict) and "note" in fields:
            notes.append(
                Note(str(fields.get("path")), str(fields["note"]), bool(fields.get("blocking")))
            )
            continue
        try:
            changes.append(change_of(fields))
        except SharingError as flaw:
            raise _bad(place, flaw.detail) from flaw
    return Plan(
        str(header.get("strategy", "")), str(header.get("made", "")), tuple(changes), tuple(notes)
    )


def fingerprint(octets: bytes) -> str:
    """Tells one plan from another, so that a journal is only ever continued with its own."""
    return hashlib.sha256(octets).hexdigest()


def _parsed(line: bytes, place: Place) -> object:
    try:
        parsed: object = json.loads(line)
    except (ValueError, RecursionError):
        raise _bad(place, "not a line of JSON") from None
    return parsed


def _bad(place: Place, text: str) -> SharingError:
    return SharingError(Code.INVALID, f"{place}: {text}; nothing was done")
