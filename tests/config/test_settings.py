"""Typed settings: types, defaults, layers, the 2.3 form, userdb fields, and origins."""

import os
from pathlib import Path

import pytest

from sharefs.config import ConfigError, Form, Settings, Severity, Variables, examine, load
from sharefs.config.kinds import UNLIMITED
from sharefs.config.known import KNOWN_BLOCKS, KNOWN_SETTINGS, is_known
from sharefs.config.settings import DEFAULTS, SCHEMA
from sharefs.errors import Code, SharingError

BOB = Variables(user="bob@example.com", home="/home/bob", uid=1001, gid=1001)
INBOX = "namespace inbox {\nseparator = /\ninbox = yes\n}\n"


def settings_of(text: str, **options: object) -> Settings:
    return load(text=text, lookup_group=lambda name: True).settings(
        variables=BOB,
        **options,  # type: ignore[arg-type]  # protocol and fields, as each test writes them
    )


def problems_of(text: str) -> list[tuple[int, str, str]]:
    return [(each.place.line, each.check, each.remedy) for each in examine(text=text).problems]


def test_defaults_are_what_the_schema_says() -> None:
    found = load(text="").settings()
    for name, kind in SCHEMA.items():
        assert getattr(found, name) == kind.parse(DEFAULTS[name]), name
        assert found.get(name) == DEFAULTS[name]
        assert found.origin(name) == "default"
    assert (found.first_valid_uid, found.mail_fsync, found.imap_max_line_length) == (
        500, "optimized", 65536,
    )  # fmt: skip
    assert found.sharefs_mailbox_permissions_from == "root"
    assert found.sharefs_symlink_owner == "resolve"


def test_without_namespaces_there_is_a_private_inbox() -> None:
    (inbox,) = settings_of("").namespaces
    assert (inbox.name, inbox.type, inbox.prefix, inbox.separator, inbox.inbox) == (
        "inbox", "private", "", ".", True,
    )  # fmt: skip
    assert inbox.location.path == Path("/home/bob/Maildir")
    assert settings_of("mailbox_list_layout = fs").namespaces[0].separator == "/"


VALUES = {
    "bool": ("mail_plugins = x\nmaildir_stat_dirs = YES", "maildir_stat_dirs", True),
    "number": ("first_valid_uid = 1000", "first_valid_uid", 1000),
    "unlimited": ("mail_max_userip_connections = unlimited", "mail_max_userip_connections",
                  UNLIMITED),
    "size": ("imap_max_line_length = 2M", "imap_max_line_length", 2 << 20),
    "size in words": ("imap_max_line_length = 64 KiB", "imap_max_line_length", 65536),
    "time": ("imap_idle_notify_interval = 30s", "imap_idle_notify_interval", 30),
    "time in words": ("imap_idle_notify_interval = 2 mins", "imap_idle_notify_interval", 120),
    "time rounded up": ("auth_failure_delay = 1500 msecs", "auth_failure_delay", 2),
    "words": ("mail_access_groups = a b,c", "mail_access_groups", ("a", "b", "c")),
    "choice in capitals": ("mail_fsync = ALWAYS", "mail_fsync", "always"),
    "last one wins": ("log_path = /a\nlog_path = /b", "log_path", "/b"),
    "list block": ("mail_plugins {\nacl = yes\nquota = no\n}", "mail_plugins", ("acl",)),
    "list blocks add up": ("mail_plugins {\na = yes\n}\nmail_plugins {\nb = yes\n}",
                           "mail_plugins", ("a", "b")),
    "list item removed": ("mail_plugins = a b\nmail_plugins {\na = no\n}", "mail_plugins", ("b",)),
    "list replaced": ("mail_plugins = a\nmail_plugins = b", "mail_plugins", ("b",)),
    "list appended": ("mail_plugins = a\nmail_plugins += b", "mail_plugins", ("a", "b")),
    "old append": ("mail_plugins = a\nmail_plugins = $mail_plugins b", "mail_plugins", ("a", "b")),
    "SET": ("base_dir = /x\nlog_path = $SET:base_dir\n", "log_path", "/x"),
    "home": ("mail_home = /home/%{user | username}", "mail_home", "/home/bob"),
    "path": ("mail_path = ~/M", "mail_path", "/home/bob/M"),
    "format keeps its own variables": ("imap_logout_format = in=%{input}", "imap_logout_format",
                                       "in=%{input}"),
    "greeting may look like a file": ("login_greeting = <hello>", "login_greeting", "<hello>"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "name", "want"), VALUES.values(), ids=VALUES)
