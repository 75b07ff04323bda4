"""ACLs of Cyrus and Courier, there and back, with every place where meaning cannot be kept.  Pure.

The two differ from Dovecot in more than spelling.  Dovecot lets the entry of a stronger kind
replace weaker ones (sharefs.acl); Cyrus and Courier add up whatever matches, and then take away
whatever negative entries match.  So entries are computed anew: what a stronger entry no longer
gives becomes a negative one, what weaker ones add is written out.  Where that cannot be done the
translation gives less rather than more, and a Loss says so; only members of several groups may
get more, which a Loss says too.

| | Dovecot | Cyrus | Courier |
|---|---|---|---|
| a user | `user=bob` | `bob` | `user=bob` |
| a group | `group=ops` | `group:ops` | `group=ops`, `administrators` |
| the owner | `owner` | the owner's name | `owner` |
| everybody | `anyone` | `anyone` | `anyone`, `anonymous` |
| who logged in | `authenticated` | - | - |
| who did not | - | `anonymous` | - |
| the owner always has | - | `lkxa` | `la`, and gets mail |
"""

import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sharefs.acl import EMPTY, Acl, AclViewer, Entry, effective
from sharefs.errors import Code, Place, SharingError
from sharefs.identifiers import ANYONE, AUTHENTICATED, OWNER, Identifier, Kind, group, user
from sharefs.rights import ALL, NONE, Rights
from sharefs.sharing.acl_text import format_acl, parse_acl


class Dialect(enum.StrEnum):
    """Whose rules."""

    DOVECOT = "dovecot"
    CYRUS = "cyrus"
    COURIER = "courier"


@dataclass(frozen=True, slots=True)
class Loss:
    """A place where meaning could not be kept.  who: the identifier it is about."""

    who: str
    text: str

    def __str__(self) -> str:
        return f"{self.who}: {self.text}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of an ACL that adds up.  unknown: for who did not log in, and nobody else."""

    identifier: Identifier
    rights: Rights
    negative: bool = False
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Translated:
    """acl: of an import; text: of an export, lines as the other server shows them."""

    acl: Acl = EMPTY
    text: str = ""
    losses: tuple[Loss, ...] = ()


GroupsOf = Mapping[str, frozenset[str]]

# What the owner has whatever the ACL says: implicit_owner_rights of imapd.conf(5); maildiracl(1).
# Courier knows no right to post: mail for the owner is delivered.
IMPLICIT: Final = {Dialect.CYRUS: Rights.parse("lkxa"), Dialect.COURIER: Rights.parse("lap")}
_LETTERS: Final = {Dialect.CYRUS: "lrswipkxtea", Dialect.COURIER: "lrswikxtea"}
_COURIER_ORDER: Final = "aceilrstwx"


# --- import ------------------------------------------------------------------------------------


def import_acl(
    octets: bytes,
    dialect: Dialect,
    *,
    owner: str,
    groups_of: GroupsOf | None = None,
    file: str = "",
) -> Translated:  # fmt: skip
    """Read one mailbox's ACL, one entry a line, and say the same in Dovecot's rules.

    owner: the mailbox's owner, "" if it has none.  groups_of: the groups of the users named; None:
    nobody knows.  Raises SharingError(INVALID) naming the line.
    """
    if dialect is Dialect.DOVECOT:
        parsed = parse_acl(octets, file)
        if parsed.malformed:
            raise SharingError(Code.INVALID, str(parsed.problems[0]))
        return Translated(parsed.acl, losses=tuple(Loss("", str(p)) for p in parsed.problems))
    losses: list[Loss] = []
    rules = [
        rule
        for number, line in enumerate(octets.split(b"\n"), 1)
        if (rule := _parse_line(line, dialect, Place(file, number), losses)) is not None
    ]
    acl = replacing(rules, owner, IMPLICIT[dialect], groups_of, losses)
    return Translated(acl, losses=tuple(losses))


