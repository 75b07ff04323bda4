"""ACLs against a real Dovecot 2.3: the same rights, the same files, the same map.

One server for the module; alice owns everything, bob and carl look on from the shared namespace.
"""

import os
import random
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from sharefs.acl import VISIBLE, Acl, AclViewer, Mode, Update, effective, shown
from sharefs.identifiers import ANYONE, AUTHENTICATED, OWNER, Identifier, Kind, group, user
from sharefs.permissions.inherit import DEFAULTS
from sharefs.rights import CANONICAL, NONE, Rights
from sharefs.sharing.file_map import FileMap
from sharefs.sharing.files import read_acl, update_acl
from sharefs.sharing.guards import keep_admin
from sharefs.sharing.keys import Audience, ShareKey
from sharefs.sharing.list_cache import parse_list
from sharefs.sharing.policy import MENDING, AclMailbox, Policy, Viewer
from sharefs.sharing.step import OwnedMailbox, Shares, derive
from tests.conftest import OPEN_TMP_PREFIX
from tests.support.dovecot import Dovecot, MailUser, private_dovecot

pytestmark = [pytest.mark.dovecot, pytest.mark.superuser, pytest.mark.slow]

UID = 5101
GROUPS = {"alice": "staff", "bob": "staff", "carl": "ops,staff"}
GLOBALS = b"""\
*G1* user=bob lrwx
*G2* -user=bob r
*G2* anyone lrs
*G3* group=staff la
*G3* group-override=ops ls
*G4* -anyone x
*G4* owner lrwxa
*G5* user=carl
"""
CONFIG = """
mail_location = maildir:~/Maildir
mail_plugins = acl
protocol imap {{
  mail_plugins = acl imap_acl
}}
plugin {{
  acl = vfile:{globals}:cache_secs=0
  acl_shared_dict = file:{map}
  acl_anyone = allow
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
namespace shared {{
  type = shared
  prefix = shared/%%u/
  separator = /
  location = maildir:%%h/Maildir:INDEX=%h/idx/%%u
  subscriptions = no
  list = children
}}
"""


@dataclass
class World:
    """A server, and where its files are."""

    top: Path
    server: Dovecot

    @property
    def root(self) -> Path:
        return self.top / "alice" / "Maildir"

    @property
    def map_path(self) -> Path:
        return self.top / "db" / "shared.db"

    def mailbox(self, name: str, acl: bytes | None = None) -> Path:
        """Make alice's mailbox; returns the path of its ACL file."""
        directory = self.root / f".{name}"
        for path in (self.root, directory, *(directory / sub for sub in ("cur", "new", "tmp"))):
            path.mkdir(exist_ok=True)
            os.chown(path, UID, UID)
        file = directory / "dovecot-acl"
        if acl is not None:
            file.write_bytes(acl)
            os.chown(file, UID, UID)
        return file

    def seen_by(self, viewer: str, name: str) -> AclMailbox:
        """The same mailbox as the policy knows it."""
        own = viewer == "alice"
        return AclMailbox(
            namespace_type="private" if own else "shared",
            name=name if own else f"shared/alice/{name}",
            owner="alice",
            acl_dir=self.root / f".{name}",
            global_file=self.top / "globals",
        )


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    top = Path(tempfile.mkdtemp(prefix=OPEN_TMP_PREFIX))
    top.chmod(0o755)
    (top / "globals").write_bytes(GLOBALS)
    (top / "globals").chmod(0o644)
    users = [
        MailUser(name, UID, UID, top / name, (f"acl_groups={groups}",))
        for name, groups in GROUPS.items()
    ]
    for path in (top / "db", *(one.home for one in users)):
        path.mkdir()
        os.chown(path, UID, UID)
    config = CONFIG.format(globals=top / "globals", map=top / "db" / "shared.db")
    try:
        with private_dovecot(config, users) as server:
            yield World(top, server)
    finally:
        shutil.rmtree(top, ignore_errors=True)


IDS = [
    "anyone", "anonymous", "authenticated", "owner", "user=alice", "user=bob", "user=carl",
    "user=dora", "group=staff", "group=ops", "group=none", "group-override=staff",
    "group-override=ops", '"user=a b"', "user=bob\tx",
]  # fmt: skip


def random_file(rng: random.Random) -> bytes:
    lines: list[str] = []
    for _ in range(rng.choice([0, 1, 2, 3, 4, 6, 9])):
        name = rng.choice(IDS)
        if rng.random() < 0.35:
            name = '"-' + name[1:] if name.startswith('"') else "-" + name
        letters = "".join(rng.choices(CANONICAL, k=rng.randint(0, 6)))
        tail = rng.choice(["", "", "", " ", " :foo", " :foo,bar", ":read"])
        lines.append(f"{name} {letters}{tail}" if letters or tail or rng.random() < 0.5 else name)
    if rng.random() < 0.2:
        lines.insert(0, "# comment")
    return "".join(line + rng.choice(["\n", "\n", "\r\n"]) for line in lines).encode()


