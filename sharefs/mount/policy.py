"""Which right an operation on a file of a mailbox needs.  Pure; docs/mount.md prints the table.

A file has a spot: what it is to a mailbox, from where it lies and what it is called.  An act on a
spot has a need: rights, of which any one combination suffices.  What is in no row is refused with
EPERM: nothing that a program has in mind for a Maildir would ask for it.
"""

import enum
import errno
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sharefs.flags import System
from sharefs.mount.leave import Acts
from sharefs.rights import (
    ADMIN,
    CREATE,
    DELETE,
    DELETED,
    EXPUNGE,
    INSERT,
    LOOKUP,
    NONE,
    POST,
    READ,
    SEEN,
    WRITE,
    Rights,
)
from sharefs.store.maildir.filename import parse_info, split

ACL_FILE: Final = "dovecot-acl"
KEYWORDS_FILE: Final = "dovecot-keywords"


class Spot(enum.Enum):
    """What a file or directory is to its mailbox."""

    MAILBOX = "the mailbox's directory"
    CUR = "cur"
    NEW = "new"
    TMP = "tmp"
    MESSAGE = "a message in cur or new"
    TEMPORARY = "a file in tmp, or one beginning with a dot"
    ACL = "dovecot-acl"
    CONTROL = "any other file of the mailbox"
    FOREIGN = "a directory that is none of a Maildir's"


FOLDERS: Final = {"cur": Spot.CUR, "new": Spot.NEW, "tmp": Spot.TMP}


def spot_of(parent: Spot, name: str, *, directory: bool) -> Spot:
    """What a name below a mailbox's directory, or below cur, new or tmp, is."""
    if directory:
        return FOLDERS.get(name, Spot.FOREIGN) if parent is Spot.MAILBOX else Spot.FOREIGN
    if parent is Spot.MAILBOX:
        return Spot.ACL if name == ACL_FILE else Spot.CONTROL
    if parent is Spot.TMP or name.startswith("."):
        return Spot.TEMPORARY
    return Spot.MESSAGE


class Act(enum.Enum):
    """What is done.  Renames and links are made of these."""

    SEE = "look up, stat"
    LIST = "list"
    OPEN = "open to read"
    WRITE = "open to write or append, truncate, write"
    MAKE = "create, mknod"
    MAKE_DIRECTORY = "mkdir"
    REMOVE = "unlink, rmdir, rename away, replace by rename"
    TOUCH = "set times"
    CHMOD = "chmod, chgrp"


@dataclass(frozen=True, slots=True)
class Need:
    """Any of these sets of rights.  refusal: the errno without them.  why: for the log."""

    any_of: tuple[Rights, ...]
    refusal: int = errno.EACCES
    why: str = ""

    def and_also(self, rights: Rights, why: str) -> "Need":
        """All of these on top."""
        if not rights:
            return self
        reason = "; ".join(part for part in (self.why, why) if part)
        return Need(tuple(one | rights for one in self.any_of), self.refusal, reason)


@dataclass(frozen=True, slots=True)
class Decision:
    """errno 0: go ahead.  reason: which right was missing for what."""

    errno: int
    reason: str

    def __bool__(self) -> bool:
        return self.errno == 0


INSERTING: Final = (INSERT, POST)
FINISHING: Final = Need(INSERTING)
CHANGING: Final = (SEEN, DELETED, WRITE, INSERT, EXPUNGE)

