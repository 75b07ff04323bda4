"""An audit that was cut short goes on where it was, and finds what it would have found."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sharefs.audit.findings import Finding, Severity
from sharefs.audit.resuming import MAX_AGE, Outcome, ResumeFile, fingerprint
from sharefs.config import load
from sharefs.errors import Code, SharingError
from tests.account.world import UIDS, World, append, world_in_tmp
from tests.audit.auditing import share

FINDING = Finding(
    "files-differ", Severity.NOTICE, "alice: W\udcff", ("a", "b"), "why", "remedy", ("rm x",),
    "Wörk", "bob", "/m/.W\udcff",
)  # fmt: skip
OUTCOMES = [
    Outcome(
        "alice", 3, 100, [FINDING], "", {(1, 2): ("/m/.A", 0o660, 6000)}, [("/a", "/b")], ["/p"]
    ),
    Outcome("bob", bad="no home"),
    Outcome("carol"),
]


def written(path: Path, mark: str = "m") -> list[Outcome]:
    with ResumeFile.open(path, mark) as file:
        return list(file.outcomes())


def filled(path: Path) -> bytes:
    with ResumeFile.open(path, "m") as file:
        assert list(file.outcomes()) == []
        for outcome in OUTCOMES:
            file.add(outcome)
    return path.read_bytes()


def test_what_was_added_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "going"
    filled(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert written(path) == OUTCOMES


def test_cut_off_at_any_octet(tmp_path: Path) -> None:
    """What is whole counts, what is torn does not, and what is added later stands after it."""
    path = tmp_path / "going"
    octets = filled(path)
    first = octets.index(b"\n") + 1
    ends = [first]
    while ends[-1] < len(octets):
        ends.append(octets.index(b"\n", ends[-1]) + 1)
    for cut in range(first, len(octets) + 1):
        path.write_bytes(octets[:cut])
        whole = sum(end <= cut for end in ends) - 1
        with ResumeFile.open(path, "m") as file:
            assert list(file.outcomes()) == OUTCOMES[:whole]
            file.add(OUTCOMES[2])
        assert written(path) == [*OUTCOMES[:whole], OUTCOMES[2]]


def test_damage_in_the_middle_ends_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "going"
    octets = filled(path)
    path.write_bytes(octets.replace(b'"no home"', b'"no hose"'))
    assert written(path) == OUTCOMES[:1]


def test_another_configuration_begins_afresh(tmp_path: Path) -> None:
    path = tmp_path / "going"
    filled(path)
    with ResumeFile.open(path, "other") as file:
        assert "has changed" in file.afresh
        assert list(file.outcomes()) == []
    assert written(path, "other") == []


def test_yesterdays_begins_afresh(tmp_path: Path) -> None:
    path = tmp_path / "going"
    octets = filled(path)
    header = json.loads(octets.partition(b"\n")[0])
    header["begun"] -= MAX_AGE + 1
    path.write_bytes(json.dumps(header).encode() + b"\n" + octets.partition(b"\n")[2])
    with ResumeFile.open(path, "m") as file:
        assert "older than a day" in file.afresh


@pytest.mark.parametrize("content", [b"", b"dear diary\n", b"{}\n", b"[1]\n", b"\xff\n"])
def test_other_files_are_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary"
    path.write_bytes(content)
    with pytest.raises(SharingError) as refused:
        ResumeFile.open(path, "m")
    assert refused.value.code is Code.INVALID
    assert path.read_bytes() == content


def test_files_that_others_write_and_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "going"
    filled(path)
    path.chmod(0o620)
    with pytest.raises(SharingError):
        ResumeFile.open(path, "m")
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        ResumeFile.open(tmp_path / "link", "m")


def test_two_at_once(tmp_path: Path) -> None:
    path = tmp_path / "going"
    with ResumeFile.open(path, "m"), pytest.raises(SharingError) as refused:
        ResumeFile.open(path, "m")
    assert refused.value.code is Code.IN_USE


def test_the_mark_knows_configuration_and_selection(tmp_path: Path) -> None:
    file = tmp_path / "sharefs.conf"
    marks = set()
    for text in ("mail_path = ~/Maildir\n", "mail_path = ~/Mail\n"):
        file.write_text(text)
        config = load(file, lookup_group=lambda name: True)
        marks |= {fingerprint(config, (), ()), fingerprint(config, ["bob"], ())}
        marks |= {fingerprint(config, (), ["inbox"])}
        assert fingerprint(config, (), ()) in marks
    assert len(marks) == 6


# --- the command ----------------------------------------------------------------------------------


def prepare(host: World) -> None:
    """Something to find with everybody, and a file with names in two users' mail."""
    share(host)
    for name in UIDS:
        if name == "dave":
            continue
        host.as_user(name, lambda account: account.create("Odd"))  # runs at once
        host.as_user(name, lambda account: append(account, "Odd"))
        host.maildir(name, ".Odd", "cur").chmod(0o2700)
        host.maildir(name, ".Odd", "stray.txt").touch()
    message = next(iter(host.maildir("alice", ".Odd", "new").iterdir()))
    host.maildir("bob", ".Odd").chmod(0o2700)
    os.link(message, host.maildir("bob", ".Odd", "cur", "linked:2,S"))


def command(host: World, *more: str, delay: str = "") -> subprocess.Popen[bytes]:
    """delay: seconds that the mail of the first user takes, of the second twice that."""
    program = (
        "import sys, time\n"
        "from sharefs.audit import audit, gather\n"
        "audit.MIN_OWNERS = 1\n"
        "audit.mail_processes = list\n"  # other tests run servers under the same uids
        "from sharefs.cli import main\n"
        "plain = gather.Gatherer.private\n"
        "def slow(self, user):\n"
        # Not two at a time, or two jobs end before anybody sees that one user is done.
        "    time.sleep(float(sys.argv[1]) * (1 + 'abcd'.index(user.name[0])))\n"
        "    return plain(self, user)\n"
        "gather.Gatherer.private = slow\n"
        "main(sys.argv[2:])\n"
    )
    words = [sys.executable, "-c", program, delay or "0", "-c", str(host.config_path), "audit",
             "--json", "-q", *more]  # fmt: skip
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert not err, err
    found: dict[str, Any] = json.loads(out)
    return found


def done_in(path: Path) -> int:
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


@pytest.mark.superuser
@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_killed_after_each_user(jobs: str) -> None:
    with world_in_tmp() as host:
        prepare(host)
        want = said(command(host))
        assert {each["id"] for each in want["findings"]} >= {
            "files-differ", "foreign-entry", "hard-link-across-permissions", "mailbox-differs",
        }  # fmt: skip
        going = host.top / "going"
        users = len(UIDS)
        for stop in range(1, users):
            killed = command(host, "--resume", str(going), "--jobs", jobs, delay="0.4")
            until = time.monotonic() + 60
            while done_in(going) < stop and killed.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.01)
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
            assert done_in(going) >= stop
        assert said(command(host, "--resume", str(going), "--jobs", jobs)) == want
        assert not going.exists()