def test_values(text: str, name: str, want: object) -> None:
    assert getattr(settings_of(text), name) == want


WRONG = {
    "bool": ("maildir_stat_dirs = maybe", "bad-value", "yes or no"),
    "number": ("first_valid_uid = many", "bad-value", "number"),
    "too large": ("first_valid_uid = 4294967296", "bad-value", "number"),
    "negative": ("first_valid_uid = -1", "bad-value", "number"),
    "time without unit": ("auth_failure_delay = 5", "bad-value", "5 secs"),
    "size": ("imap_max_line_length = big", "bad-value", "64k"),
    "choice": ("mail_fsync = sometimes", "bad-value", "optimized, always or never"),
    "mechanism": ("auth_mechanisms = plain magic", "bad-value", "plain"),
    "misspelt": ("mail_acess_groups = x", "unknown-setting", "mail_access_groups"),
    "misspelt own": ("sharefs_symlink_ownr = resolve", "unknown-setting", "sharefs_symlink_owner"),
    "own made up": ("sharefs_foo = 1", "unknown-setting", "docs/"),
    "misspelt block": ("namesapce inbox {\n}", "unknown-block", "namespace"),
    "in a namespace": ("namespace x {\ninbox = yes\nprefx = x/\n}", "unknown-setting", "prefix"),
    "in a passdb": ("passdb passwd-file {\npasswd_file_path = /x\nmastr = yes\n}",
                    "unknown-setting", "master"),
    "misplaced": ("passdb static {\nnamespace x {\n}\n}", "misplaced", "move it out"),
    "append to a word": ("log_path += /x", "bad-value", "log_path = /x"),
    "unnamed service": ("service {\n}", "block-name", "service NAME"),
    "list item": ("mail_plugins {\nacl = maybe\n}", "bad-value", "acl = yes"),
    "undefined": ("mail_plugins = $mail_plugin acl", "undefined-variable", "mail_plugins"),
    "bad variable": ("mail_path = /m/%{usr}", "bad-variable", "docs/"),
    "old owner variable": ("mail_path = /m/%%u", "bad-variable", "%{owner_user}"),
    "old variable": ("mail_path = /m/%u", "bad-variable", "%{user}"),
    "certificate inline": ("ssl_cert = /etc/x.pem", "bad-value", "ssl_cert = </"),
    "location key": ("mail_location = maildir:~/M:INDX=/x", "bad-value", "INDEX"),
    "dictionary": ("plugin {\nacl_shared_dict = /x.db\n}", "bad-value", "file:/"),
    "plugin setting": ("plugin {\nacl_share_dict = file:/x\n}", "unknown-setting",
                       "acl_shared_dict"),
    "own in plugin": ("plugin {\nsharefs_symlink_owner = linker\n}", "unknown-setting", "sharefs_"),
    "args without driver": ("passdb {\nargs = /x\n}", "bad-value", "driver ="),
    "passwd-file option": ("passdb {\ndriver = passwd-file\nargs = schme=X /x\n}", "bad-value",
                           "scheme"),
    "file that is not there": ("ssl_server_key_password = </nonexistent", "unreadable", ""),
}  # fmt: skip


@pytest.mark.parametrize(("text", "check", "remedy"), WRONG.values(), ids=WRONG)
def test_what_cannot_work_is_an_error_with_a_remedy(text: str, check: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text=text)
    errors = [each for each in caught.value.problems if each.severity is Severity.ERROR]
    (error,) = (each for each in errors if each.check == check)
    assert remedy in error.remedy
    assert error.place.line >= 1
    assert caught.value.code is Code.INVALID


def test_what_dovecot_has_and_we_do_not_is_named_once() -> None:
    text = (
        "mail_cache_fields = flags\nsieve_script personal {\npath = /x\n}\nmail_cache_fields = x\n"
    )
    found = examine(text=text + "protocol imap {\nmail_cache_fields = y\n}\n").problems
    assert [(each.place.line, each.severity) for each in found] == [
        (1, Severity.UNIMPLEMENTED), (2, Severity.UNIMPLEMENTED),
    ]  # fmt: skip


