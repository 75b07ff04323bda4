"""Our own server in a directory of its own, on loopback ports, as in production but for the paths.

private_server() starts `sharefs serve` with a configuration and users with any numeric uids, waits
until it says that it is ready, and at the end demands that no process of it is left.
"""

import atexit
import contextlib
import functools
import imaplib
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from tests.support.dovecot import PASSWORD, MailUser

# "yes": every test of the whole server is one of the index as well.
INDEX: Final = os.environ.get("SHAREFS_TEST_INDEX", "yes")
# Seconds after which connections fall asleep in every test of the server; empty: as configured.
DROWSY: Final = os.environ.get("SHAREFS_TEST_DROWSY", "")
# Seconds until a test gives up: no test that passes takes them, on a machine however busy.
PATIENCE: Final = 60.0
LEAVE_TIMEOUT: Final = 10.0  # seconds for the kernel to bury the killed, on a busy machine
TOP: Final = Path(__file__).resolve().parents[2]

_CONFIG: Final = """
dovecot_config_version = 2.4.0
base_dir = {base}/run
log_path = {base}/server.log
listen = 127.0.0.1
first_valid_uid = 1
first_valid_gid = 1
mail_fsync = never
auth_failure_delay = 0
sharefs_index = {index}
ssl_server_cert_file = {cert}
ssl_server_key_file = {key}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
passdb passwd-file {{
  passwd_file_path = {base}/users
}}
userdb passwd-file {{
  passwd_file_path = {base}/users
}}
!include {base}/extra.conf
"""


@functools.cache
def certificate() -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key, made once per test run."""
    where = Path(tempfile.gettempdir()) / f"sharefs-cert-{os.getuid()}-{os.getpid()}"
    where.mkdir(mode=0o700, exist_ok=True)
    atexit.register(shutil.rmtree, where, ignore_errors=True)
    cert, key = where / "cert.pem", where / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert),
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the server, as /proc tells."""

    pid: int
    name: str
    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    no_new_privs: bool
    root: str
    capabilities: int

    @classmethod
    def read(cls, pid: int) -> "Process":
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )

        def numbers(name: str) -> tuple[int, ...]:
            return tuple(int(word) for word in status[name].split())

        return cls(
            pid=pid,
            name=status["Name"].strip(),
            uids=numbers("Uid"),
            gids=numbers("Gid"),
            groups=numbers("Groups"),
            no_new_privs=status["NoNewPrivs"].strip() == "1",
            root=os.readlink(f"/proc/{pid}/root"),
            capabilities=int(status["CapPrm"], 16) | int(status["CapEff"], 16),
        )

    def descriptors(self) -> dict[int, str]:
        """What it has open."""
        found = {}
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found[int(name)] = os.readlink(f"/proc/{self.pid}/fd/{name}")
        return found


