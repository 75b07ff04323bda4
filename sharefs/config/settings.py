"""Every setting that we implement, with its type and default; and what they add up to.

The fields of Scalars *are* the schema: the loader learns names, types and defaults from here, so
that a setting is added in one line.  Defaults are Dovecot's unless the name starts with sharefs_.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sharefs.config.kinds import (
    BOOL,
    LITERAL,
    OCTETS,
    SECONDS,
    STRING,
    TEMPLATE,
    UINT,
    WORDS,
    Kind,
    choice,
    words_of,
)
from sharefs.config.namespaces import AclSettings, MapSettings, NamespaceSettings
from sharefs.config.services import PassdbSettings, ServiceSettings, UserdbSettings

T = TypeVar("T")

AUTH_MECHANISMS: Final = (
    "plain", "login", "external", "anonymous", "cram-md5", "digest-md5", "scram-sha-1",
    "scram-sha-256", "oauthbearer", "xoauth2", "gssapi", "gss-spnego", "ntlm", "otp", "apop",
)  # fmt: skip

FSYNC: Final = choice("optimized", "always", "never")
LOCKS: Final = choice("fcntl", "flock", "dotlock")


def setting(default: str, kind: Kind[T]) -> T:
    """A field of Scalars.  default: as it would be written in a file."""
    made: Any = field(default=kind.parse(default), metadata={"kind": kind, "default": default})
    return made  # type: ignore[no-any-return]  # dataclasses turn the Field into a T


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalars:
    """The settings with one value each.  Times in seconds, sizes in octets."""

    # Where mail is.  A namespace's own are in its Location; these are the global ones.
    mail_driver: str = setting("", LITERAL)
    mail_path: str = setting("", STRING)
    mail_inbox_path: str = setting("", STRING)
    mail_control_path: str = setting("", STRING)
    mail_index_path: str = setting("", STRING)
    mail_index_private_path: str = setting("", STRING)
    mail_cache_path: str = setting("", STRING)
    mail_volatile_path: str = setting("", STRING)
    mail_alt_path: str = setting("", STRING)
    mail_home: str = setting("", STRING)
    mailbox_list_layout: str = setting("", LITERAL)
    mailbox_list_utf8: bool = setting("no", BOOL)
    mailbox_directory_name: str = setting("", LITERAL)
    mailbox_root_directory_name: str = setting("", LITERAL)
    mailbox_subscriptions_filename: str = setting("subscriptions", LITERAL)

    # Under which identity it is touched.
    mail_uid: str = setting("", LITERAL)
    mail_gid: str = setting("", LITERAL)
    mail_access_groups: tuple[str, ...] = setting("", WORDS)
    mail_privileged_group: str = setting("", LITERAL)
    system_groups_user: str = setting("", STRING)
    first_valid_uid: int = setting("500", UINT)
    last_valid_uid: int = setting("0", UINT)
    first_valid_gid: int = setting("1", UINT)
    last_valid_gid: int = setting("0", UINT)

    # How it is touched.
    mail_fsync: str = setting("optimized", FSYNC)
    lock_method: str = setting("fcntl", LOCKS)
    dotlock_use_excl: bool = setting("yes", BOOL)
    mail_max_lock_timeout: int = setting("0", SECONDS)
    mail_max_keyword_length: int = setting("50", UINT)
    mail_temp_scan_interval: int = setting("1 weeks", SECONDS)
    maildir_copy_with_hardlinks: bool = setting("yes", BOOL)
    maildir_stat_dirs: bool = setting("no", BOOL)
    maildir_very_dirty_syncs: bool = setting("no", BOOL)
    maildir_broken_filename_sizes: bool = setting("no", BOOL)
    maildir_empty_new: bool = setting("no", BOOL)

    # Sharing.
    mail_plugins: tuple[str, ...] = setting("", WORDS)
    acl_driver: str = setting("", choice("", "vfile"))
    acl_user: str = setting("", STRING)
    acl_groups: tuple[str, ...] = setting("", WORDS)
    acl_defaults_from_inbox: bool = setting("no", BOOL)
    acl_globals_only: bool = setting("no", BOOL)
    acl_ignore: bool = setting("no", BOOL)
    acl_global_path: str = setting("", STRING)  # 2.3: the file or directory after acl = vfile:
    acl_cache_ttl: int = setting("30 secs", SECONDS)
    imap_acl_allow_anyone: bool = setting("no", BOOL)

    # IMAP.
    imap_max_line_length: int = setting("64k", OCTETS)
    imap_idle_notify_interval: int = setting("2 mins", SECONDS)
    imap_compress_deflate_level: int = setting("6", UINT)  # 0: no COMPRESS
    imap_capability: str = setting("", LITERAL)
    imap_logout_format: str = setting(
        "in=%{input} out=%{output} deleted=%{deleted} expunged=%{expunged} trashed=%{trashed}"
        " hdr_count=%{fetch_hdr_count} hdr_bytes=%{fetch_hdr_bytes}"
        " body_count=%{fetch_body_count} body_bytes=%{fetch_body_bytes}",
        LITERAL,
    )
    imap_id_send: str = setting("name *", LITERAL)
    mail_max_userip_connections: int = setting("10", UINT)

    # Logging in.
    login_greeting: str = setting("Dovecot ready.", LITERAL)
    login_trusted_networks: tuple[str, ...] = setting("", WORDS)
    auth_mechanisms: tuple[str, ...] = setting("plain", words_of(*AUTH_MECHANISMS))
    auth_username_format: str = setting("%{user | lower}", TEMPLATE)
    auth_username_chars: str = setting(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@", LITERAL
    )
    auth_username_translation: str = setting("", LITERAL)
    auth_default_domain: str = setting("", LITERAL)
    auth_master_user_separator: str = setting("", LITERAL)
    auth_failure_delay: int = setting("2 secs", SECONDS)
    auth_allow_cleartext: bool = setting("no", BOOL)
    auth_verbose: bool = setting("no", BOOL)
    auth_anonymous_username: str = setting("anonymous", LITERAL)

    # TLS.
    ssl: str = setting("yes", choice("yes", "no", "required"))
    ssl_server_cert_file: str = setting("", LITERAL)
    ssl_server_key_file: str = setting("", LITERAL)
    ssl_server_key_password: str = setting("", LITERAL)
    ssl_min_protocol: str = setting("TLSv1.2", LITERAL)
    ssl_cipher_list: str = setting(
        "ALL:!kRSA:!SRP:!kDHd:!DSS:!aNULL:!eNULL:!EXPORT:!DES:!3DES:!MD5:!PSK:!RC4:!ADH:!LOW@STRENGTH",
        LITERAL,
    )

    # The host.
    base_dir: str = setting("/run/dovecot", LITERAL)
    state_dir: str = setting("/var/lib/dovecot", LITERAL)
    instance_name: str = setting("dovecot", LITERAL)
    hostname: str = setting("", LITERAL)
    listen: tuple[str, ...] = setting("* ::", WORDS)
    protocols: tuple[str, ...] = setting("imap", WORDS)
    default_internal_user: str = setting("dovecot", LITERAL)
    default_internal_group: str = setting("dovecot", LITERAL)
    default_login_user: str = setting("dovenull", LITERAL)
    default_client_limit: int = setting("1000", UINT)
    default_process_limit: int = setting("100", UINT)
    log_path: str = setting("syslog", LITERAL)
    info_log_path: str = setting("", LITERAL)
    debug_log_path: str = setting("", LITERAL)
    log_debug: str = setting("", LITERAL)
    syslog_facility: str = setting("mail", LITERAL)
    dovecot_config_version: str = setting("", LITERAL)
    dovecot_storage_version: str = setting("", LITERAL)

    # Our own.
    sharefs_mailbox_permissions_from: str = setting("root", choice("root", "parent"))
    sharefs_symlink_owner: str = setting("resolve", choice("resolve", "linker"))
    sharefs_strict_rights: bool = setting("no", BOOL)  # NO where Dovecot drops silently
    sharefs_login_timeout: int = setting("3 mins", SECONDS)
    sharefs_login_max_literal: int = setting("8k", OCTETS)
    sharefs_append_max_size: int = setting("64M", OCTETS)
    sharefs_worker_processes: int = setting("0", UINT)  # 0: one for each core
    sharefs_index: bool = setting("yes", BOOL)  # the query index
    sharefs_index_path: str = setting("~/.cache/sharefs/index", STRING)
    sharefs_worker_idle_time: int = setting("1 mins", SECONDS)
    sharefs_hibernate_timeout: int = setting("30 secs", SECONDS)  # 0: never
    sharefs_mount_point: str = setting("", STRING)  # of the view that serves shares; "": none


SCHEMA: Final[Mapping[str, Kind[Any]]] = {
    item.name: item.metadata["kind"] for item in dataclasses.fields(Scalars)
}
DEFAULTS: Final[Mapping[str, str]] = {
    item.name: item.metadata["default"] for item in dataclasses.fields(Scalars)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Scalars):
    """Everything that is in force for one protocol and one user."""

    namespaces: tuple[NamespaceSettings, ...] = ()
    sharing_map: MapSettings | None = None
    acl: tuple[AclSettings, ...] = ()  # global entries, for every mailbox
    acl_ignore_patterns: tuple[str, ...] = ()  # 2.3's acl_ignore_namespace, names with prefix
    services: Mapping[str, ServiceSettings] = field(default_factory=dict)
    passdbs: tuple[PassdbSettings, ...] = ()
    userdbs: tuple[UserdbSettings, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)  # every name that is set, as text
    origins: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The value as text, or the default.  Raises KeyError for a name nobody knows."""
        if name in self.texts:
            return self.texts[name]
        return DEFAULTS[name]

    def origin(self, name: str) -> str:
        """Where the value came from: "default", "FILE:LINE", "userdb field NAME", "override"."""
        return self.origins.get(name, "default")

    @property
    def acl_enabled(self) -> bool:
        """Whether mailbox ACLs are obeyed: the acl plugin is loaded, or acl_driver is set."""
        return bool(self.acl_driver) or "acl" in self.mail_plugins

    def namespace(self, name: str) -> NamespaceSettings:
        """Raises KeyError."""
        for namespace in self.namespaces:
            if namespace.name == name:
                return namespace
        raise KeyError(name)
