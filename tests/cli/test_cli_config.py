"""`sharefs config`: check, dump and get, as an administrator types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sharefs.cli import cli
from sharefs.config import Config, Severity, load
from sharefs.config.dump import entries_of, render
from tests.config import seeds

WHOLE = seeds.USER_SHARED + seeds.DOMAIN_MAP
USERS = "bob:{PLAIN}x:5001:5002::/home/bob::userdb_mail_path=/srv/%{user} userdb_mail_fsync=never\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "sharefs.conf"
    written.write_text(WHOLE)
    return written


def run(path: Path, *arguments: str, overrides: tuple[str, ...] = ()) -> Result:
    options = [word for each in overrides for word in ("-o", each)]
    return CliRunner().invoke(cli, ["-c", str(path), *options, "config", *arguments])


def test_check_of_a_clean_file(path: Path) -> None:
    result = run(path, "check", "--strict")
    assert (result.exit_code, result.stdout) == (0, f"{path}: no problems\n")


def test_check_prints_each_finding_with_its_place(path: Path) -> None:
    path.write_text("mail_fsync = sometimes\nimapc_host = x\nmail_pth = /x\n")
    result = run(path, "check")
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0].startswith(f"{path}:1: error: mail_fsync: 'sometimes' is not known here")
    assert "write optimized, always or never" in lines[0]
    assert lines[1].startswith(f"{path}:2: unimplemented: imapc_host")
    assert lines[2] == f"{path}:3: error: there is no setting mail_pth (did you mean mail_path?)"


def test_check_as_json(path: Path) -> None:
    path.write_text("log_path = /x\nmail_pth = /x\n")
    (found,) = json.loads(run(path, "check", "--json").stdout)
    assert found == {
        "severity": "error", "check": "unknown-setting", "file": str(path), "line": 2,
        "message": "there is no setting mail_pth", "remedy": "did you mean mail_path?",
    }  # fmt: skip


def test_check_strict_counts_what_is_not_implemented(path: Path) -> None:
    path.write_text("imapc_host = x\n")
    assert run(path, "check").exit_code == 0
    assert run(path, "check", "--strict").exit_code == 1


def test_check_of_another_file(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.conf"
    other.write_text("mail_pth = /x\n")
    result = run(path, "check", str(other))
    assert (result.exit_code, result.stdout.partition(":")[0]) == (1, str(other))


def test_check_of_a_missing_file(tmp_path: Path) -> None:
    result = run(tmp_path / "none.conf", "check")
    assert result.exit_code == 1
    assert "No such file" in result.stdout
    assert "Traceback" not in result.output


def test_dump_says_where_each_value_came_from(path: Path) -> None:
    lines = run(path, "dump", overrides=("log_path=/l",)).stdout.splitlines()
    assert f"mail_path = ~/Maildir  # {path}:3" in lines
    assert "log_path = /l  # override" in lines
    assert "mail_fsync = optimized  # default" in lines
    assert f"mail_plugins = acl imap_acl  # {path}:29" in lines
    assert f"  prefix = shared/$user/  # {path}:15" in lines


def test_dump_of_what_is_not_default(path: Path) -> None:
    text = run(path, "dump", "-n").stdout
    assert "mail_fsync" not in text
    assert "service" not in text
    assert "namespace shared {" in text
    assert run(path, "dump", "-n", "-p", "lmtp").stdout.count("imap_acl") == 0


def test_dump_of_what_is_written_and_the_default_all_the_same(tmp_path: Path) -> None:
    """The old form's mail_location says something of a dozen settings, mostly nothing."""
    old = tmp_path / "old.conf"
    old.write_text("mail_location = maildir:~/Mail\nmail_fsync = optimized\n")
    lines = run(old, "dump", "-n").stdout.splitlines()
    assert f"mail_path = ~/Mail  # {old}:1" in lines
    assert not [line for line in lines if line.startswith(("mail_index_path", "mail_fsync"))]
    assert f"mail_fsync = optimized  # {old}:2" in run(old, "dump", "-a").stdout


