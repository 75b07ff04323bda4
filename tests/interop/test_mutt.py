"""mutt and neomutt in a terminal: open a shared mailbox by its URL, read, flag, leave."""

from pathlib import Path

import pytest

from tests.interop.host import Host, message
from tests.interop.terminal import Terminal
from tests.support.dovecot import PASSWORD
from tests.support.server import wait_until

pytestmark = [pytest.mark.superuser, pytest.mark.clients]

RC = """
set imap_user={user}
set imap_pass={password}
set ssl_starttls=no
set ssl_force_tls=no
set ssl_ca_certificates_file={cert}
set certificate_file={cert}
set folder={url}
set spoolfile={url}INBOX
set mail_check=1
set timeout=1
set sleep_time=0
set confirmappend=no
set quit=yes
set delete=yes
set move=no
set read_inc=0
set help=no
set wait_key=no
set beep=no
"""


def mutt(
    host: Host, program: str, user: str, mailbox: str, *, tls: bool = False, rc: str = ""
) -> Terminal:
    """program in a terminal as user, with that mailbox open.  rc: more of its settings."""
    scheme, port = ("imaps", host.server.tls_port) if tls else ("imap", host.server.port)
    url = f"{scheme}://localhost:{port}/"
    if program == "mutt":  # neomutt cannot
        rc += "set imap_deflate=yes\n"
    rc += RC.format(user=user, password=PASSWORD, cert=host.certificate, url=url)
    path = host.home(user) / "muttrc"
    path.write_text(rc)
    # As whoever runs the tests: mutt ends at once for a uid that has no name.
    command = [program, "-n", "-F", str(path), "-f", url + mailbox]
    return Terminal(command, {"HOME": str(host.home(user))})


def names(mailbox: Path) -> list[str]:
    """Files with messages, as they are called."""
    return sorted(path.name for path in mailbox.glob("[cn]??/*"))


@pytest.fixture
def shared(host: Host) -> Host:
    with host.server.imap("alice") as alice:
        alice.create("Work")
        alice.append("Work", "", "", message("Minutes of Monday", "All agreed."))
        alice.append("Work", "", "", message("Minutes of Tuesday", "Nobody agreed."))
        alice.setacl("Work", "bob", "lrswt")
    return host


@pytest.mark.parametrize(
    ("program", "tls"), [("mutt", False), ("mutt", True), ("neomutt", False)],
    ids=["mutt", "mutt-tls", "neomutt"],
)  # fmt: skip
def test_a_shared_mailbox_is_read_and_flagged(shared: Host, program: str, tls: bool) -> None:
    work = shared.maildir("alice") / ".Work"
    with mutt(shared, program, "bob", "shared/alice/Work", tls=tls) as terminal:
        terminal.wait("Minutes of Monday", "Minutes of Tuesday")
        terminal.press("1", "Enter", "Enter")
        terminal.wait("All agreed.", "Subject: Minutes of Monday")
        terminal.press("i")
        terminal.wait("Minutes of Tuesday")
        terminal.press("F")  # flag the message
        terminal.press("j")
        terminal.press("$")  # tell the server
        wait_until(
            lambda: any(name.endswith(":2,F") for name in names(work)), explain=terminal.screen
        )
        # What others do is shown while the mailbox is open.
        with shared.server.imap("alice") as alice:
            alice.append("Work", "", "", message("Minutes of Wednesday"))
        terminal.press("$")
        terminal.wait("Minutes of Wednesday")
        terminal.press("q")
        terminal.wait_end()
    assert [name.partition(":2,")[2] for name in names(work)].count("F") == 1
    with shared.server.imap("bob") as bob:
        bob.select("shared/alice/Work", readonly=True)
        assert bob.search(None, "SEEN")[1] == [b"1"]
    with shared.server.imap("alice") as alice:
        alice.select("Work", readonly=True)
        assert alice.search(None, "SEEN")[1] == [b""]


def test_mutt_idling_shows_new_mail_by_itself(shared: Host) -> None:
    with mutt(shared, "mutt", "bob", "shared/alice/Work", rc="set imap_idle=yes\n") as terminal:
        terminal.wait("Minutes of Tuesday")
        with shared.server.imap("alice") as alice:
            alice.append("Work", "", "", message("Minutes of Thursday"))
        terminal.wait("Minutes of Thursday")
        work = shared.maildir("alice") / ".Work"
        next(iter(work.glob("[cn]??/*"))).unlink()
        terminal.press("$")
        wait_until(lambda: "Msgs:2" in terminal.screen(), explain=terminal.screen)
        terminal.press("q")
        terminal.wait_end()


def test_deleting_needs_the_right_and_moves_nothing_without_it(shared: Host) -> None:
    """bob may mark for deletion (t) but not expunge (e): the message stays, marked."""
    work = shared.maildir("alice") / ".Work"
    with mutt(shared, "mutt", "bob", "shared/alice/Work") as terminal:
        terminal.wait("Minutes of Monday", "Minutes of Tuesday")
        terminal.press("1", "Enter")
        terminal.press("d", "$")
        wait_until(lambda: any(name.endswith("T") for name in names(work)), explain=terminal.screen)
        terminal.press("q")
        terminal.wait_end()
    assert len(names(work)) == 2


def test_the_browser_lists_shared_mailboxes(shared: Host) -> None:
    with mutt(shared, "mutt", "bob", "INBOX") as terminal:
        terminal.wait("Mutt:")
        terminal.press("c", "?")
        terminal.wait("shared", "Sent")
        terminal.press("q")


@pytest.mark.parametrize("program", ["mutt", "neomutt"])
def test_what_happened_while_it_was_closed(shared: Host, program: str) -> None:
    """With its cache of headers it asks for changes and expunges only (QRESYNC)."""
    cache = shared.home("bob") / "headers"
    cache.mkdir()
    rc = f"set header_cache={cache}/\nset imap_condstore=yes\nset imap_qresync=yes\n"
    with shared.server.imap("alice") as alice:
        alice.append("Work", "", "", message("Minutes of Friday"))
    with mutt(shared, program, "bob", "shared/alice/Work", rc=rc) as terminal:
        terminal.wait("Minutes of Monday", "Minutes of Tuesday", "Minutes of Friday")
        terminal.press("q")
        terminal.wait_end()
    assert list(cache.rglob("*")), "nothing was cached"
    with shared.server.imap("alice") as alice:
        alice.select("Work")
        alice.store("1", "+FLAGS", "(\\Flagged)")
        alice.store("2", "+FLAGS", "(\\Deleted)")
        alice.expunge()
        alice.append("Work", "", "", message("Minutes of Saturday"))
    with mutt(shared, program, "bob", "shared/alice/Work", rc=rc) as terminal:
        terminal.wait("Minutes of Monday", "Minutes of Friday", "Minutes of Saturday")
        wait_until(lambda: "Minutes of Tuesday" not in terminal.screen(), explain=terminal.screen)
        (monday,) = [line for line in terminal.screen().splitlines() if "Monday" in line]
        assert "!" in monday.split("Minutes")[0], monday
        terminal.press("q")
        terminal.wait_end()
