"""What an ACL gives a viewer, and how one change alters it.  Pure.

The rules of precedence (Dovecot's, observed and checked against it in tests/sharing):

1. Entries count in the order of Kind, weakest first; then the global ones, in the same order.
2. The owner starts with every right, and local entries weaker than `owner` do not concern him.
3. At each new kind the entry replaces what was gathered so far; further entries of one kind
   (several groups) are merged with it.
4. Positive and negative parts are tracked apart; an entry leaves alone a part that it lacks.
   An empty part is not a missing one: `user=bob` without letters takes everything from bob.
5. The first global entry clears the local negative rights.
6. The result is positive minus negative; with no entry at all, the defaults.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from sharefs.errors import Place
from sharefs.identifiers import OWNER, Identifier, Kind, user
from sharefs.rights import ALL, NONE, POST, Rights


@dataclass(frozen=True, slots=True)
class Entry:
    """What an ACL says of one identifier.

    rights, negative: None means that there is no such line; empty means that there is one.
    place, negative_place: where the lines stand; not part of equality.
    """

    identifier: Identifier
    rights: Rights | None
    negative: Rights | None = None
    is_global: bool = False
    place: Place | None = field(default=None, compare=False)
    negative_place: Place | None = field(default=None, compare=False)

    def merged(self, other: Entry) -> Entry:
        """Two lines about one identifier as one entry.

        As Dovecot does it, the part that neither line had is there afterwards, and empty, once
        two lines say the same kind of thing; see docs/decisions/0002-malformed-acl-lines.md.
        """
        return replace(
            self,
            rights=(self.rights or NONE) | (other.rights or NONE),
            negative=(self.negative or NONE) | (other.negative or NONE),
            place=self.place or other.place,
            negative_place=self.negative_place or other.negative_place,
        )

    def wire(self) -> tuple[tuple[str, str], ...]:
        """What GETACL says of it: identifier and rights, the positive line first.

        Global entries are marked with #, after the - of negative ones.
        """
        mark = "#" if self.is_global else ""
        name = self.identifier.wire()
        lines: list[tuple[str, str]] = []
        if self.rights is not None:
            lines.append((mark + name, self.rights.wire()))
        if self.negative is not None:
            lines.append((f"-{mark}{name}", self.negative.wire()))
        return tuple(lines)

    def __str__(self) -> str:
        return self.identifier.file()


class Mode(enum.Enum):
    """How an update combines the rights it names with those an entry has."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"
    CLEAR = "clear"  # the line goes


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one part, positive or negative, of an entry.  CLEAR ignores the rights."""

    mode: Mode
    rights: Rights = NONE

    def apply(self, old: Rights | None) -> Rights | None:
        match self.mode:
            case Mode.CLEAR:
                return None
            case Mode.REPLACE:
                return self.rights
            case Mode.ADD:
                return (old or NONE) | self.rights
            case Mode.REMOVE:
                return old - self.rights if old else old


_CLEAR: Final = Change(Mode.CLEAR)


@dataclass(frozen=True, slots=True)
class Update:
    """One change to one entry.  A part that is None stays as it is."""

    identifier: Identifier
    positive: Change | None = None
    negative: Change | None = None

    @classmethod
    def of(
        cls, identifier: Identifier, mode: Mode, rights: Rights, *, negative: bool = False
    ) -> Update:
        """As SETACL says it: one part, the other untouched."""
        change = Change(mode, rights)
        return cls(identifier, negative=change) if negative else cls(identifier, change)

    @classmethod
    def whole(cls, identifier: Identifier, rights: Rights, negative: Rights = NONE) -> Update:
        """As `acl set` says it: both parts become exactly this; an empty part is cleared."""
        positive_change, negative_change = (
            Change(Mode.REPLACE, part) if part else _CLEAR for part in (rights, negative)
        )
        return cls(identifier, positive_change, negative_change)

    @classmethod
    def deletion(cls, identifier: Identifier, *, negative: bool | None = None) -> Update:
        """As DELETEACL: the positive line, the negative one, or (None) both."""
        return cls(
            identifier,
            None if negative is True else _CLEAR,
            None if negative is False else _CLEAR,
        )


@dataclass(frozen=True, slots=True)
class Acl:
    """All entries of one mailbox, local and global.

    Always sorted, one entry an identifier, none without any part: so the order of lines in a
    file never matters.
    """

    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        sorted_entries: list[Entry] = []
        for entry in sorted(self.entries, key=_precedence):
            if entry.rights is None and entry.negative is None:
                continue
            if sorted_entries and _precedence(sorted_entries[-1]) == _precedence(entry):
                sorted_entries[-1] = sorted_entries[-1].merged(entry)
            else:
                sorted_entries.append(entry)
        object.__setattr__(self, "entries", tuple(sorted_entries))

    def find(self, identifier: Identifier, *, is_global: bool = False) -> Entry | None:
        for entry in self.entries:
            if entry.identifier == identifier and entry.is_global == is_global:
                return entry
        return None

    def local(self) -> Acl:
        """Only what belongs into the mailbox's own file."""
        return Acl(tuple(entry for entry in self.entries if not entry.is_global))

    def joined(self, others: Iterable[Entry]) -> Acl:
        """With more entries, such as the global ones that match the mailbox."""
        return Acl((*self.entries, *others))

    def apply(self, update: Update) -> Acl:
        """The ACL after one update of its local entries.  Equal to self if nothing changes."""
        old = self.find(update.identifier)
        others = tuple(entry for entry in self.entries if entry is not old)
        changed = replace(
            old or Entry(update.identifier, None),
            rights=_changed(old.rights if old else None, update.positive),
            negative=_changed(old.negative if old else None, update.negative),
        )
        return Acl((*others, changed))

    def update(
        self, identifier: Identifier, mode: Mode, rights: Rights, *, negative: bool = False
    ) -> Acl:
        return self.apply(Update.of(identifier, mode, rights, negative=negative))

    def delete(self, identifier: Identifier, *, negative: bool | None = None) -> Acl:
        return self.apply(Update.deletion(identifier, negative=negative))


