"""Header fields: finding them by name, and their raw values.  Pure.

A header here is octets with CRLF line ends, with or without the empty line at its end.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}".encode()

# A field's lines: the first, and those after it that begin with white space (RFC 5322 2.2.3).
_LINES: Final = rb"[^\n]*(?:\n[ \t][^\n]*)*"
_FIELD: Final = re.compile(rb"^([^:\n]*):(" + _LINES + rb")", re.MULTILINE)


_SHORT: Final = 1 << 16  # octets; headers that may be remembered


def fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, value) of each field in order.  Names as written; values as value() returns them.

    A line without a colon is no field.
    """
    return iter(_fields(header) if len(header) <= _SHORT else _read_fields(header))


def _read_fields(header: bytes) -> list[tuple[bytes, bytes]]:
    return [(name.rstrip(b" \t"), unfold_raw(raw)) for name, raw in _FIELD.findall(header)]


def _read_by_name(header: bytes) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields(header):
        found.setdefault(name.lower(), []).append(value)
    return found


# Who asks for one field of a header asks for more, so those of the last message are remembered.
_fields = lru_cache(maxsize=16)(_read_fields)
_by_name = lru_cache(maxsize=16)(_read_by_name)


def unfold_raw(raw: bytes) -> bytes:
    """What stands after the colon, as Dovecot reads it.

    CRs at line ends go, the LFs of folds stay (they matter inside quoted strings), white space
    after the colon goes; of a value that is nothing but white space only one octet goes.  NUL,
    which no IMAP string can carry, becomes U+FFFD.
    """
    if b"\0" in raw:
        raw = raw.replace(b"\0", REPLACEMENT)
    if raw.endswith(b"\r"):
        raw = raw[:-1]
    if b"\r\n" not in raw:
        return raw.lstrip(b" \t") or raw[1:]
    first, _, rest = raw.partition(b"\r\n")
    first = first.lstrip(b" \t") or first[1:]
    return first + b"\n" + rest.replace(b"\r\n", b"\n")


@lru_cache(maxsize=256)
def _named(names: frozenset[bytes]) -> re.Pattern[bytes]:
    """Whole fields with one of these upper-case names, their line ends included."""
    choice = b"|".join(sorted(re.escape(name) for name in names)) or rb"(?!)"
    return re.compile(
        rb"^(?:" + choice + rb")[ \t]*:" + _LINES + rb"\n?", re.MULTILINE | re.IGNORECASE
    )


def header_fields(header: bytes, names: Iterable[bytes], inverted: bool = False) -> bytes:
    """BODY[HEADER.FIELDS (names)] of a header, or HEADER.FIELDS.NOT if inverted.

    The fields as they are, in their order, and the empty line at the end (RFC 3501 6.4.5); when
    inverted, only if the header has one, as in Dovecot.  names: in any case.
    One pass in C, so fit for many messages.
    """
    return field_picker(names, inverted)(header)


def field_picker(names: Iterable[bytes], inverted: bool = False) -> Callable[[bytes], bytes]:
    """header_fields() for these names, to be called with many headers."""
    pattern = _named(frozenset(name.upper() for name in names))
    find_all = pattern.findall

    def pick(header: bytes) -> bytes:
        text = b"".join(find_all(header))
        if text and not text.endswith(b"\n"):
            text = text.removesuffix(b"\r") + b"\r\n"
        return text + b"\r\n"

    return partial(pattern.sub, b"") if inverted else pick


def values(header: bytes, name: bytes) -> list[bytes]:
    """The raw values of every field of that name, in order, as unfold_raw() returns them."""
    return list(by_name(header).get(name.lower(), ()))


def by_name(header: bytes) -> Mapping[bytes, Sequence[bytes]]:
    """The values of all fields, as values() returns them, by name in lower case."""
    return _by_name(header) if len(header) <= _SHORT else _read_by_name(header)
