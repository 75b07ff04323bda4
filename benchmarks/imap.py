"""sharefs beside Dovecot: the same Maildirs, the same client, alternating, on one machine.

Prints a table of medians and ratios (above 1: sharefs is faster).  Needs root, because the
mail belongs to a user, and Debian's dovecot-imapd.  See --help.
"""

import argparse
import contextlib
import json
import random
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

from benchmarks.client import Client
from benchmarks.mail import make_maildir, make_message
from tests.support.dovecot import PASSWORD, MailUser, private_dovecot
from tests.support.server import private_server

UID: Final = 7301
DOVECOT: Final = "mail_location = maildir:~/Maildir\nmail_fsync = {fsync}\n"
SHAREFS: Final = """
mail_driver = maildir
mail_path = ~/Maildir
mail_fsync = {fsync}
namespace inbox {{
  inbox = yes
  separator = /
}}
"""
LOGIN: Final = f"LOGIN user {PASSWORD}".encode()


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to measure.  measure: seconds for one run.  repeat: runs on each server."""

    name: str
    measure: Callable[[int], float]
    repeat: int


@dataclass(slots=True)
class Result:
    name: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"dovecot": [], "sharefs": []})

    def median(self, server: str) -> float:
        return statistics.median(self.seconds[server])

    def spread(self, server: str) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        runs = sorted(self.seconds[server])
        low, high = runs[len(runs) // 4], runs[(3 * len(runs)) // 4]
        return (high - low) / 2 / self.median(server)

    @property
    def ratio(self) -> float:
        return self.median("dovecot") / self.median("sharefs")


@contextlib.contextmanager
def session(port: int, *commands: bytes) -> Iterator[Client]:
    client = Client(port)
    client.ask(LOGIN)
    for command in commands:
        client.ask(command)
    try:
        yield client
    finally:
        client.close()


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rows(count: int) -> list[Row]:
    """What is measured on a mailbox of count messages."""
    few = max(1, count // 10)
    dice = random.Random(2)
    message = make_message(1, dice).replace(b"\n", b"\r\n")
    append = b"APPEND Target (\\Seen) {%d+}\r\n%b" % (len(message), message)

    def in_inbox(command: bytes, times: int = 1) -> Callable[[int], float]:
        def measure(port: int) -> float:
            with session(port, b"SELECT INBOX") as client:
                return timed(lambda: [client.ask(command) for _ in range(times)]) / times

        return measure

    def login_select_logout(port: int) -> float:
        def run() -> None:
            with session(port, b"SELECT INBOX"):
                pass

        return timed(run)

    def appends(port: int) -> float:
        with session(port) as client:
            client.ask(b"CREATE Target")
            seconds = timed(lambda: [client.ask(append) for _ in range(50)]) / 50
            client.ask(b"DELETE Target")
        return seconds

    def copies(port: int) -> float:
        with session(port, b"CREATE Target", b"SELECT INBOX") as client:
            seconds = timed(lambda: client.ask(b"COPY 1:%d Target" % few))
            client.ask(b"DELETE Target")
        return seconds

    def stores(port: int) -> float:
        with session(port, b"SELECT INBOX") as client:
            seconds = timed(lambda: client.ask(b"STORE 1:%d +FLAGS.SILENT (\\Flagged)" % few))
            client.ask(b"STORE 1:%d -FLAGS.SILENT (\\Flagged)" % few)
        return seconds

    headers = (
        b"BODY.PEEK[HEADER.FIELDS (From To Cc Subject Date Message-ID References In-Reply-To)]"
    )
    return [
        Row("login + SELECT + LOGOUT", login_select_logout, 15),
        Row("NOOP", in_inbox(b"NOOP", 200), 5),
        Row("SELECT again", in_inbox(b"SELECT INBOX", 5), 5),
        Row("STATUS", in_inbox(b"STATUS INBOX (MESSAGES UNSEEN UIDNEXT)", 20), 5),
        Row(f"FETCH FLAGS, {count}", in_inbox(b"FETCH 1:* (UID FLAGS)"), 5),
        Row(f"FETCH ENVELOPE, {few}", in_inbox(b"FETCH 1:%d ENVELOPE" % few), 5),
        Row(f"FETCH 8 header fields, {few}", in_inbox(b"FETCH 1:%d (UID %b)" % (few, headers)), 5),
        Row(f"FETCH BODYSTRUCTURE, {few}", in_inbox(b"FETCH 1:%d BODYSTRUCTURE" % few), 5),
        Row(f"FETCH BODY[], {few}", in_inbox(b"FETCH 1:%d BODY.PEEK[]" % few), 5),
        Row("SEARCH UNSEEN", in_inbox(b"SEARCH UNSEEN", 5), 5),
        Row("APPEND, one message", appends, 5),
        Row(f"COPY, {few}", copies, 5),
        Row(f"STORE, {few}", stores, 5),
    ]


def run(count: int, fsync: str, progress: Progress) -> list[Result]:
    """Measure every row on both servers, alternating, each on its own copy of the mail."""
    top = Path(tempfile.mkdtemp(prefix="sharefs-bench-"))
    top.chmod(0o711)
    try:
        homes = {name: top / name for name in ("dovecot", "sharefs")}
        make_maildir(homes["dovecot"] / "Maildir", count, uid=UID, gid=UID)
        shutil.chown(homes["dovecot"], UID, UID)
        subprocess.run(["cp", "-a", homes["dovecot"], homes["sharefs"]], check=True)
        users = {name: [MailUser("user", UID, UID, home)] for name, home in homes.items()}
        with (
            private_dovecot(DOVECOT.format(fsync=fsync), users["dovecot"]) as dovecot,
            private_server(SHAREFS.format(fsync=fsync), users["sharefs"]) as sharefs,
        ):
            ports = {"dovecot": dovecot.port, "sharefs": sharefs.port}
            for port in ports.values():  # both have listed, cached and indexed what they will
                with session(port, b"SELECT INBOX", b"FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE)"):
                    pass
            planned = rows(count)
            task = progress.add_task("measuring", total=sum(row.repeat for row in planned))
            results = []
            for row in planned:
                progress.update(task, description=row.name)
                result = Result(row.name)
                for _ in range(row.repeat):
                    for server, port in ports.items():
                        result.seconds[server].append(row.measure(port))
                    progress.advance(task)
                results.append(result)
            return results
    finally:
        shutil.rmtree(top)


def print_table(results: list[Result], count: int, fsync: str) -> None:
    table = Table(title=f"{count} messages, mail_fsync = {fsync}")
    table.add_column("")
    for name in ("Dovecot", "±", "sharefs", "±", "ratio"):
        table.add_column(name, justify="right")
    for result in results:
        cells = [
            text
            for server in ("dovecot", "sharefs")
            for text in (f"{result.median(server) * 1000:.2f} ms", f"{result.spread(server):.0%}")
        ]
        colour = "green" if result.ratio >= 1 else "red"
        table.add_row(result.name, *cells, f"[{colour}]{result.ratio:.2f}[/]")
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench imap", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, metavar="N")
    parser.add_argument("--fsync", choices=["optimized", "never", "always"], default="optimized")
    parser.add_argument("--json", action="store_true", help="medians and every run, as JSON")
    options = parser.parse_args()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        results = run(options.messages, options.fsync, progress)
    if options.json:
        json.dump([{"name": r.name, "ratio": r.ratio, **r.seconds} for r in results], sys.stdout)
    else:
        print_table(results, options.messages, options.fsync)
    return 0


if __name__ == "__main__":
    sys.exit(main())
