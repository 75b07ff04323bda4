"""The sharing model and its tools: many Unix users, one set of mailboxes.  Usable without IMAP."""

__version__ = "0.1.0"
