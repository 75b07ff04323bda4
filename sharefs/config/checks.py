"""What the documentation warns of, checked when a configuration is read: one function per warning."""

import grp
from collections.abc import Callable

from sharefs.config.problems import Problems
from sharefs.config.scope import Scope

GroupLookup = Callable[[str], bool]


def group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def run(root: Scope, overrides: Scope, problems: Problems, lookup_group: GroupLookup) -> None:
    """Run every check."""
