"""The uidlist file: growth, replacement, torn ends, corruption; UIDs are never given out twice."""

import os
from pathlib import Path

import pytest

from sharefs.permissions.inherit import DEFAULTS, Creation
from sharefs.store.maildir import uidvalidity
from sharefs.store.maildir.config import MaildirConfig, Site
from sharefs.store.maildir.uidlist import TORN_GAP, UidList

HEADER = "3 V1795280836 N1 G29eb8a3bc4cf016bbf3d000083ecc375 Xkept\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    config = MaildirConfig(tmp_path)

    def default() -> Creation:
        return DEFAULTS

    return Site("test", tmp_path, tmp_path, tmp_path, default, default, default, config)


def fresh(site: Site) -> UidList:
    uidlist = UidList(site)
    uidlist.refresh()
    return uidlist


def write(site: Site, text: str) -> Path:
    path = site.control / "dovecot-uidlist"
    path.write_text(text)
    return path


def test_a_new_list(site: Site) -> None:
    uidlist = fresh(site)
    assert uidlist.header is None
    assert uidlist.next_uid == 1
    uidlist.prepare()
    uidlist.add([(1, "a"), (2, "b")])
    again = fresh(site)
    assert again.uid_of == {"a": 1, "b": 2}
    assert again.next_uid == 3
    assert again.header is not None
    assert again.header.uidvalidity > 1_600_000_000
    assert again.header.guid is not None


def test_appending_leaves_what_is_there_alone(site: Site) -> None:
    path = write(site, HEADER + "1 :a\n5 S1 W2 :b\n")
    inode = path.stat().st_ino
    uidlist = fresh(site)
    uidlist.prepare()
    assert uidlist.next_uid == 6
    uidlist.add([(6, "c")])
    assert path.read_text() == HEADER + "1 :a\n5 S1 W2 :b\n6 :c\n"
    assert path.stat().st_ino == inode
    assert uidlist.uid_of["c"] == 6
    assert not uidlist.refresh()  # our own change is no news


def test_growth_is_read_from_where_we_were(site: Site) -> None:
    path = write(site, HEADER + "1 :a\n")
    uidlist = fresh(site)
    assert uidlist.uid_of == {"a": 1}
    reads = uidlist.reads
    with path.open("a") as file:
        file.write("2 :b\n3 :c")
    assert uidlist.refresh()
    assert uidlist.uid_of == {"a": 1, "b": 2}  # an unfinished line is somebody writing
    with path.open("a") as file:
        file.write("d\n")
    assert uidlist.refresh()
    assert uidlist.uid_of == {"a": 1, "b": 2, "cd": 3}
    assert uidlist.reads == reads
    assert not uidlist.refresh()


def test_replacement_is_noticed_even_with_the_same_inode(site: Site) -> None:
    path = write(site, HEADER + "1 :a\n2 :b\n")
    uidlist = fresh(site)
    assert uidlist.next_uid == 3
    path.write_text(HEADER + "1 :a\n7 :other\n8 :more\n")  # keeps the inode, and is longer
    assert uidlist.refresh()
    assert uidlist.uid_of == {"a": 1, "other": 7, "more": 8}


def test_rewriting_drops_the_dead_and_keeps_fields(site: Site) -> None:
    path = write(site, HEADER + "1 :a\n2 S5 :b\n3 :c\n")
    uidlist = fresh(site)
    uidlist.rewrite({"b"})
    assert path.read_text() == HEADER.replace("N1", "N4") + "2 S5 :b\n"
    assert uidlist.next_uid == 4
    assert fresh(site).next_uid == 4


def test_version_1_becomes_version_3_with_the_same_uids(site: Site) -> None:
    path = write(site, "1 77 9\n3 a\n8 b\n")
    uidlist = fresh(site)
    assert uidlist.uid_of == {"a": 3, "b": 8}
    uidlist.prepare()
    assert path.read_text().startswith("3 V77 N9 G")
    assert fresh(site).uid_of == {"a": 3, "b": 8}


def test_a_missing_guid_is_added(site: Site) -> None:
    write(site, "3 V5 N2\n1 :a\n")
    uidlist = fresh(site)
    uidlist.prepare()
    assert uidlist.header is not None
    assert uidlist.header.guid is not None
    assert (uidlist.header.uidvalidity, dict(uidlist.uid_of)) == (5, {"a": 1})


def test_a_base_listed_twice_has_its_later_uid(site: Site) -> None:
    path = write(site, HEADER + "1 :a\n2 :b\n3 :a\n")
    uidlist = fresh(site)
    assert uidlist.uid_of == {"a": 3, "b": 2}
    uidlist.rewrite(None)
    assert path.read_text().splitlines()[1:] == ["2 :b", "3 :a"]


