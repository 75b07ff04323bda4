"""All handlers of the file system."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from sharefs.mount.attr_ops import AttributeOperations
from sharefs.mount.base import Answer, Body, Handler, Octets
from sharefs.mount.caller import Caller
from sharefs.mount.directory_ops import DirectoryOperations
from sharefs.mount.file_ops import FileOperations
from sharefs.mount.handles import Handles
from sharefs.mount.link_ops import LinkOperations
from sharefs.mount.lock_ops import LockOperations
from sharefs.mount.locks import Locks
from sharefs.mount.protocol import FH_IN, Opcode
from sharefs.mount.questions import NotYet
from sharefs.mount.view import View
from sharefs.mount.waiting import Pause
from sharefs.mount.xattr_ops import ExtendedOperations

Waiting = Coroutine[Pause[Any], Any, Octets]

# Those that ask for no rights.
_NOT_ASKING: Final = frozenset(
    {
        Opcode.FORGET,
        Opcode.BATCH_FORGET,
        Opcode.RELEASE,
        Opcode.RELEASEDIR,
        Opcode.FSYNCDIR,
        Opcode.GETLK,
        Opcode.SETLK,
        Opcode.SETLKW,
    }
)
# Those whose asker is who opened the file: READ and WRITE may come from anybody's read-ahead.
_BY_HANDLE: Final = frozenset(
    {Opcode.READ, Opcode.WRITE, Opcode.FLUSH, Opcode.FSYNC, Opcode.READDIRPLUS, Opcode.FALLOCATE,
     Opcode.LSEEK}
)  # fmt: skip
# What the session answers itself.
_NOT_HERE: Final = frozenset({Opcode.INIT, Opcode.INTERRUPT, Opcode.DESTROY})
_LOCKS: Final = frozenset({Opcode.GETLK, Opcode.SETLK, Opcode.SETLKW})


class Operations(
    AttributeOperations, DirectoryOperations, FileOperations, LinkOperations, ExtendedOperations,
    LockOperations,
):  # fmt: skip
    """Handlers by theme, one module each; they translate and call the tree."""

    def handlers(self) -> dict[int, Handler]:
        """By opcode.  The method of LOOKUP is called lookup, and so on."""
        return {
            int(opcode): getattr(self, opcode.name.lower())
            for opcode in Opcode
            if opcode not in _NOT_HERE and (self.locks is not None or opcode not in _LOCKS)
        }

    def close(self) -> None:
        """After the mount has ended: let go of everything."""
        if self.locks is not None:
            self.locks.close()
        self.handles.close_all()
        self.tree.close()


class PatientOperations(Operations):
    """The view's: who asks what takes long to know waits for it, and nobody else.

    A handler raises NotYet before it has changed anything, and is called again.
    """

    tree: View

    def __init__(self, tree: View, handles: Handles, *, locks: Locks | None = None) -> None:
        super().__init__(tree, handles, locks=locks)

    def start(self) -> None:
        super().start()
        self.tree.viewers.start()

    def handlers(self) -> dict[int, Handler]:
        return {
            opcode: handler if opcode in _NOT_ASKING else self._patient(handler, opcode)
            for opcode, handler in super().handlers().items()
        }

    def _patient(self, handler: Handler, opcode: int) -> Handler:
        by_handle = opcode in _BY_HANDLE

        def answer(ino: int, caller: Caller, body: Body) -> Answer:
            asker = self.handles[FH_IN.unpack_from(body)[0]].caller if by_handle else caller
            try:
                found = handler(ino, caller, body)
            except NotYet as question:
                kept = memoryview(bytes(body))
                return self._again(question, asker, lambda: handler(ino, caller, kept))
            if isinstance(found, Coroutine):
                kept = memoryview(bytes(body))
                return self._finish(found, asker, lambda: handler(ino, caller, kept))
            return found

        return answer

    async def _finish(self, begun: Waiting, asker: Caller, begin: Callable[[], Answer]) -> Octets:
        try:
            return await begun
        except NotYet as question:
            return await self._again(question, asker, begin)

    async def _again(self, question: NotYet, asker: Caller, begin: Callable[[], Answer]) -> Octets:
        while True:
            await self.tree.wait(question, asker.uid)
            try:
                found = begin()
                if isinstance(found, Coroutine):
                    found = await found
            except NotYet as another:
                question = another
                continue
            assert found is not None, "forgetting asks for no rights"
            return found
