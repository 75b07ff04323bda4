"""Which block may stand where, and which settings it has.  Tables only.  Pure.

Names are the short ones; each may also be written with its block's name before it
(`namespace_prefix`), and the settings of a driver with the driver's (`passwd_file_path`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sharefs.config.kinds import (
    BOOL,
    LITERAL,
    OCTAL,
    OCTETS,
    SECONDS,
    STRING,
    UINT,
    WORDS,
    Kind,
    choice,
)
from sharefs.config.scope import FILTERS
from sharefs.config.settings import SCHEMA

PAIRS: Final = Kind("pairs", lambda text: text, is_list=True)  # blocks of key = value
RESULT: Final = choice(
    "return-ok", "return", "return-fail", "continue", "continue-ok", "continue-fail"
)
SKIP: Final = choice("never", "authenticated", "unauthenticated", "found", "notfound")


@dataclass(frozen=True, slots=True)
class BlockType:
    """settings: name -> type.  children: kinds of blocks inside.  globals_too: filters, which may
    hold any global setting.  named: "must", "may" or "no".
    """

    settings: Mapping[str, Kind[Any]]
    children: tuple[str, ...] = ()
    globals_too: bool = False
    named: str = "must"


_DATABASE: Final[dict[str, Kind[Any]]] = {
    "driver": LITERAL,
    "args": LITERAL,
    "fields": PAIRS,
    "default_fields": PAIRS,
    "override_fields": PAIRS,
    "skip": SKIP,
    "result_success": RESULT,
    "result_failure": RESULT,
    "result_internalfail": RESULT,
    "auth_username_format": LITERAL,
    "username_format": LITERAL,
    "passwd_file_path": LITERAL,
    "use_worker": BOOL,
    "auth_verbose": LITERAL,
    "fields_import_all": BOOL,
}

TOP: Final = ("namespace", "acl", "passdb", "userdb", "service", "plugin",
              "acl_sharing_map", *FILTERS)  # fmt: skip

BLOCKS: Final[Mapping[str, BlockType]] = {
    "": BlockType({}, TOP, globals_too=True, named="no"),
    **{kind: BlockType({}, TOP, globals_too=True) for kind in FILTERS},
    "namespace": BlockType(
        {
            "type": choice("private", "shared", "public"),
            "prefix": LITERAL,
            "separator": LITERAL,
            "inbox": BOOL,
            "list": choice("yes", "no", "children"),
            "hidden": BOOL,
            "subscriptions": BOOL,
            "ignore_on_failure": BOOL,
            "disabled": BOOL,
            "alias_for": LITERAL,
            "order": UINT,
            "location": LITERAL,
        },
        ("mailbox", "acl"),
        globals_too=True,
        named="may",
    ),
    "mailbox": BlockType(
        {
            "auto": choice("no", "create", "subscribe"),
            "special_use": LITERAL,
            "autoexpunge": SECONDS,
            "autoexpunge_max_mails": UINT,
            "comment": LITERAL,
            "driver": LITERAL,
        },
        ("acl",),
        globals_too=True,
    ),
    "acl": BlockType({"rights": LITERAL, "id": LITERAL}),
    "acl_sharing_map": BlockType({}, ("dict",), named="no"),
    "dict": BlockType({"driver": LITERAL, "path": STRING, "name": STRING, "fs": LITERAL}),
    "passdb": BlockType(
        {
            **_DATABASE,
            "master": BOOL,
            "deny": BOOL,
            "pass": BOOL,
            "default_password_scheme": LITERAL,
            "mechanisms_filter": WORDS,
            "mechanisms": WORDS,
            "username_filter": LITERAL,
            "static_password": LITERAL,
            "pam_service_name": LITERAL,
            "pam_session": BOOL,
            "pam_setcred": BOOL,
            "pam_max_requests": UINT,
            "pam_failure_show_msg": BOOL,
        },
        named="may",
    ),
    "userdb": BlockType({**_DATABASE, "static_allow_all_users": BOOL}, named="may"),
    "service": BlockType(
        {
            "client_limit": UINT,
            "process_limit": UINT,
            "process_min_avail": UINT,
            "service_count": UINT,
            "restart_request_count": UINT,
            "user": LITERAL,
            "group": LITERAL,
            "chroot": LITERAL,
            "extra_groups": WORDS,
            "vsz_limit": OCTETS,
            "idle_kill": SECONDS,
            "idle_kill_interval": SECONDS,
            "executable": LITERAL,
            "drop_priv_before_exec": BOOL,
            "privileged_group": LITERAL,
            "protocol": LITERAL,
            "type": LITERAL,
        },
        ("inet_listener", "unix_listener", "fifo_listener"),
    ),
    "inet_listener": BlockType(
        {
            "port": UINT,
            "address": WORDS,
            "listen": WORDS,
            "ssl": BOOL,
            "haproxy": BOOL,
            "reuse_port": BOOL,
            "type": LITERAL,
        },
        named="may",
    ),
    "unix_listener": BlockType({"path": LITERAL, "mode": OCTAL, "user": LITERAL, "group": LITERAL,
                                "type": LITERAL}),
    "fifo_listener": BlockType({"path": LITERAL, "mode": OCTAL, "user": LITERAL, "group": LITERAL}),
    "plugin": BlockType({}, named="no"),
}  # fmt: skip

# Settings of blocks that are read but have no effect here.
WITHOUT_EFFECT: Final = frozenset(
    {
        *(("mailbox", name) for name in
          ("autoexpunge", "autoexpunge_max_mails", "comment", "driver")),
        *((kind, "fields_import_all") for kind in ("passdb", "userdb")),
        *(("inet_listener", name) for name in ("haproxy", "reuse_port", "type")),
        *(("service", name) for name in
          ("executable", "privileged_group", "drop_priv_before_exec", "protocol", "type")),
    }
)  # fmt: skip

# Other spellings inside a block, 2.3's above all.
SYNONYMS: Final[Mapping[tuple[str, str], str]] = {
    ("passdb", "mechanisms"): "mechanisms_filter",
    ("passdb", "username_format"): "auth_username_format",
    ("userdb", "username_format"): "auth_username_format",
    ("inet_listener", "listen"): "address",
    ("inet_listener", "address"): "address",
    ("service", "restart_request_count"): "service_count",
    ("service", "idle_kill_interval"): "idle_kill",
}


def setting_of(kind: str, block_name: str, written: str) -> tuple[str, Kind[Any]] | None:
    """Canonical name and type of a setting in a block of that kind.  None: it has none such.

    In `passdb static { }`: static_password, passdb_static_password and password are the same.
    """
    block = BLOCKS[kind]
    driver = block_name.replace("-", "_") + "_"
    prefixes = ["", f"{kind}_"]
    if kind == "dict":  # dict_file_path; elsewhere sql_driver is not the driver of `passdb sql`
        prefixes += [driver, f"dict_{driver}"]
    for prefix in prefixes:
        if not written.startswith(prefix):
            continue
        short = written.removeprefix(prefix)
        for name in (short, driver + short):
            if name in block.settings:
                canonical = SYNONYMS.get((kind, name), name)
                return canonical, block.settings[canonical]
    if block.globals_too and written in SCHEMA:
        return written, SCHEMA[written]
    return None
