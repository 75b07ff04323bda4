"""What passdbs and userdbs need to know, as values.  Both spellings of the language end here.

Templates are kept as written: their variables differ for every login.  from_config.py fills these
from a Config; tests write them by hand.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from sharefs.config.variables import Form, Template
from sharefs.errors import Place
from sharefs.identity.groups import IdRange
from sharefs.identity.usernames import NameRules

EMPTY = Template.literal("")
DEFAULT_SERVICE = Template.literal("dovecot")  # PAM's name for us: /etc/pam.d/dovecot


class Result(enum.StrEnum):
    """What follows from one database's answer (result_success and friends)."""

    RETURN_OK = "return-ok"
    RETURN_FAIL = "return-fail"
    RETURN = "return"
    CONTINUE_OK = "continue-ok"
    CONTINUE_FAIL = "continue-fail"
    CONTINUE = "continue"


class Skip(enum.StrEnum):
    """When a database is not asked.  The passdb's words and the userdb's mean the same."""

    NEVER = "never"
    IF_FOUND = "found"  # passdb: authenticated
    IF_NOT_FOUND = "notfound"  # passdb: unauthenticated


@dataclass(frozen=True, slots=True)
class Database:
    """One passdb or userdb block.

    driver: passwd, passwd-file, static, pam, prefetch.
    path: of the passwd-file.  scheme: of passwords without {SCHEME}.
    username_format: the name to look up; empty for the name itself.
    username_filter: patterns with * and ?, a leading ! forbids; mechanisms: in capitals.
    defaults, overrides: fields set before and after the driver's.
    fields: what a static database answers; a static passdb's password is its field "password".
    allow_all_users: a static userdb does not ask the passdbs whether a user exists.
    """

    driver: str
    name: str = ""
    place: Place = field(default_factory=lambda: Place("built in"))
    path: Template = EMPTY
    scheme: str = "CRYPT"
    username_format: Template = EMPTY
    username_filter: tuple[str, ...] = ()
    mechanisms: tuple[str, ...] = ()
    defaults: Mapping[str, Template] = field(default_factory=dict, hash=False)
    overrides: Mapping[str, Template] = field(default_factory=dict, hash=False)
    fields: Mapping[str, Template] = field(default_factory=dict, hash=False)
    service: Template = DEFAULT_SERVICE
    allow_all_users: bool = False
    pam_session: bool = False
    pam_setcred: bool = False
    deny: bool = False
    master: bool = False
    skip: Skip = Skip.NEVER
    on_success: Result = Result.RETURN_OK
    on_failure: Result = Result.CONTINUE
    on_internal_failure: Result = Result.CONTINUE

    @property
    def label(self) -> str:
        """For logs and origins: which block this is."""
        return f"{self.driver} at {self.place}"


@dataclass(frozen=True, slots=True)
class Sourced:
    """A setting's value and where it was written."""

    value: Template
    origin: str


NOWHERE = Sourced(EMPTY, "")
DEFAULT_UIDS = IdRange(500, 0, "first_valid_uid and last_valid_uid")
DEFAULT_GIDS = IdRange(1, 0, "first_valid_gid and last_valid_gid")


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Everything this room wants from a configuration.

    form: the generation of the language, for templates inside passwd-files.
    """

    form: Form = Form.V24
    passdbs: tuple[Database, ...] = ()
    userdbs: tuple[Database, ...] = ()
    names: NameRules = field(default_factory=NameRules)
    mail_uid: Sourced = NOWHERE
    mail_gid: Sourced = NOWHERE
    mail_home: Sourced = NOWHERE
    mail_access_groups: Sourced = NOWHERE
    system_groups_user: Sourced = NOWHERE
    acl_user: Sourced = NOWHERE
    acl_groups: Sourced = NOWHERE
    uids: IdRange = DEFAULT_UIDS
    gids: IdRange = DEFAULT_GIDS
