"""The seed's "User Shared Mailboxes" as it stands, for four real system users with PAM passwords.

Users, their groups and a PAM service are made for the test and removed after it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.host import make_dir, message
from tests.support.accounts import account_files, change_accounts
from tests.support.server import TOP, Server, as_user, private_server

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

PASSWORD = "correct horse 7"
USERS = ("alice", "bob", "carol", "dave")

CONFIG = """
passdb pam {{
  pam_service_name = {service}
}}
userdb passwd {{
}}
mail_access_groups = {group}
log_debug = category=mail

# User's private mail location.
mail_driver = maildir
mail_path = ~/Maildir

# When creating any namespaces, you must also have a private namespace:
namespace {{
  type = private
  separator = /
  prefix =
  # use global mail_path
  inbox = yes
}}

namespace {{
  type = shared
  separator = /
  prefix = shared/$user/
  mail_path = %{{owner_home}}/Maildir
  mail_index_private_path = ~/Maildir/shared/%{{owner_user}}
  # If users have direct filesystem level access to their mails, it's safer
  # to not share the index files between users:
  #mail_index_path = ~/Maildir/shared/%{{owner_user}}
  subscriptions = no
  list = children
}}

mail_plugins {{
  acl = yes
}}

protocol imap {{
  mail_plugins {{
    imap_acl = yes
  }}
}}

acl_driver = vfile

