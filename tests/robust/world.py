"""A host to be rough with: four users of their own uids who share through one group.

Everything lies below one directory: home/USER/Maildir, public, db.  Only mail processes have the
group that the mail is shared by.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.service.clients import Talk, logged_in
from tests.support.dovecot import MailUser
from tests.support.server import TOP, Server, private_server
from tests.support.trees import remove_tree

UIDS: Final = {"alice": 47001, "bob": 47002, "carol": 47003, "dave": 47004}
GROUP: Final = 47100

CONFIG: Final = """
mail_driver = maildir
mail_path = ~/Maildir
mail_access_groups = {group}
acl_driver = vfile
acl_sharing_map {{
  dict file {{
    path = {top}/db/shared-mailboxes.db
  }}
}}
namespace inbox {{
  type = private
  separator = /
  inbox = yes
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/$user/
  mail_path = %{{owner_home}}/Maildir
  mail_index_private_path = ~/private/%{{owner_user}}
  subscriptions = no
  list = children
}}
namespace public {{
  type = public
  separator = /
  prefix = Public/
  mail_path = {top}/public
  subscriptions = no
  list = children
}}
"""


@dataclass
class World:
    """See the module.  Made by world()."""

    top: Path
    server: Server

    def home(self, user: str) -> Path:
        return self.top / "home" / user

    def maildir(self, user: str) -> Path:
        return self.home(user) / "Maildir"

    def user(self, name: str) -> contextlib.AbstractContextManager[Talk]:
        """A logged in client that sends and expects exact octets."""
        return logged_in(self.server, name)

    def fresh(self, user: str) -> Path:
        """This user's mail as on the first day.  Returns the mail root."""
        remove_tree(self.home(user))
        uid = UIDS[user]
        make_dir(self.home(user), 0o711, uid, uid)
        return make_dir(self.maildir(user), 0o2770, uid, GROUP)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The `sharefs` command as root, with the server's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "sharefs", "-c", os.fspath(self.server.config), *words],
            env={**os.environ, "PYTHONPATH": str(TOP)},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            check=False,
        )

    def demand_sound(self, skip: int = 0) -> None:
        """Nothing in the log (from that octet on) is a bug of ours, and everybody is served."""
        text = self.server.log_text()[skip:]
        assert "Our bug" not in text, text
        assert "Traceback" not in text, text
        for name in UIDS:
            with self.user(name) as client:
                assert ok(client.ask(b"s SELECT INBOX"))


def make_dir(path: Path, mode: int, uid: int, gid: int) -> Path:
    """A directory with exactly this mode."""
    path.mkdir(parents=True)
    os.chown(path, uid, gid)
    path.chmod(mode)  # after chown(2), which clears the setgid bit
    return path


def make_maildir(path: Path, uid: int, acl: str = "", messages: Sequence[bytes] = ()) -> Path:
    """A Maildir of the group, with an ACL file if acl is not empty, and messages in cur/."""
    make_dir(path, 0o2770, uid, GROUP)
    for name in ("cur", "new", "tmp"):
        make_dir(path / name, 0o2770, uid, GROUP)
    if path.name.startswith("."):
        put_file(path / "maildirfolder", b"", uid)
    if acl:
        put_file(path / "dovecot-acl", acl.encode(), uid)
    for number, octets in enumerate(messages, 1):
        put_file(path / "cur" / f"{1_700_000_000 + number}.M{number}P1.host:2,", octets, uid)
    return path


def put_file(path: Path, content: bytes, uid: int, mode: int = 0o660) -> Path:
    """A file of the group."""
    path.write_bytes(content)
    os.chown(path, uid, GROUP)
    path.chmod(mode)
    return path


def message(subject: str, text: str = "text") -> bytes:
    return f"From: a@example.org\nSubject: {subject}\n\n{text}\n".encode()


def ok(answer: Sequence[bytes]) -> bool:
    """Whether the tagged line says OK."""
    return answer[-1].split(b" ")[1] == b"OK"


def status_of(answer: Sequence[bytes]) -> str:
    """OK, NO or BAD, with the response code if there is one."""
    words = answer[-1].decode("ascii", "replace").split(" ")
    code = words[2].strip("[]\r\n") if words[2].startswith("[") else ""
    return f"{words[1]} {code}".strip()


def append(client: Talk, mailbox: bytes, octets: bytes, flags: bytes = b"") -> list[bytes]:
    """APPEND with a non-synchronising literal."""
    client.send(b"ap APPEND %b %b{%d+}\r\n%b\r\n" % (mailbox, flags, len(octets), octets))
    return client.until(b"ap ")


def deadline(seconds: float) -> Iterator[None]:
    """Goes on for so many seconds, once at least."""
    end = time.monotonic() + seconds
    yield
    while time.monotonic() < end:
        yield


@contextlib.contextmanager
def world(extra: str = "", *, users: Sequence[MailUser] = ()) -> Iterator[World]:
    """The host for the length of a `with`.  extra: configuration.  users: further ones."""
    top = Path(tempfile.mkdtemp(prefix="host-of-sharefs-"))
    top.chmod(0o755)
    try:
        for name in ("home", "db"):
            (top / name).mkdir()
        os.chown(top / "db", 0, GROUP)
        (top / "db").chmod(0o2770)
        make_dir(top / "public", 0o2770, 0, GROUP)
        accounts = [MailUser(name, uid, uid, top / "home" / name) for name, uid in UIDS.items()]
        config = CONFIG.format(top=top, group=GROUP) + extra
        with private_server(config, [*accounts, *users]) as server:
            host = World(top, server)
            for name in UIDS:
                host.fresh(name)
            yield host
    finally:
        shutil.rmtree(top, ignore_errors=True)
