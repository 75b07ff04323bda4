"""sharefs.sharing maps: one contract for all drivers, then what is special to each."""

import fcntl
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.acl import Acl, Entry
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier
from sharefs.rights import Rights
from sharefs.sharing.dict_file import format_dict, parse_dict, tab_escape, tab_unescape
from sharefs.sharing.file_map import FileMap, LockMethod
from sharefs.sharing.fs_map import FsPosixMap, escape_component, unescape_component
from sharefs.sharing.keys import (
    Audience,
    MapDiff,
    ShareKey,
    Wanted,
    desired_keys,
    diff,
    keys_of,
)
from sharefs.sharing.maps import MemoryMap
from tests.sharing.contract import ANYONE, BOB, STAFF, check_share_map
from tests.support.become import Identity

LOCKS: list[LockMethod] = ["dotlock", "fcntl", "flock"]


def test_memory_map_keeps_the_contract() -> None:
    share_map = MemoryMap()
    check_share_map(lambda: share_map)


@pytest.mark.parametrize("lock", LOCKS)
def test_file_map_keeps_the_contract(tmp_path: Path, lock: LockMethod) -> None:
    check_share_map(lambda: FileMap(tmp_path / "db" / "shared.db", lock=lock))
    left = {path.name for path in (tmp_path / "db").iterdir()}
    assert left == {"shared.db"}


@pytest.mark.parametrize("lock", LOCKS)
def test_one_file_map_object_sees_its_own_changes(tmp_path: Path, lock: LockMethod) -> None:
    share_map = FileMap(tmp_path / "shared.db", lock=lock)
    check_share_map(lambda: share_map)


def test_fs_map_keeps_the_contract(tmp_path: Path) -> None:
    check_share_map(lambda: FsPosixMap(f"{tmp_path}/map/"))


def test_fs_map_with_a_bare_prefix(tmp_path: Path) -> None:
    FsPosixMap(f"{tmp_path}/pre-").replace("alice", {BOB})
    assert (tmp_path / "pre-shared-boxes/user/bob@ex.org/alice").read_bytes() == b"1"


# --- keys ----------------------------------------------------------------------------------


def acl_of(*lines: str) -> Acl:
    entries = []
    for text in lines:
        name, _, letters = text.partition(" ")
        identifier, negative = Identifier.parse_file(name)
        rights = Rights(letters)
        entries.append(
            Entry(identifier, None if negative else rights, rights if negative else None)
        )
    return Acl(tuple(entries))


KEYS = [
    ("user", ["user=bob lr"], {"user bob"}),
    ("no-lookup", ["user=bob rs"], set()),
    ("group", ["group=staff l"], {"group staff"}),
    ("override", ["group-override=staff l"], {"group staff"}),
    ("anyone", ["anyone l"], {"anyone"}),
    ("authenticated", ["authenticated l"], {"anyone"}),
    ("owner-never", ["owner l", "user=alice l"], set()),
    ("negative-neither-makes", ["-user=bob l"], set()),
    ("nor-unmakes", ["user=bob l", "-user=bob l"], {"user bob"}),
]


@pytest.mark.parametrize(("lines", "want"), [row[1:] for row in KEYS], ids=[r[0] for r in KEYS])
def test_keys_of_an_acl(lines: list[str], want: set[str]) -> None:
    assert {str(key) for key in keys_of(acl_of(*lines), "alice")} == want


def test_desired_keys_are_the_union() -> None:
    got = desired_keys("alice", [acl_of("user=bob l"), acl_of("user=a/b l"), acl_of("anyone l")])
    assert got.keys == {ShareKey(Audience.USER, "bob"), ANYONE}
    assert got.unstorable == {ShareKey(Audience.USER, "a/b")}
    assert got.complete


def test_an_unreadable_mailbox_removes_nothing() -> None:
    wanted = desired_keys("alice", [acl_of("user=bob l"), None])
    assert not wanted.complete
    old = frozenset({STAFF})
    assert diff(old, wanted) == MapDiff(frozenset({ShareKey(Audience.USER, "bob")}))


def test_diff_is_exact() -> None:
    assert diff(frozenset({BOB, STAFF}), Wanted(frozenset({STAFF, ANYONE}))) == MapDiff(
        frozenset({ANYONE}), frozenset({BOB})
    )
    assert not diff(frozenset({BOB}), Wanted(frozenset({BOB})))


PATHS = [
    (BOB, "alice", "shared/shared-boxes/user/bob@ex.org/alice"),
    (STAFF, "alice", "shared/shared-boxes/group/staff/alice"),
    (ANYONE, "alice", "shared/shared-boxes/anyone/alice"),
]


