"""mbsync: private, shared and public mailboxes of two users, synchronised in both directions."""

import hashlib
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.host import SHARED_GID, UIDS, Host, make_dir, make_maildir, message, put_file
from tests.support.dovecot import PASSWORD
from tests.support.server import wait_until

pytestmark = [pytest.mark.superuser, pytest.mark.clients]

CONFIG = """
IMAPAccount server
Host localhost
Port {port}
User {user}
Pass {password}
SSLType {ssl}
CertificateFile {cert}
AuthMechs *

IMAPStore far
Account server

MaildirStore near
Path {home}/
Inbox {home}/INBOX
SubFolders Verbatim

Channel both
Far :far:
Near :near:
Patterns *{patterns}
Create Both
Remove Both
Expunge Both
SyncState {home}/state/

Channel pull
Far :far:
Near :near:
Patterns Public/*
Create Near
Sync Pull
Expunge Near
SyncState {home}/state-pull/
"""

# Commands that change something, as mbsync -Dn shows them.
CHANGING = re.compile(r">>> \d+ (?:UID )?(?:APPEND|STORE|COPY|MOVE|EXPUNGE|CREATE|DELETE)")


@dataclass
class Mbsync:
    """One user's mbsync, run by that user, with a mail tree of its own."""

    host: Host
    user: str
    home: Path
    tls: bool = False

    def __post_init__(self) -> None:
        uid = UIDS[self.user]
        make_dir(self.home, 0o700, uid, uid)
        for name in ("state", "state-pull"):
            make_dir(self.home / name, 0o700, uid, uid)
        server = self.host.server
        config = CONFIG.format(
            port=server.tls_port if self.tls else server.port,
            ssl="IMAPS" if self.tls else "None",
            user=self.user, password=PASSWORD, cert=self.host.certificate, home=self.home,
            patterns=" !Public*",
        )  # fmt: skip
        put_file(self.home / "mbsyncrc", config.encode(), 0o600, uid, uid)

    def run(self, channel: str = "both", *options: str) -> str:
        """What it printed.  Raises AssertionError unless it succeeded without a complaint."""
        done = subprocess.run(
            ["setpriv", f"--reuid={UIDS[self.user]}", f"--regid={UIDS[self.user]}",
             "--clear-groups", "mbsync", "-V", "-c", str(self.home / "mbsyncrc"), *options,
             channel],
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin"}, cwd=self.home,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        printed = done.stdout + done.stderr
        assert not re.search("^(?:Warning|Error)|: (?:warning|error)", printed, re.MULTILINE), (
            printed
        )
        return printed

    def mailboxes(self) -> set[str]:
        return {str(path.parent.relative_to(self.home)) for path in self.home.rglob("cur")}

    def messages(self, mailbox: str) -> dict[str, str]:
        """Subjects and flags of a local mailbox."""
        found = {}
        for path in (self.home / mailbox).glob("[cn]??/*"):
            subject = re.search(rb"^Subject: (.*?)\r?$", path.read_bytes(), re.MULTILINE)
            assert subject is not None
            found[subject[1].decode()] = path.name.partition(":2,")[2]
        return found

    def deliver(self, mailbox: str, subject: str) -> None:
        uid = UIDS[self.user]
        name = f"1795280800.{hashlib.sha1(subject.encode()).hexdigest()[:8]}.near"
        content = message(subject).replace(b"\r\n", b"\n")
        put_file(self.home / mailbox / "new" / name, content, 0o600, uid, uid)

    def change_flags(self, mailbox: str, subject: str, flags: str) -> None:
        wanted = f"Subject: {subject}\n".encode()
        (path,) = (
            path
            for path in (self.home / mailbox).glob("[cn]??/*")
            if wanted in path.read_bytes().replace(b"\r\n", b"\n")
        )
        path.rename(self.home / mailbox / "cur" / f"{path.name.partition(':')[0]}:2,{flags}")


def tree(*tops: Path) -> dict[str, str]:
    """Every file with a digest of its content: what a second run must leave as it is."""
    return {
        str(path): hashlib.sha1(path.read_bytes()).hexdigest() if path.is_file() else "directory"
        for top in tops
        for path in sorted(top.rglob("*"))
    }


def far_flags(host: Host, user: str, mailbox: str) -> dict[str, set[str]]:
    """Subjects and flags as the server tells this user."""
    found = {}
    with host.server.imap(user) as client:
        status, data = client.select(mailbox, readonly=True)
        assert status == "OK", data
        if data == [b"0"]:
            return {}
        items = client.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        for item in items:
            if isinstance(item, tuple):
                flags = re.search(rb"FLAGS \(([^)]*)\)", item[0])
                assert flags is not None
                subject = item[1].decode().removeprefix("Subject: ").strip()
                found[subject] = set(flags[1].decode().split()) - {"\\Recent"}
    return found


@pytest.fixture
def shared(host: Host) -> Host:
    """A private, two shared and a public mailbox, each with messages."""
    with host.server.imap("alice") as alice:
        for name, rights in (("Work", "lrwstie"), ("Read", "lrs"), ("Work/Sub", "")):
            alice.create(name)
            alice.append(name, "(\\Flagged)", "", message(f"{name} 1"))
            alice.append(name, "", "", message(f"{name} 2"))
            alice.setacl(name, "bob", rights or '""')
        alice.append("INBOX", "(\\Seen)", "", message("to alice"))
    with host.server.imap("bob") as bob:
        bob.append("INBOX", "(\\Answered)", "", message("to bob"))
        bob.create("Own")
        bob.append("Own", "", "", message("own 1"))
    info = make_maildir(
        host.top / "public" / ".info", 0o2770, UIDS["carol"], SHARED_GID, "anyone lr\n"
    )
    put_file(
        info / "new" / "1795280800.M1P1.host", message("news"), 0o660, UIDS["carol"], SHARED_GID
    )
    return host


def both(host: Host) -> tuple[Mbsync, Mbsync]:
    return (
        Mbsync(host, "alice", host.home("alice") / "sync"),
        Mbsync(host, "bob", host.home("bob") / "sync", tls=True),
    )


def test_everything_arrives_and_a_second_run_changes_nothing(shared: Host) -> None:
    alice, bob = both(shared)
    alice.run()
    bob.run()
    bob.run("pull")
    assert {"INBOX", "Work", "Work/Sub", "Read"} <= alice.mailboxes()
    assert not any(name.startswith("shared") for name in alice.mailboxes())
    shown = {name for name in bob.mailboxes() if name.startswith(("shared", "Public"))}
    assert shown == {"shared/alice/Work", "shared/alice/Read", "Public/info"}
    assert alice.messages("Work") == {"Work 1": "F", "Work 2": ""}
    assert alice.messages("INBOX") == {"to alice": "S"}
    assert bob.messages("INBOX") == {"to bob": "R"}
    assert bob.messages("shared/alice/Work") == {"Work 1": "F", "Work 2": ""}
    assert bob.messages("Public/info") == {"news": ""}

    places = (alice.home, bob.home, *(shared.maildir(user) for user in ("alice", "bob")),
              shared.top / "public")  # fmt: skip
    alice.run()
    bob.run()
    bob.run("pull")
    before = tree(*places)
    for told in (alice.run("both", "-Dn"), bob.run("both", "-Dn"), bob.run("pull", "-Dn")):
        assert len(re.findall(CHANGING, told)) == 0, told
        assert re.search(r">>> \d+ SELECT", told), "nothing was looked at"
        assert re.search(r">>> \d+ COMPRESS DEFLATE", told), "all of this ran compressed"
    assert tree(*places) == before


def test_changes_on_both_sides_meet(shared: Host) -> None:
    alice, bob = both(shared)
    alice.run()
    bob.run()
    # bob: a new message and flags near, alice: a new message, a flag and a removal far.
    bob.deliver("shared/alice/Work", "from bob")
    bob.change_flags("shared/alice/Work", "Work 1", "FRS")
    bob.change_flags("Own", "own 1", "T")
    with shared.server.imap("alice") as client:
        client.append("Work", "(\\Draft)", "", message("from alice"))
        client.select("Work")
        client.store("2", "+FLAGS", "(\\Deleted)")
        client.expunge()
    assert CHANGING.search(bob.run("both", "-Dn"))
    want = {"Work 1": "FRS", "from bob": "", "from alice": "D"}
    assert bob.messages("shared/alice/Work") == want
    assert bob.messages("Own") == {}
    assert far_flags(shared, "bob", "Own") == {}
    # The viewer's \Seen is the viewer's own; everything else alice sees as well.
    assert far_flags(shared, "bob", "shared/alice/Work")["Work 1"] == {
        "\\Flagged", "\\Answered", "\\Seen",
    }  # fmt: skip
    assert far_flags(shared, "alice", "Work") == {
        "Work 1": {"\\Flagged", "\\Answered"}, "from bob": set(), "from alice": {"\\Draft"},
    }  # fmt: skip
    alice.run()
    assert alice.messages("Work") == {"Work 1": "FR", "from bob": "", "from alice": "D"}
    files = [path for path in (shared.maildir("alice") / ".Work").glob("[cn]??/*")]
    assert {(path.stat().st_mode & 0o7777, path.stat().st_gid) for path in files} == {
        (0o660, SHARED_GID)
    }
    assert {path.stat().st_uid for path in files} == {UIDS["alice"], UIDS["bob"]}


def test_flags_of_a_mailbox_for_reading_only_do_no_harm(shared: Host) -> None:
    """bob has lrs on Read: what else he changes near is dropped far, and nothing breaks."""
    _, bob = both(shared)
    bob.run()
    bob.change_flags("shared/alice/Read", "Read 2", "FST")
    bob.run("both", "--expunge-near")
    assert far_flags(shared, "alice", "Read") == {"Read 1": {"\\Flagged"}, "Read 2": set()}
    assert far_flags(shared, "bob", "shared/alice/Read")["Read 2"] == {"\\Seen"}


def test_a_public_mailbox_is_pulled_again_and_again(shared: Host) -> None:
    _, bob = both(shared)
    bob.run("pull")
    info = shared.top / "public" / ".info"
    put_file(
        info / "new" / "1795280801.M2P1.host", message("more"), 0o660, UIDS["carol"], SHARED_GID
    )
    wait_until(lambda: (info / "new" / "1795280801.M2P1.host").exists())
    bob.run("pull")
    assert bob.messages("Public/info") == {"news": "", "more": ""}
    with shared.server.imap("bob") as client:
        client.select("Public/info", readonly=True)
        assert client.search(None, "UNSEEN")[1] == [b"1 2"]


def test_two_users_at_the_same_time_lose_and_double_nothing(shared: Host) -> None:
    """Both deliver near and far into one mailbox and synchronise while the other does."""
    alice, bob = both(shared)
    alice.run()
    bob.run()
    places = {"alice": "Work", "bob": "shared/alice/Work"}
    want = {"Work 1", "Work 2"}
    with ThreadPoolExecutor(max_workers=3) as pool:
        for turn in range(2):
            for client in (alice, bob):
                for number in range(20):
                    subject = f"{client.user} {turn} {number}"
                    client.deliver(places[client.user], subject)
                    want.add(subject)
            far = [f"far {turn} {number}" for number in range(20)]
            want.update(far)
            running = [pool.submit(alice.run), pool.submit(bob.run)]
            with shared.server.imap("alice") as client_:
                for subject in far:
                    assert client_.append("Work", "", "", message(subject))[0] == "OK"
            for one in running:
                one.result()
    for client in (alice, bob, alice, bob):
        client.run()
    files = list((shared.maildir("alice") / ".Work").glob("[cn]??/*"))
    assert len(files) == len(want)
    assert set(far_flags(shared, "alice", "Work")) == want
    for client in (alice, bob):
        mailbox = client.home / places[client.user]
        assert len(list(mailbox.glob("[cn]??/*"))) == len(want)
        assert set(client.messages(places[client.user])) == want
