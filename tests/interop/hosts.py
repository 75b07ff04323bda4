"""The hosts that transcripts and clients play on, each after one page of the seeds."""

from dataclasses import replace
from typing import Final

from tests.interop.host import (
    COMMON,
    INBOX,
    SHARED_GID,
    SHARED_NAMESPACE,
    UIDS,
    Host,
    Kind,
    make_dir,
    make_maildir,
    message,
    put_file,
)


def _public_tree(host: Host) -> None:
    """A public root in which members of the mail group may make mailboxes."""
    make_dir(host.top / "public", 0o2770, UIDS["carol"], SHARED_GID)


STANDARD: Final = Kind(
    COMMON
    + INBOX
    + SHARED_NAMESPACE
    + """
namespace public {{
  type = public
  separator = /
  prefix = Public/
  mail_path = {top}/public
  mail_index_private_path = ~/Maildir/public
  subscriptions = no
  list = children
}}
""",
    _public_tree,
)


def _read_only_trees(host: Host) -> None:
    """What nobody but the superuser may write; the control files are each user's own."""
    for tree, name in (("public", ".info"), ("team", ".plans")):
        root = make_dir(host.top / tree, 0o755, 0, 0)
        mailbox = make_maildir(root / name, 0o755, 0, 0, "anyone lrs\n")
        for number in (1, 2):
            put_file(
                mailbox / "cur" / f"179528080{number}.M{number}P1.host:2,",
                message(f"{tree} {number}"), 0o644, 0, 0,
            )  # fmt: skip


READ_ONLY: Final = Kind(
    COMMON
    + INBOX
    + """
namespace public {{
  type = public
  separator = /
  prefix = Public/
  mail_driver = maildir
  mail_path = {top}/public
  mail_control_path = ~/Maildir/public
  mail_index_path = ~/Maildir/public
  subscriptions = no
}}
namespace team {{
  type = public
  separator = /
  prefix = Team/
  mail_driver = maildir
  mail_path = {top}/team
  mail_control_path = ~/Maildir/team
  mail_index_path = ~/Maildir/team
  subscriptions = no
}}
""",
    _read_only_trees,
)


def _acl_tree(host: Host) -> None:
    """The seed's public.NAME mailboxes, with rights for one of the users."""
    root = make_dir(host.top / "public", 0o2770, UIDS["carol"], SHARED_GID)
    for name, acl in ((".info", "user=alice lr\n"), (".open", "user=alice lrwsi\nuser=bob lr\n")):
        make_maildir(root / name, 0o2770, UIDS["carol"], SHARED_GID, acl)


PUBLIC_ACLS: Final = Kind(
    COMMON
    + """
namespace inbox {{
  type = private
  separator = .
  prefix =
  inbox = yes
}}
namespace {{
  type = public
  separator = .
  prefix = public.
  mail_driver = maildir
  mail_path = {top}/public
  subscriptions = no
  list = children
}}
""",
    _acl_tree,
)

# No namespace with an empty prefix but the one made for the subscriptions.
SUBSCRIPTIONS: Final = Kind(
    COMMON
    + """
namespace inbox {{
  type = private
  separator = /
  prefix = Mail/
  inbox = yes
}}
namespace subscriptions {{
  prefix =
  separator = /
  subscriptions = yes
  hidden = yes
  list = no
  alias_for = inbox # the INBOX namespace's name
  mailbox_subscriptions_filename = subscriptions-shared
}}
"""
    + SHARED_NAMESPACE,
    lambda host: None,
)


def _vmail(host: Host) -> None:
    """A common directory for all domains, as the seed wants it: setgid and for the group."""
    make_dir(host.top / "vmail", 0o2770, 0, SHARED_GID)


# /domain/user directories, owners named by their parts, a sharing map for each domain.
DOMAINS: Final = Kind(
    COMMON.replace("mail_path = ~/Maildir", "mail_path = {top}/vmail/%{{user | domain}}/"
                   "%{{user | username}}/Maildir")
    .replace("path = {top}/db/", "path = {top}/db/%{{user | domain}}-")
    + """
namespace inbox {{
  type = private
  separator = /
  prefix =
  inbox = yes
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/$domain/$username/
  mail_path = {top}/vmail/%{{owner_domain}}/%{{owner_username}}/Maildir
  mail_index_private_path = ~/seen/%{{owner_user}}
  subscriptions = no
  list = children
}}
""",
    _vmail,
)  # fmt: skip

# Directories in directories: a link brings a mailbox and its children.
FS_LAYOUT: Final = Kind(
    COMMON
    + """
mailbox_list_layout = fs
namespace inbox {{
  type = private
  separator = /
  prefix =
  inbox = yes
}}
""",
    lambda host: None,
)

# Sharing between users, in the language of Dovecot 2.3.
OLD_FORM: Final = Kind(
    """
base_dir = {base}/run
log_path = {base}/server.log
listen = 127.0.0.1
first_valid_uid = 1
first_valid_gid = 1
mail_fsync = never
auth_failure_delay = 0
ssl_cert = <{cert}
ssl_key = <{key}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
passdb {{
  driver = passwd-file
  args = {base}/users
}}
userdb {{
  driver = passwd-file
  args = {base}/users
}}
mail_location = maildir:~/Maildir
mail_access_groups = {group}
mail_plugins = acl
protocol imap {{
  mail_plugins = $mail_plugins imap_acl
}}
namespace inbox {{
  type = private
  separator = /
  prefix =
  inbox = yes
}}
namespace {{
  type = shared
  separator = /
  prefix = shared/%%u/
  location = maildir:%%h/Maildir:INDEXPVT=~/Maildir/shared/%%u
  subscriptions = no
  list = children
}}
plugin {{
  acl = vfile
  acl_shared_dict = file:{top}/db/shared-mailboxes.db
}}
""",
    lambda host: None,
    whole=True,
)


def without_index(kind: Kind) -> Kind:
    """The same host, whose server reads every message anew."""
    return replace(kind, config=kind.config + "\nsharefs_index = no\n")


KINDS: Final = {
    "standard": STANDARD,
    "read-only": READ_ONLY,
    "public-acls": PUBLIC_ACLS,
    "subscriptions": SUBSCRIPTIONS,
    "domains": DOMAINS,
    "fs-layout": FS_LAYOUT,
    "old-form": OLD_FORM,
}
