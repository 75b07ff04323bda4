"""Collects the facts of one owner after the other: settings, scan, ACLs, comparison.

Only reads.  What one owner's mailboxes have to say is yielded and then forgotten, so that memory
depends on the largest owner and not on the host.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sharefs import fsops
from sharefs.account.opening import open_map
from sharefs.acl import Acl
from sharefs.audit.boxes import Around, Boxes
from sharefs.audit.compare import Comparison
from sharefs.audit.facts import (
    Account,
    RootFacts,
    Trouble,
    UserFacts,
)
from sharefs.audit.inodes import Inodes
from sharefs.audit.mounts import Mount, has_mounts_inside, mount_of, mounts_of_host
from sharefs.audit.names import Names
from sharefs.audit.operations import nearest_directory
from sharefs.audit.predict import predict_mailbox
from sharefs.audit.probing import Probed, refine
from sharefs.audit.questions import Question, Verb, World, ask
from sharefs.audit.resuming import LinkedFiles, Outcome
from sharefs.audit.scan import ScannedRoot, Scanner
from sharefs.audit.viewing import ViewerContext
from sharefs.config import Config
from sharefs.config.namespaces import Location
from sharefs.errors import SharingError
from sharefs.identity.lookup import HomeLookup
from sharefs.names import Layout
from sharefs.namespaces.namespace import Namespace
from sharefs.permissions.access import Credentials, Inode
from sharefs.permissions.explain import describe, inode_of
from sharefs.permissions.inherit import Creation, Facts
from sharefs.permissions.predict import GroupRule, predict_dir
from sharefs.sharing import list_cache
from sharefs.sharing.keys import MapDiff, Wanted, desired_keys, diff
from sharefs.sharing.maps import ShareMap


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
    probes: Sequence[Probed] = ()
    linked: LinkedFiles = field(default_factory=dict)
    crossing: list[tuple[str, str]] = field(default_factory=list)
    public_roots: dict[Path, str] = field(default_factory=dict)
    _now: Outcome = field(default_factory=lambda: Outcome(""))
    _position: dict[str, int] = field(default_factory=dict)
    _roots: dict[Path, str] | None = None
    _inodes: Inodes = field(default_factory=Inodes)
    _above: World = field(default_factory=lambda: World((), remembered={}))
    _comparison: Comparison | None = None
    _mounts: tuple[Mount, ...] = ()
    _maps: dict[tuple[str, Path | None, str], ShareMap | None] = field(default_factory=dict)

    def prepare(self) -> None:
        """What all roots have in common, before work is spread over processes."""
        self._mounts = tuple(refine(mount, self.probes) for mount in mounts_of_host())
        self._above = World(self._mounts, remembered={})
        served = bool(self.config.settings().sharefs_mount_point)
        self._comparison = Comparison(self.users, self.accounts, served=served)
        self._position = {user.name: number for number, user in enumerate(self.users)}

    def roots(self) -> Mapping[Path, str]:
        """Resolved mail roots -> whose.  Only hosts with links need to know, so it is not found
        out before somebody asks."""
        if self._roots is None:
            self._roots = {}
            for user in self.users:
                context = self._context(user)
                for namespace in [] if context is None else context.namespaces.fixed:
                    if namespace.type == "private":
                        root = Path(os.path.realpath(namespace.location.path))
                        self._roots.setdefault(root, user.name)
        return self._roots

    def _context(self, user: UserFacts) -> ViewerContext | None:
        try:
            return ViewerContext(self.config, user.user, self.homes)
        except SharingError as refusal:
            self.bad[user.name] = refusal.detail
            return None

    def private(self, user: UserFacts) -> Iterator[RootFacts]:
        """The private roots of one user."""
        context = self._context(user)
        found: list[RootFacts] = []
        acls: list[Acl | None] = []
        for namespace in [] if context is None else context.namespaces.fixed:
            if not self._is_wanted(namespace):
                continue
            if namespace.type == "public":
                self.public_roots.setdefault(namespace.location.path, user.name)
                continue
            assert context is not None
            root = self._root(user, context, namespace)
            found.append(root)
            if root.driver != "maildir" or root.troubles:
                acls.append(None)  # what was not seen may share as well
            acls += [
                None if box.acl is None or not box.acl.readable else box.effective_acl
                for box in root.boxes
                if box.link is None
            ]
        if found and context is not None:
            found[0] = self._with_map(user, context, found[0], acls)
        yield from found

    def outcome_of(self, name: str) -> Outcome:
        """What was come across since the last call, of one user; "" for public mail."""
        public = [str(path) for path, user in self.public_roots.items() if user == name]
        outcome, self._now = self._now, Outcome("")
        outcome.user, outcome.bad, outcome.public = name, self.bad.get(name, ""), public
        return outcome

    def take(self, outcome: Outcome) -> None:
        """What this or another process, or an earlier run, came across."""
        if outcome.bad:
            self.bad[outcome.user] = outcome.bad
        merge_links(outcome.linked, self.linked, self.crossing)
        self.crossing += [pair for pair in outcome.crossing if pair not in self.crossing]
        for path in map(Path, outcome.public):
            known = self.public_roots.setdefault(path, outcome.user)
            if self._position[outcome.user] < self._position[known]:
                self.public_roots[path] = outcome.user

    def public(self, chosen: Iterable[UserFacts]) -> Iterator[RootFacts]:
        """The public roots that private() has come across, each once, as one user has it."""
        by_name = {user.name: user for user in chosen}
        for path, name in sorted(self.public_roots.items()):
            context = self._context(by_name[name])
            for namespace in [] if context is None else context.namespaces.fixed:
                wanted = namespace.type == "public" and self._is_wanted(namespace)
                if wanted and namespace.location.path == path and context is not None:
                    yield self._root(by_name[name], context, namespace)
                    break

    def _is_wanted(self, namespace: Namespace) -> bool:
        if namespace.settings.alias_for:
            return False
        return not self.selection.namespaces or namespace.settings.name in self.selection.namespaces

    # --- one root -----------------------------------------------------------------------

    def _root(self, user: UserFacts, context: ViewerContext, namespace: Namespace) -> RootFacts:
        location = namespace.location
        owner = namespace.owner or ""
        real = os.path.realpath(location.path)
        base = RootFacts(
            owner, namespace.settings.name, namespace.type, location.path,
            namespace.naming.layout,
            mount=mount_of(real, self._mounts),
            origin=context.settings.sharefs_mailbox_permissions_from,
            unusable=tuple(self._unusable(user, context, namespace, real)),
        )  # fmt: skip
        if location.driver != "maildir":
            return replace(base, driver=location.driver)
        nested = has_mounts_inside(real, self._mounts)
        layout = namespace.naming.layout
        scanner = Scanner(layout, self.tick, inodes=self._inodes, nested=nested)
        try:
            inode = inode_of(real)
            scanned, boxes = scanner.scan(str(location.path))
            found = list(boxes)
        except (FileNotFoundError, NotADirectoryError):
            return replace(base, cannot_make=self._cannot_make(context, namespace))
        except OSError as error:
            trouble = Trouble(str(location.path), error.strerror or str(error))
            return replace(base, troubles=(trouble,))
        cached, flaw, cache_path = _cache(namespace)
        around = Around(self.roots, self.comparison, self.note_links)
        device = next(iter(scanned.devices)) if len(scanned.devices) == 1 and not nested else None
        world = self._world(location.path, real)
        facts = Boxes(around, user, context, namespace, inode, world, device=device)
        return replace(
            base,
            inode=inode,
            boxes=tuple(facts.of(found)),
            bare=tuple(facts.bare(found)),
            foreign=tuple(_foreign_of_root(scanned, namespace, context)),
            locks=tuple(scanned.own.locks),
            troubles=tuple(scanned.troubles),
            chgrp=_chgrp(inode, user.who, base.mount),
            cached=cached,
            cache_flaw=flaw,
            cache_path=cache_path,
            marker=scanned.marker,
            keeps_acls=self._inodes.keeps_acls(scanned.device),
        )

    def _world(self, root: Path, real: str) -> World:
        """A world for one root; most roots have the directories above them in common."""
        return self._above.below(str(root.parent), os.path.dirname(real))

    def _cannot_make(self, context: ViewerContext, namespace: Namespace) -> str:
        if namespace is not context.namespaces.inbox:
            return ""
        try:
            made = predict_mailbox(context, "INBOX", Names()).made
        except (SharingError, OSError) as error:
            return str(error)
        return next((one.why for one in made if not one.made), "")

    def _unusable(
        self, user: UserFacts, context: ViewerContext, namespace: Namespace, real: str
    ) -> Iterator[tuple[str, str]]:
        location = namespace.location
        world = self._world(location.path, real)
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
        settings = context.settings.sharing_map
        if settings is None or self.selection.namespaces:
            return root
        # Most users have the same one, which then is read once.
        key = (settings.driver, settings.path, settings.parameters.get("prefix", ""))
        if key not in self._maps:
            self._maps[key] = open_map(settings)
        share_map = self._maps[key]
        if share_map is None:
            return root
        try:
            have = share_map.shares_of(user.name)
        except SharingError:
            return root  # HostFacts.map_flaws has it
        wanted: Wanted = desired_keys(user.name, acls)
        change: MapDiff = diff(have, wanted)
        return replace(
            root, share_map=change, unstorable=tuple(str(key) for key in sorted(wanted.unstorable))
        )

    def note_links(self, found: LinkedFiles) -> None:
        """Message files with several names, each with the mailbox of one of them."""
        merge_links(found, self._now.linked, self._now.crossing)

    @property
    def comparison(self) -> Comparison:
        assert self._comparison is not None, "prepare() comes first"
        return self._comparison


def merge_links(found: LinkedFiles, known: LinkedFiles, crossing: list[tuple[str, str]]) -> None:
    """crossing: gets pairs of mailboxes that have a file in common and give new ones otherwise."""
    for inode, mine in found.items():
        other = known.setdefault(inode, mine)
        if other[0] != mine[0] and other[1:] != mine[1:]:
            pair = (min(other[0], mine[0]), max(other[0], mine[0]))
            if pair not in crossing:
                crossing.append(pair)


def _chgrp(root: Inode, who: Credentials, mount: Mount | None) -> str:
    """Why a new mailbox could not be given the root's group; "" if it can, or needs not."""
    creation = Creation.of_directory(Facts(root.mode, root.uid, root.gid, root.path), egid=who.gid)
    rule = GroupRule.SYSV if mount is None else mount.group_rule
    found = predict_dir(root, creation, who, rule=rule)
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


def _foreign_of_root(
    scanned: ScannedRoot, namespace: Namespace, context: ViewerContext
) -> Iterator[str]:
    """Entries of the root that no mail program has put there.

    With the fs layout, or a home that is the mail root, anything may be in it.  What lies on the
    way to a configured place was made for that: viewers' own \\Seen files in ~/Maildir/shared, say.
    """
    if namespace.naming.layout is not Layout.MAILDIRPP or not scanned.own.selectable:
        return
    root = namespace.location.path
    ours = {
        place.relative_to(root).parts[0]
        for space in context.settings.namespaces
        for place in _places(space.location)
        if place.is_relative_to(root) and place != root
    }
    yield from (name for name in scanned.own.foreign if name not in ours)


def _places(location: Location) -> Iterator[Path]:
    """Of an owner's own the part before his name has none of its variables."""
    for place in (
        location.path, location.control_path, location.index_path, location.index_private_path
    ):  # fmt: skip
        if place is not None:
            yield Path(place)
