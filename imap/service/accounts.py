"""Accounts of a worker's connections: who logs in again knows what his last connection knew."""

from collections import OrderedDict
from typing import Final

from sharefs.account import Account
from sharefs.config import Config
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser

USERS: Final = 100  # remembered; one uid may be that of thousands


class Accounts:
    """open() may be called in several threads at once."""

    def __init__(self, config: Config, users: HomeLookup) -> None:
        self._config = config
        self._users = users
        self._last: OrderedDict[MailUser, Account] = OrderedDict()

    def open(self, user: MailUser) -> Account:
        """An account of its own for each connection.  Raises as Account.open()."""
        last = self._last.pop(user, None)
        account = Account.open(self._config, user, self._users, like=last)
        self._last[user] = account
        while len(self._last) > USERS:
            self._last.popitem(last=False)
        return account
