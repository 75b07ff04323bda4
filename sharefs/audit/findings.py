"""Findings of an audit: what is wrong, with whom and why it matters, and what to do.  Pure."""

import enum
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final


class Severity(enum.IntEnum):
    """How bad a finding is; the order is that of reports, the worst first."""

    CRITICAL = 0  # somebody reads what he must not, or nobody can read what is his
    WARNING = 1  # something does not work, or soon will not
    NOTICE = 2  # worth knowing; may be meant so

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is checked.  name: the stable id.  why: why it matters."""

    name: str
    severity: Severity
    title: str
    why: str
    area: str


_RULES: dict[str, Rule] = {}
RULES: Final[Mapping[str, Rule]] = _RULES
"""Every rule by name, in the order in which they are written; docs/audit.md lists them."""


def rule(
    name: str, severity: Severity, area: str, title: str, why: str
) -> Callable[..., "Finding"]:
    """Registers a rule and returns the maker of its findings."""
    assert name not in _RULES, f"two rules are called {name}"
    made = _RULES[name] = Rule(name, severity, title, why, area)

    def found(
        subject: str,
        *evidence: str,
        remedy: str,
        commands: tuple[str, ...] = (),
        severity: Severity | None = None,
        mailbox: str = "",
        user: str = "",
        place: str = "",
    ) -> Finding:
        return Finding(
            made.name, made.severity if severity is None else severity, subject, evidence,
            made.why, remedy, commands, mailbox, user, place,
        )  # fmt: skip

    return found


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    rule: a name in RULES.  subject: the mailbox, path, user or setting that it is about.
    evidence: what was seen, a line each.  why: why it matters.  remedy: what to do, in words;
    commands: to type.  mailbox: OWNER's name of the mailbox, user: whom else it concerns, place:
    the file or directory, with line and column as Place has them; may be empty.
    """

    rule: str
    severity: Severity
    subject: str
    evidence: tuple[str, ...]
    why: str
    remedy: str
    commands: tuple[str, ...] = ()
    mailbox: str = ""
    user: str = ""
    place: str = ""

    @property
    def title(self) -> str:
        return RULES[self.rule].title

    @property
    def key(self) -> str:
        """The same for the same finding in another run; hexadecimal."""
        text = "\0".join((self.rule, self.subject, self.user))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "id": self.rule, "key": self.key, "severity": self.severity.word,
            "title": self.title, "subject": self.subject, "mailbox": self.mailbox,
            "user": self.user, "place": self.place, "evidence": list(self.evidence),
            "why": self.why, "remedy": self.remedy, "commands": list(self.commands),
        }  # fmt: skip
