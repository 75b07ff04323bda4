"""What the handlers of all themes share."""

import errno
import os

import pyfuse3

from sharefs.mount.caller import Caller
from sharefs.mount.gate import Gate, stale
from sharefs.mount.handles import Handles
from sharefs.mount.mirror import Acting
from sharefs.mount.nodes import Node, NodeTable


class Base(pyfuse3.Operations):
    """A tree and the handlers' ways into it.  Handlers only translate: caller, node, answer."""

    supports_dot_lookup = False  # only NFS asks for those; nothing here needs a way up
    enable_writeback_cache = False  # every write is checked against the rights of that moment

    def __init__(self, tree: Acting, handles: Handles) -> None:
        super().__init__()
        self.tree = tree
        self.table: NodeTable = tree.table
        self.gate: Gate = tree.gate
        self.handles = handles
        self.waiting = tree.waiting

    def node(self, ino: int) -> Node:
        """Raises OSError(ESTALE) for a number we never gave out, or have forgotten."""
        node = self.table.get(ino)
        if node is None:
            raise stale()
        return node

    def known(self, node: Node, entry: pyfuse3.EntryAttributes) -> pyfuse3.EntryAttributes:
        """The kernel is told of the node by this answer, and will say when it forgets it."""
        self.table.known(node)
        return entry


def caller_of(ctx: pyfuse3.RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.pid)


def demand_name(name: bytes) -> str:
    """Raises OSError(ENAMETOOLONG) as the file system below would."""
    if len(name) > 255:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if b"/" in name or name in (b"", b".", b".."):
        raise OSError(errno.EINVAL, "not a name")
    return os.fsdecode(name)
