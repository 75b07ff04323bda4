"""Makes Maildirs to measure on: the same messages for every server, from one seed.

Like real mail in what servers feel: words as frequent as in a language, threads, several senders,
dates that go on, a part with an attachment.  Quick enough for half a million messages.
"""

import datetime
import functools
import os
import random
from pathlib import Path
from typing import Final

_OFFICE: Final = """
    agenda budget minutes draft meeting report invoice schedule proposal review contract travel
    server migration holiday training customer delivery warehouse office printer network
"""
_START: Final = 1_700_000_000  # INTERNALDATE of the first message; one arrives every minute
UIDVALIDITY: Final = _START
RARE: Final = "zeppelin"  # a word in the texts of about one message of a hundred
ABSENT: Final = "quixotry"  # and one in none
_ATTACHED: Final = "\n".join(["QUJDREVGR0g=" * 6] * 10)
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_PARAGRAPHS: Final = 2000
_RARE_PARAGRAPHS: Final = 4


@functools.cache
def _words() -> tuple[list[str], list[float]]:
    """Words and how often each comes, added up: the n-th a share of 1/n."""
    dice = random.Random(5)
    starts, vowels = "b c d f g h j k l m n p r s t v w st tr pl ch", "aeiou"
    words = _OFFICE.split()
    while len(words) < 4000:
        syllables = dice.choices((1, 2, 3, 4), (5, 10, 6, 2))[0]
        word = "".join(dice.choice(starts.split()) + dice.choice(vowels) for _ in range(syllables))
        words.append(word + dice.choice(("", "n", "s", "t", "r")))
    total, shares = 0.0, []
    for rank in range(len(words)):
        total += 1 / (rank + 5)
        shares.append(total)
    return words, shares


@functools.cache
def _paragraphs() -> tuple[str, ...]:
    words, shares = _words()
    dice = random.Random(7)
    made = []
    for number in range(_PARAGRAPHS):
        chosen = dice.choices(words, cum_weights=shares, k=dice.randint(15, 110))
        if number < _RARE_PARAGRAPHS:
            chosen[3] = RARE
        lines = [" ".join(chosen[at : at + 11]) for at in range(0, len(chosen), 11)]
        made.append("\n".join(lines).capitalize() + ".\n")
    return tuple(made)


def _day(when: int) -> str:
    """RFC 5322 date, without asking the locale."""
    days, seconds = divmod(when - 1_699_920_000, 86400)  # since Tuesday, 14 November 2023
    weekday = ("Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon")[days % 7]
    year, month, day = _civil(days)
    time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{weekday}, {day} {month} {year} {time} +0000"


@functools.cache
def _civil(days: int) -> tuple[int, str, int]:
    day = datetime.date(2023, 11, 14) + datetime.timedelta(days=days)
    return day.year, _MONTHS.split()[day.month - 1], day.day


def make_message(number: int, dice: random.Random) -> bytes:
    """One message of a few kilobytes, every third with an attachment.  LF line ends."""
    words, shares = _words()
    sender = int(97 * dice.random() ** 2)
    subject = " ".join(dice.choices(words, cum_weights=shares, k=4)).capitalize()
    text = "\n".join(dice.choices(_paragraphs(), k=dice.randint(1, 8)))
    date = _day(_START + 60 * number)
    header = (
        f"Return-Path: <sender{sender}@example.org>\n"
        f"Received: from mx.example.org (mx.example.org [192.0.2.1])\n"
        f"\tby mail.example.com with ESMTPS id {number:x}\n\tfor <bob@example.com>; {date}\n"
        f"From: Sender {sender} <sender{sender}@example.org>\n"
        f"To: Team <team@example.com>, bob@example.com\n"
    )
    if number > 20 and dice.random() < 0.6:
        parent = number - dice.randint(1, 20)
        header += f"In-Reply-To: <{parent}.bench@example.org>\n"
        header += f"References: <{parent}.bench@example.org>\n"
        subject = f"Re: {subject}"
    header += (
        f"Subject: {subject}\nDate: {date}\nMessage-ID: <{number}.bench@example.org>\n"
        "MIME-Version: 1.0\n"
    )
    if number % 3:
        return f"{header}Content-Type: text/plain; charset=utf-8\n\n{text}\n".encode()
    return (
        f'{header}Content-Type: multipart/mixed; boundary="b{number}"\n\n'
        f"--b{number}\nContent-Type: text/plain; charset=utf-8\n\n{text}\n"
        f"--b{number}\nContent-Type: application/octet-stream; name=data.bin\n"
        f"Content-Transfer-Encoding: base64\n\n{_ATTACHED}\n--b{number}--\n"
    ).encode()


def make_maildir(root: Path, count: int, *, uid: int, gid: int, seed: int = 1) -> None:
    """A Maildir with count messages in cur/, owned by uid, named and numbered as by Dovecot.

    Nine of ten are read, one of twenty is flagged.
    """
    dice = random.Random(seed)
    for name in ("", "cur", "new", "tmp"):
        (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(root / name, uid, gid)
    records = [f"3 V{UIDVALIDITY} N{count + 1} G{seed:08x}{count:024x}\n"]
    cur = os.open(root / "cur", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(count):
            octets = make_message(number, dice)
            when = _START + 60 * number
            virtual = len(octets) + octets.count(b"\n")
            base = f"{when}.M{number}P1.bench,S={len(octets)},W={virtual}"
            flags = ("F" if number % 20 == 7 else "") + ("S" if number % 10 else "")
            fd = os.open(
                f"{base}:2,{flags}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=cur
            )
            os.write(fd, octets)
            os.fchown(fd, uid, gid)
            os.utime(fd, (when, when))
            os.close(fd)
            records.append(f"{number + 1} :{base}\n")
    finally:
        os.close(cur)
    listed = root / "dovecot-uidlist"
    listed.write_text("".join(records))
    listed.chmod(0o600)
    os.chown(listed, uid, gid)
