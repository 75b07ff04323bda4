"""The rules of an audit: small pure functions from facts to findings, one module for each area."""

from collections.abc import Callable, Iterator
from typing import Final

from sharefs.audit.facts import BoxFacts, HostFacts, RootFacts
from sharefs.audit.findings import Finding
from sharefs.audit.rules import access, configuration, creation, host, links, stores

BoxRule = Callable[[BoxFacts, RootFacts, HostFacts], Iterator[Finding]]
RootRule = Callable[[RootFacts, HostFacts], Iterator[Finding]]
HostRule = Callable[[HostFacts], Iterator[Finding]]

BOX_RULES: Final[tuple[BoxRule, ...]] = (
    *access.BOX_RULES, *creation.BOX_RULES, *stores.BOX_RULES, *links.BOX_RULES, *host.BOX_RULES,
)  # fmt: skip
ROOT_RULES: Final[tuple[RootRule, ...]] = (
    *creation.ROOT_RULES, *stores.ROOT_RULES, *configuration.ROOT_RULES, *host.ROOT_RULES,
)  # fmt: skip
HOST_RULES: Final[tuple[HostRule, ...]] = (
    *creation.HOST_RULES, *stores.HOST_RULES, *configuration.HOST_RULES,
    *host.HOST_RULES,
)  # fmt: skip


def judge_root(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    """Everything that is wrong with one mail root and its mailboxes."""
    for rule in ROOT_RULES:
        yield from rule(root, facts)
    for box in root.boxes:
        for box_rule in BOX_RULES:
            yield from box_rule(box, root, facts)


def judge_host(facts: HostFacts) -> Iterator[Finding]:
    """What is wrong with the host as a whole."""
    for rule in HOST_RULES:
        yield from rule(facts)
