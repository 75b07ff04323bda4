"""Mailboxes on disk: one interface, and one package for each storage format."""
