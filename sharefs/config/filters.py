"""The filters of `%{variable | filter(argument) | ...}`.  Pure.

Names and meaning: Dovecot 2.4, "Settings Variables".  A filter that gives octets (md5, sha1, ...)
may be followed by one that writes them out (hex, base64); left alone they are written in hex.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final


class BadTemplate(ValueError):
    """A template does not parse.  remedy: what to write instead."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Filter:
    name: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        quoted = (
            "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'" for text in self.arguments
        )
        return f"{self.name}({', '.join(quoted)})"


Data = str | bytes


def _text(data: Data) -> str:
    return data.hex() if isinstance(data, bytes) else data


def _octets(data: Data) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def _substr(data: Data, offset: str, length: str = "") -> Data:
    text = _text(data)
    start = max(len(text) + int(offset), 0) if offset.startswith("-") else int(offset)
    if not length:
        return text[start:]
    end = len(text) + int(length) if length.startswith("-") else start + int(length)
    return text[start : max(end, start)]


def _regexp(data: Data, pattern: str, replacement: str) -> Data:
    return re.sub(pattern, replacement, _text(data), count=1)


def _if(data: Data, operator: str, other: str, yes: str, no: str) -> Data:
    text = _text(data)
    tests: dict[str, Callable[[], bool]] = {
        "eq": lambda: text == other,
        "==": lambda: text == other,
        "ne": lambda: text != other,
        "!=": lambda: text != other,
        "=~": lambda: re.search(other, text) is not None,
        "!~": lambda: re.search(other, text) is None,
    }
    if operator not in tests:
        raise BadTemplate(f"`if` does not know {operator!r}", f"use one of {' '.join(tests)}")
    return yes if tests[operator]() else no


def _hash(data: Data, algorithm: str, rounds: str = "1", salt: str = "") -> Data:
    octets = _octets(data)
    for _ in range(min(max(int(rounds), 1), 100_000)):
        octets = hashlib.new(algorithm, salt.encode() + octets).digest()
    return octets


_HASHES: Final = ("md4", "md5", "sha1", "sha256", "sha384", "sha512", "sha3-256", "sha3-512")

# name -> (fewest arguments, most arguments, function)
_FILTERS: Final[dict[str, tuple[int, int, Callable[..., Data]]]] = {
    "lower": (0, 0, lambda data: _text(data).lower()),
    "upper": (0, 0, lambda data: _text(data).upper()),
    "trim": (0, 0, lambda data: _text(data).strip()),
    "ltrim": (0, 0, lambda data: _text(data).lstrip()),
    "rtrim": (0, 0, lambda data: _text(data).rstrip()),
    "reverse": (0, 0, lambda data: _text(data)[::-1]),
    "escape": (0, 0, lambda data: re.sub(r"([\\'\"])", r"\\\1", _text(data))),
    "username": (0, 0, lambda data: _text(data).partition("@")[0]),
    "domain": (0, 0, lambda data: _text(data).partition("@")[2]),
    "domain_first": (0, 0, lambda data: _text(data).partition("@")[2]),
    "domain_last": (0, 0, lambda data: _text(data).rpartition("@")[2] if "@" in data else ""),
    "default": (0, 1, lambda data, other="": data or other),
    "literal": (1, 1, lambda data, text: text),
    "concat": (1, 9, lambda data, *texts: _text(data) + "".join(texts)),
    "substr": (1, 2, _substr),
    "regexp": (2, 2, _regexp),
    "if": (4, 4, _if),
    "hex": (0, 1, lambda data, width="0": _octets(data).hex().rjust(int(width), "0")),
    "hexlify": (0, 1, lambda data, width="0": _octets(data).hex().rjust(int(width), "0")),
    "unhexlify": (0, 0, lambda data: bytes.fromhex(_text(data))),
    "base64": (0, 0, lambda data: base64.b64encode(_octets(data)).decode()),
    "unbase64": (0, 0, lambda data: base64.b64decode(_text(data))),
    "hash": (1, 3, _hash),
    "text": (0, 0, _text),
    **{
        name: (0, 2, lambda data, rounds="1", salt="", name=name: _hash(data, name, rounds, salt))
        for name in ("md5", "sha1", "sha256", "sha384", "sha512")
    },
}
_TOKEN: Final = re.compile(
    r"\s*(?:([a-z_][a-z0-9_]*)|'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|(-?[0-9]+)|([|(),=]))"
)


def parse_filters(text: str) -> tuple[Filter, ...]:
    """Parse what follows the first `|` of a variable.  Raises BadTemplate."""
    filters: list[Filter] = []
    for piece in _split(text):
        match = re.fullmatch(r"\s*([a-z_][a-z0-9_]*)\s*(?:\((.*)\))?\s*", piece, re.DOTALL)
        if match is None:
            raise BadTemplate(f"`{piece.strip()}` is no filter", "write it like %{user | lower}")
        name, arguments = match[1], _arguments(match[2] or "")
        if name not in _FILTERS:
            raise BadTemplate(f"there is no filter {name}", f"known: {', '.join(sorted(_FILTERS))}")
        fewest, most, _ = _FILTERS[name]
        if not fewest <= len(arguments) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise BadTemplate(
                f"filter {name} takes {wanted} arguments", f"`{piece.strip()}` has {len(arguments)}"
            )
        filters.append(Filter(name, arguments))
    return tuple(filters)


def _split(text: str) -> list[str]:
    """Cut at each | outside quotes."""
    ends = [*unquoted(text, "|"), len(text)]
    starts = [0, *(end + 1 for end in ends)]
    return [text[start:end] for start, end in zip(starts, ends, strict=False)]


def unquoted(text: str, wanted: str, at: int = 0) -> Iterator[int]:
    """Positions of a letter, from at on, that is in no quotes."""
    quote = ""
    while at < len(text):
        letter = text[at]
        if quote:
            if letter == "\\":
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter == wanted:
            yield at
        at += 1


def _arguments(text: str) -> tuple[str, ...]:
    """Positional and `name = value` arguments alike, in order."""
    arguments: list[str] = []
    at, pending = 0, False
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadTemplate(f"`{text}` is no list of arguments", "quote texts: default('x')")
        at = match.end()
        if match[5] == "=" and arguments:
            arguments.pop()  # it was the argument's name
        elif match[5] == ",":
            pending = True
        elif match[5] is None:
            quoted = match[2] if match[2] is not None else match[3]
            value = match[1] or match[4]
            arguments.append(re.sub(r"\\(.)", r"\1", quoted) if value is None else value)
            pending = False
        else:
            raise BadTemplate(f"`{text}` is no list of arguments", "quote texts: default('x')")
    if pending:
        raise BadTemplate(f"`{text}` ends in a comma", "remove it")
    return tuple(arguments)


def apply_filters(value: str, filters: tuple[Filter, ...]) -> str:
    """Raises BadTemplate if a filter cannot take this value."""
    data: Data = value
    for step in filters:
        try:
            data = _FILTERS[step.name][2](data, *step.arguments)
        except (ValueError, re.error, TypeError) as error:
            if isinstance(error, BadTemplate):
                raise
            raise BadTemplate(f"filter {step} cannot take {value!r}: {error}", "") from error
    return _text(data)
