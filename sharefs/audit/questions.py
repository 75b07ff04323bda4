"""Questions to the kernel about one system call, answered before anybody makes it.

Only reads.  Joins the walk along a path (permissions.explain) with the checks of the last step
(permissions.access), and knows the refusals that no permission bit explains: another mount, a
name that is taken.  Tests ask the kernel the same.
"""

import enum
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sharefs.audit.mounts import Mount, is_mount_point, mount_of, mounts_of_host
from sharefs.permissions import access
from sharefs.permissions.access import Answer, Credentials, Inode, Want
from sharefs.permissions.explain import Walked, inode_of, protected_hardlinks, walk
from sharefs.permissions.inode_flags import InodeFlags, inode_flags
from sharefs.permissions.posix_acl import ACCESS

MAX_REMEMBERED: Final = 20_000  # inodes
_LOOKS: Final = (Want.READ, Want.SEARCH)
_LOOK: Final = Want.READ | Want.SEARCH


class Verb(enum.StrEnum):
    """What is asked; each is one system call."""

    REACH = "reach"  # stat(2)
    READ = "read"  # open(2) for reading; opendir(3)
    LOOK = "look into"  # opendir(3), and stat(2) of what is in it
    WRITE = "write to"  # open(2) for writing, nothing created
    CREATE_IN = "create files in"  # open(2) with O_CREAT | O_EXCL of a free name in a directory
    CREATE = "create"  # the same, for a name of one's choice
    REMOVE = "remove"  # unlink(2) or rmdir(2)
    RENAME = "rename"  # rename(2) to other, which must be free
    LINK = "link"  # link(2) into the directory other
    CHMOD = "change the mode of"


@dataclass(frozen=True, slots=True)
class Question:
    """path: absolute.  other: a second path, for RENAME and LINK.  purpose: for people."""

    verb: Verb
    path: str
    purpose: str
    other: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """The answer.

    steps: everything that was asked, in order; only the last may refuse.  missing: a component
    that does not exist.  obstacle: a refusal that is no matter of permissions.
    """

    question: Question
    steps: tuple[Answer, ...]
    missing: str | None = None
    obstacle: str = ""

    @property
    def refusal(self) -> Answer | None:
        return next((step for step in self.steps if not step), None)

    @property
    def allowed(self) -> bool:
        return self.refusal is None and self.missing is None and not self.obstacle


@dataclass(slots=True)
class World:
    """The file system as it is, or as it would be after changes that were not made.

    changed: inodes by resolved path.  remounted: read-only file systems were made writable.
    remembered: inodes that were read already; None: each is read again.  With it, the ways to
    directories are remembered too, for each identity.  outer: remembers what is not below the
    directory top (which is real_top without symbolic links), for other worlds as well.
    """

    mounts: Sequence[Mount] = field(default_factory=mounts_of_host)
    changed: Mapping[str, Inode] = field(default_factory=dict)
    remounted: bool = False
    remembered: dict[str, Inode] | None = None
    outer: "World | None" = None
    top: str = "/"
    real_top: str = "/"
    _ways: dict[tuple[Credentials, str], Walked] = field(default_factory=dict)
    _links: set[str] = field(default_factory=set)

    def way(self, who: Credentials, path: str, *, through: bool = False) -> Walked:
        """walk() of a path in its plainest spelling; directories above are walked once.

        through: to something in it, so that the path must be a directory that may be searched.  It
        matters to symbolic links: fs.protected_symlinks speaks of those at the end of a path.
        """
        if self.remembered is None or not _is_plain(path):
            return walk(who, f"{path}/." if through else path, look=self.look)
        return self._plain_way(who, path, through=through)

    def _plain_way(self, who: Credentials, path: str, *, through: bool = False) -> Walked:
        known = self._way_to(who, path)
        if not through or path not in self._links:
            return known
        inside = f"{path}/."
        if (who, inside) not in self._ways:
            self._ways[who, inside] = walk(who, inside, look=self.look)
        return self._ways[who, inside]

    def _way_to(self, who: Credentials, path: str) -> Walked:
        known = self._ways.get((who, path))
        if known is None:
            if self.outer is not None and path == self.top:
                known = self.outer.way(who, path, through=True)
            else:
                known = self._step(who, path)
            self._ways[who, path] = known
        return known

    def _step(self, who: Credentials, path: str) -> Walked:
        above, _, name = path.rpartition("/")
        if not above:
            return walk(who, path, look=self.look)
        walked = self._plain_way(who, above, through=True)
        inode = walked.inode
        if inode is None or not inode.is_directory:
            return walked if inode is None else walk(who, path, look=self.look)
        answer = access.check(inode, who, Want.SEARCH)
        steps = (*walked.steps, answer)
        if not answer:
            return Walked(steps, None)
        full = os.path.join(inode.path, name)
        try:
            found = self.look(full)
        except OSError:
            return Walked(steps, None, full)
        if stat.S_ISLNK(found.mode):
            self._links.add(path)
            return walk(who, path, look=self.look)
        return Walked(steps, found)

    def _is_inside(self, path: str) -> bool:
        return path.startswith(self.real_top) and path != self.real_top

    def forget(self) -> None:
        """Drop what is remembered, where it has become much."""
        if self.remembered is None:
            return
        if len(self.remembered) > MAX_REMEMBERED or len(self._ways) > MAX_REMEMBERED:
            self.remembered.clear()
            self._ways.clear()

    def below(self, top: str, real_top: str) -> "World":
        """A world for what is below a directory; this one remembers what is above it."""
        self.forget()
        return World(self.mounts, remembered={}, outer=self, top=top, real_top=real_top)

    def look(self, path: str) -> Inode:
        """Raises OSError."""
        inode = self.changed.get(path)
        if inode is None and self.remembered is not None:
            inode = self.remembered.get(path)
        if inode is None and self.outer is not None and not self._is_inside(path):
            inode = self.outer.look(path)
        if inode is None:
            inode = inode_of(path)
            if self.remembered is not None:
                self.remembered[path] = inode
        return replace(inode, read_only=False) if self.remounted and inode.read_only else inode

    def remember(self, inode: Inode, path: str) -> None:
        """What somebody has seen of a resolved path a moment ago need not be read again."""
        if self.remembered is not None:
            same = inode.path == path
            self.remembered[path] = inode if same else replace(inode, path=path)

    def with_change(self, inode: Inode, *, remounted: bool = False) -> "World":
        changed = {**self.changed, inode.path: inode}
        return World(self.mounts, changed, self.remounted or remounted, self.remembered)