def test_the_table_of_known_names_is_disjoint_from_what_we_implement() -> None:
    for name in ("imapc_host", "sieve_max_redirects", "mail_cache_fields", "quota_storage_size"):
        assert is_known(name)
    assert not KNOWN_BLOCKS & set(SCHEMA)
    assert not [name for name in SCHEMA if name.startswith("sharefs_") and is_known(name)]
    assert "mail_acess_groups" not in KNOWN_SETTINGS


def test_protocol_filters() -> None:
    text = "log_path = /a\nprotocol imap {\nlog_path = /b\n}\nprotocol !imap {\nlog_path = /c\n}\n"
    assert settings_of(text).log_path == "/b"
    assert settings_of(text, protocol="lmtp").log_path == "/c"
    assert settings_of("protocol lda lmtp {\nlog_path = /d\n}", protocol="lda").log_path == "/d"


def test_address_filters() -> None:
    text = (
        "ssl = required\nremote 10.0.0.0/8 {\nssl = no\n}\n"
        "local 192.0.2.1 {\nprotocol imap {\nlogin_greeting = inside\n}\n}\n"
    )
    config = load(text=text)
    near = Variables(user="bob", home="/h", remote_ip="10.1.2.3", local_ip="192.0.2.1")
    assert config.settings(variables=near).ssl == "no"
    assert config.settings(variables=near).login_greeting == "inside"
    far = Variables(user="bob", home="/h", remote_ip="192.0.2.9")
    assert config.settings(variables=far).ssl == "required"
    assert config.settings().ssl == "required"


def test_the_most_specific_filter_wins_wherever_it_stands() -> None:
    text = (
        "local 127.0.0.2 {\nlogin_greeting = two\n}\n"
        "local 127.0.0.0/24 {\nlogin_greeting = net\n}\n"
        "remote 10.0.0.0/8 {\nlogin_greeting = remote\n}\n"
        "protocol imap {\nlogin_greeting = imap\n}\n"
    )
    config = load(text=text)
    for local, remote, want in (
        ("127.0.0.2", "10.0.0.1", "two"), ("127.0.0.3", "10.0.0.1", "net"),
        ("192.0.2.1", "10.0.0.1", "remote"), ("192.0.2.1", "192.0.2.2", "imap"),
    ):  # fmt: skip
        who = Variables(user="bob", home="/h", local_ip=local, remote_ip=remote)
        assert config.settings(variables=who).login_greeting == want


def test_groups_of_settings() -> None:
    text = (
        "group @mailboxes finnish {\nmailbox Roskakori {\nspecial_use = \\Trash\n}\n}\n"
        "namespace inbox {\nseparator = /\ninbox = yes\n@mailboxes = finnish\n"
        "@mailbox_defaults = english\n}\n"
        "group @mail x {\npath = /x\n}\n@mail = x\n@metric_defaults = backend\n"
    )
    config = load(text=text)
    assert config.problems == ()
    found = config.settings(variables=BOB)
    assert found.mail_path == "/x"
    assert found.origin("mail_path") == "(text):13"
    assert [each.name for each in found.namespace("inbox").mailboxes] == [
        "Roskakori", "Drafts", "Junk", "Trash", "Sent", "Sent Messages",
    ]  # fmt: skip


def test_groups_do_not_multiply_without_end() -> None:
    text = "group @a g0 {\nlog_path = /x\n}\n"
    for number in range(1, 40):
        text += f"group @a g{number} {{\n@a = g{number - 1}\n@a = g{number - 1}\n}}\n"
    found = examine(text=text + "@a = g39\n").problems
    assert [each.check for each in found] == ["too-large"]


