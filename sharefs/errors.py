"""What can be refused, as codes.  Pure; imports nothing of ours.

Four kinds of failure, four fates (docs/architecture.md, "Errors"): our own bug is any other
exception and ends the worker; a peer's fault is imap.wire.ProtocolError; a refusal is
SharingError; the environment is OSError and is explained in the log.
"""

import enum
from dataclasses import dataclass


class Code(enum.StrEnum):
    """The stable word for a refusal.  Front ends map it; they never parse the text."""

    NONEXISTENT = "nonexistent"  # no such mailbox, or no right to know of it: one answer for both
    ALREADY_EXISTS = "already-exists"
    NO_PERMISSION = "no-permission"  # the viewer may know of the mailbox but lacks a right
    CANNOT = "cannot"  # this can never work: bad name, mailbox with children, rename across modes
    INVALID = "invalid"  # a value that does not parse: identifier, rights, keyword
    IN_USE = "in-use"  # somebody holds a lock longer than we wait
    LIMIT = "limit"
    OVER_QUOTA = "over-quota"
    EXPUNGED = "expunged"  # the message went away while it was asked for
    CORRUPT = "corrupt"  # a file of ours or of a neighbour does not parse
    UNAVAILABLE = "unavailable"  # the environment refused: EACCES, ENOSPC, a lookup that failed


class SharingError(Exception):
    """Base of all expected failures.  str() is for the log and may name paths; never send it on.

    code: what front ends map.  detail: what happened, to which mailbox or file, why.
    retryable: the same call may succeed later without anything being changed.
    """

    def __init__(self, code: Code, detail: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a text file something stands.  Lines and columns count from 1; 0: not known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}" + (f":{self.column}" if self.column else "")
