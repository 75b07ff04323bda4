"""A power cut at any moment: what a client was told stays true, as far as mail_fsync promises.

The real worker is recorded while a client uses it.  Then every cut is replayed: a tree that the
disk may hold afterwards is made and opened with a fresh storage, as by a server that starts again.
"""

import contextlib
import os
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from sharefs.flags import FlagSet, System
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from tests.powercut.record import Op, Said, parse, recording
from tests.powercut.replay import History, Model, State
from tests.service.clients import Talk, logged_in
from tests.service.test_whole_server import CONFIG
from tests.support.dovecot import MailUser
from tests.support.server import private_server

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

UID: Final = 200_000 + os.getpid() % 100_000  # alice's; nobody else's on this host
INBOX, WORK = ("INBOX",), ("Work",)
BOXES: Final = {"INBOX": INBOX, "Work": WORK}


def mail(name: str) -> bytes:
    return b"Subject: %b\n\n" % name.encode() + b"a line of text\n" * 5


@dataclass(frozen=True, slots=True)
class Told:
    """What a client heard of one mailbox: its messages by UID, with their flags."""

    uidvalidity: int
    messages: Mapping[int, tuple[bytes, FlagSet]]


@dataclass(slots=True)
class Case:
    """What was recorded.  before, after: as told before the first and after the last command.

    acknowledged: index of the call that told the client that all of it was done.
    """

    top: Path
    ops: Sequence[Op]
    acknowledged: int
    history: History
    before: Mapping[str, Told]
    after: Mapping[str, Told]
    texts: frozenset[bytes] = field(default_factory=frozenset)


SCRIPTS: Final[dict[str, list[bytes]]] = {
    "append": [b"APPEND Work (\\Seen) {100+}\r\n%b"],
    "append-unflagged": [b"APPEND Work {100+}\r\n%b"],
    "append-keyword": [b"APPEND Work ($New) {100+}\r\n%b"],
    "multiappend": [b"APPEND Work {100+}\r\n%b (\\Seen) {100+}\r\n%b ($New) {100+}\r\n%b"],
    "first-append": [b"CREATE Fresh", b"APPEND Fresh {100+}\r\n%b"],
    "copy": [b"SELECT INBOX", b"COPY 1:2 Work"],
    "move": [b"SELECT INBOX", b"MOVE 1:2 Work"],
    "store": [b"SELECT INBOX", b"STORE 1:2 +FLAGS (\\Flagged \\Seen)"],
    "store-keyword": [b"SELECT INBOX", b"STORE 1 +FLAGS ($New)"],
    "expunge": [b"SELECT INBOX", b"STORE 2 +FLAGS (\\Deleted)", b"EXPUNGE"],
    "delivery": [b"SELECT INBOX", b"FETCH 1:* (UID FLAGS)"],  # deliver() has been there before
}


def _maildirs(root: Path) -> Iterator[tuple[str, Path]]:
    for name, folder in (("INBOX", root), ("Work", root / ".Work"), ("Fresh", root / ".Fresh")):
        if folder.is_dir():
            yield name, folder


def look(root: Path, names: Sequence[str] = ("INBOX", "Work", "Fresh")) -> dict[str, Told]:
    """The mailboxes as a server that starts now finds them."""
    storage = MaildirStorage(MaildirConfig(root))
    found = {}
    for name, _ in _maildirs(root):
        if name not in names:
            continue
        with contextlib.closing(storage.open((name,))) as mailbox:
            mailbox.sync()
            messages = {uid: (mailbox.read(uid), mailbox.flags_of(uid)) for uid in mailbox.uids()}
            found[name] = Told(mailbox.uidvalidity, messages)
    return found


def tree_of(root: Path) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {os.fspath(root): None}
    for path in root.rglob("*"):
        found[os.fspath(path)] = path.read_bytes() if path.is_file() else None
    return found


