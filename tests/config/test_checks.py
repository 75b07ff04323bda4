"""What the documents warn of is found, with its line and a remedy; and nothing else is."""

from pathlib import Path

import pytest

from sharefs.config import Severity, examine
from sharefs.config.checks import CHECKS
from tests.support.become import Identity

INBOX = "namespace inbox {\nseparator = /\ninbox = yes\n}\n"  # lines 1-4
MAP = "acl_sharing_map {\ndict file {\npath = /m.db\n}\n}\n"


def public(*lines: str, prefix: str = "Public/") -> str:
    """A block that is fine but for the lines given; five lines, then those."""
    head = f"namespace {{\ntype = public\nseparator = /\nprefix = {prefix}\nsubscriptions = no\n"
    path = "" if any(line.startswith("mail_path") for line in lines) else "mail_path = /p\n"
    return head + "".join(line + "\n" for line in lines) + path + "}\n"


def shared(*lines: str) -> str:
    """The same for a shared namespace: four lines, then those given."""
    text = "namespace shared {\ntype = shared\nseparator = /\nsubscriptions = no\n"
    defaults = {"prefix": "shared/$user/", "mail_path": "%{owner_home}/Maildir"}
    for name, value in defaults.items():
        if not any(line.split()[0] == name for line in lines):
            lines = (*lines, f"{name} = {value}")
    return text + "".join(line + "\n" for line in lines) + "}\n"


ERROR, WARNING = Severity.ERROR, Severity.WARNING

