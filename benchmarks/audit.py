"""`sharefs audit` beside `find -printf` over the same tree: wall time, and the audit's memory.

Makes the tree first (root only, because it belongs to many users), or measures one that is there:
python -m benchmarks.audit --users 1000 --mailboxes 5 --messages 200 [--keep DIR].
"""

import argparse
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.progress import track

from benchmarks.ending import ended_by_sigterm

FIRST_UID: Final = 20_000
GID: Final = 30_000
LIMIT: Final = 3.0  # times find's wall time

CONFIG: Final = """
mail_driver = maildir
mail_path = ~/Maildir
acl_driver = vfile
first_valid_uid = 1
userdb passwd-file {{
  passwd_file_path = {top}/users
}}
passdb passwd-file {{
  passwd_file_path = {top}/users
}}
namespace inbox {{
  separator = /
  inbox = yes
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/$user/
  mail_path = %{{owner_home}}/Maildir
  subscriptions = no
  list = children
}}
acl_sharing_map {{
  dict file {{
    path = {top}/db/shared.db
  }}
}}
"""


def make_tree(top: Path, users: int, mailboxes: int, messages: int) -> None:
    """Every user shares every other mailbox with the next one."""
    make_directory(top, 0, 0o755)
    make_directory(top / "home", 0, 0o755)
    make_directory(top / "db", 0, 0o2770)
    lines, keys = [], []
    for number in track(range(users), description="making mail"):
        home = top / "home" / f"u{number}"
        uid, friend = FIRST_UID + number, f"u{(number + 1) % users}"
        make_directory(home, uid, 0o2770)
        make_directory(home / "Maildir", uid, 0o2770)
        extra = f"userdb_mail_access_groups={GID}"
        lines.append(f"u{number}:{{PLAIN}}x:{uid}:{uid}::{home}::{extra}\n")
        cached = []
        for box in range(mailboxes):
            path = home / "Maildir" / (f".Box{box}" if box else ".")
            shared = box % 2 == 1
            make_mailbox(path, uid, messages, f"user={friend} lrs\n" if shared else "")
            cached += [f"1 Box{box}\n"] if shared else []
        if cached:
            make_file(home / "Maildir" / "dovecot-acl-list", uid, "".join(cached))
            keys.append(f"shared/shared-boxes/user/{friend}/u{number}\n1\n")
    (top / "users").write_text("".join(lines))
    make_file(top / "db" / "shared.db", 0, "".join(keys))
    (top / "sharefs.conf").write_text(CONFIG.format(top=top))


def make_mailbox(path: Path, uid: int, messages: int, acl: str) -> None:
    make_directory(path, uid, 0o2770)
    for folder in ("cur", "new", "tmp"):
        make_directory(path / folder, uid, 0o2770)
    if acl:
        make_file(path / "dovecot-acl", uid, acl)
    cur = os.open(path / "cur", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(messages):
            name = f"{1_700_000_000 + number}.M{number}P1.host,S=1000,W=1020:2,S"
            fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o660, dir_fd=cur)
            os.fchown(fd, uid, GID)
            os.fchmod(fd, 0o660)
            os.close(fd)
    finally:
        os.close(cur)


def make_directory(path: Path, uid: int, mode: int) -> None:
    path.mkdir(exist_ok=True)
    os.chown(path, uid, GID)
    path.chmod(mode)


def make_file(path: Path, uid: int, text: str) -> None:
    path.write_text(text)
    os.chown(path, uid, GID)
    path.chmod(0o660)


def timed(words: list[str]) -> tuple[float, float, str]:
    """Seconds on the clock and of all processors, and the last line of the output."""
    started, spent = time.monotonic(), processor_time()
    # What find prints would fill this process, and its memory counts as that of its children.
    sink = subprocess.DEVNULL if words[0] == "find" else subprocess.PIPE
    done = subprocess.run(words, stdout=sink, text=True, check=False)
    last = (done.stdout or "").rstrip().rpartition("\n")[2]
    return time.monotonic() - started, processor_time() - spent, last


def processor_time() -> float:
    """Seconds of children that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def told(times: list[float]) -> str:
    return f"{times[0]:.2f} s ({times[1]:.2f} s CPU)"


@contextlib.contextmanager
def tree(keep: Path | None, users: int, mailboxes: int, messages: int) -> Iterator[Path]:
    if keep is not None:
        if not (keep / "sharefs.conf").exists():
            make_tree(keep, users, mailboxes, messages)
        yield keep
        return
    top = Path(tempfile.mkdtemp(prefix="sharefs-audit-"))
    try:
        make_tree(top, users, mailboxes, messages)
        yield top
    finally:
        shutil.rmtree(top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--mailboxes", type=int, default=5, help="of each user")
    parser.add_argument("--messages", type=int, default=200, help="in each mailbox")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=Path, help="make the tree there, and leave it")
    given = parser.parse_args()
    with tree(given.keep, given.users, given.mailboxes, given.messages) as top:
        find = ["find", str(top / "home"), "-printf", "%m %U %G %s %p\\n"]
        audit = [sys.executable, "-m", "sharefs", "-c", str(top / "sharefs.conf"), "audit", "-q",
                 "--jobs", str(given.jobs)]  # fmt: skip
        found: list[list[float]] = []
        audited: list[list[float]] = []
        for _ in range(given.runs):  # taking turns, so that both meet the same machine
            *times, _ = timed(find)
            found.append(times)
            *times, last = timed(audit)
            audited.append(times)
            print(f"find {told(found[-1])}, audit {told(audited[-1])}: {last}")
    best = [[min(column) for column in zip(*rows, strict=True)] for rows in (found, audited)]
    ratio, processors = (ours / theirs for theirs, ours in zip(*best, strict=True))
    # Children of children count as well: the largest process is what is meant.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"audit/find {ratio:.2f} (at most {LIMIT:g} wanted), in CPU time {processors:.2f},"
        f" largest process {memory:.0f} MB"
    )
    sys.exit(ratio > LIMIT)


if __name__ == "__main__":
    ended_by_sigterm()
    main()
