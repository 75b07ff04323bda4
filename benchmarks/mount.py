"""The mount beside bindfs and beside the plain directory: the same calls, alternating, in one run.

Prints a table of medians and, last, how much faster than bindfs the mount is (above 1) or slower.
Needs root and Debian's bindfs, rsync, mutt and tmux.  See --help.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.mail import make_maildir
from tests.interop.terminal import Terminal
from tests.support.mount import is_mounted, mounted

PLACES: Final = ("plain", "bindfs", "sharefs")
CONTENT: Final = os.urandom(4096)
LARGE: Final = 256 << 20  # octets
CHUNK: Final = os.urandom(1 << 20)
UID: Final = 7301

Measure = Callable[[Path, Path], float]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to measure.  measure(below, seen): seconds for one run, in a new directory that is
    `below` in the file system and `seen` through the mount.  per: what one time is divided by."""

    name: str
    measure: Measure
    per: int = 1
    repeat: int = 5


@dataclass(slots=True)
class Result:
    name: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PLACES})

    def median(self, place: str) -> float:
        return statistics.median(self.seconds[place])

    @property
    def ratio(self) -> float:
        return self.median("bindfs") / self.median("sharefs")


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def fill(directory: Path, count: int) -> list[str]:
    """count files.  Their names."""
    names = [f"{1_700_000_000 + number}.M{number}P1.host:2,S" for number in range(count)]
    for name in names:
        (directory / name).write_bytes(CONTENT)
    return names


def small(count: int) -> list[Row]:
    """Calls on many small files."""

    def each(call: Callable[[str], object], *, made: bool = True) -> Measure:
        def measure(below: Path, seen: Path) -> float:
            names = fill(below, count) if made else [str(number) for number in range(count)]
            os.chdir(seen)
            try:
                return timed(lambda: [call(name) for name in names])
            finally:
                os.chdir("/")

        return measure

    def create(name: str) -> None:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, CONTENT)
        os.close(fd)

    def read(name: str) -> None:
        fd = os.open(name, os.O_RDONLY)
        os.read(fd, 8192)
        os.close(fd)

    def stat_again(below: Path, seen: Path) -> float:
        names = fill(below, count)
        os.chdir(seen)
        try:
            for name in names:
                os.stat(name)
            return timed(lambda: [os.stat(name) for name in names])
        finally:
            os.chdir("/")

    def scan(below: Path, seen: Path) -> float:
        fill(below, 10_000)

        def run() -> None:
            with os.scandir(seen) as entries:
                for entry in entries:
                    entry.stat()

        return timed(run)

    return [
        Row("create + write 4 KiB", each(create, made=False), count),
        Row("open + read 4 KiB", each(read), count),
        Row("stat, first time", each(os.stat), count),
        Row("stat, again", stat_again, count),
        Row("rename", each(lambda name: os.rename(name, f"{name}F")), count),
        Row("link", each(lambda name: os.link(name, f"{name}L")), count),
        Row("unlink", each(os.unlink), count),
        Row("scandir + stat, 10,000 files", scan, repeat=3),
    ]


