#!/usr/bin/env python3
"""`sharefs audit` for cron and systemd timers: plain text for a mail, and only what is news.

Run by scripts/audit.  Needs Python and an installed sharefs, nothing else.  Without findings it
prints nothing, so cron sends no mail.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CLEAN, FOUND, COULD_NOT_RUN = 0, 1, 2
SEVERITIES: Final = ("critical", "warning", "notice")  # the worst first
NEVER: Final = "never"
STATE: Final = Path("/var/lib/sharefs-audit/last.json")
FORMAT: Final = 1  # of the state file
WIDTH: Final = 78  # columns of a mail
MAX_SHOWN: Final = 200  # findings in one mail; the rest is counted
_UNSEEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff]"
)


class CannotRun(Exception):
    """Why there is no answer; the text is for people."""


@dataclass(frozen=True)
class Finding:
    """One finding as `sharefs audit --format json` prints it."""

    key: str
    severity: str
    data: dict[str, Any]

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return SEVERITIES.index(self.severity)

    @classmethod
    def read(cls, data: object) -> "Finding":
        """Raises CannotRun for what is no finding."""
        if not isinstance(data, dict):
            raise CannotRun("a finding is no JSON object")
        key, severity = data.get("key"), data.get("severity")
        if not isinstance(key, str) or severity not in SEVERITIES:
            raise CannotRun("a finding has no key or an unknown severity")
        return cls(key, str(severity), data)


@dataclass(frozen=True)
class News:
    """This run against the last one.  worse: known, but more severe than it was."""

    new: tuple[Finding, ...]
    worse: tuple[Finding, ...]
    known: tuple[Finding, ...]
    gone: tuple[Finding, ...]

    @property
    def worth_telling(self) -> tuple[Finding, ...]:
        return (*self.new, *self.worse)


def compare(before: Sequence[Finding], now: Sequence[Finding]) -> News:
    """Pure.  Findings are the same if their keys are."""
    old = {finding.key: finding for finding in before}
    keys = {finding.key for finding in now}
    return News(
        new=tuple(f for f in now if f.key not in old),
        worse=tuple(f for f in now if f.key in old and f.rank < old[f.key].rank),
        known=tuple(f for f in now if f.key in old and f.rank >= old[f.key].rank),
        gone=tuple(f for f in before if f.key not in keys),
    )


def fails(findings: Sequence[Finding], fail_on: str) -> bool:
    """Whether one of them is at or above that severity."""
    return fail_on != NEVER and any(f.rank <= SEVERITIES.index(fail_on) for f in findings)


# -- what is printed ---------------------------------------------------------------------------


def plain(text: object) -> str:
    """Names may hold anything; a mail must not."""
    return _UNSEEN.sub(lambda found: f"\\x{ord(found[0]):02x}", str(text))


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def lines_of(finding: Finding) -> Iterator[str]:
    """One finding: where, what was seen, what to do."""
    data = finding.data
    yield f"* {plain(data.get('subject', ''))}"
    for line in _texts(data, "evidence"):
        yield f"    {plain(line)}"
    if data.get("remedy"):
        yield from _wrapped(f"Remedy: {plain(data['remedy'])}", "    ")
    for command in _texts(data, "commands"):
        yield f"      {plain(command)}"


def report_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Findings under the title of their rule, the worst first."""
    ordered = sorted(
        findings, key=lambda f: (f.rank, str(f.data.get("id")), str(f.data.get("subject")))
    )
    last = None
    for finding in ordered[:MAX_SHOWN]:
        title = (finding.severity, finding.data.get("id"))
        if title != last:
            last = title
            heading = f"{finding.severity.upper()}: {plain(finding.data.get('title', ''))}"
            yield ""
            yield f"{heading}  [{plain(finding.data.get('id', ''))}]"
            if finding.data.get("why"):
                yield from _wrapped(plain(finding.data["why"]), "  ")
        yield from lines_of(finding)
    if len(ordered) > MAX_SHOWN:
        yield ""
        yield f"... and {len(ordered) - MAX_SHOWN} more; `sharefs audit` prints them all."


def whole_text(findings: Sequence[Finding], host: str) -> str:
    """Everything that was found; "" if that is nothing."""
    if not findings:
        return ""
    return _text([f"{counted(len(findings), 'finding')} on {host}", *report_lines(findings)])


def news_text(news: News, host: str) -> str:
    """What has changed since the last run; "" if that is nothing."""
    parts = [
        text
        for number, text in (
            (len(news.new), counted(len(news.new), "new finding")),
            (len(news.worse), f"{len(news.worse)} became worse"),
            (len(news.gone), f"{len(news.gone)} gone"),
        )
        if number
    ]
    if not parts:
        return ""
    if news.known:
        parts.append(f"{len(news.known)} known before")
    lines = [f"{', '.join(parts)} on {host}", *report_lines(news.worth_telling)]
    if news.gone:
        lines += ["", "GONE since the last run:"]
        lines += [
            f"* {plain(f.data.get('title', ''))}: {plain(f.data.get('subject', ''))}"
            for f in news.gone[:MAX_SHOWN]
        ]
    return _text(lines)


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _texts(data: dict[str, Any], name: str) -> list[object]:
    value = data.get(name)
    return value if isinstance(value, list) else []


