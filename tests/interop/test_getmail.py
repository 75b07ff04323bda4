"""getmail: fetches from a shared mailbox what is new since the last time, and leaves it there."""

import pwd
import subprocess
from pathlib import Path

import pytest

from tests.interop.host import Host, make_maildir, message
from tests.support.dovecot import PASSWORD

pytestmark = [pytest.mark.superuser, pytest.mark.clients]

RC = """
[retriever]
type = SimpleIMAPSSLRetriever
server = localhost
port = {port}
ca_certs = {cert}
username = bob
password = {password}
mailboxes = ("INBOX", "shared/alice/Work")

[destination]
type = Maildir
path = {fetched}/
user = nobody

[options]
delete = false
read_all = false
delivered_to = false
received = false
"""


def getmail(home: Path) -> str:
    """One run.  What it printed.  Raises AssertionError unless it succeeded."""
    done = subprocess.run(
        ["getmail", "--getmaildir", str(home), "--rcfile", str(home / "getmailrc")],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_is_new_is_fetched_once(host: Host, tmp_path: Path) -> None:
    with host.server.imap("alice") as alice:
        alice.create("Work")
        alice.append("Work", "", "", message("one"))
        alice.setacl("Work", "bob", "lrs")
    # It delivers nothing as root.
    nobody = pwd.getpwnam("nobody")
    top = host.home("bob") / "fetched"
    make_maildir(top, 0o700, nobody.pw_uid, nobody.pw_gid)
    port, cert = host.server.tls_port, host.certificate
    (tmp_path / "getmailrc").write_text(
        RC.format(port=port, cert=cert, fetched=top, password=PASSWORD)
    )
    fetched = top / "new"
    getmail(tmp_path)
    assert len(list(fetched.iterdir())) == 1
    getmail(tmp_path)
    assert len(list(fetched.iterdir())) == 1
    with host.server.imap("alice") as alice:
        alice.append("Work", "", "", message("two"))
    getmail(tmp_path)
    texts = [path.read_bytes() for path in fetched.iterdir()]
    assert sorted(b"Subject: two" in text for text in texts) == [False, True]
    assert len(list((host.maildir("alice") / ".Work").glob("[cn]??/*"))) == 2