@dataclass
class Server:
    """A running server.  Use private_server() to start and stop one."""

    base: Path
    port: int
    tls_port: int
    command: Sequence[str] = ()
    uid: int | None = None  # run as this uid and gid, None: as the test does
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.base / "sharefs.conf"

    @property
    def pid(self) -> int:
        """The master's."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when the server is ready.  Raises AssertionError with its log otherwise."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            address = f"\0sharefs-test-{os.getpid()}-{self.port}"
            ready.bind(address)
            with open(self.base / "console.log", "ab") as console:
                command = self.command or [
                    sys.executable, "-m", "sharefs", "-c", str(self.config), "serve", "-F",
                ]  # fmt: skip
                self._process = subprocess.Popen(
                    [*(() if self.uid is None else as_user(self.uid)), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    cwd=TOP,
                    env={**os.environ, **self.environment, "NOTIFY_SOCKET": f"@{address[1:]}"},
                    start_new_session=True,
                )
            self.wait_notified(ready, "READY=1")

    def wait_notified(self, ready: socket.socket, state: str) -> None:
        """Until the server has sent state to the service manager's socket."""
        assert self._process is not None
        exited = os.pidfd_open(self._process.pid)
        try:
            deadline = time.monotonic() + PATIENCE
            while (left := deadline - time.monotonic()) > 0:
                readable = select.select([ready.fileno(), exited], [], [], left)[0]
                if ready.fileno() in readable and ready.recv(4096).decode().startswith(state):
                    return
                if exited in readable:
                    break
        finally:
            os.close(exited)
        raise AssertionError(f"the server did not say {state}:\n{self.log_text()}")

    def stop(self) -> None:
        """End the server.  Raises AssertionError if it does not, or processes are left over."""
        process, self._process = self._process, None
        if process is None:
            return
        family = _family(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server does not end:\n{self.log_text()}") from None
        finally:
            left = _end(family)
        assert not left, f"processes left over: {left}\n{self.log_text()}"

    def kill(self, *, timeout: float = PATIENCE) -> None:
        """SIGKILL for the master; the others must end by themselves."""
        process, self._process = self._process, None
        assert process is not None
        family = _family(process.pid)
        process.kill()
        process.wait()
        gone, left = psutil.wait_procs([p for p in family if p.pid != process.pid], timeout)
        _end(left)
        assert not left, f"processes outlived the master: {left}; {len(gone)} ended"

    # -- what it is made of ----------------------------------------------------------------

    def processes(self, name: str = "") -> list[Process]:
        """The server's living processes whose name begins with name: sharefs-login, sf-imap:bob."""
        found = []
        for process in _family(self.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(Process.read(process.pid))
        return sorted(
            (process for process in found if process.name.startswith(name)), key=lambda p: p.pid
        )

    def process(self, name: str) -> Process:
        """The one process of that name, once there is just one.

        A forked one has the name of its parent for a moment.
        """
        found: list[Process] = []

        def is_one() -> bool:
            found[:] = self.processes(name)
            return len(found) == 1

        wait_until(is_one, explain=self.log_text)
        return found[0]

    # -- clients ---------------------------------------------------------------------------

    def connect(self, *, timeout: float = PATIENCE) -> socket.socket:
        """A plain connection on which nothing has been read."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def connect_tls(self, *, timeout: float = PATIENCE) -> ssl.SSLSocket:
        """A connection to the IMAPS port, handshake done."""
        sock = socket.create_connection(("127.0.0.1", self.tls_port), timeout=timeout)
        return client_context().wrap_socket(sock, server_hostname="localhost")

    @contextlib.contextmanager
    def imap(
        self, user: str, password: str = PASSWORD, *, tls: bool = False
    ) -> Iterator[imaplib.IMAP4]:
        """A logged in client for the length of a `with`."""
        client: imaplib.IMAP4 = (
            imaplib.IMAP4_SSL(
                "localhost", self.tls_port, ssl_context=client_context(), timeout=PATIENCE
            )
            if tls
            else imaplib.IMAP4("127.0.0.1", self.port, timeout=PATIENCE)
        )
        try:
            client.login(user, password)
            yield client
        finally:
            with contextlib.suppress(imaplib.IMAP4.error, OSError):
                client.logout()
            with contextlib.suppress(OSError):
                client.shutdown()  # logout() does it too, unless the server was gone

    # -- logs ------------------------------------------------------------------------------

    def log_text(self) -> str:
        """Everything the server has logged, standard error first."""
        return "".join(
            path.read_text(errors="replace")
            for name in ("console.log", "server.log")
            if (path := self.base / name).exists()
        )

    def wait_for_log(self, pattern: str, timeout: float = PATIENCE) -> str:
        """The first line matching pattern, which may still be on its way."""
        wait_until(lambda: re.search(pattern, self.log_text()) is not None, timeout, self.log_text)
        found = re.search(f".*(?:{pattern}).*", self.log_text())
        assert found is not None
        return found[0]


def wait_until(
    claim: Callable[[], bool], timeout: float = PATIENCE, explain: Callable[[], str] = lambda: ""
) -> None:
    """Until claim() holds.  For what no descriptor can announce.  Raises AssertionError."""
    deadline = time.monotonic() + timeout
    while not claim():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain\n{explain()}"
        time.sleep(0.01)


@functools.cache
def client_context() -> ssl.SSLContext:
    """Trusts the test certificate and nothing else."""
    return ssl.create_default_context(cafile=str(certificate()[0]))


def as_user(uid: int) -> list[str]:
    """setpriv(1) for an ordinary user without groups.

    Where this interpreter lies in a home that others may not enter, the user gets the right to
    read it all the same.  The server's processes give that right up; it could not help them.
    """
    words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    places = [Path(sys.executable).resolve(), TOP, *map(Path, filter(os.path.isabs, sys.path))]
    doors = {parent for place in places if place.exists() for parent in (place, *place.parents)}
    if all(door.stat().st_mode & 0o001 for door in doors if door.is_dir()):
        return words
    return [*words, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def _family(pid: int) -> list[psutil.Process]:
    try:
        master = psutil.Process(pid)
        return [master, *master.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(family: list[psutil.Process]) -> list[psutil.Process]:
    """Kill what still runs; returns what that was.  Zombies of a dead master are not ours."""
    # What was killed a moment ago, as a worker is that does not end, may still be on its way out.
    _, staying = psutil.wait_procs(family, LEAVE_TIMEOUT)
    left = [process for process in staying if _is_alive(process)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, 5)
    return left


@contextlib.contextmanager
def private_server(
    config: str,
    users: Sequence[MailUser],
    *,
    command: Sequence[str] = (),
    uid: int | None = None,
    start: bool = True,
) -> Iterator[Server]:
    """A server with these settings (either form, added to ours) and users, stopped at the end.

    Homes are not created here.  Everybody's password is PASSWORD.  command: what to run, with
    "{config}" for the configuration's path.
    """
    base = Path(tempfile.mkdtemp(prefix="sharefs-server-"))
    base.chmod(0o755)
    port, tls_port = free_ports(2)
    cert, key = certificate()
    server = Server(base, port, tls_port, uid=uid)
    if DROWSY and not command:
        command = (sys.executable, "-m", "tests.support.drowsy_server", "{config}", DROWSY)
    server.command = [word.replace("{config}", str(server.config)) for word in command]
    server.config.write_text(
        _CONFIG.format(base=base, port=port, tls_port=tls_port, cert=cert, key=key, index=INDEX)
    )
    (base / "extra.conf").write_text(config)
    (base / "users").write_text("".join(user.line() for user in users))
    if uid is not None:
        shutil.copy(cert, base / "cert.pem")
        shutil.copy(key, base / "key.pem")
        server.config.write_text(
            _CONFIG.format(
                base=base,
                port=port,
                tls_port=tls_port,
                cert=base / "cert.pem",
                key=base / "key.pem",
                index=INDEX,
            )
        )
        for path in (base, *base.iterdir()):
            os.chown(path, uid, uid)
    try:
        if start:
            server.start()
        yield server
    finally:
        try:
            server.stop()
        finally:
            shutil.rmtree(base, ignore_errors=True)
