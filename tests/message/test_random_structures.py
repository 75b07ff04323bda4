"""Random nests of parts, whose boundaries clash, miss or end early, described as by Dovecot."""

import random

import pytest

from sharefs.message import Spec, bodystructure, parse, section
from tests.message.oracle import oracle

pytestmark = [pytest.mark.dovecot, pytest.mark.superuser]

SEED = 20
COUNT = 300

FIELDS = [
    b"X-A: b\r\n", b"Content-ID: <1@x>\r\n", b"Content-Description: d  e\r\n f\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Subject: s\r\n", b"From: a@b\r\n",
    b"Content-Disposition: attachment; filename=a\r\n",
]  # fmt: skip
LEAVES = [b"", b"Content-Type: text/html; charset=utf-8\r\n", b"Content-Type: image/png\r\n"]
LINES = [b"x\r\n", b"\r\n", b"-- \r\n", b"y", b"--zz\r\n"]
PARTS = ["1", "2", "1.1", "1.2", "2.1", "1.1.1", "2.2", "1.1.2"]


def structure(dice: random.Random, depth: int = 0) -> bytes:
    fields = b"".join(dice.choices(FIELDS, k=dice.randint(0, 2)))
    kind = dice.random()
    if depth > 3 or kind < 0.4:
        lines = dice.choices(LINES, k=dice.randint(0, 3))
        return fields + dice.choice(LEAVES) + b"\r\n" + b"".join(lines)
    if kind < 0.55:
        return fields + b"Content-Type: message/rfc822\r\n\r\n" + structure(dice, depth + 1)
    boundary = dice.choice([b"b", b"bb", b"c", b"d%d" % depth, b"e%d" % dice.randint(0, 9)])
    subtype = dice.choice([b"mixed", b"digest", b"alternative"])
    text = b'%bContent-Type: multipart/%b; boundary="%b"\r\n\r\n' % (fields, subtype, boundary)
    text += dice.choice([b"", b"preamble\r\n"])
    for _ in range(dice.randint(0, 3)):
        end = dice.choice([b"\r\n", b"\r\n", b"\r\n", b""])
        text += b"--" + boundary + b"\r\n" + structure(dice, depth + 1) + end
    ends = [b"--%b--\r\n", b"--%b--", b"--%b--\r\nepilogue\r\n", b"--%b\r\n"]
    return text + dice.choice([*(end % boundary for end in ends), b""])


def test_random_structures_are_dovecots() -> None:
    dice = random.Random(SEED)
    messages = [b"MIME-Version: 1.0\r\n" + structure(dice) for _ in range(COUNT)]
    with oracle(messages) as server:
        for number, octets in enumerate(messages, start=1):
            part = parse(octets)
            assert bodystructure(part) == server.fetch(number, b"BODYSTRUCTURE"), octets
            for text in PARTS:
                numbers = tuple(map(int, text.split(".")))
                for name in ("", "MIME"):
                    item = ".".join(filter(None, (text, name)))
                    want = server.section(number, f"BODY.PEEK[{item}]".encode())
                    got = section(octets, part, Spec(numbers, name)) or b""
                    assert got == want, (item, octets)
