"""The 2.3 form: what its settings are called and how they are spelled today.  Pure.

Each function takes one old value apart and gives (canonical setting, text) pairs.  BadValue says
what to write instead.
"""

import re
from typing import Final

from sharefs.config.kinds import BadValue

# location keys -> settings (2.3 "Mail Location Settings").
_LOCATION: Final = {
    "INBOX": "mail_inbox_path",
    "CONTROL": "mail_control_path",
    "INDEX": "mail_index_path",
    "INDEXPVT": "mail_index_private_path",
    "INDEXCACHE": "mail_cache_path",
    "VOLATILEDIR": "mail_volatile_path",
    "ALT": "mail_alt_path",
    "LAYOUT": "mailbox_list_layout",
    "DIRNAME": "mailbox_directory_name",
    "MAILBOXDIR": "mailbox_root_directory_name",
    "SUBSCRIPTIONS": "mailbox_subscriptions_filename",
}
_LOCATION_FLAGS: Final = {"UTF-8": ("mailbox_list_utf8", "yes")}
_LOCATION_WITHOUT_EFFECT: Final = frozenset(
    {"LISTINDEX", "ITERINDEX", "NO-NOSELECT", "KEEP-NOSELECT", "BROKENCHAR", "FULLDIRNAME",
    "ALTNOCHECK", "NO-ALT-CHECK", "FILE", "VNAME-UNESCAPED"} )  # fmt: skip

# Everything that one location sets; what it does not name is as if it had never been set.
LOCATION_GROUP: Final = (
    "mail_driver", "mail_path", *_LOCATION.values(), "mailbox_list_utf8",
)  # fmt: skip
_FIELD: Final = re.compile(r"(?:%%?\{[^{}]*\}|::|[^:])*")


def split_location(text: str) -> tuple[dict[str, str], list[str]]:
    """`driver:path:KEY=value` -> settings, and the keys that have no effect here.

    `::` is a colon in a value.  Without a driver the path stands alone.
    """
    pieces = _split_colons(text)
    settings: dict[str, str] = {}
    driver, rest = pieces[0], pieces[1:]
    if re.fullmatch(r"[a-z][a-z0-9]*", driver) and (rest or driver == "auto"):
        settings["mail_driver"] = "" if driver == "auto" else driver
        settings["mail_path"] = rest.pop(0) if rest else ""
    else:
        settings["mail_path"] = driver
    ignored: list[str] = []
    for piece in rest:
        key, equals, value = piece.partition("=")
        if key in _LOCATION and equals:
            settings[_LOCATION[key]] = value
        elif key in _LOCATION_FLAGS and not equals:
            name, value = _LOCATION_FLAGS[key]
            settings[name] = value
        elif key in _LOCATION_WITHOUT_EFFECT:
            ignored.append(key)
        elif key:
            known = ", ".join(sorted([*_LOCATION, *_LOCATION_FLAGS]))
            raise BadValue(f"a mail location has no {key}", f"known: {known}")
    return settings, ignored


def _split_colons(text: str) -> list[str]:
    pieces, at = [], 0
    while True:
        match = _FIELD.match(text, at)
        assert match is not None
        pieces.append(match[0].replace("::", ":"))
        if match.end() >= len(text):
            return pieces
        at = match.end() + 1


# Settings that only changed their name.
RENAMED: Final = {
    "auth_default_realm": "auth_default_domain",
    "ssl_min_protocol_version": "ssl_min_protocol",
    "ssl_key_password": "ssl_server_key_password",
    "version": "dovecot_config_version",
}
# Settings that held a file's content (`= <FILE`) and now hold its name.
FILE_SETTINGS: Final = {
    "ssl_cert": "ssl_server_cert_file",
    "ssl_key": "ssl_server_key_file",
}
LOCATIONS: Final = frozenset({"mail_location", "location", "mail"})

# The plugin { } block, whose names were arbitrary.
PLUGIN_RENAMED: Final = {
    "acl_user": "acl_user",
    "acl_groups": "acl_groups",
    "acl_defaults_from_inbox": "acl_defaults_from_inbox",
    "acl_globals_only": "acl_globals_only",
}


