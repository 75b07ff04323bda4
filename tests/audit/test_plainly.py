"""The quick yes is never a wrong yes, and mailboxes taken for alike are alike."""

import os
import random
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sharefs.audit.audit import Audit
from sharefs.audit.compare import OPERATIONS, questions_of
from sharefs.audit.facts import BoxFacts, RootFacts
from sharefs.audit.operations import MailboxFiles
from sharefs.audit.plainly import bits_of, plainly_allowed
from sharefs.audit.questions import Question, Verb, World, ask, file_kinds
from sharefs.permissions.access import Credentials, Inode, Want, check
from sharefs.permissions.posix_acl import ACCESS, AclEntry, Tag, format_posix_acl
from sharefs.sharing.files import acl_path
from tests.account.world import SHARED_GID, UIDS, world_in_tmp
from tests.account.world import World as Host
from tests.audit.auditing import share

pytestmark = pytest.mark.superuser

CASES = 400
OWNER, OTHER, GROUP = 5001, 5002, 6000
PEOPLE = (
    Credentials(OWNER, 5100),
    Credentials(OTHER, 5200, frozenset({GROUP})),
    Credentials(OTHER, 5200),
    Credentials(0, 0, superuser=True),
)
MODES = (*(0o2770,) * 20, 0o2750, 0o755, 0o700, 0o3770, 0o1777, 0o2710, 0o2730)


def random_acl(pick: random.Random) -> bytes:
    entries = [AclEntry(tag, pick.randrange(8)) for tag in (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER)]
    entries += [AclEntry(Tag.USER, pick.randrange(8), OTHER), AclEntry(Tag.MASK, pick.randrange(8))]
    return format_posix_acl(tuple(sorted(entries, key=lambda entry: entry.tag)))


def dress(path: Path, mode: int, pick: random.Random) -> None:
    os.chown(path, pick.choice((OWNER, OWNER, OWNER, OTHER)), pick.choice((*(GROUP,) * 9, 5100)))
    path.chmod(mode)
    if pick.random() < 0.08:
        os.setxattr(path, ACCESS, random_acl(pick))


def random_mailbox(top: Path, pick: random.Random) -> MailboxFiles:
    """With odd things in it now and then: no tmp, a directory among the messages, a link."""
    top.mkdir()
    root = top / "root"
    root.mkdir()
    path = root / ".Box"
    samples: dict[str, list[str]] = {"cur": [], "new": []}
    path.mkdir()
    for name in ("cur", "new", "tmp"):
        if name == "tmp" and pick.random() < 0.05:
            continue
        (path / name).mkdir()
        if name in samples and pick.random() < 0.7:
            message = path / name / "message"
            kind = pick.random()
            if kind < 0.05:
                message.mkdir()
            elif kind < 0.1:
                message.symlink_to("nowhere")
            else:
                message.touch()
                dress(message, pick.choice((0o660, 0o660, 0o640, 0o600, 0o644, 0o060)), pick)
            samples[name].append(str(message))
    if pick.random() < 0.5:
        acl_path(path).write_text("anyone lr\n")
        dress(acl_path(path), pick.choice((0o660, 0o640, 0o600)), pick)
        samples["acl"] = [str(acl_path(path))]
    for directory in (*(path / name for name in os.listdir(path)), path, root, top):
        if directory.is_dir():
            dress(directory, pick.choice(MODES), pick)
    top.chmod(0o755)
    return MailboxFiles(
        path=path,
        control=path,
        root=root,
        acl_dir=path,
        samples=samples,
        child=pick.choice((root, path)) / "child",
        is_plain=True,
    )


