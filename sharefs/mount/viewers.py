"""Viewers: users as the view knows them, with what they may do, asked anew every moment.

Answers are kept for FRESH seconds, so that a right that was revoked, a new share or a new mailbox
counts within a second for every program, whatever it has open.
"""

import contextlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from sharefs.account import Account
from sharefs.config import Config
from sharefs.errors import Code, SharingError
from sharefs.identity.from_config import identity_settings
from sharefs.identity.model import MailUser
from sharefs.identity.privileges import call_as
from sharefs.identity.userdb import UserDatabase
from sharefs.mount.known_users import AnsweringHomes, KnownUsers, WaitingHomes, ask_databases
from sharefs.mount.log_limit import about
from sharefs.mount.questions import Age
from sharefs.mount.silent import Silent
from sharefs.mount.spelling import directory_of, levels_of
from sharefs.names import Layout, Levels
from sharefs.namespaces.patterns import INBOX
from sharefs.rights import NONE, Rights
from sharefs.store.interface import Existence

log: Final = logging.getLogger(__name__)

FRESH: Final = 0.3  # seconds; with the kernel's own second for names, see docs/mount.md
LISTING_AGE: Final = Age(fresh=FRESH / 2, kept=FRESH)

MAKING_AGE: Final = Age(fresh=10.0, kept=10.0)
MAX_OWNERS: Final = 100  # users of one uid who are asked whose a linked mailbox is
MAX_RECENT: Final = 10_000  # users who are remembered though nobody has anything of theirs open

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a mailbox lies: its mail root and its directory."""

    root: Path
    directory: Path


@dataclass(frozen=True, slots=True)
class Linked:
    """The end of a symbolic link in somebody's tree: a mailbox of its owner's, as he calls it."""

    owner: "Viewer"
    mailbox: str


class Viewer:
    """One user's view, one object for each name.  Only for the thread that handles requests."""

    def __init__(
        self,
        config: Config,
        user: MailUser,
        users: KnownUsers,
        silent: Silent,
        on_forget: Callable[[], None],
    ) -> None:
        self._config = config
        self._users = users
        self._silent = silent
        self._on_forget = on_forget
        self._questions = users.questions
        self._kept: dict[tuple[str, str], tuple[float, object]] = {}
        self._open(user)

    def _open(self, user: MailUser) -> None:
        self.account = Account.open(self._config, user, self._users)
        self.user = user

    def is_now(self, user: MailUser) -> None:
        """What the user databases say.  Raises SharingError if that cannot work."""
        if user != self.user:
            self._open(user)
            self.forget()

    @property
    def uid(self) -> int:
        return self.user.uid

    def rights(self, mailbox: str) -> Rights:
        """What the user may do with a mailbox now; none if it is not there for him."""
        return self._fresh("rights", mailbox, self._rights)

    def rights_until(self, mailbox: str) -> float:
        """When rights() will ask anew, as time.monotonic() counts."""
        return self._fresh_until("rights", mailbox)

    def _rights(self, mailbox: str) -> Rights:
        try:
            self.is_now(self._users.lookup(self.user.name))  # his groups may have changed
            self._demand_answer(mailbox)
            return self.account.rights_by_acl(mailbox).rights
        except SharingError as refusal:
            if refusal.code is not Code.NONEXISTENT:
                log.warning("rights of %s on %s: %s", self.user.name, mailbox, refusal.detail,
                            extra=about(self.user.name))  # fmt: skip
            return NONE

    def rights_of_linker_until(self, mailbox: str, linker: "Viewer") -> float:
        return linker._fresh_until(f"linked from {self.user.name}", mailbox)

    def rights_of_linker(self, mailbox: str, linker: "Viewer") -> Rights:
        """What another user may do with a mailbox of this one's that he has linked."""

        def ask(_: str) -> Rights:
            try:
                linker.is_now(self._users.lookup(linker.user.name))
                self.is_now(self._users.lookup(self.user.name))
                self._demand_answer(mailbox)
                return self.account.rights_of_linker(mailbox, linker.account.acl_viewer).rights
            except SharingError as refusal:
                if refusal.code is not Code.NONEXISTENT:
                    log.warning("rights of %s on %s of %s: %s", linker.user.name, mailbox,
                                self.user.name, refusal.detail,
                                extra=about(linker.user.name))  # fmt: skip
                return NONE

        return linker._fresh(f"linked from {self.user.name}", mailbox, ask)

    def link_end(self, mailbox: str) -> str:
        """The path to which a symbolic link in the user's own tree leads; "" if there is none."""
        return self._fresh("link", mailbox, self._link_end)

    def _link_end(self, mailbox: str) -> str:
        if not self.owns(mailbox):
            return ""
        site = self.site_that_answers(mailbox)
        if not site.directory.is_relative_to(site.root):
            return ""
        here = site.root
        for part in site.directory.relative_to(site.root).parts:
            here = here / part
            if here.is_symlink():
                return os.path.realpath(site.directory)
        return ""

    def mailbox_at(self, path: str) -> str | None:
        """What the user calls the mailbox of his own at this path, which has no links in it."""
        for one in self.account.namespaces():
            found = self.account.find(one.prefix + "x") if one.type == "private" else None
            if found is None:
                continue
            namespace = found.namespace
            root = os.path.realpath(namespace.location.path)
            if path == root and namespace.is_inbox:
                return INBOX
            stored = path.removeprefix(root + os.sep)
            if stored == path:
                continue
            if namespace.naming.layout is Layout.MAILDIRPP:
                stored = stored.removeprefix(".")
            levels = namespace.levels_stored_as(stored)
            if levels is None:
                continue
            name = namespace.full_name(levels)
            if os.path.realpath(self.site(name).directory) == path:
                return name
        return None

    def forget(self) -> None:
        """Something was changed through us: ask again."""
        self._kept.clear()
        self._questions.forget(("directories", self.user.name))
        self._on_forget()

    def directories(self) -> dict[str, str]:
        """Directory name -> mailbox name, of all that hold mail and are listed for the user.

        Everybody who shares with him is looked at, which may take long: raises NotYet.
        """
        return self._questions.answer(("directories", self.user.name), self._listed, LISTING_AGE)

    def _listed(self, users: UserDatabase) -> dict[str, str]:
        """In another thread, with an account of its own."""
        found = {}
        try:
            self._demand_answer(INBOX)
        except TimeoutError as error:
            raise SharingError(Code.UNAVAILABLE, "the home does not answer") from error
        homes = AnsweringHomes(users, self._silent)
        for one in Account.open(self._config, self.user, homes).list("", ["*"]):
            if one.name == INBOX or {"\\NoSelect", "\\NonExistent"} & one.flags:
                continue
            name = directory_of(one.name.split(one.separator))
            if name is not None:
                found[name] = one.name
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

    def site_that_answers(self, mailbox: str) -> Site:
        """site().  Raises OSError(ETIMEDOUT) if the file system there is silent."""
        site = self.site(mailbox)
        self._silent.demand_path(site.directory)
        return site

    def _demand_answer(self, mailbox: str) -> None:
        found = self.account.find(mailbox) if self._silent else None
        if found is not None and found.levels:
            self.site_that_answers(mailbox)

    def owns(self, mailbox: str) -> bool:
        """Whether it is a mailbox of the user's own tree."""
        found = self.account.find(mailbox)
        return found is not None and found.namespace.type == "private"

    def has_inbox(self) -> bool:
        """Whether there is a place for new mail, cur, new and tmp."""
        return self._fresh("inbox", "", lambda _: self._existence(INBOX) is Existence.SELECTABLE)

    def exists(self, mailbox: str) -> bool:
        """Whether there is a directory, if only one that is being made into a mailbox."""
        return self._existence(mailbox) is not Existence.ABSENT

    def _existence(self, mailbox: str) -> Existence:
        found = self.account.find(mailbox)
        if found is None or not found.levels:
            return Existence.ABSENT
        self._demand_answer(mailbox)
        return found.namespace.storage.existence(found.levels)

    def _fresh_until(self, kind: str, key: str) -> float:
        kept = self._kept.get((kind, key))
        return 0.0 if kept is None else kept[0] + FRESH

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


