"""curl: lists, reads, appends, over plain text and TLS, with and without an initial response."""

import subprocess
from pathlib import Path

import pytest

from tests.interop.host import Host, message
from tests.support.dovecot import PASSWORD

pytestmark = [pytest.mark.superuser, pytest.mark.clients]

WORK = "shared/alice/Work"


def curl(
    host: Host, user: str, path: str, *options: str, tls: bool = False, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run curl on imap://localhost/path.  Its exit status is the caller's to judge."""
    scheme, port = ("imaps", host.server.tls_port) if tls else ("imap", host.server.port)
    # "localhost" is what the certificate is for; the server listens on 127.0.0.1 alone.
    return subprocess.run(
        ["curl", "-sS", "-4", "--max-time", "20", "--cacert", str(host.certificate),
         "-u", f"{user}:{PASSWORD}", *options, f"{scheme}://localhost:{port}/{path}"],
        input=stdin, capture_output=True, timeout=30, check=False,
    )  # fmt: skip


def output(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().replace("\r\n", "\n")


@pytest.fixture
def shared(host: Host) -> Host:
    """alice shares Work, with two messages, with bob."""
    with host.server.imap("alice") as alice:
        alice.create("Work")
        alice.append("Work", "", "", message("one", "first"))
        alice.append("Work", "(\\Flagged)", "", message("two", "second"))
        alice.setacl("Work", "bob", "lrs")
    return host


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_list_and_commands(shared: Host, tls: bool) -> None:
    listed = output(curl(shared, "bob", "", tls=tls))
    assert f'* LIST (\\HasNoChildren) "/" "{WORK}"\n' in listed
    got = output(curl(shared, "bob", "", "-X", f"STATUS {WORK} (MESSAGES UNSEEN)", tls=tls))
    assert got == f'* STATUS "{WORK}" (MESSAGES 2 UNSEEN 2)\n'
    got = output(curl(shared, "bob", "", "-X", f"MYRIGHTS {WORK}", tls=tls))
    assert got == f'* MYRIGHTS "{WORK}" lrs\n'


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_message_by_uid_and_by_number(shared: Host, tls: bool) -> None:
    got = curl(shared, "bob", f"{WORK};UID=2", tls=tls)
    assert got.stdout == message("two", "second"), got.stderr
    got = curl(shared, "bob", f"{WORK};MAILINDEX=1", tls=tls)
    assert got.stdout == message("one", "first"), got.stderr
    got = curl(shared, "bob", f"{WORK};UID=2;SECTION=HEADER.FIELDS%20(SUBJECT)", tls=tls)
    assert got.stdout == b"Subject: two\r\n\r\n", got.stderr
    found = output(curl(shared, "bob", f"{WORK}?SUBJECT%20two", tls=tls))
    assert found == "* SEARCH 2\n"


def test_uidvalidity_in_the_url_must_be_the_mailboxs(shared: Host) -> None:
    status = output(curl(shared, "bob", "", "-X", f"STATUS {WORK} (UIDVALIDITY)"))
    validity = int(status.split("UIDVALIDITY ")[1].rstrip(")\n"))
    assert curl(shared, "bob", f"{WORK};UIDVALIDITY={validity};UID=1").returncode == 0
    assert curl(shared, "bob", f"{WORK};UIDVALIDITY={validity + 1};UID=1").returncode != 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_append_keeps_every_octet(shared: Host, tmp_path: Path, tls: bool) -> None:
    mail = message("up", "".join(f"line {number}\r\n" for number in range(20_000)))
    (tmp_path / "mail").write_bytes(mail)
    output(curl(shared, "alice", "Work", "-T", str(tmp_path / "mail"), tls=tls))
    assert curl(shared, "bob", f"{WORK};UID=3").stdout == mail


def test_append_without_the_right_i_is_refused(shared: Host, tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(message("no"))
    assert (
        curl(shared, "bob", WORK, "-T", str(tmp_path / "mail")).returncode == 25
    )  # CURLE_UPLOAD_FAILED
    work = shared.maildir("alice") / ".Work"
    assert len([*work.glob("cur/*"), *work.glob("new/*")]) == 2


@pytest.mark.parametrize(
    "options",
    [(), ("--sasl-ir",), ("--login-options", "AUTH=PLAIN"),
     ("--login-options", "AUTH=PLAIN", "--sasl-ir"), ("--ssl-reqd",)],
    ids=["default", "sasl-ir", "plain", "plain-ir", "starttls"],
)  # fmt: skip
def test_every_way_to_log_in(shared: Host, options: tuple[str, ...]) -> None:
    assert WORK in output(curl(shared, "bob", "", *options))


def test_a_wrong_password_and_a_stranger(shared: Host) -> None:
    assert curl(shared, "bob", "", "-u", "bob:wrong").returncode == 67  # CURLE_LOGIN_DENIED
    assert (
        curl(shared, "carol", f"{WORK};UID=1").returncode == 67
    )  # as for any other SELECT that fails
    assert WORK not in output(curl(shared, "carol", ""))