def _parse_line(line: bytes, dialect: Dialect, place: Place, losses: list[Loss]) -> Rule | None:
    try:
        text = line.decode().strip()
    except UnicodeDecodeError:
        raise SharingError(Code.INVALID, f"{place}: not UTF-8") from None
    if not text or text.startswith("#"):
        return None
    name, _, letters = text.rpartition("\t") if "\t" in text else text.rpartition(" ")
    name = name.strip()
    if not name:
        raise SharingError(Code.INVALID, f"{place}: a line is an identifier and its rights")
    negative = name.startswith("-")
    word = name.removeprefix("-")
    known = "".join(letter for letter in letters if letter in "lrswipkxteacd")
    if odd := sorted(set(letters) - set(known)):
        if not all(letter.isdigit() or letter == "n" for letter in odd):
            raise SharingError(Code.INVALID, f"{place}: {letters!r} are no rights")
        losses.append(
            Loss(name, f"the rights {''.join(odd)} are unknown to Dovecot and were left out")
        )
    rights = Rights.parse(known)
    try:
        return _rule(word, rights, negative, dialect)
    except SharingError as refused:
        raise SharingError(refused.code, f"{place}: {refused.detail}") from refused


def _rule(word: str, rights: Rights, negative: bool, dialect: Dialect) -> Rule:
    if word == "anyone":
        return Rule(ANYONE, rights, negative)
    if word == "anonymous":
        return Rule(ANYONE, rights, negative, unknown=dialect is Dialect.CYRUS)
    if dialect is Dialect.CYRUS:
        if word.startswith("group:"):
            return Rule(_named(group(word.removeprefix("group:"))), rights, negative)
        return Rule(_named(user(word)), rights, negative)
    if word == "administrators":
        return Rule(group(word), rights, negative)
    return Rule(Identifier.parse_cli(word).identifier, rights, negative)


def _named(identifier: Identifier) -> Identifier:
    """Refuses what no ACL file can hold."""
    return Identifier.parse_cli(identifier.file()).identifier


def replacing(
    rules: Iterable[Rule], owner: str, implicit: Rights, groups_of: GroupsOf | None,
    losses: list[Loss],
) -> Acl:  # fmt: skip
    """Entries that mean by replacing what the rules mean by adding up."""
    given: dict[tuple[Identifier, bool], Rights] = {}
    taken: dict[tuple[Identifier, bool], Rights] = {}
    for rule in rules:
        parts = taken if rule.negative else given
        key = (rule.identifier, rule.unknown)
        parts[key] = parts.get(key, NONE) | rule.rights
    everybody, nobody = given.get((ANYONE, False), NONE), taken.get((ANYONE, False), NONE)
    entries: list[Entry] = []

    def add(identifier: Identifier, more: Rights, less: Rights) -> None:
        """more, less: what others add to this identifier's own parts."""
        key = (identifier, False)
        positive = given[key] | more if key in given else None
        negative = taken[key] | less if key in taken else None
        entries.append(Entry(identifier, positive, negative))

    unknown = given.get((ANYONE, True), NONE), taken.get((ANYONE, True), NONE)
    if (ANYONE, True) in given or (ANYONE, True) in taken:
        entries.append(Entry(ANYONE, everybody | unknown[0], nobody | unknown[1]))
        entries.append(Entry(AUTHENTICATED, everybody, nobody))
    elif (ANYONE, False) in given or (ANYONE, False) in taken:
        add(ANYONE, NONE, NONE)
    named = {identifier for identifier, _ in (*given, *taken)}
    groups = sorted(one for one in named if one.kind is Kind.GROUP)
    for one in groups:
        add(one, everybody, nobody)
    for one in sorted(one for one in named if one.kind is Kind.USER and one.name != owner):
        more, less = everybody, nobody
        for theirs in _groups_of(one, groups, groups_of, losses):
            more |= given.get((theirs, False), NONE)
            less |= taken.get((theirs, False), NONE)
        add(one, more, less)
    if owner:
        gets, loses = everybody, nobody
        own = [user(owner), OWNER]
        for one in (*own, *_groups_of(user(owner), groups, groups_of, losses)):
            gets |= given.get((one, False), NONE)
            loses |= taken.get((one, False), NONE)
        rights = (gets - loses) | implicit
        if not rights.covers(ALL):
            entries.append(Entry(OWNER, rights))
    elif OWNER in named:
        losses.append(Loss("owner", "this mailbox has none, so the entry was left out"))
    return Acl(tuple(entries))