def large() -> list[Row]:
    """256 MiB in a row.  Reading is from the page cache of the file below, not of the mount."""

    def write(below: Path, seen: Path) -> float:
        def run() -> None:
            with (seen / "large").open("wb", buffering=0) as file:
                for _ in range(LARGE // len(CHUNK)):
                    file.write(CHUNK)

        return timed(run)

    def read(below: Path, seen: Path) -> float:
        write(below, below)

        def run() -> None:
            with (seen / "large").open("rb", buffering=0) as file:
                while file.read(len(CHUNK)):
                    pass

        return timed(run)

    return [
        Row("write 256 MiB", write, repeat=3),
        Row("read 256 MiB", read, repeat=3),
    ]


def jobs(maildir: Path, count: int) -> list[Row]:
    """What people do.  maildir: a Maildir with count messages."""

    def rsync_in(below: Path, seen: Path) -> float:
        return timed(lambda: _rsync(maildir, seen))

    def rsync_out(below: Path, seen: Path) -> float:
        _rsync(maildir, below / "Maildir")
        return timed(lambda: _rsync(seen / "Maildir", below / "copy"))

    def mutt(below: Path, seen: Path) -> float:
        _rsync(maildir, below / "Maildir")
        settings = f"set folder='{seen}'\nset read_inc=0\nset sleep_time=0\n"
        (below / "rc").write_text(f"{settings}set status_format=Msgs:%m\n")
        command = ["mutt", "-n", "-R", "-F", str(below / "rc"), "-f", "=Maildir"]
        start = time.perf_counter()
        with Terminal(command, {"HOME": str(below)}) as terminal:
            terminal.wait(f"Msgs:{count}")
            return time.perf_counter() - start

    named = f"{count:,} messages"
    return [
        Row(f"rsync in, {named}", rsync_in, repeat=3),
        Row(f"rsync out, {named}", rsync_out, repeat=3),
        Row(f"mutt opens {named}", mutt, repeat=3),
    ]


def _rsync(source: Path, target: Path) -> None:
    subprocess.run(["rsync", "-a", f"{source}/", f"{target}/"], check=True)


@contextlib.contextmanager
def bound(top: Path) -> Iterator[Path]:
    """bindfs on a directory of its own."""
    point = top / "bindfs-mnt"
    for path in (point, top / "bindfs"):
        path.mkdir()
    subprocess.run(["bindfs", str(top / "bindfs"), str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)
        assert not is_mounted(point)


def run(only: str, files: int, messages: int, progress: Progress) -> list[Result]:
    """Measure every row whose name contains `only` at all places, alternating."""
    top = Path(tempfile.mkdtemp(prefix="sharefs-bench-"))
    try:
        (top / "plain").mkdir()
        (top / "sharefs").mkdir()
        maildir = top / "Maildir"
        rows = [*small(files), *large(), *jobs(maildir, messages)]
        rows = [row for row in rows if only in row.name]
        make_maildir(maildir, messages, uid=UID, gid=UID)
        with bound(top) as bindfs, mounted(top, ["--mirror", top / "sharefs"]) as mount:
            tops = {"plain": top / "plain", "bindfs": bindfs, "sharefs": mount.top}
            task = progress.add_task("measuring", total=sum(row.repeat for row in rows))
            results = []
            for row in rows:
                progress.update(task, description=row.name)
                result = Result(row.name)
                for turn in range(row.repeat):
                    for place, seen in tops.items():
                        name = f"{row.name}-{turn}".replace("/", "")
                        (top / place / name).mkdir()
                        seconds = row.measure(top / place / name, seen / name)
                        result.seconds[place].append(seconds / row.per)
                        shutil.rmtree(top / place / name)
                    progress.advance(task)
                results.append(result)
            return results
    finally:
        shutil.rmtree(top)


def shown(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 0.002 else f"{seconds * 1000:.0f} ms"


def print_table(results: list[Result]) -> None:
    table = Table(title="median, and how much faster than bindfs")
    for name in ("", *PLACES, "bindfs / sharefs"):
        table.add_column(name, justify="right" if name else "left")
    for result in results:
        colour = "green" if result.ratio >= 1 else "red"
        cells = [shown(result.median(place)) for place in PLACES]
        table.add_row(result.name, *cells, f"[{colour}]{result.ratio:.2f}[/]")
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench mount", description=__doc__)
    parser.add_argument("--files", type=int, default=1000, metavar="N", help="in the small rows")
    parser.add_argument("--messages", type=int, default=10_000, metavar="N", help="in the jobs")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their name")
    parser.add_argument("--json", action="store_true", help="medians and every run, as JSON")
    options = parser.parse_args()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        results = run(options.only, options.files, options.messages, progress)
    if options.json:
        json.dump([{"name": r.name, "ratio": r.ratio, **r.seconds} for r in results], sys.stdout)
    else:
        print_table(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
