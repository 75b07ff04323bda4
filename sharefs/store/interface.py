"""The mailbox interface: what every storage can do.

Rule of this file: nothing above it knows file names, that flags may be a rename, or which
lock a format takes.  Maildir, mbox, sdbox/mdbox and a remote IMAP server must all fit.

Everything here is synchronous and may block on the disk.  A Mailbox is not thread safe: the
caller serialises the calls on one object (imap.service does, with one lock for each).
"""

import abc
import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias

from sharefs.errors import Code, SharingError
from sharefs.flags import EVERY_FLAG, NO_FLAG, FlagChange, FlagFilter, FlagSet, System
from sharefs.store.shelf import Shelf

# Device, inode, mtime and ctime (in ns) of a directory.  Who comes, goes, or is renamed in it
# changes it, and so does whoever changes its permissions; ctime cannot be set back.
Stamp: TypeAlias = tuple[int, int, int, int]


class Existence(enum.Enum):
    """What a storage name stands for."""

    ABSENT = "absent"
    NO_SELECT = "no-select"  # a level of hierarchy only; fs layout has such directories
    SELECTABLE = "selectable"


@dataclass(frozen=True, slots=True)
class StoredMailbox:
    """One mailbox as found by listing a storage.

    name: storage name with levels as a tuple of decoded Unicode strings; () never occurs, INBOX
    is ("INBOX",).  link_target: where a symlinked mailbox really lives, None if it is no link.
    stamp: of its own directory before anything in it was looked at; whatever is done there later
    changes it.  None where that is not certain: a link, or a directory that has just changed.
    """

    name: tuple[str, ...]
    existence: Existence
    link_target: Path | None = None
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """Facts about one message that never change.

    size: RFC822.SIZE, octets with CRLF line ends.  internaldate, save_date: seconds since 1970.
    """

    uid: int
    size: int
    internaldate: int
    save_date: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to a mailbox between two generations.  Message UIDs, ascending.

    A message that came and went in between is in neither list.  flags never lists added ones.
    """

    expunged: tuple[int, ...] = ()
    added: tuple[int, ...] = ()
    flags: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.expunged or self.added or self.flags)


class Copied(NamedTuple):
    """One message copied: its UID in the source, its UID in the destination, and how."""

    source_uid: int
    uid: int
    linked: bool


class Memento(abc.ABC):
    """What is kept of a mailbox that is open no more, to know whether it is still the same."""

    __slots__ = ()

    @abc.abstractmethod
    def looks_unchanged(self) -> bool:
        """As Mailbox.looks_unchanged(), since this was made."""

    def fingerprint(self) -> bytes:
        """Equal ones, taken by whatever process, are of equal pictures.  Empty: it has none."""
        return b""


# Sets of flags, none twice but by chance, and the UIDs of the messages that have them, ascending.
FlagGroups: TypeAlias = Sequence[tuple[FlagSet, Sequence[int]]]
FlagTest: TypeAlias = Callable[[FlagSet], bool]
TESTS: Final = 4  # whose answers a mailbox remembers


class Saver(abc.ABC):
    """Adds messages to one mailbox, all or none (RFC 3502).  A context manager.

    begin, write any number of times, finish: one message, fully written but not yet visible.
    commit makes all finished ones visible and durable by the mail_fsync setting.  Leaving the
    `with` without commit removes every trace.
    """

    @abc.abstractmethod
    def begin(self, flags: FlagSet, internaldate: int | None) -> None:
        """Start a message.  internaldate None: now."""

    @abc.abstractmethod
    def write(self, octets: bytes | memoryview) -> None:
        """Append octets as they came from the client.  NUL and bare LF are kept as sent."""

    @abc.abstractmethod
    def finish(self) -> None: ...

    @abc.abstractmethod
    def commit(self) -> list[int]:
        """Assign UIDs in order.  Returns them.  On OSError nothing was added."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Remove what was written.  Harmless after commit."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.abort()