class _Refused(Exception):
    """The walk ended before the question could be put."""

    def __init__(self, missing: str | None = None, obstacle: str = "") -> None:
        self.missing, self.obstacle = missing, obstacle


class _Asking:
    """One question being put."""

    def __init__(self, who: Credentials, world: World) -> None:
        self.who, self.world = who, world
        self.steps: list[Answer] = []

    def reach(self, path: str, *, follow: bool = True) -> Inode:
        if follow:
            walked = self.world.way(self.who, path)
        else:
            walked = walk(self.who, path, follow=False, look=self.world.look)
        self.steps += walked.steps
        if walked.inode is None:
            raise _Refused(walked.missing_path)
        return walked.inode

    def directory(self, path: str) -> Inode:
        inode = self.reach(path)
        if not inode.is_directory:
            raise _Refused(obstacle=f"{inode.path} is not a directory")
        return inode

    def through(self, path: str) -> Inode:
        """A directory in which something is to be used: its own link is not the last one."""
        walked = self.world.way(self.who, path, through=True)
        self.steps += walked.steps
        inode, missing = walked.inode, walked.missing_path
        if missing is not None and missing.endswith("/."):
            raise _Refused(obstacle=f"{missing.removesuffix('/.')} is not a directory")
        if inode is None:
            raise _Refused(missing)
        if not inode.is_directory:
            raise _Refused(obstacle=f"{inode.path} is not a directory")
        return inode

    def entry(self, path: str) -> tuple[Inode, Inode | None, str]:
        """The directory of a name, what has the name, and its resolved path."""
        head, name = os.path.split(path.rstrip("/"))
        if name in ("", ".", ".."):
            raise _Refused(obstacle=f"{path} is not a name in a directory")
        parent = self.through(head or "/")
        full = os.path.join(parent.path, name)
        # Whoever cannot search the directory never gets as far as the name.
        self.add(access.check(parent, self.who, Want.SEARCH))
        try:
            return parent, self.world.look(full), full
        except OSError:
            return parent, None, full

    def existing(self, path: str) -> tuple[Inode, Inode]:
        parent, inode, full = self.entry(path)
        if inode is None:
            raise _Refused(missing=full)
        if is_mount_point(full, self.world.mounts):
            raise _Refused(obstacle=f"{full} is a mount point")
        return parent, inode

    def add(self, answer: Answer) -> None:
        """Raises _Refused if it denies."""
        self.steps.append(answer)
        if not answer:
            raise _Refused

    def check(self, inode: Inode, want: Want) -> None:
        self.add(access.check(inode, self.who, want))

    def look_into(self, inode: Inode) -> None:
        """Listing and searching are two calls, and two entries of an ACL may grant one each."""
        both = access.check(inode, self.who, _LOOK)
        each = [] if both else [access.check(inode, self.who, want) for want in _LOOKS]
        if both or not all(each):
            self.add(both)
        self.steps += each

    def same_mount(self, one: str, other: str) -> None:
        first, second = (mount_of(path, self.world.mounts) for path in (one, other))
        if first != second:
            raise _Refused(obstacle=f"{one} and {other} are on different mounts")

    def same_subvolume(self, one: str, other: str) -> None:
        self.same_mount(one, other)
        if os.stat(one).st_dev != os.stat(other).st_dev:
            raise _Refused(obstacle=f"{one} and {other} are in different subvolumes")


