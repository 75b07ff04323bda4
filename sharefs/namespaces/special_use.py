"""Special uses and automatic mailboxes, from the `mailbox` blocks of a namespace.  Pure.

RFC 6154.  The names in the blocks are without the namespace's prefix, with its separator.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from sharefs.namespaces.patterns import fold_inbox

WILDCARDS: Final = frozenset("*?")


class MailboxRule(Protocol):
    """What is needed of config.MailboxSettings."""

    @property
    def name(self) -> str: ...
    @property
    def auto(self) -> str: ...
    @property
    def special_use(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class AutoMailbox:
    """A mailbox that is there without anybody having created it."""

    levels: tuple[str, ...]
    subscribed: bool


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    pieces = {"*": ".*", "?": "."}
    return re.compile("".join(pieces.get(char, re.escape(char)) for char in pattern), re.DOTALL)


def rule_matches(rule_name: str, name: str) -> bool:
    """Whether a block's name covers a mailbox: `*` and `?` match any characters."""
    if not WILDCARDS & set(rule_name):
        return rule_name == name
    return _regex(rule_name).fullmatch(name) is not None


def special_uses(rules: Iterable[MailboxRule], name: str) -> tuple[str, ...]:
    """The special uses of a mailbox, in configuration order.  name: without the prefix."""
    found: dict[str, None] = {}
    for rule in rules:
        if rule.special_use and rule_matches(rule.name, name):
            found.update(dict.fromkeys(rule.special_use))
    return tuple(found)


def auto_mailboxes(rules: Sequence[MailboxRule], separator: str) -> tuple[AutoMailbox, ...]:
    """The mailboxes with auto = create or subscribe.  A name with wildcards creates nothing."""
    return tuple(
        AutoMailbox(
            tuple(fold_inbox(rule.name, separator).split(separator)), rule.auto == "subscribe"
        )
        for rule in rules
        if rule.auto in ("create", "subscribe") and not WILDCARDS & set(rule.name)
    )
