"""Real system users and real PAM: made for the test, removed after it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from sharefs.config import load
from sharefs.errors import Code, SharingError
from sharefs.identity.from_config import identity_settings
from sharefs.identity.model import UnknownUser
from sharefs.identity.passdb import AuthFailed, PasswordDatabase
from sharefs.identity.privileges import become
from sharefs.identity.userdb import UserDatabase
from tests.support.accounts import account_files, change_accounts
from tests.support.become import start_as

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

PASSWORD = "Sésame ouvre-toi 1"

CONF = """
mail_access_groups = {name}-mail
passdb {{
  driver = pam
  args = {service}
}}
userdb {{
  driver = passwd
}}
"""


@dataclass(frozen=True, slots=True)
class SystemUser:
    """A user in /etc/passwd with its own group, a project group, and a group for mail only."""

    name: str
    uid: int
    gid: int
    project: int
    mail: int


@pytest.fixture(scope="module")
def system_user() -> Iterator[SystemUser]:
    name = f"sft{os.getpid()}"
    # Numbers of this run's own: another run may be making its user at this moment.
    first = 58_000 + os.getpid() % 500 * 4
    user = SystemUser(name, first, first + 1, first + 2, first + 3)
    groups = {name: user.gid, f"{name}-project": user.project, f"{name}-mail": user.mail}
    try:
        with account_files():
            for group, gid in groups.items():
                change_accounts("groupadd", "--gid", str(gid), group)
            change_accounts("useradd", "--no-create-home", "--no-log-init", "--uid", str(user.uid),
                 "--gid", str(user.gid), "--groups", f"{name}-project",
                 "--home-dir", f"/home/{name}", "--shell", "/bin/sh", name)  # fmt: skip
            change_accounts("chpasswd", stdin=f"{name}:{PASSWORD}\n")
        yield user
    finally:
        with account_files():
            # --force: a process that only happens to have the number must not keep the user.
            subprocess.run(["userdel", "--force", name], capture_output=True, check=False)
            for group in groups:
                subprocess.run(["groupdel", group], capture_output=True, check=False)


Service = Callable[..., str]


@pytest.fixture
def service() -> Iterator[Service]:
    """service(line...) makes a file in /etc/pam.d and returns the service's name."""
    made: list[Path] = []

    def make(*lines: str) -> str:
        path = Path(f"/etc/pam.d/sharefs-test-{os.getpid()}-{len(made)}")
        made.append(path)
        path.write_text("".join(line + "\n" for line in lines))
        return path.name

    yield make
    for path in made:
        path.unlink(missing_ok=True)


UNIX = ("auth required pam_unix.so nodelay", "account required pam_unix.so")


def test_pam_lets_the_right_password_in_and_nothing_else(
    system_user: SystemUser, service: Service
) -> None:
    config = load(text=CONF.format(name=system_user.name, service=service(*UNIX)))
    passwords = PasswordDatabase(config)
    assert passwords.verify(system_user.name, PASSWORD).user == system_user.name
    assert passwords.verify(system_user.name, PASSWORD.encode()).user == system_user.name
    for wrong in ("", "x", PASSWORD + " ", "p" * 600):
        with pytest.raises(AuthFailed):
            passwords.verify(system_user.name, wrong)
    with pytest.raises(AuthFailed):
        passwords.verify("sft-nobody", PASSWORD)


def test_a_wrong_password_does_not_make_pam_sleep(
    system_user: SystemUser, service: Service
) -> None:
    name = service("auth required pam_unix.so", "account required pam_unix.so")
    config = load(text=CONF.format(name=system_user.name, service=name))
    start = time.monotonic()
    with pytest.raises(AuthFailed):
        PasswordDatabase(config).verify(system_user.name, "x")
    assert time.monotonic() - start < 1.0, "pam_unix asks for a delay of two seconds"


def test_pam_modules_learn_the_address(system_user: SystemUser, service: Service) -> None:
    rule = "auth required pam_succeed_if.so quiet rhost = 192.0.2.1"
    name = service(rule, "account required pam_permit.so")
    passwords = PasswordDatabase(load(text=CONF.format(name=system_user.name, service=name)))
    assert passwords.verify(system_user.name, "x", remote="192.0.2.1")
    for remote in ("192.0.2.2", ""):
        with pytest.raises(AuthFailed):
            passwords.verify(system_user.name, "x", remote=remote)


def test_pam_in_several_threads(system_user: SystemUser, service: Service) -> None:
    settings = identity_settings(
        load(text=CONF.format(name=system_user.name, service=service(*UNIX)))
    )

    def attempt(number: int) -> bool:
        try:
            PasswordDatabase(settings).verify(system_user.name, PASSWORD if number % 2 else "x")
        except AuthFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(attempt, range(40)))
    assert got == [bool(number % 2) for number in range(40)]


def test_pam_with_a_session_and_credentials(system_user: SystemUser, service: Service) -> None:
    name = service(*UNIX, "session required pam_permit.so")
    config = load(
        text=CONF.format(name=system_user.name, service=f"session=yes setcred=yes {name}")
    )
    assert PasswordDatabase(config).verify(system_user.name, PASSWORD)
    with pytest.raises(AuthFailed):
        PasswordDatabase(config).verify(system_user.name, "x")


def test_the_account_rules_of_pam_hold(system_user: SystemUser, service: Service) -> None:
    name = service("auth required pam_permit.so", "account required pam_deny.so")
    config = load(text=CONF.format(name=system_user.name, service=name))
    with pytest.raises(SharingError):
        PasswordDatabase(config).verify(system_user.name, PASSWORD)


def test_a_pam_service_that_is_broken_is_trouble_and_not_a_wrong_password(
    system_user: SystemUser, service: Service
) -> None:
    name = service("auth required pam_nosuchmodule.so", "account required pam_permit.so")
    config = load(text=CONF.format(name=system_user.name, service=name))
    with pytest.raises(SharingError) as caught:
        PasswordDatabase(config).verify(system_user.name, PASSWORD)
    assert caught.value.code is Code.UNAVAILABLE
    assert "PAM failed" in caught.value.detail


def test_a_system_user_has_its_groups_and_those_for_mail(system_user: SystemUser) -> None:
    users = UserDatabase(load(text=CONF.format(name=system_user.name, service="x")))
    got = users.lookup(system_user.name)
    name = system_user.name
    assert (got.uid, got.gid, got.home) == (system_user.uid, system_user.gid, Path(f"/home/{name}"))
    found = {group.name: (group.gid, group.origin) for group in got.groups}
    assert found[name] == (system_user.gid, "primary group, passwd")
    assert found[f"{name}-project"] == (system_user.project, f"passwd group of {name}")
    gid, origin = found[f"{name}-mail"]
    assert gid == system_user.mail
    assert origin.startswith("mail_access_groups at ")
    assert name in set(users.iterate())
    with pytest.raises(UnknownUser):
        users.lookup("sft-nobody")


def test_the_mail_process_has_exactly_these_groups(system_user: SystemUser) -> None:
    users = UserDatabase(load(text=CONF.format(name=system_user.name, service="x")))
    got = users.lookup(system_user.name)

    def child() -> tuple[int, int, list[int]]:
        become(got.uid, got.gid, got.gids)
        return os.getuid(), os.getgid(), sorted(os.getgroups())

    with start_as(0, 0, [], child) as running:
        uid, gid, gids = running.result()
    assert (uid, gid) == (system_user.uid, system_user.gid)
    assert gids == [system_user.gid, system_user.project, system_user.mail]
