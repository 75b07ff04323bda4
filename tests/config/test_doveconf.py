"""The same 2.3 texts, read by a real doveconf and by us: every setting both know agrees."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sharefs.config import Form, Settings, Template, load
from sharefs.config.legacy import RENAMED, inverse
from sharefs.config.settings import DEFAULTS, SCHEMA

pytestmark = pytest.mark.dovecot

# Defaults that 2.4 changed, or a distribution: compared only when a text sets them.
OTHER_DEFAULTS = {"imap_logout_format", "login_greeting", "protocols", "instance_name"}
TEMPLATES = {"auth_username_format"}

TEXTS = {
    "empty": "",
    "comments": "# x\nmail_fsync = never # y\n  # z\nlog_path = /tmp/a#b\n",
    "quotes": "login_greeting = \"hi # \\\"there\\\"\"\nlog_path = '/tmp/x y' # z\n",
    "continuation": "mail_access_groups = a \\\n   b\\\n  c\nlog_path = /x\n",
    "crlf and tabs": "mail_fsync\t=\talways\r\nlog_path=/x\r\n",
    "booleans": "maildir_stat_dirs = y\nmaildir_copy_with_hardlinks = NO\ndotlock_use_excl = no\n",
    "numbers": "first_valid_uid = 1000\nlast_valid_gid = 2000\nmail_max_keyword_length = 30\n",
    "times": "imap_idle_notify_interval = 90 s\nauth_failure_delay = 1 min\n"
             "mail_temp_scan_interval = 2d\nmail_max_lock_timeout = 1 hour\n",
    "sizes": "imap_max_line_length = 1M\n",
    "lists": "mail_plugins = acl\nmail_plugins = $mail_plugins zlib\n"
             "auth_mechanisms = plain login\n",
    "append in filter": "mail_plugins = acl\nprotocol imap {\n"
                        "  mail_plugins = $mail_plugins imap_acl\n}\n",
    "quotes in the middle": "login_greeting = say \"x # y\" z # w\nhostname = it's # n\n",
    "filter of another protocol": "log_path = /a\nprotocol lda {\n  log_path = /b\n}\n",
    "negated filter": "protocol !lda {\n  mail_plugins = acl\n}\n",
    "renamed": "disable_plaintext_auth = no\nauth_default_realm = example.com\n"
               "auth_master_user_separator = *\n",
    "users": "mail_uid = vmail\nmail_gid = 8\nmail_home = /h/%d/%n\nauth_username_format = %Ln\n"
             "default_internal_user = nobody\n",
    "variable of a setting": "base_dir = /x/y\nlog_path = $base_dir\n",
    "last wins": "log_path = /a\nlog_path = /b\n",
    "listen": "listen = 127.0.0.1, ::1\nssl = required\nlock_method = flock\n",
    "nested": "service imap-login {\n  inet_listener imap {\n    port = 1143\n  }\n"
              "  inet_listener imaps {\n    port = 0\n  }\n  client_limit = 77\n"
              "  process_min_avail = 4\n}\n",
    "namespaces": "namespace inbox {\n  inbox = yes\n  separator = /\n  mailbox Trash {\n"
                  "    special_use = \\Trash\n    auto = subscribe\n  }\n}\n"
                  "namespace shared {\n  type = shared\n  prefix = shared/%%u/\n  separator = /\n"
                  "  list = children\n  subscriptions = no\n  location = maildir:%%h/Maildir\n}\n"
                  "plugin {\n  acl = vfile\n  acl_shared_dict = file:/x.db\n}\n",
    "two blocks of a name": "namespace inbox {\n  inbox = yes\n}\nnamespace inbox {\n"
                            "  separator = /\n  hidden = yes\n}\n",
}  # fmt: skip


def doveconf(path: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["doveconf", "-c", str(path), *arguments], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def top_level(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in doveconf(path, "-a", "-f", "protocol=imap").splitlines():
        if line[:1].isalpha() and " = " in f"{line} ":
            name, _, value = line.partition("=")
            value = value.strip()
            if value[:1] == '"':
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            found[name.strip()] = value
    return found


EVERY_TEXT = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


def written(folder: Path, text: str) -> Path:
    path = folder / "dovecot.conf"
    path.write_text(text)
    return path


def read(path: Path) -> Settings:
    return load(path, overrides=(), lookup_group=lambda name: True).settings()


def typed(name: str, value: str) -> Any:
    if name in TEMPLATES:
        return Template.parse(value, Form.V23).parts
    if SCHEMA[name].expands and "%" in value:
        value = Template.parse(value, Form.V23).written()
    return SCHEMA[name].parse(value)


@EVERY_TEXT
def test_every_setting_both_know(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    theirs = top_level(path)
    theirs["auth_allow_cleartext"] = inverse(theirs["disable_plaintext_auth"])
    theirs.update({RENAMED[name]: value for name, value in theirs.items() if name in RENAMED
                   and name not in SCHEMA})  # fmt: skip
    ours = read(path)
    compared = 0
    for name in SCHEMA.keys() & theirs.keys():
        if name in OTHER_DEFAULTS and name not in text:
            continue
        want = typed(name, theirs[name])
        got = Template.parse(ours.get(name)).parts if name in TEMPLATES else getattr(ours, name)
        if name in TEMPLATES and name not in text:
            continue  # %Lu against %{user | lower}, the same
        if name == "mail_max_userip_connections" and theirs[name] == "0":
            continue
        assert got == want, name
        compared += 1
    assert compared > 50


@EVERY_TEXT
def test_services_and_namespaces(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    ours = read(path)
    for listener in ("imap", "imaps"):
        port = doveconf(path, "-h", f"service/imap-login/inet_listener/{listener}/port")
        assert int(port) == ours.services["imap-login"].inet_listeners[listener].port
    for name in ("process_min_avail", "client_limit"):
        value = doveconf(path, "-h", f"service/imap-login/{name}")
        assert int(value) == getattr(ours.services["imap-login"], name)
    for namespace in ours.namespaces:
        if f"namespace {namespace.name} " not in text:
            continue
        for name in ("type", "separator", "list", "hidden", "inbox", "subscriptions"):
            value = doveconf(path, "-h", f"namespace/{namespace.name}/{name}").strip()
            got = getattr(namespace, name)
            want = {True: "yes", False: "no"}.get(got, got) if isinstance(got, bool) else got
            if name != "separator" or value:  # empty: the layout's own
                assert value == want, (namespace.name, name)


def test_unknown_settings_are_errors_to_both(tmp_path: Path) -> None:
    path = tmp_path / "bad.conf"
    path.write_text("mail_acess_groups = x\n")
    done = subprocess.run(["doveconf", "-c", str(path), "-n"], capture_output=True, timeout=20)
    assert done.returncode != 0
    assert set(DEFAULTS) == set(SCHEMA)
