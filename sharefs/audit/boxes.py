"""The facts of each mailbox of one mail root: ACL, permissions, links, who may do what.

Only reads.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sharefs.account.context import default_acl_dir
from sharefs.acl import Acl
from sharefs.audit.compare import Comparison, Mentioned, mentioned, readable_by_everybody
from sharefs.audit.facts import (
    BoxFacts,
    LinkFacts,
    UserFacts,
)
from sharefs.audit.mounts import Mount
from sharefs.audit.operations import MailboxFiles
from sharefs.audit.questions import World
from sharefs.audit.scan import ScannedBox
from sharefs.audit.scanned_acls import ScannedAcls
from sharefs.audit.viewing import ViewerContext
from sharefs.errors import SharingError
from sharefs.names import Layout, Levels, levels_of
from sharefs.namespaces.namespace import INBOX_LEVELS, Found, Namespace
from sharefs.namespaces.templates import Owner
from sharefs.permissions.access import Credentials, Inode
from sharefs.permissions.explain import walk
from sharefs.permissions.inherit import Creation, Facts
from sharefs.sharing import list_cache
from sharefs.sharing.files import MAX_SIZE, AclReader, acl_path
from sharefs.sharing.policy import AclMailbox, Policy, configured_entries

_SUPERUSER: Final = Credentials(0, 0, superuser=True)


# Device and inode -> a mailbox that has the file, and the mode and group it gives new files.
LinkedFiles = dict[tuple[int, int], tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class Around:
    """What mailboxes are compared with.

    roots: resolved mail roots -> whose.  note_links: told of message files with several names.
    """

    roots: Mapping[Path, str]
    mounts: tuple[Mount, ...]
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
    ) -> None:
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
        self._world = World(around.mounts, remembered={})

    def of(self, scanned: list[ScannedBox]) -> Iterator[BoxFacts]:
        by_stored = {box.stored: box for box in scanned}
        for box in scanned:
            levels = self._levels(box)
            if levels is None:
                continue
            if box.is_link:
                yield self._link(box, levels)
                continue
            if box.inode is None or not box.selectable:
                continue
            above = self._above(box, by_stored)
            yield self._box(box, levels, above)
            self._world.forget()

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
        by = self._mentioned(box, acl, namespace.owner or "")
        comparison = self._around.comparison
        judged = tuple(
            comparison.judged(
                files, own, self._as_others(found, own), self._policy, by, self._world
            )
        )
        if own.ignored or not self._context.settings.acl_enabled:
            # Nothing is granted to others but by the kernel, so the two cannot disagree.
            judged = tuple(each for each in judged if each.is_owner)
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
            judged=judged,
            stranger=readable_by_everybody(files, self._world),
            outsiders=tuple(comparison.outsiders(files, self._world)),
        )

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
        if box.acl is not None:
            samples["acl"] = [str(acl_path(path))]
        return MailboxFiles(
            path=path, control=control, root=location.path, acl_dir=own.acl_dir, samples=samples,
            list_cache=location.control_dir / list_cache.FILE_NAME if box.stored else None,
        )  # fmt: skip

    def _mentioned(self, box: ScannedBox, acl: Acl, owner: str) -> Mentioned:
        way = walk(_SUPERUSER, Path(box.path) / "cur", look=self._world.look)
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

    def _as_others(self, found: Found, own: AclMailbox) -> AclMailbox:
        """How another user's account describes this mailbox to the policy."""
        namespace = self._namespace
        if namespace.type != "private":
            return own
        for space in self._context.namespaces.shared:
            theirs = self._context.namespaces.of_owner(space, Owner(namespace.owner or ""))
            if theirs.location.path == namespace.location.path:
                return self._context.acl_mailbox(Found(theirs, found.levels), resolve_link=False)
        settings = self._context.settings
        return replace(
            own,
            namespace_type="shared",
            settings=configured_entries(settings.acl, namespace.settings.acl),
            default_acl_dir=default_acl_dir(namespace, settings.acl_defaults_from_inbox),
        )

    def _note_links(self, box: ScannedBox, creation: Creation) -> None:
        """Files with names in several mailboxes: do these agree on permissions?"""
        mine = (box.path, creation.file_mode, creation.group or -1)
        self._around.note_links(dict.fromkeys(box.linked, mine))

    # --- links -------------------------------------------------------------------------

    def _link(self, box: ScannedBox, levels: Levels) -> BoxFacts:
        found = Found(self._namespace, levels)
        real, loops = "", False
        try:
            os.stat(box.path)
            real = os.path.realpath(box.path)
        except OSError as error:
            loops = error.errno == errno.ELOOP
        owner = self._owner_of(real) if real else ""
        return BoxFacts(
            owner=self._namespace.owner or "",
            levels=levels,
            name=found.name,
            stored=box.stored,
            path=Path(box.path),
            link=LinkFacts(
                box.target, real, loops, owner,
                tuple(self._missing_children(box, real)) if real else (),
                self._is_named(real) if real else False,
            ),
        )  # fmt: skip

    def _owner_of(self, real: str) -> str:
        roots = self._around.roots
        inside = [root for root in roots if Path(real) == root or root in Path(real).parents]
        return roots[max(inside, key=lambda root: len(root.parts))] if inside else ""

    def _missing_children(self, box: ScannedBox, real: str) -> Iterator[str]:
        """Maildir++ links have to be made one by one."""
        if self._namespace.naming.layout is not Layout.MAILDIRPP:
            return
        above, name = os.path.split(real)
        if not name.startswith("."):
            return
        try:
            names = os.listdir(above)
        except OSError:
            return
        for child in sorted(names):
            if child.startswith(f"{name}.") and os.path.isdir(os.path.join(above, child, "cur")):
                linked = f"{box.path}{child.removeprefix(name)}"
                if not os.path.lexists(linked):
                    yield child

    def _is_named(self, real: str) -> bool:
        viewer = self._policy.acl_viewer(
            self._context.viewer, AclMailbox(namespace_type="shared", name="")
        )
        file = AclReader().read(acl_path(Path(real)))
        return any(viewer.matches(entry.identifier) for entry in file.acl.entries)


def _lines(octets: bytes | None) -> tuple[str, ...]:
    if octets is None or len(octets) > MAX_SIZE:
        return ()
    return tuple(octets.decode("utf-8", "surrogateescape").split("\n"))
