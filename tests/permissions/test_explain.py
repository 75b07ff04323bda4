"""What an explanation says: the component, the class, the bit, and the smallest remedy."""

import os
import re
from pathlib import Path

import pytest

from sharefs.permissions.access import Credentials, Want
from sharefs.permissions.acting import own_credentials
from sharefs.permissions.explain import explain_access, explain_refusal
from sharefs.permissions.posix_acl import ACCESS, AclEntry, Tag, format_posix_acl
from tests.permissions.listing import make_owned
from tests.support.become import Identity

pytestmark = pytest.mark.superuser

BOB = Credentials(5002, 5200, frozenset({6000}))


def tree(top: Path, *, home: int = 0o755, box: int = 0o750, group: int = 5100) -> Path:
    make_owned(top / "alice", home, 5001, 5100)
    return make_owned(top / "alice/.Work", box, 5001, group)


def with_acl(path: Path, *entries: AclEntry) -> None:
    os.setxattr(path, ACCESS, format_posix_acl(entries))


def test_the_first_component_that_refuses(open_tmp: Path) -> None:
    box = tree(open_tmp, home=0o700)
    got = explain_access(BOB, box, Want.READ)
    assert not got.allowed
    assert got.refusal is not None
    assert got.refusal.inode.path == str(open_tmp / "alice")
    assert got.text() == (
        f"{box}: uid 5002, gid 5200: {open_tmp}/alice lacks x for other"
        " (mode 0700, owner 5001:5100)"
    )
    assert got.remedy() == f"setfacl -m u:5002:--x {open_tmp}/alice"


def test_the_group_that_would_help(open_tmp: Path) -> None:
    box = tree(open_tmp, box=0o2770, group=6100)
    got = explain_access(BOB, box, Want.READ | Want.WRITE)
    assert "the group would allow it, but the process is not in shared(6100)" in got.text(
        lambda gid: f"shared({gid})"
    )
    assert got.remedy() == "add group 6100 to mail_access_groups, or uid 5002 to the group"


def test_the_owner_who_locked_himself_out(open_tmp: Path) -> None:
    box = tree(open_tmp, box=0o500)
    alice = Credentials(5001, 5100)
    got = explain_access(alice, box, Want.WRITE)
    assert "lacks w for owner" in got.text()
    assert got.remedy() == f"chmod u+w {box}"


def test_a_member_of_a_group_that_lacks_the_bit(open_tmp: Path) -> None:
    box = tree(open_tmp, box=0o755, group=6000)
    got = explain_access(BOB, box, Want.WRITE)
    assert "lacks w for group" in got.text()
    assert got.remedy() == f"chmod g+w {box}"


def test_the_mask_that_hides_an_entry(open_tmp: Path) -> None:
    box = tree(open_tmp, box=0o770)
    with_acl(
        box,
        AclEntry(Tag.USER_OBJ, 7),
        AclEntry(Tag.USER, 7, 5002),
        AclEntry(Tag.GROUP_OBJ, 0),
        AclEntry(Tag.MASK, 5),
        AclEntry(Tag.OTHER, 0),
    )
    got = explain_access(BOB, box, Want.WRITE)
    assert "lacks w for ACL mask, entry mask::r-x" in got.text()
    assert got.remedy() == f"setfacl -m m::rwx {box}"


def test_a_named_user_with_too_little(open_tmp: Path) -> None:
    box = tree(open_tmp, box=0o777)
    with_acl(
        box,
        AclEntry(Tag.USER_OBJ, 7),
        AclEntry(Tag.USER, 1, 5002),
        AclEntry(Tag.GROUP_OBJ, 7),
        AclEntry(Tag.MASK, 7),
        AclEntry(Tag.OTHER, 7),
    )
    got = explain_access(BOB, box, Want.READ)
    assert "lacks r for ACL user, entry user:5002:--x" in got.text()
    assert got.remedy() == f"setfacl -m u:5002:r-x {box}"


@pytest.mark.parametrize(
    ("home", "box", "group"),
    [(0o700, 0o770, 6000), (0o755, 0o700, 5100), (0o755, 0o2770, 5100), (0o711, 0o755, 5100)],
)
def test_remedies_work(open_tmp: Path, home: int, box: int, group: int) -> None:
    """Doing what is said, one refusal after the other, ends with access."""
    path = tree(open_tmp, home=home, box=box, group=group)
    who = BOB
    for _ in range(4):
        got = explain_access(who, path, Want.READ | Want.WRITE)
        if got.allowed:
            break
        remedy = got.remedy()
        if found := re.match(r"add group (\d+) to mail_access_groups", remedy):
            who = Credentials(who.uid, who.gid, who.groups | {int(found[1])})
        else:
            assert os.system(remedy) == 0, remedy
    assert got.allowed
    identity = Identity(who.uid, who.gid, tuple(who.groups))
    assert identity.run(os.access, path, os.R_OK | os.W_OK)


def test_missing_paths_and_loops(open_tmp: Path) -> None:
    got = explain_access(BOB, open_tmp / "none/x", Want.READ)
    assert got.missing_path == str(open_tmp / "none")
    assert "does not exist" in got.text()
    (open_tmp / "loop").symlink_to("loop")
    assert not explain_access(BOB, open_tmp / "loop", Want.READ).allowed
    (open_tmp / "file").touch()
    assert explain_access(BOB, open_tmp / "file/x", Want.READ).missing_path


def test_links_are_followed_to_what_they_name(open_tmp: Path) -> None:
    """A symlink share: what refuses is the owner's home, not the link."""
    box = tree(open_tmp, home=0o750)
    make_owned(open_tmp / "bob", 0o700, 5002, 5200)
    (open_tmp / "bob/.shared.alice").symlink_to(box)
    (open_tmp / "bob/.up").symlink_to("../alice/.Work")
    for name in (".shared.alice", ".up"):
        got = explain_access(BOB, open_tmp / "bob" / name, Want.READ)
        assert got.refusal is not None
        assert got.refusal.inode.path == str(open_tmp / "alice")


def test_a_refused_process_explains_itself(open_tmp: Path) -> None:
    box = tree(open_tmp, home=0o700)

    def run() -> str:
        try:
            os.listdir(box)
        except PermissionError:
            return explain_refusal(box, Want.READ)
        raise AssertionError("not refused")

    text = Identity(5002, 5200, (6000,)).run(run)
    assert f"{open_tmp}/alice lacks x for other" in text
    assert "remedy: setfacl" in text


def test_the_superuser_needs_nobodys_permission(open_tmp: Path) -> None:
    box = tree(open_tmp, home=0, box=0)
    assert explain_access(own_credentials(), box, Want.READ | Want.WRITE).allowed


def test_read_only_file_systems(open_tmp: Path) -> None:
    target = open_tmp / "mnt"
    target.mkdir()
    if os.system(f"mount -t tmpfs -o ro,mode=0777 none {target} 2>/dev/null"):
        pytest.skip("no right to mount here")
    try:
        got = explain_access(BOB, target, Want.WRITE)
        assert "read-only file system" in got.text()
    finally:
        assert os.system(f"umount {target}") == 0
