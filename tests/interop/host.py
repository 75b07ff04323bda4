"""Hosts with several users of their own uids, as the seeds describe them, for real clients.

Everything of a host lies below one directory: home/USER, public, db, and what a host adds.  Nobody
but the mail processes has the group that the mail is shared by.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.dovecot import PASSWORD, MailUser
from tests.support.server import TOP, Server, certificate, private_server
from tests.support.trees import remove_tree

UIDS: Final = {
    "alice": 46001,
    "bob": 46002,
    "carol": 46003,
    "dave": 46004,
    # As the seed spells them in its conversations.
    "myself": 46005,
    "user@domain": 46006,
    "ann@ex.org": 46007,
    "ben@ex.org": 46008,
    "cyd@other.org": 46009,
}
FIELDS: Final = {"bob": ("acl_groups=staff",), "carol": ("acl_groups=staff",)}
SHARED: Final = "sharedmail"
SHARED_GID: Final = 46100
MASTER: Final = "admin"

COMMAND_TIMEOUT: Final = 60.0  # seconds; on a busy machine too


@dataclass(frozen=True, slots=True)
class Kind:
    """config: with {top} and {group}.  prepare: makes directories beyond homes, after each wipe.

    whole: config is everything in the file, with {base}, {cert}, {key} and both ports besides.
    """

    config: str
    prepare: Callable[["Host"], None]
    whole: bool = False


@dataclass
class Host:
    """A running host.  Use running_host()."""

    top: Path
    server: Server
    kind: Kind
    password: str = PASSWORD

    @property
    def names(self) -> Mapping[str, int]:
        return {**UIDS, SHARED: SHARED_GID, "root": 0}

    def home(self, user: str) -> Path:
        return self.top / "home" / user

    def maildir(self, user: str) -> Path:
        return self.home(user) / "Maildir"

    @property
    def certificate(self) -> Path:
        """To be trusted by clients; it is for "localhost"."""
        return self.top / "cert.pem"

    def connect(self) -> socket.socket:
        return self.server.connect()

    def command(self, user: str, line: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the host's directory; `sharefs` is ours with its configuration."""
        return subprocess.run(
            [*as_user(user), "sh", "-c", line],
            cwd=self.top,
            env={**os.environ, "PATH": f"{self.top}/bin:{os.environ['PATH']}", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )

    def log(self) -> str:
        return self.server.log_text()

    def wipe(self) -> None:
        """As new: empty homes, an empty public tree, nothing shared."""
        for name in ("home", "public", "db", "team", "vmail"):
            remove_tree(self.top / name)
        make_dir(self.top / "home", 0o755, 0, 0)
        for user, uid in UIDS.items():
            make_dir(self.home(user), 0o711, uid, uid)
            make_dir(self.maildir(user), 0o2770, uid, SHARED_GID)
        make_dir(self.top / "db", 0o2770, 0, SHARED_GID)
        self.kind.prepare(self)


def as_user(user: str) -> list[str]:
    """setpriv(1) for a user as a login shell would have it: without the mail group."""
    if user == "root":
        return []
    return ["setpriv", f"--reuid={UIDS[user]}", f"--regid={UIDS[user]}", "--clear-groups"]


def make_dir(path: Path, mode: int, uid: int, gid: int) -> Path:
    """A directory with exactly this mode; its parents as the umask says."""
    path.mkdir(parents=True)
    os.chown(path, uid, gid)
    path.chmod(mode)  # after chown(2), which clears the setgid bit
    return path


def make_maildir(path: Path, mode: int, uid: int, gid: int, acl: str = "") -> Path:
    """A Maildir with its three directories, and an ACL file if acl is not empty."""
    make_dir(path, mode, uid, gid)
    for name in ("cur", "new", "tmp"):
        make_dir(path / name, mode, uid, gid)
    if acl:
        put_file(path / "dovecot-acl", acl.encode(), mode & 0o666, uid, gid)
    return path


def put_file(path: Path, content: bytes, mode: int, uid: int, gid: int) -> Path:
    """A file, moved into place whole."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    os.chown(temporary, uid, gid)
    temporary.chmod(mode)
    return temporary.rename(path)


def message(subject: str, text: str = "text") -> bytes:
    """A small message with CRLF line ends."""
    return (
        f"From: Alice <alice@example.org>\r\nTo: bob@example.org\r\nSubject: {subject}\r\n"
        f"Date: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: <{subject.replace(' ', '.')}"
        f"@example.org>\r\n\r\n{text}\r\n"
    ).encode()


COMMON: Final = """
mail_driver = maildir
mail_path = ~/Maildir
mail_access_groups = {group}
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
passdb masters {{
  driver = passwd-file
  master = yes
  passwd_file_path = {top}/masters
}}
auth_master_user_separator = *
"""

INBOX: Final = """
namespace inbox {{
  type = private
  separator = /
  prefix =
  inbox = yes
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
  mailbox Sent {{
    auto = subscribe
    special_use = \\Sent
  }}
}}
"""

SHARED_NAMESPACE: Final = """
namespace shared {{
  type = shared
  separator = /
  prefix = shared/$user/
  mail_path = %{{owner_home}}/Maildir
  mail_index_private_path = ~/Maildir/shared/%{{owner_user}}
  subscriptions = no
  list = children
}}
"""


@contextlib.contextmanager
def running_host(kind: Kind) -> Iterator[Host]:
    """The host for the length of a `with`; call wipe() before using it."""
    top = Path(tempfile.mkdtemp(prefix="sharefs-interop-"))
    top.chmod(0o755)
    try:
        (top / "masters").write_text(f"{MASTER}:{{PLAIN}}{PASSWORD}\n")
        (top / "bin").mkdir()
        users = [
            MailUser(name, uid, uid, top / "home" / name, FIELDS.get(name, ()))
            for name, uid in UIDS.items()
        ]
        config = "" if kind.whole else kind.config.format(top=top, group=SHARED_GID)
        with private_server(config, users, start=False) as server:
            if kind.whole:
                cert, key = certificate()
                text = kind.config.format(
                    top=top, group=SHARED_GID, base=server.base, cert=cert, key=key,
                    port=server.port, tls_port=server.tls_port,
                )  # fmt: skip
                server.config.write_text(text)
            server.start()
            shutil.copyfile(certificate()[0], top / "cert.pem")  # which every user may read
            script = top / "bin" / "sharefs"
            script.write_text(
                f"#!/bin/sh\nPYTHONPATH={TOP} exec {sys.executable} -m sharefs"
                f' -c {server.config} "$@"\n'
            )
            script.chmod(0o755)
            yield Host(top, server, kind)
    finally:
        shutil.rmtree(top, ignore_errors=True)