# text, check id, severity, line, words of the remedy
FOUND = {
    "same control path": (
        INBOX + public("mail_control_path = /c") + public("mail_control_path = /c/", prefix="T/"),
        "same-control-path", ERROR, 18, "mail_control_path = /c",
    ),
    "same index path": (
        INBOX + public("mail_index_path = %{home}/i")
        + public("mail_index_path = ~/i", prefix="T/"),
        "same-index-path", ERROR, 18, "mail_index_path = ",
    ),
    "same index path inherited": (
        "mail_index_path = /i\n" + INBOX + public(),
        "same-index-path", ERROR, 1, "mail_index_path = ",
    ),
    "same private index path": (
        INBOX + public("mail_index_private_path = ~/i")
        + public("mail_index_private_path = ~/i", prefix="T/"),
        "same-private-index-path", ERROR, 18, "mail_index_private_path = ",
    ),
    "per-user control": (
        INBOX + public("mail_control_path = ~/c"),
        "per-user-control-with-shared-index", ERROR, 10, "mail_index_path = ~/c",
    ),
    "per-user control, named shared index": (
        INBOX + public("mail_control_path = ~/c", "mail_index_path = /i"),
        "per-user-control-with-shared-index", ERROR, 10, "mail_index_path = ~/c",
    ),
    "per-user control and keywords": (
        INBOX + public("mail_control_path = ~/c", "mail_index_path = ~/c"),
        "per-user-control-breaks-keywords", WARNING, 10, "without keywords",
    ),
    "dbox": (
        INBOX + MAP + shared("mail_driver = sdbox", "mail_index_path = ~/i/%{owner_user}"),
        "dbox-per-user-index", ERROR, 15, "mail_index_private_path",
    ),
    "a second database of one name": (
        INBOX + "passdb passwd-file {\nmaster = yes\npasswd_file_path = /masters\n}\n"
        "passdb passwd-file {\npasswd_file_path = /users\n}\n",
        "merged-block", WARNING, 10, "passdb NAME { driver = passwd-file",
    ),
    "one private index for all owners": (
        INBOX + MAP + shared("mail_index_private_path = ~/seen/"),
        "shared-files-without-owner", ERROR, 14,
        "mail_index_private_path = ~/seen/%{owner_user}",
    ),
    "old variable": (
        INBOX + MAP + shared("prefix = shared/%%u/"),
        "old-variable-in-prefix", ERROR, 14, "prefix = shared/$user/",
    ),
    "old variables": (
        INBOX + MAP + shared("prefix = shared/%%d/%%n/"),
        "old-variable-in-prefix", ERROR, 14, "prefix = shared/$domain/$username/",
    ),
    "new variable in an old file": (
        "mail_location = maildir:~/M\n" + INBOX
        + "namespace s {\ntype = shared\nseparator = /\nsubscriptions = no\nprefix = s/$user/\n"
        "location = maildir:%%h/M\n}\nplugin {\nacl_shared_dict = file:/m.db\n}\n",
        "old-variable-in-prefix", ERROR, 10, "prefix = s/%%u/",
    ),
    "no user in the prefix": (
        INBOX + MAP + shared("prefix = shared/$domain/"),
        "shared-prefix-without-user", ERROR, 14, "shared/$user/",
    ),
    "letter after variable": (
        INBOX + MAP + shared("prefix = shared/$username/$domainx/"),
        "prefix-variable-boundary", ERROR, 14, "$domain/x",
    ),
    "unknown variable": (
        INBOX + MAP + shared("prefix = shared/$user/$group/"),
        "prefix-variable-boundary", ERROR, 14, "$username",
    ),
    "path of the viewer": (
        INBOX + MAP + shared("mail_path = /var/mail/%{user}"),
        "shared-path-without-owner", ERROR, 14, "%{owner_home}",
    ),
    "path of the viewer, inherited": (
        "mail_path = ~/Maildir\n" + INBOX + MAP + "namespace shared {\ntype = shared\n"
        "separator = /\nsubscriptions = no\nprefix = shared/$user/\n}\n",
        "shared-path-without-owner", ERROR, 1, "%{owner_home}",
    ),
    "owner in a public namespace": (
        INBOX + public("mail_path = /p/%{owner_user}"),
        "owner-outside-shared", ERROR, 10, "type = shared",
    ),
    "public in the home": (
        INBOX + public("mail_path = ~/public"),
        "public-path-per-user", WARNING, 10, "/var/mail/public",
    ),
    "no inbox": (
        "namespace a {\nseparator = /\n}\n", "no-inbox-namespace", WARNING, 1, "inbox = yes",
    ),
    "two inboxes": (
        INBOX + "namespace b {\nseparator = /\nprefix = b/\ninbox = yes\n}\n",
        "two-inbox-namespaces", ERROR, 8, "one of them",
    ),
    "unix group": (
        "log_path = /l\nmail_access_groups = nosuchgroup\n",
        "unknown-group", ERROR, 2, "groupadd nosuchgroup",
    ),
    "group among others": (
        "mail_access_groups = 0 root nosuchgroup,root\n", "unknown-group", ERROR, 1, "groupadd",
    ),
    "privileged group": (
        "mail_privileged_group = nosuchgroup\n", "unknown-group", ERROR, 1, "groupadd",
    ),
    "subscriptions of all": (
        INBOX + public().replace("subscriptions = no", "subscriptions = yes"),
        "shared-subscriptions", WARNING, 9, "subscriptions = no",
    ),
    "subscriptions by default": (
        INBOX + public().replace("subscriptions = no\n", ""),
        "shared-subscriptions", WARNING, 5, "subscriptions = no",
    ),
    "no subscriptions file": (
        INBOX.replace("inbox = yes", "inbox = yes\nprefix = INBOX/") + public(),
        "no-subscriptions-file", WARNING, 10, "namespace subscriptions",
    ),
    "same prefix": (
        INBOX + public() + public("mail_path = /q"), "duplicate-prefix", ERROR, 15, "own prefix",
    ),
    "prefix without separator": (
        INBOX + public(prefix="Public"), "prefix-without-separator", ERROR, 8, "prefix = Public/",
    ),
    "separators": (
        INBOX + public(prefix="Public.").replace("separator = /", "separator = ."),
        "different-separators", ERROR, 7, "separator = /",
    ),
    "separator by default": (
        "namespace inbox {\ninbox = yes\n}\n" + public(), "different-separators", ERROR, 6, "= .",
    ),
    "long separator": (
        "namespace inbox {\ninbox = yes\nseparator = //\n}\n", "bad-separator", ERROR, 3, "= /",
    ),
    "alias of nothing": (
        INBOX.replace("inbox = yes", "inbox = yes\nprefix = I/")
        + "namespace s {\nseparator = /\nalias_for = inbux\n}\n",
        "unknown-alias", WARNING, 8, "one of inbox",
    ),
    "no map": (INBOX + shared(), "no-sharing-map", WARNING, 5, "acl_sharing_map"),
    "storage": (INBOX + "mail_driver = mdbox\n", "unimplemented", Severity.UNIMPLEMENTED, 5,
                "maildir"),
    "memory": (INBOX + public("mail_index_path = MEMORY"), "unimplemented", Severity.UNIMPLEMENTED,
               10, "path"),
    "unknown storage": (INBOX + "mail_driver = maildri\n", "unknown-driver", ERROR, 5, "maildir"),
    "unknown layout": (INBOX + "mailbox_list_layout = fz\n", "unknown-driver", ERROR, 5, "fs"),
    "relative path": ("mail_path = Maildir\n", "relative-path", ERROR, 1, "~/Maildir"),
    "relative mount point": ("sharefs_mount_point = mail\n", "relative-path", ERROR, 1, "= /mail"),
    "map without path": (
        "acl_sharing_map {\ndict file {\n}\n}\n", "map-without-path", ERROR, 2, "path = /",
    ),
    "relative map": (
        "acl_sharing_map {\ndict file {\npath = x.db\n}\n}\n",
        "relative-path", ERROR, 2, "absolute",
    ),
    "passdb driver": ("passdb passwd-fiel {\n}\n", "unknown-driver", ERROR, 1, "passwd-file"),
    "passdb without driver": ("passdb {\nmaster = yes\n}\n", "unknown-driver", ERROR, 1, "driver"),
    "passdb sql": ("passdb sql {\n}\n", "unimplemented", Severity.UNIMPLEMENTED, 1, "passwd-file"),
    "passwd-file": ("userdb passwd-file {\n}\n", "passwd-file-without-path", ERROR, 1, "= /"),
    "port": (
        "service imap-login {\ninet_listener imap {\nport = 70000\n}\n}\n",
        "bad-port", ERROR, 2, "65535",
    ),
    "service": (
        "service lmtp {\nclient_limit = 3\n}\n", "unimplemented", Severity.UNIMPLEMENTED, 1, "",
    ),
    "misspelt service": (
        "service imap-logn {\nclient_limit = 3\n}\n", "unknown-service", WARNING, 1, "imap-login",
    ),
    "misspelt protocol": (
        "protocol impa {\nlog_path = /x\n}\n", "unknown-protocol", WARNING, 1, "imap",
    ),
    "filter by name": ("local mail.x {\n}\n", "bad-address", ERROR, 1, "192.0.2.0/24"),
    "local_name": (
        "local_name x {\nlog_path = /x\n}\n", "unimplemented", Severity.UNIMPLEMENTED, 1, "",
    ),
    "unnamed group": ("group @a {\nlog_path = /x\n}\n", "block-name", ERROR, 1, "@LABEL NAME"),
    "group that is not there": (
        "group @a one {\nlog_path = /x\n}\n@a = onne\n",
        "unknown-group-of-settings", ERROR, 4, "one",
    ),
    "group in itself": ("group @a b {\n@a = b\n}\n@a = b\n", "include-loop", ERROR, 2, "remove"),
    "mailbox outside": ("mailbox Trash {\nauto = create\n}\n", "misplaced", ERROR, 1, "move"),
    "certificate": (
        "log_path = /l\nssl_server_cert_file = /nonexistent/c.pem\n",
        "tls-file", WARNING, 2, "put the certificate there",
    ),
    "key, the old way": ("ssl_key = </nonexistent/k.pem\n", "tls-file", WARNING, 1, "ssl = no"),
    "key is a directory": ("ssl_server_key_file = /\n", "tls-file", WARNING, 1, "put the key"),
    "rights": ("acl user=bob {\nrights = lrz\n}\n", "bad-rights", ERROR, 2, "lrs"),
    "identifier": ("acl usre=bob {\nrights = lr\n}\n", "bad-identifier", ERROR, 2, "user="),
}  # fmt: skip


