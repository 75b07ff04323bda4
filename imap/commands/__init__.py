"""IMAP commands: what each does, and a table (`table.py`) of the states in which each is legal."""
