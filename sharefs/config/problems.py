"""What is wrong with a configuration: each finding with its place and its remedy.  Pure."""

import difflib
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from sharefs.errors import Code, Place, SharingError


class Severity(enum.StrEnum):
    """How bad a finding is.  Only errors keep a configuration from being used."""

    ERROR = "error"
    WARNING = "warning"
    UNIMPLEMENTED = "unimplemented"  # understood, but it has no effect here yet


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.  remedy: what to write instead; "" if the message says it all.

    check: the stable id of the check that found it, for scripts: "unknown-setting", ...
    """

    severity: Severity
    place: Place
    message: str
    remedy: str = ""
    check: str = ""

    def __str__(self) -> str:
        tail = f" ({self.remedy})" if self.remedy else ""
        return f"{self.place}: {self.severity}: {self.message}{tail}"


class ConfigError(SharingError):
    """The configuration cannot be used.  problems: everything that was found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        errors = [problem for problem in self.problems if problem.severity is Severity.ERROR]
        first = str(errors[0]) if errors else "configuration error"
        more = f" (and {len(errors) - 1} more; see `sharefs config check`)" if errors[1:] else ""
        super().__init__(Code.INVALID, first + more)


class Problems:
    """Collects findings.  Unimplemented settings are kept once each, wherever they are repeated."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._once: set[str] = set()

    def error(self, check: str, place: Place, message: str, remedy: str = "") -> None:
        self._found.append(Problem(Severity.ERROR, place, message, remedy, check))

    def warning(self, check: str, place: Place, message: str, remedy: str = "") -> None:
        self._found.append(Problem(Severity.WARNING, place, message, remedy, check))

    def unimplemented(self, what: str, place: Place, message: str, remedy: str = "") -> None:
        if what not in self._once:
            self._once.add(what)
            found = Problem(Severity.UNIMPLEMENTED, place, message, remedy, "unimplemented")
            self._found.append(found)

    def has_errors(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self._found)

    def add(self, problem: Problem) -> None:
        self._found.append(problem)

    def sorted(self, files: Iterable[str] = ()) -> tuple[Problem, ...]:
        """Every finding once, in the order of files, then by line."""
        order = {name: number for number, name in enumerate(files)}
        return tuple(
            sorted(
                dict.fromkeys(self._found),
                key=lambda problem: (
                    order.get(problem.place.file, len(order)),
                    problem.place.line,
                    problem.place.column,
                ),
            )
        )


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A remedy for a misspelt name."""
    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else "see docs/configuration.md for what there is"
