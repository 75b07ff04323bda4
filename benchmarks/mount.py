"""The mount beside bindfs and beside the plain directory: the same calls, alternating, in one run.

Prints medians and, last, how much faster than bindfs the mirror and the view are (above 1) or
slower.  --write puts the table into docs/mount.md.  Needs root and Debian's bindfs, rsync, mutt
and tmux.  See --help.
"""

import argparse
import datetime
import functools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.ending import ended_by_sigterm
from benchmarks.mail import make_maildir
from benchmarks.mount_places import PLACES, UID, Mailbox, Places, as_owner, places
from tests.interop.terminal import Terminal

CONTENT: Final = os.urandom(4096)
LARGE: Final = 256 << 20  # octets
CHUNK: Final = os.urandom(1 << 20)
SCANNED: Final = 10_000  # files in the listed directory
PATIENCE: Final = 300.0  # seconds for mutt
PAUSE: Final = 2.0  # seconds between two looks at the same tree
ROUNDS: Final = 4  # how often somebody has looked before
DOCS: Final = Path(__file__).parent.parent / "docs" / "mount.md"
BEGIN: Final = "<!-- made by: scripts/bench mount --write -->\n"
END: Final = "<!-- end -->\n"

Measure = Callable[[Mailbox], float]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to measure.  measure(): seconds for one run, in a mailbox that nobody has looked
    at yet.  per: what one time is divided by.  repeat: how many runs of each place."""

    name: str
    measure: Measure
    per: int = 1
    repeat: int = 9


@dataclass(slots=True)
class Result:
    name: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PLACES})

    def median(self, place: str) -> float:
        return statistics.median(self.seconds[place])

    def spread(self, place: str) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        first, _, third = statistics.quantiles(self.seconds[place], n=4, method="inclusive")
        return (third - first) / 2 / self.median(place)

    def ratio(self, place: str) -> float:
        return self.median("bindfs") / self.median(place)

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            **{
                place: {
                    "median": self.median(place),
                    "spread": self.spread(place),
                    "ratio": self.ratio(place),
                    "seconds": self.seconds[place],
                }
                for place in PLACES
            },
        }


def timed(run: Callable[[], object]) -> float:
    """As the owner of the mailbox."""
    with as_owner():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def fill(directory: Path, count: int) -> list[str]:
    """count messages of the owner's.  Their names."""
    names = [f"{1_700_000_000 + number}.M{number}P1.host:2,S" for number in range(count)]
    for name in names:
        (directory / name).write_bytes(CONTENT)
        os.chown(directory / name, UID, UID)
    return names


def small(count: int) -> list[Row]:
    """Calls on many small files."""

    def each(call: Callable[[str], object], *, made: bool = True) -> Measure:
        def measure(box: Mailbox) -> float:
            names = fill(box.below, count) if made else [f"{n}.M{n}P1.host" for n in range(count)]
            return _inside(box, lambda: timed(lambda: [call(name) for name in names]))

        return measure

    def create(name: str) -> None:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, CONTENT)
        os.close(fd)

    def read(name: str) -> None:
        fd = os.open(name, os.O_RDONLY)
        os.read(fd, 8192)
        os.close(fd)

    def stat_again(box: Mailbox) -> float:
        names = fill(box.below, count)

        def run() -> float:
            for name in names:
                os.stat(name)
            return timed(lambda: [os.stat(name) for name in names])

        return _inside(box, run)

    def scan(box: Mailbox) -> float:
        fill(box.below, SCANNED)

        def run() -> None:
            with os.scandir(box.seen) as entries:
                for entry in entries:
                    entry.stat()

        return timed(run)

    return [
        Row("create + write 4 KiB", each(create, made=False), count),
        Row("open + read 4 KiB", each(read), count),
        Row("stat, first time", each(os.stat), count),
        Row("stat, again", stat_again, count),
        Row("rename", each(lambda name: os.rename(name, name.replace(":2,S", ":2,FS"))), count),
        Row("link", each(lambda name: os.link(name, f"L{name}")), count),
        Row("unlink", each(os.unlink), count),
        Row(f"scandir + stat, {SCANNED:,} files", scan, repeat=3),
    ]


