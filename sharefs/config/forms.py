"""Which form, 2.3 or 2.4, each file of a configuration is written in.  Pure.

`dovecot_config_version` decides for a file and what it includes.  Without it the names that only
one form has are counted; a file without any of those is read like the file before it.
"""

import re
from collections.abc import Iterator
from typing import Final

from sharefs.config.reader import Assign, Block
from sharefs.config.variables import Form

# Names that only one form has, and that tell it apart.
_OLD: Final = """
acl_anyone acl_ignore_namespace acl_shared_dict args auth_default_realm disable_plaintext_auth
location mail_debug mail_location mail_nfs_index mail_nfs_storage plugin ssl_ca ssl_cert
ssl_client_ca_dir ssl_dh ssl_key verbose_ssl
"""
_NEW: Final = """
acl acl_driver acl_sharing_map auth_allow_cleartext auth_default_domain dict_server
imap_acl_allow_anyone mail_control_path mail_driver mail_inbox_path mail_index_path
mail_index_private_path mail_path mailbox_list_layout mailbox_subscriptions_filename
namespace_list namespace_prefix passwd_file_path sql_driver ssl_server_cert_file
ssl_server_key_file
"""
_OLD_NAMES: Final = frozenset(_OLD.split())
_NEW_NAMES: Final = frozenset(_NEW.split())
_OLD_TEXT: Final = re.compile(
    r"%%[undh{]|(?<!%)%[A-Z]{0,2}[undh](?![a-zA-Z{])|(?:^|\s)\$mail_plugins\b"
)
_NEW_TEXT: Final = re.compile(r"%\{\s*(?:owner_\w+|\w+\s*\|)|\$SET:|\$user(?:name)?\b|\$domain\b")


def forms_of(tree: Block, files: list[str]) -> dict[str, Form]:
    """File name -> form, for every file of the tree."""
    forms: dict[str, Form] = {}
    votes: dict[str, int] = {}
    weak: dict[str, int] = {}
    inherited: Form | None = None
    for name, value, file in _names(tree):
        if name == "dovecot_config_version" and file not in forms:
            forms[file] = Form.V23 if value.startswith("2.3") else Form.V24
            inherited = inherited or forms[file]
        votes[file] = votes.get(file, 0) + (name in _NEW_NAMES) - (name in _OLD_NAMES)
        new, old = _NEW_TEXT.search(value), _OLD_TEXT.search(value)
        weak[file] = weak.get(file, 0) + (new is not None) - (old is not None)
    for file in files:
        if file in forms:
            continue
        vote = votes.get(file, 0) or weak.get(file, 0)
        if inherited is not None:
            forms[file] = inherited
        else:
            forms[file] = Form.V23 if vote < 0 else Form.V24
    return forms


def _names(block: Block) -> Iterator[tuple[str, str, str]]:
    for item in block.items:
        if isinstance(item, Assign):
            yield item.name, item.value, item.place.file
        else:
            yield item.kind, " ".join(item.names), item.place.file
            if item.kind != "plugin" or item.items:
                yield from _names(item)
