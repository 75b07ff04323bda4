"""The same scenarios with a real Dovecot and with our rules: modes, groups and links agree.

Ours runs with source "parent", which is what Dovecot has done since 2011; that "root" differs, and
how, is in test_seed_listings.
"""

import imaplib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from sharefs.errors import Code, SharingError
from sharefs.permissions.inherit import link_decision
from sharefs.permissions.lookup import creation_for_mailbox
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from tests.permissions.listing import make_maildir, make_owned, shown
from tests.store.contract import SEEN, add
from tests.support.become import Identity
from tests.support.dovecot import Dovecot, MailUser, private_dovecot

pytestmark = [pytest.mark.superuser, pytest.mark.dovecot]

US, UID, TEAM = 5100, 5001, 6000
MESSAGE_NAME = "1700000000.M1P1.host:2,S"
MESSAGE = b"From: a@example.org\r\nSubject: x\r\n\r\nbody\r\n"


@dataclass(frozen=True)
class Tree:
    """A Maildir++ root and one mailbox `foo` in it, as an administrator left them."""

    name: str
    root: tuple[int, int, int]  # mode, uid, gid
    foo: tuple[int, int, int] | None = None
    groups: tuple[int, ...] = ()


TREES = [
    Tree("private", (0o700, UID, US)),
    Tree("seed-0715", (0o715, UID, US), (0o777, UID, US)),
    Tree("open-root", (0o777, UID, US), (0o700, UID, US)),
    Tree("setgid-stranger", (0o2770, UID, TEAM)),
    Tree("setgid-member", (0o2775, UID, TEAM), (0o2750, UID, TEAM), (TEAM,)),
    Tree("setgid-below-plain", (0o750, UID, US), (0o2770, UID, TEAM)),
    Tree("plain-below-setgid", (0o2770, UID, TEAM), (0o750, UID, US)),
    Tree("group-stranger", (0o770, UID, TEAM)),
    Tree("group-member", (0o770, UID, TEAM), (0o740, UID, TEAM), (TEAM,)),
    Tree("group-says-nothing", (0o755, UID, TEAM), (0o711, UID, TEAM)),
    Tree("foreign-owner", (0o2777, 5009, TEAM), (0o777, 5009, US), (TEAM,)),
    Tree("sticky", (0o3770, UID, TEAM), None, (TEAM,)),
    Tree("odd-bits", (0o731, UID, TEAM), (0o752, UID, TEAM), (TEAM,)),
]
BY_NAME = {tree.name: tree for tree in TREES}
DOMAINS = {"d2770": 0o2770, "d3770": 0o3770, "d2775": 0o2775, "d770": 0o777}

COPIES = [  # id, source mode/uid/gid, destination
    ("same", (0o777, UID, US), (0o777, UID, US)),
    ("modes-differ", (0o777, UID, US), (0o715, UID, US)),
    ("execute-only", (0o711, UID, US), (0o700, UID, US)),
    ("owners-differ-readable", (0o755, 5009, 5009), (0o755, UID, US)),
    ("owners-differ-writable", (0o777, 5009, US), (0o777, UID, US)),
    ("groups-differ", (0o770, UID, TEAM), (0o770, UID, US)),
    ("setgid-against-copied", (0o2770, UID, TEAM), (0o770, UID, TEAM)),
    ("setgid-both", (0o2770, UID, TEAM), (0o2770, UID, TEAM)),
]


def build(tree: Tree, root: Path) -> None:
    make_maildir(root, *tree.root)
    if tree.foo is not None:
        make_maildir(root / ".foo", *tree.foo)
    if tree.name == "group-member":
        for number, (_, source, dest) in enumerate(COPIES):
            make_maildir(root / f".from{number}", *source)
            message = root / f".from{number}/cur/{MESSAGE_NAME}"
            message.write_bytes(MESSAGE)
            os.chown(message, *source[1:])
            message.chmod(source[0] & 0o666)
            # So that Dovecot need not write where it may only read.
            uidlist = root / f".from{number}/dovecot-uidlist"
            uidlist.write_text(f"3 V1700000000 N2 G{number + 1:032x}\n1 :{MESSAGE_NAME[:-4]}\n")
            uidlist.chmod(0o644)
            make_maildir(root / f".to{number}", *dest)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sharefs-oracle-") as name:
        path = Path(name)
        path.chmod(0o755)
        for side in ("ours", "theirs"):
            for tree in TREES:
                make_owned(path / side / tree.name, 0o777, 0, 0)
                build(tree, path / side / tree.name / "Maildir")
            for domain, mode in DOMAINS.items():
                make_owned(path / side / domain, mode, 0, TEAM)
                make_owned(path / side / f"home-{domain}", mode, 0, TEAM)
        make_owned(path / "homes", 0o777, 0, 0)
        yield path


