"""apply and undo on real trees: exactness, refusals, kills at every step, hostile owners."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from sharefs.errors import Code, SharingError
from sharefs.permissions.posix_acl import acl_text
from sharefs.permissions.remedy import minimal_acl
from sharefs.repair import carry_out
from sharefs.repair.carry_out import Report, batches
from sharefs.repair.change import Change, Kind
from sharefs.repair.journal import Checkpoint, Journal, Stage, parse_history
from tests.repair.trees import ALICE, BOB, TEAM, change, make_maildir, picture
from tests.support.become import run_as, start_as

pytestmark = pytest.mark.superuser

SHARED = "user::rwx,user:61002:r-x,group::---,mask::r-x,other::---"
KEY = "shared/shared-boxes/user/bob/alice"
OTHER_KEY = "shared/shared-boxes/user/carol/alice"


@pytest.fixture
def root(open_tmp: Path) -> Path:
    """/home/alice/Maildir with .Work, an ACL file, a sharing map and a link."""
    home = open_tmp / "home"
    work = make_maildir(home / ".Work")
    os.chown(home, ALICE, ALICE)
    acl = work / "dovecot-acl"
    acl.write_bytes(b"# by hand\nuser=carol lr\nuser=dave\tlr")
    os.chown(acl, ALICE, ALICE)
    acl.chmod(0o640)
    os.utime(acl, ns=(10**18, 10**18 + 7))
    db = open_tmp / "db"
    db.mkdir()
    (db / "shared.db").write_bytes(f"{OTHER_KEY}\n1\n".encode())
    (db / "shared.db").chmod(0o664)
    os.chown(db / "shared.db", BOB, TEAM)
    (home / ".old").symlink_to("/nowhere")
    return open_tmp


def every_kind(root: Path) -> list[Change]:
    """One change of each kind, several on one inode."""
    work = root / "home" / ".Work"
    old_acl = acl_text(minimal_acl(0o700))
    message = work / "cur" / "1.a:2,S"
    return [
        change(Kind.CHOWN, work / "tmp", str(ALICE), str(BOB)),
        change(Kind.CHGRP, work, str(ALICE), str(TEAM)),
        change(Kind.SETFACL, work, old_acl, SHARED),
        change(Kind.SETGID, work, "0750", "2750"),
        change(Kind.DEFACL, work, "", SHARED),
        change(Kind.CHGRP, message, str(ALICE), str(TEAM)),
        change(Kind.CHMOD, message, "0600", "0640"),
        change(Kind.ACL_LINE, work / "dovecot-acl", "user=dave\tlr", "user=dave lr"),
        change(Kind.ACL_LINE, work / "dovecot-acl", None, "user=bob lr"),
        change(Kind.MAP_ENTRY, root / "db" / "shared.db", None, KEY),
        change(Kind.SYMLINK, root / "home" / ".shared.bob", None, "/home/bob/Maildir/.Work"),
        change(Kind.SYMLINK, root / "home" / ".old", "/nowhere", "/somewhere"),
    ]


def run(root: Path, changes: Sequence[Change], *, keep_going: bool = False) -> Report:
    with opened(root) as journal:
        return carry_out.apply(changes, journal, keep_going=keep_going)


def take_back(root: Path, *, keep_going: bool = False) -> Report:
    with opened(root) as journal:
        return carry_out.undo(journal, keep_going=keep_going)


def journal_path(root: Path) -> Path:
    return root / "journal"


def opened(root: Path, checkpoint: Checkpoint = lambda what: None) -> Journal:
    path = journal_path(root)
    if path.exists():
        return Journal.open(path, checkpoint=checkpoint)
    return Journal.create(path, "plan", checkpoint=checkpoint)


def trees(root: Path) -> dict[str, object]:
    return {**picture(root / "home"), **picture(root / "db")}


# --- exactness -------------------------------------------------------------------------------


def test_every_kind_there_and_back(root: Path) -> None:
    before = trees(root)
    changes = every_kind(root)
    assert carry_out.check(changes).done == len(changes)
    assert trees(root) == before
    report = run(root, changes)
    assert (report.done, report.refused) == (len(changes), [])
    work = root / "home" / ".Work"
    assert work.stat().st_mode & 0o7777 == 0o2750
    assert (work / "tmp").stat().st_uid == BOB
    acl = (work / "dovecot-acl").read_bytes()
    assert acl == b"# by hand\nuser=carol lr\nuser=dave lr\nuser=bob lr\n"
    assert (work / "dovecot-acl").stat().st_uid == ALICE
    assert (root / "db" / "shared.db").read_text() == f"{OTHER_KEY}\n1\n{KEY}\n1\n"
    assert (root / "db" / "shared.db").stat().st_uid == BOB
    assert os.readlink(root / "home" / ".shared.bob") == "/home/bob/Maildir/.Work"
    assert (root / "home" / ".shared.bob").lstat().st_uid == ALICE
    assert run(root, changes).already == len(changes)
    report = take_back(root)
    assert (report.done, report.refused) == (len(changes), [])
    assert trees(root) == before
    assert take_back(root).done == 0


def test_an_acl_file_that_was_not_there_goes_again(root: Path) -> None:
    path = make_maildir(root / "home" / ".New") / "dovecot-acl"
    before = trees(root)
    run(root, [change(Kind.ACL_LINE, path, None, "user=bob lr")])
    status = path.stat()
    assert (path.read_bytes(), status.st_uid, status.st_mode & 0o777) == (
        b"user=bob lr\n", ALICE, 0o600,
    )  # fmt: skip
    take_back(root)
    assert trees(root) == before


def test_the_dress_of_an_acl_file_comes_back(root: Path) -> None:
    path = root / "home" / ".Work" / "dovecot-acl"
    run(root, [change(Kind.SETFACL, path, "user::rw-,group::r--,other::---",
                      "user::rw-,user:61002:r--,group::r--,mask::r--,other::---")])  # fmt: skip
    journal_path(root).unlink()
    before = trees(root)
    run(root, [change(Kind.ACL_LINE, path, "user=carol lr", None)])
    assert trees(root) != before
    take_back(root)
    assert trees(root) == before


def test_others_shares_survive_an_undo(root: Path) -> None:
    """The map changes with every share on the host: only our own key is taken back."""
    path = root / "db" / "shared.db"
    run(root, [change(Kind.MAP_ENTRY, path, None, KEY)])
    with path.open("a") as file:
        file.write("shared/shared-boxes/anyone/dave\n1\n")
    take_back(root)
    assert path.read_text() == f"{OTHER_KEY}\n1\nshared/shared-boxes/anyone/dave\n1\n"


# --- refusals --------------------------------------------------------------------------------


def test_what_changed_since_is_refused(root: Path) -> None:
    work = root / "home" / ".Work"
    changes = [
        change(Kind.CHMOD, work, "0700", "0750"),
        change(Kind.CHMOD, work / "cur", "0700", "0750"),
        change(Kind.ACL_LINE, work / "dovecot-acl", "user=carol lr", None),
        change(Kind.SYMLINK, root / "home" / ".old", "/nowhere", None),
    ]
    work.chmod(0o711)
    (work / "dovecot-acl").write_bytes(b"user=carol lrs\n")
    (root / "home" / ".old").unlink()
    before = trees(root)
    got = carry_out.check(changes)
    assert [one.change for one in got.refused] == [changes[0], changes[2]]
    assert got.already == 1  # the link is gone, as it should be
    report = run(root, changes)
    assert report.refused[0].reason == "it is 0711 now, and 0700 was expected"
    assert report.done == 1  # of the same batch; the first refusal ends it after that
    take_back(root)
    assert trees(root) == before


def test_the_first_refusal_ends_it_unless_told_otherwise(root: Path) -> None:
    work = root / "home" / ".Work"
    changes = [
        change(Kind.CHMOD, work, "0755", "0750"),
        change(Kind.CHGRP, work, str(ALICE), str(TEAM)),
        change(Kind.CHMOD, work / "cur", "0700", "0750"),
        change(Kind.CHGRP, work / "cur", str(ALICE), str(TEAM)),
    ]
    report = run(root, changes)
    assert (report.done, len(report.refused)) == (1, 1)
    report = run(root, changes, keep_going=True)
    assert (report.done, report.already, len(report.refused)) == (1, 1, 1)
    assert work.stat().st_gid == ALICE  # one part of a subject refused: the rest is left out
    assert (work / "cur").stat().st_gid == TEAM


def test_another_inode_is_refused(root: Path) -> None:
    work = root / "home" / ".Work"
    one = change(Kind.CHMOD, work, "0700", "0777")
    work.rename(root / "home" / ".Elsewhere")
    make_maildir(work)
    report = run(root, [one])
    assert "somebody replaced it" in report.refused[0].reason
    assert work.stat().st_mode & 0o777 == 0o700


def test_what_is_so_already_is_not_undone(root: Path) -> None:
    work = root / "home" / ".Work"
    one = change(Kind.CHMOD, work, "0700", "0750")
    work.chmod(0o750)
    report = run(root, [one])
    assert (report.done, report.already) == (0, 1)
    take_back(root)
    assert work.stat().st_mode & 0o777 == 0o750


def test_undo_refuses_what_somebody_else_changed(root: Path) -> None:
    work = root / "home" / ".Work"
    run(root, [
        change(Kind.CHMOD, work, "0700", "0750"),
        change(Kind.CHMOD, work / "cur", "0700", "0750"),
        change(Kind.ACL_LINE, work / "dovecot-acl", None, "user=bob lr"),
    ])  # fmt: skip
    work.chmod(0o755)
    with (work / "dovecot-acl").open("a") as file:
        file.write("user=erin l\n")
    report = take_back(root, keep_going=True)
    assert (report.done, len(report.refused)) == (1, 2)
    assert work.stat().st_mode & 0o777 == 0o755
    assert (work / "dovecot-acl").read_bytes().endswith(b"user=bob lr\nuser=erin l\n")


def test_a_line_that_would_spoil_the_file_is_refused(root: Path) -> None:
    report = run(root, [
        change(Kind.ACL_LINE, root / "home" / ".Work" / "dovecot-acl", None, "usr=bob lr")
    ])  # fmt: skip
    assert "unreadable" in report.refused[0].reason


def test_without_root_only_ones_own_changes(root: Path) -> None:
    work = root / "home" / ".Work"
    changes = [change(Kind.CHMOD, work, "0700", "0750")]
    journal = Path(root / "alice-journal")
    root.chmod(0o777)

    def act() -> tuple[int, str]:
        with Journal.create(journal, "plan") as opened_journal:
            report = carry_out.apply(changes, opened_journal)
        journal.unlink()
        return report.done, report.refused[0].reason if report.refused else ""

    done, reason = run_as(BOB, BOB, [], act)
    assert done == 0
    assert "run it as root" in reason
    assert run_as(ALICE, ALICE, [], act) == (1, "")


# --- journals --------------------------------------------------------------------------------


def test_a_torn_line_was_never_obeyed(root: Path) -> None:
    changes = every_kind(root)
    run(root, changes)
    octets = journal_path(root).read_bytes()
    for cut in range(len(octets)):
        with contextlib.suppress(SharingError):
            history = parse_history(octets[:cut], "journal")
            assert history.good_size <= cut


def test_a_kill_within_the_first_line_leaves_no_obstacle(root: Path) -> None:
    changes = every_kind(root)
    before = trees(root)
    with opened(root):
        first = journal_path(root).read_bytes().split(b"\n")[0]
    for cut in (0, 1, len(first) // 2, len(first)):
        journal_path(root).write_bytes(first[:cut])
        with pytest.raises(FileNotFoundError):
            Journal.open(journal_path(root))
        with Journal.create(journal_path(root), "plan") as journal:
            assert carry_out.apply(changes, journal).done == len(changes)
        assert take_back(root).refused == []
        assert trees(root) == before
    with pytest.raises(FileExistsError):
        Journal.create(journal_path(root), "plan")


def test_a_damaged_journal_is_refused(root: Path) -> None:
    for octets in (b"\n", b"{}", b"{}\n", b"[]\n", b'{"sharefs-journal": 1, "plan": "x"}\n',
                   b'{"sharefs-journal": 1, "plan": "x", "boot": ""}\n{"done": [4]}\n',
                   b'{"sharefs-journal": 1, "plan": "x", "boot": ""}\n{"intend": [{"n": 1}]}\n',
                   b'{"sharefs-journal": 1, "plan": "x", "boot": ""}\n\xff\n'):  # fmt: skip
        journal_path(root).write_bytes(octets)
        journal_path(root).chmod(0o600)
        with pytest.raises(SharingError) as caught:
            opened(root)
        assert caught.value.code is Code.CORRUPT


def test_a_journal_that_others_could_have_written_is_refused(root: Path) -> None:
    run(root, every_kind(root))
    journal_path(root).chmod(0o620)
    with pytest.raises(SharingError) as caught:
        opened(root)
    assert caught.value.code is Code.NO_PERMISSION


def test_one_process_at_a_time(root: Path) -> None:
    with opened(root):
        with pytest.raises(SharingError) as caught:
            Journal.open(journal_path(root))
        assert caught.value.code is Code.IN_USE


def test_no_subject_twice_in_a_batch(root: Path) -> None:
    changes = dict(enumerate(every_kind(root)))
    for size in (1, 2, 3, 100):
        got = list(batches(changes, size))
        assert sorted(n for batch in got for n in batch) == sorted(changes)
        for batch in got:
            paths = [one.path for one in batch.values()]
            assert len(paths) == len(set(paths))
        order = [n for batch in got for n in batch]
        for path in {one.path for one in changes.values()}:
            own = [n for n in order if changes[n].path == path]
            assert own == sorted(own)


# --- pulling the plug --------------------------------------------------------------------------


class Plug:
    """Kills this very process at the nth thing that leaves a trace."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self, what: str) -> None:
        self.left -= 1
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at(count: int, root: Path, changes: Sequence[Change], undoing: bool) -> bool:
    """Runs in a child; whether it was killed before it was through."""

    def act() -> int:
        plug = Plug(count)
        with opened(root, plug) as journal:
            if undoing:
                report = carry_out.undo(journal, checkpoint=plug)
            else:
                report = carry_out.apply(changes, journal, checkpoint=plug)
        return len(report.refused)

    with start_as(0, 0, [], act) as child:
        status = child.wait()
        if os.WIFSIGNALED(status):
            return True
        assert child.result() == 0
        return False


