"""Links to others' mailboxes: the plan as values, and what is found on disk."""

import os
from pathlib import Path

import pytest

from sharefs.errors import Code, SharingError
from sharefs.names import Layout
from sharefs.permissions.inherit import DEFAULTS
from sharefs.sharing.links import (
    ShareLink,
    State,
    Wanted,
    links_in,
    look,
    make_link,
    missing_children,
    remove_link,
    wanted_links,
)


def maildir(path: Path) -> Path:
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)
    return path


def test_maildirpp_needs_a_link_for_every_mailbox() -> None:
    sources = {(): "/a/.Work", ("Sub",): "/a/.Work.Sub", ("Sub", "Deep"): "/a/.Work.Sub.Deep"}
    assert wanted_links(".shared.alice", sources, Layout.MAILDIRPP) == (
        Wanted(".shared.alice", "/a/.Work"),
        Wanted(".shared.alice.Sub", "/a/.Work.Sub"),
        Wanted(".shared.alice.Sub.Deep", "/a/.Work.Sub.Deep"),
    )
    assert wanted_links("shared/alice", sources, Layout.FS) == (Wanted("shared/alice", "/a/.Work"),)


def test_children_that_were_made_since() -> None:
    link = ShareLink(".shared.alice", "/a/.Work", State.GOOD, "/a/.Work")
    names = [".Work", ".Work.Sub", ".Work.New", ".Workshop", ".Other", "cur"]
    got = missing_children(link, names, frozenset({".shared.alice", ".shared.alice.Sub"}), always)
    assert got == [Wanted(".shared.alice.New", "/a/.Work.New")]
    inbox = ShareLink(".shared.alice", "/a", State.GOOD, "/home/a")
    assert missing_children(inbox, ["a.b"], frozenset(), always) == []


def test_children_that_the_acl_does_not_show() -> None:
    link = ShareLink(".shared.alice", "/a/.Work", State.GOOD, "/a/.Work")
    shown = Path("/a/.Work.Sub")
    got = missing_children(link, [".Work.Sub", ".Work.New"], frozenset(), shown.__eq__)
    assert got == [Wanted(".shared.alice.Sub", str(shown))]


def always(path: Path) -> bool:
    return True


def test_states(tmp_path: Path) -> None:
    root, other = maildir(tmp_path / "me"), maildir(tmp_path / "you" / ".Work")
    (root / ".good").symlink_to(other)
    (root / ".gone").symlink_to(tmp_path / "nowhere")
    (root / ".loop").symlink_to(root / ".loop")
    maildir(root / ".Mine")
    (root / ".inside").symlink_to(root / ".Mine")
    (tmp_path / "empty").mkdir()
    (root / ".empty").symlink_to(tmp_path / "empty")
    (root / ".file").symlink_to("/etc/passwd")  # a Sieve script, say: no mailbox, no trouble
    (root / ".through").symlink_to(tmp_path / "nofile" / "x")
    (tmp_path / "nofile").write_text("")
    got = {link.stored: link.state for link in links_in(root, Layout.MAILDIRPP)}
    assert got == {
        ".good": State.GOOD, ".gone": State.DANGLING, ".loop": State.LOOP, ".inside": State.INSIDE,
        ".empty": State.NO_MAILBOX, ".through": State.DANGLING,
    }  # fmt: skip
    assert look(root, ".Mine") is None
    assert look(root, ".nothing") is None


def test_links_of_an_fs_layout_lie_deep(tmp_path: Path) -> None:
    root, other = maildir(tmp_path / "me"), maildir(tmp_path / "you")
    assert make_link(root, Wanted("shared/alice/Work", str(other)), DEFAULTS)
    got = [link.stored for link in links_in(root, Layout.FS)]
    assert got == ["shared/alice/Work"]


def test_making_and_removing(tmp_path: Path) -> None:
    root, other = maildir(tmp_path / "me"), maildir(tmp_path / "you")
    wanted = Wanted(".a", str(other))
    assert make_link(root, wanted, DEFAULTS)
    assert not make_link(root, wanted, DEFAULTS)
    maildir(root / ".b")
    for bad, code in (
        (Wanted(".a", "/elsewhere"), Code.ALREADY_EXISTS),
        (Wanted(".b", str(other)), Code.ALREADY_EXISTS),
        (Wanted(".c", str(root / ".b")), Code.CANNOT),
        (Wanted(".c", str(root)), Code.CANNOT),
    ):
        with pytest.raises(SharingError) as caught:
            make_link(root, bad, DEFAULTS)
        assert caught.value.code is code
    with pytest.raises(SharingError) as caught:
        remove_link(root, ".b")
    assert caught.value.code is Code.NONEXISTENT
    remove_link(root, ".a")
    assert not os.path.lexists(root / ".a")
    assert (other / "cur").is_dir()