@pytest.mark.parametrize(("text", "check", "severity", "line", "remedy"), FOUND.values(), ids=FOUND)
def test_found(text: str, check: str, severity: Severity, line: int, remedy: str) -> None:
    found = [each for each in examine(text=text).problems if each.check == check]
    assert [(each.severity, each.place.line) for each in found] == [(severity, line)]
    assert remedy in found[0].remedy
    assert found[0].message


def test_every_check_of_the_list_is_shown_to_find_something() -> None:
    shown = {check for _, check, *_ in FOUND.values()}
    assert {check.__name__.replace("_", "-") for check in CHECKS} <= shown


CLEAN = {
    "private": INBOX,
    "public": INBOX + public(),
    "shared": INBOX + MAP + shared("mail_index_private_path = ~/s/%{owner_user}"),
    "own dbox index": "mail_driver = maildir\nmail_index_path = ~/i\n" + INBOX,
    "shared control, per-user index": INBOX
    + public("mail_control_path = /c", "mail_index_path = ~/i"),
    "alias shares paths": "mail_control_path = ~/c\n"
    + INBOX.replace("inbox = yes", "inbox = yes\nprefix = INBOX/")
    + "namespace old {\nseparator = /\nalias_for = inbox\nhidden = yes\nlist = no\n}\n",
    "groups by number": "mail_access_groups = 12345 root\n",
    "unlisted prefix without separator": INBOX + public("list = no", prefix="Public"),
    "unlisted other separator": INBOX
    + public("list = no", prefix="P.").replace("separator = /", "separator = ."),
    "empty blocks of a package": "dict {\n}\nservice pop3-login {\n}\nprotocol !lda {\n}\n",
    "no TLS, no files": INBOX + "ssl = no\nssl_server_cert_file = /nonexistent\n",
    "TLS files": INBOX + f"ssl_server_cert_file = {__file__}\nssl_server_key_file = {__file__}\n",
    "disabled": INBOX + shared("disabled = yes", "mail_path = ~/x"),
}


