"""`sharefs report` on a host with three uids: what it says of real trees."""

import csv
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sharefs.audit.report.data import data_lines
from sharefs.audit.report.matrix import UNKNOWN, Mailbox, MatrixBuilder, User
from tests.account.world import World, picture_of
from tests.audit.auditing import share
from tests.audit_report.test_html import Shape
from tests.cli.command import Shell

pytestmark = pytest.mark.superuser


def data_of(file: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Shape(file.read_text()).held["data"])
    return data


def row(shell: Shell, mailbox: str, *viewers: str) -> list[str]:
    columns = [word for viewer in viewers for word in ("--viewer", viewer)]
    lines = shell.ok(["report", "--matrix", *columns]).lines
    assert lines[0].split() == ["Mailbox", *viewers]
    return next(line for line in lines if line.startswith(mailbox + " ")).split()[1:]


def test_what_works_is_in_the_matrix(host: World, shell: Shell) -> None:
    share(host, "Work", "bob", "lrs")
    assert row(shell, "alice/Work", "alice", "bob", "carol") == ["lrwstipekxa", "lrs", "."]


def test_what_the_kernel_refuses_is_told_apart(host: World, shell: Shell) -> None:
    share(host, "Work", "bob", "lrs")
    host.maildir("alice", ".Work", "cur").chmod(0o700)
    assert row(shell, "alice/Work", "bob") == ["ls-r"]
    done = shell.ok("report")
    assert done.lines[0] == "1 grant that cannot work."
    assert any(line.startswith("  bob  alice/Work  ls-r  r: ") for line in done.lines)


def test_the_matrix_for_programs(host: World, shell: Shell) -> None:
    share(host, "Work", "bob", "lrs")
    host.maildir("alice", ".Work", "cur").chmod(0o700)
    path = str(host.maildir("alice", ".Work"))
    found = shell.ok("report --matrix --format json").records
    (of_bob,) = [one for one in found if (one["mailbox"], one["user"]) == ("alice/Work", "bob")]
    assert f"{path}/cur" in of_bob["why"]
    assert {**of_bob, "why": ""} == {
        "mailbox": "alice/Work", "owner": "alice", "path": path, "user": "bob", "acl": "lrs",
        "works": "ls", "refused": "r", "leaked": "", "known": True,
        "why": "",
    }  # fmt: skip
    assert not [one for one in found if (one["mailbox"], one["user"]) == ("alice/Work", "dave")]
    rows = list(csv.DictReader(shell.ok("report --matrix --format csv").lines))
    assert [{**row, "known": row["known"] == "yes"} for row in rows] == found
    of_two = shell.ok("report --matrix --format json --viewer bob").records
    assert of_two == [one for one in found if one["user"] == "bob"]


def test_empty_and_unknown_cells_for_programs() -> None:
    build = MatrixBuilder([User("=1+1"), User("x\x1b")])
    assert "".join(data_lines(build.build(), "json")) == "[]\n"
    build.add(Mailbox("box"), {0: UNKNOWN})
    made = build.build()
    (record,) = json.loads("".join(data_lines(made, "json")))
    assert (record["user"], record["known"], record["acl"]) == ("=1+1", False, "")
    heading, line = data_lines(made, "csv")
    assert heading.startswith("mailbox,owner,path,user,")
    assert line == "box,,,'=1+1,,,,,no,\r\n"


def test_the_file_is_whole_private_and_says_the_same(
    host: World, shell: Shell, tmp_path: Path
) -> None:
    share(host, "Work", "bob", "lrs")
    host.maildir("alice", ".Work", "cur").chmod(0o700)
    file = tmp_path / "report.html"
    file.write_text("what was there before")
    done = shell.ok(["report", "-o", str(file)])
    assert done.out == f"1 grant that cannot work.  Open {file} in a browser.\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["report.html"]
    data = data_of(file)
    assert {"alice", "bob", "carol"} <= set(data["users"])
    assert "alice/Work" in data["mailboxes"]
    finding = next(f for f in data["findings"] if f["rule"] == "acl-without-access")
    assert (finding["mailbox"], finding["user"]) == ("alice/Work", "bob")
    assert any(reason[2].startswith("r: ") for reason in data["reasons"])
    names = {line["name"]: line for line in data["tree"]}
    assert names[".Work"]["problem"] == "warning"
    assert names["cur"]["mode"] == "drwx------", "told, as it is not like its mailbox"
    assert names[".Work"]["owner"]


def test_standard_output_takes_the_file(shell: Shell) -> None:
    assert shell.ok("report -o -").out.startswith("<!doctype html>")


@pytest.mark.parametrize("kind", ["device", "fifo", "link", "directory"])
def test_only_a_file_is_replaced(shell: Shell, tmp_path: Path, kind: str) -> None:
    """As root `-o /dev/null` would take it from every program on the host."""
    place = tmp_path / "place"
    match kind:
        case "device":
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        case "fifo":
            os.mkfifo(place)
        case "link":
            place.symlink_to("/dev/stdout")
        case _:
            place.mkdir()
    before = os.lstat(place)
    done = shell.run(["report", "-o", str(place)])
    assert done.status == 2
    assert f"{place} is no regular file, and is not replaced" in done.err
    assert os.lstat(place) == before


def test_nothing_is_changed(host: World, shell: Shell) -> None:
    share(host, "Work", "bob", "lrs")
    before = picture_of(host.top)
    shell.ok("report")
    assert picture_of(host.top) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["report", "-o", "/nonexistent/report.html"], "No such file or directory"),
        (["report", "--matrix", "--viewer", "nobody-there"], "no user nobody-there"),
        (["report", "--format", "csv"], "--format goes with --matrix"),
        (["report", "--matrix", "--format", "csv", "-o", "x"], "--format goes with --matrix"),
    ],
)
def test_what_cannot_be_made(shell: Shell, words: list[str], says: str) -> None:
    done = shell.run(words)
    assert done.status == 2
    assert says in done.err
    assert "Traceback" not in done.err
