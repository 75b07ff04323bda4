"""A forest that links and cuts, and knows the root of each node: for finding loops.  Pure.

A link/cut tree (Sleator and Tarjan 1983) without its rerooting: every operation takes logarithmic
time on average, however deep the forest is.
"""

from typing import Final

NONE: Final = -1


class Ancestry:
    """Nodes are 0, 1, 2, ...; grow() makes them.  Each tree here is a path of the forest, kept as
    a splay tree by depth; the root of a splay tree points to the path's upper end."""

    def __init__(self) -> None:
        self._left: list[int] = []
        self._right: list[int] = []
        self._up: list[int] = []

    def grow(self, count: int) -> None:
        """Have at least count nodes; new ones stand alone."""
        more = [NONE] * (count - len(self._up))
        for links in (self._left, self._right, self._up):
            links.extend(more)

    def link(self, child: int, parent: int) -> None:
        """child must be a root, and not that of parent."""
        self._access(child)
        self._access(parent)
        self._up[child] = parent

    def cut(self, child: int) -> None:
        """Part child, which has a parent, from it."""
        self._access(child)
        above = self._left[child]
        self._left[child] = NONE
        self._up[above] = NONE

    def root(self, node: int) -> int:
        self._access(node)
        while self._left[node] != NONE:
            node = self._left[node]
        self._access(node)  # so that the way here was not walked for nothing
        return node

    def _is_top(self, node: int) -> bool:
        up = self._up[node]
        return up == NONE or node not in (self._left[up], self._right[up])

    def _rotate(self, node: int) -> None:
        left, right, up = self._left, self._right, self._up
        parent = up[node]
        if not self._is_top(parent):
            side = left if left[up[parent]] == parent else right
            side[up[parent]] = node
        near, far = (left, right) if left[parent] == node else (right, left)
        inner = far[node]
        near[parent] = inner
        if inner != NONE:
            up[inner] = parent
        far[node] = parent
        up[node] = up[parent]
        up[parent] = node

    def _splay(self, node: int) -> None:
        left, up = self._left, self._up
        while not self._is_top(node):
            parent = up[node]
            if not self._is_top(parent):
                straight = (left[parent] == node) == (left[up[parent]] == parent)
                self._rotate(parent if straight else node)
            self._rotate(node)

    def _access(self, node: int) -> None:
        """Make the way from the root to node one path, with node on top of its splay tree."""
        below, at = NONE, node
        while at != NONE:
            self._splay(at)
            self._right[at] = below
            below, at = at, self._up[at]
        self._splay(node)