def viewer_of(name: str) -> Viewer:
    return Viewer(name, frozenset(GROUPS[name].split(",")))


def test_rights_agree_with_dovecot(world: World) -> None:
    rng = random.Random(20261121)
    names = [f"R{number}" for number in range(300)]
    names += [f"R{number}G{number % 5 + 1}" for number in range(300, 500)]
    files = {name: random_file(rng) for name in names}
    for name, octets in files.items():
        world.mailbox(name, octets)
    policy = Policy()
    checked = 0
    for who in GROUPS:
        with world.server.imap(who) as client:
            for name in names:
                mailbox = world.seen_by(who, name)
                ours = policy.rights_of(viewer_of(who), mailbox)
                status, answer = client.myrights(mailbox.name)
                story = f"{who} {name}\n{files[name].decode()}" + "\n".join(map(str, ours.reasons))
                if status == "NO":
                    assert b"[NONEXISTENT]" in answer[0], answer
                    assert not ours.rights & VISIBLE, story
                else:
                    letters = answer[0].split()[-1].decode().strip('"')
                    assert letters == ours.rights.wire(), story
                checked += 1
    assert checked == 3 * len(names)


def test_getacl_agrees_with_dovecot(world: World) -> None:
    rng = random.Random(4314)
    policy = Policy()
    owner = AclViewer("alice", frozenset({"staff"}), True, "alice", True)
    listed = 0
    with world.server.imap("alice") as client:
        for number in range(150):
            name = f"L{number}" + ("G2" if number % 3 == 0 else "")
            world.mailbox(name, random_file(rng))
            mailbox = world.seen_by("alice", name)
            status, answer = client.getacl(name)
            if status == "NO":
                rights = policy.rights_of(viewer_of("alice"), mailbox).rights
                assert not rights.covers(Rights("a")), name
                continue
            words = shlex.split(answer[0].decode())[1:]
            theirs = list(zip(words[::2], map(frozenset, words[1::2]), strict=True))
            ours = [
                (identifier, frozenset(rights))
                for entry in shown(policy.acl_of(mailbox), owner)
                for identifier, rights in entry.wire()
            ]
            assert ours == theirs, (mailbox.acl_dir, answer)
            listed += 1
    assert listed > 50


TARGETS = [
    ANYONE, AUTHENTICATED, OWNER, user("alice"), user("bob"), user("a b"), user("a\\'b c"),
    user('q"uote'), user("dora@ex.org"), group("staff"), group("with space"),
    Identifier(Kind.GROUP_OVERRIDE, "ops"),
]  # fmt: skip


def guarded(update: Update, owner: AclViewer, acl: Acl) -> Acl:
    return acl.apply(keep_admin(acl, update, owner))


def test_updates_write_the_same_bytes(world: World, tmp_path: Path) -> None:
    """Random SETACL and DELETEACL, on Dovecot's file and on ours, compared after every one."""
    rng = random.Random(4)
    start = b"user=carl lr\nuser=carl s\n-group=x t\n"
    theirs = world.mailbox("Updates", start)
    ours = tmp_path / "dovecot-acl"
    ours.write_bytes(start)
    owner = AclViewer("alice", frozenset({"staff"}), True, "alice", True)
    with world.server.imap("alice") as client:
        locked_out = 0
        for step in range(250):
            target = rng.choice(TARGETS)
            negative = rng.random() < 0.3
            quoted = (
                '"' + target.wire(negative=negative).replace("\\", "\\\\").replace('"', '\\"') + '"'
            )
            if rng.random() < 0.25:
                update = Update.deletion(target, negative=negative)
                said = f"DELETEACL {quoted}"
                client.deleteacl("Updates", quoted)
            else:
                mode = rng.choice(list(SIGNS))
                rights = Rights("".join(rng.choices(CANONICAL, k=rng.randint(0, 5))))
                update = Update.of(target, mode, rights, negative=negative)
                said = f"SETACL {quoted} {SIGNS[mode]}{rights}"
                status, answer = client.setacl(
                    "Updates", quoted, f'"{SIGNS[mode]}{rights.letters}"'
                )
                assert status == "OK", (said, answer)
            update_acl(ours, partial(guarded, update, owner), DEFAULTS)
            assert ours.read_bytes() == theirs.read_bytes(), (step, said)
            if not effective(read_acl(ours).acl, owner, NONE).rights.covers(MENDING):
                locked_out += 1  # alice did it to herself: begin again
                ours.write_bytes(start)
                theirs.write_bytes(start)
    assert locked_out > 2


SIGNS = {Mode.REPLACE: "", Mode.ADD: "+", Mode.REMOVE: "-"}