@pytest.mark.slow
def test_a_kill_at_any_point_of_apply(root: Path) -> None:
    """After each kill: undo takes everything back, or apply goes on to the end."""
    changes = every_kind(root)
    before = trees(root)
    count = 1
    while killed_at(count, root, changes, undoing=False):
        # Killed before the journal's first line was whole, there is none yet.
        with contextlib.suppress(FileNotFoundError), Journal.open(journal_path(root)) as journal:
            assert carry_out.undo(journal).refused == []
        journal_path(root).unlink(missing_ok=True)
        assert trees(root) == before, f"after a kill at step {count}"

        killed_at(count, root, changes, undoing=False)
        with contextlib.suppress(FileNotFoundError), opened(root) as journal:
            assert carry_out.apply(changes, journal).refused == []
            assert {e.stage for e in journal.history.entries.values()} == {Stage.DONE}
            assert len(journal.history.entries) == len(changes)
            assert carry_out.undo(journal).refused == []
        journal_path(root).unlink(missing_ok=True)
        assert trees(root) == before, f"after going on from a kill at step {count}"
        count += 1
    assert count > 2 * len(changes)


@pytest.mark.slow
def test_a_kill_at_any_point_of_undo(root: Path) -> None:
    changes = every_kind(root)
    before = trees(root)
    count = 1
    while True:
        run(root, changes)
        killed = killed_at(count, root, changes, undoing=True)
        if killed:
            assert take_back(root).refused == []
        assert trees(root) == before, f"after a kill at step {count}"
        journal_path(root).unlink()
        if not killed:
            break
        count += 1
    assert count > 2 * len(changes)


