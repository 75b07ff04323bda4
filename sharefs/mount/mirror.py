"""The mirror, whole: see `tree`."""

import os
from dataclasses import replace
from pathlib import PurePosixPath

from sharefs.mount.acting_attributes import AttributeActions
from sharefs.mount.acting_files import FileActions
from sharefs.mount.acting_links import LinkActions
from sharefs.mount.caller import Caller
from sharefs.mount.dotlocks import SUFFIX, DotLocks
from sharefs.mount.entries import Entry
from sharefs.mount.lasting import LONG, SOON, Lasting
from sharefs.mount.leave import Acts, Leave, Tell
from sharefs.mount.nodes import Node
from sharefs.mount.tree import Waiting


class Acting(FileActions, LinkActions, AttributeActions):
    """Everything that handlers ask of a tree."""


class Mirror(DotLocks, Acting):
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
        self._lasting: Lasting | None = None

    def remember(self, lasting: Lasting) -> None:
        """From now on."""
        self._lasting = lasting
        self.table.let_go = lasting.gone

    def leave(self, directory: Node, caller: Caller) -> Leave | None:
        leave = super().leave(directory, caller)
        if self._lasting is None or leave is None:
            return leave
        return replace(leave, acts=leave.acts | Acts.LASTS)

    def rules_of_lasting(self) -> tuple[Tell, float, float] | None:
        return None if self._lasting is None else (self._lasting.tell, LONG, SOON)

    def entry(self, node: Node, caller: Caller, status: os.stat_result | None = None) -> Entry:
        if self._lasting is None:
            return super().entry(node, caller, status)
        return self._lasting.attributes(node, status or self.gate.status(node))

    def found(
        self, parent: Node, name: str, node: Node, status: os.stat_result | None, caller: Caller,
        *, listed: bool = False,
    ) -> Entry:  # fmt: skip
        # A lock may be one of another directory's (`dotlocks`), and is waited for.
        if self._lasting is None or status is None or name.endswith(SUFFIX):
            return super().found(parent, name, node, status, caller)
        return self._lasting.found(parent, name, node, status, listed=listed)

    def asked(self, node: Node, caller: Caller) -> Entry:
        if self._lasting is None:
            return super().asked(node, caller)
        return self._lasting.asked(node, self.gate.status(node))

    def missing(self, parent: Node, name: str, caller: Caller) -> float:
        if self._lasting is None or name.endswith(SUFFIX):
            return 0.0
        return self._lasting.missing(parent, name)

    def status(self) -> bytes:
        if self._lasting is None:
            return super().status()
        lines = (f"{name} {number}\n" for name, number in self._lasting.numbers().items())
        return super().status() + "".join(lines).encode()