def test_dump_of_one_user(path: Path, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(USERS)
    databases = f"passwd-file {{\npasswd_file_path = {users}\n}}\n"
    path.write_text(WHOLE + f"passdb {databases}userdb {databases}")
    lines = run(path, "dump", "-u", "bob").stdout.splitlines()
    assert "mail_path = /srv/bob  # userdb field mail_path" in lines
    assert "mail_fsync = never  # userdb field mail_fsync" in lines
    assert "  mail_index_private_path = /home/bob/Maildir/shared/%{owner_user}" in "\n".join(lines)
    users.write_text(users.read_text() + "amy:{PLAIN}x:5003:5002::/home/amy::\n")
    assert run(path, "get", "-u", "amy", "-h", "mail_path").stdout == "/home/amy/Maildir\n"
    assert run(path, "get", "-u", "bob", "mail_fsync").stdout == "mail_fsync = never\n"
    assert run(path, "dump", "-u", "nobody-here").exit_code != 0


def test_ignored_namespaces_have_an_origin(path: Path) -> None:
    path.write_text(seeds.CLUSTER_ACL)
    line = seeds.CLUSTER_ACL.splitlines().index("acl_ignore_namespace = shared/*") + 1
    assert f"  acl_ignore_namespace = shared/*  # {path}:{line}\n" in run(path, "dump").stdout


def test_dump_hides_passwords(path: Path) -> None:
    path.write_text("passdb static {\npassword = tops3cret\n}\nssl_server_key_password = other\n")
    for arguments in (("dump",), ("dump", "--json")):
        text = run(path, *arguments).stdout
        assert "tops3cret" not in text
        assert "other" not in text
        assert "tops3cret" in run(path, *arguments, "-P").stdout


def test_dump_as_json(path: Path) -> None:
    found = {each["setting"]: each for each in json.loads(run(path, "dump", "--json").stdout)}
    assert found["namespace/shared/list"] == {
        "setting": "namespace/shared/list", "value": "children", "origin": f"{path}:22",
    }  # fmt: skip
    assert found["service/imap-login/inet_listener/imap/port"]["value"] == "143"


DUMPED = {
    "shared": WHOLE,
    "cluster": seeds.CLUSTER_ACL.replace("$your_prefered_shared_dict", "file:/m.db")
    + seeds.CLUSTER_NAMESPACE,
    "subscriptions": seeds.PRIVATE.replace("inbox = yes", "inbox = yes\nprefix = INBOX/")
    + seeds.SUBSCRIPTIONS,
    "read-only": seeds.PRIVATE + seeds.READ_ONLY_MAILDIR,
    "databases": "passdb {\ndriver = passwd-file\nargs = scheme=CRYPT username_format=%n /e/%d\n"
    "master = yes\n}\nuserdb {\ndriver = static\nargs = uid=8 home=/h/%d/%n\n}\n"
    "plugin {\nacl = vfile\n}\n",
    "services": "service imap-login {\ninet_listener imap {\nport = 1143\n}\nclient_limit = 7\n}\n"
    "service auth {\nunix_listener auth-userdb {\nmode = 0666\nuser = x\n}\n}\n",
    "odd values": 'login_greeting = "  hi # $x \\"there\\" \\\\"\n'
    'mail_path = "/a b/%{user}/100%%"\n'
    "log_path = '<x'\nacl_user = it's\nhostname = a \"b\"\n",
    "acl": 'acl "user=a b" {\nrights = lr\n}\nnamespace inbox {\ninbox = yes\nseparator = /\n'
    'mailbox "A B" {\nauto = create\nspecial_use = \\Sent \\Junk\n'
    "acl owner {\nrights = -x\n}\n}\n}\n",
}  # fmt: skip


def loaded(text: str) -> Config:
    return load(text=text, lookup_group=lambda name: True)


@pytest.mark.parametrize("text", DUMPED.values(), ids=DUMPED)
@pytest.mark.parametrize("only_changed", [True, False], ids=["-n", "-a"])
def test_a_dump_loads_again_and_means_the_same(text: str, only_changed: bool) -> None:
    before = [each for each in entries_of(loaded(text).settings())]
    dumped = render(
        (each for each in before if not (only_changed and each.is_default)), secrets=True
    )
    again = loaded(dumped)
    assert not [each for each in again.problems if each.severity is Severity.ERROR]
    after = list(entries_of(again.settings()))
    assert {(each.path, each.value) for each in after} == {
        (each.path, each.value) for each in before
    }


def test_get(path: Path) -> None:
    assert run(path, "get", "mail_path").stdout == "mail_path = ~/Maildir\n"
    assert run(path, "get", "-h", "mail_path", "mail_driver").stdout == "~/Maildir\nmaildir\n"
    assert (
        run(path, "get", "--origin", "mail_fsync").stdout == "mail_fsync = optimized  # default\n"
    )
    port = "service/imap-login/inet_listener/imap/port"
    assert run(path, "get", "-h", port).stdout == "143\n"
    assert (
        "namespace/shared/prefix = shared/$user/\n" in run(path, "get", "namespace/shared").stdout
    )
    assert run(path, "get", "-h", "disable_plaintext_auth").stdout == "yes\n"


def test_help_reads_like_a_manual() -> None:
    for command in ("check", "dump", "get"):
        text = CliRunner().invoke(cli, ["config", command, "--help"]).stdout
        assert "Usage: " in text
        assert len(text.splitlines()) > 12
    assert "Examples:" in CliRunner().invoke(cli, ["config", "-h"]).stdout


def shell(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from sharefs.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=30, env={**os.environ, "SHAREFS_CONFIG": str(path)},
    )  # fmt: skip


def test_from_a_shell(path: Path) -> None:
    done = shell(path, "config", "get", "-h", "namespace/shared/list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "children\n", "")
    done = shell(path, "config", "get", "mail_pth")
    assert (done.returncode, done.stdout) == (os.EX_DATAERR, "")
    assert done.stderr == "sharefs: there is no setting mail_pth; did you mean mail_path?\n"
    path.write_text("mail_fsync = sometimes\nmail_pth = x\n")
    done = shell(path, "config", "dump")
    assert done.returncode == os.EX_DATAERR
    assert done.stderr.startswith(f"sharefs: {path}:1: error: mail_fsync")
    assert "Traceback" not in done.stderr
