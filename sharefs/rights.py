"""RFC 4314 rights: the value type that every door speaks.  Pure.

Three spellings of the same rights, each with its own place: letters on the wire (`lrs`), letters
sorted by long name plus verbatim extra names in ACL files (`lrs :foo`), and long names, roles or
letters on the command line (`lookup read write-seen`).
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sharefs.errors import Code, SharingError

# RFC 4314 section 2.1, in the order in which Dovecot prints them.
CANONICAL: Final = "lrwstipekxa"

LONG_NAMES: Final = {
    "l": "lookup",
    "r": "read",
    "w": "write",
    "s": "write-seen",
    "t": "write-deleted",
    "i": "insert",
    "p": "post",
    "e": "expunge",
    "k": "create",
    "x": "delete",
    "a": "admin",
}
_LETTER_OF: Final = {name: letter for letter, name in LONG_NAMES.items()}

# RFC 4314 section 2.1.1 leaves to the server which of the new rights the two old letters tie
# together.  These are Dovecot's choice: c for mailboxes, d for messages.
_VIRTUAL: Final = {"c": "kx", "d": "te"}

# The order of ACL files: letters sorted by their long names.
_FILE_ORDER: Final = "".join(_LETTER_OF[name] for name in sorted(_LETTER_OF))

# What parts the extra names in an ACL file; none of these can be inside a name.
_NAME_SEPARATORS: Final = ", \t"


@functools.lru_cache(maxsize=8192)  # there are 2048 sets, in few spellings: this is the hot path
def _in_order(letters: str) -> str:
    wanted = set(letters)
    assert wanted <= set(CANONICAL), f"not rights: {letters!r}; what comes from outside is parsed"
    return "".join(letter for letter in CANONICAL if letter in wanted)


@dataclass(frozen=True, slots=True)
class Rights:
    """A set of rights.  Order and repeats in the input never matter for equality.

    letters: subset of CANONICAL in that order.  extra: names beyond RFC 4314 (`:foo` in ACL
    files), sorted; they are kept and compared verbatim and no door of ours asks for one.
    """

    letters: str = ""
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "letters", _in_order(self.letters))
        if self.extra:
            object.__setattr__(self, "extra", tuple(sorted(set(self.extra))))

    @classmethod
    def parse(cls, text: str) -> Rights:
        """Read letters as a client sends them; c and d as RFC 4314 section 2.1.1 has them.

        Empty text is legal and means no rights.  Raises SharingError(INVALID) for anything that
        is not a right, capitals included.
        """
        wanted = "".join(_VIRTUAL.get(letter, letter) for letter in text)
        if unknown := sorted(set(wanted).difference(CANONICAL)):
            raise SharingError(
                Code.INVALID, f"unknown right {unknown[0]!r} in {text!r}: rights are {CANONICAL}cd"
            )
        return cls(wanted)

    @classmethod
    def parse_file(cls, text: str) -> Rights:
        """Read the right side of an ACL file's line: `lrs`, `lrs :foo,bar`, or nothing.

        Dovecot's rules: spaces and tabs may stand around the letters, names are parted by comma,
        space or tab, and a name that spells a standard right is that right.  c and d are unknown
        here.  Raises SharingError(INVALID); the detail starts with "column N", counted from 1
        within text.
        """
        at = len(text) - len(text.lstrip(" \t"))
        letters: list[str] = []
        while at < len(text) and text[at] not in " \t:":
            if text[at] not in LONG_NAMES:
                raise SharingError(Code.INVALID, f"column {at + 1}: unknown right {text[at]!r}")
            letters.append(text[at])
            at += 1
        while at < len(text) and text[at] in " \t":
            at += 1
        if at == len(text):
            return cls("".join(letters))
        if text[at] != ":":
            raise SharingError(
                Code.INVALID,
                f"column {at + 1}: {text[at]!r} after the rights; extra names start with ':'",
            )
        return cls("".join(letters)) | cls.named(_split_names(text[at + 1 :]))

    @classmethod
    def named(cls, names: Iterable[str]) -> Rights:
        """Rights by long name; names that RFC 4314 does not know become extra ones."""
        found = list(names)
        return cls(
            "".join(_LETTER_OF[name] for name in found if name in _LETTER_OF),
            tuple(name for name in found if name not in _LETTER_OF),
        )

    @classmethod
    def parse_names(cls, words: Iterable[str]) -> Rights:
        """Read rights as a person types them: long names, `all`, a role, letters, or `:name`.

        Long names win over letters (`post` is the right, not p, o, s and t).  A word of letters
        that repeats one or looks like a long name (`reed`, `writes`) is refused: a slip of the pen
        must not give e.  Raises SharingError(INVALID).
        """
        rights = cls()
        for word in words:
            if word == "all":
                rights |= ALL
            elif word in _LETTER_OF:
                rights |= cls(_LETTER_OF[word])
            elif word in ROLES:
                rights |= ROLES[word]
            elif word.startswith(":"):
                rights |= cls.named([_extra_name(word)])
            elif word and set(word) <= {*CANONICAL, *_VIRTUAL}:
                if slip := _slip(word):
                    raise SharingError(Code.INVALID, slip)
                rights |= cls.parse(word)
            else:
                known = ", ".join(["all", *ROLES, *_LETTER_OF])
                raise SharingError(
                    Code.INVALID,
                    f"invalid right {word!r}: write letters ({CANONICAL}), or {known}, or :name",
                )
        return rights

    def __or__(self, other: Rights) -> Rights:
        return Rights(self.letters + other.letters, self.extra + other.extra)

    def __and__(self, other: Rights) -> Rights:
        return Rights(
            "".join([letter for letter in self.letters if letter in other.letters]),
            tuple([name for name in self.extra if name in other.extra]) if self.extra else (),
        )

    def __sub__(self, other: Rights) -> Rights:
        return Rights(
            "".join([letter for letter in self.letters if letter not in other.letters]),
            tuple([name for name in self.extra if name not in other.extra]) if self.extra else (),
        )

    def __bool__(self) -> bool:
        return bool(self.letters or self.extra)

    def covers(self, required: Rights) -> bool:
        """Whether every right of required is here."""
        have = self.letters
        for letter in required.letters:  # quicker than sets of so few
            if letter not in have:
                return False
        return not required.extra or all(name in self.extra for name in required.extra)

    def each(self) -> tuple[Rights, ...]:
        """Every single right, as a Rights of its own."""
        return (*map(Rights, self.letters), *(Rights("", (name,)) for name in self.extra))

    def wire(self) -> str:
        """The letters for a client, then c if k or x is held and d if t or e is (RFC 4314 2.1.1).

        Extra names have no wire form and are left out.
        """
        ties = (old for old, new in _VIRTUAL.items() if set(new) & set(self.letters))
        return self.letters + "".join(ties)

    def file(self) -> str:
        """The form of ACL files: letters sorted by long name, then extra names.

        The names are parted by spaces: Dovecot reads commas and spaces and writes spaces.
        """
        letters = "".join(letter for letter in _FILE_ORDER if letter in self.letters)
        return letters + (" :" + " ".join(self.extra) if self.extra else "")

    def long_names(self) -> tuple[str, ...]:
        """Long names in canonical order, then the extra names as they are."""
        return (*(LONG_NAMES[letter] for letter in self.letters), *self.extra)

    def __str__(self) -> str:
        return " ".join([*([self.letters] if self.letters else []), *(":" + n for n in self.extra)])


def _split_names(text: str) -> list[str]:
    for separator in _NAME_SEPARATORS:
        text = text.replace(separator, " ")
    return [name for name in text.split(" ") if name]


def _extra_name(word: str) -> str:
    name = word[1:]
    if not name or not name.isprintable() or any(c in name for c in _NAME_SEPARATORS):
        raise SharingError(
            Code.INVALID, f"invalid right {word!r}: a name after ':' has no comma, space or control"
        )
    return name


NONE: Final = Rights()
ALL: Final = Rights(CANONICAL)
LOOKUP: Final = Rights("l")
READ: Final = Rights("r")
WRITE: Final = Rights("w")
SEEN: Final = Rights("s")
DELETED: Final = Rights("t")
INSERT: Final = Rights("i")
POST: Final = Rights("p")
EXPUNGE: Final = Rights("e")
CREATE: Final = Rights("k")
DELETE: Final = Rights("x")
ADMIN: Final = Rights("a")

# Names for the four usual grants.  reader has s, as Cyrus' `read` does: without it a mail program
# cannot remember what was read.
ROLES: Final = {
    "reader": Rights("lrs"),
    "contributor": Rights("lrsip"),
    "editor": Rights("lrswtipe"),
    "manager": ALL,
}


def _slip(word: str) -> str:
    """What is wrong with a word of letters that was hardly meant as one; "" if nothing is."""
    known = difflib.get_close_matches(word, ["all", *_LETTER_OF, *ROLES], 1, cutoff=0.75)
    in_order = set(word) <= {*CANONICAL} and word == _in_order(word)
    if in_order or (not known and len(set(word)) == len(word)):
        return ""
    meant = f"did you mean {known[0]}? " if known else ""
    return (
        f"invalid right {word!r}: {meant}The letters {' '.join(word)} can be written apart,"
        " if they are meant"
    )