acl_sharing_map {{
  dict file {{
    path = {top}/db/shared-mailboxes.db
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class SystemHost:
    """names: the users' login names by the names we call them.  gid: of the mail processes."""

    top: Path
    server: Server
    names: dict[str, str]
    uids: dict[str, int]
    gid: int

    def maildir(self, user: str) -> Path:
        return self.top / "home" / self.names[user] / "Maildir"

    def run(self, *arguments: str, user: str = "") -> subprocess.CompletedProcess[str]:
        """A command by root, or by a user as in an SSH session: with the groups of /etc/group."""
        login = self.names.get(user)
        become = ["setpriv", f"--reuid={login}", f"--regid={login}", "--init-groups"]
        return subprocess.run(
            [*(become if login else ()), *arguments],
            cwd=TOP if not login else "/", env={**os.environ, "LC_ALL": "C"},
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip

    def sharefs(self, *arguments: str) -> str:
        """The command's output.  Raises AssertionError unless it succeeded."""
        done = self.run(sys.executable, "-m", "sharefs", "-c", str(self.server.config), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextlib.contextmanager
def _system_users(top: Path, mark: str) -> Iterator[tuple[dict[str, str], dict[str, int], int]]:
    """Four users, each with a group of the same name and a home, and a group for mail alone."""
    names = {user: f"{mark}{user}" for user in USERS}
    first = 30_000 + os.getpid() % 5_000 * 5
    uids = {user: first + number for number, user in enumerate(USERS)}
    mail = first + len(USERS)
    try:
        with account_files():
            change_accounts("groupadd", "--gid", str(mail), f"{mark}mail")
            for user, login in names.items():
                home = make_dir(top / "home" / login, 0o711, uids[user], uids[user])
                make_dir(home / "Maildir", 0o2770, uids[user], mail)
                change_accounts("groupadd", "--gid", str(uids[user]), login)
                change_accounts(
                    "useradd", "--no-log-init", "--no-create-home", "--uid", str(uids[user]),
                    "--gid", login, "--home-dir", str(home), "--shell", "/bin/sh", login,
                )  # fmt: skip
            passwords = "".join(f"{login}:{PASSWORD}\n" for login in names.values())
            change_accounts("chpasswd", stdin=passwords)
        yield names, uids, mail
    finally:
        with account_files():
            for login in names.values():
                subprocess.run(["userdel", "--force", login], capture_output=True, check=False)
            for group in (*names.values(), f"{mark}mail"):
                subprocess.run(["groupdel", group], capture_output=True, check=False)


@pytest.fixture(scope="module")
def system() -> Iterator[SystemHost]:
    mark = f"sfi{os.getpid()}"
    top = Path(tempfile.mkdtemp(prefix="sharefs-interop-"))
    top.chmod(0o755)
    make_dir(top / "home", 0o755, 0, 0)
    service = Path("/etc/pam.d") / mark
    try:
        with _system_users(top, mark) as (names, uids, gid):
            # "You probably want to make it mode 0770 and group sharedusers"
            make_dir(top / "db", 0o770, 0, gid)
            service.write_text("auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
            config = CONFIG.format(service=mark, group=f"{mark}mail", top=top)
            with private_server(config, []) as server:
                yield SystemHost(top, server, names, uids, gid)
    finally:
        service.unlink(missing_ok=True)
        shutil.rmtree(top, ignore_errors=True)


def test_the_seeds_configuration_serves_system_users(system: SystemHost) -> None:
    alice, bob, carol = (system.names[user] for user in ("alice", "bob", "carol"))
    with system.server.imap(alice, PASSWORD) as client:
        client.create("Work")
        client.append("Work", "", "", message("Minutes", "Agreed."))
        assert client.setacl("Work", bob, "lrs")[0] == "OK"
    with system.server.imap(bob, PASSWORD) as client:
        listed = [line.decode() for line in client.list()[1] if isinstance(line, bytes)]
        assert f'(\\HasNoChildren) "/" "shared/{alice}/Work"' in listed
        assert client.select(f"shared/{alice}/Work") == ("OK", [b"1"])
        fetched = client.fetch("1", "(BODY[TEXT])")[1]
        assert isinstance(fetched[0], tuple)
        assert fetched[0][1] == b"Agreed.\r\n"
        (worker,) = (
            one for one in system.server.processes("sf-imap:") if one.uids[0] == system.uids["bob"]
        )
        assert worker.uids == (system.uids["bob"],) * 4
        assert set(worker.groups) == {system.uids["bob"], system.gid}
        assert worker.no_new_privs
    with system.server.imap(carol, PASSWORD) as client:
        assert client.list('""', "shared*")[1] == [None]
        assert client.select(f"shared/{alice}/Work")[0] == "NO"
    work = system.maildir("alice") / ".Work"
    for path in (work, *(work / name for name in ("cur", "new", "tmp"))):
        found = path.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (
            0o2770, system.uids["alice"], system.gid,
        ), path  # fmt: skip
    (mail,) = work.glob("[cn]??/*")
    assert (mail.stat().st_mode & 0o7777, mail.stat().st_gid) == (0o660, system.gid)
    sharing_map = system.top / "db" / "shared-mailboxes.db"
    assert (sharing_map.stat().st_mode & 0o7777, sharing_map.stat().st_gid) == (0o660, system.gid)
    # The group is the mail processes' alone: an SSH session of bob reads nothing.
    assert system.run("cat", str(mail), user="bob").returncode != 0
    assert "denied" in system.run("ls", str(work), user="bob").stderr
    assert system.run("cat", str(mail), user="alice").returncode == 0


def test_sharing_from_the_command_line(system: SystemHost) -> None:
    carol, dave = system.names["carol"], system.names["dave"]
    system.sharefs("mailbox", "create", "-u", carol, "Plans")
    told = system.sharefs("share", "add", "-u", carol, "Plans", dave, "--role", "editor")
    assert f"Plans: user={dave} has " in told
    assert (system.maildir("carol") / ".Plans").stat().st_uid == system.uids["carol"]
    with system.server.imap(dave, PASSWORD) as client:
        status, listed = client.list('""', "shared/%/%")
        assert (status, listed) == (
            "OK",
            [f'(\\HasNoChildren) "/" "shared/{carol}/Plans"'.encode()],
        )
        assert client.append(f"shared/{carol}/Plans", "", "", message("From Dave"))[0] == "OK"
    (mail,) = (system.maildir("carol") / ".Plans").glob("[cn]??/*")
    found = mail.stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (
        0o660, system.uids["dave"], system.gid,
    )  # fmt: skip
    assert f"{system.names['carol']}mail" not in system.sharefs("user", dave)
    assert "mail_access_groups" in system.sharefs("user", dave)
    system.sharefs("share", "remove", "-u", carol, "Plans", dave)
    with system.server.imap(dave, PASSWORD) as client:
        assert client.list('""', "shared*")[1] == [None]


def test_a_wrong_password_is_refused_by_pam(system: SystemHost) -> None:
    with (
        pytest.raises(Exception, match="AUTHENTICATIONFAILED"),
        system.server.imap(system.names["dave"], "wrong"),
    ):
        raise AssertionError("logged in")


def test_a_user_looks_at_his_own_mailboxes(system: SystemHost) -> None:
    """Without root `sharefs` acts as whoever runs it, and for nobody else."""
    command = [*as_user(system.uids["alice"]), sys.executable, "-m", "sharefs"]
    command += ["-c", str(system.server.config), "mailbox", "list"]
    own = system.run(*command)
    assert "INBOX" in own.stdout.splitlines(), own.stderr
    others = system.run(*command, "-u", system.names["bob"])
    assert others.returncode != 0
    assert "only root can act for" in others.stderr
