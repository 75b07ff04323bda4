"""The MIME fields of one header: type, parameters, encoding, disposition, language.  Pure.

RFC 2045, RFC 2183, RFC 2231 (continuations are joined, percent-encoding is left to the client).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sharefs.message.header import by_name
from sharefs.message.rfc822 import Malformed, Tokens

Parameters = tuple[tuple[bytes, bytes], ...]

_NAMES: Final = (
    b"mime-version", b"content-type", b"content-transfer-encoding", b"content-id",
    b"content-description", b"content-md5", b"content-disposition", b"content-language",
    b"content-location",
)  # fmt: skip
_CONTINUED: Final = re.compile(rb"([^*]*)\*([0-9]{0,9})\*?\Z")
_SHORT: Final = 1 << 13  # octets; headers whose fields may be remembered
_BROKEN_VALUE: Final = re.compile(rb"[^; \t\r\n]*")


@dataclass(frozen=True, slots=True)
class MimeFields:
    """What a header says about its body.  None: the field is missing.  Case as written.

    declared: there is a MIME-Version or a Content-Type, so the rest may be believed.
    content_type None with declared: no Content-Type; a type without subtype has subtype None.
    """

    declared: bool = False
    content_type: bytes | None = None
    subtype: bytes | None = None
    parameters: Parameters = ()
    encoding: bytes | None = None
    content_id: bytes | None = None
    description: bytes | None = None
    md5: bytes | None = None
    disposition: bytes | None = None
    disposition_parameters: Parameters = ()
    languages: tuple[bytes, ...] = ()
    location: bytes | None = None


NOTHING: Final = MimeFields()


def mime_fields(header: bytes) -> MimeFields:
    """Read the MIME fields of a header.  Of repeated fields the first counts."""
    found = by_name(header)
    written = tuple(found[name][0] if name in found else None for name in _NAMES)
    if written.count(None) == len(_NAMES):
        return NOTHING
    return _known(*written) if len(header) <= _SHORT else _read(*written)


def _read(
    version: bytes | None,
    written_type: bytes | None,
    encoding: bytes | None,
    content_id: bytes | None,
    description: bytes | None,
    md5: bytes | None,
    written_disposition: bytes | None,
    language: bytes | None,
    location: bytes | None,
) -> MimeFields:
    kind = subtype = None
    parameters: Parameters = ()
    if written_type is not None:
        kind, subtype, parameters = content_type(written_type)
    disposition, disposition_parameters = _disposition(written_disposition)
    return MimeFields(
        version is not None or written_type is not None,
        kind,
        subtype,
        parameters,
        _encoding(encoding),
        content_id,
        description,
        md5,
        disposition,
        disposition_parameters,
        _languages(language),
        location,
    )


_known = lru_cache(maxsize=128)(_read)  # a mailbox has few different ones


@lru_cache(maxsize=1024)  # a mailbox has few different ones, but for boundaries
def content_type(text: bytes) -> tuple[bytes, bytes | None, Parameters]:
    """(type, subtype or None, parameters) of a Content-Type value, as well as can be read."""
    tokens = Tokens(text)
    kind = b""
    try:
        tokens.skip_space()
        kind = tokens.mime_token()
        if not tokens.next_is(b"/"):
            return kind, None, ()
        tokens.at += 1
        tokens.skip_space()
        if tokens.at_end():
            return kind, None, ()
        subtype = tokens.mime_token()
    except Malformed:
        return kind, None, ()
    return kind, subtype, read_parameters(tokens)


@lru_cache(maxsize=64)
def _encoding(text: bytes | None) -> bytes | None:
    if text is None:
        return None
    tokens = Tokens(text)
    try:
        tokens.skip_space()
        encoding = tokens.mime_token()
    except Malformed:
        return None
    return encoding if encoding and tokens.at_end() else None


@lru_cache(maxsize=256)
def _disposition(text: bytes | None) -> tuple[bytes | None, Parameters]:
    if text is None:
        return None, ()
    tokens = Tokens(text)
    try:
        tokens.skip_space()
        disposition = tokens.mime_token()
    except Malformed:
        return b"", ()
    return disposition, read_parameters(tokens)


def _languages(text: bytes | None) -> tuple[bytes, ...]:
    if text is None:
        return ()
    tokens = Tokens(text)
    languages = []
    try:
        tokens.skip_space()
        while True:
            languages.append(tokens.atom())
            if not tokens.next_is(b","):
                break
            tokens.at += 1
            tokens.skip_space()
    except Malformed:
        pass
    return tuple(languages)


def read_parameters(tokens: Tokens) -> Parameters:
    """*(";" attribute "=" value), with the continuations of RFC 2231 section 3 joined.

    What cannot be read is passed over octet by octet until the next ";".
    """
    plain: list[tuple[bytes, bytes]] = []
    continued: list[_Piece] = []
    while not tokens.at_end():
        try:
            name, value = _parameter(tokens)
        except Malformed:
            # The next octet that can begin a parameter, or the end.
            semicolon = tokens.text.find(b";", tokens.at + 1)
            tokens.at = len(tokens.text) if semicolon < 0 else semicolon
            continue
        piece = _CONTINUED.match(name)
        if piece is None:
            plain.append((name, value))
        else:
            number = int(piece[2] or 0)
            continued.append(_Piece(piece[1], number, name.endswith(b"*"), value))
    return (*plain, *_joined(continued))


def _parameter(tokens: Tokens) -> tuple[bytes, bytes]:
    if not tokens.next_is(b";"):
        raise Malformed
    tokens.at += 1
    tokens.skip_space()
    if tokens.at_end():
        raise Malformed
    name = tokens.mime_token()
    if not tokens.next_is(b"="):
        raise Malformed
    tokens.at += 1
    tokens.skip_space()
    if tokens.next_is(b'"'):
        return name, tokens.quoted_string()
    if tokens.next_is(b"="):
        # name==?utf-8?b?...?= is not legal, and common.
        found = _BROKEN_VALUE.match(tokens.text, tokens.at)
        assert found is not None
        tokens.at = found.end()
        return name, found[0]
    return name, tokens.mime_token()


@dataclass(frozen=True, slots=True)
class _Piece:
    name: bytes
    number: int
    extended: bool  # percent-encoded: name*0*
    value: bytes


def _joined(pieces: list[_Piece]) -> list[tuple[bytes, bytes]]:
    groups: dict[bytes, list[_Piece]] = {}
    for piece in sorted(pieces, key=lambda piece: (piece.name, piece.number)):
        groups.setdefault(piece.name.lower(), []).append(piece)
    result: list[tuple[bytes, bytes]] = []
    for group in groups.values():
        group.sort(key=lambda piece: piece.number)  # names may differ in case
        if [piece.number for piece in group] != list(range(len(group))):
            # A piece is missing: show the client what there is.
            for piece in group:
                star = b"*" if piece.extended else b""
                result.append((b"%b*%d%b" % (piece.name, piece.number, star), piece.value))
            continue
        name = group[0].name
        if not any(piece.extended for piece in group):
            result.append((name, b"".join(piece.value for piece in group)))
            continue
        value = b"" if group[0].extended else b"''"
        value += b"".join(
            piece.value if piece.extended else piece.value.replace(b"%", b"%25") for piece in group
        )
        result.append((name + b"*", value))
    return result
