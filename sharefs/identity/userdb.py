"""User databases: everything a mail process must know about somebody, asked in order.

Blocking and not for several threads at once.  Each driver is a function from a request to fields,
None when it does not know the user, or SharingError when it cannot tell.
"""

import logging
import os
import pwd
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sharefs.config import Config, Template, Variables
from sharefs.errors import Code, SharingError
from sharefs.identity.assembly import assemble, home_of
from sharefs.identity.fields import Fields, expand, expand_text
from sharefs.identity.files import FileCache
from sharefs.identity.from_config import identity_settings
from sharefs.identity.model import MailUser, UnknownUser, Verified
from sharefs.identity.settings import Database, IdentitySettings, Result, Skip
from sharefs.identity.usernames import BadName, normalise

log = logging.getLogger(__name__)

# Shells of accounts that are not people's: left out of listings, as Dovecot leaves them out.
_NO_LOGIN: Final = frozenset({"/bin/false", "/sbin/nologin", "/usr/sbin/nologin"})

_USERDB: Final = "userdb_"


@dataclass(frozen=True, slots=True)
class Request:
    """Who is asked for.  login: the login that led here, None for a look-up on its own."""

    name: str
    variables: Variables
    login: Verified | None = None


class UserDatabase:
    """All userdb blocks of a configuration, in their order."""

    def __init__(
        self, config: Config | IdentitySettings, *, files: FileCache | None = None
    ) -> None:
        self._settings = identity_settings(config)
        self._files = files or FileCache()
        self._drivers: dict[str, Callable[[Database, Request, Fields], bool]] = {
            "passwd": self._passwd,
            "passwd-file": self._passwd_file,
            "static": self._static,
            "prefetch": self._prefetch,
        }

    def lookup(self, name: str, *, login: Verified | None = None) -> MailUser:
        """The user of that name, as a mail process would run.

        login: what verify() answered; its userdb_ fields count, and its master user.
        Raises UnknownUser; SharingError(UNAVAILABLE) when a database could not be asked; other
        codes when the user's entry cannot work, naming the place that says so.
        """
        request, fields = self._find(name, login)
        return assemble(
            request.name, fields, self._settings, _with_home(request.variables, fields),
            euid=os.geteuid(),
        )  # fmt: skip

    def home_of(self, name: str) -> Path | None:
        """Only the home, None if the user has none.  Raises as lookup() does."""
        request, fields = self._find(name, None)
        return home_of(request.name, fields, self._settings, request.variables)[0]

    def exists(self, name: str) -> bool:
        """Whether some userdb knows the name.  Raises SharingError(UNAVAILABLE)."""
        try:
            self._find(name, None)
        except UnknownUser:
            return False
        return True

    def iterate(self) -> Iterator[str]:
        """Every user name that can be listed, once.  Databases that cannot list are left out."""
        seen: set[str] = set()
        for database in self._settings.userdbs:
            for name in self._names_in(database):
                if name not in seen:
                    seen.add(name)
                    yield name

    def matching(self, pattern: str) -> Iterator[str]:
        """The listable names that match; * is any text, ? any character, as in `doveadm user`."""
        wanted = re.compile(
            "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern), re.DOTALL
        )
        return (name for name in self.iterate() if wanted.fullmatch(name))

    @property
    def unlisted(self) -> tuple[Database, ...]:
        """The userdbs whose users iterate() cannot name."""
        return tuple(
            database for database in self._settings.userdbs
            if database.driver == "static"
            or (database.driver == "passwd-file" and database.path.variables)
        )  # fmt: skip

    def _names_in(self, database: Database) -> Iterator[str]:
        if database.driver == "passwd":
            for entry in pwd.getpwall():
                if entry.pw_uid in self._settings.uids and entry.pw_shell not in _NO_LOGIN:
                    yield entry.pw_name
        elif database.driver == "passwd-file" and not database.path.variables:
            yield from self._files.read(expand(database.path, Variables(), database.label)).names

    def _find(self, name: str, login: Verified | None) -> tuple[Request, Fields]:
        try:
            name = normalise(name, self._settings.names, _expand_name)
        except BadName as exc:
            raise UnknownUser(name, f"no user can have this name: {exc}") from exc
        variables = Variables(
            user=name,
            master_user=login.master if login else None,
            more={f"passdb:{key}": value for key, value in login.fields.items()} if login else {},
        )
        request = Request(name, variables, login)
        fields = Fields()
        for key, value in (login.fields if login else {}).items():
            if key.startswith(_USERDB):
                fields.add(key.removeprefix(_USERDB), value, "the passdb")
        self._ask_all(request, fields)
        return request, fields

    def _ask_all(self, request: Request, fields: Fields) -> None:
        """Ask each database in turn; fields collects what they say.  Raises UnknownUser."""
        found, trouble = False, None
        for database in self._settings.userdbs:
            if database.skip is (Skip.IF_FOUND if found else Skip.IF_NOT_FOUND):
                continue
            try:
                known = self._ask(database, request, fields)
                result = database.on_success if known else database.on_failure
            except SharingError as exc:
                log.error("userdb %s: %s", database.label, exc.detail)
                trouble, result = exc, database.on_internal_failure
            if result in {Result.RETURN_OK, Result.CONTINUE_OK}:
                found = True
            elif result in {Result.RETURN_FAIL, Result.CONTINUE_FAIL}:
                found = False
            if result in {Result.RETURN, Result.RETURN_OK, Result.RETURN_FAIL}:
                break
        if found:
            return
        if trouble is not None:
            raise trouble
        raise UnknownUser(request.name)

    def _ask(self, database: Database, request: Request, fields: Fields) -> bool:
        """Whether this database knows the user; if so, fields has what it says."""
        mine = Fields()
        for name, template in database.defaults.items():
            mine.add(name, expand(template, request.variables, database.label), database.label)
        driver = self._drivers.get(database.driver)
        if driver is None:
            raise SharingError(
                Code.UNAVAILABLE,
                f"userdb {database.label}: this driver is not implemented; use passwd, "
                "passwd-file or static",
            )
        if not driver(database, request, mine):
            return False
        for name in mine:
            fields.add(name, mine.get(name), mine.origin(name))
        variables = _with_home(request.variables, fields)
        more = {**variables.more, **fields.prefixed("userdb:")}
        variables = replace(variables, more=more)
        for name, template in database.overrides.items():
            fields.add(name, expand(template, variables, database.label), database.label)
        return True

    def _passwd(self, database: Database, request: Request, fields: Fields) -> bool:
        name = _looked_up(database, request)
        try:
            entry = pwd.getpwnam(name)
        except (KeyError, ValueError):
            return False
        fields.add("uid", str(entry.pw_uid), "passwd")
        fields.add("gid", str(entry.pw_gid), "passwd")
        if entry.pw_dir:
            fields.add("home", entry.pw_dir, "passwd")
        fields.add("system_groups_user", entry.pw_name, "passwd")
        return True

    def _passwd_file(self, database: Database, request: Request, fields: Fields) -> bool:
        path = expand(database.path, request.variables, database.label)
        file = self._files.read(path, missing_is_empty=bool(database.path.variables))
        entry = file.entry(_looked_up(database, request))
        if entry is None:
            return False
        origin = str(entry.place)
        for name in ("uid", "gid", "home"):
            text: str = getattr(entry, name)
            if text:
                fields.add(name, text, origin)
        variables = _with_home(request.variables, fields)
        for name, value in entry.extra:
            if name.startswith(_USERDB):
                text = expand_text(value, self._settings.form, variables, origin)
                fields.add(name.removeprefix(_USERDB), text, origin)
        return True

    def _static(self, database: Database, request: Request, fields: Fields) -> bool:
        if request.login is None and not database.allow_all_users and not self._may_exist(request):
            return False
        for name, template in database.fields.items():
            variables = _with_home(request.variables, fields)
            fields.add(name, expand(template, variables, database.label), database.label)
        return True

    def _prefetch(self, database: Database, request: Request, fields: Fields) -> bool:
        """The passdb has said it all already: its userdb_ fields were laid down first."""
        return request.login is not None and any(
            name.startswith(_USERDB) for name in request.login.fields
        )

    def _may_exist(self, request: Request) -> bool:
        """A static userdb would know everybody, so the passdbs are asked who exists.

        PAM and static passdbs cannot be asked without a password: then everybody may exist.
        """
        mine = [database for database in self._settings.passdbs
                if not (database.master or database.deny)]  # fmt: skip
        if not mine or any(database.driver != "passwd-file" for database in mine):
            return True
        for database in mine:
            path = expand(database.path, request.variables, database.label)
            file = self._files.read(path, missing_is_empty=bool(database.path.variables))
            if file.entry(_looked_up(database, request)) is not None:
                return True
        return False


def _looked_up(database: Database, request: Request) -> str:
    """The name under which this database is asked."""
    if not database.username_format:
        return request.name
    return expand(database.username_format, request.variables, database.label)


def _with_home(variables: Variables, fields: Fields) -> Variables:
    home = fields.get("home")
    return replace(variables, home=home) if home else variables


def _expand_name(template: Template, name: str) -> str:
    return expand(template, Variables(user=name), "auth_username_format")
