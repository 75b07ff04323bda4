"""Who may do what with which mailbox, in two opinions: the ACL's and the kernel's.  Pure.

A host with 1,000 users and 5,000 mailboxes has five million cells but few different ones, so a
matrix is a palette of different cells and one row of small numbers for each mailbox.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

LETTERS: Final = "lrwstipekxa"  # RFC 4314 section 2.1, in the order of Rights.wire()
_BIT: Final = {letter: 1 << number for number, letter in enumerate(LETTERS)}
_ROW: Final = "H"  # array type code of a row: two octets for each user
MAX_PALETTE: Final = 1 << 16


def mask_of(letters: Iterable[str]) -> int:
    """Bits in the order of LETTERS; other rights are left out, for the kernel knows none."""
    return sum({_BIT[letter] for letter in letters if letter in _BIT})


def letters_of(mask: int) -> str:
    return "".join(letter for letter in LETTERS if mask & _BIT[letter])


@dataclass(frozen=True, slots=True)
class Cell:
    """One user and one mailbox; masks as of mask_of().

    acl: what the ACL grants.  kernel: what of that the kernel lets the user's mail processes do.
    shell: what it lets the same user do without them; 0 where that is not more than the ACL.
    unknown: it could not be found out, the masks mean nothing.
    """

    acl: int = 0
    kernel: int = 0
    shell: int = 0
    unknown: bool = False

    @classmethod
    def of(cls, acl: str = "", kernel: str = "", shell: str = "") -> "Cell":
        """From letters."""
        return cls(mask_of(acl), mask_of(kernel), mask_of(shell))

    @property
    def effective(self) -> int:
        """What works: both agree."""
        return 0 if self.unknown else self.acl & self.kernel

    @property
    def blocked(self) -> int:
        """The ACL grants it and the kernel denies it."""
        return 0 if self.unknown else self.acl & ~self.kernel

    @property
    def leaked(self) -> int:
        """The kernel lets the user have it, with a shell, although the ACL does not."""
        return 0 if self.unknown else self.shell & ~self.acl


NOTHING: Final = Cell()
UNKNOWN: Final = Cell(unknown=True)


@dataclass(frozen=True, slots=True)
class User:
    """A column.  login: can use the files without a mail process."""

    name: str
    login: bool = True


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A row.  owner "": nobody's, as in public namespaces.  path: its directory."""

    name: str
    owner: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Users by mailboxes.  rows: of each mailbox the palette's number for each user, as octets.

    notes: why a cell is as it is, by (mailbox's number, user's number); where somebody asked.
    """

    users: tuple[User, ...]
    mailboxes: tuple[Mailbox, ...]
    palette: tuple[Cell, ...]
    rows: tuple[bytes, ...]
    notes: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def cell(self, mailbox: int, user: int) -> Cell:
        return self.palette[self.numbers(mailbox)[user]]

    def numbers(self, mailbox: int) -> "array[int]":
        """A row as numbers of the palette."""
        return array(_ROW, self.rows[mailbox])

    def count(self) -> Counter[Cell]:
        """How many cells there are of each kind."""
        total: Counter[int] = Counter()
        for row in self.rows:
            total.update(array(_ROW, row))
        return Counter({self.palette[number]: times for number, times in total.items()})

    def cells(self, wanted: Iterable[Cell]) -> Iterator[tuple[int, int, Cell]]:
        """(mailbox, user, cell) of every cell that is one of wanted; mailbox by mailbox."""
        kinds = frozenset(wanted)
        numbers = frozenset(n for n, cell in enumerate(self.palette) if cell in kinds)
        for mailbox in range(len(self.rows)):
            row = self.numbers(mailbox)
            if not numbers.isdisjoint(row):
                for user, number in enumerate(row):
                    if number in numbers:
                        yield mailbox, user, self.palette[number]

    def disagreements(self) -> Iterator[tuple[int, int, Cell]]:
        """The cells where the ACL and the kernel disagree."""
        return self.cells(cell for cell in self.palette if cell.blocked or cell.leaked)


class MatrixBuilder:
    """Collects rows.  Users are given at the start, mailboxes come in any order."""

    def __init__(self, users: Sequence[User]) -> None:
        self.users = tuple(users)
        self._mailboxes: list[Mailbox] = []
        self._palette: dict[Cell, int] = {NOTHING: 0}
        self._rows: list[bytes] = []
        self._notes: dict[tuple[int, int], str] = {}

    def add(
        self,
        mailbox: Mailbox,
        cells: Mapping[int, Cell],
        *,
        default: Cell = NOTHING,
        notes: Mapping[int, str] | None = None,
    ) -> None:
        """A row: cells by user's number, default for all others."""
        row = array(_ROW, [self._number(default)]) * len(self.users)
        for user, cell in cells.items():
            row[user] = self._number(cell)
        number = len(self._rows)
        self._mailboxes.append(mailbox)
        self._rows.append(row.tobytes())
        for user, note in (notes or {}).items():
            self._notes[number, user] = note

    def cell(self, row: int, user: int) -> Cell:
        """Of the row that was added as number `row`, from 0."""
        return list(self._palette)[array(_ROW, self._rows[row])[user]]

    def build(self) -> Matrix:
        """The matrix: mailboxes by owner and name, nobody's own last."""
        boxes = self._mailboxes
        order = sorted(
            range(len(boxes)), key=lambda at: (not boxes[at].owner, boxes[at].owner, boxes[at].name)
        )
        place = {before: after for after, before in enumerate(order)}
        return Matrix(
            self.users,
            tuple(boxes[at] for at in order),
            tuple(self._palette),
            tuple(self._rows[at] for at in order),
            {(place[box], user): note for (box, user), note in self._notes.items()},
        )

    def _number(self, cell: Cell) -> int:
        number = self._palette.setdefault(cell, len(self._palette))
        if number >= MAX_PALETTE:
            raise ValueError(f"more than {MAX_PALETTE} different cells")
        return number
