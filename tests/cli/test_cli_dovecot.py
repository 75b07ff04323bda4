"""`sharefs` and doveadm 2.3 on the same configuration, the same users and the same mail."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.cli import main
from tests.support.dovecot import Dovecot, MailUser, private_dovecot

pytestmark = [pytest.mark.superuser, pytest.mark.dovecot, pytest.mark.slow]

UID = 61020

CONFIG = """
mail_location = maildir:~/Maildir
mail_plugins = acl
protocol imap {{
  mail_plugins = acl imap_acl
}}
namespace inbox {{
  type = private
  separator = /
  prefix =
  inbox = yes
  mailbox Sent {{
    auto = subscribe
    special_use = \\Sent
  }}
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/%%u/
  location = maildir:{top}/home/%%u/Maildir:INDEXPVT=~/private/%%u
  subscriptions = no
  list = children
}}
namespace public {{
  type = public
  separator = /
  prefix = Public/
  location = maildir:{top}/public
  subscriptions = no
  list = children
}}
plugin {{
  acl = vfile
  acl_shared_dict = file:{top}/db/shared.db
}}
"""


class Both:
    """One host, two servers."""

    def __init__(self, top: Path, dovecot: Dovecot, capfd: pytest.CaptureFixture[str]) -> None:
        self.top = top
        self.dovecot = dovecot
        self._capfd = capfd

    def maildir(self, user: str, *below: str) -> Path:
        return self.top.joinpath("home", user, "Maildir", *below)

    def sharefs(self, *argv: str) -> tuple[int, str]:
        self._capfd.readouterr()
        try:
            main(["-c", str(self.dovecot.config), *argv])
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        return status, self._capfd.readouterr().out

    def ours(self, *argv: str) -> str:
        status, out = self.sharefs(*argv)
        assert status == 0, (argv, status)
        return out

    def theirs(self, *argv: str) -> str:
        return self.dovecot.doveadm(*argv).stdout

    def listed_by_dovecot(self, user: str, pattern: str = "*") -> list[str]:
        with self.dovecot.imap(user) as client:
            _, lines = client.list('""', pattern)
        return sorted(
            line.decode().rpartition('"/" ')[2].strip('"')
            for line in lines
            if isinstance(line, bytes) and b"\\Noselect" not in line
        )

    def listed_by_us(self, user: str, pattern: str = "*") -> list[str]:
        return sorted(self.ours("mailbox", "list", "-u", user, pattern).splitlines())


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Path, Dovecot]]:
    top = Path(tempfile.mkdtemp(prefix="sharefs-both-"))
    try:
        users = [MailUser(name, UID, UID, top / "home" / name) for name in USERS]
        with private_dovecot(CONFIG.format(top=top), users) as dovecot:
            yield top, dovecot
    finally:
        shutil.rmtree(top)


USERS = ("alice@ex.org", "bob@ex.org", "carol@ex.org")
ALICE, BOB, CAROL = USERS


@pytest.fixture
def both(server: tuple[Path, Dovecot], capfd: pytest.CaptureFixture[str]) -> Both:
    top, dovecot = server
    for name in ("home", "db", "public"):
        shutil.rmtree(top / name, ignore_errors=True)
        (top / name).mkdir()
        os.chown(top / name, UID, UID)
    top.chmod(0o755)
    for user in USERS:
        (top / "home" / user).mkdir()
        os.chown(top / "home" / user, UID, UID)
    return Both(top, dovecot, capfd)


FILES = [
    "anyone lr\n",
    "anyone lr\ngroup=staff lrs\n",
    f"user={BOB} lr\n-user={BOB} r\n",
    f"-user={BOB} s\nanyone lrs\n",
    "owner lr\nanyone lrsw\n",
    "authenticated lrwstipekxa\n-anyone x\n",
    f"user={BOB} lr :custom\n",
    f'"user=with space" l\nuser={BOB} lrswipe\n',
    "",
    f"user={BOB}\n",
    "group-override=staff l\n",
]


@pytest.mark.parametrize("text", FILES)
def test_the_same_file_reads_the_same(both: Both, text: str) -> None:
    both.theirs("mailbox", "create", "-u", ALICE, "Work")
    path = both.maildir(ALICE, ".Work", "dovecot-acl")
    path.write_text(text)
    os.chown(path, UID, UID)
    want = both.theirs("-f", "tab", "acl", "get", "-u", ALICE, "Work")
    assert both.ours("acl", "get", "-u", ALICE, "-f", "tab", "Work") == want
    for user, name in ((ALICE, "Work"), (BOB, f"shared/{ALICE}/Work")):
        got = both.dovecot.doveadm("-f", "tab", "acl", "rights", "-u", user, name, check=False)
        status, out = both.sharefs("acl", "rights", "-u", user, "-f", "tab", name)
        if status == 0:
            assert out == got.stdout
        else:  # without any right to see it, ours answers like that of a missing mailbox
            assert got.stdout in ("", "Rights\n\n"), got


CHANGES = [
    ("set", f"user={BOB}", "lookup", "read"),
    ("add", f"user={BOB}", "write", "insert"),
    ("remove", f"user={BOB}", "read"),
    ("set", "group=staff", "all"),
    ("set", "owner", "lookup", "read", "admin"),
    ("set", "anyone", "lookup", ":custom"),
    ("add", "group-override=staff", "expunge"),
    ("delete", "anyone"),
    ("delete", "group=staff"),
]


def test_the_same_changes_write_the_same_bytes(both: Both) -> None:
    """Ours on one mailbox, theirs on another; after each step both files and maps agree."""
    both.theirs("mailbox", "create", "-u", ALICE, "Ours", "Theirs")
    for verb, *words in CHANGES:
        both.theirs("acl", verb, "-u", ALICE, "Theirs", *words)
        both.ours("acl", verb, "-u", ALICE, "Ours", *words)
        files = [
            both.maildir(ALICE, name, "dovecot-acl").read_bytes() for name in (".Ours", ".Theirs")
        ]
        assert files[0] == files[1], (verb, words)
        path = both.maildir(ALICE, ".Ours", "dovecot-acl")
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (UID, 0o600)


def test_a_share_of_ours_is_listed_by_dovecot(both: Both) -> None:
    both.ours("mailbox", "create", "-u", ALICE, "Work", "Secret")
    both.ours("share", "add", "-u", ALICE, "Work", BOB)
    want = f"shared/{ALICE}/Work"
    assert both.listed_by_dovecot(BOB, "shared/*") == [want]
    assert both.listed_by_us(BOB, "shared/*") == [want]
    both.ours("share", "remove", "-u", ALICE, "Work", BOB)
    assert both.listed_by_dovecot(BOB, "shared/*") == []


def test_a_share_of_dovecots_is_listed_by_us(both: Both) -> None:
    both.theirs("mailbox", "create", "-u", ALICE, "Work")
    both.theirs("acl", "set", "-u", ALICE, "Work", f"user={CAROL}", "lookup", "read")
    assert both.listed_by_us(CAROL, "shared/*") == [f"shared/{ALICE}/Work"]
    status, _ = both.sharefs("map", "check", "-u", ALICE)
    assert status == 0
    both.theirs("acl", "delete", "-u", ALICE, "Work", f"user={CAROL}")
    assert both.listed_by_us(CAROL, "shared/*") == []


def test_the_same_tree_lists_the_same(both: Both) -> None:
    both.ours("mailbox", "create", "-u", ALICE, "Work", "Work/Sub", "a/b/c", "Entwürfe & mehr")
    both.ours("share", "add", "-u", ALICE, "Work/Sub", BOB)
    for name, acl in ((".info", "anyone lr"), (".x.y", f"user={BOB} lr"), (".no", "owner lr")):
        for folder in ("cur", "new", "tmp"):
            (both.top / "public" / name / folder).mkdir(parents=True)
        (both.top / "public" / name / "dovecot-acl").write_text(acl + "\n")
    for user in USERS:
        for pattern in ("*", "%", "Public/*", "shared/*", "W%"):
            ours = both.listed_by_us(user, pattern)
            encoded = [name.replace("Entwürfe & mehr", "Entw&APw-rfe &- mehr") for name in ours]
            # Dovecot answers with an INBOX and automatic mailboxes of its own making, too.
            assert sorted(encoded) == both.listed_by_dovecot(user, pattern), (user, pattern)


NAMES = ["Work", "Work/Sub", f"shared/{ALICE}/Work", f"shared/{ALICE}/Work/Sub", "Public/info",
         f"shared/{ALICE}", "INBOX"]  # fmt: skip


def test_subscriptions_are_the_same_bytes(both: Both) -> None:
    """The one with the domain is split at its dot, by both."""
    for user in (BOB, ALICE):
        both.ours("mailbox", "create", "-u", user, "Work", "Work/Sub")
    for name in ("Work", "Work/Sub", "INBOX"):
        both.ours("share", "add", "-u", ALICE, name, BOB)
    for folder in ("cur", "new", "tmp"):
        (both.top / "public" / ".info" / folder).mkdir(parents=True)
    (both.top / "public" / ".info" / "dovecot-acl").write_text("anyone lr\n")
    path = both.maildir(BOB, "subscriptions")
    with both.dovecot.imap(BOB) as client:
        for name in NAMES:
            assert client.subscribe(name)[0] == "OK", name
    theirs = path.read_bytes()
    listed = both.ours("mailbox", "list", "-u", BOB, "-s").splitlines()
    assert sorted(listed) == sorted([*NAMES, "Sent"])
    path.unlink()
    both.ours("mailbox", "create", "-u", BOB, "Scratch")
    both.ours("mailbox", "subscribe", "-u", BOB, *NAMES)
    assert path.read_bytes() == theirs
    both.ours("mailbox", "unsubscribe", "-u", BOB, *NAMES)
    assert path.read_bytes() == b"V\t2\n\n"


def test_status_agrees(both: Both) -> None:
    both.ours("mailbox", "create", "-u", ALICE, "Work")
    for number in range(3):
        mail = f"Subject: {number}\n\nbody\n".encode()
        both.dovecot.doveadm("save", "-u", ALICE, "-m", "Work", stdin=mail)
    fields = "messages uidnext uidvalidity unseen vsize guid"
    want = both.theirs("mailbox", "status", "-u", ALICE, fields, "Work").split()
    got = both.ours("mailbox", "status", "-u", ALICE, fields, "Work").split()
    assert sorted(got) == sorted(want)