def test_file_names_are_relative_to_the_file_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/greeting").write_text("hi\n")
    (tmp_path / "conf.d/c.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "conf.d/a.conf").write_text("mail_home = <greeting\nssl_cert = <c.pem\n")
    (tmp_path / "main.conf").write_text("!include conf.d/*.conf\n!include none.d/*.conf\n")
    config = load(tmp_path / "main.conf")
    assert config.problems == ()
    assert config.settings().mail_home == "hi"
    assert config.settings().ssl_server_cert_file == f"{tmp_path}/conf.d/c.pem"


def test_set_refers_to_what_a_setting_is_in_the_end() -> None:
    text = (
        "mail_home = $SET:base_dir\nbase_dir = $SET:state_dir\nstate_dir = /late\n"
        "log_path = /a\nlog_path = $SET:log_path /b\n"
        "service auth {\nuser = $SET:default_login_user\n}\n"
        "acl_user = $SET:service/auth/service_user\ndefault_login_user = nobody\n"
    )
    found = settings_of(text)
    assert (found.mail_home, found.log_path) == ("/late", "/a /b")
    assert found.services["auth"].user == "nobody"
    assert found.acl_user == "nobody"
    assert problems_of("log_path = $SET:lgo_path")[0][1:] == (
        "undefined-variable", "did you mean log_path?",
    )  # fmt: skip
    circle = "acl_user = $SET:mail_home x\nmail_home = $SET:acl_user y\n"
    assert [check for _, check, _ in problems_of(circle)] == ["set-loop"]


def test_a_value_from_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "nul").write_text("a\0b")
    for name, check in (("fifo", "unreadable"), ("nul", "nul"), (".", "unreadable")):
        found = problems_of(f"mail_home = <{tmp_path}/{name}")
        assert [each for _, each, _ in found] == [check]


def test_namespace_blocks_of_a_name_are_one() -> None:
    text = (
        INBOX
        + "namespace inbox {\nmailbox Trash {\nspecial_use = \\Trash\nauto = subscribe\n}\n}\n"
    )
    (inbox,) = settings_of(text).namespaces
    (trash,) = inbox.mailboxes
    assert (trash.name, trash.special_use, trash.auto) == ("Trash", ("\\Trash",), "subscribe")


def test_unnamed_namespaces_get_names_to_be_called_by() -> None:
    text = (
        "namespace {\ninbox = yes\nseparator = /\n}\n"
        "namespace {\nprefix = Public/\ntype = public\nmail_path = /p\nsubscriptions = no\n"
        "separator = /\n}\nnamespace {\nprefix = public/x/\ntype = public\nmail_path = /q\n"
        "subscriptions = no\nseparator = /\n}\n"
    )
    names = [each.name for each in settings_of(text).namespaces]
    assert names == ["inbox", "public", "publicx"]
    fields = {"namespace/public/disabled": "yes"}
    assert [each.name for each in settings_of(text, fields=fields).namespaces] == [
        "inbox",
        "publicx",
    ]


def test_global_entries_of_the_acl() -> None:
    text = (
        "acl group=ops {\nrights = lrwstipekxa\n}\n"
        "namespace inbox {\nseparator = /\ninbox = yes\nacl anyone {\nrights = l\n}\n"
        'mailbox "Big Box" {\nacl user=bob {\nrights = -w\n}\n}\n}\n'
    )
    found = settings_of(text)
    assert [(each.identifier, each.rights) for each in found.acl] == [("group=ops", "lrwstipekxa")]
    (inbox,) = found.namespaces
    assert [each.identifier for each in inbox.acl] == ["group=ops", "anyone"]
    assert [(each.identifier, each.rights) for each in inbox.mailboxes[0].acl] == [
        ("user=bob", "-w")
    ]
    assert str(inbox.mailboxes[0].acl[0].place) == "(text):12"


# -- the 2.3 form ----------------------------------------------------------------------------


def test_old_location() -> None:
    text = (
        "mail_location = maildir:~/Maildir:LAYOUT=fs:INDEX=/i/%u:CONTROL=/c/%Ln:INBOX=~/in"
        ":INDEXPVT=~/pvt:SUBSCRIPTIONS=subs:UTF-8:DIRNAME=msgs\n"
    )
    (inbox,) = settings_of(text).namespaces
    location = inbox.location
    assert (location.driver, location.layout, location.utf8) == ("maildir", "fs", True)
    assert location.path == Path("/home/bob/Maildir")
    assert location.index_path == Path("/i/bob@example.com")
    assert location.control_path == Path("/c/bob")
    assert location.inbox_path == Path("/home/bob/in")
    assert location.index_private_path == Path("/home/bob/pvt")
    assert (location.subscriptions_file_name, location.directory_name) == ("subs", "msgs")


def test_old_location_replaces_the_outer_one_whole() -> None:
    text = (
        "mail_location = maildir:~/Maildir:INDEX=/i/%u:CONTROL=/c/%u\n"
        "namespace {\ninbox = yes\nseparator = /\n}\n"
        "namespace {\ntype = public\nprefix = P/\nseparator = /\nsubscriptions = no\n"
        "location = maildir:/p\n}\n"
    )
    public = settings_of(text).namespace("p")
    assert public.location.path == Path("/p")
    assert public.location.index_path is None
    assert public.location.control_path is None


