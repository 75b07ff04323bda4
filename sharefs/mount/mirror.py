"""The mirror, whole: see `tree`."""

import os
from dataclasses import replace
from pathlib import PurePosixPath

from sharefs.mount.acting_attributes import AttributeActions
from sharefs.mount.acting_files import FileActions
from sharefs.mount.acting_links import LinkActions
from sharefs.mount.caller import Caller
from sharefs.mount.devices import mount_id
from sharefs.mount.dotlocks import SUFFIX, DotLocks
from sharefs.mount.entries import Entry
from sharefs.mount.leave import Acts, Leave
from sharefs.mount.mount_table import mounts_below
from sharefs.mount.nodes import Node
from sharefs.mount.remembering import Remembering
from sharefs.mount.tree import Waiting


class Acting(FileActions, LinkActions, AttributeActions):
    """Everything that handlers ask of a tree."""


class Mirror(DotLocks, Remembering, Acting):
    """One directory as it is, under the creation rules.

    What the kernel is told is the same for every caller, and the kernel judges by it: so it may
    last, where `lasting` sees changes.
    """

    def __init__(
        self, root_fd: int, waiting: Waiting, *, roots: tuple[PurePosixPath, ...] = ()
    ) -> None:
        super().__init__(root_fd, waiting)
        self.roots = roots
        self.root_fd = root_fd

    def name_lasts(self, name: str) -> bool:
        # A lock may be one of another directory's (`dotlocks`), and is waited for.
        return not name.endswith(SUFFIX)

    def mounts(self, mountinfo: str) -> frozenset[str]:
        try:
            top = os.readlink(f"/proc/self/fd/{self.root_fd}")
        except OSError:
            top = ""
        return mounts_below(top, mount_id(self.root_fd), mountinfo)

    def leave(self, directory: Node, caller: Caller) -> Leave | None:
        leave = super().leave(directory, caller)
        if self._lasting is None or leave is None:
            return leave
        return replace(leave, acts=leave.acts | Acts.LASTS)

    def entry(self, node: Node, caller: Caller, status: os.stat_result | None = None) -> Entry:
        if self._lasting is None:
            return super().entry(node, caller, status)
        return self._lasting.attributes(node, status or self.gate.status(node))

    def asked(self, node: Node, caller: Caller) -> Entry:
        if self._lasting is None:
            return super().asked(node, caller)
        return self._lasting.asked(node, self.gate.status(node))
