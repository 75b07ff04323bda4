"""Workers die at random moments; what the server has acknowledged is there, once, as acknowledged.

Several clients of several users append, copy, move, flag and share without pause, while somebody
kills their workers with SIGKILL.  SHAREFS_CRASH_SECONDS makes it longer than CI can wait;
SHAREFS_CRASH_SEED makes it repeatable, as far as processes are.
"""

import contextlib
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest

from sharefs.rights import Rights
from sharefs.sharing.files import read_acl
from tests.robust.world import UIDS, World, append, make_maildir, ok, world
from tests.service.clients import Talk, logged_in

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

SECONDS: Final = float(os.environ.get("SHAREFS_CRASH_SECONDS", "5"))
SEED: Final = int(os.environ.get("SHAREFS_CRASH_SEED", "2026"))
FLAGS: Final = (b"\\Flagged", b"\\Answered", b"\\Draft", b"\\Seen", b"blue", b"green")
# What each client works in: its own box and one that all of them use.
COMMON: Final = b"shared/alice/Common"

_APPENDUID = re.compile(rb"\[APPENDUID (\d+) (\d+)\]")
_COPYUID = re.compile(rb"\[COPYUID (\d+) ([\d,:]+) ([\d,:]+)\]")
_MESSAGE = re.compile(rb"\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\) BODY\[[^ ]* ")


@dataclass
class Ledger:
    """What one client was promised.  Subjects are unique; a copy has its original's.

    at: subjects by mailbox and UID.  flags: those whose last STORE was acknowledged.
    maybe: (mailbox, subject) that may be there, because no answer came.
    moved: subjects that were to leave the mailbox when no answer came.
    """

    at: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    flags: dict[tuple[bytes, int], set[bytes]] = field(default_factory=dict)
    maybe: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    unsure: set[tuple[bytes, int]] = field(default_factory=set)
    uidvalidity: dict[bytes, set[int]] = field(default_factory=dict)
    uids_given: dict[bytes, list[int]] = field(default_factory=dict)
    kept_acl: bytes = b""
    deaths: int = 0
    seen: dict[int, bool] = field(default_factory=dict)  # as stored in COMMON, by UID
    done: Counter[str] = field(default_factory=Counter)

    def promised(self, mailbox: bytes, uidvalidity: bytes, uid: int, subject: bytes) -> None:
        self.at[mailbox, uid] = subject
        self.uidvalidity.setdefault(mailbox, set()).add(int(uidvalidity))
        self.uids_given.setdefault(mailbox, []).append(uid)


class Died(Exception):
    """The worker was killed: the command may have happened, or not, or partly."""


def ask(client: Talk, command: bytes) -> list[bytes]:
    try:
        answer = client.ask(command)
    except (AssertionError, OSError) as exc:
        raise Died from exc
    assert answer[-1].split(b" ")[1] != b"BAD", answer
    return answer


