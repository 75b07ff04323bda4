"""What `sharefs share link|unlink|links|repair` do in the processes of the owner and the linker."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sharefs.account import Account
from sharefs.account.opening import make_root
from sharefs.errors import Code, SharingError
from sharefs.identity.model import MailUser
from sharefs.names import Layout
from sharefs.namespaces.namespace import Namespace
from sharefs.rights import LOOKUP, NONE
from sharefs.sharing import links
from sharefs.sharing.links import State, Wanted
from sharefs.sharing.policy import Viewer


def sources_of(account: Account, mailbox: str, viewer: MailUser, children: bool) -> dict[str, Any]:
    """As the owner: the mailbox and those below it, where they are, and which of them the ACL
    gives the viewer nothing of."""
    names = account.tree(mailbox) if children else [mailbox]
    separator = account.separator_of(mailbox)
    given = dict(account.given([Viewer(viewer.acl_user, viewer.acl_groups)]))
    sources = []
    for name in names:
        found = account.find(name)
        if found is None or found.namespace.type != "private" or not found.levels:
            continue
        if not account.exists(name):
            continue
        each = given.get(name, [NONE])  # None: ACLs are not asked there
        below = name[len(names[0]) :].strip(separator)
        sources.append(
            {
                "name": name,
                "levels": below.split(separator) if below else [],
                "path": account.paths(name)["mailbox"],
                "visible": each is None or each[0].covers(LOOKUP),
            }
        )
    if not sources:
        raise SharingError(Code.NONEXISTENT, f"Mailbox doesn't exist: {mailbox}")
    return {"sources": sources}


def link(account: Account, name: str, sources: list[dict[str, Any]], dry: bool) -> list[list[str]]:
    """As the linker: [state, mailbox or path, target] of every link made."""
    namespace, top = _place(account, name)
    root = namespace.location.path
    stored_sources = {_spelt(namespace, one["levels"]): str(one["path"]) for one in sources}
    wanted = links.wanted_links(top, stored_sources, namespace.naming.layout)
    if not dry and not root.is_dir():
        make_root(namespace.location)
    creation = account.permissions(name)
    done = []
    for one in wanted:
        if dry:
            present = links.look(root, one.stored)
            state = "would link" if present is None else "is there"
        else:
            state = "linked" if links.make_link(root, one, creation) else "was there"
        done.append([state, str(root / one.stored), one.target])
    return done


def _spelt(namespace: Namespace, levels: Iterable[str]) -> tuple[str, ...]:
    """Levels as they are spelt on disk."""
    levels = tuple(levels)
    if not levels:
        return ()
    return tuple(namespace.stored_name(levels).split(namespace.naming.layout.separator))


def _place(account: Account, name: str) -> tuple[Namespace, str]:
    """The namespace of a mailbox that is, or will be, a link, and its name below the root."""
    found = account.find(name)
    if found is None or found.namespace.type != "private" or not found.levels:
        where = "" if found is None else f" but in the {found.namespace.type} namespace"
        raise SharingError(
            Code.CANNOT,
            f"{name} is not in {account.user.name}'s own tree{where}: say which name of that tree"
            " the link shall have, as NAME (linked/alice, say)",
        )
    namespace = found.namespace
    # Raises for names that no mailbox can have.
    path = namespace.storage.mailbox_path(found.levels)
    return namespace, str(path.relative_to(namespace.location.path))


def unlink(account: Account, name: str, children: bool, dry: bool) -> list[list[str]]:
    namespace, top = _place(account, name)
    root = namespace.location.path
    if links.look(root, top) is None:
        there = os.path.lexists(root / top)
        why = f"is no symbolic link, so {name} is left alone" if there else "is not there"
        raise SharingError(Code.NONEXISTENT, f"{root / top} {why}")
    stored = [top]
    if children and namespace.naming.layout is Layout.MAILDIRPP:
        found = links.links_in(root, namespace.naming.layout)
        stored += [one.stored for one in found if one.stored.startswith(top + ".")]
    done = []
    for one in stored:
        present = links.look(root, one)
        target = "" if present is None else present.target
        if not dry:
            links.remove_link(root, one)
        done.append(["would unlink" if dry else "unlinked", str(root / one), target])
    return done


def listed(account: Account) -> list[dict[str, Any]]:
    """Every link in the user's private trees, with its state."""
    return [
        {
            "Link": str(root / one.stored),
            "State": one.state.value,
            "Target": one.target,
            "uid": one.owner_uid,
            "Missing": len(_missing(account, root, namespace, one)),
        }
        for root, namespace in _roots(account)
        for one in links.links_in(root, namespace.naming.layout)
    ]


def repair(account: Account, dry: bool) -> list[list[str]]:
    """Remove links that lead nowhere, add those that children lack."""
    done: list[list[str]] = []
    for root, namespace in _roots(account):
        creation = account.permissions("INBOX")
        for one in list(links.links_in(root, namespace.naming.layout)):
            if one.state in (State.DANGLING, State.LOOP):
                if not dry:
                    links.remove_link(root, one.stored)
                state = "would unlink" if dry else "unlinked"
                done.append([state, str(root / one.stored), one.target])
                continue
            for wanted in _missing(account, root, namespace, one):
                if not dry:
                    links.make_link(root, wanted, creation)
                state = "would link" if dry else "linked"
                done.append([state, str(root / wanted.stored), wanted.target])
    return done


def _missing(
    account: Account, root: Path, namespace: Namespace, link: links.ShareLink
) -> list[Wanted]:
    if namespace.naming.layout is not Layout.MAILDIRPP or link.state is not State.GOOD:
        return []
    beside = links.names_beside(link)
    if beside is None:
        return []
    present = frozenset(entry.name for entry in root.iterdir())
    is_own = link.owner_uid == account.user.uid
    return links.missing_children(
        link, beside, present, lambda path: is_own or account.is_shown_at(path)
    )


def _roots(account: Account) -> list[tuple[Path, Namespace]]:
    found = account.find("INBOX")
    if found is None or found.namespace.type != "private":
        return []
    root = found.namespace.location.path
    return [(root, found.namespace)] if root.is_dir() else []
