"""All handlers of the file system."""

import functools
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar, cast

import pyfuse3

from sharefs.mount.attr_ops import AttributeOperations
from sharefs.mount.directory_ops import DirectoryOperations
from sharefs.mount.errnos import answering
from sharefs.mount.file_ops import FileOperations
from sharefs.mount.handles import Handles
from sharefs.mount.link_ops import LinkOperations
from sharefs.mount.questions import NotYet
from sharefs.mount.view import View
from sharefs.mount.xattr_ops import ExtendedOperations

P = ParamSpec("P")
T = TypeVar("T")

# Those that ask for rights: all but forget, release, releasedir, fsync, fsyncdir.
_ASKING: Final = (
    "access", "create", "flush", "getattr", "getxattr", "link", "listxattr", "lookup", "mkdir",
    "mknod", "open", "opendir", "read", "readdir", "readlink", "removexattr", "rename", "rmdir",
    "setattr", "setxattr", "statfs", "symlink", "unlink", "write",
)  # fmt: skip


class Operations(
    AttributeOperations, DirectoryOperations, FileOperations, LinkOperations, ExtendedOperations
):
    """Handlers by theme, one module each; they translate and call the tree."""

    def close(self) -> None:
        """After the mount has ended: let go of everything."""
        self.handles.close_all()
        self.tree.close()


class PatientOperations(Operations):
    """The view's: who asks what takes long to know waits for it, and nobody else.

    A handler raises NotYet before it has changed anything, and is called again.
    """

    tree: View

    def __init__(self, tree: View, handles: Handles) -> None:
        super().__init__(tree, handles)
        for name in _ASKING:
            setattr(self, name, self._patient(getattr(self, name)))

    def init(self) -> None:
        self.tree.viewers.start()

    def _patient(self, handler: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @functools.wraps(handler)
        async def answer(*arguments: P.args, **keywords: P.kwargs) -> T:
            while True:
                try:
                    return await handler(*arguments, **keywords)
                except NotYet as question:
                    with answering:
                        await self.tree.wait(question, self._asker(arguments))

        return answer

    def _asker(self, arguments: tuple[object, ...]) -> int:
        """The uid of a request: its context's, or that of the handle, which comes first then."""
        if isinstance(arguments[-1], pyfuse3.RequestContext):
            return int(arguments[-1].uid)
        return self.handles[cast(int, arguments[0])].caller.uid
