"""access and predict against the kernel itself: random trees, several uids, fork and try."""

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sharefs import fsops
from sharefs.permissions import access
from sharefs.permissions.access import Credentials, Inode, Want
from sharefs.permissions.acting import own_credentials
from sharefs.permissions.explain import explain_access, inode_of
from sharefs.permissions.inherit import Creation, GidReason
from sharefs.permissions.lookup import creation_for_mailbox
from sharefs.permissions.posix_acl import (
    ACCESS,
    DEFAULT,
    AclEntry,
    PosixAcl,
    Tag,
    format_posix_acl,
    parse_posix_acl,
)
from sharefs.permissions.predict import predict_dir, predict_file
from tests.support.become import Identity

pytestmark = pytest.mark.superuser

UIDS, GIDS = (5001, 5002, 5003), (5100, 5200, 6000)
KERNEL = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])

uids = st.sampled_from(UIDS)
gids = st.sampled_from(GIDS)
bits = st.integers(0, 7)
identities = st.builds(
    Identity, uids, gids, st.sets(gids, max_size=2).map(lambda groups: tuple(sorted(groups)))
)
modes = st.builds(lambda special, rest: special << 9 | rest, st.integers(0, 7), st.integers(0, 511))


@st.composite
def acls(draw: st.DrawFn) -> PosixAcl | None:
    """None, or a valid ACL; with named entries the mask is a must."""
    if draw(st.booleans()):
        return None
    named = [
        *(AclEntry(Tag.USER, draw(bits), uid) for uid in draw(st.sets(uids, max_size=2))),
        *(AclEntry(Tag.GROUP, draw(bits), gid) for gid in draw(st.sets(gids, max_size=2))),
    ]
    classes = [AclEntry(tag, draw(bits)) for tag in (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER)]
    mask = [AclEntry(Tag.MASK, draw(bits))] if named else []
    return tuple(sorted([*classes, *named, *mask], key=lambda e: (e.tag, e.qualifier or 0)))


@dataclass(frozen=True)
class Node:
    """What one inode of a random tree gets."""

    mode: int
    uid: int
    gid: int
    acl: PosixAcl | None = None
    default: PosixAcl | None = None

    def put_on(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)
        path.chmod(self.mode)
        if self.acl is not None:
            os.setxattr(path, ACCESS, format_posix_acl(self.acl))
        if self.default is not None and path.is_dir():
            os.setxattr(path, DEFAULT, format_posix_acl(self.default))


nodes = st.builds(Node, modes, uids, gids, acls())
# Mostly usable directories, so that more than the first refusal is tested.
usable = st.builds(
    Node,
    st.builds(lambda special, rest: special << 9 | 0o500 | rest,
              st.integers(0, 7), st.sampled_from([0o277, 0o255, 0o250, 0o270, 0o211])),
    uids, gids, st.none() | acls(), st.none() | acls(),
)  # fmt: skip


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sharefs-kernel-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def fresh(top: Path) -> Path:
    path = Path(tempfile.mkdtemp(dir=top))
    path.chmod(0o755)
    return path


def credentials(who: Identity) -> Credentials:
    return Credentials(who.uid, who.gid, frozenset(who.groups))


def wants() -> list[Want]:
    return [Want(number) for number in range(1, 8)]


def test_acl_codec_round_trips() -> None:
    acl = (
        AclEntry(Tag.USER_OBJ, 7),
        AclEntry(Tag.USER, 5, 5002),
        AclEntry(Tag.GROUP_OBJ, 0),
        AclEntry(Tag.MASK, 5),
        AclEntry(Tag.OTHER, 0),
    )
    assert parse_posix_acl(format_posix_acl(tuple(reversed(acl)))) == acl
    assert [str(entry) for entry in acl] == [
        "user::rwx", "user:5002:r-x", "group::---", "mask::r-x", "other::---",
    ]  # fmt: skip


@given(st.binary(max_size=60))
def test_garbage_is_no_acl(octets: bytes) -> None:
    try:
        got = parse_posix_acl(octets)
    except ValueError:
        return
    assert all(isinstance(entry.tag, Tag) for entry in got)


