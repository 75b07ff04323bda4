"""`dovecot-uidvalidity`: hands out UIDVALIDITY values that never repeat below one control root.

The main file holds the last value as 8 hex digits.  An empty companion file is named after it,
and renaming the companion to the next value is what makes an allocation exclusive without a lock.
"""

import dataclasses
import logging
import os
import re
import time
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.fsops import Entry
from sharefs.permissions.inherit import Creation

log = logging.getLogger(__name__)

FILE_NAME: Final = "dovecot-uidvalidity"
ATTEMPTS: Final = 10  # renames lost to other processes before we give up
_COMPANION: Final = re.compile(re.escape(FILE_NAME) + r"\.([0-9a-f]{8})")
_VALUE: Final = re.compile(rb"[0-9a-f]{8}")


def allocate(root: Path, creation: Creation) -> int:
    """The next value.  Where the root cannot be written, the current time, with a warning."""
    try:
        return _allocate(root, creation)
    except OSError as exc:
        value = int(time.time())
        log.warning("no UIDVALIDITY counter in %s (%s); using the time %d", root, exc, value)
        return value


def _allocate(root: Path, creation: Creation) -> int:
    value = _read(root / FILE_NAME)
    for _ in range(ATTEMPTS):
        if value is None:
            value = _companion(root)
        if value is None:
            return _start(root, creation)
        after = value % 0xFFFFFFFF + 1  # 32 bits, never 0
        try:
            fsops.rename_new(_entry(root, value), _entry(root, after))
        except FileNotFoundError:
            value = None  # another process was faster, or the companion is lost: look
        except FileExistsError:
            value = after  # a leftover of a crash; go past it
        else:
            _write(root, after, creation)
            return after
    raise OSError(f"{root / FILE_NAME} changed {ATTEMPTS} times while it was allocated from")


def _entry(root: Path, value: int) -> Entry:
    return Entry(None, root / f"{FILE_NAME}.{value:08x}")


def _read(path: Path) -> int | None:
    try:
        content = fsops.read_file(path)
    except FileNotFoundError:
        return None
    return (int(content, 16) or None) if _VALUE.fullmatch(content) else None


def _companion(root: Path) -> int | None:
    """The largest companion.  Smaller ones are leftovers and are removed."""
    values = sorted(int(found[1], 16) for name in os.listdir(root)
                    if (found := _COMPANION.fullmatch(name)))  # fmt: skip
    for value in values[:-1]:
        fsops.unlink(_entry(root, value).name, missing_ok=True)
    return values[-1] if values and values[-1] else None


def _start(root: Path, creation: Creation) -> int:
    value = int(time.time()) & 0xFFFFFFFF or 1
    read_only = dataclasses.replace(creation, file_mode=0o444)
    os.close(fsops.create_file(_entry(root, value).name, read_only))
    _write(root, value, creation)
    return value


def _write(root: Path, value: int, creation: Creation) -> None:
    fsops.replace_file(root / FILE_NAME, f"{value:08x}".encode(), creation, fsync=False)
