"""File systems of users' own that do not answer: nobody else waits for them for long."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

from sharefs.acl import Mode
from sharefs.identifiers import user
from sharefs.mount.foreign import Mounted, blame, holder_of, parse_mountinfo
from sharefs.mount.sentinel import Sentinel, open_connections
from sharefs.rights import Rights
from tests.account.world import UIDS, World
from tests.mount.test_mount_control import ALICE, BOB, outcome
from tests.mount.test_mount_control import place as place
from tests.mount.test_mount_rights import make_box
from tests.support.become import Identity, start_as
from tests.support.hanging import HangingFileSystem
from tests.support.mount import Mount, mounted
from tests.support.server import wait_until

CAROL: Final = Identity(UIDS["carol"], UIDS["carol"])
MOUNTINFO: Final = r"""
22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
86 22 0:58 / /home/alice/with\040space rw,nosuid - fuse.sshfs a:/ rw,user_id=1001,allow_other
87 22 0:59 / /home/bob/own rw,nosuid - fuse.sshfs b:/ rw,user_id=1002,group_id=1002
88 22 0:60 / /srv/remote rw shared:1 - fuse.sshfs c:/ rw,user_id=0,group_id=0,allow_other
89 22 0:61 / /mail rw - fuse.sharefs sharefs rw,user_id=0,allow_other
a line that is none
"""


def test_what_mountinfo_tells() -> None:
    mounts = parse_mountinfo(MOUNTINFO)
    assert [(str(one.path), one.number, one.uid) for one in mounts] == [
        ("/", 1, None), ("/home/alice/with space", 58, 1001), ("/home/bob/own", 59, None),
        ("/srv/remote", 60, 0), ("/mail", 61, 0),
    ]  # fmt: skip
    assert [one.number for one in mounts if one.is_foreign] == [58]


def test_our_own_mountinfo_can_be_read() -> None:
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
    assert holder_of(PurePosixPath("/"), mounts) is not None


ROOT, ALICES, BOBS, OURS = (
    Mounted(PurePosixPath("/"), 1, "ext4", None),
    Mounted(PurePosixPath("/home/alice/x"), 58, "fuse.a", 1001),
    Mounted(PurePosixPath("/home/bob/x"), 59, "fuse.b", 1002),
    Mounted(PurePosixPath("/mail"), 61, "fuse.sharefs", 0),
)
BLAMED = [
    ("the one it is in", "/home/bob/x/deep/file", [ALICES, BOBS], BOBS),
    ("its top", "/home/alice/x", [ALICES, BOBS], ALICES),
    ("not one with a longer name", "/home/alice/xy", [BOBS], BOBS),  # by elimination
    ("behind a link", "/home/carol/link/file", [BOBS], BOBS),
    ("our own, which waits for another", "/mail", [ALICES], None),
    ("nobody knows where", None, [ALICES, BOBS], ALICES),
    ("nobody is suspect", "/home/bob/x", [], None),
]


@pytest.mark.parametrize(("where", "suspects", "want"), [one[1:] for one in BLAMED],
                         ids=[one[0] for one in BLAMED])  # fmt: skip
def test_who_is_to_blame(where: str | None, suspects: list[Mounted], want: Mounted | None) -> None:
    path = PurePosixPath(where) if where is not None else None
    assert blame(path, (ROOT, ALICES, BOBS, OURS), suspects) == want


@pytest.fixture
def hanging(open_tmp: Path) -> Iterator[list[HangingFileSystem]]:
    """To be filled; ended at the end."""
    made: list[HangingFileSystem] = []
    yield made
    for one in made:
        one.close()


@pytest.mark.superuser
@pytest.mark.fuse
def test_a_mirror_goes_on(open_tmp: Path, hanging: list[HangingFileSystem]) -> None:
    """The first one keeps everybody waiting for a moment, the user's next ones nobody."""
    source, other = open_tmp / "source", open_tmp / "other"
    for name in ("one", "two", "three"):
        (source / name).mkdir(parents=True)
    other.mkdir()
    with mounted(open_tmp, ["--mirror", source]) as mount:
        hanging.append(HangingFileSystem(source / "one", ALICE.uid))
        innocent = HangingFileSystem(other, CAROL.uid)
        hanging.append(innocent)
        with start_as(
            BOB.uid, BOB.gid, (), lambda: outcome(lambda: os.stat(mount.top / "one"))
        ) as bob:
            assert outcome(lambda: CAROL.run(os.listdir, mount.top)) == "done"
            assert bob.result() == "ETIMEDOUT"
        wait_until(hanging[0].is_aborted, 20)
        assert not innocent.is_aborted()
        for name in ("two", "three"):
            one = HangingFileSystem(source / name, ALICE.uid)
            hanging.append(one)
            wait_until(one.is_aborted, 5)
            # What the kernel was told before the mount came it may remember for a moment.
            look = functools.partial(os.stat, mount.top / name)
            wait_until(lambda look=look: outcome(look) == "ENOTCONN", 5)  # type: ignore[misc]  # mypy: default
        assert not innocent.is_aborted()
        assert f"uid {ALICE.uid} mounted on {source}/one was aborted" in mount.log()


