"""The Maildir is the truth: whatever happens to the index, clients hear what the files say.

Through the whole server, with an index: its worker is killed, its disk is full, its octets are
flipped, an old copy comes back, other programs deliver, flag and remove meanwhile.
"""

import contextlib
import itertools
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.mail import make_maildir
from sharefs import message
from sharefs.index.place import BROKEN, NAME
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from tests.service.clients import Talk, logged_in
from tests.service.indexed import CONFIG, UID, file_of, indexed_or_none, user_with_mail
from tests.service.indexed import server as server
from tests.support.dovecot import MailUser
from tests.support.server import Server, private_server, wait_until

pytestmark = pytest.mark.superuser

COUNT = 150

# UID, flags and keywords, subject, EMAILID
Truth = list[tuple[int, frozenset[str], str, str]]


@pytest.fixture
def user(open_tmp: Path) -> MailUser:
    return user_with_mail(open_tmp, COUNT)


def truth_of(user: MailUser) -> Truth:
    """What the files say, without any index."""
    storage = MaildirStorage(MaildirConfig(user.home / "Maildir"))
    found = []
    with contextlib.closing(storage.open(("INBOX",), readonly=True)) as mailbox:
        for uid in mailbox.uids():
            flags = mailbox.flags_of(uid)
            names = {f"\\{one.name.capitalize()}" for one in flags.system if one.name}
            header = mailbox.read_header(uid)
            email_id = message.email_id(mailbox.read(uid), mailbox.info(uid).internaldate).hex()
            subject = message.header_texts(header, "Subject")[0]
            found.append((uid, frozenset(names | flags.keywords), subject, "E" + email_id))
    return found


