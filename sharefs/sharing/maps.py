"""The sharing map: who has shared something with whom, so that it can be listed.

A derived store.  The ACL files are the truth, and the map is rebuilt from them at any time.
Every driver keeps the contract in tests/sharing/contract.py.
"""

import abc
import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping

from sharefs.errors import Code, SharingError
from sharefs.sharing.keys import MapDiff, ShareKey, Wanted, diff, is_storable


class ShareMap(abc.ABC):
    """What every driver can do.

    All methods raise SharingError(UNAVAILABLE) when the environment refuses, and the changing
    ones SharingError(IN_USE) when the map stays locked.
    """

    @abc.abstractmethod
    def all(self) -> Mapping[str, frozenset[ShareKey]]:
        """Every owner in the map, with his keys."""

    @abc.abstractmethod
    def owners_for(self, keys: Collection[ShareKey]) -> frozenset[str]:
        """Who has shared something under one of these keys.  For listing; takes no lock."""

    @abc.abstractmethod
    def shares_of(self, owner: str) -> frozenset[ShareKey]:
        """The keys of one owner.  Takes no lock."""

    @abc.abstractmethod
    def _locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from changing the map."""

    @abc.abstractmethod
    def _apply(self, owner: str, change: MapDiff) -> None:
        """Carry out a change that is not empty, under the lock."""

    def replace(self, owner: str, keys: Collection[ShareKey]) -> MapDiff:
        """Make these the keys of owner.  Other owners' keys stay as they are."""
        return self.refresh(owner, lambda: Wanted(frozenset(keys)))

    def refresh(self, owner: str, wanted: Callable[[], Wanted]) -> MapDiff:
        """As replace, with the keys found out under the map's lock.

        So of two processes that change two of the owner's mailboxes, the later one sees both.
        If the finding is not complete, nothing is removed.  Nothing is written if nothing changes.
        """
        if not is_storable(owner):
            raise SharingError(Code.INVALID, f"the sharing map cannot hold an owner {owner!r}")
        with self._locked():
            found = wanted()
            if lost := [key for key in found.keys if key.name and not is_storable(key.name)]:
                raise SharingError(Code.INVALID, f"the sharing map cannot hold {lost[0]}")
            change = diff(self.shares_of(owner), found)
            if change:
                self._apply(owner, change)
            return change


class MemoryMap(ShareMap):
    """In memory only: for tests, and for asking what a map would say."""

    def __init__(self, shares: Mapping[str, frozenset[ShareKey]] | None = None) -> None:
        self._shares = dict(shares or {})
        self._guard = threading.Lock()

    def all(self) -> Mapping[str, frozenset[ShareKey]]:
        return dict(self._shares)

    def owners_for(self, keys: Collection[ShareKey]) -> frozenset[str]:
        asked = frozenset(keys)
        return frozenset(owner for owner, shared in self._shares.items() if shared & asked)

    def shares_of(self, owner: str) -> frozenset[ShareKey]:
        return self._shares.get(owner, frozenset())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._guard:
            yield

    def _apply(self, owner: str, change: MapDiff) -> None:
        keys = (self.shares_of(owner) - change.removed) | change.added
        self._shares.pop(owner, None)
        if keys:
            self._shares[owner] = keys