def inverse(text: str) -> str:
    word = text.lower()
    if word not in ("yes", "no", "y", "n", "1", "0"):
        raise BadValue(f"{text!r} is neither yes nor no", "write yes or no")
    return "no" if word in ("yes", "y", "1") else "yes"


def split_acl(text: str) -> dict[str, str]:
    """`vfile:/path/to/global-acls:cache_secs=300`."""
    driver, *rest = _split_colons(text)
    settings = {"acl_driver": driver}
    for piece in rest:
        key, equals, value = piece.partition("=")
        if key == "cache_secs" and equals:
            settings["acl_cache_ttl"] = value + "s" if value.isdigit() else value
        elif piece.startswith("/"):
            settings["acl_global_path"] = piece
        elif piece:
            raise BadValue(
                f"{piece!r} is no option of acl", "write acl = vfile:/PATH:cache_secs=300"
            )
    return settings


def split_dict(text: str) -> tuple[str, str, dict[str, str]]:
    """Dictionary URI `driver:rest` -> driver, path (or ""), parameters."""
    driver, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[a-z][a-z0-9-]*", driver):
        raise BadValue(
            f"{text!r} is no dictionary", "write file:/var/lib/dovecot/shared-mailboxes.db"
        )
    if driver == "file":
        path, *options = _split_colons(rest)
        return driver, path, {word.partition("=")[0]: word.partition("=")[2] for word in options}
    if driver == "proxy":
        return driver, "", {"name": rest.rpartition(":")[2]}
    if driver == "fs":
        return driver, "", {"fs": rest}
    return driver, "", {"args": rest}


_PASSWD_FILE_OPTIONS: Final = {"username_format": "auth_username_format",
                               "scheme": "default_password_scheme"}  # fmt: skip


def split_passdb_args(driver: str, text: str) -> dict[str, str]:
    """`args =` of a passdb or userdb of 2.3.  Static fields come back as "fields"."""
    if driver == "passwd-file":
        return _split_passwd_file(text)
    if driver == "pam":
        return _split_pam(text)
    if driver == "static":
        settings, fields = {}, []
        for word in text.split():
            key, _, value = word.partition("=")
            if key == "password":
                settings["static_password"] = value
            elif key == "allow_all_users":
                settings["static_allow_all_users"] = value or "yes"
            else:
                fields.append(word)
        return {**settings, "fields": " ".join(fields)}
    if driver in ("passwd", "shadow"):
        fields = [word for word in text.split() if not word.startswith("blocking=")]
        return {"fields": " ".join(fields)} if fields else {}
    return {}


def _split_passwd_file(text: str) -> dict[str, str]:
    settings: dict[str, str] = {}
    words = text.split()
    while words and not words[0].startswith(("/", "%")):
        key, _, value = words.pop(0).partition("=")
        if key not in _PASSWD_FILE_OPTIONS:
            raise BadValue(
                f"passwd-file has no option {key}",
                "write args = scheme=CRYPT username_format=%u /etc/dovecot/users",
            )
        settings[_PASSWD_FILE_OPTIONS[key]] = value
    if not words:
        raise BadValue("passwd-file needs a path", "write args = /etc/dovecot/users")
    settings["passwd_file_path"] = " ".join(words)
    return settings


def _split_pam(text: str) -> dict[str, str]:
    settings: dict[str, str] = {}
    flags = {
        "session": "pam_session",
        "setcred": "pam_setcred",
        "failure_show_msg": "pam_failure_show_msg",
    }
    for word in text.split():
        key, equals, value = word.partition("=")
        if key in flags:
            settings[flags[key]] = value or "yes"
        elif key == "max_requests":
            settings["pam_max_requests"] = value
        elif key in ("cache_key", "blocking"):
            continue
        elif not equals or key == "service_name":
            settings["pam_service_name"] = "%{service}" if word == "*" else value or word
        else:
            raise BadValue(f"pam has no option {key}", "write args = session=yes dovecot")
    return settings
