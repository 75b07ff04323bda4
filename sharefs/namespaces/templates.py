"""Prefixes of shared namespaces: `shared/$user/` as a template that owners fit into.  Pure.

Formats 18.  The variables are $user, $username and $domain, or their 2.3 forms %%u, %%n and %%d.
Opening a name parses it against the template; listing puts an owner in.
"""

import re
from dataclasses import dataclass
from typing import Final

from sharefs.errors import Code, SharingError

_OLD: Final = {"%%u": "$user", "%%n": "$username", "%%d": "$domain"}
_VARIABLE: Final = re.compile(r"\$(user|username|domain)(?![A-Za-z0-9])")

# An owner's name becomes part of paths (%{owner_user}), so what could climb out of them or hide
# in a log is no owner at all; 255 is NAME_MAX.
_FORBIDDEN: Final = re.compile(r"[/\x00-\x1f\x7f]")
MAX_OWNER: Final = 255


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns the mailboxes of one shared namespace: "alice@ex.org", "alice", "ex.org"."""

    user: str

    @property
    def username(self) -> str:
        return self.user.partition("@")[0]

    @property
    def domain(self) -> str:
        return self.user.partition("@")[2]


@dataclass(frozen=True, slots=True)
class Match:
    """A mailbox name that fits: its owner, the owner's prefix, and what follows the prefix.

    bare: the name was the prefix without its last separator, which means the owner's INBOX.
    """

    owner: Owner
    prefix: str
    rest: str
    bare: bool


@dataclass(frozen=True, slots=True)
class PrefixTemplate:
    """A parsed prefix.  parts: literal text and variables ("$user") in turn, literals possibly "".

    separator: the namespace's; the template ends in it.
    """

    text: str
    parts: tuple[str, ...]
    separator: str

    @property
    def top(self) -> str:
        """The prefix before its first variable, "shared/": what is common to all owners."""
        return self.parts[0]

    @property
    def container(self) -> str:
        """The mailbox name that holds all owners, "shared"; "" if the prefix starts with them."""
        return self.top.rpartition(self.separator)[0]

    def prefix_of(self, owner: Owner) -> str:
        """The owner's own prefix, "shared/alice/"."""
        values = {"$user": owner.user, "$username": owner.username, "$domain": owner.domain}
        return "".join(values.get(part, part) for part in self.parts)

    def match(self, name: str, *, viewer_domain: str = "") -> Match | None:
        """Parse a mailbox name.  None: not below this prefix, or no possible owner in it.

        viewer_domain: what $username stands in when the template has no $domain.
        """
        parsed = self._parse(name)
        bare = parsed is None
        if bare:
            parsed = self._parse(name + self.separator)
        if parsed is None:
            return None
        values, rest = parsed
        if bare and rest:
            return None
        owner = _owner(values, viewer_domain)
        if owner is None:
            return None
        return Match(owner, self.prefix_of(owner), rest, bare)

    def fits(self, owner: Owner, *, viewer_domain: str = "") -> bool:
        """Whether this owner can be named by this viewer: parsing the owner's prefix gives them.

        With `shared/$username/`, alice@other.org cannot: the name would mean the alice of the
        viewer's own domain.
        """
        found = self.match(self.prefix_of(owner), viewer_domain=viewer_domain)
        return found is not None and found.owner == owner and not found.rest

    def _parse(self, name: str) -> tuple[dict[str, str], str] | None:
        if not name.startswith(self.top):
            return None
        values: dict[str, str] = {}
        at = len(self.top)
        for variable, literal in zip(self.parts[1::2], self.parts[2::2], strict=True):
            end = name.find(literal, at)
            value = name[at:end]
            if end < 0 or not value or values.setdefault(variable, value) != value:
                return None
            at = end + len(literal)
        return values, name[at:]


def _owner(values: dict[str, str], viewer_domain: str) -> Owner | None:
    domain = values.get("$domain", "")
    if "$user" in values:
        user = values["$user"]
    else:
        username, domain = values["$username"], domain or viewer_domain
        user = f"{username}@{domain}" if domain else username
    owner = Owner(user)
    consistent = all(
        owner_value == values.get(variable, owner_value)
        for variable, owner_value in (("$username", owner.username), ("$domain", owner.domain))
    )
    if not consistent or not is_possible_owner(user):
        return None
    return owner


def is_possible_owner(user: str) -> bool:
    """Whether a name can be a user's at all; says nothing about whether there is one."""
    parts = (user, *user.split("@"))
    return (
        len(user.encode("utf-8", "replace")) <= MAX_OWNER
        and _FORBIDDEN.search(user) is None
        and all(part and part not in (".", "..") and part[0] != "~" for part in parts)
    )


def is_template(prefix: str) -> bool:
    return _VARIABLE.search(_modern(prefix)) is not None


def _modern(prefix: str) -> str:
    for old, new in _OLD.items():
        prefix = prefix.replace(old, new)
    return prefix


def parse_template(prefix: str, separator: str) -> PrefixTemplate:
    """Read a shared namespace's prefix, in the 2.4 or 2.3 spelling.

    Raises SharingError(INVALID) without a user variable, with two variables that nothing
    separates, and without the separator at the end (the owner's name would have no end).
    """
    parts = tuple(
        "$" + part if index % 2 else part
        for index, part in enumerate(_VARIABLE.split(_modern(prefix)))
    )
    if not {"$user", "$username"} & set(parts[1::2]):
        raise SharingError(
            Code.INVALID,
            f"prefix {prefix!r} of a shared namespace names no owner; write for example"
            f" shared{separator}$user{separator}",
        )
    if "" in parts[2:-1:2]:
        raise SharingError(
            Code.INVALID, f"prefix {prefix!r}: two variables with nothing between them"
        )
    if not separator or not parts[-1].endswith(separator):
        raise SharingError(
            Code.INVALID,
            f"prefix {prefix!r} of a shared namespace must end in its separator {separator!r}",
        )
    return PrefixTemplate(prefix, parts, separator)
