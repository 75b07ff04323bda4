"""The view, whole: see `view_tree`."""

from sharefs.mount.view_acl import AclChanges
from sharefs.mount.view_boxes import MailboxChanges


class View(AclChanges, MailboxChanges):
    """To each caller his own tree of mailboxes."""
