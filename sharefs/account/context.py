"""What one viewer's account is made of, and the way from a mailbox name to its rights."""

import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, cast

from sharefs.account.opening import open_map, open_storage, open_subscriptions
from sharefs.acl import VISIBLE, Effective, Entry
from sharefs.config import Config, Settings
from sharefs.errors import Code, SharingError
from sharefs.fsops import GroupRefused
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser
from sharefs.names import Layout, Levels, flaw_of
from sharefs.namespaces.listing import Listed, Listing
from sharefs.namespaces.namespace import INBOX_LEVELS, Found, Namespace
from sharefs.namespaces.resolve import MAX_OWNERS, Namespaces
from sharefs.namespaces.special_use import auto_mailboxes, rule_matches
from sharefs.namespaces.subscribed import Subscribed
from sharefs.namespaces.templates import Owner
from sharefs.permissions.access import Want
from sharefs.permissions.acting import own_credentials
from sharefs.permissions.explain import explain_access, explain_refusal
from sharefs.rights import Rights
from sharefs.sharing.files import Condition
from sharefs.sharing.keys import keys_for
from sharefs.sharing.maps import ShareMap
from sharefs.sharing.policy import (
    AclMailbox,
    Answer,
    Policy,
    Viewer,
    configured_entries,
    is_ignored,
    nonexistent,
    true_owner,
)
from sharefs.store.interface import Existence, Storage, StoredMailbox

log: Final = logging.getLogger(__name__)

NO_SELECT: Final = Existence.NO_SELECT
MAX_DESCRIBED: Final = 10_000  # mailboxes of a namespace; a client may ask for any name

MAX_REPEATED: Final = 16  # mailboxes that a connection asks for again and again

NamespaceType = Literal["private", "shared", "public"]


@dataclass(frozen=True, slots=True)
class Target:
    """A mailbox that was asked for: its place, what the policy knows of it, and what it gives.

    identity: device and inode of its directory from before the ACL was read; None: none there.
    """

    found: Found
    mailbox: AclMailbox
    answer: Answer
    existence: Existence
    identity: tuple[int, int] | None = None

    def is_made_of(self, found: Found, mailbox: AclMailbox, answer: Answer) -> bool:
        """Whether these very objects are what it was made of."""
        return self.found is found and self.mailbox is mailbox and self.answer is answer

    @property
    def effective(self) -> Effective:
        return self.answer.effective

    def demand_unmoved(self) -> None:
        """The mailbox whose ACL was judged is still the one at its path.

        Whoever may write to the directory above could put a symbolic link in its place, to have
        us act on another mailbox with the rights on this one.
        """
        if self.identity is not None and identity_of(self.found) != self.identity:
            raise SharingError(
                Code.UNAVAILABLE,
                f"{self.name} was replaced by another directory at"
                f" {self.storage.mailbox_path(self.levels)} while it was being opened",
                retryable=True,
            )

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def namespace(self) -> Namespace:
        return self.found.namespace

    @property
    def levels(self) -> Levels:
        return self.found.levels

    @property
    def storage(self) -> Storage:
        return self.found.namespace.storage

    @property
    def exists(self) -> bool:
        return self.existence is not Existence.ABSENT

    @property
    def rights(self) -> Rights:
        return self.answer.effective.rights


