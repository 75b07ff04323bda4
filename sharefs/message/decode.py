"""Text out of octets: charsets, transfer encodings, encoded words.  Pure, never raises.

RFC 2045 section 6, RFC 2047.  What cannot be decoded becomes U+FFFD: a reader or a search does
better with most of a text than with none.
"""

import binascii
import codecs
import re
import unicodedata
from functools import lru_cache
from typing import Final

# Codecs of Python's that are no charsets of mail; some take quadratic time.
_NOT_CHARSETS: Final = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}
)
# What mail calls these holds more characters than the name says.
_SUPERSETS: Final = {
    "ascii": "utf-8",  # 8-bit under this name is UTF-8 nowadays
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
# What mail is written in, but for what every Python has at hand.
_LOADED_EARLY: Final = (
    *_SUPERSETS,
    "ascii", "utf-7", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "koi8-r", "koi8-u", "gb18030",
    "big5", "big5hkscs", "euc-jp", "cp932", "cp949", "iso-2022-jp", "iso-2022-kr", "hz", "tis-620",
    *(f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
    *(f"cp{page}" for page in (437, 850, 852, 866, 874, *range(1250, 1259))),
)  # fmt: skip
_ENCODED_WORD: Final = re.compile(rb"=\?([^?*\s]{1,64})(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)
_FOLD: Final = re.compile(r"[ \t\r\n]+")


def load_charsets() -> None:
    """Load the usual ones now: for processes that fork, and become users who may not be able to
    read Python's own files."""
    for name in _LOADED_EARLY:
        _codec(name)


@lru_cache(maxsize=256)
def _codec(charset: str) -> str | None:
    try:
        name = codecs.lookup(charset).name
        b"x".decode(name, "replace")
    except UnicodeError:
        pass  # a codec that knows no "replace", and for which this is half a character
    except (LookupError, ValueError):  # unknown, or a codec that makes no text
        return None
    return None if name in _NOT_CHARSETS else _SUPERSETS.get(name, name)


def decode_charset(octets: bytes, charset: bytes | None) -> str:
    """Octets as text.  Unknown charsets and None are taken for UTF-8."""
    codec = _codec(charset.decode("latin-1")) if charset else "utf-8"
    try:
        return octets.decode(codec or "utf-8", "replace")
    except (ValueError, LookupError):  # codecs that know no "replace"
        return octets.decode("utf-8", "replace")


def decode_base64(octets: bytes) -> bytes:
    """Decode what is there: foreign octets and missing or extra padding do no harm."""
    clean = octets.translate(None, _NOT_BASE64)
    clean = clean[: len(clean) - (len(clean) % 4 == 1)]
    return binascii.a2b_base64(clean + b"=" * (-len(clean) % 4))


def decode_transfer(octets: bytes, encoding: bytes | None) -> bytes:
    """Undo a Content-Transfer-Encoding.  Unknown ones are left alone."""
    match (encoding or b"").lower():
        case b"quoted-printable":
            return binascii.a2b_qp(octets)
        case b"base64":
            return decode_base64(octets)
    return octets


def decode_words(value: bytes) -> str:
    """A header value with its encoded words decoded and its folds undone.

    White space runs become one space.  Neighbouring words of one charset are joined before they
    are decoded, because many programs split characters between words.
    """
    if b"=?" not in value:
        return _unfold(value.decode("utf-8", "replace"))
    pieces: list[str] = []
    charset = None
    pending: list[bytes] = []  # decoded octets in charset
    at = 0
    for found in _ENCODED_WORD.finditer(value):
        between = value[at : found.start()]
        adjacent = at > 0 and not between.strip()
        if not (adjacent and charset == found[1].lower()):
            pieces.append(decode_charset(b"".join(pending), charset))
            pending.clear()
        if not adjacent:
            pieces.append(decode_charset(between, None))
        charset = found[1].lower()
        encoded = found[3]
        if found[2] in b"qQ":
            pending.append(binascii.a2b_qp(encoded, header=True))
        else:
            pending.append(decode_base64(encoded))
        at = found.end()
    pieces.append(decode_charset(b"".join(pending), charset))
    pieces.append(decode_charset(value[at:], None))
    return _unfold("".join(pieces))


def _unfold(text: str) -> str:
    if "  " not in text and text.isprintable():  # so it has none of the others
        return text.strip(" ")
    return _FOLD.sub(" ", text).strip(" ")


class _Casemap(dict[int, str]):
    """What each code point is compared as, learned as they come."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        title = character.title()
        # Those that become several have no simple title case, which is what counts.
        text = unicodedata.normalize("NFKD", title if len(title) == 1 else character)
        if len(self) >= _CASEMAP_LIMIT:
            self.clear()
        self[code] = text
        return text


_CASEMAP_LIMIT: Final = 20_000  # characters; more than any language uses
_CASEMAP: Final = _Casemap()


def fold(text: str) -> str:
    """The form in which texts are compared: i;unicode-casemap (RFC 5051 section 2).

    In title case, each character decomposed as far as can be.  Compared octet by octet in UTF-8
    it is also the order of that collation.
    """
    return text.upper() if text.isascii() else text.translate(_CASEMAP)
