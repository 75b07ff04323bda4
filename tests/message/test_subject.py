"""Base subjects (RFC 5256 section 2.1) and message identifiers (section 3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.message.decode import fold
from sharefs.message.identifiers import message_id, message_ids, references
from sharefs.message.subject import BaseSubject, base_subject

SUBJECTS = [  # subject, base, whether it was a reply or forward
    ("", "", False),
    ("hello", "HELLO", False),
    ("  hello\t\r\n  world ", "HELLO WORLD", False),
    ("Re: hello", "HELLO", True),
    ("RE :hello", "HELLO", True),
    ("re:re: Re: hello", "HELLO", True),
    ("Fw: a", "A", True),
    ("Fwd: a", "A", True),
    ("Forward: a", "FORWARD: A", False),
    ("Re[2]: a", "A", True),
    ("Re [2] : a", "A", True),
    ("Re[2][3]: a", "RE[2][3]: A", False),
    ("[list] a", "A", False),
    ("[list] Re: a", "A", True),
    ("[one] [two] Re: a", "A", True),
    ("[one] [two] a", "A", False),
    ("[one][two]", "[TWO]", False),
    ("[one]", "[ONE]", False),
    ("Re: [one]", "[ONE]", True),
    ("[one] Re:", "", True),
    ("[unclosed Re: a", "[UNCLOSED RE: A", False),
    ("[a[b] c", "[A[B] C", False),
    ("a (fwd)", "A", True),
    ("a (FWD) (fwd)  ", "A", True),
    ("(fwd)", "", True),
    ("(fwd) a", "(FWD) A", False),
    ("[Fwd: a]", "A", True),
    ("[fwd: Re: a (fwd)]", "A", True),
    ("[fwd: [fwd: a]]", "A", True),
    ("[list] [fwd: a]", "A", True),
    ("[fwd: a] b", "B", False),
    ("[fwd:]", "", True),
    ("[fwd: [list] a]", "A", True),
    ("Re: [fwd: a] (fwd)", "A", True),
    ("Re: ", "", True),
    ("Re", "RE", False),
    ("Rework: a", "REWORK: A", False),
    ("AW: Straße", "AW: STRAßE", False),
    ("Re: \N{FULLWIDTH LATIN SMALL LETTER A}\N{NO-BREAK SPACE} b", "A B", True),
]


@pytest.mark.parametrize(("subject", "base", "reply"), SUBJECTS, ids=[row[0] for row in SUBJECTS])
def test_base_subjects(subject: str, base: str, reply: bool) -> None:
    assert base_subject(subject) == BaseSubject(base, reply)


def plainly(subject: str) -> BaseSubject:
    """The RFC's steps word by word, with no thought of time."""
    text, reply = " ".join(fold(subject).replace("\t", " ").replace("\n", " ").split(" ")), False
    while "  " in text:
        text = text.replace("  ", " ")

    def blob(text: str) -> str:
        """What is left after a blob; the same if there is none."""
        end = text.find("]")
        if not text.startswith("[") or end < 0 or "[" in text[1:end]:
            return text
        return text[end + 1 :].lstrip(" ")

    def refwd(text: str) -> str:
        for word in ("RE", "FWD", "FW"):
            if text.startswith(word):
                rest = text.removeprefix(word).lstrip(" ")
                for one in (rest, blob(rest)):
                    if one.startswith(":"):
                        return one[1:]
        return text

    while True:
        while text.endswith((" ", "(FWD)")):
            reply |= not text.endswith(" ")
            text = text.removesuffix(" " if text.endswith(" ") else "(FWD)")
        while True:
            before = text
            text = text.lstrip(" ")
            inner = text
            while (rest := blob(inner)) != inner:
                inner = rest
            if refwd(inner) != inner:
                text, reply = refwd(inner), True
            elif blob(text):
                text = blob(text)
            if text == before:
                break
        if not (text.startswith("[FWD:") and text.endswith("]")):
            return BaseSubject(text, reply)
        text, reply = text[5:-1], True


PIECES = st.sampled_from(
    ["re", "fw", "fwd", ":", "[", "]", " ", "(fwd)", "[fwd:", "x", "[l]", "\t", "Re: ", "\u00e4"]
)


@given(st.lists(PIECES, max_size=16))
def test_any_subject_as_the_steps_say(pieces: list[str]) -> None:
    subject = "".join(pieces)
    assert base_subject(subject) == plainly(subject)


@pytest.mark.parametrize(
    "piece", ["re:", "[a]", "[fwd:", "(fwd)", "[", "re[", "re [a]", "]", "fwd[a]:[", " ", "[fwd: ["]
)
def test_long_subjects_take_no_long_time(piece: str) -> None:
    """Anything but linear would take minutes."""
    for subject in (piece * 100_000, piece * 100_000 + "]" * 100_000, piece * 100_000 + "x"):
        base_subject(subject)


IDS = [
    (b"<a@b>", [b"a@b"]),
    (b"<a@b><c@d>", [b"a@b", b"c@d"]),
    (b"<a@b>\n <c@d> junk <e@f>", [b"a@b", b"c@d", b"e@f"]),
    (b'<"a"@b>', [b"a@b"]),
    (b'<"a \\" b"@c>', [b'a " b@c']),
    (b"< a @ b >", [b"a@b"]),
    (b"<a@[1.2.3.4]>", [b"a@[1.2.3.4]"]),
    (b"<A@B>", [b"A@B"]),
    (b"a@b", []),
    (b"<a>", []),
    (b"<@b>", []),
    (b"<a@>", []),
    (b"<<a@b>>", [b"a@b"]),
    (b"<a@b@c>", []),
    (b"From alice on <Monday> <a@b>", [b"a@b"]),
    (b"<" * 100_000, []),
    (b'<"' * 100_000, []),
    (b"<a " * 100_000, []),
    (b"<" + b" " * 100_000, []),
    (b'<"' + b"\\" * 100_001, []),
]


@pytest.mark.parametrize(("value", "want"), IDS, ids=[repr(row[0][:40]) for row in IDS])
def test_message_ids(value: bytes, want: list[bytes]) -> None:
    assert message_ids(value) == want


def test_identifiers_of_a_header() -> None:
    header = b"In-Reply-To: <i@x> <j@x>\r\nMessage-ID: none\r\nmessage-id:\r\n <m@x>\r\n\r\n"
    assert message_id(header) == b"m@x"
    assert references(header) == [b"i@x"]
    assert references(b"References: <a@x>\r\n <b@x>\r\n" + header) == [b"a@x", b"b@x"]
    assert references(b"References: nothing valid\r\n" + header) == [b"i@x"]
    assert message_id(b"\r\n") == b""
    assert references(b"\r\n") == []
