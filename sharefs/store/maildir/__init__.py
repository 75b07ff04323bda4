"""Maildir: one file for each message, flags in its name, UIDs in a list beside it."""

from sharefs.store.maildir.config import Fsync, MaildirConfig
from sharefs.store.maildir.mailbox import MaildirMailbox
from sharefs.store.maildir.storage import MaildirStorage

__all__ = ["Fsync", "MaildirConfig", "MaildirMailbox", "MaildirStorage"]
