"""What a session needs from the process around it.  Interfaces only.

The service implements them with trio; tests with a few lines.  Every `await` in a command is
behind one of these methods, so the borders of atomicity are easy to see.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from sharefs.account import Account
from sharefs.index import MailboxIndex, Modseqs
from sharefs.rights import Rights
from sharefs.store.interface import Mailbox

T = TypeVar("T")


class Handle(Protocol):
    """One open mailbox, perhaps shared with other sessions of this process.

    mailbox may be touched directly between two awaits for what is known to be short and neither
    lists a directory nor takes a lock; everything else goes through run().

    at_once: what the viewer may do with it, if it was open here and certainly up to date when this
    was made, so that nothing was waited for; else None.
    """

    mailbox: Mailbox
    at_once: Rights | None

    def index(self) -> MailboxIndex | None:
        """The mailbox's index, None where there is none.  For functions given to run() only: the
        first call opens a file."""
        ...

    def modseqs(self) -> Modseqs | None:
        """The messages' modification sequences; None where they would be lost with the process.
        For functions given to run() only, as index()."""
        ...

    def known_modseq(self) -> int | None:
        """HIGHESTMODSEQ as far as memory tells: 0 where there are no numbers, None if modseqs()
        must be asked."""
        ...

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call function in a thread while no other session works on this mailbox."""
        ...

    async def run_short(self, function: Callable[..., T], *args: object) -> T:
        """As run(), for what touches a few small files and waits for nobody's lock: it may be done
        without a change to a thread."""
        ...

    def works_in_line(self) -> bool:
        """Whether run_short() would do that now: then little at a time is no dearer."""
        ...

    async def run_with(self, other: "Handle", function: Callable[..., T], *args: object) -> T:
        """As run, holding both mailboxes.  Taken in one order everywhere: it cannot deadlock."""
        ...

    def announce(self) -> None:
        """Wake sessions of this process that wait for a change of this mailbox."""
        ...

    def release(self) -> None:
        """Let go.  Exactly once."""
        ...


class Waiter(Protocol):
    """What IDLE waits with."""

    async def line_or_change(self, seconds: float) -> bytes | None:
        """Wait for a line from the client (returned without CRLF), or for a hint that the mailbox
        changed, or for time to pass (both: None).  Raises EOFError when the client is gone."""
        ...


class Host(Protocol):
    """One connection's surroundings."""

    async def send(self, octets: bytes | bytearray) -> None:
        """Send all of it; waits while the client does not read, within the service's limit."""
        ...

    async def blocking(self, function: Callable[..., T], *args: object) -> T:
        """Call function, which may wait for disks and locks, in a thread."""
        ...

    async def open(self, account: Account, name: str) -> Handle:
        """The mailbox for SELECT, EXAMINE, STATUS.  Raises SharingError.

        Never opened read-only: even EXAMINE must give new messages their UIDs.  The session
        knows that it examines and changes nothing else.
        """
        ...

    async def open_target(self, account: Account, name: str, right: Rights) -> Handle:
        """The mailbox for APPEND, COPY, MOVE.  Raises SharingError."""
        ...

    async def recall(self, account: Account, name: str) -> Mapping[str, int]:
        """What remember() was told last of a mailbox that has certainly not changed since, by any
        session, or nothing.  Raises SharingError without the right READ."""
        ...

    async def recall_each(
        self, account: Account, names: Sequence[str]
    ) -> Mapping[str, Mapping[str, int]]:
        """recall() for many mailboxes at once.  Those without the right READ are left out."""
        ...

    def remember(self, handle: Handle, told: dict[str, int]) -> None:
        """Keep what STATUS tells of a mailbox as it is now."""
        ...

    def compress_after_answer(self) -> None:
        """Compress both directions from behind the answer to the running command on (RFC 4978).

        Raises SharingError: ALREADY_EXISTS if it is so already, LIMIT if there is no room for it.
        """
        ...

    def idling(self, handle: Handle | None) -> AbstractAsyncContextManager[Waiter]:
        """Watch the mailbox, so that no change from here on is missed."""
        ...
