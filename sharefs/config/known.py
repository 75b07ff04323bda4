"""Names of Dovecot's language that mean nothing here yet.  Data only.

What is found here without being ours is reported as not implemented; what is found
nowhere is an error, because it is most likely misspelt.  Sources: the settings of 2.3 and of 2.4.
"""

from typing import Final

# Beginnings of the names of whole features that we do not have, whose settings number hundreds.
_FAMILIES: Final = """
antispam_ apparmor_ auth_cache_ auth_gssapi_ auth_krb5_ auth_oauth2_ auth_policy_ auth_winbind_
auth_worker_ autocreate autosubscribe cassandra_ charset_alias_ compression_ crypt_ dcrypt_
dict_ director_ doveadm_ dsync_ event_exporter_ expire_ fs_ fts_ gssapi_ haproxy_ http_client_
imap_filter_ imap_hibernate_ imap_sieve_ imap_urlauth_ imap_zlib_ imapc_ language_ last_login_
lazy_expunge_ lda_ ldap_ lmtp_ login_proxy_ login_socket_ lua_ mail_always_cache_
mail_attachment_ mail_cache_ mail_compress_ mail_crypt_ mail_index_ mail_log_ mail_lua_
mail_never_cache_ mail_sort_ mailbox_list_index maildir_quota_ managesieve_ mbox_ mdbox_
metacache_ metric_ mysql_ notify_status_ oauth2_ obox_ old_stats_ passdb_imap_ passdb_ldap_
passdb_lua_ passdb_oauth2_ passdb_sql_ pgsql_ pop3_ pop3c_ push_notification_ quota2 quota_
rawlog_ recipient_ redis_ replication_ replicator_ sieve_ sql_ sqlite_ stats_ submission_ tls_
trash_ urlauth_ userdb_ldap_ userdb_lua_ userdb_sql_ virtual_ welcome_ zlib_
"""

_SETTINGS: Final = """
acl_cache_ttl_secs acl_lookup_dict acl_rights auth_allow_weak_schemes auth_anonymous_username
auth_debug auth_debug_passwords auth_default_realm auth_failure_delay
auth_internal_failure_delay auth_login_failure auth_master_user_separator auth_mechanisms
auth_proxy_self auth_realms auth_socket_path auth_ssl_require_client_cert
auth_ssl_username_from_cert auth_stats auth_use_winbind auth_username_chars auth_username_format
auth_username_translation auth_verbose auth_verbose_passwords base_dir config_cache_size
debug_log_path default_client_limit default_idle_kill default_idle_kill_interval
default_internal_group default_internal_user default_login_user default_process_limit
default_service_count default_vsz_limit deliver_log_format disable_plaintext_auth
dotlock_use_excl first_valid_gid first_valid_uid hostname imap4rev2_enable imap_capability
imap_client_workarounds imap_compress_on_proxy imap_fetch_failure
imap_id_log imap_id_retain imap_id_send imap_idle_notify_interval imap_literal_minus
imap_logout_format imap_max_line_length imap_metadata imap_quota_set import_environment
info_log_path instance_name last_valid_gid last_valid_uid libexec_dir listen lock_method
log_core_filter log_debug log_path log_timestamp log_verbose login_access_sockets
login_auth_socket_path login_greeting login_log_format login_log_format_elements
login_plugin_dir login_plugins login_source_ips login_trusted_networks mail_access_groups
mail_attribute mail_attribute_dict mail_chroot mail_control_dir mail_debug
mail_ext_attachment_fs mail_ext_attachment_hash mail_ext_attachment_min_size
mail_ext_attachment_path mail_fsync mail_full_filesystem_access mail_gid mail_home mail_location
mail_max_keyword_length mail_max_lock_timeout mail_max_userip_connections mail_nfs_index
mail_nfs_storage mail_plugin_dir mail_plugins mail_prefetch_count mail_privileged_group
mail_save_crlf mail_server_admin mail_server_comment mail_shared_explicit_inbox mail_temp_dir
mail_temp_scan_interval mail_uid mail_utf8_extensions mail_vsize_bg_after_count
mailbox_idle_check_interval mailbox_list_drop_noselect mailbox_list_iter_from_index_dir
mailbox_list_lost_mailbox_prefix mailbox_list_refresh mailbox_list_storage_escape_char
mailbox_list_validate_fs_names mailbox_list_visible_escape_char maildir_broken_filename_sizes
maildir_copy_with_hardlinks maildir_empty_new maildir_stat_dirs maildir_very_dirty_syncs
master_user_separator metric mmap_disable postmaster_address process_shutdown_filter protocol
protocols rejection_reason rejection_subject sendmail_path shutdown_clients ssl ssl_alt_cert
ssl_alt_key ssl_ca ssl_ca_dir ssl_ca_file ssl_cert ssl_cert_username_field ssl_cipher_list
ssl_cipher_suites ssl_client_ca_dir ssl_client_ca_file ssl_client_cert ssl_client_cert_file
ssl_client_key ssl_client_key_file ssl_client_key_password ssl_client_require_valid_cert
ssl_crypto_device ssl_curve_list ssl_dh ssl_key ssl_key_password ssl_min_protocol ssl_options
ssl_parameters_regenerate ssl_peer_certificate_fingerprint_hash ssl_prefer_server_ciphers
ssl_protocols ssl_require_crl ssl_server_alt_cert_file ssl_server_alt_key_file
ssl_server_ca_file ssl_server_cert_username_field ssl_server_dh_file ssl_server_prefer_ciphers
ssl_server_request_client_cert ssl_server_require_crl ssl_session_ticket ssl_verify_client_cert
state_dir syslog_facility valid_chroot_dirs verbose_proctitle verbose_ssl version_ignore
"""