def record(script: str, fsync: str, base: Path, log: Path) -> Case:
    root = base / "alice" / "Maildir"
    config = CONFIG + f"mail_fsync = {fsync}\nsharefs_index = no\n"
    user = MailUser("alice", UID, UID, base / "alice")
    user.home.mkdir(mode=0o700)
    os.chown(user.home, UID, UID)
    with private_server(config, [user]) as server:
        with logged_in(server, "alice") as client:
            prepare(client)
        if script == "delivery":
            deliver(root, mail("delivered"))
        with logged_in(server, "alice") as client:
            client.ask(b"a NOOP")
            before, tree = look_without_numbers(root, script), tree_of(root)
            texts = [with_length(mail(f"new {number}")) for number in range(3)]
            with recording(worker_of(UID), log):
                for number, command in enumerate(SCRIPTS[script]):
                    filled = command % tuple(texts[: command.count(b"%b")])
                    last = client.ask(b"r%d %b" % (number, filled))[-1]
                    assert last.startswith(b"r%d OK" % number), last
                client.ask(b"a NOOP")  # or the tracer may end before it has written of that
    ops = parse(log, root)
    tag = b"r%d OK" % (len(SCRIPTS[script]) - 1)
    done = next(at for at, op in enumerate(ops) if isinstance(op, Said) and tag in op.octets)
    history = History(root, tree, ops)
    after_tree = {path: text for path, text in tree_of(root).items() if "uidlist.lock" not in path}
    assert history.final() == after_tree, "the recording is not all that happened"
    return Case(root, ops, done, history, before, look(root))


def with_length(octets: bytes) -> bytes:
    return octets.ljust(99, b".") + b"\n"


def look_without_numbers(root: Path, script: str) -> dict[str, Told]:
    """look(), but of a mailbox with a new delivery what its list says: looking would number it."""
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    try:
        told = look(copy)
    finally:
        shutil.rmtree(copy)
    if script == "delivery":
        inbox = told["INBOX"]
        old = {uid: one for uid, one in inbox.messages.items() if b"delivered" not in one[0]}
        told["INBOX"] = Told(inbox.uidvalidity, old)
    return told


def prepare(client: Talk) -> None:
    client.ask(b"a CREATE Work")
    for number in range(3):
        text = mail(f"old {number}").replace(b"\n", b"\r\n")
        flags = (b"()", b"(\\Seen $Old)", b"(\\Answered)")[number]
        answer = client.ask(b"a APPEND INBOX %b {%d+}\r\n%b" % (flags, len(text), text))
        assert answer[-1].startswith(b"a OK")
    client.ask(b"a SELECT INBOX")
    client.ask(b"a COPY 3 Work")
    client.ask(b"a LOGOUT")
    os.sync()


def deliver(root: Path, octets: bytes) -> None:
    """As any deliverer does, with everything on the disk when it is done."""
    path = root / "new" / "1795290000.M1P2.deliverer"
    path.write_bytes(octets)
    os.chown(path, UID, UID)
    os.sync()


