"""Threads: small families, the RFC's steps said plainly, and messages that lie."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imap.wire.sort import threads
from sharefs.ordering import references
from sharefs.ordering.ancestry import Ancestry
from sharefs.ordering.facts import Relation
from sharefs.ordering.forest import Forest
from sharefs.ordering.references import thread_by_references, thread_by_refs
from sharefs.ordering.subjects import thread_by_subject

Algorithm = Callable[[Iterable[Relation]], Forest]


def relation(
    uid: int, ids: str, subject: str = "", *, date: int | None = None, reply: bool = False
) -> Relation:
    """ids: the message's own, then its references, with spaces between; "-" for none of its own."""
    own, *named = ids.split()
    joined = "\n".join(["" if own == "-" else own, *named]).encode()
    return uid, uid if date is None else date, subject.encode(), int(reply), joined


def shown(forest: Forest) -> str:
    return threads(forest.roots, forest.children, forest.uids).decode()


CASES: list[tuple[str, list[Relation], str]] = [
    ("none", [], ""),
    ("alone", [relation(1, "a")], "(1)"),
    ("a-reply", [relation(1, "a"), relation(2, "b a")], "(1 2)"),
    ("the-reply-comes-first", [relation(1, "b a"), relation(2, "a")], "(2 1)"),
    ("branches", [relation(1, "a"), relation(2, "b a"), relation(3, "c a"), relation(4, "d a c")],
     "(1 (2)(3 4))"),
    ("the-parent-is-missing", [relation(1, "b a"), relation(2, "c a")], "((1)(2))"),
    ("only-one-below-a-missing-parent", [relation(1, "b a")], "(1)"),
    ("missing-in-between", [relation(1, "a"), relation(2, "c a b"), relation(3, "d a b")],
     "(1 (2)(3))"),
    ("missing-above-missing", [relation(1, "c a b"), relation(2, "d a")], "((1)(2))"),
    ("siblings-by-date", [relation(1, "a"), relation(2, "b a", date=9), relation(3, "c a", date=5)],
     "(1 (3)(2))"),
    ("roots-by-date", [relation(1, "a", date=9), relation(2, "b", date=5)], "(2)(1)"),
    ("same-date-by-uid", [relation(2, "a", date=5), relation(1, "b", date=5)], "(1)(2)"),
    ("same-identifier-twice", [relation(1, "a"), relation(2, "a"), relation(3, "b a")], "(1 3)(2)"),
    ("no-identifier", [relation(1, "-"), relation(2, "-"), relation(3, "- a")], "(1)(2)(3)"),
    ("its-own-parent", [relation(1, "a a")], "(1)"),
    ("each-other's-parents", [relation(1, "a b"), relation(2, "b a")], "(2 1)"),
    ("a-ring", [relation(1, "a c"), relation(2, "b a"), relation(3, "c b")], "(3 1 2)"),
    ("a-later-message-corrects", [relation(1, "c b"), relation(2, "b"), relation(3, "d a c"),
                                  relation(4, "a")], "(2 1 3)(4)"),
    ("references-repeat", [relation(1, "a"), relation(2, "b a a a")], "(1 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "want"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_families(messages: list[Relation], want: str) -> None:
    assert shown(thread_by_references(messages)) == want
    assert shown(thread_by_references(reversed(messages))) == want


BY_SUBJECT: list[tuple[str, list[Relation], str]] = [
    ("replies-join", [relation(1, "a", "S"), relation(2, "b", "S", reply=True)], "(1 2)"),
    ("replies-come-first", [relation(1, "a", "S", reply=True), relation(2, "b", "S")], "(2 1)"),
    ("equals-below-a-new-dummy", [relation(1, "a", "S"), relation(2, "b", "S")], "((1)(2))"),
    ("three-equals", [relation(n, str(n), "S") for n in (1, 2, 3)], "((1)(2)(3))"),
    ("only-replies", [relation(n, str(n), "S", reply=True) for n in (1, 2)], "((1)(2))"),
    ("empty-subjects-stay-apart", [relation(1, "a"), relation(2, "b")], "(1)(2)"),
    ("a-dummy-takes-all", [relation(1, "a x", "S", reply=True), relation(2, "b x", "S"),
                           relation(3, "c", "S")], "((1)(2)(3))"),
    ("two-dummies", [relation(1, "a x", "S"), relation(2, "b x", "T"), relation(3, "c y", "S"),
                     relation(4, "d y", "T")], "((1)(2)(3)(4))"),
    ("a-reply-brings-its-thread", [relation(1, "a", "S"), relation(2, "b", "S", reply=True),
                                   relation(3, "c b", "S", reply=True)], "(1 2 3)"),
    ("children-sorted-anew", [relation(1, "a", "S", date=1), relation(2, "b a", date=9),
                              relation(3, "c", "S", date=5, reply=True)], "(1 (3)(2))"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "want"), [c[1:] for c in BY_SUBJECT], ids=[c[0] for c in BY_SUBJECT]
)
def test_threads_joined_by_subject(messages: list[Relation], want: str) -> None:
    assert shown(thread_by_references(messages)) == want


def test_refs_joins_nothing_and_sorts_by_the_latest_message() -> None:
    messages = [
        relation(1, "a", "S", date=1),
        relation(2, "b", "S", date=2),
        relation(3, "c a", "S", date=3),
        relation(4, "d x", date=0),
        relation(5, "e x", date=9),
    ]
    assert shown(thread_by_refs(messages)) == "(2)(1 3)((4)(5))"


ORDERED = [
    ("none", [], ""),
    ("one-thread", [relation(1, "a", "S", date=3), relation(2, "b", "S", date=1),
                    relation(3, "c", "S", date=2)], "(2 (3)(1))"),
    ("two-of-one", [relation(1, "a", "S"), relation(2, "b", "S")], "(1 2)"),
    ("by-the-first", [relation(1, "a", "T", date=2), relation(2, "b", "S", date=1),
                      relation(3, "c", "T", date=0)], "(3 1)(2)"),
    ("empty-subjects-are-alike", [relation(1, "a"), relation(2, "b")], "(1 2)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "want"), [c[1:] for c in ORDERED], ids=[c[0] for c in ORDERED]
)
def test_by_subject_alone(messages: list[Relation], want: str) -> None:
    assert shown(thread_by_subject(messages)) == want


# --- the steps, said plainly ---------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Node:
    message: Relation | None = None
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)

    def adopt(self, child: "Node") -> None:
        child.parent = self
        self.children.append(child)

    def leave(self) -> None:
        if self.parent is not None:
            self.parent.children.remove(self)
            self.parent = None

    def above(self) -> list["Node"]:
        return [self, *(self.parent.above() if self.parent else [])]

    def first(self) -> Relation:
        return self.message or min(self.children, key=Node.place).first()

    def place(self) -> tuple[int, int]:
        if self.message is not None:
            return self.message[1], self.message[0]
        return min(child.place() for child in self.children)

    def text(self) -> str:
        below = [child.text() for child in sorted(self.children, key=Node.place)]
        words = [str(self.message[0])] if self.message else []
        words += [below[0][1:-1]] if len(below) == 1 else ["".join(below)] if below else []
        return f"({' '.join(words)})"


def linked(messages: list[Relation]) -> list[Node]:
    """Steps (1) and (2)."""
    nodes: list[Node] = []
    by_id: dict[bytes, Node] = {}

    def new(message: Relation | None) -> Node:
        nodes.append(Node(message))
        return nodes[-1]

    for message in messages:
        own, *named = message[4].split(b"\n")
        known = by_id.get(own)
        if known is not None and known.message is None:
            node = known
            node.message = message
        else:
            node = new(message)
            if own and known is None:
                by_id[own] = node
        last: Node | None = None
        for one in named:
            at = by_id.get(one) or by_id.setdefault(one, new(None))
            if last and not at.parent and at not in last.above():
                last.adopt(at)
            last = at
        node.leave()
        if last and node not in last.above():
            last.adopt(node)
    return [node for node in nodes if node.parent is None]


def pruned(nodes: list[Node], *, top: bool) -> list[Node]:
    """Step (3)."""
    kept: list[Node] = []
    for node in nodes:
        node.children = pruned(node.children, top=False)
        if node.message or (top and len(node.children) > 1):
            kept.append(node)
        else:
            kept += node.children
    return kept


def gathered(roots: list[Node]) -> list[Node]:
    """Steps (4) and (5)."""
    table: dict[bytes, Node] = {}
    first = {node: node.first() for node in roots}
    left = roots = sorted(roots, key=Node.place)
    for node in roots:
        subject, there = first[node][2], table.get(first[node][2])
        if subject and (
            there is None
            or (there.message and (not node.message or (first[there][3] and not first[node][3])))
        ):
            table[subject] = node
    for node in roots:
        there = table.get(first[node][2])
        if there is None or there is node:
            continue
        left = [one for one in left if one is not node]
        if not there.message and not node.message:
            there.children += node.children
        elif not there.message or (first[node][3] and not first[there][3]):
            there.children.append(node)
        else:
            dummy = table[first[node][2]] = Node(None, None, [there, node])
            left = [dummy if one is there else one for one in left]
    return sorted(left, key=Node.place)


def plainly(messages: list[Relation]) -> str:
    return "".join(node.text() for node in gathered(pruned(linked(messages), top=True)))


def plain_refs(messages: list[Relation]) -> str:
    def latest(node: Node) -> int:
        dates = [node.message[1]] if node.message else []
        return max(dates + [latest(child) for child in node.children])

    roots = pruned(linked(messages), top=True)
    roots.sort(key=lambda node: (latest(node), node.place()[1]))
    return "".join(node.text() for node in roots)


def mailboxes(names: int) -> st.SearchStrategy[list[Relation]]:
    own = st.integers(0, names).map(lambda n: f"i{n}" if n else "-")
    named = st.lists(st.integers(1, names).map(lambda n: f"i{n}"), max_size=5)
    message = st.tuples(
        own, named, st.sampled_from(["", "S", "T"]), st.integers(0, 3), st.booleans()
    )

    def made(drawn: list[tuple[str, list[str], str, int, bool]]) -> list[Relation]:
        return [
            relation(uid, " ".join([own, *named]), subject, date=date, reply=reply)
            for uid, (own, named, subject, date, reply) in enumerate(drawn, start=1)
        ]

    return st.lists(message, max_size=12).map(made)


@given(mailboxes(9))
@example([relation(1, "a b c"), relation(2, "b c a"), relation(3, "c a b")])
@settings(max_examples=600)
def test_any_mailbox_as_the_steps_say(messages: list[Relation]) -> None:
    assert shown(thread_by_references(messages)) == plainly(messages)
    assert shown(thread_by_refs(messages)) == plain_refs(messages)


@given(mailboxes(6))
@settings(max_examples=300)
def test_the_way_that_is_always_fast_finds_the_same(messages: list[Relation]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(references, "STEPS", 0)
        assert shown(thread_by_references(messages)) == plainly(messages)


@given(mailboxes(9), st.sampled_from([thread_by_references, thread_by_refs, thread_by_subject]))
def test_every_message_is_told_once(messages: list[Relation], algorithm: Algorithm) -> None:
    text = shown(algorithm(messages)).replace("(", " ").replace(")", " ")
    assert sorted(map(int, text.split())) == [message[0] for message in messages]


# --- messages that lie ---------------------------------------------------------------------

MANY = 100_000


def chain(order: Iterable[int]) -> list[Relation]:
    return [relation(uid, f"i{n} i{n - 1}") for uid, n in enumerate(order, start=1)]


def shuffled() -> list[int]:
    numbers = list(range(MANY))
    random.Random(1).shuffle(numbers)
    return numbers


def deep_and_busy() -> list[Relation]:
    """A deep chain, and at its lower end many that have children when they are hung there."""
    part = MANY // 3
    messages = chain(range(part))
    for n in range(part):
        uid = len(messages) + 1
        messages.append(relation(uid, f"c{n} p{n}"))
        messages.append(relation(uid + 1, f"p{n} i{part - 1}"))
    return messages


HOSTILE: dict[str, Callable[[], list[Relation]]] = {
    "a-chain": lambda: chain(range(MANY)),
    "a-chain-backwards": lambda: chain(reversed(range(MANY))),
    "a-chain-shuffled": lambda: chain(shuffled()),
    "children-hung-deep-down": deep_and_busy,
    "one-ring": lambda: [relation(n + 1, f"i{n} i{(n + 1) % MANY}") for n in range(MANY)],
    "all-below-one": lambda: [relation(n + 1, f"i{n} top") for n in range(MANY)],
    "one-long-list": lambda: [relation(1, " ".join(f"i{n}" for n in range(MANY)))],
    "one-subject": lambda: [relation(n + 1, f"i{n}", "S", reply=n % 2 > 0) for n in range(MANY)],
    "pairs-that-swap": lambda: [
        relation(n + 1, f"i{n} i{n ^ 1} i{n} i{(n * 7919) % MANY}") for n in range(MANY)
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hundred_thousand_messages_that_lie(make: Callable[[], list[Relation]]) -> None:
    """Recursion would end in an error; anything but n log n would take an hour."""
    messages = make()
    for algorithm in (thread_by_references, thread_by_refs, thread_by_subject):
        text = shown(algorithm(messages)).replace("(", " ").replace(")", " ")
        assert len(text.split()) == len(messages)


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=80))
def test_ancestry_finds_the_roots_that_walking_up_finds(pairs: list[tuple[int, int]]) -> None:
    ancestry = Ancestry()
    ancestry.grow(12)
    parent: dict[int, int] = {}

    def top(node: int) -> int:
        return top(parent[node]) if node in parent else node

    for one, other in pairs:
        if one in parent:
            ancestry.cut(one)
            del parent[one]
        elif top(other) != one:
            ancestry.link(one, other)
            parent[one] = other
        for node in range(12):
            assert ancestry.root(node) == top(node)