def _precedence(entry: Entry) -> tuple[bool, Identifier]:
    return entry.is_global, entry.identifier


EMPTY: Final = Acl()


def _changed(old: Rights | None, change: Change | None) -> Rights | None:
    """A line that would be new and empty is not made; an old one that became empty stays."""
    if change is None:
        return old
    new = change.apply(old)
    return None if old is None and not new else new


@dataclass(frozen=True, slots=True)
class AclViewer:
    """Who asks, in the terms of ACLs, about the mailboxes of one namespace.

    name: the ACL user (acl_user, else the master user's name, else the login name); None for the
    anonymous user.  is_owner: the ACL user owns the mailbox.  owner_name: whose mailbox it is, ""
    in public namespaces.
    """

    name: str | None
    groups: frozenset[str] = frozenset()
    is_owner: bool = False
    owner_name: str = ""
    private_namespace: bool = False

    def matches(self, identifier: Identifier) -> bool:
        match identifier.kind:
            case Kind.ANYONE:
                return True
            case Kind.AUTHENTICATED:
                return self.name is not None
            case Kind.GROUP | Kind.GROUP_OVERRIDE:
                return identifier.name in self.groups
            case Kind.OWNER:
                return self.is_owner
            case Kind.USER:
                return self.name == identifier.name

    def is_self(self, identifier: Identifier) -> bool:
        """Whether setting rights of identifier is setting one's own (not through a group)."""
        return identifier.kind in (Kind.OWNER, Kind.USER) and self.matches(identifier)

    def __str__(self) -> str:
        return "anonymous" if self.name is None else self.name


class Effect(enum.Enum):
    GAVE = "gives"
    TOOK = "takes away"  # by a negative line
    REPLACED = "replaces"  # the letters went because a stronger entry does not have them
    RESTORED = "returns"  # a negative line of a weaker entry ended
    SKIPPED = "does not count"


@dataclass(frozen=True, slots=True)
class Reason:
    """What one entry did on the way to the effective rights.

    entry: None for the defaults.  rights: the rights concerned, none for SKIPPED.  place: the
    line that did it, or where the defaults come from; None if it is not known.
    """

    effect: Effect
    rights: Rights
    entry: Entry | None
    place: Place | None
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


@dataclass(frozen=True, slots=True)
class Effective:
    """The rights of a viewer, and how they came about, in the order of the walk."""

    rights: Rights
    reasons: tuple[Reason, ...] = ()

    def reason_for(self, right: Rights) -> Reason | None:
        """The last thing that decided over one right; None if no entry ever spoke of it."""
        decided = None
        for reason in self.reasons:
            if reason.effect is not Effect.SKIPPED and reason.rights.covers(right):
                decided = reason
        return decided


def effective(
    acl: Acl, viewer: AclViewer, defaults: Rights, *, origin: Place | None = None
) -> Effective:
    """What viewer may do.  See the rules at the head of this module.

    defaults: what a viewer who is not the owner gets if no entry speaks of him, from the place
    origin.  An owner's defaults are all rights; they do not depend on defaults, as in Dovecot.
    """
    walk = _Walk(viewer)
    if viewer.is_owner:
        walk.start(ALL, "the owner has all rights unless an entry says otherwise", None)
    for entry in acl.entries:
        if walk.counts(entry):
            walk.take(entry)
    if not walk.started:
        text = f"default rights, as no entry speaks of {viewer}"
        walk.start(defaults, text, origin)
    return Effective(walk.positive - walk.negative, tuple(walk.reasons))


