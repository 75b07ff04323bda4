"""What a report shows, as values.  Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sharefs.audit.findings import Severity
from sharefs.audit.report.matrix import Matrix, MatrixBuilder
from sharefs.audit.words import counted


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding as a report shows it.

    rule: the stable name of what was checked.  subject: the mailbox, path or setting it is about.
    evidence: what was seen, a line each.  remedy: in words; commands: to type.
    mailbox, user: names in the matrix that it concerns, "" for none.
    """

    rule: str
    severity: Severity
    title: str
    subject: str = ""
    evidence: tuple[str, ...] = ()
    why: str = ""
    remedy: str = ""
    commands: tuple[str, ...] = ()
    mailbox: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Directory:
    """A line of the tree of permissions, parents before their children.

    depth: 0 for a root.  mode: as ls(1) writes it.  acl: POSIX ACL entries beyond the mode, in
    short text form.  rule: what new files get here.  problem: the worst finding about it.
    """

    depth: int
    name: str
    mode: str
    owner: str
    group: str
    acl: str = ""
    rule: str = ""
    problem: Severity | None = None


@dataclass(frozen=True, slots=True)
class ReportModel:
    """All that a report says.  seconds: how long the audit took."""

    host: str
    made: datetime
    config: str = ""
    seconds: float = 0.0
    problems: tuple[Problem, ...] = ()
    matrix: Matrix = field(default_factory=lambda: MatrixBuilder(()).build())
    tree: tuple[Directory, ...] = ()
    notes: tuple[str, ...] = ()  # what the audit could not look at, and why


@dataclass(frozen=True, slots=True)
class Summary:
    """The report in numbers.  leaked, blocked, unknown: cells of the matrix."""

    users: int
    mailboxes: int
    leaked: int
    blocked: int
    unknown: int
    by_severity: dict[Severity, int]


def summary_of(model: ReportModel) -> Summary:
    counted = model.matrix.count()
    severities = Counter(problem.severity for problem in model.problems)
    return Summary(
        users=len(model.matrix.users),
        mailboxes=len(model.matrix.mailboxes),
        leaked=sum(times for cell, times in counted.items() if cell.leaked),
        blocked=sum(times for cell, times in counted.items() if cell.blocked),
        unknown=sum(times for cell, times in counted.items() if cell.unknown),
        by_severity={severity: severities[severity] for severity in Severity},
    )


def headline(summary: Summary) -> str:
    """The answer in one sentence, for a title, a subject line of a mail, a terminal.

    Leaks come first: they are what an administrator must hear about.
    """
    parts = []
    if summary.leaked:
        parts.append(counted(summary.leaked, "leak"))
    if summary.blocked:
        parts.append(counted(summary.blocked, "grant") + " that cannot work")
    if parts:
        return " and ".join(parts)
    worst = next((s for s in Severity if summary.by_severity[s]), None)
    if worst is not None:
        number = summary.by_severity[worst]
        noun = {
            Severity.CRITICAL: "critical finding",
            Severity.WARNING: "warning",
            Severity.NOTICE: "notice",
        }[worst]
        return counted(number, noun)
    if not summary.mailboxes:
        return "No mailboxes were found"
    if summary.unknown:
        return f"Nothing wrong found; {summary.unknown:,} answers unknown"
    return "Everything agrees"


def in_order(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """The worst first, then by rule and subject."""
    return tuple(sorted(problems, key=lambda p: (p.severity, p.rule, p.subject, p.user)))
