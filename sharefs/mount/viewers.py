"""Viewers: users as the view knows them, with what they may do, asked anew every moment.

Answers are kept for FRESH seconds, so that a right that was revoked, a new share or a new mailbox
counts within a second for every program, whatever it has open.
"""

import logging
import pwd
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from sharefs.account import Account
from sharefs.config import Config
from sharefs.errors import Code, SharingError
from sharefs.identity.from_config import identity_settings
from sharefs.identity.model import MailUser
from sharefs.identity.userdb import UserDatabase
from sharefs.mount.spelling import directory_of, levels_of
from sharefs.names import Levels
from sharefs.namespaces.patterns import INBOX
from sharefs.rights import NONE, Rights
from sharefs.store.interface import Existence

log: Final = logging.getLogger(__name__)

FRESH: Final = 0.3  # seconds; with the kernel's own second for names, see docs/mount.md
USER_FRESH: Final = 5.0  # seconds for a user's entry in the user databases
INDEX_FRESH: Final = 30.0  # seconds for the list of who has which uid

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a mailbox lies: its mail root and its directory."""

    root: Path
    directory: Path


class Viewer:
    """One user's view.  Only for the thread that handles requests."""

    def __init__(self, config: Config, user: MailUser, users: UserDatabase) -> None:
        self.user = user
        self.account = Account.open(config, user, users)
        self._kept: dict[tuple[str, str], tuple[float, object]] = {}

    @property
    def uid(self) -> int:
        return self.user.uid

    def rights(self, mailbox: str) -> Rights:
        """What the user may do with a mailbox now; none if it is not there for him."""
        return self._fresh("rights", mailbox, self._rights)

    def _rights(self, mailbox: str) -> Rights:
        try:
            return self.account.rights(mailbox).rights
        except SharingError as refusal:
            if refusal.code is not Code.NONEXISTENT:
                log.warning("rights of %s on %s: %s", self.user.name, mailbox, refusal.detail)
            return NONE

    def forget(self) -> None:
        """Something was changed through us: ask again."""
        self._kept.clear()

    def directories(self) -> dict[str, str]:
        """Directory name -> mailbox name, of all that hold mail and are listed for the user."""
        return self._fresh("directories", "", lambda _: dict(self._listed()))

    def _listed(self) -> list[tuple[str, str]]:
        found = []
        for one in self.account.list("", ["*"]):
            if one.name == INBOX or {"\\NoSelect", "\\NonExistent"} & one.flags:
                continue
            name = directory_of(one.name.split(one.separator))
            if name is not None:
                found.append((name, one.name))
        return found

    def mailbox_of(self, directory: str) -> str | None:
        """The mailbox name that a directory's name stands for, whether or not there is one."""
        levels = levels_of(directory)
        if levels is None or (levels[0].upper() == INBOX and len(levels) == 1):
            return None
        return self._fresh("name", directory, lambda _: self._named(levels))

    def _named(self, levels: Levels) -> str | None:
        for separator in dict.fromkeys(one.separator for one in self.account.namespaces()):
            name = separator.join(levels)
            found = self.account.find(name)
            if found is not None and found.levels and found.namespace.separator == separator:
                return found.name
        return None

    def site(self, mailbox: str) -> Site:
        """Raises SharingError(NONEXISTENT) for a name that has no place."""
        found = self.account.find(mailbox)
        if found is None or not found.levels:
            raise SharingError(Code.NONEXISTENT, f"{mailbox} has no directory")
        storage = found.namespace.storage
        return Site(found.namespace.location.path, storage.mailbox_path(found.levels))

    def owns(self, mailbox: str) -> bool:
        """Whether it is a mailbox of the user's own tree."""
        found = self.account.find(mailbox)
        return found is not None and found.namespace.type == "private"

    def exists(self, mailbox: str) -> bool:
        """Whether there is a directory, if only one that is being made into a mailbox."""
        found = self.account.find(mailbox)
        if found is None or not found.levels:
            return False
        return found.namespace.storage.existence(found.levels) is not Existence.ABSENT

    def _fresh(self, kind: str, key: str, ask: Callable[[str], T]) -> T:
        now = time.monotonic()
        kept = self._kept.get((kind, key))
        if kept is not None and now - kept[0] < FRESH:
            return kept[1]  # type: ignore[return-value]  # of the same kind, so of the same type
        if len(self._kept) > 10_000:
            self._kept.clear()
        answer = ask(key)
        self._kept[kind, key] = (time.monotonic(), answer)
        return answer


