"""What a tree does to directories and names: make, list, remove."""

import os
import stat

from sharefs import fsops
from sharefs.mount.caller import Caller
from sharefs.mount.nodes import Node
from sharefs.mount.tree import Tree


class DirectoryActions(Tree):
    """See the module.  Each asks may_* first."""

    async def make_directory(self, parent: Node, name: str, caller: Caller) -> Node:
        self.may_create(parent, name, stat.S_IFDIR, caller)
        dir_fd = self.gate.directory(parent)
        fsops.make_owned_dir(name, self.owned(parent, caller, directory=True), dir_fd=dir_fd)
        return self.find(parent, name, caller)[0]

    async def remove_directory(self, parent: Node, name: str, caller: Caller) -> None:
        node, _ = self.find(parent, name, caller)
        self.may_remove(parent, name, node, caller)
        fsops.rmdir(name, dir_fd=self.gate.directory(parent))
        self.lost(node, parent, name)

    def open_directory(self, node: Node) -> int:
        """A descriptor for a handle.  The caller closes it."""
        return self.gate.open_directory(node)

    def make_symlink(self, parent: Node, name: str, target: bytes, caller: Caller) -> Node:
        self.may_create(parent, name, stat.S_IFLNK, caller)
        fsops.make_owned_symlink(
            os.fsdecode(target), name, self.owned(parent, caller),
            dir_fd=self.gate.directory(parent),
        )  # fmt: skip
        return self.find(parent, name, caller)[0]

    async def remove_file(self, parent: Node, name: str, caller: Caller) -> None:
        node, _ = self.find(parent, name, caller)
        self.may_remove(parent, name, node, caller)
        self.keep(node)
        fsops.unlink(name, dir_fd=self.gate.directory(parent))
        self.lost(node, parent, name)

    def keep(self, node: Node) -> None:
        """Hold a file that may lose its last name: the kernel may still have it open."""
        if node.lookups and not node.is_dir:
            self.gate.pin(node)

    def lost(self, node: Node, parent: Node, name: str) -> None:
        """The name is gone.  A directory keeps what is open: it may be somebody's working one."""
        node.name_is_gone(parent, name)
        self.unused(node)

    def unused(self, node: Node) -> None:
        """Let go of a node that the kernel was never told of."""
        if not node.lookups and not node.handles:
            self.gate.drop(node)
            self.table.detach(node)
