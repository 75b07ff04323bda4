"""Threads as a forest of numbered nodes.  Pure.

Plain lists and numbers, because a thread may be a hundred thousand messages deep.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Forest:
    """roots: nodes, in order.  children: of the nodes that have some, in order.

    uids: of each node, 0 for one that stands for a message that is not there.  Only roots may.
    """

    roots: list[int] = field(default_factory=list)
    children: dict[int, list[int]] = field(default_factory=dict)
    uids: list[int] = field(default_factory=list)
