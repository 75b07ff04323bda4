"""The two servers, each on its own copy of the same mail, as rows see them: a Side.

Both have what the same service needs and nothing more: ACLs and shared mailboxes, TLS, the same
mail_fsync, no limit on connections of one address.  Dovecot keeps its indexes and its cache with
the mail, as by default; it has no full text search (Debian's needs a separate engine).
"""

import abc
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from benchmarks.client import Client
from tests.support.dovecot import PASSWORD, Dovecot, MailUser, private_dovecot
from tests.support.server import Server, certificate, free_ports, private_server

GROUP: Final = 7300  # of shared mailboxes
USER: Final = "user"  # whose INBOX is the mailbox of this size
MANY: Final = "many"  # who has a thousand mailboxes
UNSYNCED: Final = "unsynced"  # as user, with mail_fsync = never
OWNER: Final = "owner"  # who shares a mailbox
FRIEND: Final = "friend"  # with somebody of another uid
CROWD: Final = tuple(f"crowd{number:02}" for number in range(50))  # each with a uid of his own
UIDS: Final = {
    name: 7301 + number for number, name in enumerate((USER, MANY, UNSYNCED, OWNER, FRIEND, *CROWD))
}

_PATIENCE: Final = 1800.0  # seconds for a server to become quiet
_CONNECTIONS: Final = 5000
_ASIDE: Final = "aside-"  # before names of what is put back later

_DOVECOT: Final = """
mail_location = maildir:~/Maildir
mail_fsync = optimized
mail_access_groups = {group}
mail_plugins = acl
protocol imap {{
  mail_plugins = acl imap_acl
  mail_max_userip_connections = 0
}}
plugin {{
  acl = vfile
  acl_shared_dict = file:{top}/shared-mailboxes.db
}}
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
default_client_limit = {connections}
default_process_limit = {connections}
# Its process maps the cache of the mailbox, 250 MB of half a million messages.
default_vsz_limit = 2G
service imap-login {{
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service imap {{
  process_limit = {connections}
}}
service auth {{
  unix_listener auth-userdb {{
    mode = 0777
  }}
}}
namespace inbox {{
  separator = /
  inbox = yes
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/%%u/
  location = maildir:%%h/Maildir:INDEX=~/shared-index/%%u:INDEXPVT=~/private/%%u
  subscriptions = no
  list = children
}}
"""
_SHAREFS: Final = """
mail_driver = maildir
mail_path = ~/Maildir
mail_fsync = optimized
mail_access_groups = {group}
mail_max_userip_connections = 0
default_client_limit = {connections}
acl_driver = vfile
acl_sharing_map {{
  dict file {{
    path = {top}/shared-mailboxes.db
  }}
}}
service imap {{
  process_limit = {connections}
}}
namespace inbox {{
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
"""
# What Dovecot keeps when it is told to index everything that sharefs keeps, but for the text.
_ALWAYS: Final = (
    "flags date.sent date.received size.virtual imap.envelope imap.body imap.bodystructure"
    " mime.parts hdr.from hdr.to hdr.cc hdr.bcc hdr.subject hdr.date hdr.message-id"
    " hdr.references hdr.in-reply-to"
)


class Side(abc.ABC):
    """One running server.  top: below it are the users' homes."""

    name: str
    quiet: float = 0.1  # seconds without use of the processor after which nothing is left to do

    def __init__(self, top: Path, port: int, tls_port: int) -> None:
        self.top = top
        self.port = port
        self.tls_port = tls_port
        self.capabilities = frozenset[bytes]()

    def home(self, user: str) -> Path:
        return self.top / user

    def client(self, user: str, *commands: bytes, tls: bool = False) -> Client:
        """Logged in, with these commands given.  The caller closes it; a `with` does."""
        client = Client(self.tls_port if tls else self.port, tls=tls)
        client.ask(f"LOGIN {user} {PASSWORD}".encode())
        for command in commands:
            client.ask(command)
        return client

    def learn_capabilities(self) -> None:
        with self.client(USER) as client:
            self.capabilities = frozenset(client.answer(b"CAPABILITY").split()[2:])

    # -- its processes ---------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def pid(self) -> int:
        """Of its master process."""

    def processes(self) -> list[psutil.Process]:
        master = psutil.Process(self.pid)
        return [master, *master.children(recursive=True)]

    def _used(self) -> float:
        """Seconds of processor time of all processes that are there."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def wait_until_quiet(self) -> None:
        """Until what it does in the background is done.  Raises TimeoutError."""
        deadline = time.monotonic() + _PATIENCE
        before = self._used()
        while True:
            time.sleep(self.quiet)
            now = self._used()
            if now - before < 0.02:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is not quiet after {_PATIENCE} s")
            before = now

    def memory(self) -> int:
        """Octets of memory of all its processes, shared pages counted once (PSS)."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    # -- what it keeps ---------------------------------------------------------------------

    @abc.abstractmethod
    def forget(self, user: str) -> None:
        """Have it know nothing of the user's mail but what is on disk.  No session is open."""

    @abc.abstractmethod
    def wait_until_asleep(self) -> None:
        """Until idle connections take no more than they ever will.  Raises TimeoutError."""

    @abc.abstractmethod
    def kept(self, user: str, prefix: str = "") -> list[Path]:
        """What is kept of INBOX besides the mail and its UIDs, its names being behind prefix."""

    def drop_index(self, user: str) -> None:
        """Remove all of that."""
        self.forget(user)
        for path in self.kept(user):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextlib.contextmanager
    def without_index(self, user: str) -> Iterator[None]:
        """For the length of a `with` nothing of that is there; then it is as it was."""
        self.forget(user)
        for path in self.kept(user):
            path.rename(path.with_name(_ASIDE + path.name))
        try:
            yield
        finally:
            self.wait_until_quiet()
            self.drop_index(user)
            self.put_back(user)

    def put_back(self, user: str) -> None:
        """What without_index() took away, if a run was cut short in there."""
        aside = self.kept(user, _ASIDE)
        if aside:
            self.drop_index(user)
        for path in aside:
            path.rename(path.with_name(path.name.removeprefix(_ASIDE)))

    @abc.abstractmethod
    def build_index(self, user: str) -> None:
        """Keep all that can be kept of INBOX.  Returns when that is done."""

    @abc.abstractmethod
    def drop_orphans(self, user: str) -> None:
        """Remove what is kept of mailboxes that are gone."""

    @abc.abstractmethod
    def index_octets(self, user: str) -> int:
        """How large that is on disk."""