def refused(letters: str, box: MailboxFiles, who: Credentials, world: World) -> list[str]:
    """All that the questions of the operations say no to, one after the other."""
    questions = [question for letter in letters for question in questions_of(letter, box)]
    if box.samples is not None and "acl" in box.samples:
        questions.append(Question(Verb.READ, box.samples["acl"][0], "know the rights"))
    return [str(told) for question in questions if not (told := ask(question, who, world)).allowed]


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that everybody reaches."""
    made = Path(tempfile.mkdtemp(prefix="sharefs-plainly-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_a_quick_yes_is_true(top: Path) -> None:
    pick = random.Random(4314)
    yes: dict[Credentials, int] = dict.fromkeys(PEOPLE, 0)
    for case in range(CASES):
        box = random_mailbox(top / f"c{case}", pick)
        letters = "".join(letter for letter in OPERATIONS if pick.random() < 0.5)
        for who in PEOPLE:
            world = World((), remembered={})
            if plainly_allowed(letters, box, who, world):
                yes[who] += 1
                assert refused(letters, box, who, World(())) == []
    assert all(yes[who] > 20 for who in PEOPLE[:2]), yes
    assert not yes[PEOPLE[3]], "what the superuser may is not so plain"


def test_bits_are_what_check_says() -> None:
    pick = random.Random(7)
    for _ in range(3000):
        acl = None
        if pick.random() < 0.5:
            entries = [AclEntry(tag, pick.randrange(8)) for tag in (Tag.USER_OBJ, Tag.GROUP_OBJ)]
            entries += [AclEntry(Tag.USER, pick.randrange(8), OTHER)]
            entries += [
                AclEntry(Tag.MASK, pick.randrange(8)),
                AclEntry(Tag.OTHER, pick.randrange(8)),
            ]
            acl = tuple(sorted(entries, key=lambda entry: entry.tag))
        inode = Inode(
            "/x", stat.S_IFDIR | pick.randrange(0o10000), pick.choice((OWNER, OTHER)),
            pick.choice((GROUP, 5100)), acl, None, pick.random() < 0.2,
        )  # fmt: skip
        for who in PEOPLE[:3]:
            bits = bits_of(inode, who)
            if bits:
                assert check(inode, who, Want(bits)), (inode, who, bits)
            if acl is None:
                assert not any(check(inode, who, want) for want in Want if not want & bits)


# --- mailboxes that are alike ---------------------------------------------------------------------


def boxes_of(host: Host, only: str) -> Iterator[BoxFacts]:
    roots: list[RootFacts] = []
    audit = Audit(host.config, host.users, [only], accounts=[], processes=[], observe=roots.append)
    list(audit.run())
    for root in roots:
        yield from root.boxes


def test_alike_is_what_gets_the_same_answers() -> None:
    """Many mailboxes of a few kinds, audited together and each alone."""
    pick = random.Random(11)
    with world_in_tmp() as host:
        for number in range(12):
            share(host, f"Box{number}", pick.choice(("bob", "carol")), "lrs")
        for number in range(12):
            path = host.maildir("alice", f".Box{number}")
            for part in ("cur", "new", "."):
                if pick.random() < 0.3:
                    (path / part).chmod(pick.choice((0o2770, 0o2750, 0o2700)))
            if pick.random() < 0.3:
                os.chown(path / "cur", pick.choice((UIDS["alice"], UIDS["bob"])), SHARED_GID)
        together = {box.name: box for box in boxes_of(host, "alice")}
        for name, box in together.items():
            others = [one for one in together if one not in (name, "INBOX")]
            for other in others:
                host.maildir("alice", f".{other}").rename(host.top / other)
            alone = next(each for each in boxes_of(host, "alice") if each.name == name)
            for other in others:
                (host.top / other).rename(host.maildir("alice", f".{other}"))
            assert replace(alone, locks=()) == replace(box, locks=()), name


def test_files_of_one_mode_and_two_acls_are_two_kinds() -> None:
    """The mask stands in the group's bits: the mode alone does not tell who may read."""
    with world_in_tmp() as host:
        share(host)
        cur = host.maildir("alice", ".Work", "cur")
        for number in range(3):
            path = cur / f"m{number}:2,S"
            path.touch()
            os.chown(path, UIDS["alice"], SHARED_GID)
            path.chmod(0o660)
        base = [AclEntry(Tag.USER_OBJ, 6), AclEntry(Tag.GROUP_OBJ, 6)]
        closed = AclEntry(Tag.USER, 0, UIDS["carol"])
        rest = [AclEntry(Tag.MASK, 6), AclEntry(Tag.OTHER, 0)]
        acl = (base[0], closed, base[1], *rest)
        for path in (cur, *sorted(cur.iterdir())[1:]):
            os.setxattr(path, ACCESS, format_posix_acl(acl))
        box = next(box for box in boxes_of(host, "alice") if box.name == "Work")
        assert sorted(kind.count for kind in box.kinds if kind.folder == "cur") == [1, 2]
        assert len(file_kinds(str(cur))) == 2