class Context:
    """Everything an account's operations share.  One for each login; not thread safe.

    policy answers from ACL files with a cache of its own; share_map is None if there is none.
    """

    def __init__(
        self,
        config: Config,
        user: MailUser,
        homes: HomeLookup,
        *,
        protocol: str,
        like: "Context | None" = None,
    ) -> None:
        """like: of another login of an equal user with the same configuration, to know what it
        knows.  Nothing that is shared has a state but memories, whose entries are asked for their
        truth whenever they are used: several threads may read and write them.
        """
        self.user = user
        self.homes = homes
        self.variables = replace(user.variables(), protocol=protocol)
        self.settings: Settings = config.settings(
            protocol=protocol, fields=user.fields, variables=self.variables
        )
        self.viewer = Viewer(None if user.anonymous else user.acl_user, user.acl_groups)
        settings = self.settings
        self.policy: Policy = (
            like.policy
            if like is not None
            else Policy(
                enabled=self.settings.acl_enabled,
                linker_is_owner=self.settings.sharefs_symlink_owner == "linker",
            )
        )
        self.namespaces: Namespaces = Namespaces(
            self.settings.namespaces, viewer=user.name, homes=homes,
            make_storage=lambda space, location: open_storage(space, location, settings),
            like=None if like is None else like.namespaces,
        )  # fmt: skip
        self.subscribed = Subscribed(
            self.namespaces, lambda namespace: open_subscriptions(namespace, self.settings)
        )
        self._autos: dict[str, dict[Levels, bool]] = {}
        self._default_dirs: dict[tuple[str, str], Path | None] = {}
        self._entries: dict[str, tuple[Entry, ...]] = {}
        self._told: set[tuple[str, str]] = set()
        self._located: dict[str, Found] = {} if like is None else like._located
        # By name: the last answer with what it was made of, and the last rights that it covered.
        self._targets: dict[str, tuple[StoredMailbox, Target]] = {}
        self._covered: dict[str, tuple[Target, tuple[Rights, ...]]] = {}
        # The last LIST, and its answer.
        self.listing: tuple[Listing, list[Listed]] | None = None if like is None else like.listing

    @cached_property
    def share_map(self) -> ShareMap | None:
        return open_map(self.settings.sharing_map)

    # --- names ---------------------------------------------------------------------------

    def locate(self, name: str) -> Found:
        """The place of a name that may be asked for.  Raises SharingError(NONEXISTENT)."""
        known = self._located.get(name)
        if known is not None:
            return known
        found = self.namespaces.find(name)
        if found is None or (found.levels and flaw_of(found.levels, found.namespace.naming)):
            raise nonexistent(name)
        if found.namespace.type != "shared":  # the home of an owner may change
            if len(self._located) >= MAX_DESCRIBED:
                self._located.clear()
            self._located[name] = found
        return found

    def demand(self, target: Target, *rights: Rights) -> None:
        """As Policy.demand; but in one's own tree a closed directory is told as what it is.

        There the kernel's refusal gives nothing away, and a missing INBOX would only puzzle.
        """
        mailbox = target.mailbox
        covered = self._covered.get(target.name)
        if covered is not None and covered[0] is target and covered[1] == rights:
            return
        own = target.namespace.type == "private" and mailbox.true_owner is None
        if own and mailbox.acl_dir is not None and self.settings.acl_enabled:
            file = target.answer.file
            if file.condition is Condition.NO_ACCESS:
                why = explain_refusal(file.path, Want.READ)
                log.error("%s cannot be used: %s", target.name, why)
                raise SharingError(Code.UNAVAILABLE, f"{target.name} cannot be used: {why}")
        self.policy.judge(self.viewer, mailbox, target.effective, *rights)
        if len(self._covered) >= MAX_REPEATED:
            self._covered.clear()
        self._covered[target.name] = target, rights

    def target(self, name: str) -> Target:
        """A mailbox and the viewer's rights on it, whether or not it exists.

        Existence and rights are both found out before either is looked at, so that a mailbox
        which the viewer may not know of takes the time of one that is missing.
        """
        return self.target_of(self.locate(name))

    def target_of(self, found: Found) -> Target:
        if not found.levels:
            mailbox = self.acl_mailbox(found)
            return Target(found, mailbox, self.policy.answer(self.viewer, mailbox), NO_SELECT)
        stored = self._look(found)
        stamp = stored.stamp
        identity = identity_of(found) if stamp is None else stamp[:2]
        mailbox = self.acl_mailbox(found, resolve_link=may_be_linked(stored, found.namespace))
        answer = self.policy.answer(self.viewer, mailbox, stamp)
        known = self._targets.get(found.name)
        if known is not None and known[0] is stored and known[1].is_made_of(found, mailbox, answer):
            return known[1]
        existence = self._shown(found, stored.existence)
        if found.namespace.type != "private" and (
            existence is Existence.ABSENT or not answer.effective.rights & VISIBLE
        ):
            self._log_refusal(found, mailbox)
        target = Target(found, mailbox, answer, existence, identity)
        if stamp is not None:  # the storage has one object for it while that stays
            if len(self._targets) >= MAX_REPEATED:
                self._targets.clear()
            self._targets[found.name] = stored, target
        return target

    def known(self, name: str) -> Target:
        """A mailbox that the viewer may know of.  Raises SharingError(NONEXISTENT)."""
        target = self.target(name)
        if not target.levels or not target.exists or not target.rights & VISIBLE:
            raise nonexistent(target.name)
        return target

    def existence(self, found: Found) -> Existence:
        """Automatic mailboxes exist before they are made.  A namespace's prefix holds no mail."""
        if not found.levels:
            return NO_SELECT
        return self._shown(found, self._look(found).existence)

    def _look(self, found: Found) -> StoredMailbox:
        try:
            return found.namespace.storage.look(found.levels)
        except SharingError as refusal:
            log.info("%s is treated as missing: %s", found.name, refusal)
        except OSError as error:
            # The kernel keeps the viewer out: not his to know whether there is such a mailbox.
            log.info("%s is treated as missing: %s", found.name, explained(error))
        return StoredMailbox(found.levels, Existence.ABSENT)

    def _shown(self, found: Found, existence: Existence) -> Existence:
        if existence is not Existence.SELECTABLE and self.is_auto(found):
            return Existence.SELECTABLE  # a mail root without its INBOX yet, for one
        return existence

    def _log_refusal(self, found: Found, mailbox: AclMailbox) -> None:
        """Say in the log, once, if a mailbox is missing only because the kernel keeps the viewer
        out: of its directory, or of its ACL file, without which it is shared with nobody."""
        path = found.namespace.storage.mailbox_path(found.levels)
        try:
            os.stat(path)
            file = self.policy.file_of(mailbox)
            if file.condition is not Condition.NO_ACCESS:
                return
            why = explain_refusal(file.path, Want.READ)
        except PermissionError:
            why = explain_refusal(path)
        except (OSError, ValueError):
            return
        if (found.name, why) not in self._told:
            self._told.add((found.name, why))
            log.warning("%s is out of reach for %s: %s", found.name, self.user.name, why)

    # --- automatic mailboxes -------------------------------------------------------------

    def autos(self, namespace: Namespace) -> dict[Levels, bool]:
        """Automatic mailboxes -> whether they are subscribed to.

        Only in the viewer's own INBOX namespace: nobody wants Drafts in everybody's shared ones.
        """
        if namespace.type != "private" or not namespace.is_inbox:
            return {}
        name = namespace.settings.name
        if name not in self._autos:
            found = auto_mailboxes(namespace.settings.mailboxes, namespace.separator)
            self._autos[name] = {
                auto.levels: auto.subscribed
                for auto in found
                if flaw_of(auto.levels, namespace.naming) is None
            }
        return self._autos[name]

    def is_auto(self, found: Found) -> bool:
        """INBOX is there for its owner, always (RFC 3501 section 5.1)."""
        autos = self.autos(found.namespace)
        own_inbox = found.levels == INBOX_LEVELS and found.namespace is self.namespaces.inbox
        return own_inbox or found.levels in autos

    def subscriptions(self) -> dict[str, str]:
        """Mailbox name -> separator.  A mailbox that is to be subscribed to when it is made
        counts before that."""
        names = self.subscribed.names()
        for namespace in self.namespaces.fixed:
            for levels, subscribed in self.autos(namespace).items():
                name = namespace.full_name(levels)
                if subscribed and name not in names:
                    storage_has = namespace.storage.existence(levels) is not Existence.ABSENT
                    if not storage_has:
                        names[name] = namespace.separator
        return names

    # --- rights --------------------------------------------------------------------------

    def acl_mailbox(
        self, found: Found, *, link_target: Path | None = None, resolve_link: bool = True
    ) -> AclMailbox:
        """The mailbox as the policy wants it described.

        link_target, resolve_link: where a symbolic link leads, if a listing found that out
        already; otherwise the path is resolved here.
        """
        described = self._described(found)
        owner = self._link_owner(found, link_target, resolve_link)
        return described if owner is None else replace(described, true_owner=owner)

    def _described(self, found: Found) -> AclMailbox:
        """What the configuration says of a mailbox, which stays as it is."""
        namespace, levels = found.namespace, found.levels
        known = namespace.described.get(levels)
        if known is not None:
            return known
        space, settings = namespace.settings, self.settings
        from_inbox = space.acl_defaults_from_inbox or settings.acl_defaults_from_inbox
        globals_only = space.acl_globals_only or settings.acl_globals_only
        own_file = levels and not globals_only
        if len(namespace.described) >= MAX_DESCRIBED:
            namespace.described.clear()
        described = namespace.described[levels] = AclMailbox(
            namespace_type=cast(NamespaceType, namespace.type),
            name=found.name,
            owner=namespace.owner or "",
            acl_dir=namespace.storage.acl_directory(levels) if own_file else None,
            default_acl_dir=None if globals_only else self._default_acl_dir(namespace, from_inbox),
            settings=self._configured(found),
            global_file=Path(settings.acl_global_path) if settings.acl_global_path else None,
            default_name="INBOX" if from_inbox and namespace.type != "public" else "",
            ignored=space.acl_ignore
            or settings.acl_ignore
            or is_ignored(space.prefix, settings.acl_ignore_patterns),
        )
        return described

    def _default_acl_dir(self, namespace: Namespace, from_inbox: bool) -> Path | None:
        key = (namespace.settings.name, namespace.prefix)
        if key not in self._default_dirs:
            if len(self._default_dirs) >= MAX_OWNERS:  # a client may ask for any owner
                self._default_dirs.clear()
            self._default_dirs[key] = default_acl_dir(namespace, from_inbox)
        return self._default_dirs[key]

    def _configured(self, found: Found) -> tuple[Entry, ...]:
        space = found.namespace.settings
        rules = [one for one in space.mailboxes if one.acl]
        if not rules:
            if space.name not in self._entries:
                self._entries[space.name] = configured_entries(self.settings.acl, space.acl)
            return self._entries[space.name]
        name = found.namespace.separator.join(found.levels)
        matching = (one.acl for one in rules if rule_matches(one.name, name))
        return configured_entries(self.settings.acl, space.acl, *matching)

    def _link_owner(self, found: Found, target: Path | None, resolve: bool) -> str | None:
        """The true owner of a mailbox in the viewer's own tree; None: it is no link out of it."""
        namespace = found.namespace
        if namespace.type != "private" or found.levels in ((), INBOX_LEVELS):
            return None
        root = namespace.location.path
        if target is None:
            if not resolve:
                return None
            path = os.fspath(namespace.storage.mailbox_path(found.levels))
            if not _has_link(os.fspath(root), path):
                return None
            real_root = os.path.realpath(root)
            real = os.path.realpath(path)
            if real == real_root or real.startswith(real_root + os.sep):
                return None
            target = Path(real)
        roots = {Path(os.path.realpath(path)): owner for path, owner in self._roots_of_others()}
        real_target = Path(os.path.realpath(target))
        return true_owner(real_target, Path(os.path.realpath(root)), self.user.name, roots)

    def _roots_of_others(self) -> Iterator[tuple[Path, str]]:
        for space in self.namespaces.shared:
            for owner in self.sharers():
                namespace = self.namespaces.of_owner(space, Owner(owner))
                yield namespace.location.path, owner

    def sharers(self) -> frozenset[str]:
        """Owners who share something with the viewer, says the sharing map; without himself."""
        if self.share_map is None:
            return frozenset()
        who = self.policy.acl_viewer(self.viewer, AclMailbox(namespace_type="shared", name=""))
        try:
            return self.share_map.owners_for(keys_for(who)) - {self.user.name}
        except SharingError as refusal:
            log.error("shared mailboxes cannot be listed for %s: %s", self.user.name, refusal)
            return frozenset()


