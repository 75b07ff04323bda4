"""sharefs.sharing.files and acl_text: the text of ACL files, and files on a real disk."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.acl import Acl, Entry, Mode, Update
from sharefs.errors import Code, Place, SharingError
from sharefs.identifiers import Identifier, Kind, group, user
from sharefs.permissions.inherit import DEFAULTS, Creation, GidReason
from sharefs.rights import NONE, Rights
from sharefs.sharing import files
from sharefs.sharing.acl_text import (
    Severity,
    entry_of_setting,
    format_acl,
    parse_acl,
    parse_globals,
    wildcard_matches,
)
from sharefs.sharing.files import AclReader, Condition, read_acl, repair_acl, update_acl
from tests.strategies import identifiers, rights
from tests.support.become import Identity


def lines_of(acl: Acl) -> list[str]:
    return format_acl(acl).decode().splitlines()


READS = [  # file -> what it says, in the writer's words
    (b"", []),
    (b"\n# comment\n\n", []),
    (b"user=bob lr\n", ["user=bob lr"]),
    (b"user=bob lr", ["user=bob lr"]),
    (b"user=bob lr\r\n", ["user=bob lr"]),
    (b"user=bob  rl \n", ["user=bob lr"]),
    (b"user=bob\n", ["user=bob "]),
    (b"anonymous l\n", ["anyone l"]),
    (b"-user=bob s\nuser=bob lr\n", ["user=bob lr", "-user=bob s"]),
    (b"group-override=g l\nuser=b l\nowner l\ngroup=g l\nauthenticated l\nanyone l\n",
     ["anyone l", "authenticated l", "group=g l", "owner l", "user=b l", "group-override=g l"]),
    (b"user=b l\nuser=a l\n", ["user=a l", "user=b l"]),
    (b"owner lrwstipekxa\n", ["owner akxeilprwts"]),
    (b'"user=a\\\'b c" l\n', ['"user=a\\\'b c" l']),
    (b'"user=a\\"b" l\n', ['user=a"b l']),
    (b'"-user=x y" l\n', ['"-user=x y" l']),
    (b'"user=x"\n', ["user=x "]),
    (b"user=bob lr :foo,bar\n", ["user=bob lr :bar foo"]),
    (b"user=bob :foo\n", ["user=bob  :foo"]),
    (b"user=bob l :read\n", ["user=bob lr"]),
    ("user=jürgen l\n".encode(), ["user=jürgen l"]),
    (b"user=bob l\nuser=bob r\n", ["user=bob lr", "-user=bob "]),
    (b"user=bob\tlr\n", ["user=bob\tlr "]),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "want"), READS)
def test_reading_and_writing(octets: bytes, want: list[str]) -> None:
    parsed = parse_acl(octets, "f")
    assert not parsed.malformed
    assert lines_of(parsed.acl) == want


MALFORMED = [  # file, line, column, part of the text
    (b"user=bob lrz\n", 1, 12, "unknown right 'z'"),
    (b"user=bob lr\nowner c\n", 2, 7, "unknown right 'c'"),
    (b"bob lr\n", 1, 1, "unknown identifier 'bob'"),
    (b" user=bob lr\n", 1, 1, "unknown identifier ''"),
    (b"user=bob lr w\n", 1, 13, "extra names start with ':'"),
    (b'"user=bob lr\n', 1, 1, "quoted identifier"),
    (b'"user=bob"lr\n', 1, 1, "quoted identifier"),
    (b"user=bo\xffb lr\n", 1, 1, "not valid UTF-8"),
    (b"user=a\x01b lr\n", 1, 1, "control character"),
    (b"user=bob l\0r\n", 1, 11, "unknown right"),
    (b"user=bob l :a\x07\n", 1, 1, "control character"),
    (b"user=" + b"x" * 1025 + b" l\n", 1, 1, "at most 1024"),
    (b'"-user=x y" lz\n', 1, 14, "unknown right 'z'"),
    (b"owner\tlr\n", 1, 1, "unknown identifier"),
]


@pytest.mark.parametrize(("octets", "line", "column", "text"), MALFORMED)
def test_malformed_lines_are_named(octets: bytes, line: int, column: int, text: str) -> None:
    parsed = parse_acl(octets, "f")
    assert parsed.malformed
    (problem,) = parsed.problems
    assert (problem.place, problem.severity) == (Place("f", line, column), Severity.ERROR)
    assert text in problem.text
    assert str(problem).isprintable()


def test_every_malformed_line_is_named() -> None:
    parsed = parse_acl(b"x l\nuser=bob l\nuser=carl z\n\n#\nowner l l\n", "f")
    assert [problem.place.line for problem in parsed.problems] == [1, 3, 6]
    assert lines_of(parsed.acl) == ["user=bob l"]


WARNINGS = [
    (b"user=bob\tlr\n", "TAB"),
    (b"user=bob l\nuser=bob r\n", "the negative rights from weaker entries end"),
    (b"-user=bob l\n-user=bob r\n", "all rights from weaker entries end"),
]


@pytest.mark.parametrize(("octets", "text"), WARNINGS)
def test_doubtful_lines_are_warned_of(octets: bytes, text: str) -> None:
    parsed = parse_acl(octets, "f")
    assert not parsed.malformed
    (problem,) = parsed.problems
    assert problem.severity is Severity.WARNING
    assert text in problem.text


def test_a_positive_and_a_negative_line_are_no_repetition() -> None:
    assert parse_acl(b"user=bob lr\n-user=bob s\n", "f").problems == ()


def test_entries_know_their_lines() -> None:
    (entry,) = parse_acl(b"#\n-user=bob s\nuser=bob lr\n", "f").acl.entries
    assert (entry.place, entry.negative_place) == (Place("f", 3), Place("f", 2))


file_entries = st.builds(Entry, identifiers, st.none() | rights, st.none() | rights)


@given(st.lists(file_entries, max_size=6).map(lambda found: Acl(tuple(found))))
def test_format_and_parse_are_inverses(acl: Acl) -> None:
    parsed = parse_acl(format_acl(acl), "f")
    assert parsed.problems == ()
    assert parsed.acl == acl


@given(st.binary(max_size=200))
def test_garbage_is_an_acl_or_a_list_of_problems(octets: bytes) -> None:
    parsed = parse_acl(octets, "f")
    assert all(problem.place.column > 0 for problem in parsed.problems)
    assert parse_acl(format_acl(parsed.acl), "f").acl == parsed.acl
    parse_globals(octets, "f")


@given(st.lists(st.sampled_from(
    [b"user=bob l\n", b"-user=bob l\n", b"anyone z\n", b"#\n", b"\n", b"group=g :x\n"]
)))  # fmt: skip
def test_the_order_of_lines_never_matters(lines: list[bytes]) -> None:
    forwards, backwards = parse_acl(b"".join(lines), "f"), parse_acl(b"".join(lines[::-1]), "f")
    assert forwards.acl == backwards.acl
    assert forwards.malformed == backwards.malformed


# --- global entries ------------------------------------------------------------------------

WILDCARDS = [
    ("*", "a/b", True),
    ("a*c", "a/b/c", True),
    ("a?c", "a/c", True),
    ("a", "ab", False),
    ("INBOX", "inbox", False),
    ("[a]", "a", False),
    ("*.b", "a.b", True),
    ("", "", True),
    ("*x", "a\nx", True),
]


@pytest.mark.parametrize(("pattern", "name", "want"), WILDCARDS)
def test_wildcards(pattern: str, name: str, want: bool) -> None:
    assert wildcard_matches(pattern, name) is want


def test_a_global_file() -> None:
    parsed = parse_globals(b'# all\n* user=carl l\n"pub lic/*" -anyone "\n', "g")
    assert parsed.malformed
    parsed = parse_globals(b'* user=carl l\n"pub lic/*" -anyone s\nINBOX "user=x y" r\n', "g")
    assert not parsed.problems
    assert [str(entry) for entry in parsed.entries_for("pub lic/x")] == ["user=carl", "anyone"]
    assert [entry.negative for entry in parsed.entries_for("pub lic/x")] == [None, Rights("s")]
    assert [str(entry) for entry in parsed.entries_for("INBOX")] == ["user=carl", "user=x y"]
    assert all(entry.is_global for entry in parsed.entries_for("INBOX"))


GLOBAL_MALFORMED = [
    (b"onlypattern\n", 1),
    (b" user=bob l\n", 1),
    (b'"open user=bob l\n', 1),
    (b"* bob l\n", 3),
    (b"* user=bob lz\n", 13),
]


@pytest.mark.parametrize(("octets", "column"), GLOBAL_MALFORMED)
def test_a_malformed_global_line_names_its_column(octets: bytes, column: int) -> None:
    (problem,) = parse_globals(octets, "g").problems
    assert problem.place == Place("g", 1, column)


def test_entries_from_configuration() -> None:
    place = Place("sharefs.conf", 7)
    assert entry_of_setting("user=bob", "lr", place) == Entry(
        user("bob"), Rights("lr"), is_global=True
    )
    for identifier, letters in (("group=x", "-s"), ("-group=x", "s")):
        assert entry_of_setting(identifier, letters, place) == Entry(
            group("x"), None, Rights("s"), is_global=True
        )
    with pytest.raises(SharingError, match=r"sharefs.conf:7: acl bob .*unknown identifier"):
        entry_of_setting("bob", "lr", place)


# --- files ---------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dovecot-acl"


def add(name: str, letters: str = "lr") -> Update:
    return Update.of(user(name), Mode.ADD, Rights(letters))


def test_a_missing_file_means_the_defaults(path: Path) -> None:
    for missing in (path, path / "not-even-a-directory"):
        file = read_acl(missing)
        assert (file.condition, file.acl, file.readable) == (Condition.MISSING, Acl(), True)


def test_updates_replace_the_file(path: Path) -> None:
    path.write_bytes(b"# by hand\n\nuser=carl rl\n")
    result = update_acl(path, add("bob"), DEFAULTS)
    assert result.changed
    assert lines_of(result.after) == ["user=bob lr", "user=carl lr"]
    assert path.read_bytes() == b"user=bob lr\nuser=carl lr\n"
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_written_when_nothing_changes(path: Path) -> None:
    path.write_bytes(b"# stays\nuser=bob rl\n")
    inode = path.stat().st_ino
    assert not update_acl(path, add("bob"), DEFAULTS).changed
    assert path.read_bytes() == b"# stays\nuser=bob rl\n"
    assert path.stat().st_ino == inode


def test_the_last_entry_leaves_an_empty_file(path: Path) -> None:
    path.write_bytes(b"user=bob l\n")
    update_acl(path, Update.deletion(user("bob")), DEFAULTS)
    assert path.read_bytes() == b""


def test_a_function_sees_the_acl_under_the_lock(path: Path) -> None:
    path.write_bytes(b"user=bob l\n")

    def refuse(acl: Acl) -> Acl:
        assert lines_of(acl) == ["user=bob l"]
        assert path.with_suffix(".lock").exists()
        raise SharingError(Code.CANNOT, "no")

    with pytest.raises(SharingError, match="no"):
        update_acl(path, refuse, DEFAULTS)
    assert path.read_bytes() == b"user=bob l\n"
    assert list(path.parent.iterdir()) == [path]


def test_mode_comes_from_the_mailbox(path: Path) -> None:
    creation = Creation(0o664, 0o775, None, GidReason.SETGID, "x")
    update_acl(path, add("bob"), creation)
    assert path.stat().st_mode & 0o7777 == 0o664


def test_a_malformed_file_is_not_written(path: Path) -> None:
    path.write_bytes(b"user=carl lz\nuser=eve q\n")
    with pytest.raises(SharingError) as refused:
        update_acl(path, add("bob"), DEFAULTS)
    assert refused.value.code is Code.CORRUPT
    assert f"{path}:1:12" in refused.value.detail
    assert "1 more" in refused.value.detail
    assert path.read_bytes() == b"user=carl lz\nuser=eve q\n"


def test_repair_drops_only_the_malformed_lines(path: Path) -> None:
    path.write_bytes(b"user=carl lz\nuser=bob rl\n")
    old = repair_acl(path, DEFAULTS)
    assert [problem.place.line for problem in old.problems] == [1]
    assert path.read_bytes() == b"user=bob lr\n"
    assert repair_acl(path, DEFAULTS).condition is Condition.READ


def test_a_missing_mailbox_is_nonexistent(tmp_path: Path) -> None:
    with pytest.raises(SharingError) as refused:
        update_acl(tmp_path / "gone" / "dovecot-acl", add("bob"), DEFAULTS)
    assert refused.value.code is Code.NONEXISTENT


def test_a_lock_that_stays_is_in_use(path: Path) -> None:
    path.with_suffix(".lock").write_bytes(b"1:elsewhere.example")
    with pytest.raises(SharingError) as refused:
        update_acl(path, add("bob"), DEFAULTS, timeout=0)
    assert refused.value.code is Code.IN_USE


def test_a_symbolic_link_is_followed_for_reading(path: Path, tmp_path: Path) -> None:
    """As Dovecot does; an update replaces the link, never what it leads to."""
    (tmp_path / "common").write_bytes(b"user=bob l\n")
    path.symlink_to("common")
    assert lines_of(read_acl(path).acl) == ["user=bob l"]
    update_acl(path, add("carl"), DEFAULTS)
    assert path.read_bytes() == b"user=bob l\nuser=carl lr\n"
    assert (tmp_path / "common").read_bytes() == b"user=bob l\n"


def hostile_fifo(path: Path) -> None:
    os.mkfifo(path)


def hostile_directory(path: Path) -> None:
    path.mkdir()


def hostile_socket(path: Path) -> None:
    os.mknod(path, 0o140600)


def hostile_loop(path: Path) -> None:
    path.symlink_to(path.name)


def hostile_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def hostile_size(path: Path) -> None:
    path.write_bytes(b"user=bob lr\n" * (10_000_000 // 12))


def hostile_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def hostile_binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4000)


def hostile_line(path: Path) -> None:
    path.write_bytes(b"x" * (1 << 20))


HOSTILE = [
    hostile_fifo, hostile_directory, hostile_socket, hostile_loop, hostile_device, hostile_size,
    hostile_sparse, hostile_binary, hostile_line,
]  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE)
def test_hostile_files_never_hang_and_never_grant(path: Path, make: object) -> None:
    assert callable(make)
    make(path)
    start = time.monotonic()
    file = read_acl(path)
    assert file.malformed
    assert file.problems
    with pytest.raises(SharingError) as refused:
        update_acl(path, add("bob"), DEFAULTS)
    assert refused.value.code is Code.CORRUPT
    assert time.monotonic() - start < 2
    assert not path.with_suffix(".lock").exists()


@pytest.mark.superuser
def test_no_access_means_nobody(open_tmp: Path) -> None:
    path = open_tmp / "dovecot-acl"
    path.write_bytes(b"user=bob lr\n")
    path.chmod(0o600)

    def outsider() -> tuple[Condition, list[str], Code]:
        file = read_acl(path)
        try:
            update_acl(path, add("eve"), DEFAULTS)
        except SharingError as refused:
            return file.condition, lines_of(file.acl), refused.code
        raise AssertionError("an outsider changed the ACL")

    got = Identity(5001, 5001, ()).run(outsider)
    assert got == (Condition.NO_ACCESS, ["anyone ", "owner "], Code.UNAVAILABLE)
    assert path.read_bytes() == b"user=bob lr\n"


# --- the cache of readers ------------------------------------------------------------------


def test_the_reader_remembers_settled_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"user=bob l\n")
    reader = AclReader(clock=lambda: time.time() + 60)
    first = reader.read(path)
    assert reader.read(path) is first
    path.write_bytes(b"user=bob r\n")
    assert lines_of(reader.read(path).acl) == ["user=bob r"]
    path.unlink()
    assert reader.read(path).condition is Condition.MISSING
    path.write_bytes(b"user=bob s\n")
    assert lines_of(reader.read(path).acl) == ["user=bob s"]


def test_the_reader_distrusts_recent_files(path: Path) -> None:
    path.write_bytes(b"user=bob l\n")
    reader = AclReader()
    assert reader.read(path) is not reader.read(path)


def test_the_reader_sees_access_go(path: Path) -> None:
    path.write_bytes(b"user=bob l\n")
    reader = AclReader(clock=lambda: time.time() + 60)
    assert reader.read(path).readable
    path.unlink()
    path.mkdir()
    assert reader.read(path).malformed


def test_a_missing_global_file_spoils_all(tmp_path: Path) -> None:
    reader = AclReader()
    assert reader.read_globals(tmp_path / "none").malformed
    assert reader.read_globals(tmp_path).malformed
    (tmp_path / "g").write_bytes(b"* user=bob l\n")
    assert len(reader.read_globals(tmp_path / "g").entries_for("x")) == 1


# --- many at once --------------------------------------------------------------------------


def test_changes_at_once_lose_no_entry(path: Path) -> None:
    children = []
    for number in range(5):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for turn in range(4):
                    update_acl(path, add(f"user{number}-{turn}"), DEFAULTS)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
    got = {entry.identifier.name for entry in read_acl(path).acl.entries}
    assert got == {f"user{number}-{turn}" for number in range(5) for turn in range(4)}


def test_a_new_mailbox_copies_local_entries() -> None:
    parent = parse_acl(b"user=bob lr\n-user=bob s\n", "f").acl
    parent = parent.joined(parse_acl(b"anyone l\n", "g", is_global=True).acl.entries)
    copied = files.initial_acl(parent)
    assert lines_of(copied) == ["user=bob lr", "-user=bob s"]
    assert all(entry.place is None for entry in copied.entries)


def test_the_empty_line_is_not_the_missing_one() -> None:
    (entry,) = parse_acl(b"user=bob\n", "f").acl.entries
    assert entry == Entry(Identifier(Kind.USER, "bob"), NONE)
