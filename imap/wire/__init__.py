"""Octets from and to IMAP clients, without I/O.  Only ProtocolError escapes.

Imports nothing of ours.  reader: octets to commands.  cursor: a command's arguments, named as
in the grammar of RFC 3501 section 9.  search, fetch, listing, store: whole command families.
format: responses.
"""

from imap.wire.cursor import Cursor
from imap.wire.errors import ProtocolError
from imap.wire.events import NEED_DATA, Command, LiteralData, LiteralWanted
from imap.wire.reader import CommandReader, Limits
from imap.wire.sequence import SequenceSet

__all__ = [
    "NEED_DATA",
    "Command",
    "CommandReader",
    "Cursor",
    "Limits",
    "LiteralData",
    "LiteralWanted",
    "ProtocolError",
    "SequenceSet",
]
