"""A viewer's own \\Seen for shared and public mailboxes, kept where Dovecot keeps it.

records, index_file, state: Dovecot's formats and what they say, pure.  files: reading and
appending them.  overlay: a Mailbox with its \\Seen replaced.  moving: renamed and deleted ones.
"""

from sharefs.store.private_seen.moving import discard, follow_rename
from sharefs.store.private_seen.overlay import overlay

__all__ = ["discard", "follow_rename", "overlay"]
