"""What is remembered of a mailbox's directory never shows: whoever remembers gives the answers of
one who looks for the first time, whatever is done to the files in between."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sharefs.names import Layout, Naming
from sharefs.sharing.files import AclFile, AclReader, Condition
from sharefs.sharing.policy import AclMailbox, Policy, Viewer
from sharefs.store.interface import Existence, StoredMailbox
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from tests.support.become import Identity

BOB = Viewer("bob")
BOXES = (("Work",), ("Work", "Old"), ("Play",))


def later() -> float:
    """A clock for which all that was done before the file system's last tick is long over."""
    return time.time() + 3600


def tick(directory: Path) -> None:
    """Wait for the file system's clock: what is done next has another time than all before."""
    probe = directory / "probe"
    probe.touch()
    before = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == before:
        probe.touch()
    probe.unlink()


class Tree:
    """A mail root, and somebody who remembers what he saw of it."""

    def __init__(self, top: Path, layout: Layout) -> None:
        self.top = top
        self.config = MaildirConfig(top / "Maildir", naming=Naming(layout))
        self.storage = MaildirStorage(self.config, clock=later)
        self.policy = Policy(AclReader())
        for box in BOXES:
            self.storage.create(box)
        (top / "elsewhere" / "cur").mkdir(parents=True)
        (top / "elsewhere" / "dovecot-acl").write_text("user=bob lrs\n")
        self.tick()

    def tick(self) -> None:
        tick(self.top)

    def path(self, box: tuple[str, ...]) -> Path:
        return self.storage.mailbox_path(box)

    def seen(self, box: tuple[str, ...]) -> tuple[Existence, str]:
        """Existence, and bob's rights, of one who remembers."""
        stored = self.storage.look(box)
        return stored.existence, self._rights(self.policy, box, stored)

    def anew(self, box: tuple[str, ...]) -> tuple[Existence, str]:
        """The same of one who does not."""
        existence = MaildirStorage(self.config).existence(box)
        return existence, self._rights(Policy(), box, StoredMailbox(box, existence))

    def _rights(self, policy: Policy, box: tuple[str, ...], stored: StoredMailbox) -> str:
        mailbox = AclMailbox(namespace_type="shared", name="/".join(box), acl_dir=self.path(box))
        return policy.answer(BOB, mailbox, stored.stamp).effective.rights.wire()

    def listed(self) -> dict[tuple[str, ...], Existence]:
        return {found.name: found.existence for found in self.storage.iterate()}

    def listed_anew(self) -> dict[tuple[str, ...], Existence]:
        return {found.name: found.existence for found in MaildirStorage(self.config).iterate()}


@pytest.fixture(params=list(Layout), ids=lambda layout: layout.value)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, request.param)


def share(box: Path) -> None:
    (box / "dovecot-acl").write_text("user=bob lr\n")


def unshare(box: Path) -> None:
    (box / "dovecot-acl").unlink(missing_ok=True)


def change_in_place(box: Path) -> None:
    with (box / "dovecot-acl").open("a") as file:
        file.write("user=bob li\n")


def share_by_link(box: Path) -> None:
    unshare(box)
    (box / "dovecot-acl").symlink_to(box.parents[1] / "common-acl")


def make_linked(box: Path) -> None:
    """What the links lead to, which touches no mailbox's directory."""
    (box.parents[1] / "common-acl").write_text("user=bob lrw\n")


def remove_linked(box: Path) -> None:
    (box.parents[1] / "common-acl").unlink(missing_ok=True)


def lose_cur(box: Path) -> None:
    remove(box / "cur")


def gain_cur(box: Path) -> None:
    if not os.path.lexists(box / "cur"):
        (box / "cur").mkdir()


def link_cur(box: Path) -> None:
    lose_cur(box)
    (box / "cur").symlink_to(box.parents[1] / "real-cur")


def make_real_cur(box: Path) -> None:
    (box.parents[1] / "real-cur").mkdir(exist_ok=True)


def remove_real_cur(box: Path) -> None:
    remove(box.parents[1] / "real-cur")


def replace_by_link(box: Path) -> None:
    remove(box)
    box.symlink_to(box.parents[1] / "elsewhere")


def set_back(box: Path) -> None:
    """Times that anybody may set say nothing."""
    share(box)
    os.utime(box, (1, 1))


def remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def make(box: Path) -> None:
    if not os.path.lexists(box):
        box.mkdir()
    gain_cur(box)


DEEDS: tuple[Callable[[Path], None], ...] = (
    share, unshare, change_in_place, share_by_link, make_linked, remove_linked, lose_cur, gain_cur,
    link_cur, make_real_cur, remove_real_cur, replace_by_link, set_back, remove, make,
)  # fmt: skip


def on_work(*deeds: Callable[[Path], None]) -> list[tuple[tuple[str, ...], Callable[[Path], None]]]:
    return [(("Work",), deed) for deed in deeds]


@example(Layout.MAILDIRPP, on_work(make_real_cur, link_cur, remove_real_cur, make_real_cur))
@example(Layout.FS, on_work(make_real_cur, link_cur, remove_real_cur, make_real_cur))
@example(Layout.MAILDIRPP, on_work(share_by_link, make_linked, remove_linked))
@example(Layout.MAILDIRPP, on_work(share, change_in_place, unshare, set_back))
@example(Layout.MAILDIRPP, on_work(replace_by_link, remove, make))
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(Layout),
    st.lists(st.tuples(st.sampled_from(BOXES), st.sampled_from(DEEDS)), max_size=8),
)
def test_remembering_never_shows(
    layout: Layout, deeds: list[tuple[tuple[str, ...], Callable[[Path], None]]]
) -> None:
    with tempfile.TemporaryDirectory() as top:
        tree = Tree(Path(top), layout)
        for box, deed in deeds:
            for each in BOXES:
                tree.seen(each)  # and remembered
            if tree.path(box).parent.is_dir() and not tree.path(box).parent.is_symlink():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    deed(tree.path(box))
            for each in BOXES:
                assert tree.seen(each) == tree.anew(each), (deed, each)
            assert tree.listed() == tree.listed_anew(), deed
            tree.tick()


def test_the_same_directory_is_the_same_object(tree: Tree) -> None:
    assert tree.storage.look(("Work",)) is tree.storage.look(("Work",))
    assert tree.storage.look(("Work",)) in list(tree.storage.iterate())
    share(tree.path(("Work",)))
    assert tree.storage.look(("Work",)) is not tree.storage.look(("Play",))


def test_nothing_is_remembered_of_what_has_just_changed(tmp_path: Path) -> None:
    """Another change within one timestamp would not show."""
    storage = MaildirStorage(MaildirConfig(tmp_path / "Maildir"))
    storage.create(("Work",))
    stored = storage.look(("Work",))
    assert stored.stamp is None
    assert storage.look(("Work",)) is not stored


def test_a_file_that_was_not_there_is_not_looked_for_again(tree: Tree) -> None:
    class Counting(AclReader):
        reads = 0

        def read(self, path: Path) -> AclFile:
            self.reads += 1
            return super().read(path)

    reader = Counting()
    stamp = tree.storage.look(("Work",)).stamp
    assert stamp is not None
    directory = tree.path(("Work",))
    found = [reader.read_in(directory, stamp) for _ in range(3)]
    assert {file.condition for file in found} == {Condition.MISSING}
    assert reader.reads == 1
    assert reader.read_in(directory, None) == found[0]
    assert reader.reads == 2, "without a stamp nobody can tell"


@pytest.mark.superuser
def test_a_directory_that_was_closed_is_noticed() -> None:
    with tempfile.TemporaryDirectory() as top:
        assert _closed(Tree(Path(top), Layout.FS)) == (
            Existence.SELECTABLE, Existence.NO_SELECT, False,
        )  # fmt: skip


def _closed(tree: Tree) -> tuple[Existence, Existence, bool]:
    """What its owner sees of a mailbox, then when nobody may enter it, and if it is listed."""
    owner = Identity(54321, 54321)
    for path in (tree.top, *tree.top.rglob("*")):
        os.chown(path, owner.uid, owner.gid)
    tree.tick()

    def look() -> tuple[Existence, Existence, bool]:
        storage = MaildirStorage(tree.config, clock=later)
        before = storage.look(("Play",)).existence
        tree.path(("Play",)).chmod(0)
        after = storage.look(("Play",)).existence
        return before, after, ("Play",) in {found.name for found in storage.iterate()}

    return owner.run(look)
