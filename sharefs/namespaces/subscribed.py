"""Which subscriptions file a mailbox belongs to, and how it is spelled there.

A namespace with `subscriptions = no` has no file: its entries go to the file of the namespace
with the longest prefix that its own begins with, spelled with the prefix that is left.  Public
and shared namespaces never have a file of their own unless its place depends on the viewer:
subscriptions are always the viewer's, and one file for all of them would be everybody's.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sharefs.errors import Code, SharingError
from sharefs.namespaces.namespace import Found, Namespace
from sharefs.namespaces.resolve import Namespaces
from sharefs.namespaces.subscriptions import Subscriptions

log = logging.getLogger(__name__)

SubscriptionsMaker = Callable[[Namespace], Subscriptions]


@dataclass(frozen=True, slots=True)
class Spelling:
    """A namespace that has a subscriptions file, and a mailbox's stored name in it."""

    namespace: Namespace
    stored: str


def has_file(namespace: Namespace) -> bool:
    """Whether the namespace keeps subscriptions of its own."""
    if not namespace.settings.subscriptions:
        return False
    if namespace.type == "private":
        return True
    template = namespace.location.templates.get("mail_control_path")
    return template is not None and template.depends_on_viewer


class Subscribed:
    """The subscriptions of one viewer, over all of the files they are spread over."""

    def __init__(self, namespaces: Namespaces, make: SubscriptionsMaker) -> None:
        self._namespaces = namespaces
        self._make = make
        self._files: dict[str, Subscriptions] = {}

    def spelling_of(self, found: Found) -> Spelling:
        """Raises SharingError(CANNOT) if no namespace can hold it, or for an illegal name."""
        namespace = found.namespace
        stored = namespace.stored_name(found.levels)
        if has_file(namespace):
            return Spelling(namespace, stored)
        parent = self._parent_of(namespace.prefix)
        if parent is None:
            raise SharingError(
                Code.CANNOT,
                f"{found.name} cannot be subscribed to: namespace {namespace.settings.name} keeps"
                " no subscriptions, and no private namespace has a prefix that"
                f" {namespace.prefix!r} begins with; add one with an empty prefix, hidden = yes,"
                " list = no and subscriptions = yes",
            )
        return Spelling(parent, namespace.prefix.removeprefix(parent.prefix) + stored)

    def add(self, found: Found) -> bool:
        """Returns whether it is new."""
        spelling = self.spelling_of(found)
        return self._file_of(spelling.namespace).add(spelling.stored)

    def remove(self, found: Found) -> bool:
        """Returns whether it was there."""
        spelling = self.spelling_of(found)
        return self._file_of(spelling.namespace).remove(spelling.stored)

    def names(self) -> dict[str, str]:
        """Mailbox name -> separator, of everything the viewer is subscribed to.

        Whether there is such a mailbox is not looked at.  Entries that spell no legal name of any
        namespace stay in their file and are passed over.
        """
        return {found.name: found.namespace.separator for found in self._found()}

    def _found(self) -> Iterator[Found]:
        for namespace in self._namespaces.fixed:
            if has_file(namespace):
                for stored in self._file_of(namespace).names():
                    found = self._found_as(namespace, stored)
                    if found is not None:
                        yield found

    def _found_as(self, parent: Namespace, stored: str) -> Found | None:
        """What an entry in parent's file means: a mailbox of a namespace below, or its own."""
        full = parent.prefix + stored
        try:
            child = self._namespaces.find(full)
        except SharingError as refusal:
            log.warning("subscription %r of %s passed over: %s", stored, parent, refusal)
            return None
        if child is not None and child.namespace is not parent and not has_file(child.namespace):
            rest = full[len(child.namespace.prefix) :]
            levels = child.namespace.levels_stored_as(rest) if rest else child.levels
            return Found(child.namespace, levels) if levels else None
        if parent.settings.alias_for:
            return None  # the namespace that this is another name of has it, under its own
        own = parent.levels_stored_as(stored)
        return Found(parent, own) if own else None

    def _parent_of(self, prefix: str) -> Namespace | None:
        parents = [
            namespace
            for namespace in self._namespaces.fixed
            if has_file(namespace) and prefix.startswith(namespace.prefix)
        ]
        return max(parents, key=lambda namespace: len(namespace.prefix), default=None)

    def _file_of(self, namespace: Namespace) -> Subscriptions:
        name = namespace.settings.name
        if name not in self._files:
            self._files[name] = self._make(namespace)
        return self._files[name]
