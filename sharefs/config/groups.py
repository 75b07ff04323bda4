"""Groups of settings: `group @label name { }` and `@label = name` (2.4).  Pure, on the tree.

A group's settings stand where it is named, with the places they have in the group.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sharefs.config.problems import Problems, nearest
from sharefs.config.reader import Assign, Block
from sharefs.config.settings import SCHEMA
from sharefs.errors import Place

Groups = Mapping[tuple[str, str], Block]

MAX_ITEMS: Final = 100_000  # of a whole tree; groups in groups could multiply without end

_BUILT_IN: Final = Place("built in")
_SPECIAL_USE: Final = {
    "Drafts": "\\Drafts",
    "Junk": "\\Junk",
    "Trash": "\\Trash",
    "Sent": "\\Sent",
    "Sent Messages": "\\Sent",
}


def _built_in() -> dict[tuple[str, str], Block]:
    """What 2.4 has without being asked.  Its groups of metrics have no meaning here."""
    mailboxes: list[Assign | Block] = [
        Block("mailbox", (name,), _BUILT_IN, [Assign("special_use", use, _BUILT_IN)])
        for name, use in _SPECIAL_USE.items()
    ]
    groups = {("@mailbox_defaults", "english"): Block("group", (), _BUILT_IN, mailboxes)}
    for name in ("backend", "proxy"):
        groups["@metric_defaults", name] = Block("group", (), _BUILT_IN)
    return groups


def expand_groups(tree: Block, problems: Problems) -> Block:
    """The tree with every `@label = name` replaced.  Naming an unknown group is an error."""
    groups = _built_in()
    kept: list[Assign | Block] = []
    for item in tree.items:
        if isinstance(item, Block) and item.kind == "group":
            if len(item.names) == 2 and item.names[0].startswith("@"):
                groups[item.names[0], item.names[1]] = item
            else:
                problems.error("block-name", item.place, "a group needs a label and a name",
                               "write `group @LABEL NAME {`")  # fmt: skip
        else:
            kept.append(item)
    return _Expansion(groups, problems).block(replace(tree, items=kept), ())


class _Expansion:
    def __init__(self, groups: Groups, problems: Problems) -> None:
        self.groups = groups
        self.problems = problems
        self.left = MAX_ITEMS

    def block(self, block: Block, within: tuple[tuple[str, str], ...]) -> Block:
        items: list[Assign | Block] = []
        for item in block.items:
            self.left -= 1
            if self.left < 0:
                if self.left == -1:
                    self.problems.error("too-large", item.place, "groups multiply without end")
                break
            if isinstance(item, Block):
                items.append(self.block(item, within))
            elif item.name.startswith("@"):
                items += self.named(item, within)
            else:
                items.append(item)
        return replace(block, items=items)

    def named(self, item: Assign, within: tuple[tuple[str, str], ...]) -> "list[Assign | Block]":
        key = (item.name, item.value)
        group = self.groups.get(key)
        if group is None:
            names = [name for label, name in self.groups if label == item.name]
            labels = [label for label, _ in self.groups]
            remedy = nearest(item.value, names) if names else nearest(item.name, labels)
            self.problems.error("unknown-group-of-settings", item.place,
                                f"there is no group {item.name} {item.value}", remedy)  # fmt: skip
            return []
        if key in within:
            self.problems.error("include-loop", item.place,
                                f"group {item.name} {item.value} includes itself",
                                "remove this line")  # fmt: skip
            return []
        found = self.block(group, (*within, key)).items
        return [self.prefixed(each, item.name[1:]) for each in found]

    def prefixed(self, item: Assign | Block, label: str) -> Assign | Block:
        """In a group a setting may lack the label at its beginning."""
        if isinstance(item, Assign) and item.name not in SCHEMA:
            long = f"{label}_{item.name}"
            return replace(item, name=long) if long in SCHEMA else item
        return item
