"""sharefs beside Dovecot: the same Maildirs, the same client, alternating, on one machine."""