class _Walk:
    """The state of one walk over the entries: a positive and a negative set, and the reasons."""

    def __init__(self, viewer: AclViewer) -> None:
        self.viewer = viewer
        self.positive = NONE
        self.negative = NONE
        self.reasons: list[Reason] = []
        self.started = False
        self._takers: dict[Rights, Entry] = {}
        self._last: Entry | None = None

    def start(self, rights: Rights, text: str, place: Place | None) -> None:
        self.positive = rights
        self.started = True
        self.reasons.append(Reason(Effect.GAVE, rights, None, place, text))

    def counts(self, entry: Entry) -> bool:
        """Whether entry concerns the viewer; if not, why not is noted."""
        why = ""
        if self.viewer.is_owner and not entry.is_global and entry.identifier.kind < Kind.OWNER:
            why = f"{entry} does not concern the owner"
        elif not self.viewer.matches(entry.identifier):
            why = f"{entry} is not {self.viewer}"
            if entry.identifier.kind in (Kind.GROUP, Kind.GROUP_OVERRIDE):
                why = f"{self.viewer} is not in group {entry.identifier.name}"
            elif entry.identifier.kind is Kind.OWNER:
                why = f"{self.viewer} is not the owner"
        if why:
            place = entry.place or entry.negative_place
            self.reasons.append(Reason(Effect.SKIPPED, NONE, entry, place, why))
        return not why

    def take(self, entry: Entry) -> None:
        last, self._last = self._last, entry
        self.started = True
        merge = (
            last is not None
            and last.identifier.kind is entry.identifier.kind
            and last.is_global == entry.is_global
        )
        first_global = entry.is_global and not (last is not None and last.is_global)
        before = self.positive - self.negative
        if entry.rights is not None:
            self.positive = entry.rights | (self.positive if merge else NONE)
        if first_global or (entry.negative is not None and not merge):
            self.negative = NONE
        if entry.negative is not None:
            self.negative |= entry.negative
            self._takers |= dict.fromkeys(entry.negative.each(), entry)
        self._explain(entry, before)

    def _explain(self, entry: Entry, before: Rights) -> None:
        """Note what taking entry did to the rights that were there before."""
        after = self.positive - self.negative
        given = entry.rights or NONE
        self._note(
            Effect.REPLACED, before - self.positive, entry, entry.place,
            "replaces weaker entries, losing",
        )  # fmt: skip
        self._note(Effect.GAVE, given & after, entry, entry.place, "gives")
        self._note(
            Effect.RESTORED, after - before - given, entry, entry.negative_place or entry.place,
            "ends the negative rights of weaker entries, returning",
        )  # fmt: skip
        for right in (self.negative & (before | given)).each():
            taker = self._takers[right]
            if taker is entry:
                self._note(Effect.TOOK, right, entry, entry.negative_place, "takes away")
            else:
                text = f"-{taker} takes away {right}, which {entry} gives"
                place = taker.negative_place
                self.reasons.append(Reason(Effect.TOOK, right, taker, place, text))

    def _note(
        self, effect: Effect, rights: Rights, entry: Entry, place: Place | None, verb: str
    ) -> None:
        if rights:
            name = entry.identifier.file(negative=effect is Effect.TOOK)
            text = f"{'global ' if entry.is_global else ''}{name} {verb} {rights}"
            self.reasons.append(Reason(effect, rights, entry, place, text))


def shown(acl: Acl, viewer: AclViewer) -> tuple[Entry, ...]:
    """The entries as GETACL shows them, in that order.

    In private namespaces `owner` stands under the owner's name, unless that has an entry too; and
    if neither has a positive line, the default rights follow at the end, under the owner's name.
    """
    if not viewer.private_namespace or not viewer.owner_name:
        return acl.entries
    own = user(viewer.owner_name)
    listed = acl.entries
    if not any(entry.identifier == own for entry in listed):
        listed = tuple(
            replace(entry, identifier=own) if entry.identifier == OWNER else entry
            for entry in listed
        )
    if any(entry.identifier in (own, OWNER) and entry.rights is not None for entry in listed):
        return listed
    return (*listed, Entry(own, ALL))


# Any one of these lets a viewer ask for his own rights.  Post alone does not: it is for
# deliveries, and must not tell that the mailbox exists.
VISIBLE: Final = ALL - POST
