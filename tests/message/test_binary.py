"""BINARY: what is decoded is what Dovecot decodes, and what is stored comes back octet by octet."""

import random
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sharefs.message import BadData, UnknownEncoding, decoded, encoded, parse
from sharefs.store.maildir.line_ends import with_crlf, without_crlf
from tests.message.corpus import WELL_FORMED
from tests.message.oracle import Oracle, oracle

HEADER = b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: "
DECODED = [  # id, encoding, body as it is stored, and decoded
    ("none", b"7bit", b"a\r\nb", b"a\r\nb"),
    ("binary", b"BINARY", b"\0\xff\r\n", b"\0\xff\r\n"),
    ("base64", b"base64", b"AAEC\r\nAw==\r\n", b"\0\1\2\3"),
    ("base64-unpadded", b"Base64 ", b"AAECAw", b"\0\1\2\3"),
    ("base64-nothing", b"base64", b"\r\n", b""),
    ("qp", b"quoted-printable", b"a=3D=\r\nb=C3=A4", b"a=b\xc3\xa4"),
    ("qp-padding", b"quoted-printable", b"a \t\r\nb =\t\r\nc ", b"a\r\nb c"),
]


@pytest.mark.parametrize(
    ("encoding", "body", "want"), [row[1:] for row in DECODED], ids=[row[0] for row in DECODED]
)
def test_a_body_is_decoded(encoding: bytes, body: bytes, want: bytes) -> None:
    octets = HEADER + encoding + b"\r\n\r\n" + body
    got = decoded(octets, parse(octets), (1,))
    assert got is not None
    assert got[0] == want
    assert got[1] is (encoding.strip().lower() in (b"base64", b"quoted-printable"))
    assert decoded(octets, parse(octets), (2,)) is None


def test_the_whole_message_says_that_it_is_decoded() -> None:
    octets = HEADER + b"base64\r\nSubject: x\r\n\r\naGk="
    want = b"MIME-Version: 1.0\r\nSubject: x\r\nContent-Transfer-Encoding: binary\r\n\r\nhi"
    assert decoded(octets, parse(octets), ()) == (want, True)


@pytest.mark.parametrize(
    ("encoding", "body", "error"),
    [(b"x-uuencode", b"x", UnknownEncoding), (b"base64", b"AA!A", BadData),
     (b"base64", b"AA=A", BadData)],
)  # fmt: skip
def test_what_cannot_be_decoded_is_refused(
    encoding: bytes, body: bytes, error: type[Exception]
) -> None:
    octets = HEADER + encoding + b"\r\n\r\n" + body
    for numbers in ((), (1,)):
        with pytest.raises(error):
            decoded(octets, parse(octets), numbers)


BODIES = st.binary(max_size=200).filter(lambda octets: b"--" not in octets)


@given(st.lists(BODIES, min_size=1, max_size=4))
@example([b"\n", b"\r\n\r\r\n\n", b"\0\r"])
def test_binary_bodies_survive_a_store_of_lines(bodies: list[bytes]) -> None:
    parts = b"".join(
        b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n%b\r\n" % body
        for body in bodies
    )
    octets = (
        HEADER + b"binary\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n"
        + parts + b"--b--\r\n"
    )  # fmt: skip
    stored = encoded(octets)
    assert with_crlf(without_crlf(stored)) == stored
    assert b"\0" not in stored
    assert b"binary" not in stored
    root = parse(stored)
    got = [decoded(stored, root, (number,)) for number in range(1, len(bodies) + 1)]
    assert got == [(body, bool(body)) for body in bodies]
    assert encoded(stored) is stored


@given(st.binary(max_size=300))
@example(b"MIME-Version: 1\nContent-Transfer-Encoding: binary\n\nline\n")
def test_what_declares_nothing_is_left_alone(octets: bytes) -> None:
    assert encoded(octets) is octets


SECTIONS = ["", "1", "2", "1.1", "1.2", "2.1", "1.1.1"]
_LEAVES = [  # encodings with bodies that they can have, or cannot
    b"\r\nplain\r\n", b"Content-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4\r\n",
    b"Content-Transfer-Encoding: base64\r\nX-After: y\r\n\r\naGVsbG8gd29y\r\nbGQ=\r\n",
    b"Content-Type: image/png\r\nContent-Transfer-Encoding: BASE64\r\n\r\n/+8=",
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nh=C3=A4 =\r\nx \t\r\n=3D",
    b"Content-Transfer-Encoding: base64\r\n\r\n", b"Content-Transfer-Encoding: base64\r\n\r\na!b",
    b"Content-Transfer-Encoding: uuencode\r\n\r\nbegin\r\n", b"\r\n",
]  # fmt: skip


def nested(dice: random.Random, depth: int = 0) -> bytes:
    """A header and a body, of which only leaves have encodings."""
    kind = dice.random()
    if depth > 2 or kind < 0.3:
        # Those that cannot be decoded are rarer, or hardly any message could be.
        return dice.choices(_LEAVES, weights=[4, 4, 4, 4, 4, 4, 1, 1, 4])[0]
    if kind < 0.5:
        return b"Content-Type: message/rfc822\r\n\r\nMIME-Version: 1.0\r\n" + nested(
            dice, depth + 1
        )
    parts = b"".join(
        b"--b%d\r\n%b\r\n" % (depth, nested(dice, depth + 1)) for _ in range(dice.randint(1, 3))
    )
    head = b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\npre\r\n' % depth
    return head + parts + b"--b%d--\r\nepilogue" % depth


def _theirs(server: Oracle, number: int, section: str) -> bytes | str:
    """BINARY.PEEK[section], or the response code of the refusal."""
    server.stream.write(f"x FETCH {number} BINARY.PEEK[{section}]\r\n".encode())
    server.stream.flush()
    octets = b""
    while True:
        line = server.stream.readline()
        assert line, "Dovecot hung up"
        if literal := re.search(rb"\{([0-9]+)\}\r\n\Z", line):
            octets = server.stream.read(int(literal[1]))
        elif line.startswith(b"x "):
            code = re.match(rb"x NO \[([A-Z-]+)\]", line)
            return code[1].decode() if code else octets


def _ours(octets: bytes, section: str) -> bytes | str:
    numbers = tuple(map(int, section.split("."))) if section else ()
    try:
        found = decoded(octets, parse(octets), numbers)
    except UnknownEncoding:
        return "UNKNOWN-CTE"
    except BadData:
        return "PARSE"
    return found[0] if found else b""


@pytest.mark.dovecot
@pytest.mark.superuser
def test_sections_are_decoded_as_by_dovecot() -> None:
    dice = random.Random(22)
    messages = [
        *WELL_FORMED.values(),
        *(b"MIME-Version: 1.0\r\n" + nested(dice) for _ in range(150)),
    ]
    with oracle(messages) as server:
        for number, octets in enumerate(messages, start=1):
            for section in SECTIONS:
                got, want = _ours(octets, section), _theirs(server, number, section)
                assert got == want, (section, octets)
