"""Files with one base name are mended in the mailbox that was opened, and nowhere else."""

from pathlib import Path

import pytest

from sharefs.errors import Code, SharingError
from sharefs.store.maildir import doubles
from sharefs.store.maildir.folders import Folders


def make_maildir(path: Path) -> Path:
    """With two different messages that have one base name."""
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)
    (path / "cur" / "1.M1P1.host:2,S").write_bytes(b"Subject: one\n\n")
    (path / "new" / "1.M1P1.host").write_bytes(b"Subject: two\n\n")
    return path


def listed(path: Path) -> Folders:
    folders = Folders(path)
    folders.look(at_cur=True, live=(), fresh=())
    assert folders.doubles
    return folders


def names(path: Path) -> list[str]:
    return sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.is_file())


def test_the_second_gets_a_new_name(tmp_path: Path) -> None:
    box = make_maildir(tmp_path / "box")
    doubles.mend(listed(box))
    kept, renamed = names(box)
    assert kept == "cur/1.M1P1.host:2,S"
    assert renamed.startswith("new/")
    assert renamed != "new/1.M1P1.host"
    assert (box / renamed).read_bytes() == b"Subject: two\n\n"


@pytest.mark.parametrize("linked", [True, False], ids=["link", "directory"])
def test_nothing_is_renamed_in_a_directory_put_in_its_place(tmp_path: Path, linked: bool) -> None:
    box, other = make_maildir(tmp_path / "box"), make_maildir(tmp_path / "other")
    folders = listed(box)
    box.rename(tmp_path / "gone")
    if linked:
        box.symlink_to(other)
    else:
        other = other.rename(box)
    before = names(other)
    with pytest.raises(SharingError) as refused:
        doubles.mend(folders)
    assert refused.value.code is Code.NONEXISTENT
    assert names(other) == before
