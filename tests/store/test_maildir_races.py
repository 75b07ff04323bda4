"""Two processes that change flags of the same messages: a conditional change is lost by one."""

import os
from contextlib import closing
from pathlib import Path

from sharefs.flags import FlagChange, FlagOp, FlagSet
from sharefs.store.maildir import MaildirConfig, MaildirMailbox, MaildirStorage
from tests.index.maildirs import fill

COUNT, ROUNDS = 40, 6
INBOX = ("INBOX",)


def marking(name: str) -> FlagChange:
    return FlagChange(FlagOp.REPLACE, FlagSet(keywords=frozenset({name})))


def opened(root: Path) -> MaildirMailbox:
    mailbox = MaildirStorage(MaildirConfig(root)).open(INBOX)
    mailbox.sync()
    return mailbox


def test_each_conditional_change_is_won_by_one(tmp_path: Path) -> None:
    """Both begin from the same look at the mailbox, and say what they won."""
    fill(tmp_path, [b"Subject: x\n\nhello\n"] * COUNT)
    with closing(opened(tmp_path)) as mailbox:
        uids = list(mailbox.uids())
        for name in ("one", "two"):  # both keywords have letters before anybody races for them
            mailbox.store_flags(uids, marking(name))
        for round_ in range(ROUNDS):
            mailbox.store_flags(uids, FlagChange(FlagOp.REPLACE, FlagSet()))
            start_read, start_write = os.pipe()
            children = []
            for name in ("one", "two"):
                told_read, told_write = os.pipe()
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        with closing(opened(tmp_path)) as own:
                            os.write(told_write, b"r")
                            os.read(start_read, 1)
                            order = uids if name == "one" else uids[::-1]
                            mine = own.store_flags(order, marking(name), unless_changed=True)
                            os.write(told_write, " ".join(map(str, mine)).encode() + b".")
                            status = 0
                    finally:
                        os._exit(status)
                os.close(told_write)
                children.append((name, child, told_read))
            for _, _, told in children:
                assert os.read(told, 1) == b"r"
            os.write(start_write, b"gg")
            won: dict[str, set[int]] = {}
            for name, child, told in children:
                said = b""
                while not said.endswith(b"."):
                    piece = os.read(told, 65536)
                    assert piece, f"{name} died in round {round_}"
                    said += piece
                won[name] = set(map(int, said[:-1].split()))
                os.close(told)
                assert os.waitpid(child, 0)[1] == 0
            os.close(start_read)
            os.close(start_write)
            assert not won["one"] & won["two"]
            assert won["one"] | won["two"] == set(uids)
            mailbox.sync()
            for name, some in won.items():
                assert {uid for uid in uids if name in mailbox.flags_of(uid).keywords} == some
