"""What a configuration says about the service: ports, TLS, limits, users, paths."""

import os
from pathlib import Path

import pytest

from imap.service.from_config import DEFAULT_BASE_DIR, derive
from imap.service.settings import ListenerSettings
from imap.service.tls import TlsFiles
from sharefs.config import load
from sharefs.errors import SharingError

V24 = "dovecot_config_version = 2.4.0\n"
TLS = "ssl_server_cert_file = /c\nssl_server_key_file = /k\n"


def test_defaults() -> None:
    derived = derive(load(text=V24), foreground=True)
    settings = derived.settings
    assert settings.base_dir == DEFAULT_BASE_DIR, "a Dovecot may have /run/dovecot"
    assert [each.port for each in settings.listeners] == [143, 143]
    assert any("no imaps on port 993" in warning for warning in derived.warnings)
    assert settings.login.tls is None
    assert not settings.login.allow_cleartext
    assert settings.login.timeout == 180
    assert settings.login.failure_delay == 2
    assert settings.max_user_connections == 10
    assert settings.idle_limit == 60
    assert settings.worker_limit == 1024
    assert settings.pool_size == len(os.sched_getaffinity(0))
    assert settings.login_processes >= 1
    assert settings.log_path == ""
    assert derive(load(text=V24), foreground=False).settings.log_path == "syslog"


def test_ports_come_from_the_service_block() -> None:
    text = (
        V24
        + TLS
        + """
listen = 127.0.0.1, ::1
service imap-login {
  process_min_avail = 3
  client_limit = 77
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = 1993
    ssl = yes
  }
  inet_listener extra {
    port = 1143
    listen = 192.0.2.1
  }
}
"""
    )
    settings = derive(load(text=text), foreground=True).settings
    assert set(settings.listeners) == {
        ListenerSettings("imaps", "127.0.0.1", 1993, tls=True),
        ListenerSettings("imaps", "::1", 1993, tls=True),
        ListenerSettings("extra", "192.0.2.1", 1143),
    }
    assert settings.login_processes == 3
    assert settings.login.client_limit == 77


@pytest.mark.parametrize(
    ("text", "tls", "require", "cleartext"),
    [
        pytest.param("", None, False, False, id="no-certificate"),
        pytest.param(TLS, TlsFiles("/c", "/k"), False, False, id="certificate"),
        pytest.param(TLS + "ssl = no\n", None, False, False, id="ssl-no"),
        pytest.param(TLS + "ssl = required\n", TlsFiles("/c", "/k"), True, False, id="required"),
        pytest.param("auth_allow_cleartext = yes\n", None, False, True, id="cleartext"),
    ],
)
def test_tls(text: str, tls: TlsFiles | None, require: bool, cleartext: bool) -> None:
    login = derive(load(text=V24 + text), foreground=True).settings.login
    got = login.tls and TlsFiles(login.tls.certificate, login.tls.key)
    assert (got, login.require_tls, login.allow_cleartext) == (tls, require, cleartext)


def test_the_older_form_means_the_same() -> None:
    text = (
        "ssl_cert = </c\nssl_key = </k\ndisable_plaintext_auth = no\n"
        "mail_max_userip_connections = 4\n"
        "service imap-login {\n inet_listener imap {\n port = 1143\n }\n}\n"
    )
    settings = derive(load(text=text), foreground=True).settings
    assert settings.login.tls is not None
    assert settings.login.tls.certificate.endswith("/c")
    assert settings.login.allow_cleartext
    assert settings.max_user_connections == 4
    assert {each.port for each in settings.listeners} == {1143, 993}


def test_limits_and_paths() -> None:
    text = V24 + (
        "mail_max_userip_connections = unlimited\nbase_dir = /run/mine\nlog_path = /dev/stderr\n"
        "info_log_path = /var/log/info\nsharefs_login_timeout = 10s\nsharefs_worker_processes = 7\n"
        "sharefs_worker_idle_time = 5s\nlogin_greeting = hello\n"
        "service imap {\n process_limit = 9\n}\n"
    )
    settings = derive(load(text=text), foreground=False).settings
    assert settings.max_user_connections == 0
    assert settings.base_dir == Path("/run/mine")
    assert (settings.log_path, settings.info_log_path) == ("", "/var/log/info")
    assert settings.login.timeout == 10
    assert (settings.pool_size, settings.idle_limit, settings.worker_limit) == (7, 5, 9)
    assert settings.login.greeting == "hello"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("", 30, id="by-default"),
        pytest.param("sharefs_hibernate_timeout = 5s\n", 5, id="sooner"),
        pytest.param("sharefs_hibernate_timeout = 10m\n", 90, id="before-the-client-is-told"),
        pytest.param("sharefs_hibernate_timeout = 0\n", 0, id="never"),
        pytest.param("sharefs_hibernate_timeout = infinite\n", 0, id="never-in-words"),
    ],
)
def test_when_connections_fall_asleep(text: str, seconds: float) -> None:
    assert derive(load(text=V24 + text), foreground=True).settings.rest_after == seconds


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("ssl = required\n", "needs ssl_server_cert_file"),
        ("service imap-login {\n inet_listener imap {\n port = 0\n }\n}\n", "no port to listen on"),
        (
            "service imap-login {\n inet_listener extra {\n port = 143\n }\n}\n",
            "inet_listener imap and extra both want",
        ),
    ],
)
def test_what_cannot_be_served(text: str, want: str) -> None:
    with pytest.raises(SharingError, match=want):
        derive(load(text=V24 + text), foreground=True)


@pytest.mark.superuser
def test_strangers_never_meet_the_superuser() -> None:
    for user in ("root", "no-such-user", "dovenull", ""):
        login = derive(
            load(text=V24 + f"default_login_user = {user}\n"), foreground=True
        ).settings.login
        assert login.uid > 0
        assert login.gid > 0
        assert login.root_directory == "/run/sharefs/empty"
