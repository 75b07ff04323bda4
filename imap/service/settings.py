"""What the processes need to know, as plain values.  from_config.py makes them; tests write them.

LoginSettings is all that a login process ever learns: it travels as JSON, so that the memory of the
one process that talks to strangers holds no other part of the configuration.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from imap.service.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One inet_listener on one address.  tls: the handshake comes first (IMAPS)."""

    name: str
    address: str
    port: int
    tls: bool = False


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """Limits and looks of the doors.  Times in seconds.

    tls: None: neither STARTTLS nor IMAPS.  require_tls: ssl = required.
    allow_cleartext: auth_allow_cleartext.  trusted_networks: clients there count as secured.
    timeout: from connecting to being logged in.  max_per_address: unauthenticated connections of
    one address, per login process.  client_limit: connections of one login process, TLS clients
    that have logged in included; the oldest that has not makes room for a new one.
    max_literal: octets of a user name or password.
    uid, gid, root_directory: what to become; root_directory empty: not root, stay who we are.
    """

    greeting: str = "sharefs ready."
    tls: TlsFiles | None = None
    require_tls: bool = False
    allow_cleartext: bool = False
    trusted_networks: tuple[str, ...] = ()
    timeout: float = 180.0
    failure_delay: float = 2.0
    max_failures: int = 3
    max_per_address: int = 50
    client_limit: int = 1000
    max_literal: int = 4096
    uid: int = 65534
    gid: int = 65534
    root_directory: str = ""
    debug: bool = False

    def encode(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> "LoginSettings":
        """Undoes encode().  Only for what our own master has written."""
        fields = dict(value)
        fields["trusted_networks"] = tuple(fields["trusted_networks"])
        if fields["tls"] is not None:
            fields["tls"] = TlsFiles(**fields["tls"])
        return cls(**fields)

    def secured(self, remote: str, local: str) -> bool:
        """Whether a client without TLS counts as safe from listeners: this host, or trusted.

        A client whose address is the address it connected to is on this host (Dovecot's rule).
        """
        if remote == local:
            return True
        try:
            address = ip_address(remote.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        return address.is_loopback or any(
            address in ip_network(network, strict=False) for network in self.trusted_networks
        )

    def cleartext(self, remote: str, local: str) -> bool:
        """Whether passwords are welcome without TLS."""
        return self.secured(remote, local) or (self.allow_cleartext and not self.require_tls)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Everything but mail.  Times in seconds.

    login_processes: how many share the ports.  pool_size: workers of one Unix identity that has
    several user names.  max_user_connections: of one user from one address, 0: no limit.
    worker_limit: workers at one time.  idle_limit: how long a worker without connections stays.
    rest_after: after so long without anything happening connections sleep without a worker; 0:
    never.  write_timeout: a client must take 64 KiB within it.  log_path: a file, "syslog", or
    empty for standard error; info_log_path: the same, for lines below warning.
    auth_threads: passwords hashed at one time.
    """

    base_dir: Path
    listeners: tuple[ListenerSettings, ...] = ()
    login: LoginSettings = field(default_factory=LoginSettings)
    login_processes: int = 2
    pool_size: int = 1
    max_user_connections: int = 10
    worker_limit: int = 1024
    idle_limit: float = 60.0
    rest_after: float = 0.0
    write_timeout: float = 300.0
    log_path: str = ""
    info_log_path: str = ""
    debug: bool = False
    auth_threads: int = 8

    @property
    def lookup_path(self) -> Path:
        """Where workers ask for other users' homes."""
        return self.base_dir / "lookup"

    @property
    def pid_path(self) -> Path:
        # Not master.pid: the directory may be that of a Dovecot next to us.
        return self.base_dir / "sharefs.pid"

    @property
    def empty_path(self) -> Path:
        """The login processes' root directory."""
        return self.base_dir / "empty"
