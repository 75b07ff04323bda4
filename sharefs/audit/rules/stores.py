"""Three stores that must agree: ACL files and their entries, list cache, sharing map.  Pure."""

import re
from collections.abc import Iterator
from typing import Final

from sharefs.acl import Entry
from sharefs.audit.commands import formatted, line, on_acl
from sharefs.audit.facts import BoxFacts, HostFacts, RootFacts
from sharefs.audit.findings import Finding, Severity, rule
from sharefs.identifiers import Kind
from sharefs.rights import LOOKUP, READ
from sharefs.sharing.acl_text import Severity as LineSeverity

AREA: Final = "stores"
_DOUBLE_SPACE: Final = re.compile(r"^-?[a-z][^ \"]* ( +)")

acl_malformed = rule(
    "acl-malformed", Severity.CRITICAL, AREA, "An ACL file has a line that cannot be read",
    "One such line spoils the whole file: nobody but the owner gets anything until it is mended.",
)  # fmt: skip
acl_doubtful = rule(
    "acl-doubtful", Severity.WARNING, AREA, "A line of an ACL file hardly means what it says",
    "It is legal, and gives or takes something else than whoever wrote it thinks.",
)  # fmt: skip
acl_unreadable = rule(
    "acl-unreadable", Severity.WARNING, AREA, "An ACL file cannot be read",
    "Who cannot read it gets no rights from it, the owner included.",
)  # fmt: skip
orphan = rule(
    "orphan-identifier", Severity.WARNING, AREA, "An ACL names a user who does not exist",
    "Who is given that name next inherits the rights of the one who left.",
)  # fmt: skip
wrong_domain = rule(
    "identifier-domain", Severity.WARNING, AREA,
    "An ACL names a user who exists with or without a domain only",
    "The entry matches nobody: names in ACLs are compared as they are, domain and all.",
)  # fmt: skip
broad = rule(
    "broad-identifier", Severity.WARNING, AREA, "A mailbox is shared with everybody",
    "anyone and authenticated mean every user of every domain on this server, and those to come.",
)  # fmt: skip
never_matches = rule(
    "entry-never-matches", Severity.WARNING, AREA, "An entry can never match",
    "It gives nobody anything, though it looks as if it did.",
)  # fmt: skip
cache_missing = rule(
    "list-cache-incomplete", Severity.WARNING, AREA, "The list cache lacks shared mailboxes",
    "Others do not see them listed where they cannot list the mail root itself.",
)  # fmt: skip
cache_stale = rule(
    "list-cache-stale", Severity.NOTICE, AREA, "The list cache names mailboxes that have no ACL",
    "Harmless, but it says that nobody has renewed it.",
)  # fmt: skip
cache_broken = rule(
    "list-cache-broken", Severity.WARNING, AREA, "The list cache cannot be used",
    "Others do not see the shared mailboxes where they cannot list the mail root itself.",
)  # fmt: skip
map_missing = rule(
    "map-missing", Severity.WARNING, AREA, "The sharing map lacks a share",
    "Who was given the mailbox never sees it listed, although he can open it by name.",
)  # fmt: skip
map_stale = rule(
    "map-stale", Severity.NOTICE, AREA, "The sharing map names a share that no ACL grants",
    "Listing looks into mailboxes for nothing, and reports of who shares with whom are wrong.",
)  # fmt: skip
map_gone = rule(
    "map-owner-gone", Severity.WARNING, AREA, "The sharing map names an owner who does not exist",
    "Every list looks for his mail; who is given that name next seems to share it.",
)  # fmt: skip
map_unstorable = rule(
    "map-unstorable", Severity.WARNING, AREA, "The sharing map cannot hold a name",
    "Names with a slash do not fit into its keys, so the share is never listed.",
)  # fmt: skip
map_broken = rule(
    "map-broken", Severity.CRITICAL, AREA, "The sharing map cannot be read",
    "Nobody sees any shared mailbox listed.",
)  # fmt: skip


