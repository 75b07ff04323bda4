"""Who there is on this host: users of the mail system, login shells, running mail processes.

Only reads.
"""

import grp
import os
import pwd
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import psutil

from sharefs.audit.facts import Account, ProcessFacts, UserFacts
from sharefs.audit.viewing import credentials_of
from sharefs.errors import SharingError
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser, UnknownUser
from sharefs.identity.userdb import UserDatabase
from sharefs.permissions.access import Credentials

_NO_LOGIN: Final = frozenset({"/bin/false", "/usr/bin/false", "/sbin/nologin", "/usr/sbin/nologin"})
_SYNC: Final = "/bin/sync"  # a program and no shell
_MAIL: Final = frozenset({"imap", "pop3", "lmtp", "dovecot-lda", "deliver"})
_DELIVERERS: Final = frozenset(
    {"lmtp", "dovecot-lda", "deliver", "procmail", "maildrop", "local", "virtual", "fdm", "exim4"}
)
# Dovecot sets the umask for each file it makes; Postfix and Exim have settings for modes instead.
_BY_UMASK: Final = frozenset({"procmail", "maildrop", "fdm"})
MAX_BEFORE: Final = 4  # words before the program's name: interpreter and its options
_INTERPRETED: Final = ("python", "sharefs")


def users_of(
    database: UserDatabase, names: Iterable[str], bad: dict[str, str],
    accounts: Iterable[Account], *, demanded: Container[str] = (),
) -> Iterator[UserFacts]:  # fmt: skip
    """Every user that can be looked up.  bad: gets the others, with why.

    Raises UnknownUser for one of the demanded: a slip of the pen would read as if all were well.
    """
    shells = {account.who.uid: account.who for account in accounts}
    for name in names:
        try:
            user = database.lookup(name)
        except SharingError as refusal:
            if isinstance(refusal, UnknownUser) and name in demanded:
                raise
            bad[name] = refusal.detail
            continue
        yield UserFacts(user, credentials_of(user), _shell_of(user, shells))


class KnownHomes:
    """Homes of users that were looked up already; of others, what the database says."""

    def __init__(self, database: HomeLookup, homes: Mapping[str, Path | None]) -> None:
        self._database = database
        self._homes = homes

    def home_of(self, name: str) -> Path | None:
        """See HomeLookup."""
        return self._homes[name] if name in self._homes else self._database.home_of(name)

    def exists(self, name: str) -> bool:
        """See HomeLookup."""
        return name in self._homes or self._database.exists(name)


def _shell_of(user: MailUser, shells: dict[int, Credentials]) -> Credentials | None:
    return shells.get(user.uid)


def login_accounts() -> list[Account]:
    """Unix accounts with a shell, without the superuser, whom no permission stops."""
    found: list[Account] = []
    for entry in pwd.getpwall():
        has_shell = entry.pw_shell not in _NO_LOGIN and entry.pw_shell != _SYNC
        if not has_shell or entry.pw_uid == 0:
            continue
        gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
        who = Credentials(entry.pw_uid, entry.pw_gid, frozenset(gids))
        found.append(Account(entry.pw_name, who, tuple(_names(gids))))
    return found


def _names(gids: Iterable[int]) -> Iterator[str]:
    for gid in gids:
        try:
            yield grp.getgrgid(gid).gr_name
        except KeyError:
            yield str(gid)


def mail_processes() -> list[ProcessFacts]:
    """Processes that read or deliver mail now.  Those that end meanwhile are left out."""
    found: list[ProcessFacts] = []
    for process in psutil.process_iter():
        try:
            name = process.name()
            if name.startswith(_INTERPRETED) and _serves(process.cmdline()):
                name = "sharefs serve"
            elif name not in _MAIL | _DELIVERERS:
                continue
            status = _status_of(process.pid)
            groups = frozenset(int(word) for word in status.get("Groups", "").split())
            gid = process.gids().effective
            told = "Umask" in status and name in _BY_UMASK
            umask = int(status["Umask"], 8) if told else None
            found.append(
                ProcessFacts(
                    process.pid,
                    name,
                    process.uids().effective,
                    groups | {gid},
                    umask,
                    name in _DELIVERERS,
                )
            )
        except (psutil.Error, OSError, ValueError):
            continue
    return found


def _serves(command: list[str]) -> bool:
    """Whether that is `sharefs serve`, by whatever interpreter."""
    names = [os.path.basename(word) for word in command]
    program = next((number for number, name in enumerate(names) if name == "sharefs"), None)
    return program is not None and program < MAX_BEFORE and "serve" in names[program + 1 :]


def _status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in lines}
