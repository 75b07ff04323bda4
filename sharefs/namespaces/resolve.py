"""All namespaces of one viewer: which of them a mailbox name belongs to.

An owner that no user database knows is answered by a namespace whose mail would be in a place
that cannot exist.  Everything that is done with it then takes the way of a missing mailbox, so
neither an answer nor its timing tells who has an account here.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.config.namespaces import NamespaceSettings
from sharefs.config.variables import Variables
from sharefs.errors import Code, SharingError
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import UnknownUser
from sharefs.namespaces.namespace import INBOX_LEVELS, Found, Namespace, StorageMaker
from sharefs.namespaces.patterns import INBOX, fold_inbox
from sharefs.namespaces.templates import Owner, PrefixTemplate, parse_template

# The home of an owner who is not there.  Debian's policy reserves the name, and the NUL-free
# component below it is nobody's mail root even if somebody makes the directory.
NOWHERE: Final = Path("/nonexistent/sharefs-unknown-owner")

MAX_OWNERS: Final = 1000  # owners remembered for one viewer; a client may ask for any number
# Seconds after which an owner's home is asked for again.  The same for owners who are there and
# for those who are not, whom the time of an answer would otherwise tell apart.
REMEMBER: Final = 10.0


@dataclass(frozen=True, slots=True)
class SharedSpace:
    """A configured shared namespace: one namespace for each owner fits in."""

    settings: NamespaceSettings
    template: PrefixTemplate


@dataclass(frozen=True, slots=True)
class _Owned:
    """An owner's namespace, and until when his home need not be asked for."""

    namespace: Namespace
    home: Path | None
    until: float


class Namespaces:
    """Made once for a viewer; find() is called for every command."""

    def __init__(
        self,
        settings: Sequence[NamespaceSettings],
        *,
        viewer: str,
        homes: HomeLookup,
        make_storage: StorageMaker,
        clock: Callable[[], float] = time.monotonic,
        like: "Namespaces | None" = None,
    ) -> None:
        """like: those of the same viewer with the same settings, whose fixed ones serve here too.

        Raises SharingError(INVALID) for a shared prefix that names no owner.
        """
        enabled = sorted((one for one in settings if not one.disabled), key=lambda one: one.order)
        self.viewer = Owner(viewer)
        self._homes = homes
        self._clock = clock
        self._make_storage = make_storage
        self._owned: OrderedDict[tuple[str, str], _Owned] = OrderedDict()
        self.fixed: tuple[Namespace, ...] = like.fixed if like is not None else tuple(
            Namespace(
                one, one.location, make_storage,
                prefix=one.prefix, owner=viewer if one.type == "private" else None,
            )
            for one in enabled
            if one.type != "shared"
        )  # fmt: skip
        self.shared: tuple[SharedSpace, ...] = tuple(
            SharedSpace(one, parse_template(one.prefix, one.separator))
            for one in enabled
            if one.type == "shared"
        )
        # Names in configuration order, which NAMESPACE keeps.
        self.order: tuple[str, ...] = tuple(one.name for one in enabled)
        self.inbox = next((one for one in self.fixed if one.is_inbox), None)

    def find(self, name: str) -> Found | None:
        """The namespace with the longest prefix that the name has, and the name within it.

        None: no namespace covers the name.  Never raises for the name; SharingError(UNAVAILABLE)
        if an owner's home must be looked up and cannot be.
        """
        if name.upper() == INBOX and self.inbox is not None:
            return Found(self.inbox, INBOX_LEVELS)
        if self.inbox is not None:
            name = fold_inbox(name, self.inbox.separator)
        fixed = self._fixed_of(name)
        covered = len(fixed.prefix) if fixed is not None else -1
        for space in self.shared:
            if len(space.template.top) <= covered or not self._is_below(space, name):
                continue
            match = space.template.match(name, viewer_domain=self.viewer.domain)
            if match is None:
                return None  # the container of all owners, or no possible owner
            namespace = self.of_owner(space, match.owner)
            return Found(namespace, namespace.levels_of(match.rest))
        if fixed is None:
            return None
        return Found(fixed, fixed.levels_of(name[len(fixed.prefix) :]))

    def of_owner(self, space: SharedSpace, owner: Owner) -> Namespace:
        """The owner's part of a shared namespace, whether or not there is such a user."""
        key = (space.settings.name, owner.user)
        known = self._owned.get(key)
        now = self._clock()
        if known is not None and now < known.until:
            self._owned.move_to_end(key)
            return known.namespace
        location = space.settings.location
        home = self._home_of(owner) if location.needs_owner_home else None
        if known is not None and known.home == home:
            namespace = known.namespace
        else:
            namespace = Namespace(
                space.settings,
                location.for_owner(Variables(user=owner.user, home=home)),
                self._make_storage,
                prefix=space.template.prefix_of(owner),
                owner=owner.user,
            )
        self._owned[key] = _Owned(namespace, home, now + REMEMBER)
        self._owned.move_to_end(key)
        if len(self._owned) > MAX_OWNERS:
            self._owned.popitem(last=False)
        return namespace

    def is_shared(self, name: str) -> bool:
        """Whether a name may be that of another user's mailbox, whose home must be looked up."""
        return any(self._is_below(space, name) for space in self.shared)

    def separator_of(self, name: str) -> str:
        """The hierarchy separator in force for a name: its namespace's, else the INBOX's."""
        for space in self.shared:
            if self._is_below(space, name):
                return space.settings.separator
        namespace = self._fixed_of(name) or self.inbox
        if namespace is None:
            namespace = self.fixed[0] if self.fixed else None
        return namespace.separator if namespace is not None else "/"

    def is_shadowed(self, name: str, namespace: Namespace) -> bool:
        """Whether a name from this namespace's storage means something in another namespace."""
        if namespace.type != "shared" and name != INBOX:
            if any(
                len(space.template.top) > len(namespace.prefix) and self._is_below(space, name)
                for space in self.shared
            ):
                return True
            best = self._fixed_of(name)
            return best is not None and len(best.prefix) > len(namespace.prefix)
        return False

    def named(self, name: str) -> Namespace:
        """A configured namespace by its name in the configuration.  Raises KeyError."""
        for namespace in self.fixed:
            if namespace.settings.name == name:
                return namespace
        raise KeyError(name)

    def _fixed_of(self, name: str) -> Namespace | None:
        best: Namespace | None = None
        for namespace in self.fixed:
            has_prefix = name.startswith(namespace.prefix) or (
                bool(namespace.prefix) and name == namespace.bare_prefix
            )
            if has_prefix and (best is None or len(namespace.prefix) > len(best.prefix)):
                best = namespace
        return best

    @staticmethod
    def _is_below(space: SharedSpace, name: str) -> bool:
        top = space.template.top
        return name.startswith(top) or (bool(top) and name == space.template.container)

    def _home_of(self, owner: Owner) -> Path:
        try:
            return self._homes.home_of(owner.user) or NOWHERE
        except UnknownUser:
            return NOWHERE
        except SharingError as refusal:
            if refusal.code in (Code.NONEXISTENT, Code.INVALID):
                return NOWHERE
            raise