def _groups_of(
    one: Identifier, groups: list[Identifier], groups_of: GroupsOf | None, losses: list[Loss]
) -> list[Identifier]:
    if not groups:
        return []
    if groups_of is None or one.name not in groups_of:
        names = ", ".join(group.name for group in groups)
        losses.append(
            Loss(
                one.file(),
                f"in case {one.name} is in one of the groups {names}: there what the group has"
                " is added to it, here the user's own entry replaces it",
            )
        )
        return []
    return [group for group in groups if group.name in groups_of[one.name]]


# --- export ------------------------------------------------------------------------------------


def export_acl(
    acl: Acl, dialect: Dialect, *, owner: str, groups_of: GroupsOf | None = None
) -> Translated:
    """Say in another server's rules what an ACL means.  Parameters as of import_acl."""
    losses: list[Loss] = []
    if len(acl.local().entries) != len(acl.entries):
        losses.append(Loss("", "entries that come from the configuration were left out"))
    local = acl.local()
    if dialect is Dialect.DOVECOT:
        return Translated(local, format_acl(local).decode(), tuple(losses))
    rules = adding(local, owner, dialect, groups_of, losses)
    lines = [_format(rule, dialect, owner, losses) for rule in rules if rule.rights]
    return Translated(local, "".join(lines), tuple(losses))


def adding(
    acl: Acl, owner: str, dialect: Dialect, groups_of: GroupsOf | None, losses: list[Loss]
) -> list[Rule]:
    """Rules that mean by adding up what the entries mean by replacing."""
    unknown = _means(acl, AclViewer(None))
    stranger = _means(acl, AclViewer(_STRANGER))
    rules: list[Rule] = []
    if dialect is Dialect.CYRUS:
        everybody = stranger
        rules.append(Rule(ANYONE, everybody))
        rules.append(Rule(ANYONE, unknown - everybody, unknown=True))
        rules.append(Rule(ANYONE, everybody - unknown, negative=True, unknown=True))
    else:
        everybody = unknown & stranger
        rules.append(Rule(ANYONE, everybody))
        if unknown != stranger:
            losses.append(
                Loss(
                    "authenticated",
                    "who logged in and who did not are one there: everybody gets what both have",
                )
            )
    kinds = {entry.identifier.kind for entry in acl.entries}
    groups: dict[str, tuple[Rights, Rights]] = {}
    for name in sorted(e.identifier.name for e in acl.entries if e.identifier.kind is Kind.GROUP):
        entry = acl.find(group(name))
        assert entry is not None
        means = _means(acl, AclViewer(_STRANGER, frozenset({name})))
        groups[name] = means, (entry.negative or NONE) | (everybody - means)
    for name, (means, less) in groups.items():
        rules += [Rule(group(name), means), Rule(group(name), less, negative=True)]
    losses += _of_several(acl, rules, list(groups))
    if Kind.GROUP_OVERRIDE in kinds:
        losses.append(
            Loss("group-override", "nothing there is stronger than a user: the entry was left out")
        )
    for entry in acl.entries:
        one = entry.identifier
        if one.kind is not Kind.USER or one.name == owner:
            continue
        mine = _memberships(one.name, groups, groups_of, losses)
        means = _means(acl, AclViewer(one.name, frozenset(mine)))
        rules += _for_one(one, means, everybody, mine, groups, losses)
    if owner:
        mine = _memberships(owner, groups, groups_of, losses)
        means = _means(acl, AclViewer(owner, frozenset(mine), True, owner, private_namespace=True))
        if lost := IMPLICIT[dialect] - means:
            losses.append(Loss("owner", f"there nothing can take {lost} from the owner"))
        one = user(owner) if dialect is Dialect.CYRUS else OWNER
        rules += _for_one(one, means, everybody, mine, groups, losses)
    elif Kind.OWNER in kinds:
        losses.append(Loss("owner", "this mailbox has none, so the entry was left out"))
    return _without_extras(rules, losses)


