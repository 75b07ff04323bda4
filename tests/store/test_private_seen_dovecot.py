"""Private \\Seen side by side with a real Dovecot: each sees what the other wrote."""

import contextlib
import imaplib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.store.interface import Mailbox
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from sharefs.store.private_seen import files, overlay
from tests.store.contract import SEEN, add
from tests.support.become import Identity, start_as
from tests.support.dovecot import Dovecot, MailUser, private_dovecot

pytestmark = [pytest.mark.superuser, pytest.mark.dovecot]

BOB, CAROL = Identity(5002, 5200, (6000,)), Identity(5003, 5300, (6000,))
ADD_SEEN, REMOVE_SEEN = FlagChange(FlagOp.ADD, SEEN), FlagChange(FlagOp.REMOVE, SEEN)
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
NAMESPACES = """
mail_access_groups = 6000
mail_location = maildir:~/Maildir
namespace inbox {{
  inbox = yes
  separator = /
}}
namespace pub {{
  type = public
  prefix = Public/
  separator = /
  location = maildir:{top}/public:INDEXPVT=~/pvt-public
  subscriptions = no
}}
# What a shared namespace does, for one owner: a private one that points there.
namespace alice {{
  type = private
  prefix = shared/
  separator = /
  location = maildir:{top}/alice:INDEXPVT=~/pvt-alice
  subscriptions = no
}}
{extra}
"""
# Dovecot writes the index file and rotates the log at every turn.
ROTATING = """
mail_index_log_rotate_min_size = 1
mail_index_log_rotate_min_age = 0
mail_index_log_rotate_max_size = 1
mail_index_rewrite_min_log_bytes = 0
mail_index_rewrite_max_log_bytes = 1
"""


@dataclass(frozen=True)
class Place:
    """A tree and the server that serves it."""

    top: Path
    server: Dovecot

    def as_bob(self, public: bool, mailbox: str, action: Callable[[Mailbox], object]) -> object:
        """Our side, in a process of bob's."""

        def run() -> object:
            folder = "public" if public else "alice"
            storage = MaildirStorage(MaildirConfig(self.top / folder, has_inbox=False))
            private = self.top / f"bob/pvt-{folder}/.{mailbox}"
            shared = storage.open((mailbox,))
            with closing(overlay(shared, private, public=public)) as mailbox_of_bob:
                mailbox_of_bob.sync()
                return action(mailbox_of_bob)

        return BOB.run(run)

    @contextlib.contextmanager
    def selected(self, public: bool, mailbox: str, user: str = "bob") -> Iterator[imaplib.IMAP4]:
        with self.server.imap(user) as client:
            prefix = "Public/" if public else "shared/"
            assert client.select(f"{prefix}{mailbox}")[0] == "OK"
            yield client

    def make(self, public: bool, mailbox: str, count: int) -> None:
        """A mailbox with messages, made by carol through Dovecot."""
        prefix = "Public/" if public else "shared/"
        with self.server.imap("carol") as client:
            assert client.create(f"{prefix}{mailbox}")[0] == "OK"
            for _ in range(count):
                client.append(f"{prefix}{mailbox}", "", "", MESSAGE)


def theirs(client: imaplib.IMAP4) -> set[int]:
    """The UIDs that Dovecot says are seen."""
    client.noop()
    answers = client.fetch("1:*", "(UID FLAGS)")[1]
    lines = [line.decode() for line in answers if isinstance(line, bytes)]
    return {
        int(found[1])
        for line in lines
        if (found := re.search(r"UID (\d+) FLAGS \(([^)]*)\)", line)) and "\\Seen" in found[2]
    }


def ours(mailbox: Mailbox) -> set[int]:
    mailbox.sync()
    return {uid for uid in mailbox.uids() if mailbox.flags_of(uid).system & System.SEEN}


