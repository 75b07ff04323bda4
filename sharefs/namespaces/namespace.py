"""One namespace as one viewer has it: its prefix, its storage, names out of it and into it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from sharefs.config.namespaces import Location, NamespaceSettings
from sharefs.errors import SharingError
from sharefs.names import Layout, Levels, Naming, levels_of, storage_path
from sharefs.namespaces.listing import Visible
from sharefs.namespaces.patterns import INBOX
from sharefs.sharing.policy import AclMailbox
from sharefs.store.interface import Storage, StoredMailbox

INBOX_LEVELS: Levels = (INBOX,)

StorageMaker = Callable[[NamespaceSettings, Location], Storage]


class Namespace:
    """A configured namespace, or the part of a shared one that belongs to one owner.

    prefix: without variables, "shared/alice/".  owner: whose mailboxes these are; None in public
    namespaces, where they are nobody's.  storage is made when it is first asked for.
    """

    def __init__(
        self,
        settings: NamespaceSettings,
        location: Location,
        make_storage: StorageMaker,
        *,
        prefix: str,
        owner: str | None,
    ) -> None:
        self.settings = settings
        self.location = location
        self.prefix = prefix
        self.owner = owner
        self.naming = Naming(Layout(location.layout), location.utf8)
        self._make_storage = make_storage
        # Kept for the viewer's account:
        self.described: dict[Levels, AclMailbox] = {}
        self.listed: dict[Levels, Seen] = {}

    @property
    def type(self) -> str:
        """ "private", "shared" or "public"."""
        return self.settings.type

    @property
    def separator(self) -> str:
        return self.settings.separator

    @property
    def is_inbox(self) -> bool:
        """Whether this is the viewer's own namespace, the one that holds INBOX."""
        return self.settings.inbox

    @property
    def bare_prefix(self) -> str:
        """The prefix without its last separator: "Public", "shared/alice", or ""."""
        return self.prefix.removesuffix(self.separator)

    @cached_property
    def storage(self) -> Storage:
        return self._make_storage(self.settings, self.location)

    def full_name(self, levels: Levels) -> str:
        """The mailbox name as a client sees it.  () is the namespace itself."""
        if levels == INBOX_LEVELS:
            if self.is_inbox:
                return INBOX
            if self.type == "shared":
                return self.bare_prefix
        return self.prefix + self.separator.join(levels) if levels else self.bare_prefix

    def levels_of(self, rest: str) -> Levels:
        """The storage name of what follows the prefix.  Whether it is legal is not looked at.

        An owner's own prefix means the owner's INBOX.
        """
        if not rest:
            return INBOX_LEVELS if self.type == "shared" else ()
        levels = tuple(rest.split(self.separator))
        if levels[0].upper() == INBOX and self.type != "public":
            # INBOX has no case (RFC 3501 section 5.1), as the first level of others neither.
            return (INBOX, *levels[1:])
        return levels

    def stored_name(self, levels: Levels) -> str:
        """How subscriptions files and ACL list caches spell it: "Work.Sub" in Maildir++.

        Raises SharingError(CANNOT) for a name that is not legal.
        """
        if levels == INBOX_LEVELS:
            return INBOX
        path = storage_path(levels, self.naming)
        return path[1:] if self.naming.layout is Layout.MAILDIRPP else path

    def levels_stored_as(self, stored: str) -> Levels | None:
        """The inverse of stored_name().  None: no legal name is spelled like that."""
        if stored == INBOX:
            return INBOX_LEVELS
        path = "." + stored if self.naming.layout is Layout.MAILDIRPP else stored
        try:
            return levels_of(path, self.naming)
        except SharingError:
            return None

    def __repr__(self) -> str:
        return f"<Namespace {self.settings.name} {self.prefix!r}>"


@dataclass(frozen=True, slots=True)
class Found:
    """What a mailbox name means.  levels (): the namespace itself, which holds no mail."""

    namespace: Namespace
    levels: Levels

    @property
    def name(self) -> str:
        """The name in its one spelling: "inbox" is INBOX, "shared/alice/INBOX" "shared/alice"."""
        return self.namespace.full_name(self.levels)


@dataclass(frozen=True, slots=True)
class Seen:
    """A mailbox found in a storage, what the policy knows of it, and how it is listed for those
    who may know of it."""

    found: Found
    stored: StoredMailbox
    mailbox: AclMailbox
    visible: Visible

    @property
    def name(self) -> str:
        return self.visible.name