@pytest.mark.parametrize(("key", "owner", "path"), PATHS)
def test_key_paths(key: ShareKey, owner: str, path: str) -> None:
    assert key.path(owner) == path
    assert ShareKey.parse(path) == (key, owner)


@pytest.mark.parametrize(
    "path",
    ["shared/other/x", "shared/shared-boxes/user/bob", "shared/shared-boxes/anyone/a/b",
     "shared/shared-boxes/user//alice", "shared/shared-boxes/host/x/y",
     "priv/shared-boxes/anyone/a"],
)  # fmt: skip
def test_foreign_keys_are_not_ours(path: str) -> None:
    assert ShareKey.parse(path) is None


# --- the dictionary file -------------------------------------------------------------------


def test_the_file_is_dovecots(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    FileMap(path).replace("alice@ex.org", {BOB})
    assert path.read_bytes() == b"shared/shared-boxes/user/bob@ex.org/alice@ex.org\n1\n"


def test_foreign_keys_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    path.write_bytes(b"priv/x\x01ny\nva\x01tl\nshared/shared-boxes/anyone/carl\n1\n\xff\nz\n")
    FileMap(path).replace("alice", {ANYONE})
    FileMap(path).replace("carl", ())
    assert path.read_bytes() == (
        b"priv/x\x01ny\nva\x01tl\n\xff\nz\nshared/shared-boxes/anyone/alice\n1\n"
    )


def test_a_reader_notices_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    reader = FileMap(path)
    assert reader.all() == {}
    FileMap(path).replace("alice", {BOB})
    assert reader.owners_for({BOB}) == {"alice"}
    path.unlink()
    assert reader.all() == {}


def test_nothing_is_written_when_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    FileMap(path).replace("alice", {BOB})
    before = path.stat()
    FileMap(path).replace("alice", {BOB})
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "octets", [b"", b"\n", b"lonely", b"\n\n\n", b"a\nb\nlonely\n", b"\x01", b"\0" * 100_000]
)
def test_broken_files_are_survived(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "shared.db"
    path.write_bytes(octets)
    assert FileMap(path).all() == {}
    FileMap(path).replace("alice", {BOB})
    assert FileMap(path).all() == {"alice": {BOB}}


def test_a_fifo_in_its_place_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    os.mkfifo(path)
    with pytest.raises(SharingError) as refused:
        FileMap(path).all()
    assert refused.value.code is Code.UNAVAILABLE


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text("a\t\n\r\0\x01b"))
)
def test_dictionaries_round_trip(items: dict[str, str]) -> None:
    assert parse_dict(format_dict(items)) == items


@given(st.binary(max_size=300))
def test_any_octets_are_a_dictionary(octets: bytes) -> None:
    items = parse_dict(octets)
    assert parse_dict(format_dict(items)) == items


ESCAPES = [("\x01", "\x011"), ("\t", "\x01t"), ("\r", "\x01r"), ("\n", "\x01n"), ("\0", "\x010")]


@pytest.mark.parametrize(("plain", "escaped"), ESCAPES)
def test_escapes(plain: str, escaped: str) -> None:
    assert tab_escape(plain) == escaped
    assert tab_unescape(escaped) == plain
    assert tab_unescape("\x01x") == "x"


@pytest.mark.parametrize("lock", ["fcntl", "flock"])
def test_a_held_file_lock_is_waited_for(tmp_path: Path, lock: LockMethod) -> None:
    path = tmp_path / "shared.db"
    path.write_bytes(b"")
    with open(path, "r+b") as held:
        # Of fcntl's locks a process never sees its own, so another one has to hold it.
        child = os.fork()
        if child == 0:
            (fcntl.lockf if lock == "fcntl" else fcntl.flock)(held, fcntl.LOCK_EX)
            (tmp_path / "held").touch()
            while not (tmp_path / "done").exists():
                os.sched_yield()
            os._exit(0)
        while not (tmp_path / "held").exists():
            os.sched_yield()
        try:
            with pytest.raises(SharingError) as refused:
                FileMap(path, lock=lock, timeout=0.05).replace("alice", {BOB})
            assert refused.value.code is Code.IN_USE
        finally:
            (tmp_path / "done").touch()
            os.waitpid(child, 0)
    FileMap(path, lock=lock, timeout=1).replace("alice", {BOB})


def fork_all(count: int, action: object) -> None:
    """Run action(i) in count processes at once; all must end well."""
    children = []
    for index in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                assert callable(action)
                action(index)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count


