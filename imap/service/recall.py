"""What STATUS told of mailboxes, kept while it is certainly still true.

A worker keeps few mailboxes open, and clients ask for the status of a thousand all the time.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Final

from sharefs.store.interface import Mailbox, Memento

LIMIT: Final = 10_000  # mailboxes; about 1 KB each


class Recall:
    """Values by mailbox key.  Forgets what was asked for least recently."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._known: OrderedDict[Hashable, tuple[Memento, Mapping[str, int]]] = OrderedDict()

    def __len__(self) -> int:
        """Of how many mailboxes something is remembered."""
        return len(self._known)

    def remember(self, key: Hashable, mailbox: Mailbox, values: Mapping[str, int]) -> None:
        """values: as they are now.  Nothing is kept of a mailbox that has just changed."""
        memento = mailbox.memento()
        if memento is None:
            self._known.pop(key, None)
            return
        self._known.pop(key, None)
        self._known[key] = memento, values
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def recall(self, key: Hashable) -> Mapping[str, int]:
        """What was remembered last, if nothing has happened since; a few stat(2) calls."""
        known = self._known.get(key)
        if known is None:
            return {}
        # Connections may ask in threads, and each step here may find that another was faster.
        if not known[0].looks_unchanged():
            self._known.pop(key, None)
            return {}
        with contextlib.suppress(KeyError):
            self._known.move_to_end(key)
        return known[1]
