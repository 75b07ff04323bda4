"""THREAD=REFERENCES (RFC 5256 section 3) and THREAD=REFS (draft-ietf-morg-inthread-01).  Pure.

The numbers in comments are those of the RFC's steps.  REFS has the same families, but joins no
threads by subject, and puts the one with the latest message last; in what the draft leaves open
it is as Dovecot's.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from sharefs.ordering.ancestry import Ancestry
from sharefs.ordering.facts import Relation
from sharefs.ordering.forest import Forest

NONE: Final = -1
# Steps up the tree for each message before loops are looked for in a way that always is fast.
STEPS: Final = 50

# How siblings are sorted: a date, and in the lower bits a UID.  One number, because tuples are what
# the garbage collector looks through again and again while half a million of them are made.
Place = int
_UID_BITS: Final = 32
_UNKNOWN: Final = 0


def thread_by_references(messages: Iterable[Relation]) -> Forest:
    families = _Families(messages)
    families.sort_roots()
    families.gather_subjects()
    return families.forest()


def thread_by_refs(messages: Iterable[Relation]) -> Forest:
    families = _Families(messages)
    families.sort_roots_by_latest()
    return families.forest()


class _Links:
    """Step (1): who is whose child, by identifiers.  Nodes without a message are dummies."""

    def __init__(self, messages: Sequence[Relation]) -> None:
        self.messages: list[Relation | None] = []  # of each node; None: a dummy
        self.parent: list[int] = []
        self._has_children: list[bool] = []
        self._of_id: dict[bytes, int] = {}
        self._steps_left = STEPS * len(messages)
        self._ancestry: Ancestry | None = None
        for message in messages:
            self._add(message)

    def _add(self, message: Relation) -> None:
        own, *named = message[4].split(b"\n")
        # The second message with an identifier, and one without, are known by none.
        known = self._of_id.get(own)
        if known is None:
            node = self._new(message)
            if own:
                self._of_id[own] = node
            if not named:
                return
        elif self.messages[known] is None:
            node = known
            self.messages[node] = message
        else:
            node = self._new(message)
        last = self._chain(named)
        if self.parent[node] == last:
            return
        if self.parent[node] != NONE:  # (1)(B)
            self._cut(node)
        if last != NONE and not self._is_below(last, node):
            self._link(node, last)

    def _chain(self, named: Sequence[bytes]) -> int:
        """(1)(A).  Returns the node of the last one, NONE if there is none."""
        last = NONE
        for one in named:
            at = self._of_id.get(one)
            if at is None:
                at = self._of_id[one] = self._new(None)
            if last != NONE and self.parent[at] == NONE and not self._is_below(last, at):
                self._link(at, last)
            last = at
        return last

    def _new(self, message: Relation | None) -> int:
        self.messages.append(message)
        self.parent.append(NONE)
        self._has_children.append(False)
        return len(self.parent) - 1

    def _link(self, child: int, parent: int) -> None:
        self.parent[child] = parent
        self._has_children[parent] = True
        if self._ancestry is not None:
            self._ancestry.grow(len(self.parent))
            self._ancestry.link(child, parent)

    def _cut(self, child: int) -> None:
        self.parent[child] = NONE
        if self._ancestry is not None:
            self._ancestry.cut(child)

    def _is_below(self, node: int, top: int) -> bool:
        """Whether top, which has no parent, is node or above it."""
        if node == top or not self._has_children[top]:
            return node == top
        parent = self.parent
        while self._ancestry is None and parent[node] != NONE:
            node = parent[node]
            self._steps_left -= 1
            if self._steps_left < 0:
                self._ancestry = self._grown()
        if self._ancestry is not None:
            self._ancestry.grow(len(parent))
            node = self._ancestry.root(node)
        return node == top

    def _grown(self) -> Ancestry:
        """The same forest.  Each child is linked once, so it is a root until then."""
        ancestry = Ancestry()
        ancestry.grow(len(self.parent))
        for child, parent in enumerate(self.parent):
            if parent != NONE:
                ancestry.link(child, parent)
        return ancestry


class _Families:
    """Steps (2) to (6), over the links of step (1)."""

    def __init__(self, messages: Iterable[Relation]) -> None:
        # In mailbox order: of several messages with one identifier the first has it.
        links = _Links(sorted(messages))
        self._messages = links.messages
        self._children: dict[int, list[int]] = {}
        self._roots: list[int] = []
        # Of each node; a dummy's is that of its first child, once its children are sorted.
        self._places: list[Place] = [
            each[1] << _UID_BITS | each[0] if each else _UNKNOWN for each in self._messages
        ]
        for node, top in enumerate(_nearest(links)):
            if self._messages[node] is None:
                continue
            if top == NONE:
                self._roots.append(node)
            else:
                self._children.setdefault(top, []).append(node)
        for siblings in self._children.values():
            if len(siblings) > 1:
                siblings.sort(key=self._places.__getitem__)
        self._place_dummies()

    def _place_dummies(self) -> None:
        """(3): a dummy stays only at the top, and only above several messages."""
        for node in [node for node in self._children if self._messages[node] is None]:
            self._places[node] = self._places[self._children[node][0]]
            if len(self._children[node]) == 1:
                self._roots += self._children.pop(node)
            else:
                self._roots.append(node)

    def _first(self, node: int) -> Relation:
        """The message at node, or the first below a dummy."""
        message = self._messages[node] or self._messages[self._children[node][0]]
        assert message is not None, "below a dummy are messages"
        return message

    def sort_roots(self) -> None:
        """(4)"""
        self._roots.sort(key=self._places.__getitem__)

    def sort_roots_by_latest(self) -> None:
        uids = (1 << _UID_BITS) - 1
        latest = {root: (self._latest(root), self._places[root] & uids) for root in self._roots}
        self._roots.sort(key=latest.__getitem__)

    def _latest(self, root: int) -> int:
        """The date of the latest message in a thread."""
        latest, pending = self._places[root] >> _UID_BITS, [root]
        while pending:
            below = self._children.get(pending.pop())
            if below:
                latest = max(latest, self._places[below[-1]] >> _UID_BITS)  # siblings are sorted
                pending += below
        return latest

    def gather_subjects(self) -> None:
        """(5), and of (6) what it makes necessary."""
        messages, children = self._messages, self._children
        table: dict[bytes, int] = {}
        threads = [(node, *self._first(node)[2:4]) for node in self._roots]
        replies = {node: reply for node, _, reply in threads}
        for node, subject, reply in threads:  # (5)(B)
            there = table.setdefault(subject, node)
            if there == node or messages[there] is None:
                continue
            if messages[node] is None or (replies[there] and not reply):
                table[subject] = node
        table.pop(b"", None)
        gone: set[int] = set()
        touched: set[int] = set()
        for node, subject, reply in threads:  # (5)(C)
            there = table.get(subject, node)
            if there == node:
                continue
            if messages[there] is None:
                children[there] += [node] if messages[node] else children.pop(node)
            elif reply and not replies[there]:
                children.setdefault(there, []).append(node)
            else:
                gone.add(there)
                children[len(messages)] = [there, node]
                there = table[subject] = len(messages)
                messages.append(None)
                self._places.append(_UNKNOWN)
                self._roots.append(there)
            gone.add(node)
            touched.add(there)
        for node in touched:
            children[node].sort(key=self._places.__getitem__)
            if messages[node] is None:
                self._places[node] = self._places[children[node][0]]
        if gone:
            self._roots = [node for node in self._roots if node not in gone]
            self.sort_roots()

    def forest(self) -> Forest:
        uids = [0 if message is None else message[0] for message in self._messages]
        return Forest(self._roots, self._children, uids)


def _nearest(links: _Links) -> list[int]:
    """(2), (3): for each node the nearest message above it, else the topmost dummy, else NONE."""
    parent, messages = links.parent, links.messages
    nearest: dict[int, int] = {}  # of dummies: where children of theirs belong
    found = []
    for node in range(len(parent)):
        at, way = parent[node], []
        while at != NONE and messages[at] is None and at not in nearest and parent[at] != NONE:
            way.append(at)
            at = parent[at]
        at = nearest.get(at, at)
        for dummy in way:
            nearest[dummy] = at
        found.append(at)
    return found
