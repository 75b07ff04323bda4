"""The mirror, whole: see `tree`."""

from pathlib import PurePosixPath

from sharefs.mount.acting_attributes import AttributeActions
from sharefs.mount.acting_files import FileActions
from sharefs.mount.acting_links import LinkActions
from sharefs.mount.dotlocks import DotLocks
from sharefs.mount.tree import Waiting


class Acting(FileActions, LinkActions, AttributeActions):
    """Everything that handlers ask of a tree."""


class Mirror(DotLocks, Acting):
    """One directory as it is, under the creation rules."""

    def __init__(
        self, root_fd: int, waiting: Waiting, *, roots: tuple[PurePosixPath, ...] = ()
    ) -> None:
        super().__init__(root_fd, waiting)
        self.roots = roots
