"""The facts of each mailbox of one mail root: ACL, permissions, links, who may do what.

Only reads.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.account.others import as_others, as_shared
from sharefs.acl import Acl
from sharefs.audit.alike import Alike, Compared, likeness
from sharefs.audit.compare import Comparison, Mentioned, mentioned, readable_by_everybody
from sharefs.audit.facts import (
    BoxFacts,
    UserFacts,
)
from sharefs.audit.linked import Links
from sharefs.audit.operations import MailboxFiles
from sharefs.audit.questions import World
from sharefs.audit.resuming import LinkedFiles
from sharefs.audit.scan import ScannedBox
from sharefs.audit.scanned_acls import ScannedAcls
from sharefs.audit.viewing import ViewerContext
from sharefs.errors import SharingError
from sharefs.names import Layout, Levels, levels_of
from sharefs.namespaces.namespace import INBOX_LEVELS, Found, Namespace
from sharefs.permissions.access import Credentials, Inode, can_create
from sharefs.permissions.explain import describe
from sharefs.permissions.inherit import Creation, Facts
from sharefs.sharing import list_cache
from sharefs.sharing.files import MAX_SIZE, acl_path
from sharefs.sharing.policy import AclMailbox, Policy

_SUPERUSER: Final = Credentials(0, 0, superuser=True)


@dataclass(frozen=True, slots=True)
class Around:
    """What mailboxes are compared with.

    roots: gives resolved mail roots -> whose.  note_links: told of message files with several
    names.
    """

    roots: Callable[[], Mapping[Path, str]]
    comparison: Comparison
    note_links: Callable[[LinkedFiles], None]


class Boxes:
    """The mailboxes of one root."""

    def __init__(
        self,
        around: Around,
        user: UserFacts,
        context: ViewerContext,
        namespace: Namespace,
        root: Inode,
        world: World,
        *,
        device: int | None,
    ) -> None:
        """world: is only asked about this root.  device: of the root, if it is all on one mount."""
        self._around = around
        self._user = user
        self._context = context
        self._namespace = namespace
        self._root = root
        self._reader = ScannedAcls(user.who)
        settings = context.settings
        self._policy = Policy(
            self._reader,
            enabled=settings.acl_enabled,
            linker_is_owner=settings.sharefs_symlink_owner == "linker",
        )
        self._device = device
        self._world = world
        self._theirs = as_shared(context, namespace)
        self._alike = Alike()
        spaces = [namespace, *([] if self._theirs is None else [self._theirs])]
        by_name = any(rule.acl for space in spaces for rule in space.settings.mailboxes)
        elsewhere = namespace.location.control_path is not None or settings.acl_global_path
        self._names_matter = device is None or by_name or bool(elsewhere)
        self._links = Links(context, namespace, around.roots)

    def of(self, scanned: list[ScannedBox]) -> Iterator[BoxFacts]:
        by_stored = {box.stored: box for box in scanned}
        for box in scanned:
            levels = self._levels(box)
            if levels is None:
                continue
            if box.is_link:
                yield self._links.facts(box, levels)
                continue
            if box.inode is None or not box.selectable:
                continue
            above = self._above(box, by_stored)
            self._remember(box)
            yield self._box(box, levels, above)
            self._world.forget()

    def bare(self, scanned: list[ScannedBox]) -> Iterator[tuple[str, str, str]]:
        """Name, path, and why the owner cannot make cur, new and tmp in a mailbox without them.

        In a Maildir++ such a directory is listed, and made whole when it is first opened.
        """
        if self._namespace.naming.layout is not Layout.MAILDIRPP or not self._namespace.owner:
            return
        for box in scanned:
            levels = None if box.selectable or box.is_link else self._levels(box)
            if levels is None or box.inode is None:
                continue
            answer = can_create(box.inode, self._user.who)
            if not answer:
                name = self._namespace.full_name(levels)
                yield name, box.path, describe(answer, self._user.who)

    def _levels(self, box: ScannedBox) -> Levels | None:
        if not box.stored:
            return INBOX_LEVELS if self._namespace.type != "public" else None
        try:
            return levels_of(box.stored, self._namespace.naming)
        except SharingError:
            return None

    def _above(self, box: ScannedBox, by_stored: dict[str, ScannedBox]) -> Inode | None:
        if not box.stored:
            return None
        if self._context.settings.sharefs_mailbox_permissions_from == "parent":
            separator = "." if self._namespace.naming.layout is Layout.MAILDIRPP else "/"
            parent = box.stored.rpartition(separator)[0]
            while parent:
                known = by_stored.get(parent)
                if known is not None and known.inode is not None:
                    return known.inode
                parent = parent.rpartition(separator)[0]
        return self._root

    def _box(self, box: ScannedBox, levels: Levels, above: Inode | None) -> BoxFacts:
        assert box.inode is not None
        namespace, user = self._namespace, self._user
        path = Path(box.path)
        file = self._reader.take(box)
        found = Found(namespace, levels)
        own = self._context.acl_mailbox(found, resolve_link=False)
        acl = file.acl.joined(own.settings)
        creation = Creation.of_directory(
            Facts(box.inode.mode, box.inode.uid, box.inode.gid, box.path), egid=user.who.gid
        )
        files = self._files(box, own)
        likeness = self._likeness(box)
        compared = self._alike.get(likeness)
        if compared is None:
            compared = self._compare(box, found, own, acl, files)
            self._alike.keep(likeness, compared)
        self._note_links(box, creation)
        return BoxFacts(
            owner=namespace.owner or "",
            levels=levels,
            name=found.name,
            stored=namespace.stored_name(levels),
            path=path,
            inode=box.inode,
            folders=box.folders,
            kinds=tuple(box.kinds),
            creation=creation,
            above=above,
            acl=file,
            effective_acl=acl,
            acl_lines=_lines(box.acl),
            locks=tuple(box.locks) if box.stored else (),
            foreign=tuple(box.foreign) if box.stored else (),
            judged=compared.judged,
            stranger=compared.stranger,
            outsiders=compared.outsiders,
        )

    # --- who may do what -----------------------------------------------------------------

    def _compare(
        self, box: ScannedBox, found: Found, own: AclMailbox, acl: Acl, files: MailboxFiles
    ) -> Compared:
        by = self._mentioned(box, acl, self._namespace.owner or "")
        comparison = self._around.comparison
        theirs = as_others(self._context, found, self._theirs)
        judged = tuple(comparison.judged(files, own, theirs, self._policy, by, self._world))
        if own.ignored or not self._context.settings.acl_enabled:
            # Nothing is granted to others but by the kernel, so the two cannot disagree.
            judged = tuple(each for each in judged if each.is_owner)
        return Compared(
            judged,
            readable_by_everybody(files, self._world),
            tuple(comparison.outsiders(files, self._world)),
        )

    def _likeness(self, box: ScannedBox) -> object:
        """None: it may be unlike every other in what the scan does not see."""
        if self._names_matter or (box.has_acl and box.acl is None):
            return None
        return likeness(box)

    def _files(self, box: ScannedBox, own: AclMailbox) -> MailboxFiles:
        location = self._namespace.location
        path = Path(box.path)
        control = path
        if location.control_path is not None:
            control = location.control_path / box.stored
            control = control if control.is_dir() else path
        samples: dict[str, list[str]] = {"cur": [], "new": []}
        for kind in box.kinds:
            if kind.folder in samples:
                samples[kind.folder].append(kind.sample)
        if box.acl is not None or (box.acl_is_link and os.path.exists(acl_path(path))):
            samples["acl"] = [str(acl_path(path))]
        return MailboxFiles(
            path=path, control=control, root=location.path, acl_dir=own.acl_dir, samples=samples,
            list_cache=location.control_dir / list_cache.FILE_NAME if box.stored else None,
            child=self._child(box),
            is_plain=self._device is not None and (box.acl is not None or not box.has_acl),
        )  # fmt: skip

    def _child(self, box: ScannedBox) -> Path:
        """A name that nobody has, in the place of a mailbox below this one."""
        if self._namespace.naming.layout is Layout.MAILDIRPP:
            above = box.stored or ""
            return self._namespace.location.path / f"{above}.sharefs-audit"
        return Path(box.path) / "sharefs-audit"

    def _mentioned(self, box: ScannedBox, acl: Acl, owner: str) -> Mentioned:
        way = self._world.way(_SUPERUSER, os.path.join(box.path, "cur"))
        inodes = [step.inode for step in way.steps]
        inodes += [box.inode] if box.inode is not None else []
        inodes += box.folders.values()
        if box.acl is not None:
            with contextlib.suppress(OSError):  # removed since; the comparison finds none either
                inodes.append(self._world.look(str(acl_path(Path(box.path)))))
        with contextlib.suppress(OSError):  # there need not be one
            cache = self._namespace.location.control_dir / list_cache.FILE_NAME
            inodes.append(self._world.look(str(cache)))
        return mentioned(acl, owner, inodes, [(kind.uid, kind.gid) for kind in box.kinds])

    def _remember(self, box: ScannedBox) -> None:
        """What the scan has seen of a mailbox is not looked at a second time."""
        for inode in (box.inode, *box.folders.values(), box.acl_inode):
            if inode is not None:
                self._world.remember(inode, self._real(inode.path))
        if self._device is None:
            return
        for kind in box.kinds:
            read_only = self._root.read_only
            inode = Inode(kind.sample, kind.mode, kind.uid, kind.gid, kind.acl, None, read_only)
            self._world.remember(inode, self._real(kind.sample))

    def _real(self, path: str) -> str:
        """A path below the root, without symbolic links."""
        return self._root.path + path.removeprefix(str(self._namespace.location.path))

    def _note_links(self, box: ScannedBox, creation: Creation) -> None:
        """Files with names in several mailboxes: do these agree on permissions?"""
        mine = (box.path, creation.file_mode, creation.group or -1)
        self._around.note_links(dict.fromkeys(box.linked, mine))


def _lines(octets: bytes | None) -> tuple[str, ...]:
    if octets is None or len(octets) > MAX_SIZE:
        return ()
    return tuple(octets.decode("utf-8", "surrogateescape").split("\n"))