def test_old_location_without_driver_and_with_colons() -> None:
    assert settings_of("mail_location = ~/M").namespaces[0].location.path == Path("/home/bob/M")
    text = "mail_location = maildir:/x::y:INDEX=/i"
    assert settings_of(text).namespaces[0].location.path == Path("/x:y")


def test_old_shared_namespace() -> None:
    text = (
        "namespace {\ninbox = yes\nseparator = /\n}\n"
        "namespace {\ntype = shared\nseparator = /\nprefix = shared/%%d/%%n/\nsubscriptions = no\n"
        "location = maildir:%%h/Maildir:INDEXPVT=~/Maildir/shared/%%u\n}\n"
        "plugin {\nacl_shared_dict = file:/var/lib/dovecot/shared.db\n"
        "acl = vfile:/etc/dovecot/global-acls:cache_secs=300\nacl_anyone = allow\n"
        "acl_ignore_namespace = x/*\nacl_ignore_namespace2 = y/*\nacl_groups = a,b\n}\n"
    )
    found = settings_of(text)
    shared = found.namespace("shared")
    assert shared.prefix == "shared/$domain/$username/"
    alice = shared.location.for_owner(Variables(user="alice@x", home="/home/alice"))
    assert alice.path == Path("/home/alice/Maildir")
    assert alice.index_private_path == Path("/home/bob/Maildir/shared/alice@x")
    assert found.sharing_map is not None
    assert (found.sharing_map.driver, found.sharing_map.path) == (
        "file", Path("/var/lib/dovecot/shared.db"),
    )  # fmt: skip
    assert found.acl_global_path == "/etc/dovecot/global-acls"
    assert (found.acl_driver, found.acl_cache_ttl) == ("vfile", 300)
    assert found.imap_acl_allow_anyone
    assert found.acl_ignore_patterns == ("x/*", "y/*")
    assert found.acl_groups == ("a", "b")


def test_old_names() -> None:
    text = (
        "disable_plaintext_auth = no\nssl_cert = </etc/ssl/c.pem\nssl_key = < /etc/ssl/k.pem\n"
        "auth_default_realm = example.com\nmail_max_userip_connections = 0\n"
        "auth_username_format = %Ln\n"
    )
    found = settings_of(text)
    assert found.auth_allow_cleartext
    assert (found.ssl_server_cert_file, found.ssl_server_key_file) == (
        "/etc/ssl/c.pem", "/etc/ssl/k.pem",
    )  # fmt: skip
    assert found.auth_default_domain == "example.com"
    assert found.mail_max_userip_connections == UNLIMITED
    assert found.auth_username_format == "%{username | lower}"
    assert found.origin("auth_allow_cleartext") == "(text):1"


def test_old_databases() -> None:
    text = (
        "passdb {\nargs = scheme=SHA256-CRYPT username_format=%n /etc/m/%d/pw\n"
        "driver = passwd-file\n"
        "master = yes\npass = yes\n}\n"
        "passdb {\ndriver = pam\nargs = session=yes failure_show_msg=yes dovecot\n"
        "result_failure = return-fail\n}\n"
        "userdb {\ndriver = static\nargs = uid=vmail gid=vmail home=/var/vmail/%d/%n\n"
        "override_fields = mail_access_groups=a,b system_groups_user=%n\n}\n"
    )
    found = settings_of(text)
    first, second = found.passdbs
    assert (first.driver, first.master, first.pass_through) == ("passwd-file", True, True)
    assert first.default_password_scheme == "SHA256-CRYPT"
    assert first.passwd_file_path is not None
    assert first.passwd_file_path.expand(BOB) == "/etc/m/example.com/pw"
    assert first.username_format is not None
    assert first.username_format.expand(BOB) == "bob"
    assert (second.driver, second.pam_session, second.failure_show_msg) == ("pam", True, True)
    assert second.pam_service_name is not None
    assert str(second.pam_service_name) == "dovecot"
    assert second.result_failure == "return-fail"
    (userdb,) = found.userdbs
    assert {name: value.expand(BOB) for name, value in userdb.fields.items()} == {
        "uid": "vmail", "gid": "vmail", "home": "/var/vmail/example.com/bob",
    }  # fmt: skip
    assert {name: value.expand(BOB) for name, value in userdb.override_fields.items()} == {
        "mail_access_groups": "a,b", "system_groups_user": "bob",
    }  # fmt: skip