def ask(question: Question, who: Credentials, world: World) -> Told:
    """What the kernel would answer.  Raises nothing for what is not there."""
    asking = _Asking(who, world)
    try:
        _put(question, asking)
    except _Refused as end:
        return Told(question, tuple(asking.steps), end.missing, end.obstacle)
    except (FileNotFoundError, NotADirectoryError) as vanished:
        return Told(question, tuple(asking.steps), str(vanished.filename or question.path))
    return Told(question, tuple(asking.steps))


def _put(question: Question, asking: _Asking) -> None:
    path, who = question.path, asking.who
    match question.verb:
        case Verb.REACH:
            asking.reach(path)
        case Verb.READ:
            asking.check(asking.reach(path), Want.READ)
        case Verb.LOOK:
            asking.look_into(asking.directory(path))
        case Verb.WRITE:
            asking.add(access.can_overwrite(asking.reach(path), who))
        case Verb.CREATE_IN:
            asking.add(access.can_create(asking.through(path), who))
        case Verb.CREATE:
            parent, taken, full = asking.entry(path)
            if taken is not None:
                raise _Refused(obstacle=f"{full} exists already")
            asking.add(access.can_create(parent, who))
        case Verb.REMOVE:
            parent, inode = asking.existing(path)
            asking.add(access.can_remove(parent, inode, who))
            if inode.is_directory and _has_entries(inode.path):
                raise _Refused(obstacle=f"{inode.path} is not empty")
        case Verb.RENAME:
            _put_rename(question, asking)
        case Verb.LINK:
            directory, source = asking.existing(path)
            target = asking.through(question.other)
            asking.same_subvolume(directory.path, target.path)
            asking.add(access.can_link(source, target, who, protected=protected_hardlinks()))
        case Verb.CHMOD:
            asking.add(access.can_chmod(asking.reach(path), who))


def _put_rename(question: Question, asking: _Asking) -> None:
    source, inode = asking.existing(question.path)
    target, taken, full = asking.entry(question.other)
    if taken is not None:
        raise _Refused(obstacle=f"{full} exists already")
    if _is_subvolume(inode, source):
        asking.same_mount(source.path, target.path)
    else:
        asking.same_subvolume(source.path, target.path)
    if f"{target.path}/".startswith(f"{inode.path}/"):
        raise _Refused(obstacle=f"{full} is below {inode.path} itself")
    asking.add(access.can_rename(source, inode, target, asking.who))


def _is_subvolume(inode: Inode, parent: Inode) -> bool:
    """Whether a directory, which nothing is mounted on, is a Btrfs subvolume: those may move
    from one to another, unlike what is in them."""
    return inode.is_directory and os.stat(inode.path).st_dev != os.stat(parent.path).st_dev


def _is_plain(path: str) -> bool:
    """As normpath() would have it; asked too often to call that."""
    if not path.startswith("/"):
        return False
    odd = "//" in path or "/." in path or path.endswith("/")
    return not odd or os.path.normpath(path) == path


def _has_entries(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is not None


def file_kinds(directory: str, *, limit: int = 100_000) -> list[str]:
    """One file for each combination of type, mode, owner, group, POSIX ACL and chattr(1)'s flags
    in a directory.

    What holds for these holds for all.  limit: entries looked at.  Empty if the directory cannot
    be read.
    """
    kinds: dict[tuple[int, int, int, bytes, InodeFlags], str] = {}
    try:
        with os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number >= limit:
                    break
                if entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    continue
                acl = _acl_octets(entry.path)
                flags = inode_flags(entry.path)
                kind = status.st_mode, status.st_uid, status.st_gid, acl, flags
                kinds.setdefault(kind, entry.path)
    except OSError:
        return []
    return sorted(kinds.values())


def _acl_octets(path: str) -> bytes:
    """b"": there is none, or it cannot be had."""
    try:
        return os.getxattr(path, ACCESS, follow_symlinks=False)
    except OSError:
        return b""