DOVEADM = [  # doveadm acl ARGS MAILBOX ID RIGHTS, and the same as an Update
    (["set", "user=bob", "lookup", "read", ":foo", ":bar"],
     Update.whole(user("bob"), Rights("lr", ("foo", "bar")))),
    (["add", "user=bob", "insert", "-post"],
     Update(user("bob"), Update.of(user("bob"), Mode.ADD, Rights("i")).positive,
            Update.of(user("bob"), Mode.ADD, Rights("p")).positive)),
    (["remove", "user=bob", "lookup", "read", "insert", ":foo", ":bar"],
     Update.of(user("bob"), Mode.REMOVE, Rights("lri", ("foo", "bar")))),
    (["set", "user=bob", "-read"], Update.whole(user("bob"), NONE, Rights("r"))),
    (["set", "user=x y", "all"], Update.whole(user("x y"), Rights(CANONICAL))),
    (["delete", "user=bob"], Update.deletion(user("bob"))),
    (["add", "group-override=g", ":foo"],
     Update.of(Identifier(Kind.GROUP_OVERRIDE, "g"), Mode.ADD, Rights("", ("foo",)))),
    (["remove", "user=nobody", "lookup"], Update.of(user("nobody"), Mode.REMOVE, Rights("l"))),
]  # fmt: skip


def test_doveadm_writes_the_same_bytes(world: World, tmp_path: Path) -> None:
    theirs = world.mailbox("Doveadm", b"anyone l\nuser=bob r\nuser=bob s\n")
    ours = tmp_path / "dovecot-acl"
    ours.write_bytes(theirs.read_bytes())
    for (verb, *words), update in DOVEADM:
        world.server.doveadm("acl", verb, "-u", "alice", "--", "Doveadm", *words)
        update_acl(ours, update, DEFAULTS)
        assert ours.read_bytes() == theirs.read_bytes(), (verb, words)


def test_dovecot_reads_what_we_wrote(world: World) -> None:
    path = world.mailbox("Ours")
    for update in (
        Update.whole(user("bob"), Rights("lr", ("foo",)), Rights("s")),
        Update.whole(user("a\\'\"b c"), Rights("lrs")),
        Update.whole(Identifier(Kind.GROUP_OVERRIDE, "ops"), Rights("l")),
    ):
        update_acl(path, update, DEFAULTS)
    os.chown(path, UID, UID)
    got = world.server.doveadm("-f", "tab", "acl", "get", "-u", "alice", "Ours").stdout
    assert sorted(got.splitlines()[1:]) == sorted(
        ["group-override=ops\t\tlookup", "user=a\\'\"b c\t\tlookup read write-seen",
         "user=bob\t\tfoo lookup read -write-seen"]
    )  # fmt: skip


def test_map_and_list_cache_agree_with_dovecot(world: World, tmp_path: Path) -> None:
    mailboxes = {
        "S1": ("bob", "lr"), "S2": ("$staff", "l"), "S3": ("!$ops", "lr"), "S4": ("carl", "rs"),
        "S5": ("anyone", "l"), "S6": ("-dora", "l"), "S7": ("owner", "lra"), "S8": ("alice", "lr"),
    }  # fmt: skip
    with world.server.imap("alice") as client:
        for name, (identifier, rights) in mailboxes.items():
            world.mailbox(name, b"")
            assert client.setacl(name, f'"{identifier}"', rights)[0] == "OK"
    world.server.doveadm("acl", "recalc", "-u", "alice")

    def owned() -> Iterator[OwnedMailbox]:
        for path in sorted(world.root.glob(".*")):
            name = path.name[1:]
            lines = Policy().reader.read_globals(world.top / "globals")
            yield OwnedMailbox(name, path / "dovecot-acl", lines.entries_for(name))

    share_map = FileMap(tmp_path / "shared.db")
    shares = Shares(
        owner="alice",
        mailboxes=owned,
        list_path=tmp_path / "dovecot-acl-list",
        list_creation=DEFAULTS,
        share_map=share_map,
    )
    derived = derive(shares)
    assert derived.list_written
    assert not derived.warnings
    assert FileMap(world.map_path).all() == share_map.all()
    assert len(share_map.shares_of("alice")) >= 4
    theirs = parse_list((world.root / "dovecot-acl-list").read_bytes())
    ours = parse_list((tmp_path / "dovecot-acl-list").read_bytes())
    assert theirs is not None
    assert ours is not None
    assert set(theirs) == set(ours)
    # And the other way round: Dovecot lists by the map that we wrote.
    world.map_path.write_bytes((tmp_path / "shared.db").read_bytes())
    with world.server.imap("bob") as client:
        _, lines = client.list('""', '"shared/*"')
        assert any(b"shared/alice/S1" in line for line in lines if isinstance(line, bytes))