class Client(threading.Thread):
    """One connection after another, each until its worker dies."""

    def __init__(self, host: World, user: str, number: int, stop: threading.Event) -> None:
        super().__init__(name=f"{user}-{number}")
        self.host, self.user, self.number, self.stop = host, user, number, stop
        self.random = random.Random(f"{SEED}/{user}/{number}")
        self.ledger = Ledger()
        self.own = b"Own%d" % number
        self.other = b"Other%d" % number
        self.serial = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                with contextlib.suppress(Died, OSError):
                    self.session()
        except BaseException as exc:
            self.failure = exc

    def session(self) -> None:
        try:
            connection = logged_in(self.host.server, self.user)
            client = connection.__enter__()
        except AssertionError:
            self.ledger.deaths += 1
            time.sleep(0.02)
            return
        try:
            while not self.stop.is_set():
                self.step(client)
        except Died:
            self.ledger.deaths += 1
            raise
        finally:
            client.sock.close()

    def step(self, client: Talk) -> None:
        actions = (self.add, self.add, self.copy, self.move, self.flag, self.flag, self.share)
        self.random.choice(actions)(client)

    def add(self, client: Talk) -> None:
        mailbox = self.random.choice((self.own, self.own, COMMON))
        self.serial += 1
        subject = b"%s-%d-%d" % (self.user.encode(), self.number, self.serial)
        size = self.random.choice((10, 1000, 60_000))
        body = b"Subject: %b\r\n\r\n" % subject + b"x" * size + b"\r\nend of %b\r\n" % subject
        try:
            answer = append(client, mailbox, body, b"(\\Seen) ")
        except (AssertionError, OSError) as exc:
            self.ledger.maybe[mailbox, subject] += 1
            raise Died from exc
        found = _APPENDUID.search(answer[-1])
        assert found, answer
        uid = int(found[2])
        self.ledger.promised(mailbox, found[1], uid, subject)
        self.ledger.flags[mailbox, uid] = {b"\\Seen"}
        self.ledger.done["append"] += 1

    def some(self, mailbox: bytes) -> list[int]:
        """UIDs there that nothing uncertain was done with."""
        uids = [u for m, u in self.ledger.at if m == mailbox and (m, u) not in self.ledger.unsure]
        return sorted(self.random.sample(uids, min(len(uids), self.random.randint(1, 4))))

    def copy(self, client: Talk, *, moving: bool = False) -> None:
        source, target = self.own, self.random.choice((self.other, COMMON))
        uids = self.some(source)
        if not uids:
            return
        ask(client, b"s SELECT " + source)
        word = b"MOVE" if moving else b"COPY"
        named = b",".join(b"%d" % uid for uid in uids)
        try:
            answer = ask(client, b"c UID %b %b %b" % (word, named, target))
        except Died:
            for uid in uids:
                self.ledger.maybe[target, self.ledger.at[source, uid]] += 1
                if moving:
                    self.ledger.unsure.add((source, uid))
            raise
        found = _COPYUID.search(b"".join(answer))
        assert found, answer
        assert expand(found[2]) == uids
        for uid, new in zip(uids, expand(found[3]), strict=True):
            self.ledger.promised(target, found[1], new, self.ledger.at[source, uid])
            if (source, uid) in self.ledger.flags:
                self.ledger.flags[target, new] = set(self.ledger.flags[source, uid])
            if moving:
                del self.ledger.at[source, uid]
                self.ledger.flags.pop((source, uid), None)
        self.ledger.done[word.decode().lower()] += 1

    def move(self, client: Talk) -> None:
        self.copy(client, moving=True)

    def flag(self, client: Talk) -> None:
        mailbox = self.random.choice((self.own, COMMON))
        uids = self.some(mailbox)
        if not uids:
            return
        flags = set(self.random.sample(FLAGS, self.random.randint(0, 4)))
        ask(client, b"s SELECT " + mailbox)
        named = b",".join(b"%d" % uid for uid in uids)
        for uid in uids:
            self.ledger.flags.pop((mailbox, uid), None)  # until the answer has come
            if mailbox == COMMON:
                self.ledger.seen.pop(uid, None)
        answer = ask(client, b"f UID STORE %b FLAGS.SILENT (%b)" % (named, b" ".join(flags)))
        assert ok(answer), answer
        for uid in uids:
            self.ledger.flags[mailbox, uid] = flags
            if mailbox == COMMON:
                self.ledger.seen[uid] = b"\\Seen" in flags
        self.ledger.done["store"] += 1

    def share(self, client: Talk) -> None:
        rights = self.random.choice((b"lr", b"lrs", b"lrsw"))
        self.ledger.kept_acl = b""
        assert ok(ask(client, b"a SETACL %b dave %b" % (self.own, rights)))
        self.ledger.kept_acl = rights
        word = self.random.choice((b"SUBSCRIBE", b"UNSUBSCRIBE"))
        assert ok(ask(client, b"b %b %b" % (word, self.own)))
        self.ledger.done["share"] += 1