def returning(count: int) -> list[Row]:
    """Work that comes back to the same names after more than a second."""

    def walk(box: Mailbox) -> float:
        """As git status: every file that is known is asked for by its path."""
        paths = [os.fspath(box.seen / name) for name in fill(box.below, count)]
        return _again(lambda: [os.lstat(path) for path in paths])

    def miss(box: Mailbox) -> float:
        """As procmail and mutt, which look for files that are not there."""
        paths = [os.fspath(box.seen / f"missing{number}") for number in range(count)]
        return _again(lambda: [os.path.exists(path) for path in paths])

    return [
        Row("lstat by path, every 2 s", walk, count, repeat=3),
        Row("missing names, every 2 s", miss, count, repeat=3),
    ]


def _again(look: Callable[[], object]) -> float:
    """The last of several looks."""
    for _ in range(ROUNDS):
        timed(look)
        time.sleep(PAUSE)
    return timed(look)


def _inside(box: Mailbox, run: Callable[[], float]) -> float:
    os.chdir(box.seen)
    try:
        return run()
    finally:
        os.chdir("/")


def large() -> list[Row]:
    """256 MiB in a row.  Reading is from the page cache of the file below, not of the mount."""

    def write_to(path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(LARGE // len(CHUNK)):
                file.write(CHUNK)

    def write(box: Mailbox) -> float:
        seconds = timed(lambda: write_to(box.seen / "large"))
        (box.below / "large").unlink()
        return seconds

    def read(box: Mailbox) -> float:
        write_to(box.below / "large")
        os.chown(box.below / "large", UID, UID)

        def run() -> None:
            with (box.seen / "large").open("rb", buffering=0) as file:
                while file.read(len(CHUNK)):
                    pass

        seconds = timed(run)
        (box.below / "large").unlink()
        return seconds

    return [
        Row("write 256 MiB", write, repeat=5),
        Row("read 256 MiB", read, repeat=5),
    ]


def jobs(make: Callable[[], Path], count: int) -> list[Row]:
    """What people do.  make: where a Maildir with count messages lies."""

    def rsync_in(box: Mailbox) -> float:
        return timed(lambda: _rsync(make(), box.seen.parent))

    def rsync_out(box: Mailbox) -> float:
        _copy_all(make(), box.below.parent)
        copy = box.below.parent / "copy"
        copy.mkdir()
        os.chown(copy, UID, UID)
        return timed(lambda: _rsync(box.seen.parent, copy, "--exclude=/copy"))

    def mutt(box: Mailbox) -> float:
        _copy_all(make(), box.below.parent)
        return opened(box)

    def mutt_again(box: Mailbox) -> float:
        mutt(box)
        return opened(box)

    def opened(box: Mailbox) -> float:
        rc = box.below.parent / "rc"
        settings = f"set folder='{box.seen.parent}'\nset read_inc=0\nset sleep_time=0\n"
        rc.write_text(f"{settings}set status_format=Msgs:%m\n")
        # As root: mutt wants a user whom passwd knows.
        words = ["mutt", "-n", "-R", "-F", str(rc), "-f", str(box.seen.parent)]
        start = time.perf_counter()
        with Terminal(words, {"HOME": str(box.below.parent)}) as terminal:
            while f"Msgs:{count}" not in terminal.screen():
                if time.perf_counter() - start > PATIENCE:
                    raise TimeoutError(f"mutt is not ready: {terminal.screen()}")
            return time.perf_counter() - start

    named = f"{count:,} messages"
    return [
        Row(f"rsync in, {named}", rsync_in, repeat=3),
        Row(f"rsync out, {named}", rsync_out, repeat=3),
        Row(f"mutt opens {named}", mutt, repeat=3),
        Row(f"mutt opens {named} again", mutt_again, repeat=3),
    ]


def _rsync(source: Path, target: Path, *options: str) -> None:
    """As whoever the file system takes us for."""
    words = ["rsync", "-a", *options, f"{source}/", f"{target}/"]
    subprocess.run(words, check=True, user=os.geteuid(), group=os.getegid())


def _copy_all(source: Path, target: Path) -> None:
    """Files of its own for each turn: what a mount knows of an inode must not help the next."""
    for name in os.listdir(source / "cur"):
        copy = target / "cur" / name
        shutil.copy2(source / "cur" / name, copy)
        os.chown(copy, UID, UID)


def run(only: str, files: int, messages: int, progress: Progress) -> list[Result]:
    """Measure every row whose name contains `only` at all places, alternating."""
    with places() as where:

        @functools.cache
        def made() -> Path:
            maildir = where.top / "messages"
            make_maildir(maildir, messages, uid=UID, gid=UID)
            return maildir

        rows = [*small(files), *returning(files), *large(), *jobs(made, messages)]
        rows = [row for row in rows if only in row.name]
        if any("messages" in row.name for row in rows):
            made()
        task = progress.add_task("measuring", total=sum(row.repeat for row in rows))
        results = []
        for index, row in enumerate(rows):
            progress.update(task, description=row.name)
            results.append(_measure(where, row, index, lambda: progress.advance(task)))
        return results


def _measure(where: Places, row: Row, index: int, advance: Callable[[], None]) -> Result:
    result = Result(row.name)
    for turn in range(row.repeat):
        for step in range(len(PLACES)):
            place = PLACES[(step + turn) % len(PLACES)]  # nobody is always behind the same one
            box = where.mailbox(place, f"{index}t{turn}{place}")
            result.seconds[place].append(row.measure(box) / row.per)
        advance()
    return result


def shown(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 0.002 else f"{seconds * 1000:.0f} ms"


def cells_of(result: Result) -> list[str]:
    cells = [f"{shown(result.median(place))} ±{result.spread(place):.0%}" for place in PLACES]
    return [*cells, f"{result.ratio('mirror'):.2f}", f"{result.ratio('view'):.2f}"]


HEAD: Final = ("", *PLACES, "bindfs / mirror", "bindfs / view")


def print_table(results: list[Result]) -> None:
    table = Table(title="median ± half the quartile distance, and how much faster than bindfs")
    for name in HEAD:
        table.add_column(name, justify="right" if name else "left")
    for result in results:
        *times, mirror, view = cells_of(result)
        ratios = [f"[{'green' if float(cell) >= 1 else 'red'}]{cell}[/]" for cell in (mirror, view)]
        table.add_row(result.name, *times, *ratios)
    Console(width=140 if not sys.stdout.isatty() else None).print(table)


def markdown(results: list[Result]) -> str:
    """The table for docs/mount.md, with when and where it was measured."""
    lines = [f"| {' | '.join(HEAD)} |", f"|---|{'--:|' * (len(HEAD) - 1)}"]
    lines += [f"| {result.name} | {' | '.join(cells_of(result))} |" for result in results]
    today = datetime.datetime.now(datetime.UTC).date()
    load = os.getloadavg()[2]
    where = f"{os.cpu_count()} cores, Linux {platform.release()}, load {load:.1f} around it"
    return (
        "\n".join(lines) + f"\n\nMeasured on {today}: {where}. Times are of one call or one job.\n"
    )


def write_docs(text: str) -> None:
    """Raises ValueError if docs/mount.md has no place for it."""
    page = DOCS.read_text()
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{DOCS} has no lines {BEGIN!r} and {END!r}")
    DOCS.write_text(f"{before}{BEGIN}{text}{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench mount", description=__doc__)
    parser.add_argument("--files", type=int, default=1000, metavar="N", help="in the small rows")
    parser.add_argument("--messages", type=int, default=10_000, metavar="N", help="in the jobs")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their name")
    parser.add_argument("--json", action="store_true", help="medians and every run, as JSON")
    parser.add_argument("--write", action="store_true", help="put the table into docs/mount.md")
    parser.add_argument("--on", default="/dev/shm", metavar="DIR", help="file system to work on")
    options = parser.parse_args()
    tempfile.tempdir = options.on
    if options.write and options.only:
        parser.error("--write wants all rows")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        results = run(options.only, options.files, options.messages, progress)
    if options.json:
        json.dump([result.as_json() for result in results], sys.stdout, indent=1)
    else:
        print_table(results)
    if options.write:
        write_docs(markdown(results))
    return 0


if __name__ == "__main__":
    ended_by_sigterm()
    sys.exit(main())
