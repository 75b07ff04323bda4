"""The records of Dovecot's index log, as much as private \\Seen needs.  Pure.

A log is a 40-octet header and records, each of a size, a type and a payload, 32-bit aligned.  The
size is written so that an unfinished record shows: see encode_size().  Numbers are little-endian;
a log of another byte order cannot be used (compat flag 0x01 tells).
"""

import enum
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MAJOR: Final = 1
MINOR: Final = 3
HEADER_SIZE: Final = 40
RECORD_HEADER_SIZE: Final = 8
LITTLE_ENDIAN: Final = 0x01  # compat flag

EXTERNAL: Final = 0x10000000  # the change is already true, not a wish
# ORed into the type of expunges, so that a flipped bit never deletes anything.
EXPUNGE_PROTECTION: Final = 0xCD90
_TYPE_BITS: Final = 0x0FFFFFFF

UIDVALIDITY_OFFSET: Final = 24  # of the index header, for header updates
NEXT_UID_OFFSET: Final = 28
SEEN: Final = 0x08

_HEADER: Final = struct.Struct("<BBHIIIIIQBxxxxxxx")
_RECORD: Final = struct.Struct("<4sI")
_U32: Final = struct.Struct("<I")
_FLAG_UPDATE: Final = struct.Struct("<IIBBBx")
_HEADER_UPDATE: Final = struct.Struct("<HH")
_EXPUNGE: Final = struct.Struct("<II")
_EXPUNGE_GUID: Final = struct.Struct("<I16x")
_APPEND: Final = struct.Struct("<IB3x")


class Type(enum.IntEnum):
    """The record types that say something about \\Seen; others are passed over."""

    EXPUNGE = 0x1
    APPEND = 0x2
    FLAG_UPDATE = 0x4
    HEADER_UPDATE = 0x20
    EXPUNGE_GUID = 0x2000
    BOUNDARY = 0x80000


