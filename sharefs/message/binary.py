"""BINARY[...] of a message: parts without their Content-Transfer-Encoding.  RFC 3516.  Pure.

decoded() takes the encodings off, for FETCH; encoded() puts one on, for APPEND: a body that comes
as "binary" may hold line ends that no file of text lines keeps apart, base64 does.
"""

import binascii
import re
from collections.abc import Iterator
from typing import Final

from sharefs.message.decode import decode_base64
from sharefs.message.parser import Part, parse
from sharefs.message.search import walk
from sharefs.message.section import find_part

_PLAIN: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})
_KNOWN: Final = _PLAIN | {b"base64", b"quoted-printable"}
_FIELD: Final = re.compile(
    rb"^Content-Transfer-Encoding[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)",
    re.MULTILINE | re.IGNORECASE,
)
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/\s]")
# RFC 2045 section 6.7, rule 3: put there on the way.
_PADDING: Final = re.compile(rb"(?<![ \t])[ \t]++(?=\r\n|\Z)")
_LINE: Final = 57  # octets that base64 makes a line of 76 of


class UnknownEncoding(ValueError):
    """A part has a Content-Transfer-Encoding that nobody here can take off."""


class BadData(ValueError):
    """A part does not hold what its Content-Transfer-Encoding says."""


def decoded(octets: bytes, root: Part, numbers: tuple[int, ...]) -> tuple[bytes, bool] | None:
    """A section without its encodings, and whether there were any; None if there is no such part.

    octets: the message that root was parsed from.  numbers: of the part, none for the whole
    message.  In a section that has parts itself each of those is decoded, and its header says
    "binary".  Raises UnknownEncoding, BadData.
    """
    part = find_part(root, numbers)
    if part is None:
        return None
    leaves = [leaf for leaf in walk(part) if not leaf.children]
    for leaf in leaves:
        if _encoding(leaf) not in _KNOWN:
            raise UnknownEncoding(_encoding(leaf).decode("ascii", "replace"))
    found = b"".join(_whole(octets, part) if not numbers else _body(octets, part))
    if any(_is_encoded(leaf) and leaf.size for leaf in leaves):
        return found, True
    # Nothing to decode: then not even a header is changed, as in Dovecot.
    return octets[part.body_start if numbers else part.start : part.end], False


def _whole(octets: bytes, part: Part) -> Iterator[bytes]:
    header = octets[part.start : part.body_start]
    yield _with_encoding(header, b"binary") if _is_encoded(part) else header
    yield from _body(octets, part)


def _body(octets: bytes, part: Part) -> Iterator[bytes]:
    at = part.body_start
    for child in part.children:
        yield octets[at : child.start]
        yield from _whole(octets, child)
        at = child.end
    rest = octets[at : part.end]
    yield rest if part.children else _decoded(rest, _encoding(part))


def _encoding(part: Part) -> bytes:
    return (part.mime.encoding or b"").strip().lower()


def _is_encoded(part: Part) -> bool:
    return not part.children and _encoding(part) in (b"base64", b"quoted-printable")


def _decoded(octets: bytes, encoding: bytes) -> bytes:
    if encoding in _PLAIN:
        return octets
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(_PADDING.sub(b"", octets))
    data = octets.rstrip(b"= \t\r\n")
    if found := _NOT_BASE64.search(data):
        raise BadData(f"base64 cannot hold {found[0]!r}")
    return decode_base64(data)


def _with_encoding(header: bytes, encoding: bytes) -> bytes:
    """The header with another Content-Transfer-Encoding, at its end."""
    rest = _FIELD.sub(b"", header)
    lines = rest.removesuffix(b"\r\n") if rest.endswith(b"\r\n\r\n") or rest == b"\r\n" else rest
    if lines and not lines.endswith(b"\n"):
        lines += b"\r\n"
    return lines + b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n"


def encoded(octets: bytes) -> bytes:
    """The message with every body that is declared "binary" in base64 instead.

    The same object if there is none.  What encloses such bodies becomes "8bit".
    """
    root = parse(octets)
    if not any(_is_binary(part) for part in walk(root)):
        return octets
    return b"".join(_without_binary(octets, root))


def _is_binary(part: Part) -> bool:
    # Without its empty line a header cannot be told from a body.
    ended = part.header == b"\r\n" or part.header.endswith(b"\r\n\r\n")
    return ended and _encoding(part) == b"binary"


def _without_binary(octets: bytes, part: Part) -> Iterator[bytes]:
    header = octets[part.start : part.body_start]
    binary = _is_binary(part)
    if binary:
        header = _with_encoding(header, b"8bit" if part.children else b"base64")
    yield header
    at = part.body_start
    for child in part.children:
        yield octets[at : child.start]
        yield from _without_binary(octets, child)
        at = child.end
    rest = octets[at : part.end]
    yield _base64(rest) if binary and not part.children else rest


def _base64(octets: bytes) -> bytes:
    lines = (
        binascii.b2a_base64(octets[at : at + _LINE], newline=False)
        for at in range(0, len(octets), _LINE)
    )
    return b"\r\n".join(lines)
