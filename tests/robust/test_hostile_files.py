"""Mailboxes whose files are broken, missing, of the wrong kind, or somebody's trap.

A damaged mailbox answers NO or goes on with what is left; the other mailboxes, connections and
users notice nothing, and no octet of anybody else's mail comes out.
"""

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.robust.world import (
    GROUP,
    UIDS,
    World,
    append,
    make_dir,
    make_maildir,
    message,
    ok,
    put_file,
    status_of,
)
from tests.service.clients import Talk

pytestmark = pytest.mark.superuser

UIDLIST = b"3 VALIDITY N3 G0123456789abcdef0123456789abcdef\n"
RECORDS = b"1 :1700000001.M1P1.host\n2 :1700000002.M2P1.host\n"
SECRET = b"Subject: SECRET\n\nnobody else may read SECRET\n"


_validities = itertools.count(1_700_000_000)


def listing(content: bytes) -> bytes:
    """A list with a UIDVALIDITY of its own, as every new mailbox has one."""
    return content.replace(b"ALIDITY", b"%d" % next(_validities))


def box(host: World, user: str = "alice", acl: str = "") -> Path:
    """A new mailbox Box with two messages and a sound list."""
    path = host.maildir(user) / ".Box"
    if path.is_symlink() or path.exists():
        shutil.rmtree(path)
    make_maildir(path, UIDS[user], acl, messages=[message("one"), message("two")])
    put_file(path / "dovecot-uidlist", listing(UIDLIST + RECORDS), UIDS[user])
    return path


def subjects(client: Talk, mailbox: bytes = b"Box") -> tuple[str, list[bytes]]:
    """How SELECT went, and the subjects that can be read."""
    answer = client.ask(b"s SELECT " + mailbox)
    if not ok(answer):
        return status_of(answer), []
    lines = client.ask(b"f FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
    found = [line.strip()[9:] for line in lines if line.startswith(b"Subject: ")]
    return status_of(answer).split(" ")[0], found


def both(found: tuple[str, list[bytes]]) -> bool:
    return found == ("OK", [b"one", b"two"])


@pytest.fixture(autouse=True)
def _nobody_else_notices(host: World) -> Iterator[None]:
    begin = len(host.server.log_text())
    with host.user("alice") as other, host.user("bob") as bob:
        yield
        assert ok(other.ask(b"a SELECT INBOX"))
        assert ok(bob.ask(b"a SELECT INBOX"))
    text = host.server.log_text()[begin:]
    assert "Traceback" not in text, text
    assert "Our bug" not in text, text


# --- the list of UIDs ------------------------------------------------------------------------

READABLE_LISTS = {
    "empty": b"",
    "header without end": UIDLIST[:-1],
    "half a header": b"3 VALIDITY",
    "version 9": b"9 V1700000000 N3\n",
    "no UIDVALIDITY": b"3 N3\n",
    "zero UIDVALIDITY": b"3 V0 N3\n",
    "huge numbers": b"3 V99999999999999999999 N99999999999999999999\n",
    "garbage": bytes(range(256)) * 20,
    "NULs": b"\0" * 4096,
    "torn record": UIDLIST + RECORDS[:-5],
    "record without name": UIDLIST + b"1 \n2 :1700000002.M2P1.host\n",
    "descending": UIDLIST + b"2 :1700000001.M1P1.host\n1 :1700000002.M2P1.host\n",
    "twice": UIDLIST + RECORDS + b"3 :1700000001.M1P1.host\n",
    "slash in a name": UIDLIST + b"1 :../../../bob/Maildir/cur/x\n" + RECORDS[24:],
    "beyond 32 bits": UIDLIST + b"4294967296 :1700000001.M1P1.host\n",
    "long line": UIDLIST + b"1 :" + b"x" * 1_000_000 + b"\n",
}


@pytest.mark.parametrize("content", READABLE_LISTS.values(), ids=READABLE_LISTS)
def test_broken_lists_are_mended(host: World, content: bytes) -> None:
    path = box(host)
    (path / "dovecot-uidlist").write_bytes(listing(content))
    with host.user("alice") as client:
        how, found = subjects(client)
        assert (how, sorted(found)) == ("OK", [b"one", b"two"])
        first = client.ask(b"a UID SEARCH ALL")[0]
        assert ok(append(client, b"Box", message("three")))
    with host.user("alice") as client:
        assert subjects(client) == ("OK", [*found, b"three"])
        assert client.ask(b"a UID SEARCH 1:2")[0] == first
    assert (path / "dovecot-uidlist").read_bytes().startswith(b"3 V")


@pytest.mark.parametrize("name", ["dovecot-uidlist", "dovecot-keywords", "dovecot-acl"])
@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "link", "unreadable", "loop"])
def test_control_files_of_the_wrong_kind(host: World, name: str, kind: str) -> None:
    path = box(host)
    target = path / name
    target.unlink(missing_ok=True)
    make_odd(target, kind)
    try:
        with host.user("alice") as client:
            how, found = subjects(client)
            assert found in ([b"one", b"two"], [])
            assert how != "BAD"
            if name == "dovecot-uidlist":
                assert how.startswith("NO [") or how.startswith("NO "), how
            assert b"root:" not in b"".join(client.ask(b"k STORE 1 +FLAGS (newkeyword)"))
            assert b"root:" not in b"".join(client.ask(b"g GETACL Box"))
            assert b"root:" not in b"".join(client.ask(b"p SETACL Box bob lr"))
            assert b"root:" not in b"".join(append(client, b"Box", message("three")))
            assert ok(client.ask(b'l LIST "" *'))
        assert (path / "cur" / "1700000002.M2P1.host:2,").exists()
    finally:
        remove(target)
    assert Path("/etc/passwd").read_bytes().startswith(b"root:")
    with host.user("alice") as client:
        assert subjects(client)[1][:2] == [b"one", b"two"]


