"""The one exception that escapes from imap.wire: the peer broke the protocol."""

from typing import Literal


class ProtocolError(Exception):
    """What to tell a client that sent something we cannot read.

    text: safe to send, never contains the client's octets.  tag: of the command at fault, None
    if it could not be read (then the answer is untagged).  fatal: the stream cannot be brought
    back into step; say BYE and hang up.  condition and code: how to answer, "BAD" but for the
    few cases where an RFC asks for NO with a response code (BADCHARSET, TOOBIG).
    """

    def __init__(
        self,
        text: str,
        *,
        tag: str | None = None,
        fatal: bool = False,
        condition: Literal["BAD", "NO"] = "BAD",
        code: str = "",
    ) -> None:
        super().__init__(text)
        self.text = text
        self.tag = tag
        self.fatal = fatal
        self.condition = condition
        self.code = code

    def response(self) -> bytes:
        """The status response that reports this, CRLF included; "* BYE" if it is fatal."""
        start = "* BYE" if self.fatal else f"{self.tag or '*'} {self.condition}"
        code = f"[{self.code}] " if self.code else ""
        return f"{start} {code}{self.text}\r\n".encode("ascii", "replace")
