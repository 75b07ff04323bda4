"""What the sharing map says of one owner, as values.  Pure.

A key says to whom; the owner is added for storing it: `shared/shared-boxes/user/<to>/<owner>`,
`.../group/<name>/<owner>`, `.../anyone/<owner>`.  Names are not escaped, so one with a slash
cannot be in the map: it is reported instead.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sharefs.acl import Acl, AclViewer
from sharefs.identifiers import Kind
from sharefs.rights import LOOKUP

ROOT: Final = "shared/shared-boxes/"


class Audience(enum.StrEnum):
    """To whom something is shared; the words of the map's keys."""

    USER = "user"
    GROUP = "group"
    ANYONE = "anyone"


_AUDIENCE_OF: Final = {
    Kind.ANYONE: Audience.ANYONE,
    Kind.AUTHENTICATED: Audience.ANYONE,
    Kind.GROUP: Audience.GROUP,
    Kind.GROUP_OVERRIDE: Audience.GROUP,
    Kind.USER: Audience.USER,
}


@dataclass(frozen=True, slots=True, order=True)
class ShareKey:
    """To whom.  name is "" for ANYONE."""

    audience: Audience
    name: str = ""

    def path(self, owner: str) -> str:
        """The whole key in a dictionary."""
        return ROOT + "/".join(part for part in (self.audience, self.name, owner) if part)

    @classmethod
    def parse(cls, path: str) -> tuple["ShareKey", str] | None:
        """The key and its owner; None if path is not a key of the sharing map."""
        if not path.startswith(ROOT):
            return None
        match path.removeprefix(ROOT).split("/"):
            case ["anyone", owner] if owner:
                return cls(Audience.ANYONE), owner
            case [("user" | "group") as word, name, owner] if name and owner:
                return cls(Audience(word), name), owner
        return None

    def __str__(self) -> str:
        return f"{self.audience} {self.name}" if self.name else str(self.audience)


def is_storable(name: str) -> bool:
    """Whether the map can hold a user or group of this name."""
    return bool(name) and "/" not in name and "\0" not in name


def keys_of(acl: Acl, owner: str) -> frozenset[ShareKey]:
    """The keys that one mailbox calls for: positive lookup rights of others.

    Entries of `owner`, of the owner's own name, and negative rights never make or unmake a key.
    """
    return frozenset(
        ShareKey(_AUDIENCE_OF[entry.identifier.kind], entry.identifier.name)
        for entry in acl.entries
        if entry.rights is not None
        and entry.rights.covers(LOOKUP)
        and entry.identifier.kind in _AUDIENCE_OF
        and not (entry.identifier.kind is Kind.USER and entry.identifier.name == owner)
    )


def keys_for(viewer: AclViewer) -> frozenset[ShareKey]:
    """The keys under which a viewer finds what was shared with him."""
    found = {ShareKey(Audience.ANYONE)}
    if viewer.name is not None:
        found.add(ShareKey(Audience.USER, viewer.name))
    found |= {ShareKey(Audience.GROUP, group) for group in viewer.groups}
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The keys an owner's ACLs call for.

    complete: every mailbox could be read.  If not, nothing may be removed from the map on the
    strength of this.  unstorable: keys that the map cannot hold, for the report.
    """

    keys: frozenset[ShareKey]
    complete: bool = True
    unstorable: frozenset[ShareKey] = frozenset()


def desired_keys(owner: str, acls: Iterable[Acl | None]) -> Wanted:
    """What the map should say of owner.  None among acls: that mailbox could not be read."""
    keys: set[ShareKey] = set()
    complete = True
    for acl in acls:
        if acl is None:
            complete = False
        else:
            keys |= keys_of(acl, owner)
    unstorable = {
        key for key in keys if key.audience is not Audience.ANYONE and not is_storable(key.name)
    }
    return Wanted(frozenset(keys - unstorable), complete, frozenset(unstorable))


@dataclass(frozen=True, slots=True)
class MapDiff:
    """What changes in the map for one owner."""

    added: frozenset[ShareKey] = frozenset()
    removed: frozenset[ShareKey] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def diff(old: frozenset[ShareKey], wanted: Wanted) -> MapDiff:
    """What to do to have `wanted`: additions always, removals only if wanted is complete."""
    removed = old - wanted.keys if wanted.complete else frozenset()
    return MapDiff(wanted.keys - old, removed)