def told(client: Talk) -> Truth:
    """What a client hears."""
    client.ask(b"s SELECT INBOX")
    lines = client.ask(b"f UID FETCH 1:* (FLAGS EMAILID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    assert lines[-1].startswith(b"f OK"), lines[-1]
    found = []
    for first, second in itertools.pairwise(lines):
        if match := re.search(rb"UID (\d+) FLAGS \(([^)]*)\) EMAILID \((\w+)\)", first):
            flags = frozenset(match[2].decode().split()) - {"\\Recent"}
            subject = second.decode().removeprefix("Subject: ").rstrip("\r\n")
            found.append((int(match[1]), flags, subject, match[3].decode()))
    return found


def searched(client: Talk, keys: bytes) -> list[int]:
    lines = client.ask(b"q UID SEARCH " + keys)
    line = next(line for line in lines if line.startswith(b"* SEARCH"))
    return [int(word) for word in line.split()[2:]]


def check(server: Server, user: MailUser, *, count: int) -> None:
    """Twice: while the index may be wrong, and when it is built again."""
    for again in range(2):
        with logged_in(server, "alice") as client:
            heard = told(client)
            want = truth_of(user)
            assert heard == want
            assert len(heard) == count
            for uid, flags, subject, _ in (want[0], want[count // 2], want[-1]):
                found = searched(client, b'SUBJECT "%b"' % subject.encode())
                assert found == [one[0] for one in want if subject.lower() in one[2].lower()]
                assert uid in searched(client, b"SEEN" if "\\Seen" in flags else b"UNSEEN")
            if not again:
                wait_until(lambda: indexed_or_none(user) in (count, None))


def first_use(server: Server, user: MailUser) -> Truth:
    """Some changes, and an index of everything."""
    with logged_in(server, "alice") as client:
        client.ask(b"s SELECT INBOX")
        client.ask(b"t UID STORE 1:9 +FLAGS (\\Seen $Work)")
        client.ask(b"t UID STORE 3 +FLAGS (\\Deleted)")
        client.ask(b"x EXPUNGE")
        client.ask(b"f FETCH 1:* ENVELOPE")
        wait_until(lambda: indexed_or_none(user) == COUNT - 1)
        return told(client)


def worker() -> int:
    """The one process of the user."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if re.search(rf"^Uid:\t{UID}\t", status.read_text(), re.MULTILINE):
                found.append(int(status.parent.name))
    (pid,) = found
    return pid


def kill_worker() -> None:
    pid = worker()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def deliver(user: MailUser, name: str, *, info: str = "") -> None:
    folder = user.home / "Maildir" / ("cur" if info else "new")
    path = folder / f"1795290000.{name}.deliverer{info}"
    path.write_bytes(b"Subject: delivered %b\n\nby another program\n" % name.encode())
    os.chown(path, UID, UID)


@pytest.mark.parametrize("slices", [0, 1, 3])
def test_killed_while_it_indexes(server: Server, user: MailUser, slices: int) -> None:
    with logged_in(server, "alice") as client:
        client.ask(b"s SELECT INBOX")
        client.ask(b"f FETCH 1 ENVELOPE")  # indexing begins
        client.ask(b"t UID STORE 5 +FLAGS (\\Flagged $Work)")
        for _ in range(slices):
            client.ask(b"f FETCH 1:* FLAGS")
        kill_worker()
    check(server, user, count=COUNT)


def test_killed_when_it_has_indexed(server: Server, user: MailUser) -> None:
    first_use(server, user)
    kill_worker()
    deliver(user, "one")
    check(server, user, count=COUNT)


def in_the_middle(octets: bytearray) -> None:
    for at in range(4096, len(octets), 5000):
        octets[at] ^= 0x55


def everywhere(octets: bytearray) -> None:
    octets[100:] = bytes(len(octets) - 100)


def cut_short(octets: bytearray) -> None:
    del octets[len(octets) // 2 :]


@pytest.mark.parametrize("damage", [in_the_middle, everywhere, cut_short])
@pytest.mark.parametrize("running", [True, False], ids=["running", "ended"])
def test_flipped_octets(
    server: Server, user: MailUser, damage: Callable[[bytearray], None], running: bool
) -> None:
    first_use(server, user)
    if not running:
        kill_worker()
    path = file_of(user)
    octets = bytearray(path.read_bytes())
    damage(octets)
    with path.open("r+b") as file:
        file.write(octets)
        file.truncate(len(octets))
    check(server, user, count=COUNT - 1)
    if running:  # what SQLite had in memory was still right
        kill_worker()
        check(server, user, count=COUNT - 1)
    wait_until(lambda: path.with_name(BROKEN).exists())
    assert "Our bug" not in server.log_text()


def test_an_old_index_from_a_backup(server: Server, user: MailUser) -> None:
    first_use(server, user)
    kill_worker()
    path = file_of(user)
    backup = path.read_bytes()
    with logged_in(server, "alice") as client:
        client.ask(b"s SELECT INBOX")
        client.ask(b"t UID STORE 10:20 +FLAGS.SILENT (\\Deleted)")
        client.ask(b"x EXPUNGE")
        client.ask(b"a APPEND INBOX (\\Flagged) {18+}\r\nSubject: new\r\n\r\nxy")
        client.ask(b"t UID STORE 30:40 FLAGS.SILENT ($Later)")
        client.ask(b"f FETCH 1:* ENVELOPE")
    kill_worker()
    path.write_bytes(backup)
    for journal in path.parent.glob(NAME + "-*"):
        journal.unlink()
    check(server, user, count=COUNT - 1 - 11 + 1)


def test_other_programs_meanwhile(server: Server, user: MailUser) -> None:
    """Within one connection: each answer is about the files as they are by then."""
    first_use(server, user)
    cur = user.home / "Maildir" / "cur"
    with logged_in(server, "alice") as client:
        for number in range(5):
            some = sorted(path for path in cur.iterdir() if path.name.endswith(":2,"))
            some[0].rename(some[0].with_name(some[0].name + "FS"))
            some[1].unlink()
            deliver(user, f"number{number}")
            deliver(user, f"seen{number}", info=":2,S")
            assert told(client) == truth_of(user)
            subject = b"SUBJECT number%d" % number
            assert len(searched(client, subject)) == 1
    check(server, user, count=COUNT - 1 + 5)


@pytest.fixture
def small_disk(user: MailUser) -> Iterator[Path]:
    """A file system with room for a part of the index only."""
    place = user.home / ".cache"
    place.mkdir()
    options = f"size=256k,mode=0700,uid={UID},gid={UID}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_under_the_index(small_disk: Path, server: Server, user: MailUser) -> None:
    with logged_in(server, "alice") as client:
        for _ in range(3):
            assert told(client) == truth_of(user)
            client.ask(b"f FETCH 1:* (ENVELOPE BODYSTRUCTURE PREVIEW)")
            client.ask(b"t UID STORE 1:5 -FLAGS.SILENT (\\Flagged)")
        answer = client.ask(b"a APPEND INBOX {18+}\r\nSubject: new\r\n\r\nxy")
        assert answer[-1].startswith(b"a OK")
        assert told(client) == truth_of(user)
        wait_until(lambda: "cannot be written" in server.log_text(), explain=server.log_text)
    assert "Our bug" not in server.log_text()


def test_a_full_disk_under_everything(open_tmp: Path) -> None:
    """An APPEND for which there is no room is refused, and nothing else suffers."""
    home = open_tmp / "alice"
    home.mkdir()
    options = f"size=2m,mode=0700,uid={UID},gid={UID}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)], check=True)
    try:
        make_maildir(home / "Maildir", 60, uid=UID, gid=UID)
        user = MailUser("alice", UID, UID, home)
        big = b"Subject: big\r\n\r\n" + b"x" * 77 + b"\r\n" * 3_000_000
        with private_server(CONFIG, [user]) as server, logged_in(server, "alice") as client:
            before = told(client)
            assert before == truth_of(user)
            answer = client.ask(b"a APPEND INBOX {3+}\r\nabc {%d+}\r\n%b" % (len(big), big))
            assert answer[-1].startswith(b"a NO [OVERQUOTA] "), answer[-1]
            assert told(client) == truth_of(user) == before
            assert not list((home / "Maildir" / "tmp").iterdir())
            answer = client.ask(b"b APPEND INBOX (\\Seen) {18+}\r\nSubject: new\r\n\r\nxy")
            assert answer[-1].startswith(b"b OK")
            assert told(client) == truth_of(user)
            assert "Our bug" not in server.log_text()
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)
