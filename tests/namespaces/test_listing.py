"""LIST as a table: what each namespace setting, right and selection option shows."""

import time

import pytest

from sharefs.namespaces.listing import Branch, Listed, Selection, Visible, ancestors, list_mailboxes


def branch(prefix: str, shown: str, *names: str, separator: str = "/") -> Branch:
    """A name ending in "!" is a directory without mail."""
    found = [Visible(name.removesuffix("!"), not name.endswith("!")) for name in names]
    return Branch(prefix, separator, shown, found)


def shown(
    branches: list[Branch],
    *patterns: str,
    subscriptions: tuple[str, ...] = (),
    selection: Selection = Selection(),  # noqa: B008 - frozen
) -> list[str]:
    """One line for each response: name, flags sorted, child info."""

    def line(listed: Listed) -> str:
        info = f" ({' '.join(sorted(listed.child_info))})" if listed.child_info else ""
        return f"{listed.name} {' '.join(sorted(listed.flags))}{info}"

    subscribed = dict.fromkeys(subscriptions, "/")
    return [
        line(one) for one in list_mailboxes(branches, patterns or ("*",), subscribed, selection)
    ]


PRIVATE = branch("", "yes", "INBOX", "Work", "Work/Sub", "a/b/c")
YES = "\\HasChildren"
NO = "\\HasNoChildren"
PHANTOM = "\\HasChildren \\NoSelect \\NonExistent"

CASES = {
    "all of it, with the levels between": (
        [PRIVATE], ["*"],
        [f"INBOX {NO}", f"a {PHANTOM}", f"a/b {PHANTOM}", f"a/b/c {NO}", f"Work {YES}",
         f"Work/Sub {NO}"],
    ),
    "one level": ([PRIVATE], ["%"], [f"INBOX {NO}", f"a {PHANTOM}", f"Work {YES}"]),
    "two patterns, each name once": ([PRIVATE], ["W*", "Work"], [f"Work {YES}", f"Work/Sub {NO}"]),
    "an unreadable parent is no failing mailbox": (
        [branch("Public/", "children", "Public/team/info")], ["Public/%"],
        [f"Public/team {PHANTOM}"],
    ),
    "a directory of the file system": (
        [branch("", "yes", "dir!", "dir/x")], ["%"], [f"dir {YES} \\NoSelect"],
    ),
    "list=children without children": ([branch("Public/", "children")], ["*"], []),
    "list=children with some": (
        [branch("Public/", "children", "Public/info")], ["*"],
        [f"Public {YES} \\NoSelect", f"Public/info {NO}"],
    ),
    "list=yes without children": (
        [branch("Public/", "yes")], ["*"], [f"Public {NO} \\NoSelect"],
    ),
    "list=no": ([branch("Public/", "no", "Public/info")], ["*", "%", "Pub*"], []),
    "list=no, asked for by its prefix": (
        [branch("Public/", "no", "Public/info")], ["Public/%"], [f"Public/info {NO}"],
    ),
    "an owner's prefix is the owner's INBOX": (
        [branch("shared/al/", "children", "shared/al", "shared/al/Work")], ["*"],
        [f"shared {YES} \\NoSelect", f"shared/al {YES}", f"shared/al/Work {NO}"],
    ),
    "an owner without a visible INBOX": (
        [branch("shared/al/", "children", "shared/al/Work")], ["shared/%"],
        [f"shared/al {YES} \\NoSelect"],
    ),
    "each namespace has its own separator": (
        [PRIVATE, branch("pub.", "yes", "pub.x.y", separator=".")], ["p%"],
        [f"pub {YES} \\NoSelect"],
    ),
    "inbox in any case": ([PRIVATE], ["iNbOx"], [f"INBOX {NO}"]),
    "nothing matches": ([PRIVATE], ["work"], []),
}  # fmt: skip


@pytest.mark.parametrize(("branches", "patterns", "want"), CASES.values(), ids=CASES)
def test_list(branches: list[Branch], patterns: list[str], want: list[str]) -> None:
    assert shown(branches, *patterns) == want


SUBSCRIBED = Selection(subscribed=True)
RECURSIVE = Selection(subscribed=True, recursive_match=True)
GONE = "\\NoSelect \\NonExistent \\Subscribed"


def test_subscribed_only() -> None:
    got = shown([PRIVATE], "*", subscriptions=("Work/Sub", "Gone/x"), selection=SUBSCRIBED)
    assert got == [f"Gone/x {GONE}", f"Work/Sub {NO} \\Subscribed"]


def test_recursive_match_names_the_levels_above() -> None:
    got = shown([PRIVATE], "%", subscriptions=("Work/Sub", "Gone/x"), selection=RECURSIVE)
    assert got == ["Gone \\NoSelect \\NonExistent (SUBSCRIBED)", f"Work {YES} (SUBSCRIBED)"]


def test_recursive_match_keeps_subscribed_parents() -> None:
    got = shown([PRIVATE], "Work", subscriptions=("Work", "Work/Sub"), selection=RECURSIVE)
    assert got == [f"Work {YES} \\Subscribed (SUBSCRIBED)"]


def test_subscriptions_are_marked_without_being_selected() -> None:
    got = shown([PRIVATE], "Work", subscriptions=("Work",))
    assert got == [f"Work {YES} \\Subscribed"]


def test_special_use_selects() -> None:
    mailboxes = Branch("", "/", "yes", [Visible("Sent", True, ("\\Sent",)), Visible("Work")])
    got = shown([mailboxes], "*", selection=Selection(special_use=True))
    assert got == [f"Sent {NO} \\Sent"]


def test_a_hidden_mailbox_changes_nothing() -> None:
    """What the viewer may not see is not passed in, and its parent says \\HasNoChildren."""
    assert shown([branch("", "yes", "Work")]) == [f"Work {NO}"]


def test_ancestors() -> None:
    assert list(ancestors("a/b/c", "/")) == ["a/b", "a"]
    assert list(ancestors("/a", "/")) == []
    assert list(ancestors("a", "/")) == []


def test_ten_thousand_mailboxes_are_quick() -> None:
    names = [f"top{n % 100}/sub{n}" for n in range(10_000)]
    start = time.perf_counter()
    assert len(shown([branch("", "yes", *names)], "%")) == 100
    assert time.perf_counter() - start < 2