def make_odd(path: Path, kind: str) -> None:
    match kind:
        case "directory":
            make_dir(path, 0o2770, UIDS["alice"], GROUP)
        case "fifo":
            os.mkfifo(path)
            os.chown(path, UIDS["alice"], GROUP)
        case "socket":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(os.fspath(path))
            os.chown(path, UIDS["alice"], GROUP)
        case "link":
            path.symlink_to("/etc/passwd")
        case "loop":
            path.symlink_to(path.name)
        case "unreadable":
            put_file(path, b"", 0, 0o000)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, bytes(range(256)), b"0 a\n0 b\n1 A\n", b"99 x\n-1 y\n",
     b"0 (bad)\n1 \\Seen\n", b"0 " + b"x" * 100_000 + b"\n", b"0 a\r\n1 NIL\n"],
)  # fmt: skip
def test_broken_keywords(host: World, content: bytes) -> None:
    path = box(host)
    put_file(path / "dovecot-keywords", content, UIDS["alice"])
    old = path / "cur" / "1700000001.M1P1.host:2,"
    old.rename(f"{old}abz")
    with host.user("alice") as client:
        assert both(subjects(client))
        flags = client.ask(b"f FETCH 1 FLAGS")
        assert ok(flags)
        assert ok(client.ask(b"k STORE 2 +FLAGS (newkeyword)"))
        assert b"newkeyword" in client.ask(b"f FETCH 2 FLAGS")[-2]
        assert b"newkeyword" not in client.ask(b"f FETCH 1 FLAGS")[-2]


# --- directories -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "file", "fifo", "dangling", "elsewhere", "unreadable"])
@pytest.mark.parametrize("name", ["cur", "new", "tmp"])
def test_mail_directories_of_the_wrong_kind(host: World, name: str, kind: str) -> None:
    path = box(host)
    aside = path.with_name("aside")
    (path / name).rename(aside)
    victim = host.maildir("bob") / ".Private"
    remove(victim)
    make_maildir(victim, UIDS["bob"], messages=[SECRET])
    for folder in ("cur", "new", "tmp"):
        (victim / folder).chmod(0o777)
    try:
        match kind:
            case "missing":
                pass
            case "file":
                put_file(path / name, b"x", UIDS["alice"])
            case "fifo":
                os.mkfifo(path / name)
            case "dangling":
                (path / name).symlink_to("/nonexistent/place")
            case "elsewhere":
                (path / name).symlink_to(victim / name)
            case "unreadable":
                make_dir(path / name, 0o000, 0, 0)
        with host.user("alice") as client:
            how, found = subjects(client)
            assert set(found) <= {b"one", b"two", b"SECRET"}
            assert how.split(" ")[0] in ("OK", "NO")
            assert b"UIDNEXT 1]" not in b"".join(client.ask(b"t STATUS Box (UIDNEXT)"))
            append(client, b"Box", message("three"))
            append(client, b"Box", message("three"), b"(\\Seen) ")
            client.ask(b"x STORE 1:* +FLAGS (\\Deleted)")
            client.ask(b"e EXPUNGE")
            assert ok(client.ask(b'l LIST "" *'))
        if kind == "elsewhere":
            assert [p.read_bytes() for p in (victim / "cur").iterdir()] == [SECRET]
            assert not list((victim / "new").iterdir())
            assert not list((victim / "tmp").iterdir())
    finally:
        remove(path / name)
        aside.rename(path / name)