@pytest.fixture(scope="module", params=["", ROTATING], ids=["usual", "rotating"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="sharefs-pvt-") as name:
        top = Path(name)
        top.chmod(0o755)
        users = []
        for user, identity in (("bob", BOB), ("carol", CAROL)):
            (top / user).mkdir()
            os.chown(top / user, identity.uid, identity.gid)
            users.append(MailUser(user, identity.uid, identity.gid, top / user))
        for folder in ("public", "alice"):
            (top / folder).mkdir()
            os.chown(top / folder, 0, 6000)
            (top / folder).chmod(0o2770)
        config = NAMESPACES.format(top=top, extra=request.param)
        with private_dovecot(config, users) as server:
            yield Place(top, server)
            assert "Panic" not in server.log_text()
            assert not re.findall(r".*\.pvt.*(?:[Cc]orrupt|[Bb]roken|rror).*", server.log_text())


@pytest.fixture(params=[False, True], ids=["shared", "public"])
def public(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_ours_first(place: Place, public: bool) -> None:
    """The log that we make is one that Dovecot goes on with."""
    place.make(public, "ours-first", 4)
    assert place.as_bob(public, "ours-first", lambda m: m.store_flags([1, 3], ADD_SEEN)) == [1, 3]
    with place.selected(public, "ours-first") as client:
        assert theirs(client) == {1, 3}
        client.uid("STORE", "2", "+FLAGS", "(\\Seen)")
        client.uid("STORE", "3", "-FLAGS", "(\\Seen)")
        assert theirs(client) == {1, 2}
    assert place.as_bob(public, "ours-first", ours) == {1, 2}
    with place.selected(public, "ours-first", "carol") as client:
        assert theirs(client) == set()


def test_theirs_first(place: Place, public: bool) -> None:
    place.make(public, "theirs-first", 4)
    with place.selected(public, "theirs-first") as client:
        client.uid("STORE", "1:2", "+FLAGS", "(\\Seen)")
    assert place.as_bob(public, "theirs-first", ours) == {1, 2}
    place.as_bob(public, "theirs-first", lambda m: m.store_flags([2], REMOVE_SEEN))
    place.as_bob(public, "theirs-first", lambda m: m.store_flags([4], ADD_SEEN))
    with place.selected(public, "theirs-first") as client:
        assert theirs(client) == {1, 4}


def test_in_turns_with_expunges_and_new_mail(place: Place, public: bool) -> None:
    """Both change flags, remove and add messages, turn by turn; after each both agree."""
    place.make(public, "turns", 6)
    prefix = "Public/" if public else "shared/"
    want: set[int] = set()
    present = set(range(1, 7))
    next_uid = 7
    for turn in range(6):
        uid = sorted(present)[turn % len(present)]
        with place.selected(public, "turns") as client:
            client.uid("STORE", str(uid), "+FLAGS", "(\\Seen)")
            want.add(uid)
            assert theirs(client) == want, turn
            if turn % 3 == 1:
                gone = min(present)
                client.uid("STORE", str(gone), "+FLAGS", "(\\Deleted)")
                client.expunge()
                present.discard(gone)
                want.discard(gone)
                client.append(f"{prefix}turns", "(\\Seen)", "", MESSAGE)
                present.add(next_uid)
                want.add(next_uid)
                next_uid += 1
                assert theirs(client) == want, turn
        assert place.as_bob(public, "turns", ours) == want, turn

        def change(mailbox: Mailbox, turn: int = turn) -> list[int]:
            uids = list(mailbox.uids())
            mailbox.store_flags([uids[-1]], ADD_SEEN)
            mailbox.store_flags([uids[0]], REMOVE_SEEN)
            if turn % 2:
                mailbox.expunge([uids[1]])
                add(mailbox, MESSAGE, MESSAGE, flags=FlagSet(System.SEEN | System.FLAGGED))
            mailbox.sync()
            return list(mailbox.uids())

        before = sorted(present)
        after = place.as_bob(public, "turns", change)
        assert isinstance(after, list)
        want.add(before[-1])
        want.discard(before[0])
        if turn % 2:
            want.discard(before[1])
            want |= {next_uid, next_uid + 1}
            next_uid += 2
        present = set(after)
        assert place.as_bob(public, "turns", ours) == want, turn
    with place.selected(public, "turns") as client:
        assert theirs(client) == want


def test_an_open_session_sees_the_other_side(place: Place, public: bool) -> None:
    """No need to reopen: NOOP there, sync() here."""
    place.make(public, "live", 3)
    with place.selected(public, "live") as client:
        assert theirs(client) == set()
        place.as_bob(public, "live", lambda m: m.store_flags([2], ADD_SEEN))
        assert theirs(client) == {2}

        def watch(mailbox: Mailbox) -> tuple[set[int], set[int]]:
            before = ours(mailbox)
            with place.selected(public, "live") as other:
                other.uid("STORE", "3", "+FLAGS", "(\\Seen)")
            return before, ours(mailbox)

        assert place.as_bob(public, "live", watch) == ({2}, {2, 3})
        assert theirs(client) == {2, 3}


def test_an_open_session_follows_our_rotation(
    place: Place, public: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When we write the index file and start a new log, Dovecot's open sessions go on."""
    place.make(public, "afresh", 3)
    with place.selected(public, "afresh") as client:
        client.uid("STORE", "1", "+FLAGS", "(\\Seen)")
        monkeypatch.setattr(files, "ROTATE_ABOVE", 0)
        monkeypatch.setattr(files, "ROTATE_RATIO", 0)
        place.as_bob(public, "afresh", lambda m: m.store_flags([3], ADD_SEEN))
        assert theirs(client) == {1, 3}
        place.as_bob(public, "afresh", lambda m: m.store_flags([2], ADD_SEEN))
        place.as_bob(public, "afresh", lambda m: m.store_flags([2], REMOVE_SEEN))
        assert theirs(client) == {1, 3}
        client.uid("STORE", "2", "+FLAGS", "(\\Seen)")
        client.uid("STORE", "1", "-FLAGS", "(\\Seen)")
        assert theirs(client) == {2, 3}
    assert place.as_bob(public, "afresh", ours) == {2, 3}
    with place.selected(public, "afresh") as client:
        assert theirs(client) == {2, 3}


def test_who_looks_first_decides_about_the_shared_seen(place: Place) -> None:
    """A filter delivers a message as seen; it is asked about once, by either server.

    We take the S of a file name for the shared \\Seen.  Dovecot ignores it where private flags are
    in use, and would copy only what its shared index says; neither overrules the other.
    """
    place.make(True, "filtered", 2)
    shared = MaildirStorage(MaildirConfig(place.top / "public", has_inbox=False))

    def deliver() -> None:
        with closing(shared.open(("filtered",))) as mailbox:
            add(mailbox, MESSAGE, flags=SEEN)

    CAROL.run(deliver)
    assert place.as_bob(True, "filtered", ours) == {3}
    with place.selected(True, "filtered") as client:
        assert theirs(client) == {3}
    CAROL.run(deliver)
    with place.selected(True, "filtered") as client:
        assert theirs(client) == {3}
    assert place.as_bob(True, "filtered", ours) == {3}


def test_both_write_at_once(place: Place, public: bool) -> None:
    """Two sessions of one viewer, one on each server, lose nothing of each other's."""
    place.make(public, "race", 40)

    def odd(mailbox: Mailbox) -> set[int]:
        for uid in range(1, 41, 2):
            mailbox.store_flags([uid], ADD_SEEN)
        return ours(mailbox)

    folder = "public" if public else "alice"

    def run() -> set[int]:
        storage = MaildirStorage(MaildirConfig(place.top / folder, has_inbox=False))
        private = place.top / f"bob/pvt-{folder}/.race"
        with closing(overlay(storage.open(("race",)), private, public=public)) as mailbox:
            return odd(mailbox)

    with (
        place.selected(public, "race") as client,
        start_as(BOB.uid, BOB.gid, BOB.groups, run) as child,
    ):
        for uid in range(2, 41, 2):
            client.uid("STORE", str(uid), "+FLAGS", "(\\Seen)")
        assert child.result() >= set(range(1, 41, 2))
        assert theirs(client) == set(range(1, 41))
    assert place.as_bob(public, "race", ours) == set(range(1, 41))


def test_what_we_mend_dovecot_can_read(place: Place, public: bool) -> None:
    place.make(public, "mended", 4)
    place.as_bob(public, "mended", lambda m: m.store_flags([1, 2], ADD_SEEN))
    folder = place.top / f"bob/pvt-{'public' if public else 'alice'}/.mended"
    log = folder / "dovecot.index.pvt.log"
    log.write_bytes(log.read_bytes() + b"\x80\x80\x80\x81garbage" * 9)
    assert place.as_bob(public, "mended", ours) == {1, 2}
    place.as_bob(public, "mended", lambda m: m.store_flags([3], ADD_SEEN))
    with place.selected(public, "mended") as client:
        assert theirs(client) == {1, 2, 3}
