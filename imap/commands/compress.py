"""COMPRESS: RFC 4978.  The host changes its stream once the answer is out."""

import logging

from imap.commands.replies import Reply, bad, no, ok
from imap.commands.session import Session
from imap.wire import Command, Cursor
from sharefs.errors import Code, SharingError

log = logging.getLogger("imap.compress")


async def compress(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    mechanism = cursor.keyword("DEFLATE")
    cursor.end()
    if mechanism != "DEFLATE":
        return bad("Unknown compression mechanism.")
    try:
        session.host.compress_after_answer()
    except SharingError as error:
        if error.code is Code.ALREADY_EXISTS:
            return no("Compression is active.", b"COMPRESSIONACTIVE")
        log.warning("No compression: %s", error.detail)
        return no("No compression for now.", b"LIMIT")
    return ok("Compression begins.")