@KERNEL
@given(who=identities, folder=nodes, file=nodes)
def test_bits_and_acls(top: Path, who: Identity, folder: Node, file: Node) -> None:
    """access.check() is access(2)."""
    base = fresh(top)
    (base / "d").mkdir()
    (base / "f").touch()
    folder.put_on(base / "d")
    file.put_on(base / "f")
    answers = {
        name: [bool(access.check(inode_of(str(base / name)), credentials(who), want))
               for want in wants()]
        for name in ("d", "f")
    }  # fmt: skip
    got = who.run(
        lambda: {name: [os.access(base / name, want) for want in wants()] for name in ("d", "f")}
    )
    assert answers == got
    event(f"acl={folder.acl is not None}")


@KERNEL
@given(who=identities, levels=st.lists(usable, min_size=2, max_size=4), file=nodes)
def test_paths(top: Path, who: Identity, levels: list[Node], file: Node) -> None:
    """explain_access() is open(2): which component refuses does not change whether one does."""
    base = fresh(top)
    path = base.joinpath(*(f"d{number}" for number in range(len(levels))))
    path.mkdir(parents=True)
    (path / "f").touch()
    (base / "link").symlink_to(path / "f")
    file.put_on(path / "f")
    for number in reversed(range(len(levels))):
        levels[number].put_on(base.joinpath(*(f"d{each}" for each in range(number + 1))))

    def opens(target: Path, flags: int) -> bool:
        try:
            os.close(os.open(target, flags))
        except PermissionError:
            return False
        return True

    asked = ((Want.READ, os.O_RDONLY), (Want.READ | Want.WRITE, os.O_RDWR))
    targets = (path / "f", base / "link")
    cases = [(target, want, flags) for target in targets for want, flags in asked]
    explained = [explain_access(credentials(who), target, want) for target, want, _ in cases]

    def run() -> tuple[list[bool], list[bool]]:
        # The refused user himself gets the same answer as the superuser who asks about him.
        mine = [
            explain_access(own_credentials(), target, want).allowed for target, want, _ in cases
        ]
        return [opens(target, flags) for target, _, flags in cases], mine

    kernel, mine = who.run(run)
    assert [each.allowed for each in explained] == kernel
    assert mine == kernel
    for each in explained:
        assert not each.unexplained
        if not each.allowed:
            assert each.refusal is not None
            assert each.refusal.inode.path in each.text()


@KERNEL
@given(who=identities, source=usable, dest=usable, entry=nodes, kind=st.sampled_from("fd"))
def test_moving_linking_removing(
    top: Path, who: Identity, source: Node, dest: Node, entry: Node, kind: str
) -> None:
    base = fresh(top)
    names = {verb: base / f"{verb}-from" for verb in ("rename", "link", "remove")}
    for verb, folder in names.items():
        folder.mkdir()
        (folder / "x").mkdir() if kind == "d" else (folder / "x").touch()
        (base / f"{verb}-to").mkdir()
        entry.put_on(folder / "x")
        source.put_on(folder)
        dest.put_on(base / f"{verb}-to")
    as_who = credentials(who)
    here, there, inode = (
        inode_of(str(base / name)) for name in ("rename-from", "rename-to", "rename-from/x")
    )
    protected = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "0"
    want = {
        "rename": bool(access.can_rename(here, inode, there, as_who)),
        "remove": bool(access.can_remove(here, inode, as_who)),
    }
    searchable = bool(access.check(here, as_who, Want.SEARCH))
    if kind == "f":
        want["link"] = searchable and bool(
            access.can_link(inode, there, as_who, protected=protected)
        )

    def attempt(verb: str) -> bool:
        source_path, dest_path = base / f"{verb}-from/x", base / f"{verb}-to/y"
        try:
            match verb:
                case "rename":
                    os.rename(source_path, dest_path)
                case "link":
                    os.link(source_path, dest_path)
                case _:
                    source_path.rmdir() if kind == "d" else source_path.unlink()
        except PermissionError:
            return False
        return True

    assert who.run(lambda: {verb: attempt(verb) for verb in want}) == want


