"""The compiled part of the mount, if it was built: answers the common requests where it has leave.

It is an extension module in C (`compiled/`), over the same nodes and handles as the handlers in
Python.  It decides nothing (`leave`): what it has no leave for, what is not as expected, and what
fails (but for LOOKUP) it hands over before anything was changed.  So
without it everything is the same, but slower.
"""

import logging
import os
import stat
from typing import TYPE_CHECKING, Final

from sharefs.errors import Code, SharingError
from sharefs.mount.base import Base
from sharefs.mount.caller import Caller
from sharefs.mount.handles import Handle
from sharefs.mount.leave import Acts, KnownName, Leave
from sharefs.mount.nodes import Node
from sharefs.mount.protocol import FH_IN, RENAME2_IN, RENAME_IN, Opcode
from sharefs.mount.questions import NotYet
from sharefs.mount.turn import Turn
from sharefs.permissions.inherit import Facts

if TYPE_CHECKING:
    from sharefs.mount._engine import Engine

log: Final = logging.getLogger(__name__)

CHOICE: Final = "SHAREFS_MOUNT_ENGINE"  # in the environment: python, compiled, or nothing: either

_ABOUT_DIRECTORY: Final = frozenset({int(Opcode.UNLINK), int(Opcode.LINK)})
_RENAMES: Final = {int(Opcode.RENAME): RENAME_IN, int(Opcode.RENAME2): RENAME2_IN}
_ABOUT_NODE: Final = frozenset(
    {int(Opcode.GETATTR), int(Opcode.SETATTR), int(Opcode.GETXATTR), int(Opcode.OPEN)}
)
_ABOUT_HANDLE: Final = frozenset({int(Opcode.READ), int(Opcode.WRITE)})


def is_there() -> bool:
    """Whether it was built."""
    try:
        import sharefs.mount._engine  # noqa: F401
    except ImportError:
        return False
    return True


def wanted() -> bool:
    """Whether to use it.  Raises SharingError(UNAVAILABLE) if it must be there and is not."""
    choice = os.environ.get(CHOICE, "")
    if choice == "python":
        return False
    if choice == "compiled" and not is_there():
        raise SharingError(
            Code.UNAVAILABLE, f"{CHOICE}=compiled, but the compiled part was not built; install"
            " gcc and python3-dev, and then sharefs again",
        )  # fmt: skip
    return is_there()


class Compiled:
    """One for a session: gives the engine what it works with, and leave."""

    def __init__(self, fd: int, operations: Base, turn: Turn, callers: dict[bytes, Caller]) -> None:
        from sharefs.mount import _engine

        self._operations = operations
        self._tree = operations.tree
        table, handles = operations.table, operations.handles
        self.engine: Engine = _engine.Engine(
            fd, turn.acquire, turn.release,
            table.by_number, table.by_identity, table.slots, callers, handles.by_number,
            Node, table.node_at, table.forget, operations.gate.drop, operations.gate.hold,
            self._tree.lost,
            Handle, handles.demand_room, handles.add, operations.let_go,
        )  # fmt: skip
        self._tree.on_revoke(self.engine.revoke)
        self._tree.answered_without_asking = lambda: self.engine.answered

    def offer(self, opcode: int, ino: int, caller: Caller, body: memoryview) -> None:
        """After Python has answered a request: may the engine answer the next like it?"""
        try:
            if opcode == Opcode.LOOKUP:
                self._offer_names(ino, caller, body)
            elif opcode == Opcode.CREATE:
                directory = self._operations.node(ino)
                self._offer(directory, self._tree.leave(directory, caller))
                self._offer_making(directory, caller)
            elif opcode in _ABOUT_DIRECTORY:
                directory = self._operations.node(ino)
                self._offer(directory, self._tree.leave(directory, caller))
            elif opcode in _RENAMES:
                for number in {ino, _RENAMES[opcode].unpack_from(body)[0]}:
                    directory = self._operations.node(number)
                    self._offer(directory, self._tree.leave(directory, caller))
            elif opcode in _ABOUT_NODE:
                self._offer_directory_of(self._operations.node(ino), caller)
            elif opcode in _ABOUT_HANDLE:
                handle = self._operations.handles[FH_IN.unpack_from(body)[0]]
                self._offer_directory_of(handle.node, handle.caller)
            elif opcode == Opcode.READDIRPLUS:
                handle = self._operations.handles[FH_IN.unpack_from(body)[0]]
                self._offer(handle.node, self._tree.leave(handle.node, handle.caller))
        except (NotYet, OSError, SharingError, KeyError):
            return  # then not: whoever asks next is answered by Python, which says why

    def _offer_names(self, ino: int, caller: Caller, body: memoryview) -> None:
        directory = self._operations.node(ino)
        leave = self._tree.leave(directory, caller)
        if leave is not None:
            self._offer(directory, leave)
            return
        name = bytes(body[:-1])
        known = self._tree.known_name(directory, os.fsdecode(name), caller)
        if known is not None:
            self._tell(directory, name, known)

    def _offer_making(self, directory: Node, caller: Caller) -> None:
        making = self._tree.making(directory, caller)
        place, owned = making.place, making.owned
        self.engine.make(
            directory, making.above, caller.uid, caller.gid, _numbers(place.holder),
            _numbers(place.source), (owned.uid, owned.gid, owned.mode),
        )  # fmt: skip

    def _offer_directory_of(self, node: Node, caller: Caller) -> None:
        if node.is_dir:
            self._offer(node, self._tree.leave(node, caller))
            return
        parent, _ = next(reversed(node.names), (None, ""))
        if parent is not None:
            self._offer(parent, self._tree.leave(parent, caller))

    def _offer(self, directory: Node, leave: Leave | None) -> None:
        if leave is not None:
            if leave.acts & Acts.LASTS and self.engine.tell is None:
                rules = self._tree.rules_of_lasting()
                assert rules is not None
                self.engine.tell, self.engine.long, self.engine.soon = rules
            acts = leave.acts
            if self._operations.locks is None:
                acts |= Acts.UNLOCKED
            self.engine.allow(
                directory, leave.uid, leave.until, acts, leave.hidden,
                leave.entry_timeout, leave.attr_timeout,
            )  # fmt: skip

    def _tell(self, directory: Node, name: bytes, known: KnownName) -> None:
        self.engine.know(
            directory, name, known.node, known.uid, known.until, known.hidden,
            known.entry_timeout, known.attr_timeout,
        )  # fmt: skip


def _numbers(facts: Facts) -> tuple[int, int, int]:
    return stat.S_IMODE(facts.mode), facts.uid, facts.gid