SYSTEM = frozenset({"open", "link", "rename", "unlink", "write", "chmod", "chown", "fchown",
                    "fchmod", "symlink", "fsync", "utime", "close"})  # fmt: skip


def killed_between_calls(count: int, root: Path, changes: Sequence[Change], undoing: bool) -> bool:
    """As killed_at, before the nth system call that could leave a trace, inside locks too."""

    def act() -> None:
        left = count

        def profile(frame: object, event: str, function: object) -> None:
            nonlocal left
            if event == "c_call" and getattr(function, "__name__", "") in SYSTEM:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        with opened(root) as journal:
            sys.setprofile(profile)
            try:
                if undoing:
                    carry_out.undo(journal)
                else:
                    carry_out.apply(changes, journal)
            finally:
                sys.setprofile(None)

    with start_as(0, 0, [], act) as child:
        status = child.wait()
    for lock in root.rglob("*.lock"):
        os.utime(lock, (1, 1))  # or the next one waits until the lock is two seconds old
    return os.WIFSIGNALED(status)


@pytest.mark.slow
@pytest.mark.parametrize("undoing", [False, True], ids=["apply", "undo"])
def test_a_kill_between_any_two_system_calls(root: Path, undoing: bool) -> None:
    """Locks and temporary files of the killed process go, and nothing of the change is left."""
    work = root / "home" / ".Work"
    changes = [
        change(Kind.ACL_LINE, work / "dovecot-acl", "user=dave\tlr", "user=dave lr"),
        change(Kind.MAP_ENTRY, root / "db" / "shared.db", None, KEY),
        change(Kind.SYMLINK, root / "home" / ".old", "/nowhere", "/somewhere"),
        change(Kind.SYMLINK, root / "home" / ".shared.bob", None, "/home/bob/Maildir/.Work"),
    ]
    before = trees(root)
    count = 1
    while True:
        if undoing:
            run(root, changes)
        killed = killed_between_calls(count, root, changes, undoing)
        if killed or not undoing:
            assert take_back(root).refused == []
        assert trees(root) == before, f"after a kill before call {count}"
        journal_path(root).unlink()
        if not killed:
            break
        count += 1
    assert count > 50


