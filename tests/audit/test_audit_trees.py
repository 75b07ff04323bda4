"""Trees that are odd, hostile, or change under the auditor's eyes: findings, never a traceback."""

import os
import threading
from pathlib import Path

import pytest

from sharefs.audit.scan import ScannedBox, Scanner
from sharefs.names import Layout
from tests.account.world import MESSAGE, UIDS, world_in_tmp
from tests.audit.auditing import audited, one, rules, share
from tests.support.become import run_as

pytestmark = pytest.mark.superuser


def test_nothing_is_read_through_links() -> None:
    """A link in the place of cur/ leads nowhere; what is behind it is not looked at."""
    with world_in_tmp() as host:
        share(host)
        secret = host.top / "secret"
        secret.mkdir(mode=0o700)
        (secret / "key").write_text("x")
        new = host.maildir("alice", ".Work", "tmp")
        new.rmdir()
        new.symlink_to(secret)
        found = one(audited(host), "unreadable")
        assert found.subject == str(new)


def test_hostile_names_and_files() -> None:
    with world_in_tmp() as host:
        share(host)
        root = host.maildir("alice")
        for name in (b".\xff\xfe", b".a\nb", b".x\x1b[31m", b".&bad", b".", b"..", b"..deep"):
            if name not in (b".", b".."):
                os.makedirs(os.fsencode(root) + b"/" + name + b"/cur", exist_ok=True)
        os.mkfifo(root / ".Work" / "fifo")
        (root / ".Fifo").mkdir()
        (root / ".Fifo/cur").mkdir()
        os.mkfifo(root / ".Fifo/dovecot-acl")
        (root / ".Big").mkdir()
        (root / ".Big/cur").mkdir()
        (root / ".Big/dovecot-acl").write_bytes(b"user=bob lr\n" * 100_000)
        (root / ".Odd").mkdir()
        (root / ".Odd/cur").mkdir()
        (root / ".Odd/dovecot-acl").write_bytes(b'\x00\xff\nuser= lr\n"unclosed lr\n' + b"a" * 5000)
        before = picture_of_names(host.top)
        findings = audited(host)
        assert picture_of_names(host.top) == before
        assert {"acl-malformed", "foreign-entry"} <= rules(findings)


def picture_of_names(top: Path) -> set[str]:
    return {os.path.join(directory, name) for directory, _, names in os.walk(top) for name in names}


def test_an_acl_file_that_is_a_link_to_something_secret() -> None:
    """It is read as its mailbox's owner could, so nothing of it is shown."""
    with world_in_tmp() as host:
        share(host)
        secret = host.top / "shadow"
        secret.write_text("root:$6$hash lr\n")
        secret.chmod(0o600)
        acl = host.maildir("alice", ".Work", "dovecot-acl")
        acl.unlink()
        acl.symlink_to(secret)
        findings = audited(host)
        assert "acl-unreadable" in rules(findings)
        assert "$6$" not in repr(findings)


def test_loops_end_in_the_fs_layout() -> None:
    extra = "mailbox_list_layout = fs\n"
    with world_in_tmp(extra) as host:
        root = host.maildir("alice")
        (root / "a/b/cur").mkdir(parents=True)
        (root / "a/b/up").symlink_to("..")
        deep = root / "d"
        for _ in range(80):
            deep /= "x"
        deep.mkdir(parents=True)
        findings = audited(host)
        assert "unreadable" in rules(findings)


def test_mail_that_comes_and_goes_meanwhile() -> None:
    with world_in_tmp() as host:
        share(host)
        box = host.maildir("alice", ".Work")
        stop = threading.Event()

        def churn() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                path = box / "cur" / f"m{number}:2,"
                path.write_bytes(MESSAGE)
                path.chmod(0o660)
                os.chown(path, UIDS["alice"], box.stat().st_gid)
                extra = host.maildir("alice", f".New{number % 3}")
                extra.mkdir(exist_ok=True)
                (extra / "cur").mkdir(exist_ok=True)
                path.unlink()
                (extra / "cur").rmdir()
                extra.rmdir()

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for _ in range(10):
                audited(host)
        finally:
            stop.set()
            thread.join()


def test_what_vanishes_is_said() -> None:
    """A directory that goes away between its listing and its opening."""
    with world_in_tmp() as host:
        share(host)
        (host.maildir("alice") / ".Aaa" / "cur").mkdir(parents=True)
        (host.maildir("alice") / ".Zzz" / "cur").mkdir(parents=True)
        scanned, boxes = Scanner(Layout.MAILDIRPP).scan(str(host.maildir("alice")))
        first: ScannedBox = next(boxes)
        assert first.stored == ".Aaa"
        (host.maildir("alice") / ".Zzz" / "cur").rmdir()
        (host.maildir("alice") / ".Zzz").rmdir()
        list(boxes)
        assert [(trouble.path, trouble.vanished) for trouble in scanned.troubles] == [
            (str(host.maildir("alice", ".Zzz")), True)
        ]


def test_changed_meanwhile_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    with world_in_tmp() as host:
        share(host)
        (host.maildir("alice") / ".Zzz" / "cur").mkdir(parents=True)

        class Disturbed(Scanner):
            """Somebody removes a mailbox once the root was listed."""

            def _is_mailbox_name(self, name: str, *, top: bool) -> bool:
                if name == ".Zzz":
                    (host.maildir("alice") / ".Zzz" / "cur").rmdir()
                    (host.maildir("alice") / ".Zzz").rmdir()
                return super()._is_mailbox_name(name, top=top)

        monkeypatch.setattr("sharefs.audit.gather.Scanner", Disturbed)
        assert "changed-meanwhile" in rules(audited(host))


def test_who_is_not_root_sees_what_he_may() -> None:
    """The rest is a finding, and no traceback."""
    with world_in_tmp() as host:
        share(host)
        uid = UIDS["carol"]

        def run() -> list[str]:
            return [finding.rule for finding in audited(host)]

        assert "unreadable" in run_as(uid, uid, (), run)


def test_a_large_directory_takes_no_memory() -> None:
    """Message files are counted, not kept: the number of kinds stays small."""
    with world_in_tmp() as host:
        share(host)
        cur = host.maildir("alice", ".Work", "cur")
        for number in range(20_000):
            os.close(os.open(cur / f"m{number}:2,S", os.O_CREAT | os.O_WRONLY, 0o600))
        scanned, boxes = Scanner(Layout.MAILDIRPP).scan(str(host.maildir("alice")))
        kinds = [kind for box in boxes for kind in box.kinds]
        assert scanned.count > 20_000
        assert len(kinds) == 2
        assert {kind.count for kind in kinds} == {1, 20_000}