@pytest.fixture(scope="module")
def theirs(place: Path) -> Iterator[Dovecot]:
    users = [
        MailUser(
            tree.name, UID, US, place / "homes" / tree.name,
            (f"mail=maildir:{place}/theirs/{tree.name}/Maildir",
             *(f"mail_access_groups={gid}" for gid in tree.groups)),
        )
        for tree in TREES
    ]  # fmt: skip
    for number, domain in enumerate(DOMAINS):
        for user in ("user", "other"):
            uid = 5001 + number if user == "user" else 5050
            users.append(
                MailUser(f"{user}@{domain}", uid, uid + 200, place / "homes" / user,
                         (f"mail_access_groups={TEAM}",))
            )  # fmt: skip
    # mail_location with variables, so that Dovecot can see where the domain part ends.
    config = f"mail_location = maildir:{place}/theirs/%d/ex.org/%n/Maildir\n"
    with private_dovecot(config, users) as server:
        yield server


def storage_at(root: Path, template: str = "") -> MaildirStorage:
    return MaildirStorage(MaildirConfig(root, template=template, permissions_from="parent"))


def picture(root: Path, mailbox: str) -> dict[str, str]:
    """What both servers must agree on."""
    top = root / f".{mailbox}"
    names = ("", "cur", "new", "tmp", "dovecot-uidlist", "maildirfolder")
    found = {name: shown(top / name) for name in names if (top / name).exists()}
    for message in (top / "cur").glob("*") if (top / "cur").exists() else ():
        found["message"] = shown(message)
    return found


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
@pytest.mark.parametrize("mailbox", ["new", "foo.bar", "foo.bar.deep"])
def test_create(place: Path, theirs: Dovecot, tree: Tree, mailbox: str) -> None:
    root = place / "theirs" / tree.name / "Maildir"
    mine = place / "ours" / tree.name / "Maildir"
    with theirs.imap(tree.name) as client:
        status = client.create(mailbox)[0]
        if status == "OK":
            client.append(mailbox, "(\\Seen)", "", MESSAGE)

    def run() -> str:
        storage = storage_at(mine)
        try:
            storage.create(levels := tuple(mailbox.split(".")))
            with closing(storage.open(levels)) as opened:
                add(opened, MESSAGE, flags=SEEN)
        except PermissionError:
            return "NO"
        return "OK"

    got = Identity(UID, US, tree.groups).run(run)
    assert got == status
    assert picture(mine, mailbox) == picture(root, mailbox)


def test_where_we_are_stricter(place: Path, theirs: Dovecot) -> None:
    """Two setgid directories of different groups: Dovecot links a file of the wrong group."""
    tree = BY_NAME["group-member"]
    root = place / "theirs" / tree.name / "Maildir"
    make_maildir(root / ".strict-from", 0o2770, UID, TEAM)
    make_maildir(root / ".strict-to", 0o2770, UID, US)
    with theirs.imap(tree.name) as client:
        client.append("strict-from", "(\\Seen)", "", MESSAGE)
        client.select("strict-from")
        assert client.copy("1", "strict-to")[0] == "OK"
    assert shown(only_message(root / ".strict-to")) == f"-rw-rw---- {UID}:{TEAM}"

    def decide() -> bool:
        one, two = (
            creation_for_mailbox(root, [root / name], source="parent", egid=os.getegid())
            for name in (".strict-from", ".strict-to")
        )
        return link_decision(one, two).link

    assert Identity(UID, US, tree.groups).run(decide) is False


def only_message(mailbox: Path) -> Path:
    (found,) = [*(mailbox / "cur").iterdir(), *(mailbox / "new").iterdir()]
    return found


@pytest.mark.parametrize("number", range(len(COPIES)), ids=[row[0] for row in COPIES])
def test_copy(place: Path, theirs: Dovecot, number: int) -> None:
    tree = BY_NAME["group-member"]
    root, mine_root = (place / side / tree.name / "Maildir" for side in ("theirs", "ours"))
    source, dest = f"from{number}", f"to{number}"
    with theirs.imap(tree.name) as client:
        client.select(source, readonly=True)
        assert client.copy("1", dest)[0] == "OK"

    def run() -> bool:
        storage = storage_at(mine_root)
        with closing(storage.open((source,))) as one, closing(storage.open((dest,))) as two:
            [copied] = two.copy_from(one, [1])
        return copied.linked

    linked = Identity(UID, US, tree.groups).run(run)
    left, right = only_message(root / f".{source}"), only_message(root / f".{dest}")
    mine, copy = (only_message(mine_root / f".{name}") for name in (source, dest))
    assert (shown(mine), shown(copy)) == (shown(left), shown(right))
    assert linked == mine.samefile(copy) == left.samefile(right)
    assert copy.stat().st_nlink == right.stat().st_nlink