# --- hostile owners ----------------------------------------------------------------------------


@pytest.fixture
def treasure(open_tmp: Path) -> Path:
    """What an attacker would like to have opened.  Modes as in his own tree, so that only the
    inode tells them apart."""
    path = make_maildir(open_tmp / "treasure", 0, 0)
    (path / "dovecot-acl").write_bytes(b"user=carol lr\n")
    return path


def test_links_lead_nowhere(root: Path, treasure: Path) -> None:
    """The tree is replaced by symbolic links after the plan was made: at the end, and above."""
    before = picture(treasure)
    changes = every_kind(root)
    work = root / "home" / ".Work"
    work.rename(root / "aside")
    work.symlink_to(treasure)
    assert run(root, changes, keep_going=True).done == 3  # the map and two links beside it
    work.unlink()
    journal_path(root).unlink()
    work.mkdir()
    (work / "cur").symlink_to(treasure / "cur")
    (work / "dovecot-acl").symlink_to(treasure / "dovecot-acl")
    line = change(Kind.ACL_LINE, work / "dovecot-acl", "user=carol lr", None)
    message = change(
        Kind.CHMOD, work / "cur" / "1.a:2,S", "0600", "0666",
        inode=(treasure / "cur" / "1.a:2,S").stat().st_ino,
    )  # fmt: skip
    report = run(root, [line, message], keep_going=True)
    assert report.done == 0
    assert len(report.refused) == 2
    assert picture(treasure) == before


