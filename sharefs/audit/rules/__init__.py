"""The rules of an audit: small pure functions from facts to findings, one module for each area."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
        for finding in rule(root, facts):
            yield _placed(finding, (str(root.path),))
    for box in root.boxes:
        for box_rule in BOX_RULES:
            for finding in box_rule(box, root, facts):
                yield _placed(finding, _paths_of(box, root))


def _paths_of(box: BoxFacts, root: RootFacts) -> tuple[str, ...]:
    """What findings of a mailbox may be about, what lies deeper first."""
    paths = [str(box.path), str(root.path)]
    paths += [inode.path for inode in box.folders.values()]
    paths += [kind.sample for kind in box.kinds]
    paths += [str(box.acl.path)] if box.acl is not None else []
    return tuple(sorted(paths, key=len, reverse=True))


def _placed(finding: Finding, paths: Sequence[str]) -> Finding:
    """With the first path that its text names as its place.  Only who knows the paths can tell
    where one ends: names may hold spaces and colons."""
    if finding.place:
        return finding
    for text in (finding.subject, *finding.evidence):
        for path in paths:
            found = re.search(rf"(?<!\S){re.escape(path)}(?![\w/])", text)
            if found is not None:
                return replace(finding, place=path)
    return finding


def judge_host(facts: HostFacts) -> Iterator[Finding]:
    """What is wrong with the host as a whole."""
    for rule in HOST_RULES:
        yield from rule(facts)