RENAMES = [  # id, foo, other
    ("same", (0o770, UID, US), (0o770, UID, US)),
    ("modes-differ", (0o770, UID, US), (0o700, UID, US)),
    ("groups-differ", (0o770, UID, TEAM), (0o770, UID, US)),
    ("execute-differs", (0o711, UID, US), (0o700, UID, US)),
]


@pytest.mark.parametrize(
    ("moved", "above"), [row[1:] for row in RENAMES], ids=[row[0] for row in RENAMES]
)
@pytest.mark.parametrize("target", ["above.moved", "top"])
def test_rename(
    place: Path,
    theirs: Dovecot,
    moved: tuple[int, int, int],
    above: tuple[int, int, int],
    target: str,
) -> None:
    tree = BY_NAME["group-member"]
    root = place / "theirs" / tree.name / "Maildir"
    make_maildir(root / ".moved", *moved)
    make_maildir(root / ".above", *above)

    mine = place / "ours" / tree.name / "Maildir"

    def run() -> Code | None:
        try:
            storage_at(mine).rename(("moved",), tuple(target.split(".")))
        except SharingError as refusal:
            return refusal.code
        return None

    for name, facts in ((".moved", moved), (".above", above)):
        make_maildir(mine / name, *facts)
    refused = Identity(UID, US, tree.groups).run(run)
    for name in (".moved", f".{target}", ".above"):
        shutil.rmtree(mine / name, ignore_errors=True)
    with theirs.imap(tree.name) as client:
        status, answer = client.rename("moved", target)
        for name in ("moved", target, "above"):
            client.delete(name)
    assert refused == (None if status == "OK" else Code.CANNOT)
    if refused:
        assert b"conflicting directory permissions" in answer[0]


@pytest.mark.parametrize("domain", DOMAINS)
def test_domain_and_user_directories(place: Path, theirs: Dovecot, domain: str) -> None:
    """Two users of one domain meet in the same new directories."""
    top = place / "ours" / domain
    template = f"{top}/%d/%n/Maildir".replace("%d", "ex.org/").replace("//", "/")
    number = list(DOMAINS).index(domain)
    outcomes = []
    for user, uid in (("user", 5001 + number), ("other", 5050)):
        try:
            with theirs.imap(f"{user}@{domain}") as client:
                status = client.select("INBOX")[0]
        except imaplib.IMAP4.error:
            status = "NO"
        root = top / "ex.org" / user / "Maildir"

        def run(root: Path = root) -> str:
            try:
                storage_at(root, template).open(("INBOX",)).close()
            except PermissionError:
                return "NO"
            return "OK"

        outcomes.append((status, Identity(uid, uid + 200, (TEAM,)).run(run)))
    assert [want for want, _ in outcomes] == [got for _, got in outcomes]
    compare_directories(place / "theirs" / domain, top)


def test_home_directories(place: Path) -> None:
    users = [
        MailUser(f"home-{domain}", UID, US, place / "theirs" / f"home-{domain}" / "ex.org/user",
                 (f"mail_access_groups={TEAM}",))
        for domain in DOMAINS
    ]  # fmt: skip
    with private_dovecot("mail_location = maildir:~/Maildir", users) as server:
        for domain in DOMAINS:
            with server.imap(f"home-{domain}") as client:
                assert client.select("INBOX")[0] == "OK"

    def run(root: Path) -> None:
        storage_at(root, "~/Maildir").open(("INBOX",)).close()

    for domain in DOMAINS:
        top = place / "ours" / f"home-{domain}"
        Identity(UID, US, (TEAM,)).run(run, top / "ex.org/user/Maildir")
        compare_directories(place / "theirs" / f"home-{domain}", top)


def compare_directories(theirs: Path, ours: Path) -> None:
    """Every directory that both could have made."""
    got, want = (
        {str(path.relative_to(top)): shown(path) for path in top.rglob("*") if path.is_dir()}
        for top in (ours, theirs)
    )
    assert got == want