def _wrapped(text: str, indent: str) -> list[str]:
    """Paths and commands are never broken."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


# -- running it, and remembering ---------------------------------------------------------------


def find_sharefs(named: str | None) -> str:
    """The command: as named, $SHAREFS, of this checkout, in the PATH, in /opt/sharefs."""
    checkout = Path(__file__).resolve().parents[1] / ".venv/bin/sharefs"
    candidates = [named or os.environ.get("SHAREFS")] if named or os.environ.get("SHAREFS") else [
        str(checkout), shutil.which("sharefs"), "/opt/sharefs/bin/sharefs",
    ]  # fmt: skip
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise CannotRun("no sharefs command found; install it, or name it with --sharefs")


def run_audit(command: Sequence[str], timeout: float | None) -> list[Finding]:
    """Raises CannotRun, with what the command said on standard error."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except OSError as error:
        raise CannotRun(f"{command[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise CannotRun(f"no answer within {timeout:g} seconds; see --timeout") from None
    said = done.stderr.decode("utf-8", "backslashreplace").strip()
    if done.returncode != 0:
        raise CannotRun(said or f"{command[0]} ended with status {done.returncode}")
    try:
        data = json.loads(done.stdout)
        findings = data["findings"]
    except (ValueError, KeyError, TypeError):
        raise CannotRun(f"{command[0]} printed no report: {said or 'nothing'}") from None
    if not isinstance(findings, list):
        raise CannotRun(f"{command[0]} printed no list of findings")
    if said:
        print(plain(said), file=sys.stderr)
    return [Finding.read(each) for each in findings]


def read_state(path: Path) -> list[Finding]:
    """The last run's findings; none if there was no run, or the file is damaged (that is said)."""
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != FORMAT:
            raise CannotRun(f"format {data['format']!r}")
        return [Finding.read(each) for each in data["findings"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CannotRun(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, CannotRun) as error:
        print(f"audit: {path} is damaged ({error}); everything counts as new", file=sys.stderr)
        return []


def write_state(path: Path, findings: Sequence[Finding]) -> None:
    """Whole or not at all, for root's eyes only: it names what nobody else may list."""
    data = {"format": FORMAT, "findings": [finding.data for finding in findings]}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".audit-", delete=False) as file:
        try:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.name)
            raise


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Two runs at once would each take the other's news away.  Raises CannotRun for that, and for
    a path of something else: /dev/null, say, would be gone, and for every program."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CannotRun(f"{path} is no regular file, and is not replaced")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(f"{path}.lock", "a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"another run is using {path}") from None
        yield


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 clean, 1 findings at or above --fail-on (with --diff: new ones),"
        " 2 could not run.\n\nFor example, in /etc/cron.daily/sharefs-audit:\n"
        "  exec /usr/local/sbin/sharefs-audit --diff --fail-on critical",
    )  # fmt: skip
    add = parser.add_argument
    add("--diff", action="store_true", help="print only what is news since the last run")
    add("--fail-on", choices=(*SEVERITIES, NEVER), default="warning",
        help="the least severity that makes the exit status 1 (default: %(default)s)")  # fmt: skip
    add("--state", type=Path, default=STATE, metavar="FILE",
        help="where --diff remembers the last run (default: %(default)s)")  # fmt: skip
    add("--config", metavar="FILE", help="configuration, as `sharefs -c`")
    add("--sharefs", metavar="COMMAND", help="the sharefs command (default: $SHAREFS, the PATH)")
    add("--timeout", type=float, metavar="SECONDS", help="give up after that (default: never)")
    add("options", nargs="*", metavar="OPTION", help="after --: more options of `sharefs audit`")
    return parser.parse_args(argv)


def audit(options: argparse.Namespace) -> int:
    """The exit status.  Raises CannotRun."""
    config = ["-c", options.config] if options.config else []
    command = [
        find_sharefs(options.sharefs), *config, "audit", "--format", "json", "--quiet",
        "--fail-on", NEVER, *options.options,
    ]  # fmt: skip
    host = socket.getfqdn()
    if not options.diff:
        findings = run_audit(command, options.timeout)
        sys.stdout.write(whole_text(findings, host))
        return FOUND if fails(findings, options.fail_on) else CLEAN
    with alone(options.state):
        before = read_state(options.state)
        findings = run_audit(command, options.timeout)
        news = compare(before, findings)
        sys.stdout.write(news_text(news, host))
        # Told first, then remembered: news that reached nobody are news the next time as well.
        sys.stdout.flush()
        write_state(options.state, findings)
    return FOUND if fails(news.worth_telling, options.fail_on) else CLEAN


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    try:
        return audit(options)
    except CannotRun as why:
        print(f"audit: could not run: {plain(why)}", file=sys.stderr)
    except OSError as error:
        # A closed pipe cannot be told about, and Python would complain once more at exit.
        with contextlib.suppress(OSError):
            print(f"audit: could not run: {error}", file=sys.stderr)
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return COULD_NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