def expand(text: bytes) -> list[int]:
    found: list[int] = []
    for part in text.split(b","):
        low, _, high = part.partition(b":")
        found += range(int(low), int(high or low) + 1)
    return found


def kill_workers(host: World, users: list[str], until: float) -> int:
    """SIGKILL to one worker after another at random moments.  How many."""
    choose = random.Random(SEED)
    killed = 0
    while time.monotonic() < until:
        time.sleep(choose.uniform(0.1, 0.9))
        for worker in host.server.processes(f"sf-imap:{choose.choice(users)}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
                killed += 1
    return killed


def contents(client: Talk, mailbox: bytes) -> tuple[int, dict[int, tuple[set[bytes], bytes]]]:
    """UIDVALIDITY, and flags and body by UID."""
    answer = client.ask(b"s SELECT " + mailbox)
    assert ok(answer), answer
    (uidvalidity,) = [
        int(m[1]) for m in map(re.compile(rb".*UIDVALIDITY (\d+)").match, answer) if m
    ]
    client.send(b"f UID FETCH 1:* (UID FLAGS BODY.PEEK[])\r\n")
    found: dict[int, tuple[set[bytes], bytes]] = {}
    while not (line := client.line()).startswith(b"f "):
        got = _MESSAGE.match(line)
        assert got, line
        size = int(line[line.rindex(b"{") + 1 : line.rindex(b"}")])
        body = b""
        while len(body) <= size:
            body += client.line()
        assert body[size:] == b")\r\n"
        found[int(got[1])] = (set(got[2].split()) - {b"\\Recent"}, body[:size])
    return uidvalidity, found


@pytest.fixture
def crowd() -> Iterator[World]:
    with world() as host:
        acl = "".join(f"user={name} lrwstipekxa\n" for name in UIDS)
        make_maildir(host.maildir("alice") / ".Common", UIDS["alice"], acl)
        for user in ("alice", "bob", "carol"):
            for number in (1, 2):
                make_maildir(host.maildir(user) / f".Own{number}", UIDS[user])
                make_maildir(host.maildir(user) / f".Other{number}", UIDS[user])
        yield host


def test_nothing_acknowledged_is_lost(crowd: World) -> None:
    users = ["alice", "bob", "carol"]
    stop = threading.Event()
    clients = [Client(crowd, user, number, stop) for user in users for number in (1, 2)]
    for client in clients:
        client.start()
    killed = kill_workers(crowd, users, time.monotonic() + SECONDS)
    stop.set()
    for client in clients:
        client.join(30)
        assert not client.is_alive()
        if client.failure is not None:
            raise client.failure
    done = sum((client.ledger.done for client in clients), Counter[str]())
    deaths = sum(client.ledger.deaths for client in clients)
    print(f"{killed} workers killed, {deaths} sessions lost; acknowledged: {dict(done)}")
    assert killed > 3
    assert deaths > 3
    # Sharing waits two seconds for each lock of a dead worker: it gets its turn more seldom.
    assert min(done[word] for word in ("append", "copy", "move", "store")) > 3
    assert done["share"] > 0

    common = Ledger()
    for client in clients:
        check_own(crowd, client)
        merge(common, client.ledger)
    check(crowd, "alice", b"Common", common, COMMON)
    check_files(crowd, clients)
    assert "Traceback" not in crowd.server.log_text()


def merge(common: Ledger, ledger: Ledger) -> None:
    for (mailbox, uid), subject in ledger.at.items():
        if mailbox == COMMON:
            assert (mailbox, uid) not in common.at, f"UID {uid} was given twice"
            common.at[mailbox, uid] = subject
    common.flags |= {key: flags for key, flags in ledger.flags.items() if key[0] == COMMON}
    for uid in ledger.uids_given.get(COMMON, ()):
        common.uids_given.setdefault(COMMON, []).append(uid)
    common.uidvalidity.setdefault(COMMON, set()).update(ledger.uidvalidity.get(COMMON, ()))
    common.maybe += Counter({key: n for key, n in ledger.maybe.items() if key[0] == COMMON})


def check_own(host: World, client: Client) -> None:
    left = check(host, client.user, client.own, client.ledger)
    check(host, client.user, client.other, client.ledger)
    # MOVE leaves both or one, never neither.
    with host.user(client.user) as talk:
        targets = {b: contents(talk, b)[1] for b in (client.other, COMMON)}
    for uid, seen in client.ledger.seen.items():
        assert (b"\\Seen" in targets[COMMON][uid][0]) == seen, f"{client.name}: \\Seen of {uid}"
    everywhere = {subject_of(body) for found in targets.values() for _, body in found.values()}
    for mailbox, uid in client.ledger.unsure:
        subject = client.ledger.at[mailbox, uid]
        assert uid in left or subject in everywhere, f"{subject!r} was lost by MOVE"


def subject_of(body: bytes) -> bytes:
    first = body.split(b"\r\n", 1)[0]
    assert first.startswith(b"Subject: ")
    return first[9:]


def check(
    host: World, user: str, mailbox: bytes, ledger: Ledger, name: bytes = b""
) -> dict[int, tuple[set[bytes], bytes]]:
    """Everything promised is there, and nothing else but what may be."""
    name = name or mailbox
    with host.user(user) as talk:
        uidvalidity, found = contents(talk, mailbox)
    given = ledger.uids_given.get(name, [])
    assert len(given) == len(set(given)), "a UID was given twice"
    assert ledger.uidvalidity.get(name, {uidvalidity}) == {uidvalidity}
    for _, body in found.values():
        subject = subject_of(body)
        assert body.endswith(b"\r\nend of %b\r\n" % subject), f"half of {subject!r} is visible"
    promised = {uid: subject for (box, uid), subject in ledger.at.items() if box == name}
    for uid, subject in promised.items():
        if (name, uid) in ledger.unsure and uid not in found:
            continue
        assert uid in found, f"{subject!r} with UID {uid} of {name!r} is gone"
        flags, body = found[uid]
        assert subject_of(body) == subject
        if (name, uid) in ledger.flags and (name, uid) not in ledger.unsure:
            # \\Seen of a shared mailbox is each viewer's own.
            private = {b"\\Seen"} if name == COMMON else set()
            wanted = ledger.flags[name, uid]
            assert flags - private == wanted - private, f"flags of {uid} in {name!r}"
    surplus = Counter(subject_of(body) for uid, (_, body) in found.items() if uid not in promised)
    allowed = Counter({subject: n for (box, subject), n in ledger.maybe.items() if box == name})
    assert not surplus - allowed, f"nobody was told of {surplus - allowed} in {name!r}"
    return found


def check_files(host: World, clients: list[Client]) -> None:
    """Control files are whole, whoever died while writing them, and no lock stays for long."""
    for client in clients:
        box = host.maildir(client.user) / f".{client.own.decode()}"
        acl = read_acl(box / "dovecot-acl")
        assert not acl.problems
        if client.ledger.kept_acl:
            line = f"user=dave {Rights.parse(client.ledger.kept_acl.decode()).file()}"
            assert line in (box / "dovecot-acl").read_text().splitlines()
    for user in UIDS:
        path = host.maildir(user) / "subscriptions"
        if path.exists():
            lines = path.read_bytes().splitlines()
            assert lines[:2] == [b"V\t2", b""]
            assert set(lines[2:]) <= {b"Own1", b"Own2"}
            assert len(lines) == len(set(lines))
    lines = (host.top / "db" / "shared-mailboxes.db").read_bytes().splitlines()
    assert len(lines) % 2 == 0
    assert set(lines[1::2]) <= {b"1"}
    for key in lines[::2]:
        assert re.fullmatch(rb"shared/shared-boxes/user/\w+/(alice|bob|carol)", key)
