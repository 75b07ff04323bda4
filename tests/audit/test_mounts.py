"""Mounts: reading mountinfo, and what a file system with grpid really does."""

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from sharefs import fsops
from sharefs.audit.mounts import group_rule_at, has_view, is_mount_point, mount_of, parse_mounts
from sharefs.permissions.access import Credentials
from sharefs.permissions.explain import inode_of
from sharefs.permissions.inherit import Creation, Facts
from sharefs.permissions.predict import GroupRule, predict_dir, predict_file
from tests.audit.random_trees import private_mounts
from tests.support.become import Identity, run_as
from tests.support.file_systems import make_image

INFO = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 8:2 / /home rw,nosuid,nodev - ext4 /dev/sda2 rw,bsdgroups
31 30 8:2 /x /home/a\040b ro,relatime - ext4 /dev/sda2 rw
32 22 0:44 / /net rw - nfs4 server:/export rw,vers=4.2
33 22 0:45 / /home/over rw - tmpfs first rw
34 33 0:46 / /home/over rw - tmpfs second rw
nonsense
35 22 8:9
""".strip()


def test_mountinfo() -> None:
    mounts = parse_mounts(INFO)
    assert [mount.number for mount in mounts] == [22, 30, 31, 32, 33, 34]
    by_path = {path: mount_of(path, mounts) for path in ("/x", "/home/al", "/home/a b/c", "/net")}
    points = {path: mount.point for path, mount in by_path.items() if mount is not None}
    assert points == {"/x": "/", "/home/al": "/home", "/home/a b/c": "/home/a b", "/net": "/net"}
    bind = by_path["/home/a b/c"]
    assert bind is not None
    assert bind.read_only
    assert bind.read_only_bind
    home, net = by_path["/home/al"], by_path["/net"]
    assert home is not None
    assert home.group_of_directory
    assert home.describe() == (
        "ext4, mounted bsdgroups,nodev,nosuid; nodev and nosuid do not matter to mail"
    )
    assert net is not None
    assert net.is_network
    assert is_mount_point("/home", mounts)
    assert not is_mount_point("/home/al", mounts)


def test_the_later_mount_on_a_point_hides_the_other() -> None:
    mount = mount_of("/home/over/x", parse_mounts(INFO))
    assert mount is not None
    assert mount.source == "second"
    assert mount_of("/homework", parse_mounts(INFO)) == mount_of("/", parse_mounts(INFO))


def on_grpid(
    image: Path, point: Path, rule: GroupRule
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(mode, gid) foretold and made, for a file and a directory in four kinds of directories."""
    private_mounts()
    subprocess.run(["mount", "-o", "loop,grpid", str(image), str(point)], check=True)
    found = []
    who = Identity(5001, 5100, (6000,))
    for number, (mode, gid) in enumerate([(0o770, 6000), (0o2770, 6000), (0o775, 5200),
                                          (0o2775, 5200)]):  # fmt: skip
        directory = point / f"d{number}"
        directory.mkdir()
        os.chown(directory, 5001, gid)
        directory.chmod(mode)
        inode = inode_of(str(directory))
        assert group_rule_at(inode) is rule
        facts = Facts(inode.mode, inode.uid, inode.gid, inode.path)
        creation = Creation.of_directory(facts, egid=who.gid)
        credentials = Credentials(who.uid, who.gid, frozenset(who.groups))
        file = predict_file(inode, creation, credentials, rule=rule)
        folder = predict_dir(inode, creation, credentials, rule=rule)
        who.run(make_both, directory, creation)
        for name, want in (("file", file), ("folder", folder)):
            status = (directory / name).stat()
            got = stat.S_IMODE(status.st_mode), status.st_gid
            found.append(((want.mode, want.gid), got))
    return found


def make_both(directory: Path, creation: Creation) -> None:
    os.close(fsops.create_file(directory / "file", creation))
    fsops.make_dir(directory / "folder", creation)


@pytest.mark.superuser
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rule"), [("ext4", GroupRule.BSD), ("xfs", GroupRule.BSD_SETGID)])
def test_predictions_on_a_file_system_with_grpid(kind: str, rule: GroupRule) -> None:
    top = Path(tempfile.mkdtemp(prefix="sharefs-grpid-"))
    try:
        top.chmod(0o755)
        image, point = top / "image", top / "point"
        point.mkdir()
        make_image(kind, image)
        for want, got in run_as(0, 0, (), lambda: on_grpid(image, point, rule)):
            assert want == got
    finally:
        shutil.rmtree(top, ignore_errors=True)


VIEW = "50 1 0:50 / /mail rw,nosuid - fuse.sharefs sharefs rw,user_id=0\n"
COVERED = VIEW + "51 50 0:51 / /mail rw - tmpfs tmpfs rw\n"
MIRROR = "50 1 0:50 / /mail rw,nosuid - fuse.sharefs /home/alice rw,user_id=0\n"


@pytest.mark.parametrize(
    ("text", "point", "want"),
    [(VIEW, "/mail", True), (VIEW, "/mail/", True), (VIEW, "/mail/alice", False),
     (VIEW, "/other", False), (COVERED, "/mail", False), (MIRROR, "/mail", False)],
)  # fmt: skip
def test_a_view_is_known_by_its_mount(text: str, point: str, want: bool) -> None:
    assert has_view(point, parse_mounts(text)) is want
