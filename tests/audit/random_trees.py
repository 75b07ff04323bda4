"""Random trees with everything that decides over access, and system calls to try in them.

A tree is made as the superuser inside a private mount namespace.  Each question that is asked of
it has an entry of its own, so that trying one leaves the others as they were.
"""

import ctypes
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sharefs.audit.questions import Question, Verb
from sharefs.permissions.posix_acl import (
    ACCESS,
    DEFAULT,
    AclEntry,
    PosixAcl,
    Tag,
    format_posix_acl,
)
from tests.support.become import Identity

UIDS: Final = (5001, 5002, 5003)
GIDS: Final = (5100, 5200, 6000)
PEOPLE: Final = (
    Identity(5001, 5100),
    Identity(5002, 5200, (6000,)),
    Identity(5003, 5100, (5200, 6000)),
    Identity(5002, 6000),
)

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS: Final = 0x00020000  # linux/sched.h
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18


def private_mounts() -> None:
    """From here on this process mounts for itself alone."""
    _check(_LIBC.unshare(CLONE_NEWNS))
    mount(None, Path("/"), MS_REC | MS_PRIVATE)


def mount(source: Path | None, target: Path, flags: int) -> None:
    name = b"none" if source is None else os.fsencode(source)
    _check(_LIBC.mount(name, os.fsencode(target), None, ctypes.c_ulong(flags), None))


