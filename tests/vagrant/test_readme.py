"""What README.md says to type, typed as it stands on a host of its own."""

import re
from pathlib import Path

import pytest

from tests.vagrant.test_vagrant import TOP, in_namespace

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def block(containing: str) -> str:
    (found,) = (text for _, text in BLOCK.findall((TOP / "README.md").read_text())
                if containing in text)  # fmt: skip
    return str(found)


def command(beginning: str) -> str:
    """A line of README.md's that begins so, for a root without sudo and with our sharefs."""
    text = (TOP / "README.md").read_text()
    (found,) = re.findall(rf"^sudo {re.escape(beginning)}.*$", text, re.MULTILINE)
    return re.sub(r"\bsudo sharefs\b", '"$SHAREFS"', str(found)).split("#")[0]


def test_a_first_share(tmp_path: Path) -> None:
    configuration, directories = block("mail_access_groups"), block("groupadd sharedmail")
    done = in_namespace(
        tmp_path,
        f"""useradd --create-home alice
        useradd --create-home bob
        chmod 700 /home/alice
        install -d /etc/sharefs
        cat >/etc/sharefs/sharefs.conf <<'END'\n{configuration}\nEND
        {directories}
        {command("sharefs config check")}
        {command("sharefs share add")}
        "$SHAREFS" mailbox list -u bob 'shared/*'
        {command("sharefs acl debug")}
        {command("sharefs audit")} --user alice --user bob
        "$SHAREFS" explain bob shared/alice/Work read""",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sharefs.conf: no problems" in done.stdout
    assert "shared/alice/Work" in done.stdout.splitlines()
    # The directories of this namespace are laid over those of the host, which is worth knowing.
    assert "0 critical, 0 warnings, 1 notice;" in done.stdout
    assert "[mount-overlay]" in done.stdout
    assert "✗" not in done.stdout