def test_a_torn_end_costs_no_uid_twice_and_no_uidvalidity(site: Site) -> None:
    path = write(site, HEADER + "1 :a\n2 :b\n3 :torn-of")
    uidlist = fresh(site)
    assert uidlist.uid_of == {"a": 1, "b": 2}
    uidlist.prepare()
    assert uidlist.next_uid >= 2 + TORN_GAP
    uidlist.add([(uidlist.next_uid, "c")])
    again = fresh(site)
    assert again.header is not None
    assert again.header.uidvalidity == 1795280836
    assert again.uid_of["a"] == 1
    assert again.uid_of["c"] > TORN_GAP
    assert b"torn" not in path.read_bytes()


@pytest.mark.parametrize("damage", ["garbage", "\0\0\0\0", "9 ", "2 :x", "9 :a/b"])
def test_broken_lines_are_set_aside_and_the_rest_is_kept(site: Site, damage: str) -> None:
    content = HEADER + "1 :a\n2 :b\n" + damage + "\n4 :d\n"
    path = write(site, content)
    uidlist = fresh(site)
    assert uidlist.uid_of == {"a": 1, "b": 2, "d": 4}
    uidlist.prepare()
    assert uidlist.header is not None
    assert uidlist.header.uidvalidity == 1795280836
    assert uidlist.next_uid > max(4, 9 if damage.startswith("9") else 0)
    assert fresh(site).uid_of == {"a": 1, "b": 2, "d": 4}
    assert path.with_name("dovecot-uidlist.broken").read_text() == content
    assert not fresh(site).faults


@pytest.mark.parametrize("header", ["", "\n", "garbage\n", "9 V1 N1\n", "\0\0\0\0\n", "3 V0 N1\n"])
def test_without_a_header_it_is_another_mailbox(site: Site, header: str) -> None:
    write(site, header + ("1 :a\n" if header else ""))
    uidlist = fresh(site)
    assert uidlist.header is None
    uidlist.prepare()
    assert uidlist.header is not None
    assert uidlist.uid_of == {}
    assert uidlist.next_uid == 1


def test_a_list_that_is_a_link_is_not_followed(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text(HEADER)
    (tmp_path / "dovecot-uidlist").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        fresh(site)
    assert target.read_text() == HEADER


def test_a_failed_append_is_taken_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(site, HEADER + "1 :a\n")
    uidlist = fresh(site)

    def full_disk(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full_disk)
    with pytest.raises(OSError, match="No space"):
        uidlist.add([(2, "b")])
    assert path.read_text() == HEADER + "1 :a\n"
    assert fresh(site).uid_of == {"a": 1}


# --- dovecot-uidvalidity ---------------------------------------------------------------------


def test_uidvalidity_values_never_repeat(tmp_path: Path) -> None:
    values = [uidvalidity.allocate(tmp_path, DEFAULTS) for _ in range(5)]
    assert values == list(range(values[0], values[0] + 5))
    assert (tmp_path / "dovecot-uidvalidity").read_text() == f"{values[-1]:08x}"
    [companion] = tmp_path.glob("dovecot-uidvalidity.*")
    assert companion.name == f"dovecot-uidvalidity.{values[-1]:08x}"
    assert companion.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("content", [None, b"", b"zzzzzzzz", b"00000000", b"0000000"])
def test_a_lost_counter_goes_on_from_its_companion(tmp_path: Path, content: bytes | None) -> None:
    main = tmp_path / "dovecot-uidvalidity"
    for name in ("60000001", "60000005"):
        (tmp_path / f"dovecot-uidvalidity.{name}").touch()
    if content is not None:
        main.write_bytes(content)
    assert uidvalidity.allocate(tmp_path, DEFAULTS) == 0x60000006
    assert main.read_text() == "60000006"


def test_a_counter_without_companion_starts_from_the_time(tmp_path: Path) -> None:
    (tmp_path / "dovecot-uidvalidity").write_text("00000007")
    assert uidvalidity.allocate(tmp_path, DEFAULTS) > 1_600_000_000


def test_the_counter_passes_zero(tmp_path: Path) -> None:
    (tmp_path / "dovecot-uidvalidity").write_text("ffffffff")
    (tmp_path / "dovecot-uidvalidity.ffffffff").touch()
    assert uidvalidity.allocate(tmp_path, DEFAULTS) == 1


def test_where_nothing_can_be_written_the_time_serves(tmp_path: Path) -> None:
    assert uidvalidity.allocate(tmp_path / "missing", DEFAULTS) > 1_600_000_000
