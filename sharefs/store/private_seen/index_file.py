"""Dovecot's main index file, as much as private \\Seen needs.  Pure.

Usually there is only a log; `dovecot.index.pvt` is written when a log is rotated.  Version 7,
little-endian, records of at least UID and flags.
"""

import struct
from array import array
from dataclasses import dataclass
from typing import Final

from sharefs.store.private_seen.records import LITTLE_ENDIAN, SEEN, BrokenLog
from sharefs.store.private_seen.state import PrivateState

MAJOR: Final = 7
BASE_HEADER_SIZE: Final = 120
MIN_RECORD_SIZE: Final = 5
_BASE: Final = struct.Struct("<BBHIIBxxxIIIII")  # up to and including the number of messages
_LOG_POSITION: Final = struct.Struct("<III")  # at 60: file seq, tail offset, head offset
_LOG_POSITION_OFFSET: Final = 60
_SEEN_COUNT_OFFSET: Final = 40
_MINOR: Final = 3
_RECORD: Final = struct.Struct("<IB3x")
_U32: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class IndexFile:
    """state: as of offset log_head in the log log_seq."""

    index_id: int
    log_seq: int
    log_head: int
    state: PrivateState


def parse_index(octets: bytes) -> IndexFile:
    """Raises BrokenLog if it is no such file, or one of another byte order."""
    if len(octets) < BASE_HEADER_SIZE:
        raise BrokenLog(f"an index of {len(octets)} octets")
    (major, _, base_size, header_size, record_size, compat, index_id, _, uidvalidity, next_uid,
     count) = _BASE.unpack_from(octets)  # fmt: skip
    if major != MAJOR or not compat & LITTLE_ENDIAN:
        raise BrokenLog("an index of another version or byte order")
    if not (BASE_HEADER_SIZE <= base_size <= header_size <= len(octets)):
        raise BrokenLog("an index with a header that makes no sense")
    if record_size < MIN_RECORD_SIZE or header_size + count * record_size > len(octets):
        raise BrokenLog(f"an index of {count} records in {len(octets)} octets")
    body = octets[header_size : header_size + count * record_size]
    if record_size % 4 == 0:
        numbers: array[int] = array("I", body)
        uids = list(numbers[0 :: record_size // 4])
        flags = body[4::record_size]
    else:
        uids = [
            int.from_bytes(body[at : at + 4], "little") for at in range(0, len(body), record_size)
        ]
        flags = body[4::record_size]
    if uids != sorted(set(uids)) or (uids and not uids[0]):
        raise BrokenLog("an index whose UIDs do not grow")
    seen = {uid for uid, octet in zip(uids, flags, strict=True) if octet & SEEN}
    seq, _, head = _LOG_POSITION.unpack_from(octets, _LOG_POSITION_OFFSET)
    state = PrivateState(uidvalidity, max(next_uid, uids[-1] + 1 if uids else 1), uids, seen)
    return IndexFile(index_id, seq, head, state)


def format_index(index: IndexFile) -> bytes:
    """A file that Dovecot goes on with: no extensions, everything applied up to log_head."""
    state = index.state
    header = bytearray(BASE_HEADER_SIZE)
    _BASE.pack_into(
        header, 0, MAJOR, _MINOR, BASE_HEADER_SIZE, BASE_HEADER_SIZE, _RECORD.size, LITTLE_ENDIAN,
        index.index_id, 0, state.uidvalidity, state.next_uid, len(state.uids),
    )  # fmt: skip
    _U32.pack_into(header, _SEEN_COUNT_OFFSET, len(state.seen))
    _LOG_POSITION.pack_into(
        header, _LOG_POSITION_OFFSET, index.log_seq, index.log_head, index.log_head
    )
    seen = state.seen
    return bytes(header) + b"".join(
        _RECORD.pack(uid, SEEN if uid in seen else 0) for uid in state.uids
    )
