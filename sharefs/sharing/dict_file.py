"""The text of Dovecot's dictionary files: two lines a key, both tab-escaped.  Pure.

Names may hold octets that are no UTF-8; they travel as lone surrogates (os.fsdecode).
"""

import re
from collections.abc import Mapping
from typing import Final

_ESCAPES: Final = {"\x01": "\x011", "\t": "\x01t", "\r": "\x01r", "\n": "\x01n", "\0": "\x010"}
_UNESCAPES: Final = {escape[1]: char for char, escape in _ESCAPES.items()}
_TO_ESCAPE: Final = re.compile("[\x01\t\r\n\0]")
_ESCAPED: Final = re.compile("\x01(.)", re.DOTALL)


def tab_escape(text: str) -> str:
    """Text without line ends, tabs and NUL."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPES[found[0]], text)


def tab_unescape(text: str) -> str:
    """The inverse; \\x01 before any other character gives that character."""
    return _ESCAPED.sub(lambda found: _UNESCAPES.get(found[1], found[1]), text)


def parse_dict(octets: bytes) -> dict[str, str]:
    """Every key and its value, in the order of the file.  A last key without a value is dropped.

    Never raises.  Of a key that stands there twice the last value counts.
    """
    lines = octets.decode("utf-8", "surrogateescape").split("\n")
    if lines[-1] == "":
        lines.pop()
    pairs = zip(lines[::2], lines[1::2], strict=False)
    return {tab_unescape(key): tab_unescape(value) for key, value in pairs}


def format_dict(items: Mapping[str, str]) -> bytes:
    lines = (f"{tab_escape(key)}\n{tab_escape(value)}\n" for key, value in items.items())
    return "".join(lines).encode("utf-8", "surrogateescape")
