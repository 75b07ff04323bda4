"""What the index sorts and relates is what the messages say: real, broken and made-up ones."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.index import MailboxIndex, building, mailbox_index, orders
from sharefs.index.orders import SHARE, VALUE_LIMIT, read_facts
from sharefs.ordering.facts import relation_of
from sharefs.ordering.sorting import Criterion, SortKey, sort_messages
from sharefs.store.maildir import MaildirMailbox
from tests.index.maildirs import age, fill, indexed, opened
from tests.index.test_index_search import MESSAGES

NAMES = ["", "Ann", "ann", "Ärger", "A\u0308rger", "_x", "zoë", "ZOE", "会議", "=?utf-8?q?=C3=84?=",
         "Ω", "ω", "ǆ", "ﬁ", "\U0001f600", "\uff26ull"]  # fmt: skip


def made_up(dice: random.Random) -> bytes:
    lines = [
        f"Subject: {dice.choice(['', 'Re: ', 'Fwd: [x] ', '[list] '])}{dice.choice(NAMES)}",
        f"From: {dice.choice(NAMES)} <{dice.choice('aAbBzZ')}@x.org>",
        f"To: {dice.choice(['u@x.org', 'Group: a@x.org, b@x.org;', '', 'broken <', '<B@y.org>'])}",
        f"Cc: {dice.choice(['u@x.org', 'V@x.org', ''])}",
        f"Date: {dice.choice(['nonsense', '', f'{dice.randrange(1, 29)} Feb 2020 10:00 +0100'])}",
        f"Message-ID: <{dice.randrange(40)}@x.org>",
        f"References: <{dice.randrange(40)}@x.org> <{dice.randrange(40)}@x.org>",
    ]
    kept = [line for line in lines if dice.random() < 0.9]
    return ("\r\n".join(kept) + "\r\n\r\n" + "x" * dice.randrange(60)).encode()


LONG = [
    b"Subject: " + b"long " * VALUE_LIMIT + b"\r\n\r\n",
    b"References: " + b"\r\n ".join(b"<%d@long.org>" % n for n in range(3000)) + b"\r\n\r\n",
]


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaildirMailbox]:
    dice = random.Random(20261122)
    root = tmp_path_factory.mktemp("mail") / "Maildir"
    fill(root, [*MESSAGES, *(made_up(dice) for _ in range(120))])
    with opened(root) as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def index(
    mailbox: MaildirMailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MailboxIndex]:
    with indexed(mailbox, tmp_path_factory.mktemp("index") / "i") as index:
        yield index


CRITERIA = [
    *([Criterion(key, reverse)] for key in SortKey for reverse in (False, True)),
    *(
        [Criterion(one, dice % 2 > 0), Criterion(other, dice % 3 > 0)]
        for dice, (one, other) in enumerate(itertools.combinations(SortKey, 2))
    ),
]


@pytest.mark.parametrize("part", [1, SHARE + 2], ids=["all", "some"])
def test_sorted_as_the_messages_say(
    part: int, mailbox: MaildirMailbox, index: MailboxIndex
) -> None:
    uids = list(mailbox.uids())[::part]
    read = read_facts(mailbox, uids)
    for criteria in CRITERIA:
        assert index.in_order(uids, criteria) == sort_messages(read, criteria), criteria
    assert index.facts(uids) == read
    assert index.relations(uids) == list(map(relation_of, read))
    assert index.in_order([], CRITERIA[0]) == []
    assert index.facts([]) == []


def test_messages_with_values_beyond_all_bounds_are_read(tmp_path: Path) -> None:
    fill(tmp_path / "Maildir", [*MESSAGES[:5], *LONG])
    with opened(tmp_path / "Maildir") as mailbox, indexed(mailbox, tmp_path / "i") as index:
        uids = list(mailbox.uids())
        assert index.in_order(uids, CRITERIA[0]) is None
        first_five = sort_messages(read_facts(mailbox, uids[:5]), CRITERIA[0])
        for _ in range(2):  # the second time it is an order that was kept, of all with rows
            assert index.in_order(uids[:5], CRITERIA[0]) == first_five
        assert index.in_order(uids[1:6], CRITERIA[0]) is None  # as many, but others
        assert [facts.uid for facts in index.facts(uids)] == uids[:5]
        assert index.verify() == []


@pytest.mark.parametrize("few", [1, orders.FEW])
def test_what_comes_and_goes(few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "SLICE", 3)
    monkeypatch.setattr(orders, "FEW", few)
    root = tmp_path / "Maildir"
    dice = random.Random(3)
    fill(root, [made_up(dice) for _ in range(30)])
    all_criteria = [
        [Criterion(SortKey.SUBJECT), Criterion(SortKey.FROM, reverse=True)],
        [Criterion(SortKey.DATE, reverse=True)],
        [Criterion(SortKey.SIZE)],
    ]

    def is_in_order(index: MailboxIndex, mailbox: MaildirMailbox) -> None:
        uids = list(mailbox.uids())
        read = read_facts(mailbox, uids)
        for criteria in all_criteria:
            assert index.in_order(uids, criteria) == sort_messages(read, criteria)

    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i", complete=False) as index:
        while not index.catch_up(0):
            got = index.facts(mailbox.uids())
            assert set(got) <= set(read_facts(mailbox, mailbox.uids()))
        for round_ in range(6):
            is_in_order(index, mailbox)
            mailbox.expunge(dice.sample(list(mailbox.uids()), 4))
            is_in_order(index, mailbox)
            uids = list(mailbox.uids())
            assert index.relations(uids) == list(map(relation_of, read_facts(mailbox, uids)))
            fill(root, [made_up(dice) for _ in range(3)], first=100 + 3 * round_)
            mailbox.sync()
            assert index.in_order(list(mailbox.uids()), all_criteria[0]) is None
            assert index.catch_up()
            if round_ % 2:  # one of them has been asked for when all is put away
                assert index.in_order(list(mailbox.uids()), all_criteria[1]) is not None
                age(root)
                mailbox.sync()
                mailbox.put_away()
                index.put_away()
                with indexed(mailbox, tmp_path / "i", complete=False) as next_one:
                    is_in_order(next_one, mailbox)


def test_a_few_new_ones_are_indexed_when_many_are_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_index, "MANY", 20)
    monkeypatch.setattr(mailbox_index, "LATE", 3)
    root = tmp_path / "Maildir"
    dice = random.Random(5)
    fill(root, [made_up(dice) for _ in range(20)])
    criteria = [Criterion(SortKey.DATE), Criterion(SortKey.SUBJECT, reverse=True)]
    with opened(root) as mailbox, indexed(mailbox, tmp_path / "i") as index:
        for more, found in ((3, True), (4, False)):
            assert index.in_order(list(mailbox.uids()), criteria) is not None
            fill(root, [made_up(dice) for _ in range(more)], first=100 * more)
            mailbox.sync()
            uids = list(mailbox.uids())
            right = sort_messages(read_facts(mailbox, uids), criteria)
            assert index.in_order(uids, criteria) == (right if found else None)
            assert index.missing() == (0 if found else more)


def test_another_process_writes(tmp_path: Path) -> None:
    """A second connection stands for it."""
    root = tmp_path / "Maildir"
    dice = random.Random(4)
    fill(root, [made_up(dice) for _ in range(20)])
    criteria = [Criterion(SortKey.DATE)]
    with (
        opened(root) as mailbox,
        opened(root) as other,
        indexed(mailbox, tmp_path / "i") as index,
        indexed(other, tmp_path / "i") as second,
    ):
        assert index.in_order(list(mailbox.uids()), criteria) is not None
        fill(root, [made_up(dice) for _ in range(5)], first=50)
        other.sync()
        assert second.catch_up()
        mailbox.sync()
        uids = list(mailbox.uids())
        assert len(uids) == 25
        assert index.in_order(uids, criteria) == sort_messages(read_facts(mailbox, uids), criteria)
