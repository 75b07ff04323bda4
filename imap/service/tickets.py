"""One-time tickets: how a login process can hand over a client whose user it cannot choose.

Auth makes a ticket for a user it has verified, tells the spawner, and gives login only the ticket.
A ticket is random, works once, and not for long; so a login process in an attacker's hands can
replay nothing and guess nothing.  Pure but for the random source; time arrives as an argument.
"""

import secrets
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

LIFETIME: Final = 10.0  # seconds from auth's word to the handover; both happen within milliseconds
MOST: Final = 10_000  # unused tickets kept; a flood of logins that never come to collect ends here

T = TypeVar("T")


def new_ticket() -> str:
    """128 random bits as text."""
    return secrets.token_hex(16)


@dataclass(slots=True)
class TicketBook(Generic[T]):
    """Tickets given out and not yet used, oldest first.  Times are seconds of a monotonic clock."""

    lifetime: float = LIFETIME
    _open: dict[str, tuple[float, T]] = field(default_factory=dict)

    def add(self, ticket: str, grant: T, *, now: float) -> None:
        """Make ticket good for grant until now + lifetime."""
        self._drop_expired(now)
        if len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        self._open[ticket] = (now + self.lifetime, grant)

    def redeem(self, ticket: str, *, now: float) -> T | None:
        """The grant, once.  None: never given out, used already, or too late; never said which."""
        self._drop_expired(now)
        entry = self._open.pop(ticket, None)
        return entry[1] if entry else None

    def _drop_expired(self, now: float) -> None:
        # Insertion order is expiry order, as every ticket lives equally long.
        while self._open:
            oldest = next(iter(self._open))
            if self._open[oldest][0] > now:
                return
            del self._open[oldest]

    def __len__(self) -> int:
        return len(self._open)
