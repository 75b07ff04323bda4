"""What one owner's account says of his mailboxes, and the home that a planner is given.

The first half runs as the owner and its result travels as JSON; the second is the planner's, who
believes nothing of it that would let him touch what is not the owner's.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharefs.account import Account
from sharefs.errors import SharingError
from sharefs.identifiers import Kind
from sharefs.identity.model import MailUser
from sharefs.names import Layout
from sharefs.repair.facts import Home, Mailbox, Person, needs_of
from sharefs.repair.gather import nodes_above
from sharefs.repair.plan_file import Note
from sharefs.rights import Rights
from sharefs.sharing.files import FILE_NAME
from sharefs.sharing.links import State, links_in, missing_children, names_beside


def describe(
    account: Account, people: Sequence[Person], wanted: Collection[str] = ()
) -> dict[str, Any]:
    """The mail root of each private namespace, and every mailbox with what each of the people
    may do there, by name.  JSON data only.

    wanted: names of namespaces in the configuration; empty: all.  "users": whom an ACL names.
    Mailboxes whose ACL cannot be read come with a "problem".
    """
    settings = account.settings
    chosen = {
        space.name: str(space.location.path)
        for space in settings.namespaces
        if space.type == "private" and not space.alias_for and (not wanted or space.name in wanted)
    }
    mailboxes = []
    for name, each in account.given([person.viewer for person in people]):
        found = account.find(name)
        if found is None or not found.levels or found.namespace.settings.name not in chosen:
            continue
        one: dict[str, Any] = {
            "name": name,
            "path": str(found.namespace.storage.mailbox_path(found.levels)),
            "root": chosen[found.namespace.settings.name],
            "rights": {},
            "users": [],
        }
        if each is not None:
            one["rights"] = {
                person.name: rights.letters
                for person, rights in zip(people, each, strict=True)
                if rights.letters
            }
            try:
                one["users"] = [
                    entry.identifier.name
                    for entry in account.stored_acl(name, override=True).entries
                    if entry.identifier.kind is Kind.USER
                ]
            except SharingError as refusal:
                one["problem"] = refusal.detail
        mailboxes.append(one)
    private_seen = any(
        space.type == "shared" and space.location.index_private_path is not None
        for space in settings.namespaces
    )
    return {
        "roots": list(dict.fromkeys(chosen.values())),
        "mailboxes": mailboxes,
        "private_seen": private_seen,
    }


def describe_stores(account: Account) -> dict[str, Any]:
    """What of one owner should agree and may not: ACL files, the sharing map, links.  JSON data.

    "acls": paths of ACL files.  "added", "removed": keys that the map lacks or should not have.
    "links": [path, target] of links that lead nowhere; "unlinked": of links that are missing.
    """
    acls = []
    for listed in account.list("", ["*"]):
        found = account.find(listed.name)
        if found is not None and found.namespace.type == "private" and found.levels:
            directory = account.paths(listed.name).get("acl")
            acls += [] if directory is None else [f"{directory}/{FILE_NAME}"]
    described: dict[str, Any] = {"acls": acls, "added": [], "removed": [], "problem": ""}
    if account.map_label():
        try:
            change = account.rebuild_map(dry_run=True).change
            owner = account.user.name
            described["added"] = sorted(key.path(owner) for key in change.added)
            described["removed"] = sorted(key.path(owner) for key in change.removed)
        except SharingError as refusal:
            described["problem"] = refusal.detail
    inbox = account.find("INBOX")
    described["links"], described["unlinked"] = [], []
    if inbox is None or inbox.namespace.type != "private":
        return described
    root, layout = inbox.namespace.location.path, inbox.namespace.naming.layout
    present = frozenset(os.listdir(root)) if root.is_dir() else frozenset()
    for link in links_in(root, layout) if present else ():
        if link.state in (State.DANGLING, State.LOOP):
            described["links"].append([str(root / link.stored), link.target, link.state.value])
        elif link.state is State.GOOD and layout is Layout.MAILDIRPP:
            own = link.owner_uid == account.user.uid
            shown = _always if own else account.is_shown_at
            missing = missing_children(link, names_beside(link) or (), present, shown)
            described["unlinked"] += [[str(root / one.stored), one.target] for one in missing]
    return described


def _always(path: Path) -> bool:
    return True


def person_of(user: MailUser) -> Person:
    return Person(
        user.name, user.uid, user.gid, frozenset(user.gids), user.acl_user, user.acl_groups
    )


def homes_of(
    owner: Person,
    described: Mapping[str, Any],
    people: Mapping[str, Person],
    group_names: Mapping[int, str],
    notes: list[Note],
) -> Iterator[Home]:
    """The owner's trees, ready to be planned for; of one that is missing a note tells.

    A root below another root is planned for along with that one.  Raises OSError if the
    directories above a root cannot be looked at.
    """
    given = {str(path): os.path.realpath(str(path)) for path in described["roots"]}
    if not given:
        notes.append(Note(owner.name, f"{owner.name} has no such namespace", False))
    mailboxes = tuple(_mailboxes(owner, described, given, people, notes))
    for path, root in given.items():
        if not os.path.isdir(root):
            notes.append(Note(path, f"{owner.name} has no mail root there yet", False))
    present = {root for root in given.values() if os.path.isdir(root)}
    for root in sorted(present):
        if any(is_below(root, other) for other in present):
            continue
        yield Home(
            owner, root, nodes_above(root),
            tuple(one for one in mailboxes if one.path == root or is_below(one.path, root)),
            people, group_names, frozenset(one for one in present if is_below(one, root)),
        )  # fmt: skip


def is_below(path: str, root: str) -> bool:
    return path.startswith(root.rstrip(os.sep) + os.sep)


def _mailboxes(
    owner: Person,
    described: Mapping[str, Any],
    given: Mapping[str, str],
    people: Mapping[str, Person],
    notes: list[Note],
) -> Iterator[Mailbox]:
    for one in described["mailboxes"]:
        root = str(one["root"])
        path = _within(given[root], root, str(one["path"])) if root in given else None
        if path is None:
            continue
        if "problem" in one:
            notes.append(Note(path, f"treated as shared with nobody: {one['problem']}"))
        each = (
            (people[name], Rights.parse(letters))
            for name, letters in one["rights"].items()
            if name in people
        )
        needs = needs_of(owner, each, private_seen=bool(described["private_seen"]))
        yield Mailbox(str(one["name"]), path, needs)


def _within(root: str, given: str, path: str) -> str | None:
    """A mailbox's path below the resolved root; None if it is a link or lies elsewhere."""
    relative = os.path.relpath(path, given)
    real = os.path.normpath(os.path.join(root, relative))
    inside = real == root or is_below(real, root)
    return real if inside and os.path.realpath(real) == real and os.path.isdir(real) else None