def test_new_databases() -> None:
    text = (
        "passdb passwd-file {\npasswd_file_path = /etc/m/pw\n"
        "auth_username_format = %{user | username}\nfields {\nuserdb_x = 1\n}\n}\n"
        "passdb master {\ndriver = static\nmaster = yes\nstatic_password = secret\n}\n"
        "passdb static {\npassword = other\n}\n"
        "userdb passwd {\nfields {\nmail_access_groups = a b\nhome = /h/%{user}\n}\n}\n"
        "userdb static {\nuserdb_static_allow_all_users = yes\n}\n"
    )
    found = settings_of(text)
    assert [(each.name, each.driver) for each in found.passdbs] == [
        ("passwd-file", "passwd-file"), ("master", "static"), ("static", "static"),
    ]  # fmt: skip
    assert [str(each.static_password) for each in found.passdbs[1:]] == ["secret", "other"]
    first, second = found.userdbs
    assert first.fields["home"].expand(BOB) == "/h/bob@example.com"
    assert str(first.fields["mail_access_groups"]) == "a b"
    assert second.static_allow_all_users


def test_services() -> None:
    text = (
        "service imap-login {\ninet_listener imap {\nport = 1143\naddress = 127.0.0.1 ::1\n}\n"
        "inet_listener imaps {\nport = 0\n}\nclient_limit = 50\nprocess_min_avail = 3\n}\n"
        "service auth {\nunix_listener auth-userdb {\nmode = 0660\ngroup = mail\n}\n}\n"
    )
    login = settings_of(text).services["imap-login"]
    assert (login.client_limit, login.process_min_avail) == (50, 3)
    imap, imaps = login.inet_listeners["imap"], login.inet_listeners["imaps"]
    assert (imap.port, imap.ssl, imap.addresses) == (1143, False, ("127.0.0.1", "::1"))
    assert (imaps.port, imaps.ssl) == (0, True)
    auth = settings_of(text).services["auth"]
    assert (auth.unix_listeners["auth-userdb"].mode, auth.unix_listeners["auth-userdb"].group) == (
        0o660, "mail",
    )  # fmt: skip
    default = settings_of("").services["imap-login"].inet_listeners
    assert (default["imap"].port, default["imaps"].port) == (143, 993)


def test_form_is_found_for_each_file(tmp_path: Path) -> None:
    main = tmp_path / "main.conf"
    main.write_text("mail_path = ~/%{user | username}\n!include old.conf\n!include plain.conf\n")
    (tmp_path / "old.conf").write_text("plugin {\nacl = vfile\nacl_groups = %n\n}\n")
    (tmp_path / "plain.conf").write_text("log_path = /x\n")
    config = load(main)
    assert {Path(name).name: form for name, form in config.forms.items()} == {
        "main.conf": Form.V24, "old.conf": Form.V23, "plain.conf": Form.V24,
    }  # fmt: skip
    found = config.settings(variables=BOB)
    assert found.acl_groups == ("bob",)
    assert found.mail_path == "/home/bob/bob"


def test_a_list_may_have_words_of_both_forms(tmp_path: Path) -> None:
    main = tmp_path / "main.conf"
    main.write_text("!include old.conf\nacl_groups += %{user | domain}\nmail_path = ~/M\n")
    (tmp_path / "old.conf").write_text("plugin {\nacl_groups = %n,x\n}\n")
    found = load(main).settings(variables=BOB)
    assert found.acl_groups == ("bob", "x", "example.com")
    main.write_text("!include old.conf\nacl_user = $SET:acl_groups\nmail_path = ~/M\n")
    assert load(main).settings(variables=BOB).acl_user == "bob x"


def test_settings_with_their_common_beginning_taken_out() -> None:
    text = "ssl_server {\ncert_file = /c\nkey_file = /k\n}\n"
    found = settings_of(text)
    assert (found.ssl_server_cert_file, found.ssl_server_key_file) == ("/c", "/k")
    assert problems_of("ssl_server {\ncert_fiel = /c\n}\n")[0][:2] == (2, "unknown-setting")
    assert problems_of("auth_policy {\nserver_url = x\n}\n")[0][:2] == (1, "unimplemented")