class Mailbox(abc.ABC):
    """One open mailbox, as one viewer sees it.

    readonly: messages and flags stay as they are (EXAMINE, or the file system refuses).  Numbers
    for new arrivals may still be written down where that is possible, or nobody could examine a
    mailbox that only gets deliveries.
    generation: grows by one whenever sync() or a call of ours changed the picture.
    """

    uidvalidity: int
    uidnext: int
    readonly: bool
    generation: int
    _unseen: tuple[int, Sequence[int]] | None = None  # generation and unseen()
    _total: tuple[Sequence[int], int] | None = None  # uids() and total_size()
    _by_flags: "tuple[int, FlagGroups] | None" = None  # generation and by_flags()
    _passing: "tuple[FlagGroups, dict[FlagTest, Sequence[int]]] | None" = None  # with_flags()
    shelf: Shelf | None = None  # where put_away() may keep something

    def backing(self) -> "Mailbox":
        """The storage's own mailbox, where this object only lays something over one.

        copy_from takes message files from it, so that they can be linked, and flags from the
        mailbox it was given.
        """
        return self

    @abc.abstractmethod
    def sync(self) -> bool:
        """Bring the picture up to date with the disk; cheap when nothing changed.

        Returns whether it changed.  Raises SharingError(NONEXISTENT) if the mailbox is gone, or
        if it is no longer the same one (UIDVALIDITY changed): the caller must let it go.
        """

    def looks_unchanged(self) -> bool:
        """Whether sync() would certainly find nothing, told in microseconds: no listing, no lock.

        False when in doubt, which is all that a storage without such a test can say.
        """
        return False

    def looks_the_same(self) -> bool:
        """Whether this is certainly still the mailbox that was opened, told as quickly.

        It may be about to look again, because it has just changed.
        """
        return self.looks_unchanged()

    def memento(self) -> Memento | None:
        """What tells later, without this object, that its picture is still the right one.

        None: nothing does, or not yet, because it has just changed.
        """
        return None

    def keep_in(self, shelf: Shelf) -> None:
        """Before anything is asked: what put_away() may use, and what it has put there before."""
        self.shelf = shelf

    def put_away(self) -> None:
        """Keep what spares the next process work.  Cheap when there is nothing new to keep.

        Nothing is kept while something could have been missed: see settles_in().
        """
        return

    @abc.abstractmethod
    def uids(self) -> Sequence[int]:
        """All message UIDs, ascending.  The object is replaced, never mutated, on change."""

    def late_uids(self) -> Sequence[int]:
        """As uids(), perhaps LateUids, for who may not look at them at all."""
        return self.uids()

    @abc.abstractmethod
    def flags_of(self, uid: int) -> FlagSet:
        """Raises KeyError for a UID that is not in uids()."""

    def flags_of_each(self, uids: Sequence[int]) -> list[FlagSet | None]:
        """flags_of() many messages, None for those that are not in uids().

        Equal sets are mostly one and the same object.
        """
        found: list[FlagSet | None] = []
        for uid in uids:
            try:
                found.append(self.flags_of(uid))
            except KeyError:
                found.append(None)
        return found

    @abc.abstractmethod
    def changes_since(self, generation: int) -> Changes: ...

    @abc.abstractmethod
    def keywords(self) -> Sequence[str]:
        """Keywords in use or known in this mailbox, for the FLAGS response."""

    @abc.abstractmethod
    def can_add_keywords(self) -> bool:
        """Whether a client may invent new keywords (PERMANENTFLAGS \\*)."""

    def changeable(self) -> FlagFilter:
        """The flags that the storage lets this process change; the viewer's rights come on top."""
        return NO_FLAG if self.readonly else EVERY_FLAG

    def unseen(self) -> Sequence[int]:
        """UIDs without \\Seen, ascending: for UNSEEN, which clients ask for all the time."""
        groups = self.by_flags()
        if self._unseen is None or self._unseen[0] != self.generation:
            unseen = [uids for flags, uids in groups if not flags.system & System.SEEN]
            self._unseen = self.generation, sorted(chain.from_iterable(unseen))
        return self._unseen[1]

    def first_unseen(self) -> int:
        """The first of unseen(), 0 if there is none."""
        return next(iter(self.unseen()), 0)

    def by_flags(self) -> "FlagGroups":
        """All messages, those with the same flags together.  Remembered until something changes.

        A mailbox has few different sets of flags, so what asks for flags need look at those alone.
        """
        uids = self.uids()
        if self._by_flags is None or self._by_flags[0] != self.generation:
            found = self.flags_of_each(uids)
            groups: dict[int, list[int]] = defaultdict(list)
            for which, uid in zip(map(id, found), uids, strict=True):
                groups[which].append(uid)
            sets = {id(flags): flags for flags in found}
            told = [(flags, groups[which]) for which, flags in sets.items() if flags is not None]
            self._by_flags = self.generation, told
        return self._by_flags[1]

    def with_flags(self, test: "FlagTest") -> Sequence[int]:
        """Messages whose flags pass, ascending.  Remembered until something changes, by test."""
        groups = self.by_flags()
        if self._passing is None or self._passing[0] is not groups:
            self._passing = groups, {}
        known = self._passing[1]
        found = known.get(test)
        if found is None:
            if len(known) >= TESTS:
                known.clear()
            passing = [uids for flags, uids in groups if test(flags)]
            found = passing[0] if len(passing) == 1 else sorted(chain.from_iterable(passing))
            known[test] = found
        return found

    @abc.abstractmethod
    def recent(self, *, claim: bool) -> frozenset[int]:
        """UIDs that no session has been told of yet (RFC 3501 \\Recent).

        claim: hand them to the caller alone; one session only, across processes, gets each.
        """

    def has_recent(self) -> bool:
        """Whether recent() has anything to do; told from memory.  True when in doubt."""
        return True

    @abc.abstractmethod
    def info(self, uid: int) -> MessageInfo:
        """Raises SharingError(EXPUNGED) if the message is gone."""

    def size(self, uid: int) -> int:
        """RFC822.SIZE alone, which some storages know without looking at the message.

        So it may still answer for a message that has just gone.  Raises SharingError(EXPUNGED).
        """
        return self.info(uid).size

    def known_sizes(self, uids: Sequence[int]) -> list[int | None]:
        """size() of many messages, of those of which it is known without looking at them."""
        return [None] * len(uids)

    def total_size(self) -> int:
        """size() of all messages together; those that go meanwhile count nothing (RFC 8438)."""
        uids = self.uids()
        if self._total is None or self._total[0] is not uids:
            total = 0
            for uid, known in zip(uids, self.known_sizes(uids), strict=True):
                try:
                    total += self.size(uid) if known is None else known
                except SharingError as error:
                    if error.code is not Code.EXPUNGED:
                        raise
            self._total = uids, total
        return self._total[1]

    @abc.abstractmethod
    def guid(self) -> str:
        """32 hex digits that are this mailbox's for all who see it, also after it was renamed.

        Told from memory, like uidvalidity, so it is for a moment another where nobody has been
        able to write one down yet.
        """

    def identity_of(self, uid: int) -> str:
        """What tells this message from any other that ever has or had this UID.

        For whoever keeps facts about messages elsewhere.  Raises KeyError for a UID that is not in
        uids().  Storages whose UIDs no other program can reassign need nothing more than those.
        """
        if uid not in self.uids():
            raise KeyError(uid)
        return f"{self.uidvalidity}.{uid}"

    @abc.abstractmethod
    def read(self, uid: int) -> bytes:
        """The whole message with CRLF line ends.  Raises SharingError(EXPUNGED) if it is gone."""

    def read_header(self, uid: int) -> bytes:
        """The header of the message with CRLF line ends, and the empty line that ends it.

        For storages that can stop reading there.  Raises SharingError(EXPUNGED).
        """
        octets = self.read(uid)
        end = octets.find(b"\r\n\r\n")
        return octets if end < 0 else octets[: end + 4]

    @abc.abstractmethod
    def store_flags(
        self, uids: Iterable[int], change: FlagChange, *, unless_changed: bool = False
    ) -> list[int]:
        """Apply change.  Returns the UIDs whose flags now differ.  Skips vanished messages.

        unless_changed: skips messages too whose flags others have changed since the last sync(),
        however closely (RFC 7162 UNCHANGEDSINCE).
        """

    @abc.abstractmethod
    def expunge(self, uids: Iterable[int]) -> list[int]:
        """Remove messages.  Returns those that went, whoever removed them."""

    @abc.abstractmethod
    def saver(self) -> Saver: ...

    @abc.abstractmethod
    def copy_from(
        self, source: "Mailbox", uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        """Copy messages here, all or none, in the order of uids; hard links where the rule allows.

        allowed: flags that the viewer may set here.  Raises SharingError(EXPUNGED) if one of
        them is gone, with nothing copied.
        """

    @abc.abstractmethod
    def move_from(
        self, source: "Mailbox", uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        """As copy_from, and the messages leave the source.  A crash leaves both, never neither."""

    @abc.abstractmethod
    def watch_paths(self) -> Sequence[Path]:
        """Directories whose modification may mean a change here, for inotify."""

    def settles_in(self) -> float | None:
        """Seconds until sync() should be called once more although no event may tell of it.

        A change that falls into the same tick of the file system's clock as our last look cannot
        be told from it; None: all that is there has been seen.
        """
        return None

    @abc.abstractmethod
    def close(self) -> None:
        """Release descriptors.  Harmless twice."""


class Storage(abc.ABC):
    """All mailboxes of one namespace below one root, with one viewer's process identity.

    Names are tuples of decoded Unicode levels; ("INBOX",) is the inbox where the namespace has
    one.  No method checks mailbox rights: sharefs.account does.
    """

    @abc.abstractmethod
    def existence(self, name: tuple[str, ...]) -> Existence: ...

    def look(self, name: tuple[str, ...]) -> StoredMailbox:
        """existence(), with a stamp where the storage has one; where a link leads is not told.

        The same object as last time says that nothing happened in the mailbox's own directory.
        """
        return StoredMailbox(name, self.existence(name))

    @abc.abstractmethod
    def iterate(self) -> Iterator[StoredMailbox]:
        """Every mailbox that can be seen in the file system, in no order.

        A directory that cannot be read is skipped: it never breaks the listing.
        """

    @abc.abstractmethod
    def create(self, name: tuple[str, ...], *, directory: bool = False) -> None:
        """directory: only a level of hierarchy is wanted.  Raises ALREADY_EXISTS, CANNOT, ..."""

    @abc.abstractmethod
    def delete(self, name: tuple[str, ...]) -> None:
        """Of a symlinked mailbox only the link goes.  Children stay."""

    @abc.abstractmethod
    def rename(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Children go along.  Raises CANNOT across conflicting directory permissions."""

    @abc.abstractmethod
    def open(self, name: tuple[str, ...], *, readonly: bool = False) -> Mailbox:
        """Cheap: messages are looked at when first asked for.  The caller closes the mailbox.

        Raises SharingError(NONEXISTENT), or SharingError(UNAVAILABLE) if file permissions forbid.
        """

    @abc.abstractmethod
    def acl_directory(self, name: tuple[str, ...]) -> Path:
        """Where the mailbox's dovecot-acl file belongs (docs: formats, ACL files)."""

    @abc.abstractmethod
    def mailbox_path(self, name: tuple[str, ...]) -> Path:
        """The mailbox's mail directory (or mbox file), whether or not it exists."""

    @abc.abstractmethod
    def guid(self, name: tuple[str, ...]) -> str:
        """128-bit mailbox GUID as 32 hex digits.  Raises SharingError(NONEXISTENT)."""