def test_writing_at_the_same_time_loses_nothing(world: World) -> None:
    """Dovecot and we change one ACL file and one map, each under the other's locks."""
    rounds = 25
    path = world.mailbox("Both", b"")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
            for number in range(rounds):
                update_acl(path, Update.whole(user(f"ours{number}"), Rights("lr")), DEFAULTS)
                FileMap(world.map_path).replace(f"owner{number}", {ShareKey(Audience.ANYONE)})
            status = 0
        finally:
            os._exit(status)
    with world.server.imap("alice") as client:
        answers = [client.setacl("Both", f"theirs{number}", "lr")[0] for number in range(rounds)]
    assert os.waitpid(child, 0)[1] == 0
    assert answers == ["OK"] * rounds
    got = {entry.identifier.name for entry in read_acl(path).acl.entries}
    assert got == {f"{who}{number}" for who in ("ours", "theirs") for number in range(rounds)}
    found = FileMap(world.map_path).all()
    assert {f"owner{number}" for number in range(rounds)} <= set(found)
    want = {ShareKey(Audience.USER, f"theirs{number}") for number in range(rounds)}
    assert want <= found["alice"]
    path.unlink()


def test_a_malformed_file_gives_nobody_more_than_dovecot(world: World) -> None:
    """Dovecot refuses everybody with an internal error; we leave the owner what mends the file."""
    world.mailbox("M1", b"user=bob lr\nanyone z\n")
    policy = Policy()
    for who in GROUPS:
        mailbox = world.seen_by(who, "M1")
        with world.server.imap(who) as client:
            status, answer = client.myrights(mailbox.name)
        assert status == "NO"
        assert b"Internal error" in answer[0]
        ours = policy.rights_of(viewer_of(who), mailbox).rights
        assert ours == (MENDING if who == "alice" else NONE)
    (world.root / ".M1" / "dovecot-acl").unlink()
    assert read_acl(world.root / ".M1" / "dovecot-acl").readable


DEFAULTS_CONFIG = """
mail_location = maildir:~/{root}
mail_plugins = acl
protocol imap {{
  mail_plugins = acl imap_acl
}}
plugin {{
  acl = vfile::cache_secs=0
  {setting}
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
namespace shared {{
  type = shared
  prefix = shared/%%u/
  separator = /
  location = maildir:%%h/{root}:INDEX=%h/idx/%%u
  subscriptions = no
  list = children
}}
"""
DEFAULT_FILES = [b"user=bob lr\n", b"owner l\nanyone r\n", b"-user=bob l\n", b""]
OWN_FILES: list[bytes | None] = [None, b"", b"user=dora l\n", b"-user=bob l\n", b"user=bob s\n"]


@pytest.mark.parametrize("from_inbox", [True, False])
def test_defaults_agree_with_dovecot(open_tmp: Path, from_inbox: bool) -> None:
    """acl_defaults_from_inbox with Maildir++; else the root's file, which needs layout fs."""
    root = "Maildir" if from_inbox else "fs:LAYOUT=fs:INBOX=%s/inbox" % (open_tmp / "alice")
    setting = "acl_defaults_from_inbox = yes" if from_inbox else ""
    users = [MailUser(name, UID, UID, open_tmp / name) for name in ("alice", "bob")]
    for one in users:
        one.home.mkdir()
        os.chown(one.home, UID, UID)
    home = open_tmp / "alice"
    top = home / ("Maildir" if from_inbox else "fs")
    for path in (top, top / "cur", top / "new", top / "tmp"):
        path.mkdir()
        os.chown(path, UID, UID)
    config = DEFAULTS_CONFIG.format(root=root, setting=setting)
    checked = 0
    with private_dovecot(config, users) as server:
        for number, octets in enumerate(DEFAULT_FILES):
            (top / "dovecot-acl").write_bytes(octets)
            for place, own in enumerate(OWN_FILES):
                name = f"D{number}{place}"
                directory = top / (f".{name}" if from_inbox else name)
                for path in (directory, *(directory / sub for sub in ("cur", "new", "tmp"))):
                    path.mkdir()
                    os.chown(path, UID, UID)
                if own is not None:
                    (directory / "dovecot-acl").write_bytes(own)
                for who in ("alice", "bob"):
                    mailbox = AclMailbox(
                        namespace_type="private" if who == "alice" else "shared",
                        name=name if who == "alice" else f"shared/alice/{name}",
                        owner="alice",
                        acl_dir=directory,
                        default_acl_dir=top,
                    )
                    ours = Policy().rights_of(Viewer(who), mailbox).rights
                    done = server.doveadm("acl", "rights", "-u", who, mailbox.name)
                    theirs = Rights.named(done.stdout.split()[1:])
                    assert theirs == ours, (who, octets, own, done.stderr)
                    checked += 1
    assert checked == 2 * len(DEFAULT_FILES) * len(OWN_FILES)
