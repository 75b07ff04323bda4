"""`dovecot-uidlist`: which UID each message of a Maildir has.  Octets to values and back.  Pure.

Version 3: a header `3 V<uidvalidity> N<next uid> G<guid> ...` and one line for each message,
`<uid>[ <LETTER><value>]... :<base>`.  Version 1 (Courier's) is read.  Fields that we do not know
are kept.  Fifty thousand lines must parse in milliseconds, so a list without oddities is taken
apart by a few calls into C, and only one with oddities line by line.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import lt
from typing import Final

FILE_NAME: Final = "dovecot-uidlist"
VERSION: Final = 3
MAX_UID: Final = 2**32 - 2

_RECORD: Final = re.compile(r"([1-9]\d{0,9})((?: [A-Z][^ ]*)*) :([^/\0\r]+)", re.ASCII)
_RECORD_1: Final = re.compile(r"([1-9]\d{0,9})() ([^/\0\r ]+)", re.ASCII)
_LEADING_UID: Final = re.compile(r"([1-9]\d{0,9}) ", re.ASCII)
_GUID: Final = re.compile(r"[0-9a-f]{32}")


class BrokenHeader(ValueError):
    """The header line says nothing that can be used.  str() tells what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line.  next_uid may be too low: appending records does not rewrite it.

    guid: 32 hex digits; None: not there yet.  fields: all others, verbatim and in order.
    """

    uidvalidity: int
    next_uid: int
    guid: str | None = None
    fields: tuple[str, ...] = ()
    version: int = VERSION

    @classmethod
    def parse(cls, line: str) -> "Header":
        """Raises BrokenHeader."""
        version, _, rest = line.partition(" ")
        if version == "3":
            return cls._parse_3(rest.split(" "))
        numbers = rest.split(" ")
        if version == "1" and len(numbers) == 2:
            return cls(_number(numbers[0]), _number(numbers[1]), version=1)
        raise BrokenHeader(f"unknown version in {line[:40]!r}")

    @classmethod
    def _parse_3(cls, words: list[str]) -> "Header":
        header = cls(0, 0)
        for word in words:
            match word[:1], word[1:]:
                case "V", value:
                    header = replace(header, uidvalidity=_number(value))
                case "N", value:
                    header = replace(header, next_uid=_number(value))
                case "G", value if _GUID.fullmatch(value):
                    header = replace(header, guid=value)
                case "", _:
                    pass
                case _:
                    header = replace(header, fields=(*header.fields, word))
        if not header.uidvalidity or not header.next_uid:
            raise BrokenHeader("no UIDVALIDITY or no next UID")
        return header

    def format(self) -> str:
        """Always version 3."""
        guid = () if self.guid is None else (f"G{self.guid}",)
        words = (str(VERSION), f"V{self.uidvalidity}", f"N{self.next_uid}", *guid, *self.fields)
        return " ".join(words) + "\n"


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not 0 < int(text) < 2**32:
        raise BrokenHeader(f"{text[:20]!r} is not a number from 1 to 4294967295")
    return int(text)


FileKey = tuple[int, int, int, int]  # device, inode, size, mtime in ns


@dataclass(frozen=True, slots=True)
class ListMark:
    """Up to where a list was read, for another process that goes on there.

    key: of the file, and changed its ctime in ns.  header: the first line.  consumed: octets.
    probe, probe_at: some of the last of them.  highest: the highest UID that any record begins
    with.
    """

    key: FileKey
    changed: int
    header: str
    consumed: int
    probe: bytes
    probe_at: int
    highest: int


@dataclass(slots=True)
class Records:
    """Lines of a list, in its order.

    extras: record fields by UID, as written (" S123 W130"), of those lines that have some.
    faults: what is wrong, one sentence for each broken line.  highest: the highest UID that any
    line begins with, broken ones included, so that none is given out twice.
    """

    uids: list[int] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)
    extras: dict[int, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    highest: int = 0


def parse_records(text: str, *, after: int = 0, version: int = VERSION) -> Records:
    """Read whole lines.  after: the last UID of what came before; UIDs must grow from there."""
    if not text:
        return Records(highest=after)
    if version == VERSION and (records := _parse_plain(text, after)):
        return records
    return _parse_lines(text, after, version)


def _parse_plain(text: str, after: int) -> Records | None:
    """The quick way: None if any line is out of the ordinary."""
    lines = text.count("\n")
    if text.count(" :") != lines or text.count(":") != lines or not text.endswith("\n"):
        return None
    if "/" in text or "\0" in text or "\r" in text:
        return None
    words = text.replace("\n", " :").split(" :")
    words.pop()
    heads, bases = words[0::2], words[1::2]
    digits = "".join(heads)
    if not digits.isascii() or not digits.isdigit() or "" in heads or "" in bases:
        return None
    uids = list(map(int, heads))
    if uids[-1] > MAX_UID or not all(map(lt, chain((after,), uids), uids)):
        return None
    return Records(uids, bases, highest=uids[-1])


def _parse_lines(text: str, after: int, version: int) -> Records:
    pattern = _RECORD if version == VERSION else _RECORD_1
    records = Records(highest=after)
    last = after
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        match = pattern.fullmatch(line)
        if not match or int(match[1]) > MAX_UID:
            records.faults.append(f"record {number} is broken: {line[:80]!r}")
            if (found := _LEADING_UID.match(line)) and int(found[1]) <= MAX_UID:
                records.highest = max(records.highest, int(found[1]))
            continue
        uid = int(match[1])
        records.highest = max(records.highest, uid)
        base = match[3].partition(":")[0]
        if uid <= last or not base:
            records.faults.append(f"record {number}: UID {uid} does not follow {last}")
            continue
        last = uid
        records.uids.append(uid)
        records.bases.append(base)
        if match[2]:
            records.extras[uid] = match[2]
    return records


def format_records(records: Iterable[tuple[int, str]], extras: Mapping[int, str]) -> str:
    """Lines for (uid, base) pairs, which are given in ascending order."""
    if not extras:
        return "".join([f"{uid} :{base}\n" for uid, base in records])
    return "".join([f"{uid}{extras.get(uid, '')} :{base}\n" for uid, base in records])


def extra_value(extras: str, letter: str) -> str | None:
    """The value of one record field, say "W" in " S123 W130"."""
    for word in extras.split(" "):
        if word[:1] == letter:
            return word[1:]
    return None
