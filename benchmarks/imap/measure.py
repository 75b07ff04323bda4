"""Carrying out rows: both servers in turn, as often as a row is worth."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from benchmarks.imap.results import Result, Unit
from benchmarks.imap.servers import Side

T = TypeVar("T")

FEWEST: Final = 3  # runs of each server, but of a row that takes very long
LONG: Final = 40.0  # seconds for a single run after which no second one is worth it


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to measure.

    measure: what one run on a side costs, in unit.  repeat: runs on each side at most.  needs:
    capabilities without which a server cannot be measured.  warm: whether a run that does not
    count comes first.  writes: whether to wait after a run until the server is done with it.
    same: a command that both must answer alike, or the row compares different things.
    """

    name: str
    measure: Callable[[Side], float]
    repeat: int = 7
    unit: Unit = "seconds"
    needs: frozenset[bytes] = frozenset()
    warm: bool = True
    writes: bool = False
    same: Callable[[Side], object] | None = None
    remark: str = ""


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def carry_out(
    row: Row, sides: Sequence[Side], *, seconds: float, most: int | None = None
) -> Result:
    """seconds: when at least FEWEST runs are done, no more are begun after these.

    most: runs of each server in any case.
    """
    result = Result(row.name, row.unit, remark=row.remark)
    able: list[Side] = []
    for side in sides:
        if lacking := row.needs - side.capabilities:
            result.missing[side.name] = "no " + b" ".join(sorted(lacking)).decode()
        else:
            able.append(side)
    began = time.monotonic()
    answers = []
    for side in able:
        side.wait_until_quiet()
        if row.same is not None:
            answers.append(_try(row.same, side, result))
        elif row.warm and most != 1:
            _try(row.measure, side, result)
    if len(set(map(repr, answers))) > 1:
        result.remark = "; ".join(filter(None, (row.remark, "the answers differ")))
    for number in range(min(row.repeat, most or row.repeat)):
        for side in able if number % 2 else able[::-1]:
            if side.name in result.missing:
                continue
            if row.writes:
                side.wait_until_quiet()
            if (got := _try(row.measure, side, result)) is not None:
                result.runs[side.name].append(got)
        spent = time.monotonic() - began
        longest = max((max(runs) for runs in result.runs.values() if runs), default=0.0)
        if spent > seconds and number + 1 >= FEWEST:
            break
        if row.unit == "seconds" and longest > LONG:
            break
    return result


def _try(run: Callable[[Side], T], side: Side, result: Result) -> T | None:
    """What it returns; None if the server refused, which is the row's answer then."""
    try:
        return run(side)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        result.missing[side.name] = f"failed: {error}"
        return None
