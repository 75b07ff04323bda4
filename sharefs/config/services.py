"""Typed settings of services and of the user and password databases.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sharefs.config.variables import Template
from sharefs.errors import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class InetListener:
    """port 0: this listener is off.  addresses (): those of the `listen` setting."""

    name: str
    port: int
    ssl: bool = False
    addresses: tuple[str, ...] = ()
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixListener:
    path: str
    mode: int = 0o600
    user: str = ""
    group: str = ""
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """One `service NAME { }`.  0 in a limit: no limit of its own, use the default_* setting."""

    name: str
    inet_listeners: Mapping[str, InetListener] = field(default_factory=dict)
    unix_listeners: Mapping[str, UnixListener] = field(default_factory=dict)
    client_limit: int = 0
    process_limit: int = 0
    process_min_avail: int = 0
    service_count: int = 0  # connections per process; 0: no end
    user: str = ""
    group: str = ""
    chroot: str = ""
    extra_groups: tuple[str, ...] = ()
    vsz_limit: int = 0
    idle_kill: int = 0
    place: Place | None = None

    @property
    def is_empty(self) -> bool:
        """Whether its block sets nothing, as those that packages ship with comments only."""
        bare = ServiceSettings(name=self.name, place=self.place)
        return self in (bare, replace(DEFAULT_SERVICES.get(self.name, bare), place=self.place))


# What a service is without a `service` block: the ports are those of RFC 8314 and IANA.
DEFAULT_SERVICES: Final[Mapping[str, ServiceSettings]] = {
    "imap-login": ServiceSettings(
        name="imap-login",
        inet_listeners={
            "imap": InetListener(name="imap", port=143),
            "imaps": InetListener(name="imaps", port=993, ssl=True),
        },
        service_count=1,
    ),
    "imap": ServiceSettings(name="imap", client_limit=1, process_limit=1024),
    "auth": ServiceSettings(name="auth", process_limit=1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PassdbSettings:
    """One passdb, in the order of the file.

    driver: passwd, passwd-file, static, pam, shadow, ...  Values are templates of the login's
    variables.  fields win over default_fields and the database; override_fields over all.
    The three results: return-ok, return, return-fail, continue, continue-ok, continue-fail.
    """

    name: str
    driver: str
    master: bool = False
    deny: bool = False
    pass_through: bool = False  # `pass = yes`: after a master login, look the user up as well
    fields: Mapping[str, Template] = field(default_factory=dict)
    default_fields: Mapping[str, Template] = field(default_factory=dict)
    override_fields: Mapping[str, Template] = field(default_factory=dict)
    default_password_scheme: str = ""  # "": the driver's own
    passwd_file_path: Template | None = None
    username_format: Template | None = None
    static_password: Template | None = None
    pam_service_name: Template | None = None
    pam_session: bool = False
    pam_setcred: bool = False
    pam_max_requests: int = 0
    failure_show_msg: bool = False
    mechanisms: tuple[str, ...] = ()
    username_filter: tuple[str, ...] = ()
    skip: str = "never"
    result_success: str = "return-ok"
    result_failure: str = "continue"
    result_internalfail: str = "continue"
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserdbSettings:
    """One userdb, in the order of the file.  Field precedence as for PassdbSettings."""

    name: str
    driver: str
    fields: Mapping[str, Template] = field(default_factory=dict)
    default_fields: Mapping[str, Template] = field(default_factory=dict)
    override_fields: Mapping[str, Template] = field(default_factory=dict)
    passwd_file_path: Template | None = None
    username_format: Template | None = None
    static_allow_all_users: bool = False
    skip: str = "never"
    result_success: str = "return-ok"
    result_failure: str = "continue"
    result_internalfail: str = "continue"
    place: Place | None = None