def _of_several(acl: Acl, rules: list[Rule], groups: list[str]) -> Iterator[Loss]:
    """Members of two groups, or of all, for whom adding up comes to something else."""
    several = [*itertools.combinations(groups, 2), tuple(groups)] if len(groups) > 1 else []
    for names in dict.fromkeys(several):
        viewer = AclViewer(_STRANGER, frozenset(names))
        want, got = _means(acl, viewer), sum_of(rules, viewer, NONE)
        who = f"members of {' and '.join(names)}"
        if want - got:
            yield Loss(who, f"{want - got} stays away from them there")
        if got - want:
            yield Loss(who, f"they get {got - want} more there")


_STRANGER: Final = "\0nobody in particular"


def _means(acl: Acl, viewer: AclViewer) -> Rights:
    plain = Acl(tuple(e for e in acl.entries if e.identifier.kind is not Kind.GROUP_OVERRIDE))
    return effective(plain, viewer, NONE).rights


def _for_one(
    one: Identifier, means: Rights, everybody: Rights, mine: list[str],
    groups: Mapping[str, tuple[Rights, Rights]], losses: list[Loss],
) -> list[Rule]:  # fmt: skip
    """What one person has, against what the others' rules give and take already."""
    gets, loses = everybody, NONE
    for name in mine:
        gets |= groups[name][0]
        loses |= groups[name][1]
    if lost := means & loses:
        losses.append(
            Loss(one.file(), f"{lost} stays away there: a group takes it and nothing gives it back")
        )
    return [Rule(one, means), Rule(one, gets - means, negative=True)]


def _memberships(
    name: str, groups: Mapping[str, object], groups_of: GroupsOf | None, losses: list[Loss]
) -> list[str]:
    found = _groups_of(user(name), [group(one) for one in groups], groups_of, losses)
    return [one.name for one in found]


def _without_extras(rules: list[Rule], losses: list[Loss]) -> list[Rule]:
    plain = []
    for rule in rules:
        if rule.rights.extra:
            names = " ".join(rule.rights.extra)
            losses.append(Loss(rule.identifier.file(), f"{names} means nothing there: left out"))
        plain.append(replace(rule, rights=Rights(rule.rights.letters)))
    return plain


def _format(rule: Rule, dialect: Dialect, owner: str, losses: list[Loss]) -> str:
    letters = "".join(one for one in _LETTERS[dialect] if one in rule.rights.letters)
    missing = "".join(one for one in rule.rights.letters if one not in _LETTERS[dialect])
    if missing:
        if not rule.negative and rule.identifier != OWNER:
            losses.append(Loss(rule.identifier.file(), f"there is no right {missing} there"))
        if not letters:
            return ""
    mark = "-" if rule.negative else ""
    if dialect is Dialect.COURIER:
        spelt = letters.replace("k", "c")
        ordered = "".join(one for one in _COURIER_ORDER if one in spelt)
        return f"{mark}{rule.identifier.file()} {ordered}\n"
    one = rule.identifier
    name = {Kind.GROUP: "group:" + one.name, Kind.ANYONE: "anyone"}.get(one.kind, one.name)
    if one.kind is Kind.USER and (
        one.name in ("anyone", "anonymous") or one.name.startswith(("group:", "-"))
    ):
        losses.append(Loss(one.file(), "no user can have this name there: left out"))
        return ""
    return f"{mark}{'anonymous' if rule.unknown else name}\t{letters}\n"


# --- what rules mean ---------------------------------------------------------------------------


def sum_of(rules: Iterable[Rule], viewer: AclViewer, implicit: Rights) -> Rights:
    """What rules that add up give a viewer: the definition that translations are held against."""
    given, taken = NONE, NONE
    for rule in rules:
        if not viewer.matches(rule.identifier) or (rule.unknown and viewer.name is not None):
            continue
        if rule.negative:
            taken |= rule.rights
        else:
            given |= rule.rights
    return (given - taken) | (implicit if viewer.is_owner else NONE)
