"""The table of rights as laws: total where it must be, and more rights never refuse more."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.errors import Code
from sharefs.mount.errnos import ERRNO
from sharefs.mount.leave import Acts
from sharefs.mount.policy import (
    NEVER,
    TABLE,
    Act,
    Named,
    Need,
    Spot,
    acts_without_asking,
    decide,
    need_of,
    need_of_new,
    needs_of_link,
    needs_of_rename,
    rights_for_flags,
    spot_of,
    table_rows,
)
from sharefs.mount.spelling import directory_of, levels_of
from sharefs.rights import ALL, CANONICAL, LOOKUP, Rights

RIGHTS = st.sets(st.sampled_from(CANONICAL)).map(lambda letters: Rights("".join(letters)))
NEEDS = st.sampled_from([*TABLE.values(), NEVER])


def test_every_code_has_an_errno() -> None:
    assert ERRNO.keys() == set(Code)
    assert all(number in errno.errorcode for number in ERRNO.values())


@given(RIGHTS, RIGHTS, NEEDS)
def test_more_rights_never_refuse_more(some: Rights, more: Rights, need: Need) -> None:
    assert not decide(some, need) or decide(some | more, need)


@given(RIGHTS, NEEDS)
def test_without_lookup_there_is_nothing(rights: Rights, need: Need) -> None:
    got = decide(rights - LOOKUP, need)
    assert got or got.errno in (errno.ENOENT, need.refusal)
    if need.any_of and not got:
        assert got.errno == errno.ENOENT


@given(NEEDS)
def test_all_rights_do_whatever_can_be_done(need: Need) -> None:
    assert bool(decide(ALL, need)) == bool(need.any_of)


@pytest.mark.parametrize("spot", Spot, ids=lambda spot: spot.name)
def test_everything_can_be_looked_at_but_foreign_directories(spot: Spot) -> None:
    assert ((Act.SEE, spot) in TABLE) == (spot is not Spot.FOREIGN)


FLAGS = [
    ("", ":2,S", "s"), (":2,S", ":2,", "s"), (":2,", ":2,T", "t"), (":2,FS", ":2,RS", "w"),
    (":2,S", ":2,ST", "t"), (":2,a", ":2,b", "w"), (":2,", ":2,DFRSTa", "wst"),
    (":2,S", ":2,S", ""),
    ("", ":2,", ""), (":2,S", ":1,S", "s"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "want"), FLAGS)
def test_only_the_letters_that_change_count(old: str, new: str, want: str) -> None:
    assert rights_for_flags(old, new) == Rights(want)
    assert rights_for_flags(new, old) == Rights(want)


def test_a_move_is_a_removal_and_an_insertion() -> None:
    old, new = Named(Spot.CUR, "1:2,S"), Named(Spot.CUR, "1:2,S")
    sides = [
        (side, need.any_of[0].letters)
        for side, need in needs_of_rename(old, new, same_mailbox=False)
    ]
    assert sides == [("source", "te"), ("source", "r"), ("dest", "si")]


def test_hiding_a_message_is_removing_it() -> None:
    old = Named(Spot.CUR, "1:2,")
    for new in (Named(Spot.CUR, ".1"), Named(Spot.TMP, "1")):
        needs = dict(needs_of_rename(old, new, same_mailbox=True))
        assert needs["source"] == need_of(Act.REMOVE, Spot.MESSAGE, "1:2,")


FOLDERS = st.sampled_from([Spot.CUR, Spot.NEW, Spot.TMP])
FILES = st.sampled_from(["1", "1:2,", "1:2,S", "1:2,T", "1:2,FSTa", ".1", ".1:2,S", "2:2,DRT"])
ONE_FILE = {Acts.SEE: Act.SEE, Acts.OPEN: Act.OPEN, Acts.TOUCH: Act.TOUCH, Acts.PRETEND: Act.CHMOD,
            Acts.REMOVE: Act.REMOVE}  # fmt: skip


@given(RIGHTS | st.just(ALL), FOLDERS, FOLDERS, FILES, FILES)
def test_what_needs_no_asking_would_not_be_refused(
    rights: Rights, folder: Spot, beside: Spot, name: str, new: str
) -> None:
    acts, acts_beside = acts_without_asking(folder, rights), acts_without_asking(beside, rights)
    file, other = Named(folder, name), Named(beside, new)
    needs = [need_of(act, file.spot, name) for one, act in ONE_FILE.items() if one in acts]
    if Acts.MAKE in acts:
        needs.append(need_of_new(folder, name))
    if Acts.RENAME | Acts.SIBLINGS in acts & acts_beside:
        needs += [need for _, need in needs_of_rename(file, other, same_mailbox=True)]
    if Acts.LINK | Acts.SIBLINGS in acts & acts_beside:
        needs += [need for _, need in needs_of_link(file, other, same_mailbox=True)]
    assert all(decide(rights, need) for need in needs)
    assert not acts & (Acts.PERMIT | Acts.WRITE | Acts.ANY_KIND)


def test_owners_are_not_asked() -> None:
    want = Acts.RENAME | Acts.LINK | Acts.MAKE | Acts.TOUCH | Acts.PRETEND | Acts.DOTS
    for folder in (Spot.CUR, Spot.NEW, Spot.TMP):
        assert want in acts_without_asking(folder, ALL)


def test_post_reaches_new_alone() -> None:
    post = Rights("lp")
    assert decide(post, need_of_new(Spot.NEW, "1"))
    assert decide(post, need_of_new(Spot.TMP, "1"))
    assert not decide(post, need_of_new(Spot.CUR, "1:2,"))


SPOTS = [
    (Spot.MAILBOX, "cur", True, Spot.CUR), (Spot.MAILBOX, "cur", False, Spot.CONTROL),
    (Spot.MAILBOX, "dovecot-acl", False, Spot.ACL), (Spot.MAILBOX, "other", True, Spot.FOREIGN),
    (Spot.CUR, "1:2,", False, Spot.MESSAGE), (Spot.CUR, ".1", False, Spot.TEMPORARY),
    (Spot.CUR, "cur", True, Spot.FOREIGN), (Spot.TMP, "1:2,S", False, Spot.TEMPORARY),
]  # fmt: skip


@pytest.mark.parametrize(("parent", "name", "directory", "want"), SPOTS)
def test_spots(parent: Spot, name: str, directory: bool, want: Spot) -> None:
    assert spot_of(parent, name, directory=directory) is want


LEVEL = st.text(min_size=1, max_size=12).filter(lambda text: text.strip("."))


@given(st.lists(LEVEL, min_size=1, max_size=4))
def test_a_directory_means_one_mailbox(levels: list[str]) -> None:
    directory = directory_of(levels)
    if directory is not None:
        assert levels_of(directory) == tuple(levels)
        assert "/" not in directory


@given(st.text(max_size=30))
def test_a_mailbox_has_one_directory(directory: str) -> None:
    levels = levels_of(directory)
    if levels is not None:
        assert directory_of(levels) == directory


def test_mail_addresses_as_levels() -> None:
    want = ".shared.alice@example&AC4-org.Work"
    assert directory_of(("shared", "alice@example.org", "Work")) == want


def test_the_manual_prints_this_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "mount.md"
    printed = [line for line in page.read_text().splitlines() if line.count("|") == 5]
    assert [line for line in table_rows() if line not in printed] == []
    acts = {act.value for act in Act}
    mine = [line for line in printed if line.split("|")[1].strip() in acts]
    assert mine == list(table_rows())