def find_bad_lines(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if box.acl is None:
        return
    for problem in box.acl.problems:
        is_error = problem.severity is LineSeverity.ERROR
        found = acl_malformed if is_error else acl_doubtful
        if is_error and not problem.place.line:
            found = acl_unreadable
        yield found(
            f"{box.subject}: {problem.place}", problem.text,
            remedy="correct the line; sharefs acl get shows what is left of the file",
            commands=() if is_error else formatted(box), mailbox=box.name,
            place=str(problem.place),
        )  # fmt: skip
    for number, written in enumerate(box.acl_lines, 1):
        if spaces := _DOUBLE_SPACE.match(written):
            yield acl_doubtful(
                f"{box.subject}: {box.acl.path}:{number}:{spaces.start(1) + 1}",
                "more than one space before the rights; other programs take them for no rights",
                remedy="leave one space", commands=formatted(box),
                severity=Severity.NOTICE, mailbox=box.name,
            )  # fmt: skip


def _entries(box: BoxFacts) -> Iterator[Entry]:
    if box.acl is not None:
        yield from box.acl.acl.entries


def _where(box: BoxFacts, entry: Entry) -> str:
    return f"{entry.place or entry.negative_place}: {entry}"


def find_orphans(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    known = facts.known
    for entry in _entries(box):
        name = entry.identifier.name
        if entry.identifier.kind is not Kind.USER or name in known.acl_users or "\t" in name:
            continue
        if known.exists.get(name, True):
            continue
        near = sorted(user for user in known.users if _same_but_domain(user, name))
        subject = f"{box.subject}: user={name}"
        if near:
            yield wrong_domain(
                subject, _where(box, entry), f"there is {', '.join(near[:3])}",
                remedy=f"write user={near[0]}",
                commands=on_acl("delete", box, f"user={name}"),
                mailbox=box.name,
            )  # fmt: skip
        else:
            yield orphan(
                subject, _where(box, entry),
                remedy="take the entry out, or correct the name",
                commands=on_acl("delete", box, f"user={name}"),
                mailbox=box.name,
            )  # fmt: skip


def _same_but_domain(one: str, other: str) -> bool:
    return one.partition("@")[0] == other.partition("@")[0] and ("@" in one) != ("@" in other)


def find_broad(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if root.type == "public" and facts.allow_anyone:
        return  # asked for, twice
    for entry in _entries(box):
        wide = entry.identifier.kind in (Kind.ANYONE, Kind.AUTHENTICATED)
        if wide and entry.rights is not None and entry.rights & (LOOKUP | READ):
            yield broad(
                f"{box.subject}: {entry}", f"{_where(box, entry)} {entry.rights}",
                remedy="share with a group instead",
                commands=on_acl("delete", box, entry.identifier.file()),
                severity=Severity.NOTICE if root.type == "public" else None, mailbox=box.name,
            )  # fmt: skip


def find_never_matches(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    for entry in _entries(box):
        why = _why_never(entry, root, facts)
        if why:
            yield never_matches(
                f"{box.subject}: {entry}", f"{_where(box, entry)}: {why}",
                remedy="take the entry out, or write what was meant",
                commands=on_acl("delete", box, entry.identifier.file()), mailbox=box.name,
            )  # fmt: skip


def _why_never(entry: Entry, root: RootFacts, facts: HostFacts) -> str:
    kind, name = entry.identifier.kind, entry.identifier.name
    if kind is Kind.OWNER and root.type == "public":
        return "nobody owns a public mailbox"
    if "\t" in name:
        return "the identifier has a TAB in it"
    if kind in (Kind.GROUP, Kind.GROUP_OVERRIDE) and name not in facts.known.acl_groups:
        return f"no user has {name} in acl_groups, which is not the Unix groups"
    if entry.negative is not None and entry.rights is None and kind is Kind.ANYONE:
        return "negative rights of the weakest identifier take nothing from any stronger entry"
    return ""


def find_cache(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    commands = (line("sharefs", "acl", "recalc", "-u", root.owner),) if root.owner else ()
    if root.cache_flaw:
        yield cache_broken(
            root.cache_path, root.cache_flaw, remedy="renew it", commands=commands,
            user=root.owner,
        )  # fmt: skip
        return
    listable = {
        box.stored
        for box in root.boxes
        if box.effective_acl is not None and box.effective_acl.entries
    }
    if root.cached is None and not listable:
        return
    missing = sorted(listable - (root.cached or frozenset()))
    if missing:
        yield cache_missing(
            root.cache_path, "not named: " + ", ".join(missing[:10]),
            "there is no list cache" if root.cached is None else f"{len(missing)} missing",
            remedy="renew it", commands=commands, user=root.owner,
        )  # fmt: skip
    unreadable = {box.stored for box in root.boxes if box.acl is not None and not box.acl.readable}
    if stale := sorted((root.cached or frozenset()) - listable - unreadable):
        yield cache_stale(
            root.cache_path, "named without an ACL: " + ", ".join(stale[:10]), remedy="renew it",
            commands=commands, user=root.owner,
        )  # fmt: skip


def find_map(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    commands = (line("sharefs", "map", "rebuild", "-u", root.owner),)
    if root.share_map is not None:
        for key in sorted(root.share_map.added):
            yield map_missing(
                f"{root.owner} -> {key}", f"an ACL of {root.owner} shares with {key}",
                remedy="rebuild the map", commands=commands, user=root.owner,
            )  # fmt: skip
        for key in sorted(root.share_map.removed):
            yield map_stale(
                f"{root.owner} -> {key}", f"no ACL of {root.owner} shares with {key}",
                remedy="rebuild the map", commands=commands, user=root.owner,
            )  # fmt: skip
    for name in root.unstorable:
        yield map_unstorable(
            f"{root.owner} -> {name}", "the name has a slash", remedy="rename the user or group",
            user=root.owner,
        )  # fmt: skip


def find_map_of_host(facts: HostFacts) -> Iterator[Finding]:
    for owner in facts.gone:
        yield map_gone(
            owner, "no user database knows the name", remedy="rebuild the map",
            commands=("sharefs map rebuild --all",), user=owner,
        )  # fmt: skip
    for path, why in facts.map_flaws:
        yield map_broken(path, why, remedy="mend its permissions, or rebuild it")


BOX_RULES: Final = (find_bad_lines, find_orphans, find_broad, find_never_matches)
ROOT_RULES: Final = (find_cache, find_map)
HOST_RULES: Final = (find_map_of_host,)
