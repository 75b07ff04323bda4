"""A viewer with a \\Seen of his own, for recording: does what he is told and says when it is done.

Run as `python -m tests.powercut.viewer MAILDIR PRIVATE FSYNC DESCRIPTOR`.
"""

import socket
import sys
from pathlib import Path

from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from sharefs.store.maildir.config import Fsync
from sharefs.store.private_seen import overlay

SEEN = FlagSet(System.SEEN)


def main(root: str, private: str, setting: str, descriptor: int) -> None:
    fsync = Fsync(setting)
    with socket.socket(fileno=descriptor) as told:
        shared = MaildirStorage(MaildirConfig(Path(root), fsync=fsync)).open(("INBOX",))
        mailbox = overlay(shared, Path(private), public=False, fsync=fsync)
        mailbox.sync()
        told.send(b"ready")
        told.recv(100)
        mailbox.store_flags([1, 2], FlagChange(FlagOp.ADD, SEEN))
        told.send(b"one")
        mailbox.store_flags([2], FlagChange(FlagOp.REMOVE, SEEN))
        told.send(b"two")
        with mailbox.saver() as saver:
            saver.begin(SEEN, None)
            saver.write(b"Subject: mine\n\n")
            saver.finish()
            saver.commit()
        told.send(b"three")
        told.recv(100)
        mailbox.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