@KERNEL
@given(who=identities, entry=nodes, gid=gids, mode=modes)
def test_changing_owners_and_modes(
    top: Path, who: Identity, entry: Node, gid: int, mode: int
) -> None:
    base = fresh(top)
    for name in ("chgrp", "chmod"):
        (base / name).touch()
        entry.put_on(base / name)
    inode = inode_of(str(base / "chgrp"))

    def attempt(name: str) -> bool:
        try:
            if name == "chgrp":
                os.chown(base / name, -1, gid)
            else:
                (base / name).chmod(mode)
        except PermissionError:
            return False
        return True

    want = {
        "chgrp": bool(access.can_chgrp(inode, gid, credentials(who))),
        "chmod": bool(access.can_chmod(inode, credentials(who))),
    }
    assert who.run(lambda: {name: attempt(name) for name in want}) == want


@KERNEL
@given(
    who=identities,
    root=usable,
    parent=usable,
    umask=st.sampled_from([0, 0o022, 0o027, 0o077]),
    source=st.sampled_from(["root", "parent"]),
)
def test_creation(
    top: Path, who: Identity, root: Node, parent: Node, umask: int, source: str
) -> None:
    """What fsops leaves on disk is what predict said: mode, owner, group, refused chgrp."""
    base = fresh(top)
    (base / "root/parent").mkdir(parents=True)
    parent.put_on(base / "root/parent")
    root.put_on(base / "root")
    reachable = bool(access.check(inode_of(str(base / "root")), credentials(who), Want.SEARCH))
    where = inode_of(str(base / "root/parent"))

    def run() -> tuple[Creation, dict[str, tuple[int, int, int] | None]]:
        os.umask(umask)
        creation = creation_for_mailbox(
            base / "root",
            [base / "root/parent/new", base / "root/parent"],
            source="root" if source == "root" else "parent",
            egid=os.getegid(),
        )
        found: dict[str, tuple[int, int, int] | None] = {}
        for name in ("dir", "file"):
            path = base / "root/parent" / name
            try:
                if name == "dir":
                    fsops.make_dir(path, creation)
                else:
                    os.close(fsops.create_file(path, creation))
            except PermissionError:
                found[name] = None
                continue
            status = path.stat()
            found[name] = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        return creation, found

    creation, found = who.run(run)
    for name, predict in (("dir", predict_dir), ("file", predict_file)):
        got = predict(where, creation, credentials(who))
        want = (got.mode, got.uid, got.gid) if got.made and reachable else None
        assert found[name] == want, (name, creation, got)
    event(f"{creation.reason.value}")


def test_an_empty_mask_lets_a_named_user_fall_through_to_others(top: Path) -> None:
    """A surprise of the kernel's: with no group bits the ACL is not even read."""
    base = fresh(top)
    (base / "f").touch()
    acl = (
        AclEntry(Tag.USER_OBJ, 6), AclEntry(Tag.USER, 0, 5002), AclEntry(Tag.GROUP_OBJ, 0),
        AclEntry(Tag.MASK, 0), AclEntry(Tag.OTHER, 4),
    )  # fmt: skip
    Node(0o604, 5001, 5100, acl).put_on(base / "f")
    bob = Identity(5002, 5200)
    assert bob.run(os.access, base / "f", os.R_OK)
    assert access.check(inode_of(str(base / "f")), credentials(bob), Want.READ)


def test_creation_in_a_directory_of_a_group_we_lack(top: Path) -> None:
    """The plainest refusal, without hypothesis: root 0770 of a foreign group, no setgid."""
    where = Inode("/m", stat.S_IFDIR | 0o777, 5001, 6000)
    creation = Creation(0o660, 0o770, 6000, GidReason.COPIED, "/m")
    bob = Credentials(5002, 5200)
    assert not predict_dir(where, creation, bob).made
    got = predict_file(where, creation, bob)
    assert (got.made, got.gid, got.refused_gid) == (True, 5200, 6000)
