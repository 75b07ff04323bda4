"""The boxes without boxes: the scripts' syntax, and the provisioning in a namespace of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
VAGRANT = TOP / "vagrant"
SCRIPTS = [VAGRANT / name for name in ("provision", "suite", "run")]
TIMEOUT = 120  # seconds

# Everything that the steps write is laid over the host's directories, for these processes alone.
NAMESPACE = """
set -eu
mount -t tmpfs none "$1"
for directory in etc home var; do
    mkdir -p "$1/$directory/upper" "$1/$directory/work"
    mount -t overlay overlay -o \
        "lowerdir=/$directory,upperdir=$1/$directory/upper,workdir=$1/$directory/work" "/$directory"
done
{body}
"""


def in_namespace(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script for which /etc, /home and /var are its own."""
    sharefs = Path(sys.executable).with_name("sharefs")
    if not sharefs.exists():
        pytest.skip("the sharefs command is not installed beside this Python")
    return subprocess.run(
        ["unshare", "--mount", "bash", "-c", NAMESPACE.replace("{body}", body), "bash",
         str(tmp_path)],
        env={**os.environ, "SHAREFS": str(sharefs), "SOURCE": str(TOP), "VAGRANT": str(VAGRANT)},
        capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd="/",
    )  # fmt: skip


def host_state() -> list[object]:
    """What a step that got out of its namespace would have changed."""
    places = ("/etc/sharefs", "/home/alice", "/var/vmail", "/var/lib/sharefs")
    times = [os.stat(place).st_mtime_ns if os.path.exists(place) else None for place in places]
    # Not the whole files: other tests make users of their own meanwhile.
    names = {"alice", "bob", "carol", "dave", "eve", "sharedmail", "dovemail", "example.org"}
    known = [
        line
        for file in ("/etc/passwd", "/etc/group")
        for line in Path(file).read_text().splitlines()
        if line.split(":")[0] in names
    ]
    return [times, known]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_can_be_run(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)
    assert os.access(script, os.X_OK)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    done = subprocess.run(
        ["shellcheck", str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == ""


@pytest.mark.skipif(shutil.which("vagrant") is None, reason="no vagrant")
def test_vagrant_accepts_its_file(tmp_path: Path) -> None:
    done = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"], cwd=VAGRANT, timeout=60, check=False,
        capture_output=True, text=True,
        env={**os.environ, "VAGRANT_HOME": str(tmp_path / "home"),
             "VAGRANT_DOTFILE_PATH": str(tmp_path / "state")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_file_names_steps_that_exist() -> None:
    text = (VAGRANT / "Vagrantfile").read_text()
    script = (VAGRANT / "provision").read_text()
    for step in ("packages", "people", "domains", "sharefs", "shares", "nfs-server", "nfs-client"):
        assert step in text
        assert f"\n{step}() {{" in script


@pytest.mark.parametrize(
    ("arguments", "says"), [([], "Usage: provision STEP"), (["nonsense"], "no step named nonsense")]
)
@pytest.mark.superuser
def test_wrong_steps_change_nothing(arguments: list[str], says: str) -> None:
    done = subprocess.run(
        [VAGRANT / "provision", *arguments], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.superuser
@pytest.mark.slow
def test_provisioning_makes_what_the_suite_expects(tmp_path: Path) -> None:
    """Twice, as boxes are provisioned again; then every claim of the box's own checks."""
    before = host_state()
    steps = '"$VAGRANT/provision" people domains sharefs shares'
    done = in_namespace(
        tmp_path,
        f"""{steps} >&2
        find /home /var/vmail /var/lib/sharefs -printf '%p %m %U %G\\n' | sort >/var/first
        {steps} >&2
        find /home /var/vmail /var/lib/sharefs -printf '%p %m %U %G\\n' | sort >/var/second
        diff /var/first /var/second || echo CHANGED
        ONLY_CHECKS=1 "$VAGRANT/suite" mail
        stat -c '%a %U %G %n' /home/alice/Maildir /home/alice/Maildir/.Projects.2026 \
            /home/eve/Maildir /var/vmail /var/vmail/example.org
        readlink /home/dave/Maildir/.alice-work
        getent passwd alice""",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert host_state() == before
    lines = done.stdout.splitlines()
    assert "CHANGED" not in lines
    assert "FAILED" not in done.stdout
    assert done.stdout.count("  ok ") == 9
    for expected in (
        "2770 alice sharedmail /home/alice/Maildir",
        "2770 alice sharedmail /home/alice/Maildir/.Projects.2026",
        "700 eve eve /home/eve/Maildir",
        "2775 root dovemail /var/vmail",
        "2771 root example.org /var/vmail/example.org",
        "/home/alice/Maildir/.Work",
        "alice:x:3001:3001::/home/alice:/bin/bash",
    ):
        assert expected in lines


@pytest.mark.superuser
@pytest.mark.slow
def test_the_checks_notice_what_is_wrong(tmp_path: Path) -> None:
    """The same checks on a host that somebody broke: each must be able to fail."""
    done = in_namespace(
        tmp_path,
        """"$VAGRANT/provision" people domains sharefs shares >/dev/null 2>&1
        usermod --append --groups sharedmail bob
        rm /home/alice/Maildir/.Projects.2026/dovecot-acl
        ONLY_CHECKS=1 "$VAGRANT/suite" mail""",
    )
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if "FAILED" in line]
    assert [line.split("FAILED")[1].strip() for line in failed] == [
        "carol is shown what the team shares",
        "a shell of bob's cannot read alice's mail",
        "nobody is in the group of the mail processes",
    ]
