"""The matrix as a value: what disagrees, what is counted, and that size does not matter."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.audit.report.matrix import (
    LETTERS,
    NOTHING,
    UNKNOWN,
    Cell,
    Mailbox,
    Matrix,
    MatrixBuilder,
    User,
    letters_of,
    mask_of,
)
from tests.audit_report.sample import large_matrix

CASES = [  # id, acl, kernel, shell -> works, refused, leaked
    ("agree", "lr", "lr", "", "lr", "", ""),
    ("refused", "lrs", "lr", "", "lr", "s", ""),
    ("refused whole", "lr", "", "", "", "lr", ""),
    ("the server could, the ACL forbids: no leak", "l", "lrwstipekxa", "", "l", "", ""),
    ("a shell can, the ACL forbids", "", "lr", "lr", "", "", "lr"),
    ("both at once", "lx", "lr", "lr", "l", "x", "r"),
    ("own mailbox", LETTERS, LETTERS, LETTERS, LETTERS, "", ""),
]


@pytest.mark.parametrize(
    ("acl", "kernel", "shell", "works", "refused", "leaked"),
    [case[1:] for case in CASES], ids=[case[0] for case in CASES],
)  # fmt: skip
def test_what_a_cell_says(
    acl: str, kernel: str, shell: str, works: str, refused: str, leaked: str
) -> None:
    cell = Cell.of(acl, kernel, shell)
    got = (letters_of(cell.effective), letters_of(cell.blocked), letters_of(cell.leaked))
    assert got == (works, refused, leaked)


def test_unknown_claims_nothing() -> None:
    cell = Cell(acl=1, kernel=2, shell=4, unknown=True)
    assert (cell.effective, cell.blocked, cell.leaked) == (0, 0, 0)


def test_other_rights_are_no_letters() -> None:
    assert mask_of("l:foo!") == mask_of("l")
    assert mask_of("ll") == mask_of("l")


@given(st.text(alphabet=LETTERS))
def test_letters_survive(letters: str) -> None:
    assert set(letters_of(mask_of(letters))) == set(letters)


def small() -> Matrix:
    builder = MatrixBuilder([User("ann"), User("bob"), User("eve")])
    own = Cell.of(LETTERS, LETTERS)
    builder.add(Mailbox("ann/INBOX", "ann"), {0: own, 2: Cell.of("", "lr", "lr")})
    builder.add(Mailbox("bob/INBOX", "bob"), {1: own, 0: Cell.of("lr", "")}, notes={0: "because"})
    builder.add(Mailbox("lost"), {}, default=UNKNOWN)
    return builder.build()


def test_cells_are_where_they_were_put() -> None:
    matrix = small()
    assert matrix.cell(0, 0) == Cell.of(LETTERS, LETTERS)
    assert matrix.cell(0, 1) == NOTHING
    assert matrix.cell(1, 0) == Cell.of("lr", "")
    assert matrix.cell(2, 2) == UNKNOWN
    assert matrix.notes == {(1, 0): "because"}


def test_disagreements_are_found_and_nothing_else() -> None:
    found = [(mailbox, user) for mailbox, user, _ in small().disagreements()]
    assert found == [(0, 2), (1, 0)]


def test_count_is_of_every_cell() -> None:
    counted = small().count()
    assert counted.total() == 9
    assert counted[UNKNOWN] == 3
    assert counted[NOTHING] == 2


def test_equal_cells_share_a_number() -> None:
    builder = MatrixBuilder([User("a"), User("b")])
    for number in range(50):
        builder.add(Mailbox(str(number)), {0: Cell.of("lr", "lr"), 1: Cell.of("rl", "rl")})
    assert len(builder.build().palette) == 2


def test_rows_are_by_owner_and_keep_their_notes() -> None:
    builder = MatrixBuilder([User("a")])
    for name, owner in (("Public/x", ""), ("b/2", "b"), ("a/1", "a"), ("b/1", "b")):
        builder.add(Mailbox(name, owner), {0: Cell.of("l" if owner else "r")}, notes={0: name})
    matrix = builder.build()
    names = [mailbox.name for mailbox in matrix.mailboxes]
    assert names == ["a/1", "b/1", "b/2", "Public/x"]
    assert [matrix.notes[row, 0] for row in range(4)] == names
    assert [matrix.cell(row, 0).acl for row in (0, 3)] == [mask_of("l"), mask_of("r")]


def test_too_many_kinds_are_refused_not_mixed_up() -> None:
    builder = MatrixBuilder([User(str(number)) for number in range(2048)])

    def add(kernel: int) -> None:
        row = {user: Cell(acl=user, kernel=kernel, shell=1) for user in range(2048)}
        builder.add(Mailbox(str(kernel)), row)

    for kernel in range(31):
        add(kernel)
    with pytest.raises(ValueError, match="more than 65536"):
        add(31)


def test_five_million_cells_take_seconds_not_minutes() -> None:
    began = time.process_time()
    matrix = large_matrix(1000, 5000)
    assert matrix.count().total() == 5_000_000
    leaks = sum(1 for _, _, cell in matrix.disagreements() if cell.leaked)
    assert leaks > 1000
    assert time.process_time() - began < 8, "measured: 1 s"
