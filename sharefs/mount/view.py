"""The view, whole: see `view_tree`."""

from pathlib import Path

from sharefs.mount.tree import Waiting
from sharefs.mount.view_acl import AclChanges
from sharefs.mount.view_boxes import MailboxChanges
from sharefs.mount.view_control import ControlFiles
from sharefs.mount.viewers import Viewers


class View(AclChanges, MailboxChanges, ControlFiles):
    """To each caller his own tree of mailboxes."""

    def __init__(self, viewers: Viewers, state: Path, root_fd: int, waiting: Waiting) -> None:
        super().__init__(viewers, root_fd, waiting)
        self.state = state