_BLOCKS: Final = """
cassandra crypt_user_key dcrypt_openssl dict dict_client dict_map dict_server director event
event_exporter execute_filter expire fs fts fts_flatcurve fts_solr http_client imap_sieve imapc
import_environment language language_filter language_tokenizer lazy_expunge ldap local_name
login_proxy lua mail_attachment mail_attribute mail_cache_fields mailbox_from metric mysql
oauth2 passdb_sql pgsql pop3c push_notification quota quota2 quota_over quota_root quota_warning
redis remote_name service_extra_groups sieve_extprograms sieve_script sieve_script_after
sieve_script_before sieve_storage sql_driver sqlite statistics submission_relay trash_mailbox
userdb_sql virtual
"""

# Services of Dovecot that no process of ours stands for.
_SERVICES: Final = """
aggregator anvil auth-worker config dict dict-async dict-expire director dns-client dns_client
doveadm fs-auth health-check imap-hibernate imap-postlogin imap-urlauth imap-urlauth-login
imap-urlauth-worker indexer indexer-worker ipc lmtp log managesieve managesieve-login old-stats
pop3 pop3-login quota-status quota-warning replicator ssl-params stats submission
submission-login tcpwrap welcome
"""
_PROTOCOLS: Final = """
imap pop3 lmtp lda sieve submission doveadm imap-login pop3-login submission-login
managesieve-login auth dict dict-async dns-client imap-hibernate imap-urlauth
imap-urlauth-login imap-urlauth-worker indexer indexer-worker log master quota-status replicator
stats health-check anvil config dsync
"""

FAMILIES: Final = tuple(_FAMILIES.split())
KNOWN_SETTINGS: Final = frozenset(_SETTINGS.split())
# Those of them that have no effect here but are kept, for the audit of a host that runs Dovecot.
AUDITED: Final = frozenset({"mbox_write_locks"})
KNOWN_BLOCKS: Final = frozenset(_BLOCKS.split())
KNOWN_SERVICES: Final = frozenset(_SERVICES.split())
PROTOCOLS: Final = frozenset(_PROTOCOLS.split())
IMPLEMENTED_SERVICES: Final = frozenset({"imap-login", "imap", "auth"})

# Drivers: whether we have them.
STORAGES: Final = {
    "maildir": True, "mbox": False, "sdbox": False, "mdbox": False, "dbox": False, "imapc": False,
    "pop3c": False, "obox": False, "cydir": False, "virtual": False, "fail": False,
}  # fmt: skip
LAYOUTS: Final = {"maildir++": True, "fs": True, "index": False, "imapdir": False, "none": False}
MAP_DRIVERS: Final = {
    "file": True, "fs": False, "sql": False, "proxy": False, "redis": False, "memcached": False,
    "cdb": False, "fail": False, "ldap": False, "mysql": False, "pgsql": False, "sqlite": False,
    "cassandra": False,
}  # fmt: skip
PASSDBS: Final = {
    "passwd": True, "passwd-file": True, "static": True, "pam": True, "shadow": False,
    "sql": False, "ldap": False, "lua": False, "imap": False, "oauth2": False, "bsdauth": False,
    "checkpassword": False, "dict": False, "prefetch": False,
}  # fmt: skip
USERDBS: Final = {
    "passwd": True, "passwd-file": True, "static": True, "sql": False, "ldap": False, "lua": False,
    "prefetch": True, "checkpassword": False, "dict": False,
}  # fmt: skip


def is_known(name: str) -> bool:
    """Whether Dovecot has a setting of that name, or one that begins so."""
    return name in KNOWN_SETTINGS or name.startswith(FAMILIES)
