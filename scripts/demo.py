"""The main job, for real: alice shares a mailbox with bob, carol may not look.

Run by scripts/demo.  Everything lives below one directory of its own and is removed at the end,
unless --directory names one to keep.
"""

import argparse
import io
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PORT, TLS_PORT = 1143, 1993
PASSWORD = "secret"
USERS = {"alice": 7001, "bob": 7002, "carol": 7003}  # need not be in /etc/passwd
SHARED_GROUP = 7100  # nor this in /etc/group

CONFIGURATION = """\
dovecot_config_version = 2.4.0
base_dir = {top}/run
log_path = {top}/log
protocols = imap
listen = 127.0.0.1
first_valid_uid = 1
first_valid_gid = 1
ssl = yes
ssl_server_cert_file = {top}/cert.pem
ssl_server_key_file = {top}/key.pem

service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}

passdb passwd-file {{
  passwd_file_path = {top}/users
}}
userdb passwd-file {{
  passwd_file_path = {top}/users
}}

mail_driver = maildir
mail_path = {top}/mail/%{{user}}/Maildir
# Only mail processes are in this group; an SSH session of the same user is not.
mail_access_groups = {group}

namespace inbox {{
  type = private
  separator = /
  prefix =
  inbox = yes
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
}}
namespace public {{
  type = public
  separator = /
  prefix = Public/
  mail_path = {top}/public
  mail_index_private_path = ~/seen/public
  subscriptions = no
  list = children
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/$user/
  mail_path = {top}/mail/%{{owner_user}}/Maildir
  mail_index_private_path = ~/seen/%{{owner_user}}
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
    path = {top}/map/shared-mailboxes.db
  }}
}}
"""

MAIL = """\
From: Alice <alice@example.org>\r
To: Bob <bob@example.org>\r
Subject: {subject}\r
Date: Sat, 21 Nov 2026 09:00:00 +0000\r
Message-ID: <{number}@example.org>\r
\r
{text}\r
"""


def mail(number: int, subject: str, text: str) -> bytes:
    return MAIL.format(number=number, subject=subject, text=text).encode()


@dataclass
class Report:
    """What was checked.  Prints as it goes; failures are told again at the end."""

    failures: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        print(f"\n\033[1m{text}\033[0m")

    def check(self, claim: str, holds: bool) -> None:
        print(f"  {'✓' if holds else '✗'} {claim}")
        if not holds:
            self.failures.append(claim)


class Client:
    """A client that shows what it says and hears."""

    def __init__(self, name: str, *, tls: bool = False, quiet: bool = False) -> None:
        self.name = name
        self._quiet = quiet
        self._tag = 0
        stream = socket.create_connection(("127.0.0.1", TLS_PORT if tls else PORT), timeout=20)
        if tls:
            context = ssl.create_default_context()
            # The certificate was made a moment ago, by us, for this host alone.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            stream = context.wrap_socket(stream)
        self._socket = stream
        self._lines = stream.makefile("rb")
        self._show("S", self._lines.readline())
        self.login = self.say(f"LOGIN {name} {PASSWORD}")

    def _show(self, who: str, line: bytes) -> None:
        if not self._quiet:
            print(f"  {self.name:5} {who}: {line.decode('utf-8', 'replace').rstrip()}")

    def say(self, command: str, literal: bytes | None = None) -> str:
        """Send one command; everything that was answered, as text."""
        self._tag += 1
        tag = f"{self.name[0]}{self._tag}"
        if literal is not None:
            command += f" {{{len(literal)}+}}"
        line = f"{tag} {command}".encode()
        self._show("C", line)
        self._socket.sendall(line + b"\r\n" + ((literal + b"\r\n") if literal is not None else b""))
        heard = b""
        while True:
            line = self._lines.readline()
            if not line:
                return heard.decode("utf-8", "replace") + "\nconnection closed"
            self._show("S", line)
            heard += line
            if line.startswith(tag.encode() + b" "):
                return heard.decode("utf-8", "replace")

    def close(self) -> None:
        self.say("LOGOUT")
        self._lines.close()
        self._socket.close()


