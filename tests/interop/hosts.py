"""The hosts that transcripts and clients play on, each after one page of the seeds."""

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

KINDS: Final = {
    "standard": STANDARD,
    "read-only": READ_ONLY,
    "public-acls": PUBLIC_ACLS,
    "subscriptions": SUBSCRIPTIONS,
}
