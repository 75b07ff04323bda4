"""Makes Maildirs to measure on: the same messages for every server, from one seed."""

import os
import random
from pathlib import Path
from typing import Final

_WORDS: Final = tuple(
    [
        "agenda",
        "budget",
        "minutes",
        "draft",
        "meeting",
        "report",
        "invoice",
        "schedule",
        "proposal",
        "review",
        "contract",
        "travel",
        "server",
        "migration",
        "holiday",
        "training",
        "customer",
        "delivery",
        "warehouse",
        "office",
        "printer",
        "network",
    ]
)
_START: Final = 1_700_000_000  # INTERNALDATE of the first message; one arrives every minute


def make_message(number: int, dice: random.Random) -> bytes:
    """One message of a few kilobytes, every third with an attachment.  LF line ends."""
    subject = " ".join(dice.choices(_WORDS, k=4)).capitalize()
    text = "\n".join(" ".join(dice.choices(_WORDS, k=12)) for _ in range(dice.randint(5, 40)))
    header = (
        f"Return-Path: <sender{number % 97}@example.org>\n"
        f"Received: from mx.example.org by mail.example.com; Tue, 14 Nov 2023 22:13:20 +0000\n"
        f"From: Sender {number % 97} <sender{number % 97}@example.org>\n"
        f"To: Team <team@example.com>, bob@example.com\n"
        f"Subject: {subject}\n"
        f"Date: Tue, 14 Nov 2023 22:13:20 +0000\n"
        f"Message-ID: <{number}.bench@example.org>\n"
        "MIME-Version: 1.0\n"
    )
    if number % 3:
        return f"{header}Content-Type: text/plain; charset=utf-8\n\n{text}\n".encode()
    return (
        f'{header}Content-Type: multipart/mixed; boundary="b{number}"\n\n'
        f"--b{number}\nContent-Type: text/plain; charset=utf-8\n\n{text}\n"
        f"--b{number}\nContent-Type: application/octet-stream; name=data.bin\n"
        f"Content-Transfer-Encoding: base64\n\n{'QUJDREVGR0g=' * 60}\n--b{number}--\n"
    ).encode()


def make_maildir(root: Path, count: int, *, uid: int, gid: int, seed: int = 1) -> None:
    """A Maildir with count read messages in cur/, owned by uid, named as Dovecot names them."""
    dice = random.Random(seed)
    for name in ("", "cur", "new", "tmp"):
        (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(root / name, uid, gid)
    for number in range(count):
        octets = make_message(number, dice)
        when = _START + 60 * number
        virtual = len(octets) + octets.count(b"\n")
        name = f"{when}.M{number}P1.bench,S={len(octets)},W={virtual}:2,S"
        path = root / "cur" / name
        path.write_bytes(octets)
        os.chown(path, uid, gid)
        os.utime(path, (when, when))
