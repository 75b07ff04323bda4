"""Mailbox names as directories of the view, in Maildir++, whatever layout lies below.  Pure.

`shared/alice/Work` is `.shared.alice.Work`.  A dot inside a level, as in a user's mail address,
would read as a separator; it is written &AC4-, its modified UTF-7, which no canonical name has.
"""

from collections.abc import Sequence
from typing import Final

from sharefs.errors import SharingError
from sharefs.names import MAX_COMPONENT, Layout, Levels, Naming, decode_mutf7, encode_mutf7, flaw_of

_DOT: Final = "&AC4-"
_NAMING: Final = Naming(Layout.MAILDIRPP)


def directory_of(levels: Sequence[str]) -> str | None:
    """The directory's name; None if a name like that cannot be shown."""
    plain = tuple(level.replace(".", "_") for level in levels)
    if flaw_of(plain, _NAMING) is not None:
        return None
    try:
        name = "." + ".".join(encode_mutf7(level).replace(".", _DOT) for level in levels)
    except SharingError:
        return None
    return name if len(name.encode()) <= MAX_COMPONENT else None


def levels_of(directory: str) -> Levels | None:
    """The inverse; None for a name that no mailbox is shown under."""
    if not directory.startswith("."):
        return None
    try:
        levels = tuple(decode_mutf7(part.replace(_DOT, ".")) for part in directory[1:].split("."))
    except SharingError:
        return None
    return levels if directory_of(levels) == directory else None