@pytest.mark.parametrize(
    "kind",
    ["directory", "fifo", "socket", "link to another's", "link to a device", "unreadable", "loop"],
)
def test_messages_of_the_wrong_kind(host: World, kind: str) -> None:
    path = box(host)
    victim = put_file(host.maildir("bob") / "secret", SECRET, UIDS["bob"], 0o666)
    odd = path / "cur" / "1700000002.M2P1.host:2,"
    odd.unlink()
    match kind:
        case "link to another's":
            odd.symlink_to(victim)
        case "link to a device":
            odd.symlink_to("/dev/zero")
        case _:
            make_odd(odd, kind)
    with host.user("alice") as client:
        assert subjects(client) in (("OK", [b"one"]), ("OK", []))
        for command in (
            b"FETCH 2 BODY[]", b"FETCH 2 RFC822.SIZE", b"FETCH 2 ENVELOPE", b"SEARCH BODY SECRET",
            b"SEARCH SUBJECT SECRET", b"FETCH 2 BODYSTRUCTURE", b"SEARCH LARGER 1", b"COPY 2 INBOX",
            b"FETCH 2 FLAGS", b"UID FETCH 2 INTERNALDATE",
        ):  # fmt: skip
            answer = b"".join(client.ask(b"a " + command))
            assert b"SECRET" not in answer.replace(b"SEARCH", b""), command
        assert ok(client.ask(b"o FETCH 1 BODY.PEEK[]"))
        client.ask(b"x STORE 2 +FLAGS (\\Deleted)")
        client.ask(b"e EXPUNGE")
        assert ok(client.ask(b"o FETCH 1 BODY.PEEK[]"))
    assert victim.read_bytes() == SECRET
    remove(odd)


def test_odd_names_in_cur(host: World) -> None:
    path = box(host)
    for name in (
        b":2,S",
        b"x" * 250,
        b"a\nb:2,",
        b"\xff\xfe:2,",
        b"a:1,x",
        b"a b:2,\xc3(",
        b"b:2,Sz,x=1",
    ):
        put_file(
            Path(os.fsdecode(os.path.join(os.fsencode(path), b"cur", name))),
            message("odd"),
            UIDS["alice"],
        )
    with host.user("alice") as client:
        how, found = subjects(client)
        assert how == "OK"
        assert found[:2] == [b"one", b"two"]
        assert ok(client.ask(b"a STORE 1:* +FLAGS (\\Flagged)"))
        assert ok(client.ask(b"a FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE)"))
        assert ok(client.ask(b"a COPY 1:* INBOX"))


# --- space -----------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Iterator[None]:
    """A file system of its own at path, which must be an empty directory."""
    run("mount", "-t", "tmpfs", "-o", options, "sharefs-robust", os.fspath(path))
    try:
        yield
    finally:
        run("umount", "-l", os.fspath(path))


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=20)


@pytest.mark.parametrize("options", ["size=200k", "nr_inodes=25"], ids=["blocks", "inodes"])
def test_a_full_disk(host: World, options: str) -> None:
    root = host.fresh("dave")
    wide = f"{options},uid={UIDS['dave']},gid={GROUP},mode=2770"
    with small_disk(root, wide), host.user("dave") as client:
        assert ok(client.ask(b"a SELECT INBOX"))
        answers = [append(client, b"INBOX", message(f"m{n}", "x" * 9000)) for n in range(40)]
        taken = [a for a in answers if ok(a)]
        assert 2 < len(taken) < 40
        assert {status_of(a) for a in answers if not ok(a)} == {"NO OVERQUOTA"}
        if "inodes" in options:
            assert status_of(client.ask(b"c COPY 1 INBOX")) == "NO OVERQUOTA"
            assert status_of(client.ask(b"n CREATE More")) == "NO OVERQUOTA"
        else:  # copies are links, which need no blocks
            assert ok(client.ask(b"c COPY 1 INBOX"))
            assert ok(client.ask(b"d STORE * +FLAGS.SILENT (\\Deleted)"))
            assert ok(client.ask(b"e EXPUNGE"))
        assert status_of(client.ask(b"k STORE 1 +FLAGS (keyword)")).split(" ")[0] in ("OK", "NO")
        assert b"* SEARCH " + b" ".join(b"%d" % (n + 1) for n in range(len(taken))) in (
            client.ask(b"n NOOP") and client.ask(b"u UID SEARCH ALL")[0]
        )
        assert ok(client.ask(b"d STORE 1:3 +FLAGS.SILENT (\\Deleted)"))
        assert ok(client.ask(b"e EXPUNGE"))
        assert ok(append(client, b"INBOX", message("fits again")))
        files = [p for name in ("cur", "new", "tmp") for p in (root / name).iterdir()]
        assert len(files) == len(taken) - 3 + 1
        assert not list((root / "tmp").iterdir())