@contextmanager
def client(name: str, *, tls: bool = False, quiet: bool = False) -> Iterator[Client]:
    opened = Client(name, tls=tls, quiet=quiet)
    try:
        yield opened
    finally:
        opened.close()


def make_directory(path: Path, mode: int, uid: int, gid: int) -> None:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)  # after chown(2), which clears the setgid bit


def prepare(top: Path, *, as_root: bool) -> None:
    """Homes, mail roots, the map's directory, users, certificate, configuration."""
    top.chmod(0o711)
    uids = USERS if as_root else dict.fromkeys(USERS, os.getuid())
    group = SHARED_GROUP if as_root else os.getgid()
    owner = 0 if as_root else os.getuid()
    for name in ("home", "mail"):
        make_directory(top / name, 0o711, owner, group)
    for user, uid in uids.items():
        own_group = uid if as_root else os.getgid()
        make_directory(top / "home" / user, 0o700, uid, own_group)
        # The seed's advice: group-owned and setgid, so that every mailbox and message below
        # belongs to the group that only mail processes have.
        make_directory(top / "mail" / user, 0o2770, uid, group)
        make_directory(top / "mail" / user / "Maildir", 0o2770, uid, group)
    make_directory(top / "public", 0o2770, uids["alice"], group)
    make_directory(top / "map", 0o2770, owner, group)
    lines = [
        f"{user}:{{PLAIN}}{PASSWORD}:{uid}:{uid if as_root else group}::{top}/home/{user}::\n"
        for user, uid in uids.items()
    ]
    (top / "users").write_text("".join(lines))
    (top / "users").chmod(0o600)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", top / "key.pem",
         "-out", top / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    (top / "key.pem").chmod(0o600)
    text = CONFIGURATION.format(top=top, port=PORT, tls_port=TLS_PORT, group=group)
    if not as_root:
        text = text.replace("first_valid_uid = 1", "first_valid_uid = 0")
    (top / "sharefs.conf").write_text(text)