TABLE: Final[dict[tuple[Act, Spot], Need]] = {
    (Act.SEE, Spot.MAILBOX): Need((LOOKUP,), errno.ENOENT),
    (Act.SEE, Spot.CUR): Need((LOOKUP,), errno.ENOENT),
    (Act.SEE, Spot.NEW): Need((LOOKUP,), errno.ENOENT),
    (Act.SEE, Spot.TMP): Need((LOOKUP,), errno.ENOENT),
    (Act.SEE, Spot.MESSAGE): Need((READ, *CHANGING, POST), why="names are told by listing alone"),
    (Act.SEE, Spot.TEMPORARY): Need((READ, *CHANGING, POST)),
    (Act.SEE, Spot.ACL): Need((ADMIN,), errno.ENOENT, "who may not read it has none to obey"),
    (Act.SEE, Spot.CONTROL): Need((LOOKUP,), errno.ENOENT),
    (Act.LIST, Spot.MAILBOX): Need((LOOKUP,), errno.ENOENT),
    (Act.LIST, Spot.CUR): Need((READ,)),
    (Act.LIST, Spot.NEW): Need((READ,)),
    (Act.LIST, Spot.TMP): Need((READ, INSERT)),
    (Act.OPEN, Spot.MESSAGE): Need((READ,)),
    (Act.OPEN, Spot.TEMPORARY): Need((READ,)),
    (Act.OPEN, Spot.ACL): Need((ADMIN,)),
    (Act.OPEN, Spot.CONTROL): Need((READ,)),
    (Act.WRITE, Spot.MESSAGE): Need((INSERT | EXPUNGE,), why="a message is replaced, not changed"),
    (Act.WRITE, Spot.TEMPORARY): Need((INSERT,)),
    (Act.WRITE, Spot.ACL): Need((ADMIN,)),
    (Act.WRITE, Spot.CONTROL): Need((READ,), why="goes to the viewer's own copy"),
    (Act.MAKE, Spot.CUR): Need((INSERT,)),
    (Act.MAKE, Spot.NEW): Need(INSERTING),
    (Act.MAKE, Spot.TMP): Need(INSERTING),
    (Act.MAKE, Spot.ACL): Need((ADMIN,)),
    (Act.MAKE, Spot.CONTROL): Need((READ,), why="goes to the viewer's own copy"),
    (Act.MAKE_DIRECTORY, Spot.MAILBOX): Need((CREATE,)),
    (Act.MAKE_DIRECTORY, Spot.CUR): Need((CREATE,)),
    (Act.MAKE_DIRECTORY, Spot.NEW): Need((CREATE,)),
    (Act.MAKE_DIRECTORY, Spot.TMP): Need((CREATE,)),
    (Act.REMOVE, Spot.MAILBOX): Need((DELETE,)),
    (Act.REMOVE, Spot.CUR): Need((DELETE,)),
    (Act.REMOVE, Spot.NEW): Need((DELETE,)),
    (Act.REMOVE, Spot.TMP): Need((DELETE,)),
    (Act.REMOVE, Spot.MESSAGE): Need((EXPUNGE,)),
    (Act.REMOVE, Spot.TEMPORARY): Need((*INSERTING, EXPUNGE)),
    (Act.REMOVE, Spot.ACL): Need((ADMIN,)),
    (Act.REMOVE, Spot.CONTROL): Need((READ,), why="only the viewer's own copy goes"),
    (Act.TOUCH, Spot.MESSAGE): Need((INSERT,), why="the time of arrival"),
    (Act.TOUCH, Spot.TEMPORARY): Need(INSERTING),
    (Act.TOUCH, Spot.ACL): Need((ADMIN,)),
    (Act.TOUCH, Spot.CONTROL): Need((READ,), why="of the viewer's own copy"),
    (Act.TOUCH, Spot.MAILBOX): Need(CHANGING),
    (Act.TOUCH, Spot.CUR): Need(CHANGING),
    (Act.TOUCH, Spot.NEW): Need(CHANGING),
    (Act.TOUCH, Spot.TMP): Need(INSERTING),
    (Act.CHMOD, Spot.MESSAGE): Need(CHANGING, errno.EPERM, "accepted without effect"),
    (Act.CHMOD, Spot.TEMPORARY): Need(INSERTING, errno.EPERM, "accepted without effect"),
    (Act.CHMOD, Spot.ACL): Need((ADMIN,), errno.EPERM, "accepted without effect"),
    (Act.CHMOD, Spot.CONTROL): Need((READ,), errno.EPERM, "accepted without effect"),
    (Act.CHMOD, Spot.MAILBOX): Need((CREATE, ADMIN), errno.EPERM, "accepted without effect"),
    (Act.CHMOD, Spot.CUR): Need((CREATE, ADMIN), errno.EPERM, "accepted without effect"),
    (Act.CHMOD, Spot.NEW): Need((CREATE, ADMIN), errno.EPERM, "accepted without effect"),
    (Act.CHMOD, Spot.TMP): Need((CREATE, ADMIN), errno.EPERM, "accepted without effect"),
}
NEVER: Final = Need((), errno.EPERM, "no mailbox needs that")


def need_of(act: Act, spot: Spot, name: str = "") -> Need:
    """What one act on one file needs.  name: a message's, whose letters matter for removing."""
    need = TABLE.get((act, spot), NEVER)
    if _looks_at_name(act, spot):
        return need.and_also(*_unless_deleted(name))
    return need


def _unless_deleted(name: str) -> tuple[Rights, str]:
    return _unless_marked(split(name)[1])


@functools.lru_cache(1024)
def _unless_marked(info: str) -> tuple[Rights, str]:
    if parse_info(info).system & System.DELETED:
        return NONE, ""
    return DELETED, "it is not marked as deleted"


def need_of_new(folder: Spot, name: str) -> Need:
    """What a new name in cur, new or tmp needs: insertion, and the right to each of its flags."""
    need = TABLE[Act.MAKE, folder]
    if spot_of(folder, name, directory=False) is not Spot.MESSAGE:
        return need
    return need.and_also(rights_for_flags("", split(name)[1]), "for the flags in its name")


