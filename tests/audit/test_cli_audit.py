"""`sharefs audit` as a command: formats, exit statuses, and the page that lists its rules."""

import contextlib
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sharefs.audit.findings import RULES, Finding, Severity
from sharefs.audit.output import FORMATS, in_order, render
from tests.account.world import World
from tests.audit.auditing import share
from tests.cli.command import Shell

pytestmark = pytest.mark.superuser

PAGE = Path(__file__).resolve().parents[2] / "docs/audit.md"
HOSTILE = "user=a\tb\x1b[31m\u202e \udcff"


def finding(rule: str = "map-missing", subject: str = "alice -> bob") -> Finding:
    return Finding(rule, RULES[rule].severity, subject, ("/m/dovecot-acl:3:7: odd",), "why", "do")


def test_statuses(host: World, shell: Shell) -> None:
    """dave cannot write the map: one warning, and nothing worse."""
    share(host)
    assert shell.run("audit").status == 1
    assert shell.run("audit --fail-on critical").status == 0
    assert shell.run("audit --fail-on never").status == 0
    assert shell.run("audit --user alice").status == 0
    host.maildir("alice", ".Work", "cur").chmod(0o2700)
    assert shell.run("audit --user alice").status == 1
    assert shell.run("audit --user alice --fail-on critical").status == 0
    assert shell.run("audit --fail-on sometimes").status == 2
    assert shell.run("-c /nonexistent/file audit").status == 2


def test_who_watches_sees_how_far_it_is(host: World) -> None:
    share(host)
    watched, errors = pty.openpty()
    command = [sys.executable, "-m", "sharefs", "-c", str(host.config_path), "audit", "-u", "alice"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=errors, check=False, timeout=60,
        env={**os.environ, "COLUMNS": "160", "TERM": "xterm"},
    )  # fmt: skip
    os.close(errors)
    told = b""
    with contextlib.suppress(OSError):  # what a terminal says that nobody else has open any more
        while part := os.read(watched, 65536):
            told += part
    os.close(watched)
    assert done.returncode == 0
    assert re.search(rb"users .* 1/1 .*[1-9][\d,]* entries, [1-9][\d,]*/s .*\d:\d\d:\d\d", told), (
        told
    )
    assert b"entries, " not in done.stdout


def test_text_groups_by_rule(host: World, shell: Shell) -> None:
    share(host)
    host.maildir("alice", ".Work", "cur").chmod(0o2700)
    done = shell.run("audit -u alice")
    lines = done.lines
    assert done.err == ""
    start = lines.index("WARNING The ACL grants what the kernel denies  [acl-without-access]")
    assert lines[start + 2] == "  * alice: Work"
    assert lines[start + 3].strip().startswith("bob: r, w, i, e refused")
    assert lines[-1].startswith("0 critical, 1 warning,")


def test_json(host: World, shell: Shell) -> None:
    share(host)
    host.map_path.write_text("")
    got = json.loads(shell.run("audit --json").out)
    assert got["summary"] == {"critical": 0, "warning": 2, "notice": 0}
    assert got["looked_at"]["users"] == 4
    (found,) = [each for each in got["findings"] if each["id"] == "map-missing"]
    assert found["subject"] == "alice -> user bob"
    assert found["commands"] == ["sharefs map rebuild -u alice"]
    assert re.fullmatch("[0-9a-f]{16}", found["key"])


def test_one_namespace(host: World, shell: Shell) -> None:
    share(host)
    host.maildir("alice", ".Work", "cur").chmod(0o2700)
    assert "acl-without-access" in shell.run("audit --namespace inbox").out
    assert "acl-without-access" not in shell.run("audit --namespace public").out
    for command in ("audit", "report"):
        done = shell.run(f"{command} --namespace inbox --namespace publik")
        assert done.status == 2
        assert "no namespace 'publik'; it has inbox, public, shared" in done.err


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_in_a_name_reaches_the_terminal(form: str) -> None:
    text = render([finding(subject=HOSTILE)], form, {"users": 1})
    assert "\x1b" not in text
    assert "\u202e" not in text
    text.encode("utf-8")


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(render([finding(subject="=cmd()")], "csv", {}))))
    assert rows[0]["id"] == "map-missing"
    assert rows[0]["subject"] == "'=cmd()"


def test_sarif() -> None:
    got = json.loads(render([finding()], "sarif", {}))
    assert got["version"] == "2.1.0"
    (run,) = got["runs"]
    assert [each["id"] for each in run["tool"]["driver"]["rules"]] == list(RULES)
    (result,) = run["results"]
    assert result["level"] == "warning"
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "/m/dovecot-acl"},
                "region": {"startLine": 3, "startColumn": 7},
            }
        }
    ]


@pytest.mark.parametrize(
    ("place", "want"),
    [
        ("/m/.My Mail", {"artifactLocation": {"uri": "/m/.My%20Mail"}}),
        (
            "/m/.My Mail/dovecot-acl:2:5",
            {
                "artifactLocation": {"uri": "/m/.My%20Mail/dovecot-acl"},
                "region": {"startLine": 2, "startColumn": 5},
            },
        ),
    ],
)
def test_a_place_may_have_spaces(place: str, want: object) -> None:
    (run,) = json.loads(render([replace(finding(), place=place)], "sarif", {}))["runs"]
    assert run["results"][0]["locations"] == [{"physicalLocation": want}]


@pytest.mark.parametrize(
    ("subject", "uri"),
    [
        ("alice: Projects/2026", "/m/dovecot-acl"),  # a mailbox, and no path
        ("/m/ü%20#?", "/m/%C3%BC%2520%23%3F"),
        ("/m/\udcff", "/m/%FF"),
    ],
)
def test_sarif_names_files_as_references(subject: str, uri: str) -> None:
    """SARIF 3.4.3: an RFC 3986 URI reference."""
    (run,) = json.loads(render([finding(subject=subject)], "sarif", {}))["runs"]
    (place,) = run["results"][0]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_the_last_line_counts_in_words() -> None:
    one = {"users": 1, "mailboxes": 1, "entries": 1}
    last = render([finding()], "text", one).splitlines()[-1]
    assert last == "0 critical, 1 warning, 0 notices; looked at 1 user, 1 mailbox, 1 entry"


def test_prometheus() -> None:
    lines = render([finding()], "prometheus", {"users": 3}).splitlines()
    assert 'sharefs_audit_findings{id="map-missing",severity="warning",area="stores"} 1' in lines
    assert 'sharefs_audit_looked_at{what="users"} 3' in lines
    for line in lines:
        assert line.startswith("# ") or re.fullmatch(r'\w+\{(\w+="[^"\\]*",?)+\} \d+', line)


def test_order_and_keys() -> None:
    worse = finding("world-readable-mail", "x")
    assert in_order([finding(), worse, finding()]) == [worse, finding()]
    assert finding().key == finding().key != finding(subject="other").key


def table_of_rules() -> str:
    """The table in docs/audit.md, as it has to be."""
    lines = ["| id | severity | what |", "|---|---|---|"]
    lines += [
        f"| `{each.name}` | {each.severity.word} | {each.title}. {each.why} |"
        for each in RULES.values()
    ]
    return "\n".join(lines)


def test_the_page_lists_every_rule() -> None:
    assert table_of_rules() in PAGE.read_text(encoding="utf-8")


def test_severities_are_ordered() -> None:
    assert Severity.CRITICAL < Severity.WARNING < Severity.NOTICE
