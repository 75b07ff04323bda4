"""The -u and -A options of commands that work on mailboxes, and running them for each user."""

import fnmatch
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from sharefs.account import Account
from sharefs.cli import EXIT_STATUS
from sharefs.cli._common.acting import run_as
from sharefs.config import Config, load
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier, Kind
from sharefs.identity.from_config import identity_settings
from sharefs.identity.model import MailUser
from sharefs.identity.userdb import UserDatabase
from sharefs.sharing.tidy import unknown

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_NAMED: Final = 3  # logins of one name in several domains that a warning names
USERNAME: Final = "Username"  # doveadm's title of the column that -A adds


@dataclass(frozen=True, slots=True)
class Who:
    """Whom a command is for, as the options say.  mask: a name, maybe with * and ?."""

    mask: str | None
    everybody: bool

    @property
    def several(self) -> bool:
        """Whether records need a column that says whose they are."""
        return self.everybody or bool(self.mask and set("*?") & set(self.mask))


def user_options(*, everybody: bool = True) -> Callable[[F], F]:
    """Adds -u and, if it makes sense for the command, -A.  The command receives `who`."""

    def decorate(command: F) -> F:
        def gather(ctx: click.Context, param: click.Parameter, value: str | None) -> Who:
            all_users = bool(ctx.params.pop("everybody", False))
            if value and all_users:
                raise click.UsageError("-u and -A exclude each other", ctx)
            return Who(value, all_users)

        decorated: F = click.option(
            "-u", "--user", "who", metavar="USER", callback=gather,
            help="Act as this user, under its uid; root only, but for oneself."
            + ("  * and ? stand for any characters." if everybody else ""),
        )(command)  # fmt: skip
        if everybody:
            decorated = click.option(
                "-A", "--all", "--all-users", "everybody", is_flag=True, is_eager=True,
                help="Act for every user that the user databases list.",
            )(decorated)  # fmt: skip
        return decorated

    return decorate


def unknown_option(command: F) -> F:
    """Adds --allow-unknown, which commands that give rights need for names that nobody has."""
    decorated: F = click.option(
        "--allow-unknown", is_flag=True, help="Even if no user database knows the user."
    )(command)
    return decorated


class Host:
    """The configuration and the users of this host, as a command sees them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._failed: SharingError | None = None
        self.users = UserDatabase(identity_settings(config))

    @classmethod
    def of(cls, ctx: click.Context) -> "Host":
        """Loads the configuration that the global options name.  Raises ConfigError."""
        options = ctx.find_root().obj or {}
        path = options.get("config_path")
        return cls(load(Path(path) if path else None, overrides=options.get("overrides", ())))

    def chosen(self, who: Who) -> Iterator[MailUser]:
        """Raises as names(), and for the first one whose entry makes no user."""
        return map(self.users.lookup, self.names(who))

    def names(self, who: Who) -> list[str]:
        """Raises SharingError(NONEXISTENT) for a mask that fits nobody."""
        if not who.several:
            return [who.mask or self._myself()]
        mask = who.mask or "*"
        names = [name for name in self.users.iterate() if fnmatch.fnmatchcase(name, mask)]
        if not names:
            raise SharingError(Code.NONEXISTENT, f"no user database lists a user like {mask!r}")
        return names

    def act(self, user: MailUser, action: Callable[[Account], T]) -> T:
        """What action returns, done by a process that is the user.  JSON data only."""
        return run_as(
            user, self.users, lambda homes: action(Account.open(self.config, user, homes))
        )

    def each(
        self,
        who: Who,
        action: Callable[[Account], T],
        *,
        first: Callable[[MailUser], None] | None = None,
    ) -> Iterator[tuple[MailUser, T]]:
        """act() for everybody chosen.  One user's refusal is reported and does not stop the rest,
        nor does an entry of a user database that makes no user.

        first: asked before anything is done for a user; it refuses by raising SharingError.

        For a single user the refusal passes through.  After several, end() makes the last
        refusal the exit status, when all that was found has been printed.
        """
        for name in self.names(who):
            try:
                user = self.users.lookup(name)
                if first is not None:
                    first(user)
                got = self.act(user, action)
            except SharingError as refusal:
                if not who.several:
                    raise
                click.echo(f"sharefs({name}): {refusal.detail}", err=True)
                self._failed = refusal
                continue
            yield user, got

    def end(self) -> None:
        """The last thing a command calls: ends with the status of what went wrong, if anything."""
        if self._failed is not None:
            sys.exit(EXIT_STATUS[self._failed.code])

    def records(
        self,
        who: Who,
        columns: Sequence[str],
        action: Callable[[Account], list[dict[str, Any]]],
    ) -> tuple[Sequence[str], list[dict[str, Any]]]:
        """The records of each user, with doveadm's Username column if there are several."""
        found: list[dict[str, Any]] = []
        for user, records in self.each(who, action):
            found += [{USERNAME: user.name, **record} for record in records]
        return ((USERNAME, *columns) if who.several else columns), found

    def demand_somebody(self, identifier: Identifier, owner: MailUser) -> None:
        """Raises SharingError(NONEXISTENT) for an identifier that doubt_about() doubts."""
        if doubt := self.doubt_about(identifier, owner):
            raise SharingError(
                Code.NONEXISTENT,
                f"{doubt}.  Nothing was changed; use --allow-unknown to do it nevertheless",
            )

    def doubt_about(self, identifier: Identifier, owner: MailUser) -> str:
        """What is odd about giving rights to an identifier on owner's mailboxes; "": nothing.

        An entry for a name that no login has grants nothing today, and everything to whoever gets
        the name tomorrow.  A database that is away has not said that nobody is there.
        """
        name = identifier.name
        if identifier.kind is not Kind.USER:
            return ""
        try:
            text = unknown(name, owner.domain, self.users.exists)
            if not text:
                login = self.users.lookup(name).acl_user
                if login == name:
                    return ""
                return f"{name} logs in as {login}, which user={name} does not match: write that"
            if "@" not in name and "exists" not in text:
                others = list(islice(self.users.matching(f"{name}@*"), _NAMED))
                text += f"; there is {', '.join(others)}" if others else ""
        except SharingError:
            return ""
        return f"{text}; until there is such a user, user={name} means nobody"

    @staticmethod
    def _myself() -> str:
        if os.geteuid() == 0:
            raise click.UsageError("root has no mailboxes: say whose with -u USER")
        if os.environ.get("USER"):
            return os.environ["USER"]
        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            raise click.UsageError(
                f"uid {os.geteuid()} has no name on this host: say who you are with -u USER"
            ) from None
