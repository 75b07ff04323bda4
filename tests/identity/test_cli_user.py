"""`sharefs user`, as an administrator types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sharefs.cli import cli
from sharefs.identity.model import UnknownUser

CONF = """mail_access_groups = 46000
acl_groups = staff
auth_master_user_separator = *
passdb {
  driver = passwd-file
  args = DIR/masters
  master = yes
}
passdb {
  driver = passwd-file
  args = DIR/users
}
userdb {
  driver = passwd-file
  args = DIR/users
}
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "users").write_text(
        "bob:{PLAIN}pw:45001:45100::/home/bob::userdb_mail_path=~/Mail "
        "userdb_mail_access_groups=46001 allow_nets=192.0.2.0/24,local\n"
        "bill:{PLAIN}pw:45002:45100::/home/bill\n"
        "zoe\x1b[31m:{PLAIN}pw:45003:45100::/home/zoe\n"
        "root:{PLAIN}pw:0:0::/root\n"
    )
    (tmp_path / "masters").write_text("admin:{PLAIN}mpw\n")
    path = tmp_path / "sharefs.conf"
    path.write_text(CONF.replace("DIR", str(tmp_path)))
    return path


def run(conf: Path, *arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["-c", str(conf), "user", *arguments], input=stdin)


def run_whole(conf: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Through main(), where refusals become an exit status."""
    main = "from sharefs.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", main, "-c", conf, "user", *arguments],
        capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_everything_about_a_user_with_where_it_came_from(conf: Path) -> None:
    result = run(conf, "bob")
    assert result.exit_code == 0, result.output
    users = conf.parent / "users"
    lines = [line.split(None, 1) for line in result.stdout.splitlines()]
    rows = {(line[0], " ".join(line[1].split())) for line in lines}
    assert rows == {
        ("user", "bob"),
        ("uid", f"45001 {users}:1"),
        ("gid", f"45100 {users}:1"),
        ("home", f"/home/bob {users}:1"),
        ("acl", "user bob"),
        ("acl", "group staff"),
        ("group", f"45100 primary group, {users}:1"),
        ("group", f"46000 mail_access_groups at {conf}:1"),
        ("group", f"46001 mail_access_groups from {users}:1"),
        ("field", "mail_path=~/Mail"),
    }


def test_json(conf: Path) -> None:
    result = run(conf, "bob", "bill", "--json")
    bob, bill = map(json.loads, result.stdout.splitlines())
    assert (bob["uid"], bob["gid"], bob["home"]) == (45001, 45100, "/home/bob")
    assert [group["gid"] for group in bob["groups"]] == [45100, 46000, 46001]
    assert bob["groups"][1]["origin"] == f"mail_access_groups at {conf}:1"
    assert bob["fields"] == {"mail_path": "~/Mail"}
    assert bill["user"] == "bill"


def test_lists_do_not_reach_the_terminal_raw(conf: Path) -> None:
    result = run(conf, "*")
    assert result.stdout.splitlines() == ["bob", "bill", "zoe\\x1b[31m", "root"]
    assert run(conf, "b?b").stdout == "bob\n"
    assert run(conf, "[b]*", "--json").exit_code != 0


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("nobody-here", os.EX_NOUSER, "'nobody-here' is in no userdb"),
        ("../bob", os.EX_NOUSER, "slash"),
        ("x" * 5000, os.EX_NOUSER, "too long"),
        ("root", os.EX_UNAVAILABLE, "superuser has no mail"),
        ("q*", os.EX_NOUSER, "no user matches 'q*'"),
    ],
)
def test_errors_are_one_line_and_a_status(conf: Path, name: str, status: int, said: str) -> None:
    done = run_whole(conf, name)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 2000
    assert done.stdout == ""


def test_unknown_users_are_what_the_exit_status_says(conf: Path) -> None:
    assert isinstance(run(conf, "nobody-here").exception, UnknownUser)


def test_passwords_are_read_from_standard_input(conf: Path) -> None:
    right = run(conf, "--check-password", "bob", stdin="pw\n")
    assert right.exit_code == 0
    assert "password  right" in right.stdout
    wrong = run(conf, "--check-password", "bob", stdin="no\n")
    assert wrong.exit_code == 1
    assert "password mismatch" in wrong.stderr
    assert wrong.stdout == ""
    far = run(conf, "--check-password", "--remote", "198.51.100.1", "bob", stdin="pw\n")
    assert far.exit_code == 1
    assert "allow_nets" in far.stderr


def test_master_logins_can_be_checked(conf: Path) -> None:
    result = run(conf, "--check-password", "--json", "bob*admin", stdin="mpw\n")
    got = json.loads(result.stdout)
    assert (got["user"], got["master"], got["acl_user"]) == ("bob", "admin", "admin")
    assert got["verified"] is True


def test_one_password_is_for_one_user(conf: Path) -> None:
    assert run(conf, "--check-password", "bob", "bill").exit_code == 2
