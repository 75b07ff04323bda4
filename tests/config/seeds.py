"""Every configuration snippet of the two documents this project serves, as printed there.

Snippets that show only a part of a configuration are marked by their name in PARTS: Dovecot asks
for a private namespace besides.  Line breaks and indentation are the documents' own.
"""

from typing import Final

PUBLIC: Final = """\
# User's private mail location
mail_driver = maildir
mail_path = ~/Maildir
# When creating any namespaces, you must also have a private namespace:
namespace {
type = private
separator = /
prefix =
# use global mail_path
inbox = yes
}
namespace {
type = public
separator = /
prefix = Public/
mail_path = /var/mail/public
subscriptions = no
}
"""

PRIVATE_SEEN: Final = """\
namespace {
type = public
separator = /
prefix = Public/
mail_driver = maildir
mail_path = /var/mail/public
mail_index_private_path = ~/Maildir/public
subscriptions = no
}
"""

SUBSCRIPTIONS: Final = """\
namespace subscriptions {
prefix =
separator = /
subscriptions = yes
hidden = yes
list = no
alias_for = inbox # the INBOX namespace's name
mailbox_subscriptions_filename = subscriptions-shared
}
"""

READ_ONLY_MBOX: Final = """\
namespace {
type = public
prefix = Public/
mail_driver = mbox
mail_path = /var/mail/public/
mail_index_path = /var/indexes/public
subscriptions = no
}
"""

READ_ONLY_MAILDIR: Final = """\
namespace {
type = public
separator = /
prefix = Public/
mail_driver = maildir
mail_path = /var/mail/public
mail_control_path = ~/Maildir/public
mail_index_path = ~/Maildir/public
subscriptions = no
}
namespace {
type = public
separator = /
prefix = Team/
mail_driver = maildir
mail_path = /var/mail/team
mail_control_path = ~/Maildir/team
mail_index_path = ~/Maildir/team
subscriptions = no
}
"""

PUBLIC_WITH_ACL: Final = """\
namespace {
type = public
separator = .
prefix = public.
mail_driver = maildir
mail_path = /var/mail/public
subscriptions = no
list = children
}
acl_driver = vfile
"""

USER_SHARED: Final = """\
# User's private mail location.
mail_driver = maildir
mail_path = ~/Maildir
# When creating any namespaces, you must also have a private namespace:
namespace {
type = private
separator = /
prefix =
# use global mail_path
inbox = yes
}
namespace {
type = shared
separator = /
prefix = shared/$user/
mail_path = %{owner_home}/Maildir
mail_index_private_path = ~/Maildir/shared/%{owner_user}
# If users have direct filesystem level access to their mails, it's safer
# to not share the index files between users:
#mail_index_path = ~/Maildir/shared/%{owner_user}
subscriptions = no
list = children
}
mail_plugins {
acl = yes
}
protocol imap {
mail_plugins {
imap_acl = yes
}
}
acl_driver = vfile
"""

# In a shared namespace; the document prints only these lines.
OWNER_TEMPLATE: Final = """\
mail_driver = maildir
mail_path = /var/mail/%{owner_domain}/%{owner_username}/Maildir
mail_index_private_path = ~/Maildir/shared/%{owner_user}
"""

FILE_MAP: Final = """\
acl_sharing_map {
dict file {
path = /var/lib/dovecot/db/shared-mailboxes.db
}
}
"""

DOMAIN_MAP: Final = """\
acl_sharing_map {
dict file {
path = /var/mail/%{user | domain}/shared-mailboxes.db
}
}
"""

SQL_MAP: Final = """\
acl_sharing_map {
dict proxy {
name = acl
}
}
dict_server {
dict acl {
driver = sql
sql_driver = pgsql
pgsql localhost {
parameters {
dbname = mails
user = sqluser
password = sqlpass
}
}
dict_map shared/shared-boxes/user/$to/$from {
sql_table = user_shares
value_field dummy {
}
key_field from_user {
value = $from
}
key_field to_user {
value = $to
}
}
dict_map shared/shared-boxes/anyone/$from {
sql_table = anyone_shares
value_field dummy {
}
key_field from_user {
value = $from
}
}
}
}
"""

DOMAIN_DIRECTORIES: Final = """\
mail_driver = maildir
mail_path = /var/vmail/%{user | domain}/%{user | username}/Maildir
mail_access_groups = dovemail
"""

SHARED_MAIL_GROUP: Final = "mail_access_groups = sharedmail\n"
SHARED_USERS_GROUP: Final = "mail_access_groups=sharedusers\n"
DEBUG: Final = "log_debug = category=mail\n"

CLUSTER_NAMESPACE: Final = """\
namespace shared {
type = shared
prefix = shared/%%u/
list = children
subscriptions = no
# Use INDEXPVT to enable per-user \\Seen flags.
# If running earlier versions than 2.3.15, or earlier than 2.3.17 with obox
# storage INDEXPVT is not supported.
location = imapc:~/shared/%%u:INDEXPVT=~/shared-pvt/%%u
}
"""

CLUSTER_IMAPC: Final = """\
imapc_host = director-ip
#imapc_user = # leave this empty. It'll be automatically filled with the destination username.
imapc_password = master-secret
imapc_features = fetch-bodystructure fetch-headers rfc822.size search modseq acl delay-login
"""

CLUSTER_ACL: Final = """\
mail_plugins = $mail_plugins acl
plugin {
acl = vfile
# Added in 2.3.15
acl_ignore_namespace = shared/*
acl_shared_dict = $your_prefered_shared_dict
}
# In order to be able to issue ACL commands over imap, imap_acl must be loaded
protocol imap {
mail_plugins = $mail_plugins imap_acl
}
"""

CLUSTER_QUOTA: Final = """\
plugin {
quota=count:ns=<inbox namespace prefix>
}
"""

# The documents name these as values of namespace_prefix and namespace_list.
SPELLED_OUT: Final = """\
namespace {
type = private
separator = /
inbox = yes
}
namespace shared {
type = shared
separator = /
namespace_prefix = shared/$domain/$username/
namespace_list = yes
mail_path = %{owner_home}/Maildir
subscriptions = no
}
"""

PRIVATE: Final = """\
mail_path = ~/Maildir
namespace inbox {
separator = /
inbox = yes
}
"""

SNIPPETS: Final = {
    name: value
    for name, value in globals().items()
    if name.isupper() and isinstance(value, str) and name != "OWNER_TEMPLATE"
}
