"""Collects the facts of one owner after the other: settings, scan, ACLs, comparison.

Only reads.  What one owner's mailboxes have to say is yielded and then forgotten, so that memory
depends on the largest owner and not on the host.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.account.context import default_acl_dir
from sharefs.acl import Acl
from sharefs.audit.compare import Comparison, Mentioned, mentioned, readable_by_everybody
from sharefs.audit.facts import (
    Account,
    BoxFacts,
    LinkFacts,
    RootFacts,
    Trouble,
    UserFacts,
)
from sharefs.audit.mounts import Mount, mount_of, mounts_of_host
from sharefs.audit.names import Names
from sharefs.audit.operations import MailboxFiles, nearest_directory
from sharefs.audit.predict import predict_mailbox
from sharefs.audit.questions import Question, Verb, World, ask
from sharefs.audit.scan import ScannedBox, ScannedRoot, Scanner
from sharefs.audit.viewing import ReaderAs, ViewerContext
from sharefs.config import Config
from sharefs.errors import SharingError
from sharefs.identity.lookup import HomeLookup
from sharefs.names import Layout, Levels, levels_of
from sharefs.namespaces.namespace import INBOX_LEVELS, Found, Namespace
from sharefs.namespaces.templates import Owner
from sharefs.permissions.access import Credentials, Inode
from sharefs.permissions.explain import describe, inode_of, walk
from sharefs.permissions.inherit import Creation, Facts
from sharefs.permissions.predict import predict_dir
from sharefs.sharing import list_cache
from sharefs.sharing.acl_text import parse_acl
from sharefs.sharing.files import MAX_SIZE, AclFile, AclReader, Condition, acl_path
from sharefs.sharing.keys import MapDiff, Wanted, desired_keys, diff
from sharefs.sharing.policy import AclMailbox, Policy, configured_entries

_SUPERUSER: Final = Credentials(0, 0, superuser=True)


class _Scanned(AclReader):
    """ACL files as the scan has read them; others as the owner could."""

    def __init__(self, who: Credentials) -> None:
        super().__init__()
        self._other = ReaderAs(who)
        self.files: dict[Path, AclFile] = {}

    def read(self, path: Path) -> AclFile:
        return self.files.get(path) or self._other.read(path)


# Device and inode -> a mailbox that has the file, and the mode and group it gives new files.
LinkedFiles = dict[tuple[int, int], tuple[str, int, int]]


@dataclass(slots=True)
class Selection:
    """What is to be audited.  namespaces: names in the configuration; empty: all."""

    namespaces: frozenset[str] = frozenset()


@dataclass(slots=True)
class Gatherer:
    """See the module.  tick: told how many entries were looked at since the last time.

    trouble: gets users whose settings cannot work -> why.
    """

    config: Config
    homes: HomeLookup
    users: list[UserFacts]
    accounts: list[Account]
    selection: Selection = field(default_factory=Selection)
    tick: Callable[[int], None] | None = None
    bad: dict[str, str] = field(default_factory=dict)
    linked: LinkedFiles = field(default_factory=dict)
    crossing: list[tuple[str, str]] = field(default_factory=list)
    _roots: dict[Path, str] = field(default_factory=dict)
    _comparison: Comparison | None = None
    _mounts: tuple[Mount, ...] = ()

    def prepare(self) -> None:
        """Where everybody's mail is: needed to tell whose a link's target is."""
        self._mounts = mounts_of_host()
        self._comparison = Comparison(self.users, self.accounts)
        for user in self.users:
            context = self._context(user)
            for namespace in [] if context is None else context.namespaces.fixed:
                if namespace.type == "private":
                    root = Path(os.path.realpath(namespace.location.path))
                    self._roots.setdefault(root, user.name)

    def _context(self, user: UserFacts) -> ViewerContext | None:
        try:
            return ViewerContext(self.config, user.user, self.homes)
        except SharingError as refusal:
            self.bad[user.name] = refusal.detail
            return None

    def owners(self, chosen: Iterable[UserFacts]) -> Iterator[RootFacts]:
        """The private roots of each owner."""
        for user in chosen:
            context = self._context(user)
            if context is None:
                continue
            found: list[RootFacts] = []
            acls: list[Acl | None] = []
            for namespace in context.namespaces.fixed:
                if namespace.type == "public" or not self._is_wanted(namespace):
                    continue
                root = self._root(user, context, namespace)
                found.append(root)
                acls += [
                    None if box.acl is None or not box.acl.readable else box.effective_acl
                    for box in root.boxes
                    if box.link is None
                ]
            if found:
                found[0] = self._with_map(user, context, found[0], acls)
            yield from found

    def public(self, chosen: Iterable[UserFacts]) -> Iterator[RootFacts]:
        """The public roots, each once, as the first user has it."""
        seen: set[Path] = set()
        for user in chosen:
            context = self._context(user)
            if context is None:
                continue
            for namespace in context.namespaces.fixed:
                path = namespace.location.path
                if namespace.type == "public" and path not in seen and self._is_wanted(namespace):
                    seen.add(path)
                    yield self._root(user, context, namespace)

    def _is_wanted(self, namespace: Namespace) -> bool:
        if namespace.settings.alias_for:
            return False
        return not self.selection.namespaces or namespace.settings.name in self.selection.namespaces

    # --- one root -----------------------------------------------------------------------

    def _root(self, user: UserFacts, context: ViewerContext, namespace: Namespace) -> RootFacts:
        location = namespace.location
        owner = namespace.owner or ""
        base = RootFacts(
            owner, namespace.settings.name, namespace.type, location.path,
            namespace.naming.layout,
            mount=mount_of(os.path.realpath(location.path), self._mounts),
            origin=context.settings.sharefs_mailbox_permissions_from,
            unusable=tuple(self._unusable(user, context, namespace)),
        )  # fmt: skip
        scanner = Scanner(namespace.naming.layout, self.tick)
        try:
            inode = inode_of(os.path.realpath(location.path))
            scanned, boxes = scanner.scan(str(location.path))
            found = list(boxes)
        except (FileNotFoundError, NotADirectoryError):
            return replace(base, cannot_make=self._cannot_make(context, namespace))
        except OSError as error:
            trouble = Trouble(str(location.path), error.strerror or str(error))
            return replace(base, troubles=(trouble,))
        cached, flaw, cache_path = _cache(namespace)
        facts = _Boxes(self, user, context, namespace, inode)
        return replace(
            base,
            inode=inode,
            boxes=tuple(facts.of(found)),
            foreign=tuple(_foreign_of_root(scanned, namespace)),
            locks=tuple(scanned.own.locks),
            troubles=tuple(scanned.troubles),
            chgrp=_chgrp(inode, user.who),
            cached=cached,
            cache_flaw=flaw,
            cache_path=cache_path,
            marker=scanned.marker,
        )

    def _cannot_make(self, context: ViewerContext, namespace: Namespace) -> str:
        if namespace is not context.namespaces.inbox:
            return ""
        try:
            made = predict_mailbox(context, "INBOX", Names()).made
        except (SharingError, OSError) as error:
            return str(error)
        return next((one.why for one in made if not one.made), "")

    def _unusable(
        self, user: UserFacts, context: ViewerContext, namespace: Namespace
    ) -> Iterator[tuple[str, str]]:
        location = namespace.location
        world = World(self._mounts, remembered={})
        for setting, path in (
            ("mail_control_path", location.control_path),
            ("mail_index_path", location.index_path),
            ("mail_index_private_path", location.index_private_path),
        ):
            if path is None or namespace.type == "shared":
                continue
            question = Question(Verb.CREATE_IN, str(nearest_directory(path)), setting)
            told = ask(question, user.who, world)
            if told.refusal is not None:
                yield setting, f"{user.name}: {describe(told.refusal, user.who)}"
        settings = context.settings.sharing_map
        if settings is not None and settings.path is not None and namespace.type == "private":
            where = nearest_directory(settings.path.parent)
            questions = [Question(Verb.CREATE_IN, str(where), "write the sharing map")]
            if os.path.lexists(settings.path):
                questions.append(Question(Verb.READ, str(settings.path), "read the sharing map"))
            for question in questions:
                told = ask(question, user.who, world)
                if told.refusal is not None:
                    why = describe(told.refusal, user.who)
                    yield "acl_sharing_map", f"{user.name} cannot {question.purpose}: {why}"
                    break

    def _with_map(
        self, user: UserFacts, context: ViewerContext, root: RootFacts, acls: list[Acl | None]
    ) -> RootFacts:
        if context.share_map is None or self.selection.namespaces:
            return root
        try:
            have = context.share_map.shares_of(user.name)
        except SharingError:
            return root  # HostFacts.map_flaws has it
        wanted: Wanted = desired_keys(user.name, acls)
        change: MapDiff = diff(have, wanted)
        return replace(
            root, share_map=change, unstorable=tuple(str(key) for key in sorted(wanted.unstorable))
        )

    def note_links(self, found: LinkedFiles) -> None:
        """Message files with several names, each with the mailbox of one of them."""
        for inode, mine in found.items():
            other = self.linked.setdefault(inode, mine)
            if other[0] != mine[0] and other[1:] != mine[1:]:
                pair = (min(other[0], mine[0]), max(other[0], mine[0]))
                if pair not in self.crossing:
                    self.crossing.append(pair)

    @property
    def comparison(self) -> Comparison:
        assert self._comparison is not None, "prepare() comes first"
        return self._comparison

    @property
    def roots(self) -> dict[Path, str]:
        return self._roots

    @property
    def mounts(self) -> tuple[Mount, ...]:
        return self._mounts


class _Boxes:
    """The mailboxes of one root."""

    def __init__(
        self,
        gatherer: Gatherer,
        user: UserFacts,
        context: ViewerContext,
        namespace: Namespace,
        root: Inode,
    ) -> None:
        self._gatherer = gatherer
        self._user = user
        self._context = context
        self._namespace = namespace
        self._root = root
        self._reader = _Scanned(user.who)
        settings = context.settings
        self._policy = Policy(
            self._reader,
            enabled=settings.acl_enabled,
            linker_is_owner=settings.sharefs_symlink_owner == "linker",
        )
        self._world = World(gatherer.mounts, remembered={})

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
        file = self._acl_file(box)
        self._reader.files = {acl_path(path): file}
        found = Found(namespace, levels)
        own = self._context.acl_mailbox(found, resolve_link=False)
        acl = file.acl.joined(own.settings)
        creation = Creation.of_directory(
            Facts(box.inode.mode, box.inode.uid, box.inode.gid, box.path), egid=user.who.gid
        )
        files = self._files(box, own)
        by = self._mentioned(box, acl, namespace.owner or "")
        comparison = self._gatherer.comparison
        judged = tuple(
            comparison.judged(
                files, own, self._as_others(found, own), self._policy, by, self._world
            )
        )
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

    def _acl_file(self, box: ScannedBox) -> AclFile:
        path = acl_path(Path(box.path))
        if box.acl_is_link:
            return self._reader.read(path)
        if box.acl is None:
            return AclFile(path, Condition.MISSING)
        if len(box.acl) > MAX_SIZE:
            return self._reader.read(path)  # which says what is wrong with it
        parsed = parse_acl(box.acl, str(path))
        condition = Condition.MALFORMED if parsed.malformed else Condition.READ
        return AclFile(path, condition, parsed.acl, parsed.problems, 1)

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
            path=path, control=control, root=location.path, acl_dir=own.acl_dir, samples=samples
        )

    def _mentioned(self, box: ScannedBox, acl: Acl, owner: str) -> Mentioned:
        way = walk(_SUPERUSER, Path(box.path) / "cur", look=self._world.look)
        inodes = [step.inode for step in way.steps]
        inodes += [box.inode] if box.inode is not None else []
        inodes += box.folders.values()
        if box.acl is not None:
            with contextlib.suppress(OSError):  # removed since; the comparison finds none either
                inodes.append(self._world.look(str(acl_path(Path(box.path)))))
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
        self._gatherer.note_links(dict.fromkeys(box.linked, mine))

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
        roots = self._gatherer.roots
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


def _chgrp(root: Inode, who: Credentials) -> str:
    """Why a new mailbox could not be given the root's group; "" if it can, or needs not."""
    creation = Creation.of_directory(Facts(root.mode, root.uid, root.gid, root.path), egid=who.gid)
    found = predict_dir(root, creation, who)
    if found.refused_gid is None:
        return ""
    return f"uid {who.uid} is not in group {found.refused_gid}, which new mailboxes must get"


def _cache(namespace: Namespace) -> tuple[frozenset[str] | None, str, str]:
    """Names in the list cache, what is wrong with it, and its path."""
    path = namespace.location.control_dir / list_cache.FILE_NAME
    try:
        octets = fsops.read_file(path)
    except FileNotFoundError:
        return None, "", str(path)
    except OSError as error:
        return None, error.strerror or str(error), str(path)
    found = list_cache.parse_list(octets)
    if found is None:
        return None, "it is malformed", str(path)
    return frozenset(line.name for line in found), "", str(path)


def _foreign_of_root(scanned: ScannedRoot, namespace: Namespace) -> Iterator[str]:
    """Entries of the root that no mail program has put there.

    With the fs layout, or a home that is the mail root, anything may be in it.
    """
    if namespace.naming.layout is Layout.MAILDIRPP and scanned.own.selectable:
        yield from scanned.own.foreign


def _lines(octets: bytes | None) -> tuple[str, ...]:
    if octets is None or len(octets) > MAX_SIZE:
        return ()
    return tuple(octets.decode("utf-8", "surrogateescape").split("\n"))
