"""Who somebody is: uid, groups and home, and where each of them came from.  Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sharefs.config.variables import Variables
from sharefs.errors import Code, SharingError


class UnknownUser(SharingError):
    """No user database knows the name.  Not raised when a database could not be asked."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(Code.NONEXISTENT, detail or f"user {name!r} is in no userdb")
        self.name = name


@dataclass(frozen=True, slots=True)
class Group:
    """One group of a mail process.  name: empty if the number has no name on this host.

    origin: for people, as in "passwd group of bob" or "mail_access_groups at FILE:LINE".
    """

    gid: int
    name: str
    origin: str

    def __str__(self) -> str:
        return f"{self.gid}({self.name})" if self.name else str(self.gid)


@dataclass(frozen=True, slots=True)
class MailUser:
    """One user, ready to be become.

    name: after normalisation; the owner of the private namespaces.
    groups: the primary group first, no gid twice.
    acl_user: whom ACL files mean; empty becomes the master user's name, or name.
    master: who logged in as this user, None when it was the user.
    fields: userdb extra fields by their setting names, for Config.settings(fields=...).
    origins: where "uid", "gid" and "home" came from, for people.
    """

    name: str
    uid: int
    gid: int
    home: Path | None = None
    groups: tuple[Group, ...] = ()
    acl_user: str = ""
    acl_groups: frozenset[str] = frozenset()
    master: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)
    anonymous: bool = False
    origins: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        if not self.acl_user:
            object.__setattr__(self, "acl_user", self.master or self.name)

    @property
    def username(self) -> str:
        """The name without its domain."""
        return self.name.partition("@")[0]

    @property
    def domain(self) -> str:
        """What follows the first @; empty without one."""
        return self.name.partition("@")[2]

    @property
    def gids(self) -> tuple[int, ...]:
        """What setgroups(2) wants: every group, the primary one included."""
        return tuple(dict.fromkeys((self.gid, *(group.gid for group in self.groups))))

    def variables(self) -> Variables:
        """What this user's settings may refer to."""
        return Variables(
            user=self.name,
            home=self.home,
            uid=self.uid,
            gid=self.gid,
            master_user=self.master,
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """A login that a password database let in.

    user: whose mail.  master: who typed the password, None if it was the user.
    fields: passdb extra fields; those for the userdb keep their prefix "userdb_".
    """

    user: str
    master: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)