@contextmanager
def server(top: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server in the foreground as a child; yields once both ports answer."""
    command = [sys.executable, "-m", "sharefs", "-c", str(top / "sharefs.conf"), "serve"]
    process = subprocess.Popen([*command, "--foreground"])
    try:
        wait_for_ports(process, top)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


def wait_for_ports(process: subprocess.Popen[bytes], top: Path) -> None:
    deadline = time.monotonic() + 30
    for port in (PORT, TLS_PORT):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    log = (top / "log").read_text() if (top / "log").exists() else ""
                    raise SystemExit(f"The server did not start: {error}\n{log}") from error
                time.sleep(0.05)


def share(report: Report) -> None:
    """Alice's side: a mailbox, a message, the share."""
    report.title("alice makes a mailbox, files a message and shares it with bob")
    with client("alice") as alice:
        report.check("alice logs in", "OK [CAPABILITY" in alice.login)
        report.check("CREATE Work", "OK" in alice.say("CREATE Work"))
        heard = alice.say("APPEND Work", mail(1, "Minutes", "Agreed."))
        report.check("APPEND Work", "APPENDUID" in heard)
        report.check("SETACL Work bob lrs", "OK" in alice.say("SETACL Work bob lrs"))
        heard = alice.say("GETACL Work")
        report.check("GETACL shows bob with lrs, alice with everything",
                     "bob lrs" in heard and "alice lrwstipekxacd" in heard)  # fmt: skip


def read(report: Report) -> None:
    """Bob's side: he sees and reads, his \\Seen is his own, and he cannot damage anything."""
    report.title("bob sees the share, reads it, and can neither flag nor delete")
    with client("bob") as bob:
        report.check("LIST shows the share", "shared/alice/Work" in bob.say('LIST "" "shared/*"'))
        report.check("bob has lrs", " lrs" in bob.say("MYRIGHTS shared/alice/Work"))
        heard = bob.say("SELECT shared/alice/Work")
        report.check("only \\Seen can be changed", "[PERMANENTFLAGS (\\Seen)]" in heard)
        report.check("the message can be read", "Agreed." in bob.say("FETCH 1 (FLAGS BODY[TEXT])"))
        bob.say("STORE 1 +FLAGS (\\Deleted \\Flagged)")
        bob.say("EXPUNGE")
        heard = bob.say("FETCH 1 (FLAGS)")
        changed = "Deleted" in heard or "Flagged" in heard
        told = "FETCH (FLAGS" in heard
        report.check("\\Deleted and \\Flagged were not set", told and not changed)
        report.check("bob's \\Seen is set", "\\Seen" in heard)
        heard = bob.say("APPEND shared/alice/Work", mail(9, "No", "No."))
        report.check("APPEND is refused", "[NOPERM]" in heard)
        report.check("COPY to his own mailbox", "COPYUID" in bob.say("COPY 1 INBOX"))
    with client("alice", quiet=True) as alice:
        alice.say("SELECT Work")
        heard = alice.say("FETCH 1 (FLAGS)")
        unseen = "FETCH (FLAGS" in heard and "\\Seen" not in heard
        report.check("alice's copy is still unseen", unseen)


def lists_nothing(heard: str) -> bool:
    return " OK List" in heard and "* LIST" not in heard


def strangers(report: Report) -> None:
    report.title("carol has no right: for her it does not exist")
    with client("carol") as carol:
        report.check("LIST shows nothing", lists_nothing(carol.say('LIST "" "shared/*"')))
        refused = carol.say("SELECT shared/alice/Work")[3:]
        missing = carol.say("SELECT shared/zoe/Work")[3:]
        same = refused == missing and "NONEXISTENT" in refused
        report.check("SELECT answers as for a missing mailbox", same)


def public(report: Report) -> None:
    report.title("the public mailbox: everybody reads, over TLS as well")
    with client("bob", tls=True) as bob:
        report.check("LIST shows it", "Public/info" in bob.say('LIST "" "Public/*"'))
        report.check("SELECT is READ-ONLY", "[READ-ONLY]" in bob.say("SELECT Public/info"))
        heard = bob.say("FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
        report.check("it can be read", "Welcome" in heard)


def revoke(report: Report) -> None:
    report.title("alice takes the share back while bob has it open")
    with client("bob", quiet=True) as bob, client("alice") as alice:
        bob.say("SELECT shared/alice/Work")
        alice.say("DELETEACL Work bob")
        report.check("bob's next FETCH is refused", " NO [" in bob.say("FETCH 1 BODY[]"))
        report.check("bob's LIST is empty again", lists_nothing(bob.say('LIST "" "shared/*"')))
        alice.say("SETACL Work bob lrs")


def publish(top: Path, *, as_root: bool) -> None:
    """What an administrator does by hand: a public mailbox, and a file that says who reads it."""
    run_sharefs(top, "mailbox", "create", "-u", "alice", "Public/info", check=False)
    group = SHARED_GROUP if as_root else os.getgid()
    owner = USERS["alice"] if as_root else os.getuid()
    info = top / "public" / ".info"
    if not info.exists():
        make_directory(info, 0o2770, owner, group)
        for name in ("cur", "new", "tmp"):
            make_directory(info / name, 0o2770, owner, group)
    acl = info / "dovecot-acl"
    acl.write_text("anyone lr\n")
    message = info / "new" / "1795280800.M1P1.demo"
    message.write_bytes(mail(5, "Welcome", "Hello everybody."))
    for path in (acl, message):
        os.chown(path, owner, group)
        path.chmod(0o660)


def run_sharefs(top: Path, *arguments: str, check: bool = True) -> str:
    command = [sys.executable, "-m", "sharefs", "-c", str(top / "sharefs.conf"), *arguments]
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout


def command_line(report: Report, top: Path) -> None:
    report.title("the same from the command line")
    for arguments, want in [
        (("share", "add", "-u", "alice", "INBOX", "bob", "--role", "reader"), ""),
        (("share", "list", "-u", "alice"), "bob"),
        (("acl", "get", "-u", "alice", "Work"), "user=bob"),
        (("user", "bob"), "mail_access_groups"),
    ]:
        print(f"  $ sharefs {' '.join(arguments)}")
        printed = run_sharefs(top, *arguments, check=False)
        print("".join(f"    {line}\n" for line in printed.splitlines()), end="")
        report.check(f"sharefs {arguments[0]} {arguments[1]}", want in printed)


def processes(report: Report, server_pid: int, *, as_root: bool) -> None:
    """Each user's mail process, as the kernel sees it."""
    report.title("each user's mail process runs under that user's own uid")
    with client("alice", quiet=True), client("bob", quiet=True), client("carol", quiet=True):
        family = [psutil.Process(server_pid), *psutil.Process(server_pid).children(recursive=True)]
        print("     uid    gid     pid  groups                    process")
        uids = set()
        for process in sorted(family, key=lambda one: one.uids().real):
            status = Path(f"/proc/{process.pid}/status").read_text()
            groups = ",".join(status.partition("Groups:")[2].partition("\n")[0].split())
            uid, gid = process.uids().real, process.gids().real
            uids.add(uid)
            print(f"  {uid:6} {gid:6} {process.pid:7}  {groups[:24]:24}  {process.name()}")
    if as_root:
        report.check("workers of 7001, 7002 and 7003", set(USERS.values()) <= uids)


def permissions(report: Report, top: Path, *, as_root: bool) -> None:
    report.title("what that looks like on disk")
    work = top / "mail" / "alice" / "Maildir" / ".Work"
    for path in (work.parent, work, work / "cur", work / "new"):
        sys.stdout.flush()  # ls writes past our buffer
        subprocess.run(["ls", "-ln", path], check=False)
    for path in (work, work / "cur", work / "new", work / "tmp"):
        found = path.stat()
        good = stat.S_IMODE(found.st_mode) == 0o2770
        report.check(f"{path.name} is drwxrws---", good)
    files = [path for name in ("cur", "new") for path in (work / name).iterdir()]
    want_group = SHARED_GROUP if as_root else os.getgid()
    good = all(
        stat.S_IMODE(path.stat().st_mode) == 0o660 and path.stat().st_gid == want_group
        for path in files
    )
    report.check("messages are -rw-rw---- in the shared group", good)


def how_to_connect() -> None:
    print(f"""
\033[1mThe server stays up until Ctrl-C.  Try it:\033[0m
  mutt -f 'imap://bob:{PASSWORD}@127.0.0.1:{PORT}/shared/alice/Work'
  curl -k 'imaps://127.0.0.1:{TLS_PORT}/shared/alice/Work;MAILINDEX=1' -u bob:{PASSWORD}
  curl 'imap://127.0.0.1:{PORT}/' -u bob:{PASSWORD} -X 'LIST "" "*"'
Users: {", ".join(USERS)}; the password of all three is '{PASSWORD}'.
""")


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> int:
    # The listings come from ls(1): what we print must not wait in a buffer meanwhile.
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="check every answer, then exit 0 or 1")
    parser.add_argument("--directory", type=Path, help="work here and keep it (must not exist)")
    options = parser.parse_args()
    if busy := [port for port in (PORT, TLS_PORT) if taken(port)]:
        print(
            f"Port {busy[0]} is in use: stop what listens there, then try again.", file=sys.stderr
        )
        return 1
    as_root = os.getuid() == 0
    if not as_root:
        print(
            "Not root: all three users run under your own uid, so the kernel keeps nobody from"
            " anybody here.\nThe ACLs are enforced all the same."
            "  For the real thing: sudo scripts/demo"
        )
    if options.directory:
        options.directory.mkdir()
    top = options.directory or Path(tempfile.mkdtemp(prefix="sharefs-demo-"))
    report = Report()
    try:
        prepare(top, as_root=as_root)
        with server(top) as process:
            publish(top, as_root=as_root)
            share(report)
            read(report)
            strangers(report)
            public(report)
            revoke(report)
            command_line(report, top)
            processes(report, process.pid, as_root=as_root)
            permissions(report, top, as_root=as_root)
            if not options.once:
                how_to_connect()
                try:
                    process.wait()
                except KeyboardInterrupt:
                    print("\nStopping.")
    finally:
        if not options.directory:
            shutil.rmtree(top)
    print(f"\n{len(report.failures)} checks failed" if report.failures else "\nAll checks passed.")
    for claim in report.failures:
        print(f"  ✗ {claim}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
