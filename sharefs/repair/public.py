"""Public mail for the planner: trees that belong to nobody's account.

Reads as the superuser, because no user sees all of it.  ACL files are taken from a scan, which
follows no symbolic link.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping

from sharefs.audit.scan import Scanner
from sharefs.audit.scanned_acls import ScannedAcls
from sharefs.audit.viewing import ViewerContext
from sharefs.config import Config
from sharefs.errors import SharingError
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser
from sharefs.names import levels_of
from sharefs.namespaces.namespace import Found, Namespace
from sharefs.permissions.access import Credentials
from sharefs.repair.facts import Home, Mailbox, Need, Person, needs_of
from sharefs.repair.gather import node_at, nodes_above
from sharefs.repair.plan_file import Note
from sharefs.sharing.policy import Policy

_SUPERUSER = Credentials(0, 0, superuser=True)


def public_homes(
    config: Config,
    users: Iterable[MailUser],
    homes: HomeLookup,
    people: Mapping[str, Person],
    group_names: Mapping[int, str],
    notes: list[Note],
    *,
    wanted: Collection[str] = (),
) -> Iterator[Home]:
    """Each public tree once, as the first of the users has it, ready to be planned for.

    wanted: names of namespaces in the configuration; empty: all.  The owner is the uid and gid of
    the root.  Raises OSError if the directories above a root cannot be looked at.
    """
    seen: set[str] = set()
    for user in users:
        try:
            context = ViewerContext(config, user, homes)
        except SharingError as refusal:
            notes.append(Note(user.name, f"left out: {refusal.detail}"))
            continue
        for namespace in context.namespaces.fixed:
            settings = namespace.settings
            if namespace.type != "public" or settings.alias_for:
                continue
            root = os.path.realpath(namespace.location.path)
            if root in seen or (wanted and settings.name not in wanted):
                continue
            seen.add(root)
            if not os.path.isdir(root):
                text = f"public namespace {settings.name} has no mail root there yet"
                notes.append(Note(str(namespace.location.path), text, False))
                continue
            node = node_at(root)
            owner = Person(f"uid {node.inode.uid}", node.inode.uid, node.inode.gid)
            found = _Public(context, namespace, people, owner, notes)
            yield Home(
                owner, root, nodes_above(root), tuple(found.mailboxes(root)), people, group_names
            )


class _Public:
    """The mailboxes of one public namespace, and what everybody needs there."""

    def __init__(
        self,
        context: ViewerContext,
        namespace: Namespace,
        people: Mapping[str, Person],
        owner: Person,
        notes: list[Note],
    ) -> None:
        self._context = context
        self._namespace = namespace
        self._people = people
        self._owner = owner
        self._notes = notes
        self._reader = ScannedAcls(_SUPERUSER)
        self._policy = Policy(self._reader, enabled=context.settings.acl_enabled)

    def mailboxes(self, root: str) -> Iterator[Mailbox]:
        naming = self._namespace.naming
        scanned, boxes = Scanner(naming.layout).scan(root)
        for box in boxes:
            if box.is_link or not box.stored or not box.selectable:
                continue
            if box.acl_is_link:
                text = "its ACL file is a symbolic link: treated as shared with nobody"
                self._notes.append(Note(box.path, text))
                continue
            file = self._reader.take(box)
            if file.malformed:
                text = f"treated as shared with nobody: {file.problems[0]}"
                self._notes.append(Note(box.path, text))
            try:
                found = Found(self._namespace, levels_of(box.stored, naming))
            except SharingError:
                continue  # no mailbox can have this name
            yield Mailbox(found.name, box.path, self._needs(found))
        for trouble in scanned.troubles:
            self._notes.append(Note(trouble.path, f"could not be looked at: {trouble.why}"))

    def _needs(self, found: Found) -> dict[str, Need]:
        mailbox = self._context.acl_mailbox(found, resolve_link=False)
        if mailbox.ignored or not self._context.settings.acl_enabled:
            return {}
        private_seen = self._namespace.location.index_private_path is not None
        people = list(self._people.values())
        each = self._policy.rights_of_each([person.viewer for person in people], mailbox)
        given = zip(people, (found.rights for found in each), strict=True)
        return needs_of(self._owner, given, private_seen=private_seen)
