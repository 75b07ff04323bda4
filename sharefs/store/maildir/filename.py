"""Maildir file names: unique base, sizes, flag letters.  Pure but for the pid and host name.

`<secs>.M<usecs>P<pid>.<host>[,S=<size>][,W=<vsize>][:2,<flags>[,<other>]]`.  The part before the
first `:` is the base: it names the message for good, and is its GUID.  The rest is the info, which
any program may change by renaming.  Letters that we do not know, and everything after a second
comma, are other programs' and are kept.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sharefs.flags import System

FLAG_LETTERS: Final = {  # in ASCII order, which is the order in a name
    "D": System.DRAFT,
    "F": System.FLAGGED,
    "R": System.ANSWERED,
    "S": System.SEEN,
    "T": System.DELETED,
}
KEYWORD_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
NO_FLAGS_INFO: Final = ":2,"

_KNOWN: Final = frozenset(FLAG_LETTERS) | frozenset(KEYWORD_LETTERS)
_SIZES: Final = re.compile(r",([SW])=(\d{1,19})(?=[,:]|\Z)", re.ASCII)
_LAST_SIZE: Final = re.compile(r"^[^,\n]*(?:,S=\d{1,19})?,W=(\d{1,19})$", re.ASCII | re.MULTILINE)
_ORDER: Final = re.compile(r"(\d*)(?:\.[^.M]*M(\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Info:
    """What stands behind the base.  letters: keyword letters; other: unknown letters."""

    system: System
    letters: frozenset[str]
    other: frozenset[str]


def split(name: str) -> tuple[str, str]:
    """Base and info; info is "" or begins with a colon.  Joined they are the name again."""
    base = name.partition(":")[0]
    return base, name[len(base) :]


def parse_info(info: str) -> Info:
    """Read `:2,FSa`.  Another kind of info has no flags."""
    letters = _letters_of(info)
    system = System.NONE
    for letter in letters:
        system |= FLAG_LETTERS.get(letter, System.NONE)
    keywords = frozenset(letters) & frozenset(KEYWORD_LETTERS)
    return Info(system, keywords, frozenset(letters) - _KNOWN)


@lru_cache(maxsize=1024)
def format_info(system: System, letters: frozenset[str], old: str = "") -> str:
    """The info for these flags, keeping what other programs put into `old`."""
    mine = {letter for letter, flag in FLAG_LETTERS.items() if system & flag} | letters
    theirs = {letter for letter in _letters_of(old) if letter not in _KNOWN}
    head, _, last = old.rpartition(":")
    _, comma, rest = last[2:].partition(",") if last.startswith("2,") else ("", "", "")
    return head + ":2," + "".join(sorted(mine | theirs)) + comma + rest


def _letters_of(info: str) -> str:
    start = info.rfind(":")
    if start < 0 or info[start : start + 3] != ":2,":
        return ""
    return info[start + 3 :].partition(",")[0]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Octets of a message as its name tells them.  None: the name does not say.

    stored: as in the file.  virtual: with CRLF line ends, which is RFC822.SIZE.
    """

    stored: int | None = None
    virtual: int | None = None


def sizes_of(base: str) -> Sizes:
    sizes: list[tuple[str, str]] = _SIZES.findall(base)
    found = {key: int(value) for key, value in reversed(sizes)}
    return Sizes(found.get("S"), found.get("W"))


def virtual_size_in(base: str) -> int | None:
    """sizes_of(base).virtual, fast: listings of big mailboxes ask for every message."""
    _, found, rest = base.partition(",W=")
    value = rest.partition(",")[0]
    if value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return sizes_of(base).virtual if found else None


def virtual_sizes_in(bases: Sequence[str]) -> list[int | None] | None:
    """virtual_size_in() each, if every one of them ends with its size; else None."""
    sizes = _LAST_SIZE.findall("\n".join(bases))
    return [*map(int, sizes)] if len(sizes) == len(bases) else None


def with_sizes(unique: str, sizes: Sizes) -> str:
    """A base for a new message."""
    stored = "" if sizes.stored is None else f",S={sizes.stored}"
    virtual = "" if sizes.virtual is None else f",W={sizes.virtual}"
    return unique + stored + virtual


def arrival_key(base: str) -> tuple[int, int, str]:
    """Sorts new messages by arrival: the seconds and microseconds in the name, then the rest."""
    match = _ORDER.match(base)
    seconds, micros = match.groups() if match else ("", None)
    return int(seconds[:19] or 0), int((micros or "0")[:19]), base


class UniqueNames:
    """Makes base names that no other message has: time, process, host, and never the same time.

    Thread safe, and safe across fork.  clock: nanoseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0
        self._guard = threading.Lock()
        # Maildir's own escapes for the two octets that a name cannot carry.
        self._host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
        self._host = self._host.replace(",", "\\054") or "localhost"

    def next(self) -> str:
        with self._guard:
            micros = max(self._clock() // 1000, self._last + 1)
            self._last = micros
        seconds, rest = divmod(micros, 1_000_000)
        return f"{seconds}.M{rest}P{os.getpid()}.{self._host}"


unique_names: Final = UniqueNames()
