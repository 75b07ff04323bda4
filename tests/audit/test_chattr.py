"""What chattr(1) holds fast is refused whatever the modes say, and the answers are the kernel's."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from sharefs import fsops
from sharefs.audit.inodes import Inodes
from sharefs.audit.kernel import ask_kernel
from sharefs.audit.names import Names
from sharefs.audit.plainly import bits_of
from sharefs.audit.questions import Question, Verb, World, ask, file_kinds
from sharefs.permissions.access import Credentials
from sharefs.permissions.explain import inode_of
from tests.audit.random_trees import attempt
from tests.support.become import Identity
from tests.support.file_systems import loop_mounted

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

ALICE = Identity(5001, 5001)
ROOT = Identity(0, 0)
FLAGS = ("i", "a", "ai")
ON_ENTRY = {Verb.READ, Verb.WRITE, Verb.REMOVE, Verb.RENAME, Verb.LINK, Verb.CHMOD}


def chattr(change: str, *paths: Path) -> None:
    subprocess.run(["chattr", change, *map(str, paths)], check=True)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """An ext4 of its own: not every file system has these flags, and it goes with all of them."""
    top = Path(tempfile.mkdtemp(prefix="sharefs-chattr-"))
    top.chmod(0o755)
    try:
        with loop_mounted("ext4", top) as point:
            yield point
    finally:
        shutil.rmtree(top)


def case(disk: Path, verb: Verb, where: str, flags: str) -> Question:
    """Two directories and a file, all open to everybody; one of them is held."""
    top = Path(tempfile.mkdtemp(dir=disk))
    here, there, entry = top / "here", top / "there", top / "here" / "entry"
    here.mkdir()
    there.mkdir()
    entry.touch()
    for path in (entry, here, there):
        path.chmod(0o777)
        shutil.chown(path, ALICE.uid, ALICE.gid)
    top.chmod(0o755)
    held = {"here": here, "there": there, "entry": entry}[where]
    chattr(f"+{flags}", held)
    path = entry if verb in ON_ENTRY else here / "new" if verb is Verb.CREATE else here
    other = {Verb.RENAME: str(there / "new"), Verb.LINK: str(there)}.get(verb, "")
    return Question(verb, str(path), "try it", other)


@pytest.mark.parametrize("who", [ALICE, ROOT], ids=["owner", "root"])
def test_the_kernel_agrees_and_the_changes_help(disk: Path, who: Identity) -> None:
    credentials = Credentials(who.uid, who.gid, frozenset(), superuser=who.uid == 0)
    questions = [
        case(disk, verb, where, flags)
        for verb, where, flags in product(Verb, ("here", "there", "entry"), FLAGS)
    ]
    told = [ask(question, credentials, World()) for question in questions]
    answers = [
        ask_kernel([question], credentials, names=Names(), world=World()) for question in questions
    ]
    kernel = who.run(lambda: [attempt(question, 0) for question in questions])
    wrong = [
        (question, ours) for question, ours, is_so in zip(questions, told, kernel, strict=True)
        if ours.allowed != is_so
    ]  # fmt: skip
    assert not wrong
    assert 0 < kernel.count(False) < len(kernel)
    refused = [number for number, allowed in enumerate(kernel) if not allowed]
    for number in refused:
        assert answers[number].complete
        for change in answers[number].changes:
            assert change.command.startswith("chattr -")
            subprocess.run(change.command, shell=True, check=True)
    assert all(who.run(lambda: [attempt(questions[number], 1) for number in refused]))


def test_one_message_among_others_is_told_apart(disk: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=disk))
    for name in ("1", "2", "3"):
        (folder / name).touch(0o600)
    assert len(file_kinds(str(folder))) == 1
    chattr("+i", folder / "2")
    kinds = file_kinds(str(folder))
    assert len(kinds) == 2
    assert str(folder / "2") in kinds


def test_an_audit_takes_nothing_there_for_plainly_allowed(disk: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=disk))
    chattr("+a", folder)
    with fsops.directory(folder) as fd:
        inode, _ = Inodes().of_fd(fd, str(folder))
    assert inode == inode_of(str(folder))
    assert inode.append_only
    assert bits_of(inode, Credentials(0, 0)) == 0


def test_a_mode_is_not_changed_before_the_flag_is_gone(disk: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=disk))
    folder.chmod(0o700)
    chattr("+i", folder)
    question = Question(Verb.LOOK, str(folder), "list it")
    who = Credentials(ALICE.uid, ALICE.gid)
    changes = ask_kernel([question], who, names=Names(), world=World()).changes
    assert [change.command.split()[0] for change in changes] == ["chattr", "setfacl"]
    for change in changes:
        subprocess.run(change.command, shell=True, check=True)
    assert ALICE.run(attempt, question, 0)