@functools.lru_cache(1024)
def rights_for_flags(old: str, new: str) -> Rights:
    """What turning one info (":2,FS") into another needs: just the letters that change."""
    before, after = parse_info(old), parse_info(new)
    changed = before.system ^ after.system
    needed = NONE
    if changed & System.SEEN:
        needed |= SEEN
    if changed & System.DELETED:
        needed |= DELETED
    others = changed & ~(System.SEEN | System.DELETED)
    if others or before.letters != after.letters or before.other != after.other:
        needed |= WRITE
    return needed


@dataclass(frozen=True, slots=True)
class Named:
    """A name in a folder: cur, new or tmp."""

    folder: Spot
    name: str

    @property
    def spot(self) -> Spot:
        return spot_of(self.folder, self.name, directory=False)


def needs_of_rename(old: Named, new: Named, *, same_mailbox: bool) -> Iterator[tuple[str, Need]]:
    """("source" or "dest", what is needed there) for a rename that replaces nothing.

    A message that keeps its base keeps its identity: then only its flags change, or it has been
    noticed (new to cur).  Everything else takes something away and puts something new.
    """
    messages = old.spot is Spot.MESSAGE and new.spot is Spot.MESSAGE
    base, info = split(old.name)
    new_base, new_info = split(new.name)
    if same_mailbox and messages and base == new_base:
        need = Need(CHANGING) if old.folder is not new.folder else Need((NONE,))
        yield "source", need.and_also(rights_for_flags(info, new_info), "for the flags that change")
        return
    if not same_mailbox or old.spot is Spot.MESSAGE:
        yield "source", need_of(Act.REMOVE, old.spot, old.name)
    if not same_mailbox:
        yield "source", need_of(Act.OPEN, old.spot)
    yield "dest", need_of_new(new.folder, new.name)


def needs_of_link(old: Named, new: Named, *, same_mailbox: bool) -> Iterator[tuple[str, Need]]:
    """A second name, in another mailbox a second reader."""
    if not same_mailbox:
        yield "source", need_of(Act.OPEN, old.spot)
    yield "dest", need_of_new(new.folder, new.name)


_GO_AHEAD: Final = Decision(0, "")
# More than any one name needs: who has less is asked for what the very names need.
_WHATEVER_THE_NAMES: Final = (
    (Acts.REMOVE, DELETED | EXPUNGE),
    (Acts.RENAME, SEEN | DELETED | WRITE | INSERT | EXPUNGE),
    (Acts.LINK, SEEN | DELETED | WRITE | INSERT),
    (Acts.MAKE, SEEN | DELETED | WRITE | INSERT),
)
_WITHOUT_ASKING: Final = (
    (Acts.SEE, Act.SEE), (Acts.OPEN, Act.OPEN), (Acts.TOUCH, Act.TOUCH), (Acts.PRETEND, Act.CHMOD),
)  # fmt: skip


def decide(rights: Rights, need: Need) -> Decision:
    """Whether these rights suffice.  Without lookup a mailbox is not there at all."""
    for one in need.any_of:
        if rights.covers(one):
            return _GO_AHEAD
    if need.any_of and not rights.covers(LOOKUP):
        return Decision(errno.ENOENT, "the right lookup is missing, so there is no such mailbox")
    wanted = " or ".join("+".join(one.long_names()) for one in need.any_of) or "nothing"
    reason = f"needs {wanted}" + (f" ({need.why})" if need.why else "")
    return Decision(need.refusal, reason)


@functools.lru_cache(1024)
def acts_without_asking(folder: Spot, rights: Rights) -> Acts:
    """What these rights allow for every file in cur, new or tmp, whatever its name."""
    spots = {spot_of(folder, name, directory=False) for name in ("message", ".temporary")}
    allowed = Acts.LOCKS | Acts.UNLOCKED | Acts.LOCAL | Acts.DOTS | Acts.SIBLINGS
    for acts, act in _WITHOUT_ASKING:
        if all(decide(rights, need_of(act, spot)) for spot in spots):
            allowed |= acts
    if decide(rights, need_of(Act.SEE, folder)):
        allowed |= Acts.ITSELF
    if decide(rights, FINISHING):
        allowed |= Acts.FINISH
    for acts, needed in _WHATEVER_THE_NAMES:
        if rights.covers(needed | LOOKUP):
            allowed |= acts
    return allowed


def table_rows() -> Iterator[str]:
    """The table as docs/mount.md prints it: act, spot, rights, errno without them."""
    for (act, spot), need in TABLE.items():
        wanted = " or ".join(f"`{one.letters}`" for one in need.any_of)
        also = ", and `t` unless the name carries `T`" if _looks_at_name(act, spot) else ""
        why = f" ({need.why})" if need.why else ""
        refusal = errno.errorcode[need.refusal]
        yield f"| {act.value} | {spot.value} | {wanted}{also}{why} | {refusal} |"


def _looks_at_name(act: Act, spot: Spot) -> bool:
    return spot is Spot.MESSAGE and act in (Act.REMOVE, Act.WRITE)
