"""The passwd-file itself: lines, broken lines, rereading."""

import logging
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.errors import Code, Place, SharingError
from sharefs.identity.passwd_file import PasswdFileReader, parse_file, parse_line

PLACE = Place("users", 1)


def test_a_whole_line() -> None:
    got = parse_line("bob:{PLAIN}x:5:6:Bob B:/h:/bin/sh:a=1 b userdb_c=::1,x:y  d=", PLACE)
    assert (got.name, got.password, got.uid, got.gid, got.home) == (
        "bob",
        "{PLAIN}x",
        "5",
        "6",
        "/h",
    )
    assert got.extra == (("a", "1"), ("b", "yes"), ("userdb_c", "::1,x:y"), ("d", ""))


@pytest.mark.parametrize(
    ("line", "password"),
    [("bob", None), ("bob:", ""), ("bob:abc[13]", "{CRYPT}abc"), ("bob:abc[34]", "{PLAIN-MD5}abc"),
     ("bob:$1$a$b[13]", "$1$a$b[13]"), ("bob:{PLAIN}abc[13]", "{PLAIN}abc[13]"),
     ("bob:[13]", "[13]")],
)  # fmt: skip
def test_passwords(line: str, password: str | None) -> None:
    assert parse_line(line, PLACE).password == password


def test_broken_lines_are_named_and_leave_the_others_alone() -> None:
    file = parse_file(
        b"alice:x:1:1\n:nobody\nbob:x\nthis is no user line\nalice:second:2:2\nz\0:x\n"
        b"# comment\n   \n\xff\xfe:x\ncarol:x",
        "users",
    )
    assert [str(line.place) for line in file.broken] == ["users:2", "users:4", "users:5", "users:6"]
    assert "already defined in line 1" in file.broken[2].reason
    assert file.names == ("alice", "bob", "\udcff\udcfe", "carol")
    alice = file.entry("alice")
    assert alice is not None
    assert alice.uid == "1"
    assert file.entry("zoe") is None


@given(st.binary(max_size=300))
def test_any_octets_are_a_file(octets: bytes) -> None:
    file = parse_file(octets, "users")
    for name in file.names:
        entry = file.entry(name)
        assert entry is not None
        assert entry.name == name
    assert (file.decoy("zoe") is None) == (not file.names)


def test_a_decoy_is_always_the_same_and_not_always_one_user() -> None:
    file = parse_file(b"".join(b"u%d:x\n" % n for n in range(50)), "users")
    names = {(file.decoy(f"stranger{n}") or parse_line("", PLACE)).name for n in range(200)}
    assert len(names) > 20
    assert file.decoy("zoe") == file.decoy("zoe")


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("bob:x\n")
    reader = PasswdFileReader(path)
    first = reader.current()
    assert reader.current() is first
    path.write_text("bob:y\n")
    os.utime(path, ns=(0, 0))
    second = reader.current()
    assert second is not first
    replacement = tmp_path / "new"
    replacement.write_text("zoe:y\n")
    os.utime(replacement, ns=(0, 0))
    replacement.rename(path)
    assert reader.current().names == ("zoe",)


def test_broken_lines_are_logged_once_per_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users"
    path.write_text(":x\nbob:x\n")
    reader = PasswdFileReader(path)
    with caplog.at_level(logging.WARNING):
        reader.current()
        reader.current()
    assert len(caplog.messages) == 1
    assert f"{path}:1" in caplog.messages[0]


def test_what_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "missing", tmp_path, fifo):
        with pytest.raises(SharingError) as caught:
            PasswdFileReader(path).current()
        assert caught.value.code is Code.UNAVAILABLE
        assert str(path) in caught.value.detail
    assert PasswdFileReader(tmp_path / "missing", missing_is_empty=True).current().names == ()


def test_a_file_that_vanishes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("bob:x\n")
    reader = PasswdFileReader(path, missing_is_empty=True)
    assert reader.current().names == ("bob",)
    path.unlink()
    assert reader.current().names == ()
    path.write_text("zoe:x\n")
    assert reader.current().names == ("zoe",)


def test_fifty_thousand_users_load_quickly(tmp_path: Path) -> None:
    path = tmp_path / "users"
    line = "user%d@example.com:{{SHA}}cTagQwEZ03sA+XIxd7wU605aOoQ=:5000:5000::/home/%d::\n"
    path.write_text("".join(line % (number, number) for number in range(50_000)))
    reader = PasswdFileReader(path)
    start = time.perf_counter()
    assert reader.current().entry("user49999@example.com") is not None
    assert time.perf_counter() - start < 1.0
    start = time.perf_counter()
    for _ in range(100):
        reader.current().entry("user49999@example.com")
    assert time.perf_counter() - start < 0.1
