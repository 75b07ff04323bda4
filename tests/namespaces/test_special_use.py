"""Special uses and automatic mailboxes of a namespace's `mailbox` blocks."""

from dataclasses import dataclass

import pytest

from sharefs.namespaces.special_use import (
    AutoMailbox,
    auto_mailboxes,
    rule_matches,
    special_uses,
)


@dataclass(frozen=True)
class Rule:
    name: str
    auto: str = "no"
    special_use: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("rule", "name", "want"),
    [
        ("Sent", "Sent", True),
        ("Sent", "sent", False),
        ("Sent*", "Sent/2026", True),
        ("Archive/????", "Archive/2026", True),
        ("Archive/????", "Archive/26", False),
        ("a.b*", "axb", False),
    ],
)
def test_names_with_wildcards(rule: str, name: str, want: bool) -> None:
    assert rule_matches(rule, name) is want


def test_special_uses_of_all_blocks_come_together() -> None:
    rules = [Rule("Sent*", special_use=("\\Sent",)), Rule("Sent", special_use=("\\Archive",))]
    assert special_uses(rules, "Sent") == ("\\Sent", "\\Archive")
    assert special_uses(rules, "Work") == ()


def test_automatic_mailboxes() -> None:
    rules = [
        Rule("Sent", "subscribe"), Rule("a/b", "create"), Rule("c"), Rule("d*", "create"),
        Rule("inbox", "create"),
    ]  # fmt: skip
    assert auto_mailboxes(rules, "/") == (
        AutoMailbox(("Sent",), True),
        AutoMailbox(("a", "b"), False),
        AutoMailbox(("INBOX",), False),
    )
