"""Users as the mount knows them: what the user databases said, remembered (`questions`)."""

import logging
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sharefs.errors import Code, SharingError
from sharefs.identity.files import FileCache
from sharefs.identity.model import MailUser, UnknownUser
from sharefs.identity.settings import IdentitySettings
from sharefs.identity.userdb import UserDatabase
from sharefs.mount.questions import Age, Key, Questions
from sharefs.mount.silent import Silent

log: Final = logging.getLogger(__name__)

USER_AGE: Final = Age(fresh=5.0, kept=60.0)
LIST_AGE: Final = Age(fresh=30.0, kept=3600.0)  # of who has which uid


def ask_databases(settings: IdentitySettings) -> Questions[UserDatabase]:
    """Questions to the user databases of a configuration."""
    files = FileCache()
    return Questions(lambda: UserDatabase(settings, files=files))


class KnownUsers:
    """For the thread that handles requests: every method may raise questions.NotYet instead."""

    def __init__(self, questions: Questions[UserDatabase]) -> None:
        self.questions = questions

    def lookup(self, name: str) -> MailUser:
        """Raises as UserDatabase.lookup() does."""
        return self.questions.answer(_user(name), lambda users: users.lookup(name), USER_AGE)

    def home_of(self, name: str) -> Path | None:
        return self.questions.answer(_home(name), lambda users: users.home_of(name), USER_AGE)

    def exists(self, name: str) -> bool:
        return _exists(self.home_of, name)

    def by_uid(self) -> dict[int, list[str]]:
        """Names of everybody who can be listed."""
        return self.questions.answer(("everybody", ""), self._everybody, LIST_AGE)

    def _everybody(self, users: UserDatabase) -> dict[int, list[str]]:
        index: dict[int, list[str]] = {}
        for name in users.iterate():
            try:
                user = users.lookup(name)
            except SharingError as refusal:
                log.info("%s is left out: %s", name, refusal.detail)
                continue
            index.setdefault(user.uid, []).append(name)
            self.questions.keep(_user(name), user)
        return index

    def name_of(self, uid: int) -> str:
        """The system user with this uid, who may be no mail user; "" if there is none."""
        return self.questions.answer(("uid", str(uid)), lambda _: _system_name(uid), USER_AGE)


class WaitingHomes:
    """Homes for other threads.  asker: the uid in whose name they work."""

    def __init__(self, questions: Questions[UserDatabase], asker: int) -> None:
        self._questions = questions
        self._asker = asker

    def home_of(self, name: str) -> Path | None:
        return self._questions.wait(
            _home(name), lambda users: users.home_of(name), USER_AGE, self._asker
        )

    def exists(self, name: str) -> bool:
        return _exists(self.home_of, name)


class AnsweringHomes:
    """Homes for a listing, without those on file systems that do not answer (`silent`): whoever
    shares from there shares nothing for the moment."""

    def __init__(self, homes: UserDatabase, silent: Silent) -> None:
        self._homes = homes
        self._silent = silent

    def home_of(self, name: str) -> Path | None:
        home = self._homes.home_of(name)
        try:
            if home is not None:
                self._silent.demand_below(home)
        except TimeoutError as error:
            raise UnknownUser(name) from error
        return home

    def exists(self, name: str) -> bool:
        return self._homes.exists(name)


def _user(name: str) -> Key:
    return "user", name


def _home(name: str) -> Key:
    return "home", name


def _exists(home_of: Callable[[str], Path | None], name: str) -> bool:
    try:
        home_of(name)
    except UnknownUser:
        return False
    except SharingError as refusal:
        if refusal.code is Code.UNAVAILABLE:
            raise
    return True


def _system_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
