"""sharefs beside Dovecot: the same Maildirs, the same client, alternating, on one machine.

Prints a table of medians, spread and ratios (above 1: sharefs needs less).  Needs root, because
mail belongs to users, and Debian's dovecot-imapd.
"""

import argparse
import contextlib
import functools
import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from benchmarks.ending import ended_by_sigterm
from benchmarks.imap import crowd, rows, tables
from benchmarks.imap.machine import machine
from benchmarks.imap.mailboxes import make_home, make_homes
from benchmarks.imap.measure import Row, carry_out
from benchmarks.imap.place import Place, lasting, passing
from benchmarks.imap.plot import plot
from benchmarks.imap.results import Result
from benchmarks.imap.servers import USER, Side, both
from benchmarks.imap.tables import HOST, Report

TOP: Final = Path(__file__).resolve().parents[2]
DOCS: Final = TOP / "docs"
COMPILE: Final = TOP / "scripts" / "compile"
SIZES: Final = (1000, 50_000)
_PORTS_AND_FILES: Final = 65536  # descriptors: clients and servers have thousands of connections


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.render:
        report = Report.load(options.render)
    elif options.compiled and os.environ.get("SHAREFS_BUILD") != "compiled":
        words = sys.argv[1:] if arguments is None else arguments
        os.execv(COMPILE, [str(COMPILE), sys.executable, "-m", "benchmarks.imap", *words])
    else:
        _raise_descriptor_limit()
        report = Report(machine())
        wanted = [] if options.no_host else [HOST]
        wanted += [str(size) for size in options.sizes]
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for section in wanted:
                report.sections[section] = measure(section, options, progress)
        report.end(machine())
    if options.write_docs:
        report = write_docs(report, options)
    if options.json:
        json.dump(report.data(), sys.stdout, indent=1)
    else:
        tables.show(report, Console())
    return 0


def write_docs(report: Report, options: argparse.Namespace) -> Report:
    """Put it into the page.  Returns it with what was kept of earlier ones."""
    pure, compiled = DOCS / "performance.json", DOCS / "performance-compiled.json"
    kept = compiled if options.compiled else pure
    if kept.exists() and not options.render:
        report = Report.load(kept).updated(report)
    kept.write_text(json.dumps(report.data(), indent=1) + "\n")
    page = DOCS / "performance.md"
    text = page.read_text()
    if not options.compiled:
        (DOCS / "performance.svg").write_text(plot(report))
        text = tables.replaced(text, tables.markdown(report))
    if compiled.exists():
        both_builds = tables.beside(Report.load(pure), Report.load(compiled))
        text = tables.replaced(text, both_builds, tables.COMPILED)
    page.write_text(text)
    return report


def measure(section: str, options: argparse.Namespace, progress: Progress) -> list[Result]:
    """All rows of one section on both servers, each on its own copy of the mail."""
    task = progress.add_task(f"{section}: making mail", total=None)
    with _mail_of(section, options) as found, both(found.top) as sides:
        progress.remove_task(task)
        if section == HOST:
            planned = crowd.on_a_host(
                messages=options.crowd, mailboxes=options.mailboxes, idle=options.idle
            )
            return _carry_out(planned, sides, options, progress, section)
        return _on_one_mailbox(int(section), found, sides, options, progress)


def _mail_of(section: str, options: argparse.Namespace) -> contextlib.AbstractContextManager[Place]:
    """Rows of the host are about arrivals and change it for good: it is made for each run."""
    if section == HOST:
        make = functools.partial(make_homes, count=options.crowd, mailboxes=options.mailboxes)
    else:
        make = functools.partial(make_home, count=int(section))
        if options.work:
            return lasting(make, options.work.absolute(), section)
    return passing(make, options.directory)


def _on_one_mailbox(
    size: int,
    found: Place,
    sides: Sequence[Side],
    options: argparse.Namespace,
    progress: Progress,
) -> list[Result]:
    if found.found:
        for side in sides:
            side.put_back(USER)
            rows.tidy(side, size)
            side.forget(USER)  # or it would begin to index in the background
            side.build_index(USER)  # nothing to do, unless the last run was cut short
    indexing = options.first_indexing or not found.found
    section = str(size)
    results = _carry_out(
        rows.before_indexing(size, indexing=indexing), sides, options, progress, section
    )
    for side in sides:
        rows.warm_up(side)
    if not options.prepare:
        results += _carry_out(rows.on_one_mailbox(size), sides, options, progress, section)
    return results


def _carry_out(
    planned: Sequence[Row],
    sides: Sequence[Side],
    options: argparse.Namespace,
    progress: Progress,
    section: str,
) -> list[Result]:
    planned = [
        row for row in planned
        if not options.only or any(text.lower() in row.name.lower() for text in options.only)
    ]  # fmt: skip
    task = progress.add_task(section, total=len(planned))
    results = []
    for row in planned:
        progress.update(task, description=f"{section}: {row.name}")
        results.append(carry_out(row, sides, seconds=options.seconds, most=options.runs))
        progress.console.print(
            f"{section}: {tables.line(results[-1])}", highlight=False, soft_wrap=True
        )
        progress.advance(task)
    progress.remove_task(task)
    return results


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench imap", description=__doc__)
    parser.add_argument(
        "--sizes", metavar="N,...", type=_sizes, default=list(SIZES),
        help="messages in the mailbox, empty: rows of the host only; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="sizes 1000 and 10000, fewer runs")
    parser.add_argument("--no-host", action="store_true", help="no rows that have no size")
    parser.add_argument(
        "--only", metavar="TEXT", action="append", help="rows with TEXT in the name"
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="for a row, once it has three runs"
    )
    parser.add_argument("--runs", type=int, metavar="N", help="of each row at most")
    parser.add_argument("--mailboxes", type=int, default=1000, help="for LIST")
    parser.add_argument(
        "--crowd", type=int, default=200, help="messages in INBOXes where size is not the point"
    )
    parser.add_argument("--idle", type=int, default=1000, help="idle connections")
    parser.add_argument(
        "--compiled", action="store_true",
        help="measure the compiled build (scripts/compile), whose figures are kept apart",
    )  # fmt: skip
    parser.add_argument("--directory", type=Path, help="where the mail is made; default: $TMPDIR")
    parser.add_argument(
        "--work", metavar="DIR", type=Path,
        help="keep mailboxes and their indexes here, and measure on those that are here already:"
        " then without 'first indexing'; rows of the host are always made anew",
    )  # fmt: skip
    parser.add_argument(
        "--prepare", action="store_true",
        help="with --work: only have everything there, and measure what that takes",
    )  # fmt: skip
    parser.add_argument(
        "--first-indexing", action="store_true", help="with --work: measure it all the same"
    )
    parser.add_argument("--json", action="store_true", help="every run, as JSON")
    parser.add_argument(
        "--write-docs", action="store_true",
        help="put the sections measured into docs/performance.{md,json,svg}, others stay",
    )  # fmt: skip
    parser.add_argument("--render", type=Path, metavar="JSON", help="measure nothing, show this")
    options = parser.parse_args(arguments)
    if options.prepare and not options.work:
        parser.error("--prepare needs --work")
    if options.quick:
        options.sizes, options.seconds = [1000, 10_000], 1.0
    return options


def _sizes(text: str) -> list[int]:
    return [int(word.replace("_", "")) for word in text.split(",") if word]


def _raise_descriptor_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _PORTS_AND_FILES), most))


if __name__ == "__main__":
    ended_by_sigterm()
    sys.exit(main())
