"""Both forms of the language mean the same users."""

import subprocess
import sys
from pathlib import Path

import pytest

from sharefs.config import load
from sharefs.errors import SharingError
from sharefs.identity.from_config import identity_settings
from sharefs.identity.passdb import PasswordDatabase
from sharefs.identity.settings import Result, Skip
from sharefs.identity.userdb import UserDatabase

OLD = """
auth_master_user_separator = *
auth_default_realm = ex.org
first_valid_uid = 100
last_valid_gid = 60000
mail_uid = 45900
mail_gid = 45901
mail_home = /srv/%d/%n
mail_access_groups = 46000,46001
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%n DIR/masters
  master = yes
  pass = yes
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%n DIR/users
}
userdb {
  driver = passwd-file
  args = username_format=%n DIR/users
  default_fields = acl_groups=staff
  override_fields = mail_path=/m/%n
}
plugin {
  acl_user = %u
}
"""

NEW = """
dovecot_config_version = 2.4.0
auth_master_user_separator = *
auth_default_domain = ex.org
first_valid_uid = 100
last_valid_gid = 60000
mail_uid = 45900
mail_gid = 45901
mail_home = /srv/%{user | domain}/%{user | username}
mail_access_groups = 46000,46001
passdb masters {
  driver = passwd-file
  default_password_scheme = PLAIN
  passwd_file_path = DIR/masters
  auth_username_format = %{user | username}
  master = yes
  result_success = continue
}
passdb passwd-file {
  default_password_scheme = PLAIN
  passwd_file_path = DIR/users
  auth_username_format = %{user | username}
}
userdb passwd-file {
  passwd_file_path = DIR/users
  auth_username_format = %{user | username}
  fields {
    mail_path = /m/%{user | username}
  }
}
acl_user = %{user}
acl_groups = staff
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "users").write_text("bob:pw:::::\n")
    (tmp_path / "masters").write_text("root:mpw\n")
    return tmp_path


@pytest.mark.parametrize("text", [OLD, NEW], ids=["2.3", "2.4"])
def test_both_forms(files: Path, text: str) -> None:
    config = load(files / "conf", text=text.replace("DIR", str(files)))
    users, passwords = UserDatabase(config), PasswordDatabase(config)
    login = passwords.verify("Bob*root", "mpw")
    assert (login.user, login.master) == ("bob@ex.org", "root@ex.org")
    got = users.lookup(login.user, login=login)
    assert (got.uid, got.gid, got.home) == (45900, 45901, Path("/srv/ex.org/bob"))
    assert got.acl_user == "bob@ex.org"
    assert got.acl_groups == {"staff"}
    assert got.fields["mail_path"] == "/m/bob"
    line = 1 + text.splitlines().index("mail_access_groups = 46000,46001")
    origin = f"mail_access_groups at {files / 'conf'}:{line}"
    assert {group.gid: group.origin for group in got.groups[1:]} == {46000: origin, 46001: origin}
    settings = identity_settings(config)
    assert (settings.uids.first, settings.gids.last) == (100, 60000)


def test_words_of_databases() -> None:
    text = """
passdb {
  driver = pam
  args = session=yes setcred=yes *
  deny = no
  skip = unauthenticated
  result_success = continue-ok
  result_internalfail = return-fail
  username_filter = *@ex.org !x*
  mechanisms = PLAIN login
}
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=45000 gid=45000 home=/h/%u allow_all_users=yes
  skip = found
}
"""
    settings = identity_settings(load(text=text))
    pam, static = settings.passdbs
    assert (pam.driver, pam.pam_session, pam.pam_setcred) == ("pam", True, True)
    assert str(pam.service) == "%{protocol}"
    assert pam.skip is Skip.IF_NOT_FOUND
    assert (pam.on_success, pam.on_failure) == (Result.CONTINUE_OK, Result.CONTINUE)
    assert pam.on_internal_failure is Result.RETURN_FAIL
    assert pam.username_filter == ("*@ex.org", "!x*")
    assert pam.mechanisms == ("PLAIN", "LOGIN")
    assert static.scheme == "PLAIN"
    assert "nopassword" in static.fields
    (userdb,) = settings.userdbs
    assert userdb.allow_all_users
    assert userdb.skip is Skip.IF_FOUND
    got = UserDatabase(settings).lookup("bob@ex.org")
    assert (got.uid, got.home) == (45000, Path("/h/bob@ex.org"))


def test_the_default_pam_service_is_dovecots() -> None:
    (pam,) = identity_settings(load(text="passdb {\n  driver = pam\n}\n")).passdbs
    assert str(pam.service) == "dovecot"


def test_the_old_and_new_settings_of_one_protocol(files: Path) -> None:
    text = NEW.replace("DIR", str(files)) + "\nprotocol lmtp {\n  mail_uid = 45999\n}\n"
    config = load(text=text)
    assert UserDatabase(config).lookup("bob").uid == 45900
    assert identity_settings(config, protocol="lmtp").mail_uid.value.source == "45999"


def test_an_unknown_word_is_an_error_with_its_place() -> None:
    text = "passdb {\n  driver = pam\n  result_success = maybe\n}\n"
    with pytest.raises(SharingError) as caught:
        identity_settings(load(text=text))
    assert ":3" in caught.value.detail
    assert "return-ok" in caught.value.detail


def test_mail_processes_do_not_load_the_code_that_checks_passwords() -> None:
    program = (
        "import sys, sharefs.identity.model, sharefs.identity.lookup, sharefs.identity.privileges\n"
        "print(sorted({'pam', 'bcrypt', 'argon2', 'crypt_r'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "[]\n"
