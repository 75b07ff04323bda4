"""LIST as a function: from the mailboxes one viewer may see to the answers of LIST.  Pure.

RFC 3501 section 6.3.8, RFC 5258 (LIST-EXTENDED), RFC 3348 (CHILDREN), RFC 6154 (SPECIAL-USE).

Rule of this file: only mailboxes that the viewer may know of come in, so nothing that goes out,
\\HasChildren included, can tell of others.  A level of hierarchy that is no visible mailbox, be it
missing or out of the viewer's rights, is the same answer: \\NonExistent \\NoSelect.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from sharefs.namespaces.patterns import INBOX, Pattern, compile_pattern, literal_start

NO_SELECT: Final = "\\NoSelect"
NON_EXISTENT: Final = "\\NonExistent"
HAS_CHILDREN: Final = "\\HasChildren"
HAS_NO_CHILDREN: Final = "\\HasNoChildren"
SUBSCRIBED: Final = "\\Subscribed"


@dataclass(frozen=True, slots=True)
class Listed:
    """One LIST response.

    flags: \\NoSelect \\NonExistent \\HasChildren \\HasNoChildren \\Subscribed and special uses.
    child_info: selection options that a mailbox further down meets; only with recursive_match.
    """

    name: str
    separator: str
    flags: frozenset[str]
    child_info: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Visible:
    """A mailbox, or a directory of the file system, that the viewer may know of.

    selectable: False for a level of hierarchy that exists on disk but holds no mail.
    """

    name: str
    selectable: bool = True
    special_use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """What one namespace adds to the listing.

    shown: the namespace's `list` setting.  "yes": its prefix is listed even when it is empty;
    "children": only above something visible; "no": nothing, unless a pattern begins with the
    prefix (as in Dovecot, so that a client which knows of it can still look).
    """

    prefix: str
    separator: str
    shown: str
    mailboxes: Sequence[Visible]


@dataclass(frozen=True, slots=True)
class Selection:
    """LIST's selection options (RFC 5258 section 3.1, RFC 6154 section 2)."""

    subscribed: bool = False
    special_use: bool = False
    recursive_match: bool = False

    @property
    def restricts(self) -> bool:
        return self.subscribed or self.special_use

    @property
    def options(self) -> frozenset[str]:
        names = ("SUBSCRIBED", self.subscribed), ("SPECIAL-USE", self.special_use)
        return frozenset(name for name, asked in names if asked)


EVERYTHING: Final = Selection()


@dataclass(slots=True)
class _Node:
    """One name of the tree while it is built.  found: as a mailbox or a directory."""

    separator: str
    found: bool = False
    selectable: bool = False
    is_prefix: bool = False
    has_children: bool = False
    special_use: set[str] = field(default_factory=set)


def ancestors(name: str, separator: str) -> Iterator[str]:
    """The names of the levels above, nearest first: "a/b/c" gives "a/b", "a"."""
    at = name.rfind(separator) if separator else -1
    while at > 0:
        yield name[:at]
        at = name.rfind(separator, 0, at)


def _add(nodes: dict[str, _Node], branch: Branch) -> None:
    def node_of(name: str) -> _Node:
        found = nodes.get(name)
        if found is None:
            found = nodes[name] = _Node(branch.separator)
        return found

    def mark_ancestors(name: str) -> None:
        for above in ancestors(name, branch.separator):
            node = node_of(above)
            if node.has_children:
                return  # and so have all above it
            node.has_children = True

    for mailbox in branch.mailboxes:
        node = node_of(mailbox.name)
        node.found = True
        node.selectable = node.selectable or mailbox.selectable
        node.special_use.update(mailbox.special_use)
        mark_ancestors(mailbox.name)
    prefix = branch.prefix.removesuffix(branch.separator)
    if prefix and branch.shown == "yes":
        node_of(prefix)
        mark_ancestors(prefix)
    for name in (prefix, *ancestors(prefix, branch.separator)):
        if name in nodes:
            nodes[name].is_prefix = True


def _takes_part(branch: Branch, patterns: Sequence[str]) -> bool:
    if branch.shown != "no":
        return True
    return bool(branch.prefix) and any(
        literal_start(pattern).startswith(branch.prefix) for pattern in patterns
    )


def _flags(node: _Node | None, *, subscribed: bool) -> frozenset[str]:
    told = {SUBSCRIBED} if subscribed else set()
    if node is None:
        return _one_of(frozenset({*told, NON_EXISTENT, NO_SELECT}))
    if not node.selectable:
        # A namespace's prefix is there by configuration; other levels without anything are not.
        told |= {NO_SELECT} if node.found or node.is_prefix else {NO_SELECT, NON_EXISTENT}
    told.add(HAS_CHILDREN if node.has_children else HAS_NO_CHILDREN)
    return _one_of(frozenset(told | node.special_use))


@lru_cache(maxsize=256)
def _one_of(flags: frozenset[str]) -> frozenset[str]:
    """Equal sets as one object: a thousand mailboxes have few different ones."""
    return flags


class _Matcher:
    """The patterns of one LIST command, compiled once for each separator that occurs."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._texts = patterns
        self._compiled: dict[str, tuple[Pattern, ...]] = {}

    def matches(self, name: str, separator: str) -> bool:
        compiled = self._compiled.get(separator)
        if compiled is None:
            compiled = tuple(compile_pattern(text, separator) for text in self._texts)
            self._compiled[separator] = compiled
        return any(pattern.matches(name) for pattern in compiled)


def _order(name: str) -> tuple[bool, str, str]:
    return name != INBOX, name.casefold(), name


def list_mailboxes(
    branches: Iterable[Branch],
    patterns: Sequence[str],
    subscriptions: Mapping[str, str],
    selection: Selection = EVERYTHING,
) -> Iterator[Listed]:
    """The LIST responses, INBOX first, then by name.  Each name comes once.

    patterns: reference and pattern already joined.  subscriptions: name -> separator, names of
    mailboxes that no longer exist included: they are answered as \\NonExistent, never dropped,
    because a subscription outlives its mailbox (RFC 3501 section 6.3.6).
    """
    nodes: dict[str, _Node] = {}
    for branch in branches:
        if _takes_part(branch, patterns):
            _add(nodes, branch)

    separators = {name: node.separator for name, node in nodes.items()}
    if selection.subscribed:
        separators.update((name, sep) for name, sep in subscriptions.items() if name not in nodes)

    def meets(name: str) -> bool:
        node = nodes.get(name)
        return not (
            (selection.subscribed and name not in subscriptions)
            or (selection.special_use and (node is None or not node.special_use))
        )

    selected = {name for name in separators if meets(name)} if selection.restricts else separators
    above: set[str] = set()
    if selection.restricts and selection.recursive_match:
        for name in selected:
            for parent in ancestors(name, separators[name]):
                above.add(parent)
                separators.setdefault(parent, separators[name])

    matcher = _Matcher(patterns)
    for name in sorted({*selected, *above}, key=_order):
        if matcher.matches(name, separators[name]):
            yield Listed(
                name,
                separators[name],
                _flags(nodes.get(name), subscribed=name in subscriptions),
                selection.options if name in above else frozenset(),
            )


@dataclass(frozen=True, slots=True)
class Listing:
    """What list_mailboxes() is asked.  Comparing two of them is much quicker than answering."""

    branches: Sequence[Branch]
    patterns: Sequence[str]
    subscriptions: Mapping[str, str]
    selection: Selection

    def answer(self) -> Iterator[Listed]:
        return list_mailboxes(self.branches, self.patterns, self.subscriptions, self.selection)
