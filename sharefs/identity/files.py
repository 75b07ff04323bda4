"""The passwd-files that are in use, each read once however many databases name it."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from sharefs.identity.passwd_file import PasswdFile, PasswdFileReader

# A path with %{domain} in it makes one file per domain, and clients choose the domain.
_MOST_READERS: Final = 256


class FileCache:
    """Readers by path, the least recently used forgotten.  Several threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: OrderedDict[tuple[str, bool], PasswdFileReader] = OrderedDict()

    def read(self, path: str, *, missing_is_empty: bool = False) -> PasswdFile:
        """The file as it is now.  Raises SharingError(UNAVAILABLE)."""
        key = path, missing_is_empty
        with self._lock:
            reader = self._readers.get(key)
            if reader is None:
                reader = PasswdFileReader(Path(path), missing_is_empty=missing_is_empty)
                self._readers[key] = reader
            self._readers.move_to_end(key)
            if len(self._readers) > _MOST_READERS:
                self._readers.popitem(last=False)
        return reader.current()