@pytest.mark.parametrize("lock", LOCKS)
def test_writers_at_once_lose_nothing(tmp_path: Path, lock: LockMethod) -> None:
    path = tmp_path / "shared.db"

    def write(index: int) -> None:
        for turn in range(4):
            FileMap(path, lock=lock).replace(f"owner{index}-{turn}", {BOB, ANYONE})

    fork_all(4, write)
    assert len(FileMap(path).all()) == 16


def test_fs_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    def write(index: int) -> None:
        FsPosixMap(f"{tmp_path}/").replace(f"owner{index}", {BOB, ANYONE})

    fork_all(6, write)
    assert len(FsPosixMap(f"{tmp_path}/").all()) == 6


# --- permissions ---------------------------------------------------------------------------

FILE_MODES = [  # directory mode -> mode of a new file (seed: "Dictionary Files")
    (0o770, 0o660),
    (0o2770, 0o660),
    (0o700, 0o600),
    (0o755, 0o644),
    (0o1777, 0o666),
]


@pytest.mark.parametrize(("directory", "want"), FILE_MODES)
def test_a_new_file_takes_its_directorys_mode(tmp_path: Path, directory: int, want: int) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db").chmod(directory)
    path = tmp_path / "db" / "shared.db"
    FileMap(path).replace("alice", {BOB})
    assert stat.S_IMODE(path.stat().st_mode) == want


def test_an_administrators_mode_lasts(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    FileMap(path).replace("alice", {BOB})
    path.chmod(0o640)
    FileMap(path).replace("carl", {BOB})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_missing_directories_are_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    FileMap(tmp_path / "a" / "b" / "shared.db").replace("alice", {BOB})
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "shared.db").stat().st_mode) == 0o600


def test_missing_directories_follow_a_setgid_ancestor(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    FileMap(tmp_path / "a" / "b" / "shared.db").replace("alice", {BOB})
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o2770
    assert stat.S_IMODE((tmp_path / "a" / "b" / "shared.db").stat().st_mode) == 0o660


def test_fs_map_modes(tmp_path: Path) -> None:
    FsPosixMap(f"{tmp_path}/plain/").replace("alice", {BOB})
    file = tmp_path / "plain/shared-boxes/user/bob@ex.org/alice"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    (tmp_path / "setgid").mkdir()
    (tmp_path / "setgid").chmod(0o2770)
    FsPosixMap(f"{tmp_path}/setgid/").replace("alice", {BOB})
    file = tmp_path / "setgid/shared-boxes/user/bob@ex.org/alice"
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o2770


def test_fs_map_skips_files_being_written(tmp_path: Path) -> None:
    share_map = FsPosixMap(f"{tmp_path}/")
    share_map.replace("alice", {BOB})
    (tmp_path / "shared-boxes/user/bob@ex.org/temp.dovecot.host.1.0123456789abcdef").touch()
    (tmp_path / "shared-boxes/user/stray-file").touch()
    (tmp_path / "shared-boxes/anyone").symlink_to("/etc")
    assert share_map.all() == {"alice": {BOB}}


COMPONENTS = [(".", "..."), ("..", "...."), ("...", "....."), (".foo", ".foo"), ("a.", "a.")]


@pytest.mark.parametrize(("plain", "escaped"), COMPONENTS)
def test_only_dots_are_escaped(plain: str, escaped: str) -> None:
    assert escape_component(plain) == escaped
    assert unescape_component(escaped) == plain


@pytest.mark.superuser
def test_two_uids_share_one_map(open_tmp: Path) -> None:
    """The documented set-up: a 0770 directory of a group that mail processes are in."""
    group = 6000
    directory = open_tmp / "db"
    directory.mkdir()
    os.chown(directory, 0, group)
    directory.chmod(0o2770)
    path = directory / "shared.db"

    def share(name: str) -> None:
        FileMap(path).replace(name, {STAFF})

    for uid, name in ((5001, "alice"), (5002, "bob")):
        Identity(uid, uid, (group,)).run(share, name)
    assert set(FileMap(path).all()) == {"alice", "bob"}
    assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (0o660, group)

    def outsider() -> Code:
        try:
            FileMap(path).replace("eve", {STAFF})
        except SharingError as refused:
            return refused.code
        raise AssertionError("an outsider wrote the map")

    assert Identity(5003, 5003, ()).run(outsider) is Code.UNAVAILABLE
    assert set(FileMap(path).all()) == {"alice", "bob"}
