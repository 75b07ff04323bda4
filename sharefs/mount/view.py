"""The view, whole: see `view_tree`."""

from sharefs.mount.copies import Copies
from sharefs.mount.tree import Waiting
from sharefs.mount.view_acl import AclChanges
from sharefs.mount.view_boxes import MailboxChanges
from sharefs.mount.view_control import ControlFiles
from sharefs.mount.view_lasting import LastingView
from sharefs.mount.viewers import Viewers


class View(LastingView, AclChanges, MailboxChanges, ControlFiles):
    """To each caller his own tree of mailboxes."""

    def __init__(self, viewers: Viewers, copies: Copies, root_fd: int, waiting: Waiting) -> None:
        super().__init__(viewers, root_fd, waiting)
        self.all_copies = copies