class Viewers:
    """Users by name, and who has which uid.  What is not known yet is raised as NotYet.

    silent: what does not answer; rights and places there are not asked for.
    on_forget: called in any thread when something that was known of anybody's rights may be wrong.
    """

    def __init__(self, config: Config) -> None:
        self.on_forget: Callable[[], None] = lambda: None
        self.silent = Silent()
        self._config = config
        self.questions = ask_databases(identity_settings(config))
        self._users = KnownUsers(self.questions)
        self._recent: OrderedDict[str, Viewer] = OrderedDict()
        self._known: WeakValueDictionary[str, Viewer] = WeakValueDictionary()

    def start(self) -> None:
        """Once this process has given up what it does not need."""
        self.questions.start()

    def get(self, name: str) -> Viewer | None:
        """The viewer of a user; None if there is no such user.

        Raises SharingError(UNAVAILABLE) when no database can tell.
        """
        try:
            user = self._users.lookup(name)
            viewer = self._known.get(name)
            if viewer is None:
                viewer = self._known[name] = Viewer(
                    self._config, user, self._users, self.silent, lambda: self.on_forget()
                )
            viewer.is_now(user)
        except SharingError as refusal:
            if refusal.code is Code.UNAVAILABLE:
                raise
            if refusal.code is not Code.NONEXISTENT:
                log.warning("no view for %s: %s", name, refusal.detail, extra=about(name))
            return None
        self._recent[name] = viewer
        self._recent.move_to_end(name)
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        return viewer

    def linked(self, viewer: Viewer, mailbox: str) -> Linked | None:
        """Whose mailbox a link leads to; None if it is none.

        Raises SharingError(NONEXISTENT) for a link that leads anywhere else: we open what the
        kernel would refuse to its maker, so that must be a mailbox with an owner and an ACL.
        """
        end = viewer.link_end(mailbox)
        if not end:
            return None
        for name in self._owners_at(end, viewer, mailbox):
            owner = self.get(name)
            found = owner.mailbox_at(end) if owner is not None and owner is not viewer else None
            if owner is not None and found is not None:
                return Linked(owner, found)
        raise SharingError(Code.NONEXISTENT, f"{mailbox} is a link to {end}, which is no mailbox")

    def _owners_at(self, path: str, viewer: Viewer, mailbox: str) -> Iterator[str]:
        with contextlib.suppress(SharingError):
            owner = viewer.account.owner_of(mailbox)  # the sharing map knows, usually
            if owner is not None and owner != viewer.user.name:
                yield owner
        try:
            uid = os.stat(path).st_uid
        except OSError:
            return
        yield from self._users.by_uid().get(uid, [])[:MAX_OWNERS]

    def account_for_thread(self, viewer: Viewer) -> Account:
        """An account of the viewer for one piece of work in another thread."""
        return Account.open(self._config, viewer.user, WaitingHomes(self.questions, viewer.uid))

    def make_inbox(self, viewer: Viewer) -> None:
        """Make it as the user himself would.  What does not work is not tried again at once."""
        user = viewer.user

        def work(users: UserDatabase) -> None:
            account = Account.open(self._config, user, users)
            try:
                call_as(
                    user.uid, user.gid, user.gids, lambda: account.writable_target(INBOX).close()
                )
            except (SharingError, OSError) as refusal:
                log.warning("%s gets no INBOX: %s", user.name, refusal, extra=about(user.name))
            viewer.forget()

        self.questions.answer(("inbox", user.name), work, MAKING_AGE)

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
        for viewer in list(self._known.values()):
            viewer.forget()

    def close(self) -> None:
        self.questions.close()

    def names_of(self, uid: int) -> list[str]:
        """Users with this uid; the superuser sees everybody who can be listed."""
        index = self._users.by_uid()
        if uid == 0:
            return sorted({name for names in index.values() for name in names})
        names = list(index.get(uid, ()))
        own = self._users.name_of(uid)
        viewer = self.get(own) if own and own not in names else None
        return [*names, own] if viewer is not None and viewer.uid == uid else names