def _check(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@dataclass
class Tree:
    """Directories of one tree from the top down, and what is asked about them."""

    top: Path
    directories: list[Path] = field(default_factory=list)
    questions: list[tuple[int, Question]] = field(default_factory=list)  # (of PEOPLE, question)


class Grower:
    """Makes one tree after the other, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._serial = 0

    def grow(self, top: Path) -> Tree:
        pick = self._random
        top.mkdir()
        top.chmod(0o755)
        tree = Tree(top)
        here = top
        for depth in range(pick.randint(1, 4)):
            # Mostly one below the other, sometimes beside, so that links lead across.
            here = (here if pick.random() < 0.8 else top) / f"d{depth}"
            here.mkdir()
            tree.directories.append(here)
        links = self._links(tree)
        for _ in range(pick.randint(6, 12)):
            self._question(tree, links)
        for directory in reversed(tree.directories):
            self._dress(directory, directory=True)
        if pick.random() < 0.3:
            self._mount(tree)
        return tree

    # --- what is in a tree ------------------------------------------------------------------

    def _name(self, start: str) -> str:
        self._serial += 1
        return f"{start}{self._serial}"

    def _dress(self, path: Path, *, directory: bool) -> None:
        """Owner, group, mode and ACLs.  Directories are mostly usable, so that a path goes on."""
        pick = self._random
        mode = pick.randrange(0o1000)
        if directory and pick.random() < 0.7:
            mode |= pick.choice((0o711, 0o755, 0o750, 0o770, 0o777))
        if directory:
            mode |= pick.choice((0, 0, 0o1000, 0o2000, 0o3000))
        os.chown(path, pick.choice((0, *UIDS)), pick.choice((0, *GIDS)))
        path.chmod(mode)
        if pick.random() < 0.35:
            os.setxattr(path, ACCESS, format_posix_acl(self._acl()))
        if directory and pick.random() < 0.2:
            os.setxattr(path, DEFAULT, format_posix_acl(self._acl()))

    def _acl(self) -> PosixAcl:
        pick = self._random
        entries = [
            AclEntry(tag, pick.randrange(8)) for tag in (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER)
        ]
        named = [AclEntry(Tag.USER, pick.randrange(8), uid) for uid in pick.sample(UIDS, 1)]
        named += [AclEntry(Tag.GROUP, pick.randrange(8), gid) for gid in pick.sample(GIDS, 1)]
        named = named[: pick.randint(0, 2)]
        mask = [AclEntry(Tag.MASK, pick.choice((0, 1, 4, 5, 7, 7)))] if named else []
        return tuple([*entries, *named, *mask])

    def _links(self, tree: Tree) -> list[Path]:
        """Symbolic links between the directories: plain, dotted, chained, looping, dangling."""
        pick = self._random
        links: list[Path] = []
        for _ in range(pick.randint(0, 3)):
            where, to = pick.choice([tree.top, *tree.directories]), pick.choice(tree.directories)
            link = where / self._name("l")
            target = str(to)
            match pick.randrange(6):
                case 0:
                    target = os.path.relpath(to, where)
                case 1:
                    target = os.path.relpath(to, where) + "/."
                case 2 if links:
                    target = str(links[-1])
                case 3:
                    target = str(to / "..") + "/" + to.name
                case 4 if pick.random() < 0.3:
                    target = pick.choice((str(link), "missing/further"))
                case _:
                    pass
            link.symlink_to(target)
            links.append(link)
        return links

    def _mount(self, tree: Tree) -> None:
        """A directory mounted upon itself, read-only or with options that must not matter."""
        directory = self._random.choice(tree.directories)
        flags = self._random.choice((MS_RDONLY, MS_RDONLY, MS_NOSUID, MS_RDONLY | MS_NOSUID))
        mount(directory, directory, MS_BIND)
        mount(None, directory, MS_BIND | MS_REMOUNT | flags)

    # --- what is asked ----------------------------------------------------------------------

    def _way(self, tree: Tree, directory: Path, links: list[Path]) -> str:
        """One of the ways to a directory: through links or straight."""
        pick = self._random
        below = [
            str(link) for link in links
            if os.path.realpath(link) == str(directory) or pick.random() < 0.05
        ]  # fmt: skip
        if below and pick.random() < 0.6:
            return pick.choice(below)
        if pick.random() < 0.1:
            return f"{directory}/../{directory.name}"
        return str(directory)

    def _question(self, tree: Tree, links: list[Path]) -> None:
        pick = self._random
        directory = pick.choice(tree.directories)
        way = self._way(tree, directory, links)
        verb = pick.choice(list(Verb))
        who = pick.randrange(len(PEOPLE))
        other = ""
        path = way
        if verb in (Verb.READ, Verb.WRITE, Verb.REMOVE, Verb.RENAME, Verb.LINK, Verb.CHMOD):
            name = self._name("e")
            (directory / name).mkdir() if self._wants_directory(verb) else (
                directory / name
            ).touch()
            self._dress(directory / name, directory=False)
            path = f"{way}/{name}"
            if verb is Verb.REMOVE and pick.random() < 0.1:
                (directory / f"{name}x").symlink_to(name)
                path += "x"
        elif verb is Verb.CREATE:
            path = f"{way}/{self._name('n')}"
        elif verb in (Verb.REACH, Verb.LOOK) and pick.random() < 0.1:
            path = f"{way}/missing"
        elif verb is Verb.REACH and links and pick.random() < 0.5:
            path = str(pick.choice(links)) + pick.choice(("", "/"))
        if verb is Verb.RENAME:
            target = pick.choice(tree.directories) if pick.random() < 0.5 else directory
            other = f"{self._way(tree, target, links)}/{self._name('m')}"
        elif verb is Verb.LINK:
            other = self._way(tree, pick.choice(tree.directories), links)
        tree.questions.append((who, Question(verb, path, "try", other)))

    def _wants_directory(self, verb: Verb) -> bool:
        return verb in (Verb.RENAME, Verb.REMOVE, Verb.CHMOD) and self._random.random() < 0.3


# --- what the kernel says -----------------------------------------------------------------------


def attempt(question: Question, serial: int) -> bool:
    """Make the system call, as whoever this process is."""
    try:
        _TRIES[question.verb](question, serial)
    except OSError:
        return False
    return True


def _create_in(question: Question, serial: int) -> None:
    path = f"{question.path}/try{serial}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _create(question: Question, serial: int) -> None:
    os.close(os.open(question.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _open(flags: int) -> Callable[[Question, int], None]:
    return lambda question, serial: os.close(os.open(question.path, flags))


def _look(question: Question, serial: int) -> None:
    os.listdir(question.path)
    os.stat(f"{question.path}/.")


def _remove(question: Question, serial: int) -> None:
    is_dir = os.path.isdir(question.path) and not os.path.islink(question.path)
    (os.rmdir if is_dir else os.unlink)(question.path)


def _chmod(question: Question, serial: int) -> None:
    os.chmod(question.path, 0o600)


_TRIES: Final[dict[Verb, Callable[[Question, int], None]]] = {
    Verb.REACH: lambda question, serial: void(os.stat(question.path)),
    Verb.READ: _open(os.O_RDONLY),
    Verb.LOOK: _look,
    Verb.WRITE: _open(os.O_WRONLY),
    Verb.CREATE_IN: _create_in,
    Verb.CREATE: _create,
    Verb.REMOVE: _remove,
    Verb.RENAME: lambda question, serial: os.rename(question.path, question.other),
    Verb.LINK: lambda question, serial: os.link(
        question.path, f"{question.other}/link{serial}", follow_symlinks=False
    ),
    Verb.CHMOD: _chmod,
}


def void(result: object) -> None:
    """A call whose result does not matter."""
