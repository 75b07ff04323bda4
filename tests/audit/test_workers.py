"""Work spread over processes: everything arrives, and what goes wrong is no silence."""

import os
from collections.abc import Iterator

import pytest

from sharefs.audit.audit import Audit
from sharefs.audit.output import in_order
from sharefs.audit.workers import in_processes
from sharefs.errors import SharingError
from tests.account.world import world_in_tmp
from tests.audit.auditing import share


def numbers(worker: int) -> Iterator[tuple[int, int]]:
    for number in range(100):
        yield worker, number


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_everything_arrives(jobs: int) -> None:
    got = sorted(in_processes(jobs, numbers))
    assert got == [(worker, number) for worker in range(jobs) for number in range(100)]


def test_large_results() -> None:
    got = list(in_processes(2, lambda worker: iter([b"x" * 3_000_000])))
    assert [len(each) for each in got] == [3_000_000] * 2


def dies(worker: int) -> Iterator[int]:
    yield 1
    if worker == 1:
        os._exit(3)


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(SharingError, match="before its work was done"):
        list(in_processes(2, dies))


def raises(worker: int) -> Iterator[int]:
    yield worker
    raise ValueError("a bug")


def test_a_bug_in_a_worker_is_loud(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SharingError):
        list(in_processes(2, raises))
    assert "ValueError: a bug" in capfd.readouterr().err


def test_who_stops_early_leaves_nothing_behind() -> None:
    found = in_processes(3, numbers)
    next(found)
    found.close()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.superuser
def test_two_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharefs.audit.audit.MIN_OWNERS", 1)
    with world_in_tmp() as host:
        share(host)
        share(host, "Other", letters="")
        os.link(
            next(host.maildir("alice", ".Work", "new").iterdir()),
            host.maildir("alice", ".Other", "cur", "l:2,"),
        )
        host.maildir("alice", ".Other").chmod(0o2700)
        with (host.top / "users").open("a") as users:
            users.write("eve:{PLAIN}x:0:0::/home/eve::\n")
        audits = [
            Audit(host.config, host.users, accounts=[], processes=[], jobs=jobs) for jobs in (1, 4)
        ]
        one, four = (in_order(audit.run()) for audit in audits)
        assert one == four
        assert {"hard-link-across-permissions", "user-unusable"} <= {each.rule for each in one}
        assert audits[0].entries == audits[1].entries > 0
        assert audits[0].mailboxes == audits[1].mailboxes == 2
