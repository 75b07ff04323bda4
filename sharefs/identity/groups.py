"""Unix users and groups by name or number, as NSS knows them, and who is in which.

Nothing is cached here, but inside of remembering(): NSS has its own caches, and a group added by
the administrator must count at the next login.
"""

import contextlib
import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sharefs.errors import Code, SharingError
from sharefs.identity.model import Group

_LARGEST_ID: Final = 2**32 - 2  # (uid_t)-1 means "none" to the kernel


@dataclass(frozen=True, slots=True)
class IdRange:
    """first_valid_* and last_valid_*.  last 0: no upper end.  names: the two settings' names."""

    first: int
    last: int
    names: str

    def __contains__(self, number: int) -> bool:
        return number >= self.first and (not self.last or number <= self.last)

    def __str__(self) -> str:
        return f"{self.first}-{self.last or ''}"


def uid_of(text: str, origin: str) -> int:
    """The uid that a number or a user's name means.  Raises SharingError(INVALID) naming origin."""
    number = _number(text, origin)
    if number is not None:
        return number
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise SharingError(
            Code.INVALID, f"{origin} names the user {text!r}, which does not exist on this host"
        ) from None


def is_user(name: str) -> bool:
    """Whether the host knows a user of that name."""
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        return False
    return True


def group_of(text: str, origin: str) -> Group:
    """The group that a number or a name means.  Raises SharingError(INVALID) naming origin.

    A number needs no name: such groups exist only in the modes of files.
    """
    number = _number(text, origin)
    if number is not None:
        return Group(number, name_of(number), origin)
    try:
        return Group(grp.getgrnam(text).gr_gid, text, origin)
    except (KeyError, ValueError):
        raise SharingError(
            Code.INVALID,
            f"{origin} names the group {text!r}, which does not exist on this host; "
            f"create it (groupadd {text}) or correct the name",
        ) from None


_remembered: dict[int, str] | None = None


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Ask for the name of each number once; for looking up all users of a host in one go."""
    global _remembered
    before, _remembered = _remembered, {}
    try:
        yield
    finally:
        _remembered = before


def name_of(gid: int) -> str:
    """The group's name, empty if the number has none."""
    if _remembered is not None and gid in _remembered:
        return _remembered[gid]
    try:
        name = grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        name = ""
    if _remembered is not None:
        _remembered[gid] = name
    return name


def system_groups(user: str, primary: int, origin: str) -> list[Group]:
    """The groups of a user in the group file (or wherever NSS takes them from), primary first.

    A user that the group file does not know has just the primary group; that is no error,
    because initgroups(3) says so too.
    """
    gids = os.getgrouplist(user, primary)
    return [
        Group(gid, name_of(gid), origin) for gid in sorted(gids, key=lambda gid: gid != primary)
    ]


def split_names(text: str) -> list[str]:
    """Group names from a setting's text: separated by commas or spaces."""
    return text.replace(",", " ").split()


def merge(*sources: Iterable[Group]) -> tuple[Group, ...]:
    """Every group once, in order of first mention; later mentions add to the origin."""
    merged: dict[int, Group] = {}
    for group in (group for source in sources for group in source):
        have = merged.get(group.gid)
        if have is None:
            merged[group.gid] = group
        elif group.origin not in have.origin.split("; "):
            merged[group.gid] = Group(have.gid, have.name, f"{have.origin}; {group.origin}")
    return tuple(merged.values())


def _number(text: str, origin: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text) if len(text) < 12 else _LARGEST_ID + 1
    if number > _LARGEST_ID:
        raise SharingError(Code.INVALID, f"{origin} has the id {text}, which is out of range")
    return number
