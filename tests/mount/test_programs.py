"""Programs that know nothing of sharing, at work on the mount."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sharefs.acl import Mode
from sharefs.identifiers import user
from sharefs.rights import Rights
from tests.account.world import SHARED_GID, UIDS, World, append, world_in_tmp
from tests.interop.terminal import Terminal
from tests.support.become import Identity, run_as
from tests.support.dovecot import MailUser, private_dovecot
from tests.support.mount import Mount, mounted
from tests.support.server import private_server, wait_until

pytestmark = [pytest.mark.superuser, pytest.mark.fuse, pytest.mark.clients]

# In a mount name space of its own /etc/passwd names our users: mutt and procmail insist on a name.
AS_NAMED = """
mount --bind "$1" /etc/passwd
exec setpriv --reuid "$2" --regid "$2" --clear-groups -- "${@:3}"
"""
MUTTRC = """
set folder={tree}
set spoolfile={tree}
set mail_check=1
set timeout=1
set sleep_time=0
set quit=yes
set delete=yes
set move=no
set mark_old=no
set read_inc=0
set help=no
set wait_key=no
set beep=no
"""
SERVERS = """
mail_driver = maildir
mail_path = {path}
namespace inbox {{
  inbox = yes
  separator = /
}}
"""


def message(subject: str, text: str = "All agreed.", date: str = "Tue, 14 Nov 2023") -> bytes:
    return (
        f"From: a@example.org\nTo: b@example.org\nDate: {date} 22:13:20 +0000\n"
        f"Subject: {subject}\n\n{text}\n"
    ).encode()


class Office:
    """alice shares Work with bob and carol; the view is mounted."""

    def __init__(self, world: World, mount: Mount) -> None:
        self.world = world
        self.mount = mount
        self.passwd = world.top / "passwd"
        self.passwd.write_text(
            "".join(f"{name}:x:{uid}:{uid}::{world.home(name)}:/bin/sh\n" for name, uid in people())
        )

    def seen(self, name: str, *below: str) -> Path:
        """What this user calls it."""
        return self.mount.top.joinpath(name, *below)

    def command(self, name: str, words: Sequence[str]) -> list[str]:
        """The command as this user, who has a name for it."""
        namespace = ["unshare", "--mount", "bash", "-ec", AS_NAMED, "-"]
        return [*namespace, str(self.passwd), str(UIDS[name]), *words]

    def run(
        self, name: str, *words: str | Path, stdin: bytes = b"", where: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        """What it prints.  Raises AssertionError if it fails."""
        home = str(self.world.home(name))
        done = subprocess.run(
            self.command(name, [str(word) for word in words]), input=stdin, capture_output=True,
            check=False, cwd=where, timeout=60, umask=0o077,
            env={"PATH": os.environ["PATH"], "HOME": home, "LC_ALL": "C.UTF-8",
                 **(environment or {})},
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout!r} {done.stderr!r}"
        return done.stdout.decode()

    def messages(self, name: str, mailbox: Path) -> dict[str, bytes]:
        """Files with messages that this user can read, under his own uid."""

        def read() -> dict[str, bytes]:
            return {path.name: path.read_bytes() for path in sorted(mailbox.glob("[cn]??/*"))}

        return run_as(UIDS[name], UIDS[name], (), read)


def people() -> list[tuple[str, int]]:
    return [("root", 0), *UIDS.items()]


@pytest.fixture
def office() -> Iterator[Office]:
    with world_in_tmp() as world:
        for name, uid in UIDS.items():
            os.chown(world.home(name), uid, uid)
            world.home(name).chmod(0o700)
            world.as_user(name, lambda account: append(account, "INBOX", message("Welcome")))
        world.as_user("alice", share_work)
        state = ["--state", str(world.top / "state")]
        with mounted(world.top, state, config=world.config_path) as mount:
            yield Office(world, mount)


def share_work(account: Any) -> None:
    account.create("Work")
    append(account, "Work", message("Minutes of Monday", date="Mon, 13 Nov 2023"))
    append(account, "Work", message("Minutes of Tuesday", "Nobody agreed."))
    account.set_acl("Work", user("bob"), Mode.REPLACE, Rights.parse("lrswit"))
    account.set_acl("Work", user("carol"), Mode.REPLACE, Rights.parse("lr"))


def test_mutt_reads_and_flags_in_bobs_view(office: Office) -> None:
    tree, home = office.seen("bob"), office.world.home("bob")
    rc = home / "muttrc"
    rc.write_text(MUTTRC.format(tree=tree))
    rc.chmod(0o644)
    words = ["mutt", "-n", "-F", str(rc), "-f", str(tree / ".shared.alice.Work")]
    work = office.world.maildir("alice", ".Work")
    with Terminal(office.command("bob", words), {"HOME": str(home)}) as terminal:
        terminal.wait("Minutes of Monday", "Minutes of Tuesday")
        terminal.press("1", "Enter", "Enter")
        terminal.wait("All agreed.", "Subject: Minutes of Monday")
        terminal.press("i", "F", "$")
        wait_until(
            lambda: any("F" in path.name.partition(":2,")[2] for path in work.glob("cur/*")),
            5, terminal.screen,
        )  # fmt: skip
        terminal.press("q")
        terminal.wait_end()
    assert len(office.messages("alice", work)) == 2
    assert all(path.stat().st_uid == UIDS["alice"] for path in work.glob("[cn]??/*"))


def test_mutt_cannot_flag_for_carol(office: Office) -> None:
    """carol has no right w: her mutt says that, and no name changes."""
    tree, home = office.seen("carol"), office.world.home("carol")
    rc = home / "muttrc"
    rc.write_text(MUTTRC.format(tree=tree))
    rc.chmod(0o644)
    words = ["mutt", "-n", "-F", str(rc), "-f", str(tree / ".shared.alice.Work")]
    work = office.world.maildir("alice", ".Work")
    before = office.messages("alice", work)
    with Terminal(office.command("carol", words), {"HOME": str(home)}) as terminal:
        terminal.wait("Minutes of Monday", "Minutes of Tuesday")
        terminal.press("1", "Enter", "F", "$")
        terminal.wait("Unable to write")
        terminal.press("x")
        terminal.wait_end()
    assert office.messages("alice", work) == before


def test_procmail_delivers_so_that_the_sharees_can_read(office: Office) -> None:
    mailbox = office.seen("bob", ".shared.alice.Work")
    rc = office.world.home("bob") / "procmailrc"
    rc.write_text(f"UMASK=077\nSHELL=/bin/sh\nDEFAULT={mailbox}/\n")
    os.chown(rc, UIDS["bob"], UIDS["bob"])
    office.run("bob", "procmail", "-m", rc, stdin=b"From bob\n" + message("Delivered"))
    demand_delivered(office)


def test_maildrop_delivers_so_that_the_sharees_can_read(office: Office) -> None:
    """Its own umask is 077, and run() gives it that besides."""
    mailbox = office.seen("bob", ".shared.alice.Work")
    rc = office.world.home("bob") / "mailfilter"
    rc.write_text(f'UMASK=077\nto "{mailbox}"\n')
    rc.chmod(0o600)
    os.chown(rc, UIDS["bob"], UIDS["bob"])
    office.run("bob", "maildrop", rc, stdin=message("Delivered"))
    demand_delivered(office)


def demand_delivered(office: Office) -> None:
    """bob's message is in alice's mailbox once, and all three can read it, alice beside too."""
    for name in ("alice", "bob", "carol"):
        where = "" if name == "alice" else ".shared.alice"
        found = office.messages(name, office.seen(name, f"{where}.Work"))
        assert sum(b"Subject: Delivered" in octets for octets in found.values()) == 1, name
    below = office.messages("alice", office.world.maildir("alice", ".Work"))
    assert sum(b"Subject: Delivered" in octets for octets in below.values()) == 1
    assert not list(office.world.maildir("alice", ".Work").glob("tmp/*"))


def test_rsync_both_ways(office: Office, tmp_path: Path) -> None:
    """A backup out of the view, and a Maildir into it; the second time there is nothing to do."""
    backup = office.world.home("bob") / "backup"
    source = f"{office.seen('bob', '.shared.alice.Work')}/"
    options = ["-rt", "--itemize-changes", "--exclude=dovecot*", "--exclude=maildirfolder"]
    first = office.run("bob", "rsync", *options, source, f"{backup}/")
    assert first.count(">f") == 2
    assert office.run("bob", "rsync", *options, source, f"{backup}/") == ""
    target = office.seen("alice", ".Work")
    for number in range(50):
        path = backup / "cur" / f"17000000{number:02}.M1P1.host:2,S"
        path.write_bytes(message(f"Number {number}"))
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    restored = office.world.home("alice") / "restored"
    (office.world.home("bob") / "backup").rename(restored)
    for path in (restored, *restored.rglob("*")):
        os.chown(path, UIDS["alice"], UIDS["alice"])
    words = ("rsync", "-rt", "--itemize-changes", "--omit-dir-times", f"{restored}/", f"{target}/")
    assert office.run("alice", *words).count(">f") >= 50
    assert ">f" not in office.run("alice", *words)
    seen = office.messages("carol", office.seen("carol", ".shared.alice.Work"))
    assert sum(b"Subject: Number" in octets for octets in seen.values()) == 50
    below = office.world.maildir("alice", ".Work", "cur", "1700000007.M1P1.host:2,S")
    assert below.stat().st_mtime_ns == 10**18 + 7


def test_git_works_on_a_mirror(office: Office) -> None:
    """Locks made with O_EXCL, renames over what is there, many small files, mapped packs."""
    top = office.world.top / "mirror"
    (top / "source").mkdir(parents=True)
    os.chown(top / "source", UIDS["alice"], SHARED_GID)
    (top / "source").chmod(0o2770)
    git = partial(office.run, "alice", "git", "-c", "user.name=a", "-c", "user.email=a@b",
                  "-c", "protocol.file.allow=always")  # fmt: skip
    with mounted(top, ["--mirror", top / "source"]) as mirror:
        project = mirror.top / "project"
        git("init", "-q", "-b", "main", project)
        alice = Identity(UIDS["alice"], UIDS["alice"])
        for turn in range(2):
            alice.run(fill, project, turn)
            git("-C", project, "add", "-A")
            git("-C", project, "commit", "-q", "-m", f"turn {turn}")
            git("-C", project, "checkout", "-q", "-b", f"branch{turn}")
        git("-C", project, "gc", "-q")
        git("-C", project, "checkout", "-q", "branch0")
        git("-C", project, "checkout", "-q", "branch1")
        assert git("-C", project, "status", "--porcelain") == ""
        git("-C", project, "fsck", "--strict")
        git("clone", "-q", project, mirror.top / "clone")
        assert len(os.listdir(top / "source" / "clone")) == 41
    assert not list((top / "source").rglob("*.lock"))


def fill(project: Path, turn: int) -> None:
    for number in range(40):
        (project / f"{number}.txt").write_text(f"{turn} {number}\n" * 20)


def test_dovecot_serves_two_users_from_the_mount(office: Office) -> None:
    """A server without an ACL plugin: the view alone decides what each may do."""
    users = [
        MailUser(name, UIDS[name], UIDS[name], office.world.home(name)) for name in ("alice", "bob")
    ]
    config = f"mail_location = maildir:{office.mount.top}/%u:INDEX=~/dovecot\n"
    with private_dovecot(config, users) as dovecot:
        with dovecot.imap("bob") as bob:
            folders = b" ".join(line for line in bob.list()[1] if isinstance(line, bytes))
            assert b"shared.alice.Work" in folders, folders
            bob.select("shared.alice.Work")
            assert bob.search(None, "SUBJECT", "Monday")[1] == [b"1"], dovecot.log_text()
            assert bob.store("1", "+FLAGS", "(\\Flagged)")[0] == "OK"
            assert bob.append("shared.alice.Work", "", "", message("From bob"))[0] == "OK"
            bob.select("INBOX")
            assert bob.search(None, "ALL")[1] == [b"1"]
        with dovecot.imap("alice") as alice:
            assert alice.select("Work")[1] == [b"3"]
            assert alice.search(None, "FLAGGED")[1] == [b"1"], dovecot.log_text()
            assert alice.search(None, "SUBJECT", '"From bob"')[1] == [b"3"]
            folders = b" ".join(line for line in alice.list()[1] if isinstance(line, bytes))
            assert b"shared" not in folders
        assert "Panic" not in dovecot.log_text()


def test_our_server_on_the_mount_and_beside_it(office: Office) -> None:
    """The same mail by two ways at once: UIDs and flags are one."""
    users = [MailUser("alice", UIDS["alice"], UIDS["alice"], office.world.home("alice"))]
    with (
        private_server(SERVERS.format(path="~/Maildir"), users) as beside,
        private_server(SERVERS.format(path=office.seen("%{user}")), users) as above,
        beside.imap("alice") as one,
        above.imap("alice") as two,
    ):
        for client in (one, two):
            client.select("Work")
        for number in range(4):
            writer, reader = (one, two) if number % 2 else (two, one)
            writer.append("Work", "", "", message(f"Number {number}"))

            def arrived(reader: Any = reader, number: int = number) -> bool:
                reader.noop()
                return bool(reader.search(None, "SUBJECT", f'"Number {number}"')[1][0])

            wait_until(arrived, explain=lambda: above.log_text() + beside.log_text())
        writer.store("1", "+FLAGS", "(\\Flagged)")

        def flagged() -> bool:
            reader.noop()
            return bool(reader.search(None, "FLAGGED")[1][0])

        wait_until(flagged)
        for client in (one, two):
            client.noop()
        uids = [client.uid("SEARCH", "ALL")[1] for client in (one, two)]
        assert uids[0] == uids[1]
        assert len(uids[0][0].split()) == 6


def test_dovecot_keeps_everything_on_the_mount(office: Office) -> None:
    """Its defaults: indexes, uidlists, caches and locks beside the messages, memory-mapped.

    Two users work on one mailbox at once.  What bob's process keeps is a copy of his own.
    """
    users = [
        MailUser(name, UIDS[name], UIDS[name], office.world.home(name)) for name in ("alice", "bob")
    ]
    office.world.as_user("alice", share_fully)
    work = office.world.maildir("alice", ".Work")
    config = f"mail_location = maildir:{office.mount.top}/%u\n"
    with private_dovecot(config, users) as dovecot:
        with dovecot.imap("alice") as alice, dovecot.imap("bob") as bob:
            alice.select("Work")
            bob.select("shared.alice.Work")
            for turn in range(6):
                writer, reader, box = (
                    (bob, alice, "shared.alice.Work") if turn % 2 else (alice, bob, "Work")
                )
                assert writer.append(box, "", "", message(f"Turn {turn}"))[0] == "OK"
                wait_until(
                    partial(has, reader, "SUBJECT", f'"Turn {turn}"'), explain=dovecot.log_text
                )
                (number,) = writer_finds(writer, turn)
                assert writer.store(number, "+FLAGS", "(\\Answered todo)")[0] == "OK"
                criteria = ("ANSWERED", "KEYWORD", "todo", "SUBJECT", f'"Turn {turn}"')
                wait_until(partial(has, reader, *criteria), explain=dovecot.log_text)
            assert bob.store("1", "+FLAGS", "(\\Deleted)")[0] == "OK"
            bob.expunge()
            wait_until(lambda: has(alice, "ALL", count=7), explain=dovecot.log_text)
        for name in ("dovecot.index.log", "dovecot-uidlist", "dovecot-keywords"):
            assert (work / name).stat().st_uid == UIDS["alice"], name
        copies = list((office.world.top / "state").glob(f"{UIDS['bob']}-*/dovecot*"))
        assert {"dovecot.index.log", "dovecot-uidlist"} <= {path.name for path in copies}
        assert "todo" in (work / "dovecot-keywords").read_text()
        with dovecot.imap("alice") as alice:  # from the files, not from memory
            assert alice.select("Work")[1] == [b"7"]
            assert has(alice, "KEYWORD", "todo", count=6)
        bad = [
            line for line in dovecot.log_text().splitlines() if "Error" in line or "Panic" in line
        ]
        assert not bad


def share_fully(account: Any) -> None:
    account.set_acl("Work", user("bob"), Mode.REPLACE, Rights.parse("lrswite"))


def has(client: Any, *criteria: str, count: int | None = None) -> bool:
    client.noop()
    found = client.search(None, *criteria)[1][0].split()
    return bool(found) if count is None else len(found) == count


def writer_finds(client: Any, turn: int) -> list[str]:
    client.noop()
    return [one.decode() for one in client.search(None, "SUBJECT", f'"Turn {turn}"')[1][0].split()]


def test_our_server_for_a_viewer_on_the_mount_and_the_owner_beside_it(office: Office) -> None:
    """bob's session reads alice's mailbox by way of the view, hers by way of the files."""
    office.world.as_user("alice", share_fully)
    people = {
        name: MailUser(name, UIDS[name], UIDS[name], office.world.home(name))
        for name in ("alice", "bob")
    }
    with (
        private_server(SERVERS.format(path="~/Maildir"), [people["alice"]]) as beside,
        private_server(SERVERS.format(path=office.seen("%{user}")), [people["bob"]]) as above,
        beside.imap("alice") as alice,
        above.imap("bob") as bob,
    ):

        def logs() -> str:
            return above.log_text() + beside.log_text()

        folders = b" ".join(line for line in bob.list()[1] if isinstance(line, bytes))
        assert b"shared/alice/Work" in folders
        alice.select("Work")
        assert bob.select("shared/alice/Work")[0] == "OK", logs()
        for turn in range(4):
            (writer, box), (reader, _) = [(alice, "Work"), (bob, "shared/alice/Work")][
                :: 1 if turn % 2 else -1
            ]
            assert writer.append(box, "", "", message(f"Turn {turn}"))[0] == "OK", logs()
            wait_until(partial(has, reader, "SUBJECT", f'"Turn {turn}"'), explain=logs)
            (number,) = writer_finds(writer, turn)
            assert writer.store(number, "+FLAGS", "(\\Flagged todo)")[0] == "OK", logs()
            criteria = ("FLAGGED", "KEYWORD", "todo", "SUBJECT", f'"Turn {turn}"')
            wait_until(partial(has, reader, *criteria), explain=logs)
        assert bob.store("1", "+FLAGS", "(\\Deleted)")[0] == "OK", logs()
        bob.expunge()
        wait_until(lambda: has(alice, "ALL", count=5), explain=logs)
        assert "Traceback" not in logs()
    work = office.world.maildir("alice", ".Work")
    assert {path.stat().st_uid for path in work.rglob("*")} == {UIDS["alice"]}