@pytest.mark.parametrize("text", CLEAN.values(), ids=CLEAN)
def test_clean(text: str) -> None:
    assert examine(text=text).problems == ()


def test_everything_is_reported_at_once_in_file_order() -> None:
    text = "mail_fsync = sometimes\nfoo_bar = 1\nmail_access_groups = nosuchgroup\nimapc_host = x\n"
    found = examine(text=text).problems
    assert [(each.place.line, each.check) for each in found] == [
        (1, "bad-value"), (2, "unknown-setting"), (3, "unknown-group"), (4, "unimplemented"),
    ]  # fmt: skip


def test_settings_of_a_driver_we_do_not_have_are_not_called_unknown() -> None:
    found = examine(text="passdb sql {\nquery = select 1\nsql_driver = x\n}\n").problems
    assert {each.severity for each in found} == {Severity.UNIMPLEMENTED}
    assert [each.place.line for each in found] == [1, 2, 3]


@pytest.mark.superuser
def test_a_key_that_only_the_superuser_may_read(tmp_path: Path) -> None:
    """Users' own commands read the configuration too, and the key is none of their business."""
    key = tmp_path / "key.pem"
    key.write_text("x")
    key.chmod(0o600)
    link = tmp_path / "link.pem"
    link.symlink_to("gone.pem")
    text = f"ssl_server_key_file = {key}\n"
    assert examine(text=text).problems == ()
    assert Identity(61001, 61001, ()).run(lambda: len(examine(text=text).problems)) == 0
    (found,) = examine(text=f"ssl_server_cert_file = {link}\n").problems
    assert f"{link} is a link to gone.pem, which does not exist" in found.message
