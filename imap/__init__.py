"""An IMAP server on top of sharefs: each user's mail is served under that user's own uid."""