@pytest.mark.parametrize("name", ["..", "a/../../b", "../x@y", "x@..", "a\0b", "a@b/c"])
def test_no_user_name_leads_out_of_its_place(name: str) -> None:
    text = INBOX + (
        "namespace shared {\ntype = shared\nseparator = /\nprefix = shared/$user/\n"
        "mail_path = /var/mail/%{owner_domain}/%{owner_username}/Maildir\nsubscriptions = no\n}\n"
    )
    location = settings_of(text).namespace("shared").location
    with pytest.raises(SharingError) as caught:
        location.for_owner(Variables(user=name, home="/home/x"))
    assert caught.value.code is Code.NONEXISTENT


def test_version_decides_the_form() -> None:
    text = "dovecot_config_version = 2.4.0\nmail_home = /home/%u\n"
    assert [(line, check) for line, check, _ in problems_of(text)] == [(2, "bad-variable")]


# -- layers ----------------------------------------------------------------------------------


def test_userdb_fields_override_settings() -> None:
    text = "mail_path = ~/Maildir\nmail_access_groups = a\n" + INBOX
    fields = {
        "uid": "5", "home": "/elsewhere", "quota_rule": "*:storage=1G", "unheard_of": "x",
        "mail_path": "/var/mail/100%/%{user}", "mail_access_groups": "b,c", "mail_fsync": "never",
        "namespace/inbox/separator": ".",
    }  # fmt: skip
    found = settings_of(text, fields=fields)
    assert found.mail_path == "/var/mail/100%/%{user}"  # as it came
    assert found.mail_access_groups == ("b", "c")
    assert found.mail_fsync == "never"
    assert found.origin("mail_fsync") == "userdb field mail_fsync"
    (inbox,) = found.namespaces
    assert inbox.separator == "."
    assert inbox.location.path == Path("/var/mail/100%/%{user}")
    assert str(inbox.places["separator"]) == "userdb field namespace/inbox/separator"


def test_old_userdb_fields() -> None:
    text = "mail_location = maildir:~/Maildir:INDEX=/i\n"
    found = settings_of(text, fields={"mail": "maildir:~/v:INDEX=/j", "plugin/acl_groups": "x"})
    assert found.namespaces[0].location.path == Path("/home/bob/v")
    assert found.namespaces[0].location.index_path == Path("/j")
    assert found.acl_groups == ("x",)


def test_a_namespace_keeps_its_own_path_against_a_field() -> None:
    text = INBOX + (
        "namespace p {\ntype = public\nprefix = P/\nseparator = /\nsubscriptions = no\n"
        "mail_path = /p\n}\n"
    )
    found = settings_of(text, fields={"mail_path": "/mine"})
    assert found.namespace("inbox").location.path == Path("/mine")
    assert found.namespace("p").location.path == Path("/p")


@pytest.mark.parametrize(
    "fields",
    [{"mail_fsync": "sometimes"}, {"first_valid_uid": "x"}, {"namespace/inbox/inbox": "perhaps"}],
    ids=str,
)
def test_a_field_that_cannot_work_is_a_refusal_that_names_it(fields: dict[str, str]) -> None:
    with pytest.raises(SharingError, match="userdb field") as caught:
        settings_of(INBOX, fields=fields)
    assert caught.value.code is Code.INVALID


def test_overrides() -> None:
    overrides = ["mail_path=/o", "namespace/inbox/separator=.", "mail_plugins/acl=yes",
                 "service/imap-login/inet_listener/imap/port=7143"]  # fmt: skip
    found = load(text=INBOX, overrides=overrides).settings(variables=BOB)
    assert found.mail_path == "/o"
    assert found.origin("mail_path") == "override"
    assert found.namespace("inbox").separator == "."
    assert found.services["imap-login"].inet_listeners["imap"].port == 7143
    assert found.mail_plugins == ("acl",)
    for bad in ("mail_path", "=x", "no_such=1", "namespace/inbox=1"):
        with pytest.raises(ConfigError, match="override"):
            load(text=INBOX, overrides=[bad])


def test_unknown_setting_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        load(text="").settings().get("nonsense")
    with pytest.raises(KeyError):
        load(text="").settings().namespace("nonsense")
