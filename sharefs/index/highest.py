"""HIGHESTMODSEQ left beside the index, so that who selects a mailbox need not open that.

It is believed while the mailbox is in the very state that the numbers were found to agree with
(Memento) and nobody has written to the index since: its file has the same stamps, and the same
change counter, which SQLite raises with each transaction.  Whoever then opens the index finds the
same number there, or knows by another one that somebody was faster.
"""

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from sharefs.index import place, schema
from sharefs.index.place import State, Unusable
from sharefs.store.interface import Mailbox

log = logging.getLogger(__name__)

_FORM: Final = struct.Struct("=16s16sQ3Q2qQ")  # magic, mark, modseq, state
_MAGIC: Final = b"sharefs highest%c" % schema.VERSION
_SUM: Final = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Highest:
    """modseq: of the mailbox when it had this mark, as the index has it in this state."""

    mark: bytes
    modseq: int
    state: State

    def pack(self) -> bytes:
        octets = _FORM.pack(_MAGIC, self.mark, self.modseq, *self.state)
        return octets + _SUM.pack(crc32(octets))


def unpack(octets: bytes) -> Highest | None:
    """None: pack() did not write that."""
    if len(octets) != _FORM.size + _SUM.size:
        return None
    if _SUM.unpack_from(octets, _FORM.size)[0] != crc32(octets[: _FORM.size]):
        return None
    magic, mark, modseq, *numbers = _FORM.unpack_from(octets)
    device, inode, size, mtime, ctime, counter = numbers
    if magic != _MAGIC:
        return None
    return Highest(mark, modseq, (device, inode, size, mtime, ctime, counter))


def leave(directory: Path, highest: Highest) -> None:
    """For the next process.  What cannot be written is done without."""
    try:
        place.replace(directory, place.HIGHEST, highest.pack())
    except (Unusable, OSError) as error:
        log.info("%s cannot be kept: %s", directory / place.HIGHEST, error)


def state_of(directory: Path) -> State | None:
    """Of the index there.  Within no transaction of this process: it would lose its locks."""
    try:
        return place.state(directory)
    except (Unusable, OSError):
        return None


def recall(places: Sequence[Path], mailbox: Mailbox) -> tuple[Path, Highest] | None:
    """What was left, and where, if it is true of the mailbox as it is now."""
    for directory in places:
        try:
            highest = unpack(place.read(directory, place.HIGHEST, _FORM.size + _SUM.size))
            if highest is None or place.state(directory) != highest.state:
                return None
        except Unusable:
            continue  # nor is the index there
        except OSError:
            return None
        memento = mailbox.memento()
        if memento is None or memento.fingerprint() != highest.mark:
            return None
        return directory, highest
    return None