@pytest.mark.slow
def test_racing_with_links_gains_nothing(root: Path, treasure: Path) -> None:
    """The owner swaps his mailbox for a link to root's, thousands of times, while root works."""
    before = picture(treasure)
    work, aside = root / "home" / ".Work", root / "home" / ".aside"
    forth = change(Kind.CHMOD, work / "cur", "0700", "0777")
    group = change(Kind.CHGRP, work / "cur", str(ALICE), str(BOB))
    acl = change(Kind.ACL_LINE, work / "dovecot-acl", "user=carol lr", None)

    def swap() -> None:
        while True:
            with contextlib.suppress(OSError):
                os.rename(work, aside)
            with contextlib.suppress(OSError):
                os.symlink(treasure, work)
            with contextlib.suppress(OSError):
                os.unlink(work)
            with contextlib.suppress(OSError):
                os.rename(aside, work)

    done = refused = 0
    with start_as(ALICE, ALICE, [], swap):
        for _ in range(150):
            for one in (forth, group, acl):
                report = run(root, [one])
                done += report.done
                refused += len(report.refused)
                for _ in range(20):
                    if take_back(root).refused:
                        continue
                    break
                journal_path(root).unlink()
    assert picture(treasure) == before
    assert done, "the attacker never let go: nothing was tried"
    assert refused, "the attack never hit: nothing was tried"


def test_two_threads_share_nothing(root: Path) -> None:
    """Handles are per call: two journals at work at once do not disturb each other."""
    folders = [make_maildir(root / "home" / f".M{n}") for n in range(8)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with Journal.create(root / f"journal{number}", "plan") as journal:
                todo = [change(Kind.CHMOD, one, "0700", "0750") for one in folders[number::2]]
                assert carry_out.apply(todo, journal).done == 4
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failures
