"""What a mailbox keeps beside its index: small files that are this uid's alone, like the index."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sharefs.index import place
from sharefs.index.place import Unusable

log = logging.getLogger(__name__)

LARGEST: Final = 64 << 20  # octets; what is larger was not put there by us


class Shelf:
    """In the first of places, which are those of the index, that nobody else can write to."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = tuple(places)

    def read(self, name: str) -> bytes | None:
        """None: there is nothing, or it may be somebody else's."""
        for directory in self._places:
            try:
                return place.read(directory, name, LARGEST)
            except FileNotFoundError:
                continue
            except (Unusable, OSError) as error:
                log.info("%s is not used: %s", directory / name, error)
        return None

    def write(self, name: str, octets: bytes) -> None:
        """It need not outlive a power cut, so nothing is flushed.  Refusals are logged."""
        for directory in self._places:
            try:
                place.replace(directory, name, octets)
                return
            except (Unusable, OSError) as error:
                log.info("%s cannot be kept: %s", directory / name, error)