class _Homes:
    """Home lookups for a thread that acts as a user: made by a thread that does not.

    The thread must exist before any other acts as somebody: new threads inherit that.
    """

    def __init__(self, users: UserDatabase) -> None:
        self._users = users
        self._lookups = ThreadPoolExecutor(1, thread_name_prefix="homes")
        self._lookups.submit(int).result()

    def home_of(self, name: str) -> Path | None:
        return self._lookups.submit(self._users.home_of, name).result()

    def exists(self, name: str) -> bool:
        return self._lookups.submit(self._users.exists, name).result()

    def close(self) -> None:
        self._lookups.shutdown()


class Viewers:
    """Users by name, and who has which uid."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._users = UserDatabase(identity_settings(config))
        self._homes = _Homes(UserDatabase(identity_settings(config)))
        self._known: dict[str, tuple[float, Viewer]] = {}
        self._index: tuple[float, dict[int, list[str]]] | None = None

    def get(self, name: str) -> Viewer | None:
        """The viewer of a user; None if there is no such user."""
        now = time.monotonic()
        known = self._known.get(name)
        if known is not None and now - known[0] < USER_FRESH:
            return known[1]
        try:
            user = self._users.lookup(name)
            viewer = known[1] if known is not None else None
            if viewer is None or viewer.user != user:
                viewer = Viewer(self._config, user, self._users)
        except SharingError as refusal:
            if refusal.code is not Code.NONEXISTENT:
                log.warning("no view for %s: %s", name, refusal.detail)
            self._known.pop(name, None)
            return None
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[name] = (now, viewer)
        return viewer

    def account_for_thread(self, viewer: Viewer) -> Account:
        """An account of the viewer for one piece of work in another thread."""
        return Account.open(self._config, viewer.user, self._homes)

    def acting_for(self, viewer: Viewer, mailbox: str) -> MailUser:
        """As whom the mailbox's own files are changed: its owner, in a public one the viewer.

        Raises SharingError for an owner who is no user any more.
        """
        found = viewer.account.find(mailbox)
        owner = found.namespace.owner if found is not None else None
        if owner is None or owner == viewer.user.name:
            return viewer.user
        return self._users.lookup(owner)

    def forget(self) -> None:
        """Something was changed through us: ask again, for everybody."""
        for _, viewer in self._known.values():
            viewer.forget()

    def close(self) -> None:
        self._homes.close()

    def names_of(self, uid: int) -> list[str]:
        """Users with this uid; the superuser sees everybody who can be listed."""
        index = self._by_uid()
        if uid == 0:
            return sorted({name for names in index.values() for name in names})
        names = list(index.get(uid, ()))
        try:
            own = pwd.getpwuid(uid).pw_name
        except KeyError:
            return names
        viewer = None if own in names else self.get(own)
        return [*names, own] if viewer is not None and viewer.uid == uid else names

    def _by_uid(self) -> dict[int, list[str]]:
        now = time.monotonic()
        if self._index is None or now - self._index[0] >= INDEX_FRESH:
            index: dict[int, list[str]] = {}
            for name in self._users.iterate():
                try:
                    index.setdefault(self._users.lookup(name).uid, []).append(name)
                except SharingError as refusal:
                    log.info("%s is left out: %s", name, refusal.detail)
            self._index = (time.monotonic(), index)
        return self._index[1]
