"""A real Dovecot 2.3 in a directory of its own, as the oracle of differential tests.

It never touches the system's service: own base_dir, own configuration, one port on loopback, users
from a passwd-file with any numeric uids.
"""

import contextlib
import imaplib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.become import Identity

START_TIMEOUT: Final = 60.0  # seconds until the first greeting
STOP_TIMEOUT: Final = 30.0
PASSWORD: Final = "pass"

_CONFIG: Final = """
base_dir = {base}/run
state_dir = {base}/state
instance_name = {name}
log_path = {base}/dovecot.log
info_log_path = {base}/dovecot-info.log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
first_valid_gid = 1
mail_fsync = never
default_vsz_limit = 256M
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
# The documented way for several system users to look up each other's homes.
service auth {{
  unix_listener auth-userdb {{
    mode = 0666
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {base}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {base}/users
}}
{extra}
"""


@dataclass(frozen=True, slots=True)
class MailUser:
    """A line of the passwd-file.  extra: userdb fields, without their `userdb_` prefix."""

    name: str
    uid: int
    gid: int
    home: Path
    extra: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity:
        return Identity(self.uid, self.gid)

    def line(self) -> str:
        fields = " ".join(f"userdb_{field}" for field in self.extra)
        return f"{self.name}:{{PLAIN}}{PASSWORD}:{self.uid}:{self.gid}::{self.home}::{fields}\n"


class Dovecot:
    """A running server.  Use private_dovecot() to start and stop one."""

    def __init__(self, base: Path, port: int) -> None:
        self.base = base
        self.port = port
        self.config = base / "dovecot.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The master's."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when the server greets.  Raises AssertionError with its log otherwise."""
        with open(self.base / "console.log", "wb") as console:
            self._process = subprocess.Popen(
                ["dovecot", "-F", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        # A runner that is killed closes the pipe, and so takes the server with it.  (Dovecot
        # changes its credentials, so PR_SET_PDEATHSIG would not last.)
        self._watchdog = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -TERM "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), self.connect() as connection:
                if connection.recv(4) == b"* OK":
                    return
            time.sleep(0.02)
        raise AssertionError(f"Dovecot did not start:\n{self.log_text()}")

    def stop(self) -> None:
        """Ends every process of this instance.  Harmless twice."""
        process, self._process = self._process, None
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            with watchdog:  # closes the pipe
                watchdog.kill()
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own session: only what it started
        process.wait()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=START_TIMEOUT)

    @contextlib.contextmanager
    def imap(self, user: str, password: str = PASSWORD) -> Iterator[imaplib.IMAP4]:
        """A logged in client for the length of a `with`."""
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=START_TIMEOUT)
        try:
            client.login(user, password)
            yield client
        finally:
            with contextlib.suppress(imaplib.IMAP4.error, OSError):
                client.logout()
            with contextlib.suppress(OSError):
                client.shutdown()  # logout() does it too, unless the server was gone

    def doveadm(
        self, *args: str, check: bool = True, stdin: bytes = b"", timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run `doveadm -c <our config> args`.  Raises AssertionError on failure, if check."""
        done = subprocess.run(
            ["doveadm", "-c", str(self.config), *args],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        got = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        if check and got.returncode:
            raise AssertionError(f"doveadm {' '.join(args)} failed:\n{got.stdout}{got.stderr}")
        return got

    def log_text(self) -> str:
        """Everything the instance has logged."""
        names = ("console.log", "dovecot.log", "dovecot-info.log")
        return "".join(
            (self.base / name).read_text(errors="replace")
            for name in names
            if (self.base / name).exists()
        )

    def wait_for_log(self, pattern: str, timeout: float = START_TIMEOUT) -> str:
        """The first line matching pattern, which may still be on its way."""
        deadline = time.monotonic() + timeout
        while True:
            if found := re.search(f".*(?:{pattern}).*", self.log_text()):
                return found[0]
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} not logged:\n{self.log_text()}")
            time.sleep(0.02)


@contextlib.contextmanager
def private_dovecot(config: str, users: Sequence[MailUser]) -> Iterator[Dovecot]:
    """A Dovecot with these settings (2.3 form, added to ours) and users, stopped at the end.

    Homes are not created here.  Everybody's password is PASSWORD.
    """
    base = Path(tempfile.mkdtemp(prefix="sharefs-dovecot-"))
    base.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Dovecot(base, port)
    server.config.write_text(_CONFIG.format(base=base, name=base.name, port=port, extra=config))
    (base / "users").write_text("".join(user.line() for user in users))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)
