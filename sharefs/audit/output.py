"""Findings as text, JSON, CSV, SARIF and Prometheus metrics.  Pure."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import quote

from sharefs import __version__
from sharefs.audit.findings import RULES, Finding, Severity

FORMATS: Final = ("text", "json", "csv", "sarif", "prometheus")
_SARIF_LEVEL: Final = {
    Severity.CRITICAL: "error",
    Severity.WARNING: "warning",
    Severity.NOTICE: "note",
}
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ud800-\udfff]")
_PLACE: Final = re.compile(r"(?s)(.+?)(?::(\d+))?(?::(\d+))?")
# Not within a word: Projects/2026 is a mailbox.
_PATH: Final = re.compile(r"(?<!\S)(/[^\s:]+)(?::(\d+))?(?::(\d+))?")
_ONE: Final = {"users": "user", "mailboxes": "mailbox", "entries": "entry"}


def render(findings: Sequence[Finding], form: str, counts: dict[str, int]) -> str:
    """The whole report.  counts: what was looked at, by word."""
    ordered = in_order(findings)
    match form:
        case "json":
            return _json({"looked_at": counts, "summary": summary(ordered),
                          "findings": [finding.data() for finding in ordered]})  # fmt: skip
        case "csv":
            return _csv(ordered)
        case "sarif":
            return _json(_sarif(ordered))
        case "prometheus":
            return _prometheus(ordered, counts)
        case _:
            return _text(ordered, counts)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, then by rule, each once."""
    order = {name: number for number, name in enumerate(RULES)}
    unique = {finding.key: finding for finding in findings}
    return sorted(
        unique.values(),
        key=lambda finding: (finding.severity, order[finding.rule], finding.subject),
    )


def summary(findings: Iterable[Finding]) -> dict[str, int]:
    found = Counter(finding.severity for finding in findings)
    return {severity.word: found[severity] for severity in Severity}


def plain(text: str) -> str:
    """Names may hold anything; terminals and logs must not."""
    return _UNSEEN.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _text(findings: Sequence[Finding], counts: dict[str, int]) -> str:
    lines: list[str] = []
    last = ""
    for finding in findings:
        if finding.rule + finding.severity.word != last:
            last = finding.rule + finding.severity.word
            lines += ["", f"{finding.severity.word.upper()} {finding.title}  [{finding.rule}]"]
            lines += [f"  {finding.why}"]
        lines.append(f"  * {plain(finding.subject)}")
        lines += [f"      {plain(line)}" for line in finding.evidence]
        lines.append(f"      remedy: {plain(finding.remedy)}")
        # A command with characters that cannot be shown would not be the one that is meant.
        shown = (command for command in finding.commands if plain(command) == command)
        lines += [f"        {command}" for command in shown]
    plural = {"warning": "warnings", "notice": "notices"}
    found = ", ".join(
        f"{count} {word if count == 1 else plural.get(word, word)}"
        for word, count in summary(findings).items()
    )
    seen = ", ".join(
        f"{count} {_ONE.get(word, word) if count == 1 else word}" for word, count in counts.items()
    )
    lines += ["", f"{found}; looked at {seen}"]
    return "\n".join(lines[1:]) + "\n"


def _json(data: object) -> str:
    return json.dumps(data, indent=1) + "\n"


def _csv(findings: Sequence[Finding]) -> str:
    """One line for each finding; RFC 4180.  Cells that a spreadsheet would run are quoted."""
    out = io.StringIO()
    writer = csv.writer(out)
    columns = ("severity", "id", "subject", "mailbox", "user", "evidence", "remedy", "commands")
    writer.writerow((*columns, "key"))
    for finding in findings:
        row = (
            finding.severity.word, finding.rule, finding.subject, finding.mailbox, finding.user,
            "; ".join(finding.evidence), finding.remedy, "; ".join(finding.commands), finding.key,
        )  # fmt: skip
        writer.writerow([harmless(plain(cell)) for cell in row])
    return out.getvalue()


def harmless(cell: str) -> str:
    """A cell of CSV that no spreadsheet takes for a formula."""
    return "'" + cell if cell[:1] in ("=", "+", "-", "@") and cell else cell


def _sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """SARIF 2.1.0, which code scanners and their dashboards read."""
    rules = [
        {
            "id": each.name,
            "shortDescription": {"text": each.title},
            "fullDescription": {"text": each.why},
            "defaultConfiguration": {"level": _SARIF_LEVEL[each.severity]},
            "properties": {"area": each.area},
        }
        for each in RULES.values()
    ]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "sharefs audit", "version": __version__, "rules": rules}
                },
                "results": [_sarif_result(finding) for finding in findings],
            }
        ],
    }


def _sarif_result(finding: Finding) -> dict[str, Any]:
    text = ". ".join((finding.subject, *finding.evidence, f"Remedy: {finding.remedy}"))
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": _SARIF_LEVEL[finding.severity],
        "message": {"text": plain(text)},
        "partialFingerprints": {"sharefs/v1": finding.key},
    }
    if finding.place:
        found = _PLACE.fullmatch(finding.place)
    else:
        found = _PATH.search(" ".join((finding.subject, *finding.evidence)))
    if found is not None:
        path, line, column = found.groups()
        region: dict[str, int] = {"startLine": max(int(line), 1)} if line else {}
        if line and column:
            region["startColumn"] = max(int(column), 1)
        place: dict[str, Any] = {"artifactLocation": {"uri": quote(os.fsencode(path))}}
        if region:
            place["region"] = region
        result["locations"] = [{"physicalLocation": place}]
    return result


def _prometheus(findings: Sequence[Finding], counts: dict[str, int]) -> str:
    """For node_exporter's textfile collector.  Every rule has a series, so that none goes stale."""
    found = Counter((finding.rule, finding.severity) for finding in findings)
    lines = [
        "# HELP sharefs_audit_findings Findings of the last audit.",
        "# TYPE sharefs_audit_findings gauge",
    ]
    for each in RULES.values():
        for severity in Severity:
            count = found[each.name, severity]
            if count or severity is each.severity:
                labels = f'id="{each.name}",severity="{severity.word}",area="{each.area}"'
                lines.append(f"sharefs_audit_findings{{{labels}}} {count}")
    lines += [
        "# HELP sharefs_audit_looked_at What the last audit looked at.",
        "# TYPE sharefs_audit_looked_at gauge",
        *(f'sharefs_audit_looked_at{{what="{word}"}} {count}' for word, count in counts.items()),
    ]
    return "\n".join(lines) + "\n"
