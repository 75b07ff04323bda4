"""Message flags as values: five system flags and keywords.  Pure; imports nothing of ours.

RFC 3501 section 2.3.2.  \\Recent is not here: it belongs to a session, not to a message.
"""

import enum
from dataclasses import dataclass
from typing import Final


class System(enum.IntFlag):
    """The system flags that a client may change.  Values are Dovecot's index bits."""

    NONE = 0
    ANSWERED = 0x01
    FLAGGED = 0x02
    DELETED = 0x04
    SEEN = 0x08
    DRAFT = 0x10


ALL_SYSTEM: Final = System(0x1F)

NAMES: Final = {
    System.ANSWERED: "\\Answered",
    System.FLAGGED: "\\Flagged",
    System.DELETED: "\\Deleted",
    System.SEEN: "\\Seen",
    System.DRAFT: "\\Draft",
}


@dataclass(frozen=True, slots=True)
class FlagSet:
    """The flags of one message.  Keywords keep the case they were first written in."""

    system: System = System.NONE
    keywords: frozenset[str] = frozenset()

    def add(self, other: "FlagSet") -> "FlagSet":
        return FlagSet(self.system | other.system, self.keywords | other.keywords)

    def remove(self, other: "FlagSet") -> "FlagSet":
        return FlagSet(self.system & ~other.system, self.keywords - other.keywords)

    def __bool__(self) -> bool:
        return bool(self.system or self.keywords)


NO_FLAGS: Final = FlagSet()


class FlagOp(enum.Enum):
    """How a STORE combines the flags it names with those a message has."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class FlagFilter:
    """Which flags the viewer's rights let through; the rest is dropped silently.

    RFC 4314 section 4: a STORE or APPEND that names flags beyond the rights w, s and t must not
    fail for that.  mask: the system flags allowed.  keywords: whether keywords are (right w).
    """

    mask: System = ALL_SYSTEM
    keywords: bool = True

    def __and__(self, other: "FlagFilter") -> "FlagFilter":
        return FlagFilter(self.mask & other.mask, self.keywords and other.keywords)

    def __bool__(self) -> bool:
        return bool(self.mask or self.keywords)

    def apply(self, flags: FlagSet) -> FlagSet:
        return FlagSet(flags.system & self.mask, flags.keywords if self.keywords else frozenset())


EVERY_FLAG: Final = FlagFilter()
NO_FLAG: Final = FlagFilter(System.NONE, keywords=False)


@dataclass(frozen=True, slots=True)
class FlagChange:
    """One STORE: add, remove or replace, within what the rights allow."""

    op: FlagOp
    flags: FlagSet
    allowed: FlagFilter = EVERY_FLAG

    def apply(self, old: FlagSet) -> FlagSet:
        """The flags a message has afterwards.  Flags outside `allowed` stay as they were."""
        match self.op:
            case FlagOp.ADD:
                new = old.add(self.flags)
            case FlagOp.REMOVE:
                new = old.remove(self.flags)
            case FlagOp.REPLACE:
                new = self.flags
        mask = self.allowed.mask
        return FlagSet(
            (old.system & ~mask) | (new.system & mask),
            new.keywords if self.allowed.keywords else old.keywords,
        )
