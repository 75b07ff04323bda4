"""What each operation needs: rights of the ACL, and system calls on the files of a Maildir.

The table that `sharefs explain` and the access matrix read.  Pure but for naming the files that
stand for all files of a mailbox.
"""

import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.audit.questions import Question, Verb, file_kinds
from sharefs.rights import (
    ADMIN,
    CREATE,
    DELETE,
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
from sharefs.sharing.files import acl_path

UIDLIST: Final = "dovecot-uidlist"


class Operation(enum.StrEnum):
    """What somebody may want to do to a mailbox, or to a path."""

    LIST = "list"
    READ = "read"
    FLAG = "flag"
    SEEN = "seen"
    INSERT = "insert"
    POST = "post"
    EXPUNGE = "expunge"
    CREATE = "create"
    DELETE = "delete"
    ADMINISTER = "administer"
    DELIVER = "deliver"
    COPY_FROM = "copy-from"
    RENAME_TO = "rename-to"

    @property
    def takes_other(self) -> bool:
        """Whether a second mailbox belongs to it."""
        return self in (Operation.COPY_FROM, Operation.RENAME_TO)


# The rights on the mailbox itself.  For CREATE they are asked of the nearest mailbox above, for
# RENAME_TO of the old name; COPY_FROM needs r on the other mailbox, RENAME_TO k above the other.
# STORE and EXPUNGE work on a selected mailbox, so they need r as well.
RIGHTS: Final[dict[Operation, Rights]] = {
    Operation.LIST: LOOKUP,
    Operation.READ: READ,
    Operation.FLAG: READ | WRITE,
    Operation.SEEN: READ | SEEN,
    Operation.INSERT: INSERT,
    Operation.POST: POST,
    Operation.EXPUNGE: READ | EXPUNGE,
    Operation.CREATE: CREATE,
    Operation.DELETE: DELETE,
    Operation.ADMINISTER: ADMIN,
    Operation.DELIVER: NONE,  # a delivery agent outside of IMAP knows no ACL
    Operation.COPY_FROM: INSERT,
    Operation.RENAME_TO: DELETE,
}


@dataclass(frozen=True, slots=True)
class MailboxFiles:
    """Where a Maildir's files are.

    control: where its uidlist is.  acl_dir: where its ACL file is, if it may have one.
    private_seen: the viewer's own directory for \\Seen, if it is his own.  root: the mail root.
    is_automatic: it is not there yet, and is made when it is first used.
    samples: files that stand for all in cur and in new, if that was found out already.
    list_cache: what LIST goes by where the root may not be listed; None: the mailbox is INBOX.
    child: where the directory of a mailbox below it would be made; None: nobody asks.
    is_plain: the whole mail root is known to be on one mount and one file system, and samples has
    "acl" if there is an ACL file.
    """

    path: Path
    control: Path
    root: Path
    acl_dir: Path | None = None
    private_seen: Path | None = None
    is_link: bool = False
    is_automatic: bool = False
    samples: Mapping[str, Sequence[str]] | None = None
    list_cache: Path | None = None
    child: Path | None = None
    is_plain: bool = False

    def files_in(self, folder: str) -> Sequence[str]:
        """One message file of each kind."""
        if self.samples is not None:
            return self.samples.get(folder, ())
        return file_kinds(str(self.path / folder))


def questions_for(
    operation: Operation, box: MailboxFiles, *, other: MailboxFiles | None = None
) -> Iterator[Question]:
    """The system calls without which an operation does not succeed, in their order."""
    if box.is_automatic:
        if operation is not Operation.LIST:
            yield from _making(box)
        return
    match operation:
        case Operation.LIST:
            yield Question(Verb.REACH, str(box.path / "cur"), "find the mailbox")
        case Operation.READ:
            yield from _reading(box)
        case Operation.FLAG:
            yield from _opening(box)
            yield from _changing_names(box, "change flags")
        case Operation.SEEN if box.private_seen is not None:
            yield from _opening(box)
            yield from _own_seen(box.private_seen)
        case Operation.SEEN:
            yield from _opening(box)
            yield from _changing_names(box, "change the \\Seen flag")
        case Operation.INSERT | Operation.POST:
            yield from _adding(box)
        case Operation.EXPUNGE:
            yield from _opening(box)
            yield from _expunging(box)
        case Operation.CREATE:
            yield from _making(box)
        case Operation.DELETE:
            yield from _deleting(box)
        case Operation.ADMINISTER:
            yield from _administering(box)
        case Operation.DELIVER:
            yield Question(Verb.CREATE_IN, str(box.path / "tmp"), "write a message")
            yield Question(Verb.CREATE_IN, str(box.path / "new"), "move it where it is seen")
        case Operation.COPY_FROM:
            assert other is not None
            yield from _reading(other)
            yield from _adding(box)
        case Operation.RENAME_TO:
            assert other is not None
            yield Question(
                Verb.RENAME, str(box.path), "rename the mailbox's directory", str(other.path)
            )


def _making(box: MailboxFiles) -> Iterator[Question]:
    """Levels above it are made along with it."""
    purpose = "make the mailbox's directory"
    if os.path.isdir(box.path.parent):
        yield Question(Verb.CREATE, str(box.path), purpose)
    else:
        yield Question(Verb.CREATE_IN, str(nearest_directory(box.path)), purpose)


def nearest_directory(path: Path) -> Path:
    """The path, or the nearest existing directory above it."""
    while not os.path.isdir(path) and path != path.parent:
        path = path.parent
    return path


def _opening(box: MailboxFiles) -> Iterator[Question]:
    for name in ("cur", "new"):
        yield Question(Verb.LOOK, str(box.path / name), "list the messages")
    if box.control != box.path:
        yield Question(Verb.LOOK, str(box.control), "read the message numbers")


def _reading(box: MailboxFiles) -> Iterator[Question]:
    yield from _opening(box)
    for name in ("cur", "new"):
        for path in box.files_in(name):
            yield Question(Verb.READ, path, "read messages like this one")


def _changing_names(box: MailboxFiles, purpose: str) -> Iterator[Question]:
    """Flags are part of a file's name, and a message with flags moves from new/ to cur/."""
    cur = str(box.path / "cur")
    yield Question(Verb.CREATE_IN, cur, purpose)
    for folder in ("cur", "new"):
        for path in box.files_in(folder):
            target = f"{cur}/sharefs-explain:2,"
            yield Question(Verb.RENAME, path, f"{purpose} of messages like this one", target)


def _own_seen(directory: Path) -> Iterator[Question]:
    yield Question(Verb.CREATE_IN, str(nearest_directory(directory)), "keep one's own \\Seen flags")


def _adding(box: MailboxFiles) -> Iterator[Question]:
    for name in ("new", "cur"):
        yield Question(Verb.LOOK, str(box.path / name), "open the mailbox")
    yield Question(Verb.CREATE_IN, str(box.path / "tmp"), "write a message")
    yield Question(Verb.CREATE_IN, str(box.path / "new"), "move one without flags into place")
    yield Question(Verb.CREATE_IN, str(box.path / "cur"), "move one with flags into place")
    yield Question(Verb.CREATE_IN, str(box.control), f"lock {UIDLIST}")


def _expunging(box: MailboxFiles) -> Iterator[Question]:
    yield Question(Verb.CREATE_IN, str(box.path / "cur"), "remove messages")
    for folder in ("cur", "new"):
        for path in box.files_in(folder):
            yield Question(Verb.REMOVE, path, "remove messages like this one")


def _deleting(box: MailboxFiles) -> Iterator[Question]:
    if box.is_link:
        yield Question(Verb.REMOVE, str(box.path), "remove the link")
        return
    doomed = str(box.root / "..sharefs-explain")
    yield Question(Verb.RENAME, str(box.path), "take the mailbox away", doomed)
    # Taking it away is enough: what then cannot be emptied stays hidden until its owner's turn.


def _administering(box: MailboxFiles) -> Iterator[Question]:
    if box.acl_dir is None:
        return
    file = acl_path(box.acl_dir)
    yield Question(Verb.CREATE_IN, str(box.acl_dir), f"write a new {file.name}")
    if os.path.lexists(file):
        yield Question(Verb.READ, str(file), "read the ACL as it is")
        yield Question(Verb.REMOVE, str(file), "replace the ACL file")


def questions_for_path(operation: Operation, path: str, other: str = "") -> Iterator[Question]:
    """The same words for a bare path: what only the kernel has a say in."""
    match operation:
        case Operation.LIST:
            is_dir = os.path.isdir(path)
            yield Question(Verb.READ if is_dir else Verb.REACH, path, "list it")
        case Operation.READ:
            yield Question(Verb.READ, path, "read it")
        case Operation.FLAG | Operation.SEEN:
            yield Question(Verb.RENAME, path, "rename it in its place", f"{path}:sharefs-explain")
        case Operation.INSERT | Operation.POST | Operation.DELIVER:
            yield Question(Verb.CREATE_IN, path, "make a file in it")
        case Operation.EXPUNGE | Operation.DELETE:
            yield Question(Verb.REMOVE, path, "remove it")
        case Operation.CREATE:
            yield Question(Verb.CREATE, path, "make it")
        case Operation.ADMINISTER:
            yield Question(Verb.CHMOD, path, "change its mode")
        case Operation.COPY_FROM:
            yield Question(Verb.READ, other, "read the source")
            yield Question(Verb.CREATE_IN, path, "make a file in it")
        case Operation.RENAME_TO:
            yield Question(Verb.RENAME, path, "rename it", other)