class BrokenLog(ValueError):
    """The octets are no log, or stop making sense at `offset`."""

    def __init__(self, detail: str, offset: int = 0) -> None:
        super().__init__(f"{detail} at offset {offset}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class LogHeader:
    """previous_seq 0: the log starts from an empty index; else it continues that log or index."""

    index_id: int
    file_seq: int
    previous_seq: int = 0
    previous_offset: int = 0
    created: int = 0  # seconds since 1970
    initial_modseq: int = 1
    size: int = HEADER_SIZE

    def encode(self) -> bytes:
        return _HEADER.pack(
            MAJOR, MINOR, HEADER_SIZE, self.index_id, self.file_seq, self.previous_seq,
            self.previous_offset, self.created, self.initial_modseq, LITTLE_ENDIAN,
        )  # fmt: skip


def parse_header(octets: bytes) -> LogHeader:
    """Raises BrokenLog if this is no log of ours or Dovecot's, or one of another byte order."""
    if len(octets) < HEADER_SIZE:
        raise BrokenLog(f"a log header has {HEADER_SIZE} octets, this file {len(octets)}")
    major, _, size, index_id, seq, previous, offset, created, modseq, compat = _HEADER.unpack_from(
        octets
    )
    if major != MAJOR:
        raise BrokenLog(f"log version {major} is unknown")
    if not compat & LITTLE_ENDIAN:
        raise BrokenLog("the log was written with another byte order")
    if size < HEADER_SIZE or size % 4 or not index_id or not seq:
        raise BrokenLog("the log header makes no sense")
    return LogHeader(index_id, seq, previous, offset, created, modseq, size)


def encode_size(size: int) -> bytes:
    """A size that is readable only once all of it is written: every octet has its top bit set.

    size: a multiple of 4 below 2**30.
    """
    if size % 4 or not 0 < size < 1 << 30:
        raise ValueError(f"{size} cannot be the size of a record")
    words = size >> 2
    return bytes(0x80 | (words >> shift & 0x7F) for shift in (21, 14, 7, 0))


def decode_size(octets: bytes) -> int | None:
    """The inverse.  None: not finished yet."""
    if len(octets) != 4 or any(not octet & 0x80 for octet in octets):
        return None
    words = 0
    for octet in octets:
        words = words << 7 | octet & 0x7F
    return words << 2


@dataclass(frozen=True, slots=True)
class Record:
    """One record that changes something here.  payload: as in the file."""

    type: Type
    payload: memoryview
    external: bool


def iter_records(octets: memoryview, start: int) -> Iterator[tuple[Record | None, int]]:
    """Records from an offset on, each with the offset after it.  None: a type passed over.

    Stops before what is not finished: a record whose size is not whole, or a transaction whose
    boundary says that more must come.  Raises BrokenLog where the octets make no sense.
    """
    end = len(octets)
    offset = start
    while offset + RECORD_HEADER_SIZE <= end:
        size_octets, kind = _RECORD.unpack_from(octets, offset)
        size = decode_size(size_octets)
        if size is None:
            return
        if size < RECORD_HEADER_SIZE:
            raise BrokenLog(f"a record of {size} octets", offset)
        if offset + size > end:
            return
        payload = octets[offset + RECORD_HEADER_SIZE : offset + size]
        record = _record(kind, payload)
        if record is not None and record.type is Type.BOUNDARY:
            if len(payload) < 4:
                raise BrokenLog("a boundary without a size", offset)
            if offset + _U32.unpack_from(payload)[0] > end:
                return
        offset += size
        yield record, offset


def _record(kind: int, payload: memoryview) -> Record | None:
    bits = kind & _TYPE_BITS
    external = bool(kind & EXTERNAL)
    for expunge in (Type.EXPUNGE, Type.EXPUNGE_GUID):
        if bits == expunge | EXPUNGE_PROTECTION:
            return Record(expunge, payload, external)
    if bits in (Type.APPEND, Type.FLAG_UPDATE, Type.HEADER_UPDATE, Type.BOUNDARY):
        return Record(Type(bits), payload, external)
    return None  # extensions, keywords, modification sequences, attributes: nothing of ours


# --- payloads ------------------------------------------------------------------------------


def parse_append(payload: memoryview) -> tuple[Sequence[int], Sequence[int]]:
    """UIDs and flag octets of new messages, in file order."""
    if len(payload) % _APPEND.size:
        raise BrokenLog(f"an append of {len(payload)} octets")
    numbers: array[int] = array("I", payload.tobytes())  # 4 octets on every Linux
    flags = numbers[1::2]
    if max(flags, default=0) > 0xFF:  # padding that was not cleared
        flags = array("I", (octet & 0xFF for octet in flags))
    return numbers[0::2], flags


def parse_flag_updates(payload: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """First and last UID, flags to add, flags to remove."""
    if len(payload) % _FLAG_UPDATE.size:
        raise BrokenLog(f"flag updates of {len(payload)} octets")
    for first, last, add, remove, _ in _FLAG_UPDATE.iter_unpack(payload):
        yield first, last, add, remove


def parse_expunges(record: Record) -> Iterator[tuple[int, int]]:
    """First and last UID of each range."""
    layout = _EXPUNGE if record.type is Type.EXPUNGE else _EXPUNGE_GUID
    if len(record.payload) % layout.size:
        raise BrokenLog(f"expunges of {len(record.payload)} octets")
    for numbers in layout.iter_unpack(record.payload):
        yield numbers[0], numbers[-1]


def parse_header_updates(payload: memoryview) -> Iterator[tuple[int, bytes]]:
    """Offset into the index header, and what is written there."""
    offset = 0
    while offset + _HEADER_UPDATE.size <= len(payload):
        where, size = _HEADER_UPDATE.unpack_from(payload, offset)
        offset += _HEADER_UPDATE.size
        if offset + size > len(payload):
            raise BrokenLog("a header update runs over its record")
        yield where, payload[offset : offset + size].tobytes()
        offset += (size + 3) & ~3


def number_in_update(where: int, data: bytes, field: int) -> int | None:
    """The 32-bit header field, if an update covers it."""
    if where <= field and field + 4 <= where + len(data):
        return int(_U32.unpack_from(data, field - where)[0])
    return None


def format_record(kind: int, payload: bytes) -> bytes:
    """payload: a multiple of 4 octets."""
    return encode_size(RECORD_HEADER_SIZE + len(payload)) + _U32.pack(kind) + payload


def format_append(uids: Sequence[int], seen: frozenset[int] | set[int]) -> bytes:
    """New messages, ascending.  They begin as given, not as a change."""
    payload = b"".join(_APPEND.pack(uid, SEEN if uid in seen else 0) for uid in uids)
    return format_record(Type.APPEND | EXTERNAL, payload)


def format_seen(ranges: Sequence[tuple[int, int]], *, add: bool) -> bytes:
    """Set or clear \\Seen.  Not external: Dovecot writes a user's own change so."""
    masks = (SEEN, 0) if add else (0, SEEN)
    payload = b"".join(_FLAG_UPDATE.pack(first, last, *masks, 0) for first, last in ranges)
    return format_record(Type.FLAG_UPDATE, payload)


def format_expunge(ranges: Sequence[tuple[int, int]]) -> bytes:
    payload = b"".join(_EXPUNGE.pack(first, last) for first, last in ranges)
    return format_record(Type.EXPUNGE | EXPUNGE_PROTECTION | EXTERNAL, payload)


def format_header_number(field: int, value: int) -> bytes:
    payload = _HEADER_UPDATE.pack(field, 4) + _U32.pack(value)
    return format_record(Type.HEADER_UPDATE | EXTERNAL, payload)


def format_transaction(records: Sequence[bytes]) -> bytes:
    """Records that readers take all or none: with more than one, behind a boundary."""
    body = b"".join(records)
    if len(records) < 2:
        return body
    whole = RECORD_HEADER_SIZE + 4 + len(body)
    return format_record(Type.BOUNDARY | EXTERNAL, _U32.pack(whole)) + body
