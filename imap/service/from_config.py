"""From a Config to what the processes need: one place that knows both vocabularies."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imap.service.settings import ListenerSettings, LoginSettings, ServiceSettings
from imap.service.tls import TlsFiles
from sharefs.config import Config, Settings
from sharefs.config.kinds import UNLIMITED
from sharefs.errors import Code, SharingError

# Dovecot's default is /run/dovecot.  Whoever does not say otherwise may run both servers.
DEFAULT_BASE_DIR: Final = Path("/run/sharefs")
_NOBODY: Final = 65534  # the overflow id: what the kernel shows for nobody
_MOST_LOGINS: Final = 4  # by default; service imap-login { process_min_avail } may ask for more
_STDERR: Final = frozenset({"/dev/stderr", "stderr"})


@dataclass(frozen=True, slots=True)
class Derived:
    """settings, and what the administrator should hear about how they came about."""

    settings: ServiceSettings
    warnings: tuple[str, ...] = ()


def derive(config: Config, *, foreground: bool) -> Derived:
    """What the configuration says about the service.

    foreground: standard error is somebody's terminal, or the journal: without log_path, log there.
    Raises SharingError when the service cannot run like that.
    """
    found = config.settings(protocol="imap")
    tls = _tls(found)
    listeners, warnings = _listeners(found, tls is not None)
    imap, login = found.services["imap"], found.services["imap-login"]
    cores = len(os.sched_getaffinity(0))
    base_dir = Path(found.base_dir)
    if found.origin("base_dir") == "default":
        base_dir = DEFAULT_BASE_DIR
    log_path = _log_path(found.log_path)
    if foreground and found.origin("log_path") == "default":
        log_path = ""
    settings = ServiceSettings(
        base_dir=base_dir,
        listeners=listeners,
        login=_login(found, tls, base_dir / "empty"),
        login_processes=login.process_min_avail or min(cores, _MOST_LOGINS),
        pool_size=found.sharefs_worker_processes or cores,
        max_user_connections=_limit(found.mail_max_userip_connections),
        worker_limit=imap.process_limit or found.default_process_limit,
        idle_limit=float(imap.idle_kill or found.sharefs_worker_idle_time),
        rest_after=_rest_after(found),
        log_path=log_path,
        info_log_path=_log_path(found.info_log_path) if found.info_log_path else log_path,
        debug=bool(found.log_debug),
    )
    return Derived(settings, warnings)


def _rest_after(found: Settings) -> float:
    """Sooner than a client in IDLE is told that we are there, or that would always come first."""
    after = float(_limit(found.sharefs_hibernate_timeout))
    return min(after, found.imap_idle_notify_interval * 0.75 or after)


def _limit(number: int) -> int:
    """0 and `unlimited` both mean that there is none."""
    return 0 if number == UNLIMITED else number


def _log_path(text: str) -> str:
    return "" if text in _STDERR else text


def _tls(found: Settings) -> TlsFiles | None:
    """None when there is no TLS.  Raises SharingError when there must be."""
    if found.ssl == "no":
        return None
    if not found.ssl_server_cert_file or not found.ssl_server_key_file:
        if found.ssl == "required":
            raise SharingError(
                Code.INVALID,
                f"ssl = required ({found.origin('ssl')}) needs ssl_server_cert_file and"
                " ssl_server_key_file",
            )
        return None
    return TlsFiles(
        certificate=found.ssl_server_cert_file,
        key=found.ssl_server_key_file,
        min_protocol=found.ssl_min_protocol,
        ciphers=found.ssl_cipher_list,
    )


def _listeners(
    found: Settings, has_tls: bool
) -> tuple[tuple[ListenerSettings, ...], tuple[str, ...]]:
    listeners: list[ListenerSettings] = []
    warnings: list[str] = []
    service = found.services["imap-login"]
    for inet in service.inet_listeners.values():
        if not inet.port:
            continue
        if inet.ssl and not has_tls:
            warnings.append(
                f"no {inet.name} on port {inet.port}: ssl is {found.ssl}, and TLS needs"
                " ssl_server_cert_file and ssl_server_key_file (write them, or port = 0 for this"
                " inet_listener)"
            )
            continue
        addresses = inet.addresses or found.listen
        listeners += [
            ListenerSettings(inet.name, address, inet.port, tls=inet.ssl) for address in addresses
        ]
    if not has_tls and not found.auth_allow_cleartext:
        warnings.append("without TLS, passwords are taken from this host only")
    by_place: dict[tuple[str, int], str] = {}
    for each in listeners:
        other = by_place.setdefault((each.address, each.port), each.name)
        if other != each.name:
            raise SharingError(
                Code.INVALID,
                f"inet_listener {other} and {each.name} both want {each.address} port {each.port}",
            )
    if not listeners:
        raise SharingError(
            Code.INVALID, "no port to listen on: see service imap-login { inet_listener }"
        )
    return tuple(listeners), tuple(warnings)


def _login(found: Settings, tls: TlsFiles | None, root_directory: Path) -> LoginSettings:
    superuser = os.geteuid() == 0
    uid, gid = _login_user(found) if superuser else (os.geteuid(), os.getegid())
    service = found.services["imap-login"]
    greeting = found.login_greeting
    if found.origin("login_greeting") == "default":
        greeting = "sharefs ready."
    return LoginSettings(
        greeting=greeting,
        tls=tls,
        require_tls=found.ssl == "required",
        allow_cleartext=found.auth_allow_cleartext,
        trusted_networks=found.login_trusted_networks,
        timeout=float(found.sharefs_login_timeout),
        failure_delay=float(found.auth_failure_delay),
        max_literal=found.sharefs_login_max_literal,
        client_limit=service.client_limit or found.default_client_limit,
        uid=uid,
        gid=gid,
        root_directory=str(root_directory) if superuser else "",
        debug=bool(found.log_debug),
    )


def _login_user(found: Settings) -> tuple[int, int]:
    """Who talks to strangers: nobody, where there is no user dovenull (Dovecot's package)."""
    for name in (found.services["imap-login"].user, found.default_login_user, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid and entry.pw_gid:
            return entry.pw_uid, entry.pw_gid
    return _NOBODY, _NOBODY