def default_acl_dir(namespace: Namespace, from_inbox: bool) -> Path | None:
    """Where a namespace's default ACL lies; None: there is no place for one.

    A root that is INBOX's own directory, as usual with Maildir, holds INBOX's ACL and not a
    default for everything.
    """
    if namespace.type != "public":
        if from_inbox:
            return namespace.storage.acl_directory(INBOX_LEVELS)
        if namespace.storage.acl_directory(INBOX_LEVELS) == namespace.location.path:
            return None
    return namespace.location.path


def _has_link(root: str, path: str) -> bool:
    """Whether a symbolic link may lead from root to somewhere else on the way to path."""
    if not path.startswith(root + os.sep):
        return True
    at = root
    for component in path[len(root) + 1 :].split(os.sep):
        at += os.sep + component
        try:
            if stat.S_ISLNK(os.lstat(at).st_mode):
                return True
        except OSError:
            return False  # nothing there, or out of reach, and so is all below
    return False


def may_be_linked(stored: StoredMailbox, namespace: Namespace) -> bool:
    """Whether a symbolic link may be on the way from the root to a mailbox that was looked at.

    Only below directories that are mailboxes themselves, as fs layouts have them, can it be
    anywhere else than in the mailbox's own place.
    """
    return stored.stamp is None or namespace.naming.layout is Layout.FS


def identity_of(found: Found) -> tuple[int, int] | None:
    """Device and inode of a mailbox's directory, links followed.  None: none within reach."""
    try:
        status = os.stat(found.namespace.storage.mailbox_path(found.levels))
    except (OSError, SharingError):
        return None
    return status.st_dev, status.st_ino


def explained(error: OSError, *, with_remedy: bool = True) -> str:
    """An OSError with the component of the path that refused, for the log."""
    if isinstance(error, GroupRefused):
        return f"{error.filename}: {error.strerror}"  # it says what refused, and the remedy
    if isinstance(error, PermissionError) and error.filename is not None:
        path = os.fsdecode(error.filename)
        if explain_access(own_credentials(), path, Want.SEARCH).refusal is None:
            # It was within reach: making, removing and renaming are up to the directory above.
            want = Want.WRITE | Want.SEARCH
            return explain_refusal(os.path.dirname(path), want, with_remedy=with_remedy)
        return explain_refusal(path, with_remedy=with_remedy)
    return f"{error.strerror}: {error.filename}" if error.filename else str(error)