def test_a_file_system_that_becomes_read_only(host: World) -> None:
    root = host.fresh("dave")
    wide = f"size=1m,uid={UIDS['dave']},gid={GROUP},mode=2770"
    with small_disk(root, wide), host.user("dave") as client:
        assert ok(append(client, b"INBOX", message("one")))
        assert ok(append(client, b"INBOX", message("two"), b"(\\Seen) "))
        assert ok(client.ask(b"a SELECT INBOX"))
        run("mount", "-o", "remount,ro", os.fspath(root))
        for command in (
            b"STORE 1 +FLAGS (\\Flagged)", b"CREATE x", b"COPY 1 INBOX", b"SETACL INBOX bob lr",
            b"DELETE INBOX", b"SUBSCRIBE INBOX",
        ):  # fmt: skip
            answer = client.ask(b"a " + command)
            assert answer[-1].startswith(b"a NO"), (command, answer)
        assert not ok(append(client, b"INBOX", message("three")))
        assert b"two" in b"".join(client.ask(b"f FETCH 2 BODY[]"))
        with host.user("dave") as later:
            assert subjects(later, b"INBOX") == ("OK", [b"one", b"two"])
        run("mount", "-o", "remount,rw", os.fspath(root))
        assert ok(client.ask(b"a STORE 1 +FLAGS (\\Flagged)"))
        assert ok(append(client, b"INBOX", message("three")))


# --- homes -----------------------------------------------------------------------------------


def test_homes_that_cannot_be_used(host: World) -> None:
    """Login works or is refused; INBOX says NO; nothing is made anywhere else."""
    home = host.home("carol")
    aside = home.with_name("aside")
    home.rename(aside)

    def nothing() -> None:
        return

    kinds: dict[str, Callable[[], object]] = {
        "missing": nothing,
        "a file": lambda: put_file(home, b"", UIDS["carol"]),
        "another's": lambda: make_dir(home, 0o700, UIDS["dave"], UIDS["dave"]),
        "dangling": lambda: home.symlink_to("/nonexistent/place"),
        "a loop": lambda: home.symlink_to(home),
    }
    before = sorted(host.top.rglob("*"))
    for kind, make in kinds.items():
        make()
        try:
            with host.user("alice") as alice:
                assert not ok(alice.ask(b"a SELECT shared/carol/INBOX")), kind
                assert ok(alice.ask(b'l LIST "" *')), kind
            with host.user("carol") as client:
                assert ok(client.ask(b'l LIST "" *')), kind
                assert client.ask(b"a SELECT INBOX")[-1].startswith(b"a NO ["), kind
                assert not ok(append(client, b"INBOX", message("one"))), kind
        finally:
            remove(home)
    assert sorted(host.top.rglob("*")) == before
    aside.rename(home)
    with host.user("carol") as client:
        assert ok(client.ask(b"a SELECT INBOX"))


def test_a_home_that_is_a_link(host: World) -> None:
    """As on hosts that spread homes over disks: it works, and stays a link."""
    home = host.home("carol")
    real = host.top / "disk2" / "carol"
    real.parent.mkdir()
    home.rename(real)
    home.symlink_to(real)
    try:
        with host.user("carol") as client:
            assert ok(append(client, b"INBOX", message("one")))
            assert ok(client.ask(b"c CREATE Sub"))
            assert subjects(client, b"INBOX")[1] == [b"one"]
        assert home.is_symlink()
        assert (real / "Maildir" / ".Sub" / "cur").is_dir()
    finally:
        home.unlink()
        real.rename(home)
        real.parent.rmdir()
