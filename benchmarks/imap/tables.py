"""Results as text, as Markdown and as JSON."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.imap.results import SERVERS, Result, shown

HOST: Final = "host"  # the section of rows that depend on no mailbox's size
_BEGIN: Final = "<!-- begin of what scripts/bench{} writes -->"
_END: Final = "<!-- end of what scripts/bench{} writes -->"
COMPILED: Final = " --compiled"  # the part of the page that is about the compiled build
_FACTS: Final = ("processor", "memory", "kernel", "python", "dovecot")


@dataclass(slots=True)
class Report:
    """machine: facts when it began.  sections: HOST, or a number of messages, and its rows.

    taken: of each section, when and under what load.
    """

    machine: dict[str, str]
    sections: dict[str, list[Result]] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)

    def end(self, machine: dict[str, str]) -> None:
        """machine: facts when all was measured."""
        told = f"{self.machine['date']}, load {self.machine['load']} to {machine['load']}"
        self.taken = dict.fromkeys(self.sections, told)

    def updated(self, other: "Report") -> "Report":
        """With the sections of a newer one in place of its own; rows it did not measure stay."""
        sections = dict(self.sections)
        for name, results in other.sections.items():
            fresh = {result.name: result for result in results}
            kept = [fresh.pop(old.name, old) for old in sections.get(name, [])]
            sections[name] = [*kept, *fresh.values()]
        return Report(other.machine, sections, self.taken | other.taken)

    def in_order(self) -> Iterator[tuple[str, list[Result]]]:
        for name in sorted(self.sections, key=lambda each: -1 if each == HOST else int(each)):
            yield name, self.sections[name]

    def data(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "taken": self.taken,
            "sections": {
                name: [result.data() for result in results] for name, results in self.in_order()
            },
        }

    @classmethod
    def load(cls, path: Path) -> "Report":
        data = json.loads(path.read_text())
        sections = {
            name: [Result.of(each) for each in results]
            for name, results in data["sections"].items()
        }
        return cls(data["machine"], sections, data["taken"])


def name_without_size(name: str) -> str:
    """The same for every size: how many messages is part of some names."""
    return re.sub(r"\b\d{1,3}(?:,\d{3})*(?= *$|, TLS$)", "N", name)


def title(section: str) -> str:
    return "The host" if section == HOST else f"{int(section):,} messages"


def cell(result: Result, server: str) -> str:
    if not result.has(server):
        return result.missing.get(server, "-")
    spread = f" ±{result.spread(server):.0%}" if len(result.runs[server]) > 1 else ""
    return shown(result.median(server), result.unit) + spread


def ratio(result: Result) -> str:
    value = result.ratio
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def line(result: Result) -> str:
    """One result for a log."""
    cells = " | ".join(f"{name} {cell(result, name)}" for name in SERVERS)
    return f"{result.name}: {cells} | ratio {ratio(result)}  {result.remark}".rstrip()


def show(report: Report, console: Console) -> None:
    for section, results in report.in_order():
        table = Table(title=title(section))
        table.add_column("")
        for name in ("Dovecot", "sharefs", "ratio"):
            table.add_column(name, justify="right")
        for result in results:
            value = result.ratio
            colour = "dim" if value is None else "green" if value >= 1 else "red"
            cells = [cell(result, name) for name in SERVERS]
            table.add_row(result.name, *cells, f"[{colour}]{ratio(result)}[/]")
        console.print(table)


# --- Markdown --------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """The part of docs/performance.md that is measured."""
    facts = ", ".join(
        f"{name} {report.machine[name]}" if name in ("kernel", "python", "dovecot")
        else report.machine[name]
        for name in _FACTS
    ).replace("python", "Python").replace("dovecot", "Dovecot")  # fmt: skip
    parts = [f"Measured on {facts}.\n\n![Ratios of all rows](performance.svg)"]
    for section, results in report.in_order():
        parts.append(_section(section, results, report.taken.get(section, "")))
    sizes = [name for name, _ in report.in_order() if name != HOST]
    if len(sizes) > 1:
        parts.append(_growth(report, sizes))
    return "\n\n".join(parts)


def _section(section: str, results: list[Result], taken: str) -> str:
    lines = [f"### {title(section)}", "", f"Taken {taken}.", ""]
    lines += ["| | Dovecot | sharefs | ratio |", "|---|---|---|---|"]
    for result in results:
        name = result.name.replace("|", "\\|")
        value = result.ratio
        told = ratio(result) if value is None or value >= 1 else f"**{ratio(result)}**"
        remark = f" ({result.remark})" if result.remark else ""
        cells = [cell(result, server) for server in SERVERS]
        lines.append(f"| {name}{remark} | {cells[0]} | {cells[1]} | {told} |")
    return "\n".join(lines)


def _growth(report: Report, sizes: list[str]) -> str:
    """Rows that every size has, with ours and the ratio side by side."""
    by_key = {
        size: {name_without_size(each.name): each for each in report.sections[size]}
        for size in sizes
    }
    heads = " | ".join(f"{int(size):,}" for size in sizes)
    lines = ["### Growth", "", "sharefs' median, and the ratio, by messages in the mailbox.", ""]
    lines += [f"| | {heads} |", "|---" * (len(sizes) + 1) + "|"]
    for key in by_key[sizes[0]]:
        found = [by_key[size].get(key) for size in sizes]
        cells = [
            f"{shown(each.median('sharefs'), each.unit)} ({ratio(each)})"
            if each is not None and each.has("sharefs") else "-"
            for each in found
        ]  # fmt: skip
        if any(cell != "-" for cell in cells):
            lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def beside(pure: Report, compiled: Report) -> str:
    """Rows of the compiled build beside those of pure Python, each against Dovecot of its run."""
    facts = ", ".join(compiled.machine[name] for name in ("processor", "kernel"))
    parts = [f"Measured on {facts}, {compiled.machine['build']}."]
    for section, results in compiled.in_order():
        others = {each.name: each for each in pure.sections.get(section, [])}
        lines = [f"### {title(section)}, compiled", "", f"Taken {compiled.taken[section]}.", ""]
        lines += ["| | sharefs | compiled | ratio to Dovecot | compiled |", "|---|---|---|---|---|"]
        for result in results:
            other = others.get(result.name, Result(result.name, result.unit))
            cells = [cell(other, "sharefs"), cell(result, "sharefs"), ratio(other), ratio(result)]
            name = result.name.replace("|", "\\|")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def replaced(page: str, text: str, part: str = "") -> str:
    """The page with another measured part.  Raises ValueError if it has no place for one."""
    before, begin, rest = page.partition(_BEGIN.format(part))
    _, end, after = rest.partition(_END.format(part))
    if not begin or not end:
        raise ValueError(f"the page lacks {_BEGIN.format(part)!r} or {_END.format(part)!r}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
