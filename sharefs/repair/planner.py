"""From a home and its nodes to changes and notes.  Pure, and one node at a time."""

from collections.abc import Iterable, Iterator

from sharefs.repair.change import Change
from sharefs.repair.facts import Home, Places
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
    for node in nodes:
        for found, wish in chosen.wishes(places.place(node)):
            yield from changes_for(found, wish)
    notes += chosen.notes
