"""`dovecot-keywords`: the names behind the keyword letters a..z of one mailbox.  Pure.

Lines of `<index> <name>`, index 0..25.  Lines that do not parse, empty names and repeats (in any
case) are skipped, as every reader of this file does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sharefs.store.maildir.filename import KEYWORD_LETTERS

FILE_NAME: Final = "dovecot-keywords"
LIMIT: Final = len(KEYWORD_LETTERS)
_ATOM_SPECIALS: Final = frozenset('(){ %*"\\]')


def is_keyword(name: str) -> bool:
    """Whether a client can be told this name: an atom of RFC 3501's flag-keyword."""
    return bool(name) and name.isascii() and name.isprintable() and not _ATOM_SPECIALS & set(name)


@dataclass(frozen=True, slots=True)
class Keywords:
    """names: one place for each letter; None: the letter has no name."""

    names: tuple[str | None, ...] = (None,) * LIMIT

    @classmethod
    def parse(cls, content: bytes) -> "Keywords":
        """Never raises."""
        names: list[str | None] = [None] * LIMIT
        taken: set[str] = set()
        for line in content.decode("utf-8", "surrogateescape").split("\n"):
            digits, space, name = line.partition(" ")
            if not space or not name or not digits.isascii() or not digits.isdigit():
                continue
            if len(digits) > 2 or int(digits) >= LIMIT or name.casefold() in taken:
                continue
            if names[int(digits)] is None:
                names[int(digits)] = name
                taken.add(name.casefold())
        return cls(tuple(names))

    def format(self) -> bytes:
        lines = (f"{index} {name}\n" for index, name in enumerate(self.names) if name is not None)
        return "".join(lines).encode("utf-8", "surrogateescape")

    def name_of(self, letter: str) -> str:
        """The keyword that a letter stands for.

        A letter without a usable name is called `unknown-<index>`, with `?` until it is unique,
        so that clients see the flag and nothing is lost when it is written back.
        """
        index = KEYWORD_LETTERS.index(letter)
        name = self.names[index]
        if name is not None and is_keyword(name):
            return name
        name = f"unknown-{index}"
        taken = {other.casefold() for other in self.names if other}
        while name in taken:
            name += "?"
        return name

    def letter_of(self, name: str) -> str | None:
        """The letter of a keyword, whatever its case.  None: it has none yet."""
        return _letters(self).get(name.casefold())

    def known(self) -> tuple[str, ...]:
        """Names that clients may be told, in letter order."""
        return tuple(name for name in self.names if name is not None and is_keyword(name))

    def with_added(
        self, names: Iterable[str], used: frozenset[str]
    ) -> tuple["Keywords", list[str]]:
        """Give each new name the first free letter.

        used: letters that stand in file names; one without a name is not free, or the new
        keyword would appear on messages that never had it.  Returns the names that found no
        letter, too: there are 26.
        """
        table = list(self.names)
        homeless: list[str] = []
        free = [
            index
            for index, letter in enumerate(KEYWORD_LETTERS)
            if table[index] is None and letter not in used
        ]
        free.reverse()
        for name in names:
            if Keywords(tuple(table)).letter_of(name) is not None:  # remembered by value: cheap
                continue
            if free:
                table[free.pop()] = name
            else:
                homeless.append(name)
        return Keywords(tuple(table)), homeless

    def has_room(self, used: frozenset[str]) -> bool:
        return any(
            name is None and letter not in used
            for name, letter in zip(self.names, KEYWORD_LETTERS, strict=True)
        )


@lru_cache(maxsize=256)
def _letters(keywords: Keywords) -> Mapping[str, str]:
    """Letter by folded name.  Remembered, for a client may name thousands of keywords at once."""
    found: dict[str, str] = {}
    for letter in KEYWORD_LETTERS:
        found.setdefault(keywords.name_of(letter).casefold(), letter)
    return found
