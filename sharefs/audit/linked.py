"""Symbolic links in the place of mailboxes: where they lead, whose that is, what they lack.

Only reads.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sharefs.audit.facts import BoxFacts, LinkFacts
from sharefs.audit.scan import ScannedBox
from sharefs.audit.viewing import ViewerContext
from sharefs.names import Layout, Levels
from sharefs.namespaces.namespace import Found, Namespace
from sharefs.rights import LOOKUP
from sharefs.sharing.files import AclReader, acl_path
from sharefs.sharing.policy import AclMailbox


@dataclass(frozen=True, slots=True)
class Links:
    """The links of one mail root.  roots: gives resolved mail roots -> whose."""

    context: ViewerContext
    namespace: Namespace
    roots: Callable[[], Mapping[Path, str]]

    def facts(self, box: ScannedBox, levels: Levels) -> BoxFacts:
        found = Found(self.namespace, levels)
        real, loops = "", False
        try:
            os.stat(box.path)
            real = os.path.realpath(box.path)
        except OSError as error:
            loops = error.errno == errno.ELOOP
        return BoxFacts(
            owner=self.namespace.owner or "",
            levels=levels,
            name=found.name,
            stored=box.stored,
            path=Path(box.path),
            link=LinkFacts(
                box.target, real, loops,
                self._owner_of(Path(real)) if real else "",
                tuple(self._missing_children(box, real)) if real else (),
                self._is_named(real) if real else False,
                self.context.settings.sharefs_symlink_owner == "linker",
            ),
        )  # fmt: skip

    def _owner_of(self, real: Path) -> str:
        """Whose mail root a path is in, the innermost if they are nested; "" for nobody's."""
        roots = self.roots()
        inside = (place for place in (real, *real.parents) if place in roots)
        innermost = next(inside, None)
        return "" if innermost is None else roots[innermost]

    def _missing_children(self, box: ScannedBox, real: str) -> Iterator[str]:
        """Maildir++ links have to be made one by one."""
        if self.namespace.naming.layout is not Layout.MAILDIRPP:
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
                target = Path(above, child)
                if not os.path.lexists(linked) and self._is_shown(target):
                    yield child

    def _is_shown(self, target: Path) -> bool:
        """Whether the linker should have a link to it: it is his own, or its ACL shows it."""
        if self._owner_of(target) == self.namespace.owner:
            return True
        mailbox = AclMailbox(namespace_type="shared", name=str(target), acl_dir=target)
        return self.context.policy.rights_of(self.context.viewer, mailbox).rights.covers(LOOKUP)

    def _is_named(self, real: str) -> bool:
        """Whether the ACL behind the link has an entry for the linker."""
        viewer = self.context.policy.acl_viewer(
            self.context.viewer, AclMailbox(namespace_type="shared", name="")
        )
        file = AclReader().read(acl_path(Path(real)))
        return any(viewer.matches(entry.identifier) for entry in file.acl.entries)
