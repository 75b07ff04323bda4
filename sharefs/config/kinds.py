"""How the text of a setting becomes a value: the setting types of Dovecot.  Pure.

Source: "Dovecot Settings Types" of 2.4.  A text that does not fit raises BadValue, which says
what to write instead.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

UNLIMITED: Final = 2**32 - 1  # what Dovecot's `unlimited` stands for, in seconds, octets, counts


class BadValue(ValueError):
    """The text is not a value of its type.  remedy: what to write instead."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A setting type.  is_list: the setting may be written as a block `name { item = yes }`.

    expands: %variables in it are replaced before it is used.  template: it has variables, which are
    replaced by whoever uses it, for each login anew.
    """

    name: str
    parse: Callable[[str], T]
    is_list: bool = False
    expands: bool = False
    template: bool = False


def _boolean(text: str) -> bool:
    word = text.lower()
    if word in ("yes", "y", "1", "true", "on"):
        return True
    if word in ("no", "n", "0", "false", "off"):
        return False
    raise BadValue(f"{text!r} is neither yes nor no", "write yes or no")


def _unsigned(text: str) -> int:
    if text.lower() == "unlimited":
        return UNLIMITED
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > UNLIMITED:
        raise BadValue(f"{text!r} is not a number", "write a number from 0 to 4294967295")
    return int(text)


def _octal(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{1,6}", text):
        raise BadValue(f"{text!r} is not an octal mode", "write it like 0660")
    return int(text, 8)


_SECONDS: Final = {
    "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
    "w": 604800, "week": 604800, "weeks": 604800,
}  # fmt: skip


def _duration(text: str) -> int:
    """Whole seconds.  Milliseconds are rounded up, so that a pause never becomes none."""
    if text.lower() in ("infinite", "unlimited"):
        return UNLIMITED
    match = re.fullmatch(r"([0-9]{1,10})\s*([a-z]*)", text.lower())
    if match is None:
        raise BadValue(f"{text!r} is not a time", "write it like 30s, 2 mins, 1 hour or 1d")
    number, unit = int(match[1]), match[2]
    if unit in ("ms", "msec", "msecs", "millisecond", "milliseconds"):
        return -(-number // 1000)
    if unit not in _SECONDS and (unit or number):
        remedy = f"write {number} secs or {number} mins"
        raise BadValue(f"{text!r} does not say which unit of time it is in", remedy)
    return min(number * _SECONDS.get(unit, 1), UNLIMITED)


_OCTETS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _size(text: str) -> int:
    if text.lower() == "unlimited":
        return UNLIMITED
    match = re.fullmatch(r"([0-9]{1,19})\s*(?:([kmgt])(?:i?b)?|b)?", text.lower())
    if match is None:
        raise BadValue(f"{text!r} is not a size", "write it like 64k, 10M or 1G")
    return int(match[1]) * _OCTETS[match[2] or ""]


def _string(text: str) -> str:
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.split(r"[\s,]+", text.strip()))) if text.strip(" ,\t") else ()


def choice(*allowed: str) -> Kind[str]:
    """One of a few words, compared without regard to case."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise BadValue(f"{text!r} is not known here", f"write {one_of(allowed)}")
        return text.lower()

    return Kind("one of " + "|".join(allowed), parse)


def words_of(*allowed: str) -> Kind[tuple[str, ...]]:
    """Any of a few words, in order."""

    def parse(text: str) -> tuple[str, ...]:
        words = tuple(word.lower() for word in _words(text))
        for word in words:
            if word not in allowed:
                raise BadValue(f"{word!r} is not known here", f"choose from {', '.join(allowed)}")
        return words

    return Kind("words", parse, is_list=True)


def one_of(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


BOOL: Final = Kind("boolean", _boolean)
UINT: Final = Kind("number", _unsigned)
OCTAL: Final = Kind("octal", _octal)
SECONDS: Final = Kind("time", _duration)
OCTETS: Final = Kind("size", _size)
STRING: Final = Kind("string", _string, expands=True)
LITERAL: Final = Kind("string", _string)  # has variables of its own, or none
TEMPLATE: Final = Kind("template", _string, template=True)
WORDS: Final = Kind("words", _words, is_list=True, expands=True)
