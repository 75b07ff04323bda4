"""The processes of the IMAP server: master, login, auth, spawner, worker.  Trio lives here."""