class DovecotSide(Side):
    name = "dovecot"

    def __init__(self, top: Path, server: Dovecot, tls_port: int) -> None:
        super().__init__(top, server.port, tls_port)
        self._server = server

    @property
    def pid(self) -> int:
        return self._server.pid

    def forget(self, user: str) -> None:
        """Nothing to do: every login has a process of its own."""

    def wait_until_asleep(self) -> None:
        """Nothing to do: its processes stay as they are, unless it is told otherwise."""

    def kept(self, user: str, prefix: str = "") -> list[Path]:
        return list(self.home(user).joinpath("Maildir").glob(f"{prefix}dovecot.index*"))

    def build_index(self, user: str) -> None:
        self._server.doveadm(
            "-o", f"mail_always_cache_fields={_ALWAYS}", "index", "-u", user, "INBOX",
            timeout=_PATIENCE,
        )  # fmt: skip

    def drop_orphans(self, user: str) -> None:
        """Nothing to do: indexes are in the mailboxes."""

    def index_octets(self, user: str) -> int:
        return sum(path.stat().st_size for path in self.kept(user))


class SharefsSide(Side):
    name = "sharefs"
    quiet = 0.7  # its indexer begins half a second after the last new message

    def __init__(self, top: Path, server: Server) -> None:
        super().__init__(top, server.port, server.tls_port)
        self._server = server

    @property
    def pid(self) -> int:
        return self._server.pid

    def forget(self, user: str) -> None:
        """End his workers; the next login gets a new one."""
        workers = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # login processes come and go
                if UIDS[user] in process.uids():
                    process.terminate()
                    workers.append(process)
        psutil.wait_procs(workers, 10)

    def wait_until_asleep(self) -> None:
        """Until nobody has a worker."""
        deadline = time.monotonic() + 60
        ours = set(UIDS.values())
        while True:
            awake = 0
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    awake += bool(ours.intersection(process.uids()))
            if not awake:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{awake} workers are still there")
            time.sleep(0.5)

    def kept(self, user: str, prefix: str = "") -> list[Path]:
        return list(self.home(user).joinpath(".cache", "sharefs").glob(f"{prefix}index"))

    def _run(self, *words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "sharefs", "-c", self._server.config, *words],
            check=True, capture_output=True,
        )  # fmt: skip

    def build_index(self, user: str) -> None:
        self._run("index", "build", "-u", user, "INBOX")

    def drop_orphans(self, user: str) -> None:
        self._run("index", "drop", "-u", user, "--orphans")

    def index_octets(self, user: str) -> int:
        return sum(
            path.stat().st_size for top in self.kept(user) for path in top.rglob("*.sqlite3")
        )


@contextlib.contextmanager
def both(top: Path) -> Iterator[tuple[DovecotSide, SharefsSide]]:
    """Both servers on top/dovecot and top/sharefs for the length of a `with`."""
    cert, key = certificate()
    (tls_port,) = free_ports(1)

    def settings(text: str, name: str) -> str:
        return text.format(
            top=top / name, group=GROUP, cert=cert, key=key, tls_port=tls_port,
            connections=_CONNECTIONS,
        )  # fmt: skip

    with (
        private_dovecot(settings(_DOVECOT, "dovecot"), _users(top / "dovecot")) as dovecot,
        private_server(settings(_SHAREFS, "sharefs"), _users(top / "sharefs")) as sharefs,
    ):
        sides = (
            DovecotSide(top / "dovecot", dovecot, tls_port),
            SharefsSide(top / "sharefs", sharefs),
        )
        for side in sides:
            side.learn_capabilities()
        yield sides


def _users(homes: Path) -> list[MailUser]:
    fields = {UNSYNCED: ("mail_fsync=never",)}
    return [
        MailUser(name, uid, uid, homes / name, fields.get(name, ())) for name, uid in UIDS.items()
    ]
