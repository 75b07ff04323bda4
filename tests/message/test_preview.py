"""PREVIEW: what a reader would read first, from any message, and never for long."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.message import parse, preview
from sharefs.message.preview import LENGTH
from tests.message.corpus import BROKEN, WELL_FORMED
from tests.message.oracle import oracle


def shown(text: str, kind: str = "text/plain; charset=utf-8", more: str = "") -> str:
    head = f"MIME-Version: 1.0\nContent-Type: {kind}\n{more}\n"
    octets = (head + text).replace("\n", "\r\n").encode("utf-8", "surrogatepass")
    return preview(octets, parse(octets))


PLAIN = [
    ("words", "Hello\n\n  two   words\t\n", "Hello two words"),
    ("nothing", "\n \n", ""),
    ("signature", "hi\n-- \nBob\nhttp://example.org\n", "hi"),
    ("answer", "On Monday Bob wrote:\n> old\n> older\n\nNew.\n", "New."),
    ("folded-attribution", "Yes.\n\nAm Montag, 1. Mai, Bob <b@x>\nschrieb:\n> alt\n", "Yes."),
    ("quotation-alone", "> one\n>> two\n", "one two"),
    ("colon-without-quotation", "Dear all:\nread on\n", "Dear all: read on"),
    ("rules", "Title\n=====\n* * *\ntext\n-----\n", "Title text"),
    ("signed", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nhi\n", "hi"),
    ("encrypted", "-----BEGIN PGP MESSAGE-----\n\nhQEMA\n", ""),
    ("invisible", "\ufeffa\u200b\u200c \u00a0 b\u034f\u200c\u034f c", "a b c"),
    (
        "joiners-within-words",
        "\u0645\u06cc\u200c\u062e 👨\u200d👩",
        "\u0645\u06cc\u200c\u062e 👨\u200d👩",
    ),
    ("overrides", "\u202eevil\u202c \x07\x1b[31mred", "evil [31mred"),
]
HTML = [
    ("inline", "<p>Hi &amp; <b>bo</b>ld</p><p>there</p>", "Hi & bold there"),
    ("head", "<html><head><title>T</title><style>p{}</style></head><body>x</body>", "x"),
    ("head-unclosed", "<head><meta a=b><body>x", "x"),
    ("style-unclosed", "a<style>p{}", "a"),
    ("script", "<script>if (a<b) c</script>x<SCRIPT>y</Script >z", "x z"),
    ("comment", "a<!-- <b> -- > --><!---->b<!DOCTYPE x><!-- open", "ab"),
    ("less-than", "1 < 2 <3 a<b", "1 < 2 <3 a"),
    ("quotation", "<div>On x:</div><blockquote>old<blockquote>older</blockquote></blockquote>new",
     "On x: new"),
    ("quotation-alone", "<blockquote>old</blockquote>", "old"),
    ("table", "<table><tr><td>a</td><td>b</td></tr></table>", "a b"),
    ("break", "a<br>b<br/>c", "a b c"),
    ("entities", "&lt;b&gt; &auml;&#228;&nbsp;&zwnj;&nbsp; x", "<b> ää x"),
    ("preheader", "<div style='display:none'>Read</div>&#847;&zwnj;&nbsp;<p>me</p>", "Read me"),
    ("self-closed", "<svg/>x<title/>y", "x y"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), [r[1:] for r in PLAIN], ids=[r[0] for r in PLAIN])
def test_plain_text(text: str, want: str) -> None:
    assert shown(text) == want


@pytest.mark.parametrize(("text", "want"), [r[1:] for r in HTML], ids=[r[0] for r in HTML])
def test_html(text: str, want: str) -> None:
    assert shown(text, "text/html; charset=utf-8") == want


def multipart(subtype: str, *parts: str) -> str:
    text = "".join(f"--b\n{part}\n" for part in parts) + "--b--\n"
    return shown(text, f"multipart/{subtype}; boundary=b")


def test_the_part_that_a_reader_sees_first() -> None:
    plain, page = "Content-Type: text/plain\n\nplain", "Content-Type: text/html\n\n<p>page</p>"
    assert multipart("alternative", page, plain) == "plain"
    assert multipart("alternative", "Content-Type: text/plain\n\n \n", page) == "page"
    assert multipart("mixed", page, plain) == "page"
    attached = f"Content-Disposition: ATTACHMENT; filename=x\n{plain}"
    assert multipart("mixed", attached, page) == "page"
    assert multipart("mixed", attached) == ""
    assert multipart("mixed", "Content-Type: image/png\n\nAAAA", plain) == "plain"
    assert multipart("encrypted", plain, plain) == ""
    assert multipart("signed", plain, "Content-Type: application/pgp-signature\n\nx") == "plain"
    assert multipart("mixed", "Content-Type: text/calendar\n\nBEGIN:VCALENDAR") == ""
    assert multipart("mixed", f"Content-Type: message/rfc822\n\nSubject: x\n\n{plain}") == ""


def test_encodings_are_decoded() -> None:
    assert shown("R3LDvMOfZQ==\n", more="Content-Transfer-Encoding: base64\n") == "Grüße"
    assert (
        shown("Gr=C3=BC=\n=C3=9Fe", more="Content-Transfer-Encoding: quoted-printable\n") == "Grüße"
    )


def test_long_texts_are_cut_between_words() -> None:
    text = "word " * 20_000
    assert shown(text) == ("word " * (LENGTH // 5)).strip()
    assert shown("x" * 1000) == "x" * LENGTH
    assert shown("ä" * 20_000) == "ä" * LENGTH  # cut within a character before it is decoded


@given(st.text(max_size=400), st.sampled_from(["text/plain", "text/html", "text/x-other"]))
def test_it_is_always_one_short_line_of_text(text: str, kind: str) -> None:
    got = shown(text, kind)
    assert len(got) <= LENGTH
    assert got == got.strip()
    assert not any(character in got for character in "\0\r\n\t\x1b\u202e")


HOSTILE = {
    "open-tags": "<" * 2_000_000, "open-comments": "<!--" * 500_000, "tags": "<a" * 1_000_000,
    "styles": "<style>" * 30_000, "quotes": "<blockquote>" * 20_000,
    "closing": "</style" * 30_000, "entities": "&" * 200_000, "spaces": " " * 200_000,
    "quoted": ">\n" * 100_000, "invisible": "\u200b" * 60_000,
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
def test_hostile_texts_have_one_too(text: str, kind: str) -> None:
    """Quadratic, each of these would take minutes."""
    octets = f"Content-Type: {kind}\r\n\r\n{text}".encode()
    assert len(preview(octets, parse(octets))) <= LENGTH


def test_any_message_has_one() -> None:
    dice = random.Random(5)
    for octets in (*WELL_FORMED.values(), *BROKEN.values()):
        for _ in range(20):
            cut = octets[: dice.randint(0, len(octets))]
            assert len(preview(cut, parse(cut))) <= LENGTH


@pytest.mark.dovecot
@pytest.mark.superuser
def test_texts_without_subtleties_are_shown_as_by_dovecot() -> None:
    texts = ["Hello\r\nworld", "one", "a  b\r\n\r\n\tc", "h\u00e4", "", "> q\r\nown words"]
    head = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    messages = [(head + text).encode() for text in texts]
    with oracle(messages) as server:
        for number, octets in enumerate(messages, start=1):
            want = server.section(number, b"PREVIEW").decode()
            assert preview(octets, parse(octets)) == want
