"""What a viewer keeps of a mailbox outside of it goes along when he renames it.

His index and his private \\Seen: only his own, for other viewers' lie in their homes.
"""

from collections.abc import Iterator
from pathlib import Path

from sharefs import index
from sharefs.account.context import Context
from sharefs.account.opening import index_places, private_seen_dir
from sharefs.namespaces.namespace import Found
from sharefs.store import private_seen


class Belongings:
    """Of a mailbox and those below it.  Made before the rename, for paths are looked up by name."""

    def __init__(self, context: Context, found: Found) -> None:
        self._context = context
        self._depth = len(found.levels)
        self._before = [(each, *self._places(each)) for each in _below(found)]

    def _places(self, found: Found) -> tuple[list[Path], Path | None]:
        context = self._context
        indexes = index_places(found, context.settings, context.user.home)
        return indexes, private_seen_dir(found.namespace, found.levels)

    def follow(self, place: Found) -> None:
        """After the rename.  Raises nothing: what stays behind is made anew."""
        for found, indexes, seen in self._before:
            levels = place.levels + found.levels[self._depth :]
            new_indexes, new_seen = self._places(Found(place.namespace, levels))
            for old, new in zip(indexes, new_indexes, strict=False):
                if old != new:  # a link, whose mailbox stays where it is
                    index.follow_rename(old, new)
            if seen is not None and new_seen is not None:
                private_seen.follow_rename(seen, new_seen)


def _below(found: Found) -> Iterator[Found]:
    depth = len(found.levels)
    for stored in found.namespace.storage.iterate():
        if stored.name[:depth] == found.levels:
            yield Found(found.namespace, stored.name)
