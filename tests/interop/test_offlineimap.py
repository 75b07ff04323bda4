"""offlineimap: both directions between the server and a local Maildir, twice."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.interop.host import Host, message
from tests.support.dovecot import PASSWORD

pytestmark = [pytest.mark.superuser, pytest.mark.clients]

RC = """
[general]
accounts = bob
metadata = {home}/metadata
ui = basic
socktimeout = 20

[Account bob]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = {home}/near
sep = /

[Repository far]
type = IMAP
remotehost = localhost
remoteport = {port}
ssl = yes
sslcacertfile = {cert}
remoteuser = bob
remotepass = {password}
maxconnections = 2
"""


def offlineimap(host: Host, home: Path) -> str:
    """One run.  What it printed.  Raises AssertionError unless it succeeded."""
    done = subprocess.run(
        ["offlineimap", "-o", "-c", str(home / "rc")], env={"HOME": str(home), "PATH": "/usr/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout + done.stderr


def digests(*tops: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha1(path.read_bytes()).hexdigest()
        for top in tops
        for path in top.rglob("*")
        if path.is_file() and "dovecot.index.pvt" not in path.name
    }


def test_a_shared_mailbox_in_both_directions(host: Host, tmp_path: Path) -> None:
    with host.server.imap("alice") as alice:
        alice.create("Work")
        alice.append("Work", "(\\Flagged)", "", message("one"))
        alice.setacl("Work", "bob", "lrswite")
    port, cert = host.server.tls_port, host.certificate
    (tmp_path / "rc").write_text(RC.format(home=tmp_path, port=port, cert=cert, password=PASSWORD))
    offlineimap(host, tmp_path)
    near = tmp_path / "near" / "shared" / "alice" / "Work"
    (first,) = near.glob("[cn]??/*")
    assert first.name.endswith(":2,F")

    offlineimap(host, tmp_path)
    before = digests(near, host.maildir("alice"), host.maildir("bob"))
    offlineimap(host, tmp_path)
    assert digests(near, host.maildir("alice"), host.maildir("bob")) == before

    (near / "new" / "1795280900.near").write_bytes(message("two").replace(b"\r\n", b"\n"))
    first = next(near.glob("[cn]??/*:2,F"))
    first.rename(near / "cur" / f"{first.name}R")
    offlineimap(host, tmp_path)
    with host.server.imap("alice") as alice:
        alice.select("Work", readonly=True)
        assert alice.search(None, "ANSWERED")[1] == [b"1"]
        assert alice.search(None, "SUBJECT", "two")[1] == [b"2"]
