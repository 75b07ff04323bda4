"""The query index: what clients ask of messages, kept ready in SQLite.  Derived, private to a uid.

The Maildir stays the truth: an index that disagrees with it is set aside and built again, and a
message that is not indexed is read instead.  See docs/index.md.
"""

from sharefs.index.mailbox_index import MailboxIndex
from sharefs.index.modseqs import Modseqs
from sharefs.index.place import drop, follow_rename
from sharefs.index.rows import Column
from sharefs.index.shelf import Shelf
from sharefs.index.status import Status

__all__ = ["Column", "MailboxIndex", "Modseqs", "Shelf", "Status", "drop", "follow_rename"]
