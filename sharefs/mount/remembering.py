"""Trees whose answers the kernel may remember for long, where `lasting` sees changes below."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable

from sharefs.mount.caller import Caller
from sharefs.mount.entries import Entry
from sharefs.mount.lasting import LONG, SOON, Lasting
from sharefs.mount.leave import Tell
from sharefs.mount.nodes import Node
from sharefs.mount.tree import Tree


class Remembering(Tree, ABC):
    """See the module.

    ours: the events that count although they are of our own doing (fanotify.Mask).
    """

    ours = 0
    _lasting: Lasting | None = None
    _wake: Callable[[], object] | None = None

    def remember(self, lasting: Lasting, wake: Callable[[], object] | None = None) -> None:
        """From now on.  wake: called when needs_checks has become true, until wake_nobody()."""
        self._lasting = lasting
        self._wake = wake
        self.table.let_go = lasting.gone

    def wake_nobody(self) -> None:
        """Whoever was to be woken has gone."""
        self._wake = None

    def lasting_in(self, directory: Node, caller: Caller) -> Lasting | None:
        """What knows how long answers to this caller last that are about names in a directory, and
        about attributes of what has them; None: no longer than others."""
        return self._lasting

    def name_lasts(self, name: str) -> bool:
        """Whether a name means what the directory below says."""
        return True

    @abstractmethod
    def mounts(self, mountinfo: str) -> frozenset[str]:
        """Lines of proc(5)'s mountinfo about mounts that change what a name means here."""

    def check(self) -> bool:
        """Take back what lasts for other reasons than events.  Whether there is more to check.

        It is called every `watching.CHECK` seconds while needs_checks.
        """
        return False

    @property
    def needs_checks(self) -> bool:
        return False

    def rules_of_lasting(self) -> tuple[Tell, float, float] | None:
        return None if self._lasting is None else (self._lasting.tell, LONG, SOON)

    def found(
        self, parent: Node, name: str, node: Node, status: os.stat_result | None, caller: Caller,
        *, listed: bool = False,
    ) -> Entry:  # fmt: skip
        lasting = self.lasting_in(parent, caller)
        if lasting is None or status is None or not self.name_lasts(name):
            return super().found(parent, name, node, status, caller)
        return lasting.found(parent, name, node, status, listed=listed)

    def missing(self, parent: Node, name: str, caller: Caller) -> float:
        lasting = self.lasting_in(parent, caller)
        if lasting is None or not self.name_lasts(name):
            return 0.0
        return lasting.missing(parent, name)

    def status(self) -> bytes:
        if self._lasting is None:
            return super().status()
        lines = (f"{name} {number}\n" for name, number in self._lasting.numbers().items())
        return super().status() + "".join(lines).encode()
