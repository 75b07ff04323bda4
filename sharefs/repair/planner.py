"""From a home and its nodes to changes and notes.  Pure, and one node at a time."""

from collections.abc import Hashable, Iterable, Iterator

from sharefs.repair.change import Change, Kind
from sharefs.repair.facts import Home, Placed, Places, Role
from sharefs.repair.plan_file import Note
from sharefs.repair.strategies import STRATEGIES, Name, Options
from sharefs.repair.wish import Node, changes_for


def plan_home(
    strategy: Name, home: Home, nodes: Iterable[Node], options: Options, notes: list[Note]
) -> Iterator[Change]:
    """The changes that bring one home in line; what none can cure is appended to notes.

    nodes: the tree at home.root, the root included, in any order.
    """
    chosen = STRATEGIES[strategy](home, options)
    places = Places(home)
    for node, wish in chosen.begin():
        yield from changes_for(node, wish)
    known: dict[Hashable, tuple[_Pattern, ...]] = {}
    for node in nodes:
        placed = places.place(node)
        key = _alike(placed)
        if key is not None and key in known:
            for kind, old, new, finding in known[key]:
                yield Change(kind, node.path, old, new, node.device, node.number, finding)
            continue
        told = len(chosen.notes)
        changes = tuple(
            change for found, wish in chosen.wishes(placed) for change in changes_for(found, wish)
        )
        if key is not None and told == len(chosen.notes):
            known[key] = tuple((one.kind, one.old, one.new, one.finding) for one in changes)
        yield from changes
    notes += chosen.notes


_Pattern = tuple[Kind, str | None, str | None, str]


def _alike(placed: Placed) -> Hashable | None:
    """Message files of one mailbox with the same permissions get the same changes, and there are
    many of them.  None: this one is to be looked at by itself."""
    node = placed.node
    if placed.role is not Role.FILE or placed.mailbox is None or node.links != 1:
        return None
    if node.path.rpartition("/")[0] == placed.mailbox.path:
        return None  # control files differ among themselves
    inode = node.inode
    return placed.mailbox.path, inode.mode, inode.uid, inode.gid, inode.acl
