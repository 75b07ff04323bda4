"""The tagged end of a command, and the one place where refusals become IMAP response codes.

Client texts are fixed and bland: they never name a path, and a mailbox that may not be known of
answers exactly as one that does not exist (RFC 4314 section 6).
"""

from dataclasses import dataclass
from typing import Final

from sharefs.errors import Code, SharingError


@dataclass(frozen=True, slots=True)
class Reply:
    """status: OK, NO or BAD.  code: response code without brackets, or empty."""

    status: bytes
    text: bytes
    code: bytes = b""

    def line(self, tag: bytes) -> bytes:
        code = b"[" + self.code + b"] " if self.code else b""
        return tag + b" " + self.status + b" " + code + self.text + b"\r\n"


def ok(text: str, code: bytes = b"") -> Reply:
    return Reply(b"OK", text.encode("ascii"), code)


def no(text: str, code: bytes = b"") -> Reply:
    return Reply(b"NO", text.encode("ascii"), code)


def bad(text: str) -> Reply:
    return Reply(b"BAD", text.encode("ascii", "replace"))


# To a command whose mailbox went while it ran; BYE has been said before.
LOST: Final = no("The mailbox is gone", b"NONEXISTENT")

# RFC 5530 codes; the texts are all that a client learns.
REFUSALS: Final = {
    Code.NONEXISTENT: (b"NONEXISTENT", "Mailbox does not exist, or you may not know of it"),
    Code.ALREADY_EXISTS: (b"ALREADYEXISTS", "Mailbox already exists"),
    Code.NO_PERMISSION: (b"NOPERM", "Permission denied"),
    Code.CANNOT: (b"CANNOT", "That cannot be done"),
    Code.INVALID: (b"CANNOT", "Invalid value"),
    Code.IN_USE: (b"INUSE", "Mailbox is in use; try again"),
    Code.LIMIT: (b"LIMIT", "A limit was reached"),
    Code.OVER_QUOTA: (b"OVERQUOTA", "Quota exceeded"),
    Code.EXPUNGED: (b"EXPUNGEISSUED", "Some of the messages no longer exist"),
    Code.CORRUPT: (b"CORRUPTION", "The mailbox is damaged; see the server log"),
    Code.UNAVAILABLE: (b"UNAVAILABLE", "The mailbox cannot be reached; see the server log"),
}


def refusal(error: SharingError) -> Reply:
    """The NO for a refusal.  Total: every Code has a line in REFUSALS."""
    code, text = REFUSALS[error.code]
    return no(text, code)


def try_create(error: SharingError) -> Reply:
    """As refusal, for APPEND, COPY and MOVE: a missing target may be created (RFC 3501 6.4.7)."""
    if error.code is Code.NONEXISTENT:
        return no(REFUSALS[error.code][1], b"TRYCREATE")
    return refusal(error)