@pytest.mark.superuser
@pytest.mark.fuse
def test_one_that_holds_what_is_mirrored_is_roots_choice(
    open_tmp: Path, hanging: list[HangingFileSystem]
) -> None:
    (open_tmp / "of-alice").mkdir()
    sentinel = Sentinel(open_connections(), PurePosixPath(open_tmp, "of-alice", "deep"))
    sentinel.start()
    try:
        hanging.append(HangingFileSystem(open_tmp / "of-alice", ALICE.uid))
        with start_as(
            BOB.uid, BOB.gid, (), lambda: outcome(lambda: os.stat(open_tmp / "of-alice"))
        ):
            mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text())
            top = PurePosixPath(open_tmp, "of-alice")
            (one,) = (one for one in mounts if one.path == top)
            assert one.is_foreign
            assert sentinel._is_spared(one)
            assert not sentinel._is_spared(Mounted(top.with_name("else"), 1, "fuse", 1001))
            hanging.pop().close()
    finally:
        sentinel.close()


@pytest.mark.superuser
@pytest.mark.fuse
def test_who_keeps_everybody_waiting_again_and_again_is_aborted(
    open_tmp: Path, hanging: list[HangingFileSystem]
) -> None:
    """Even if each time he answers before it has taken too long."""
    now = [1000.0]
    sentinel = Sentinel(open_connections(), clock=lambda: now[0])
    try:
        one = HangingFileSystem(open_tmp, ALICE.uid)
        hanging.append(one)
        mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text())
        foreign = [mount for mount in mounts if mount.path == PurePosixPath(open_tmp)]
        for passed in (0, 10, 4000, 10):
            now[0] += passed
            sentinel.kept_waiting(foreign[0])
            sentinel.look(mounts, foreign)
            assert not one.is_aborted()
        sentinel.kept_waiting(foreign[0])
        sentinel.look(mounts, foreign)
        assert one.is_aborted()
    finally:
        sentinel.close()


@pytest.mark.superuser
@pytest.mark.fuse
@pytest.mark.parametrize("number", range(4), ids=["home", "mailbox", "folder", "message"])
def test_a_view_goes_on(
    place: tuple[World, Mount], hanging: list[HangingFileSystem], number: int
) -> None:
    """Whatever alice puts where of hers: bob, who has a share of it, and carol have their mail."""
    world, mount = place
    name, message = f"Stuck{number}", f"{number}.M1P1.host:2,"
    box = make_box(world, name, "lr")
    share = Rights.parse("lr")
    world.as_user("alice", lambda own: own.set_acl(name, user("bob"), Mode.REPLACE, share))
    (box / "cur" / message).mkdir()
    where = (world.maildir("alice"), box, box / "cur", box / "cur" / message)[number]
    maker = 62000 + number  # whom the daemon does not know yet
    hanging.append(HangingFileSystem(where, maker))
    shared = mount.top / "bob" / f".shared.alice.{name}"

    def look() -> list[str]:
        return [
            outcome(lambda: os.listdir(mount.top / "bob")),
            outcome(lambda: os.listdir(shared / "cur")),
            outcome(lambda: os.stat(shared / "cur" / message)),
        ]

    with start_as(BOB.uid, BOB.gid, (), look) as bob:
        own = CAROL.run(lambda: sorted(os.listdir(mount.top / "carol")))
        assert {"cur", "new", "tmp", ".Own"} <= set(own)
        assert bob.result()[0] == "done"
    wait_until(hanging[0].is_aborted, 20)
    hanging.pop().close()
    wait_until(lambda: f".shared.alice.{name}" in BOB.run(os.listdir, mount.top / "bob"), 10)
