"""A mailbox's listing, so that the next process need not make it: values to octets, and back.

It holds what a process knows besides names, which the list has: which messages there were, the
info of each, and what tells that this is still so (docs/maildir.md).  Octets that were not written
by pack() in this format are no listing; a sum finds out damage.  Nobody but the user himself can
write where they are kept.
"""

import json
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any, Final
from zlib import crc32

from sharefs.store.late import LateUids
from sharefs.store.maildir.directory import Trace
from sharefs.store.maildir.uidlist_format import ListMark

FILE_NAME: Final = "sharefs.listing"
# The first octets: what the file is, the version of its format, the machine's order of octets.
_MAGIC: Final = b"sharefs listing 1 " + sys.byteorder.encode() + b"\n"
_SIZES: Final = struct.Struct("=II")  # octets of marks and places, messages
_SUM: Final = struct.Struct("=I")
MOST_PLACES: Final = 256  # different ones; each message has an octet that says which

Place = tuple[bool, str]  # whether the message is in new/, and its info


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells of changes.  boot: of the system.  new, cur: of these directories."""

    boot: str
    new: Trace
    cur: Trace
    listed: ListMark


class Listing:
    """Messages by ascending UID, and where each is.  Never changed."""

    def __init__(
        self, marks: Marks, uids: Sequence[int], codes: bytes, places: Sequence[Place]
    ) -> None:
        self.marks = marks
        self._numbers = uids  # as they were read, until somebody wants the list
        self._uids: list[int] | None = None
        self._codes = codes
        self._places = tuple(places)

    @classmethod
    def of(cls, marks: Marks, uids: list[int], places: Sequence[Place | None]) -> "Listing | None":
        """None: there are too many different places, or a message has none."""
        number_of = {place: number for number, place in enumerate(dict.fromkeys(places))}
        if len(number_of) > MOST_PLACES or None in number_of:
            return None
        known = [place for place in number_of if place is not None]
        return cls(marks, uids, bytes(map(number_of.__getitem__, places)), known)

    # --- asking ----------------------------------------------------------------------------

    @property
    def uids(self) -> list[int]:
        if self._uids is None:
            self._numbers = self._uids = [*self._numbers]
        return self._uids

    def late_uids(self) -> Sequence[int]:
        """As uids, without making a list."""
        return LateUids(self._numbers, lambda: self.uids) if self._uids is None else self._uids

    def infos(self) -> set[str]:
        return {info for _, info in self._places}

    def has_new(self) -> bool:
        """Whether a message is in new/."""
        return any(in_new for in_new, _ in self._places)

    def each_place(self) -> list[Place]:
        """Of every message, in their order."""
        return [*map(self._places.__getitem__, self._codes)]

    def place_of(self, uid: int) -> Place | None:
        at = bisect_left(self._numbers, uid)
        if at == len(self._numbers) or self._numbers[at] != uid:
            return None
        return self._places[self._codes[at]]

    def infos_of(self, uids: Sequence[int]) -> list[str | None]:
        """None: no such message."""
        infos: list[str | None] = [info for _, info in self._places]
        if uids is self.uids:
            return [*map(infos.__getitem__, self._codes)]
        first = bisect_left(self.uids, uids[0]) if uids else 0
        if self.uids[first : first + len(uids)] == uids:
            return [*map(infos.__getitem__, self._codes[first : first + len(uids)])]
        if len(uids) * 16 < len(self.uids):
            places = map(self.place_of, uids)
            return [None if place is None else place[1] for place in places]
        code_of = dict(zip(self.uids, self._codes, strict=True))
        infos.append(None)
        return [infos[code_of.get(uid, -1)] for uid in uids]

    def uids_with(self, infos: Container[str]) -> list[int]:
        """Messages that have one of these infos."""
        return [*compress(self._numbers, self._which(infos))]

    def first_with(self, infos: Container[str]) -> int:
        """The first message that has one of these infos; 0: none has."""
        at = self._which(infos).find(1)
        return 0 if at < 0 else self._numbers[at]

    def _which(self, infos: Container[str]) -> bytes:
        """1 for each message that has one of these infos, 0 for others."""
        wanted = bytes(info in infos for _, info in self._places)
        return self._codes.translate(wanted.ljust(256, b"\0"))

    # --- octets ----------------------------------------------------------------------------

    def pack(self) -> bytes:
        text = json.dumps([_told(self.marks), self._places]).encode("ascii")
        uids = array("I", self.uids).tobytes()
        octets = b"".join([_MAGIC, _SIZES.pack(len(text), len(self.uids)), text, uids, self._codes])
        return octets + _SUM.pack(crc32(octets))


def unpack(octets: bytes) -> Listing | None:
    """None: pack() did not write that."""
    view = memoryview(octets)
    text_at = len(_MAGIC) + _SIZES.size
    end = len(octets) - _SUM.size
    if end < text_at or not octets.startswith(_MAGIC):
        return None
    if _SUM.unpack(view[end:])[0] != crc32(view[:end]):
        return None
    length, count = _SIZES.unpack_from(octets, len(_MAGIC))
    uids_at = text_at + length
    codes_at = uids_at + 4 * count
    if codes_at + count != end:
        return None
    try:
        told, places = json.loads(octets[text_at:uids_at])
        places = [(bool(in_new), str(info)) for in_new, info in places]
        uids = view[uids_at:codes_at].cast("I")
        return Listing(_marks_of(told), uids, octets[codes_at:end], places)
    except (TypeError, ValueError, KeyError):
        return None


def _told(marks: Marks) -> dict[str, Any]:
    told = asdict(marks)
    told["listed"]["probe"] = marks.listed.probe.hex()
    return told


def _marks_of(told: dict[str, Any]) -> Marks:
    listed = told["listed"]
    listed |= {"key": tuple(listed["key"]), "probe": bytes.fromhex(listed["probe"])}
    return Marks(told["boot"], tuple(told["new"]), tuple(told["cur"]), ListMark(**listed))
