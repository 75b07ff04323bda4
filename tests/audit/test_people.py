"""Running mail processes, seen as they are: real ones, with real groups and umasks."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sharefs.audit.facts import ProcessFacts
from sharefs.audit.people import mail_processes
from tests.account.world import SHARED_GID, UIDS, world_in_tmp
from tests.audit.auditing import audited, one, rules

pytestmark = pytest.mark.superuser

Start = Callable[..., int]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts something by a name, and returns its pid."""
    running: list[subprocess.Popen[bytes]] = []
    top = Path("/tmp") / f"sharefs-people-{os.getpid()}"
    top.mkdir(mode=0o755)
    top.chmod(0o755)

    def begin(
        name: str, uid: int, groups: tuple[int, ...] = (), umask: int = 0o077, *words: str
    ) -> int:
        program = [shutil.copy("/bin/sleep", top / name), "60"] if not words else list(words)
        process = subprocess.Popen(
            program, user=uid, group=uid, extra_groups=groups, umask=umask, cwd="/"
        )
        running.append(process)
        until = time.monotonic() + 20
        while not seen(process.pid) and time.monotonic() < until:
            time.sleep(0.01)  # between fork and exec it has another name
        return process.pid

    yield begin
    for process in running:
        process.kill()
        process.wait()
    shutil.rmtree(top)


def seen(pid: int) -> list[ProcessFacts]:
    return [each for each in mail_processes() if each.pid == pid]


def test_what_is_seen_of_a_process(start: Start) -> None:
    imap = start("imap", UIDS["bob"], (SHARED_GID,))
    procmail = start("procmail", UIDS["bob"], (), 0o027)
    assert seen(imap) == [
        ProcessFacts(imap, "imap", UIDS["bob"], frozenset({UIDS["bob"], SHARED_GID}), None, False)
    ]
    assert seen(procmail) == [
        ProcessFacts(procmail, "procmail", UIDS["bob"], frozenset({UIDS["bob"]}), 0o027, True)
    ]


def test_umasks_that_do_not_matter(start: Start) -> None:
    """Dovecot's deliverers run with 0077 and set the umask for each file they make."""
    lmtp = start("lmtp", UIDS["bob"])
    assert [each.umask for each in seen(lmtp)] == [None]


def test_our_own_server_by_its_command_line(start: Start) -> None:
    pid = start(
        "sharefs", UIDS["bob"], (), 0o077,
        "/usr/bin/python3", "-c", "import time; time.sleep(60)", "sharefs", "serve",
    )  # fmt: skip
    assert [each.name for each in seen(pid)] == ["sharefs serve"]


def test_other_processes_are_none_of_ours(start: Start) -> None:
    assert not [each for each in mail_processes() if each.pid == os.getpid()]


def test_an_audit_of_the_running_host(start: Start) -> None:
    with world_in_tmp(f"mail_access_groups = {SHARED_GID}\n") as host:
        lacking = start("imap", UIDS["bob"])
        start("pop3", UIDS["carol"], (SHARED_GID,))
        start("procmail", UIDS["alice"], (), 0o077)
        mine = [each for each in mail_processes() if each.uid in UIDS.values()]
        found = audited(host, processes=mine)
        assert rules(found) == {"process-lacks-group", "deliverer-umask"}
        assert (
            f"pid {lacking} lacks group {SHARED_GID}" in one(found, "process-lacks-group").evidence
        )
        assert "umask 0077" in one(found, "deliverer-umask").evidence[0]