def worker_of(uid: int) -> int:
    """The one process of that uid."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if re.search(rf"^Uid:\t{uid}\t", status.read_text(), re.MULTILINE):
                found.append(int(status.parent.name))
    (pid,) = found
    return pid


# --- what must be so after any cut ---------------------------------------------------------------


def check(case: Case, fsync: str, state: State, root: Path) -> None:
    state.write_below(case.top, root)
    for _, folder in _maildirs(root):  # what a server makes when it is not there
        for name in ("cur", "new", "tmp"):
            (folder / name).mkdir(exist_ok=True)
    for lock in list(root.rglob("*.lock")):
        lock.unlink()  # stale, as whoever waits for it finds out within two minutes at most
    acknowledged = state.cut > case.acknowledged
    found = look(root)
    if fsync == "never":
        # Promised is only what nobody touched.
        for name, told in case.before.items():
            here, later = found[name], case.after[name]
            stayed = [uid for uid, one in told.messages.items() if later.messages.get(uid) == one]
            for uid in stayed:
                assert told.messages[uid][0] in {text for text, _ in here.messages.values()}
        return
    texts = {text for told in (case.before, case.after) for text in _texts(told)}
    assert _texts(found) <= texts, "half a message is shown"
    kept = _texts(case.before) & _texts(case.after)
    if acknowledged:
        kept = _texts(case.after)
    assert _texts(found) >= kept, "a message is lost"
    for name, told in case.before.items():
        _check_mailbox(found[name], told, changes=case.after.get(name, told))
    if acknowledged:
        for name, told in case.after.items():
            _check_told(found[name], told, exactly=fsync == "always")
    assert not list(root.rglob("*.broken"))
    _check_new_numbers(case, root, acknowledged=acknowledged)


def _texts(boxes: Mapping[str, Told]) -> set[bytes]:
    return {text for told in boxes.values() for text, _ in told.messages.values()}


def _check_mailbox(found: Told, before: Told, *, changes: Told) -> None:
    """UIDs mean what they meant; flags are the old or the new ones."""
    assert found.uidvalidity == before.uidvalidity
    for uid, (text, flags) in before.messages.items():
        if uid not in found.messages:
            assert uid not in changes.messages, f"message {uid} has lost its number"
            continue
        got_text, got_flags = found.messages[uid]
        assert got_text == text, f"number {uid} means another message"
        after = changes.messages.get(uid, (text, flags))[1]
        on_the_way = System.NONE if uid in changes.messages else System.DELETED
        assert not got_flags.system & ~(flags.system | after.system | on_the_way)
        assert got_flags.keywords <= flags.keywords | after.keywords


def _check_told(found: Told, told: Told, *, exactly: bool) -> None:
    """What the client was told last.  exactly: changes of flags and removals, too."""
    assert found.uidvalidity == told.uidvalidity
    for uid, (text, flags) in told.messages.items():
        assert uid in found.messages, f"message {uid} was acknowledged"
        assert found.messages[uid][0] == text
        if exactly:
            assert found.messages[uid][1] == flags, f"the flags of {uid} were acknowledged"
    if exactly:
        assert found.messages.keys() == told.messages.keys(), "what was removed is back"


def _check_new_numbers(case: Case, root: Path, *, acknowledged: bool) -> None:
    """A message that comes now gets a number that no client has heard of for another one."""
    storage = MaildirStorage(MaildirConfig(root))
    for name in case.before:
        told = set(case.before[name].messages)
        if acknowledged:
            told |= set(case.after[name].messages)
        with contextlib.closing(storage.open((name,))) as mailbox, mailbox.saver() as saver:
            saver.begin(FlagSet(), None)
            saver.write(b"Subject: later\n\n")
            saver.finish()
            (uid,) = saver.commit()
            assert uid > max(told, default=0), f"number {uid} is given out again"


@pytest.mark.parametrize("fsync", ["optimized", "always", "never"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_was_acknowledged_survives_every_cut(
    open_tmp: Path, tmp_path: Path, script: str, fsync: str
) -> None:
    case = record(script, fsync, open_tmp, tmp_path / "calls")
    dice = random.Random(7)
    root = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    place = root / f"powercut-{os.getpid()}"
    looked = 0
    checked = set()
    try:
        for model in Model:
            for state in case.history.states(model, dice):
                looked += 1
                known = state.tree, state.cut > case.acknowledged
                if known in checked:
                    continue
                checked.add(known)
                try:
                    check(case, fsync, state, place)
                except BaseException as error:
                    error.add_note(f"{model.value}, cut at {state.cut}: {told_of(case, state)}")
                    raise
                finally:
                    shutil.rmtree(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert looked > len(case.ops)


def told_of(case: Case, state: State) -> str:
    """The calls around a cut, and the tree: for whoever has to find out."""
    top = os.fspath(case.top)
    calls = [f"{at}: {op}".replace(top, "")[:200] for at, op in enumerate(case.ops[: state.cut])]
    files = [f"{path.removeprefix(top)} {len(text)} octets" for path, _, text in state.files]
    return "\n".join(["", *calls, f"acknowledged by {case.acknowledged}", *files])
