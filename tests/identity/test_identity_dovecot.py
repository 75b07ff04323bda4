"""The same passwd-file, asked of us and of a real Dovecot 2.3."""

import grp
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sharefs.config import load
from sharefs.errors import SharingError
from sharefs.identity.passdb import AuthFailed, PasswordDatabase
from sharefs.identity.userdb import UserDatabase
from tests.support.dovecot import Dovecot, private_dovecot

pytestmark = [pytest.mark.dovecot, pytest.mark.superuser, pytest.mark.slow]

PASSWORD = "Sésame 1"

# Every scheme that a typed password can be checked against, as doveadm lists them.
SCHEMES = [
    "PLAIN", "CLEAR", "CLEARTEXT", "CRYPT", "DES-CRYPT", "MD5", "MD5-CRYPT", "SHA256-CRYPT",
    "SHA512-CRYPT", "BLF-CRYPT", "PLAIN-MD5", "LDAP-MD5", "SHA", "SHA1", "SHA256", "SHA512", "SMD5",
    "SSHA", "SSHA256", "SSHA512", "PBKDF2", "SCRAM-SHA-1", "SCRAM-SHA-256", "ARGON2I", "ARGON2ID",
    "SHA256.hex", "SSHA.hex", "PLAIN.b64", "SSHA512.b64", "CRYPT.hex", "SMD5.base64",
]  # fmt: skip

# Without the penalty every wrong password would cost seconds.
NO_PENALTY = """
auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
"""
EXTRA = f"""{NO_PENALTY}
auth_master_user_separator = *
auth_username_chars =
"""

# name -> the rest of the line.  Read by both as passdb and userdb.
LINES = {
    "plain": "{PLAIN}pw:45001:45101::/home/plain::",
    "fields": "{PLAIN}pw:45002:45102::/home/fields::"
    "userdb_mail=maildir:/m/%u userdb_quota userdb_a= b=c",
    "short": "{PLAIN}pw:45003:45103",
    "noids": "{PLAIN}pw",
    "names": "{PLAIN}pw:daemon:daemon::/home/names::",
    "colons": "{PLAIN}pw:45004:45104::/h::userdb_x=a:b:c allow_nets=::1,127.0.0.1",
    "spaces": "{PLAIN}pw:45005:45105::/h::  userdb_x=1   userdb_y=2 ",
    "dollar": "$1$Fd2PHcFE$JavNaSX4yzuxAdziZqCUY0:45006:45106::/h::",
    "locked": "*:45007:45107::/h::",
    "bang": "!{PLAIN}pw:45008:45108::/h::",
    "empty": ":45009:45109::/h::",
    "open": ":45010:45110::/h::nopassword",
    "mixed": "{PLAIN}pw:45011:45111::/h::nopassword",
    "badscheme": "{ROT13}cj:45012:45112::/h::",
    "nologin": "{PLAIN}pw:45013:45113::/h::nologin",
    "renamed": "{PLAIN}pw:45014:45114::/h::user=plain",
    "zero": "{PLAIN}pw:0:45115::/h::",
    "zerogid": "{PLAIN}pw:45016:0::/h::",
    "nouser": "{PLAIN}pw:nosuchuser:45117::/h::",
    "old": "{PLAIN}pw:45018:45118::/h:::mbox:~/mail",
    "twice": "{PLAIN}one:45019:45119::/h::",
    "pam13": "5/x6/C/bFQud.[13]:45020:45120::/h::",
    "pam34": "3827558347b988089547698445ea8dc4[34]:45021:45121::/h::",
    "expand": "{PLAIN}pw:45022:45122::/home/%u::userdb_x=%n",
}

# Passwords that are not "pw".
PASSWORDS = {
    "dollar": "Secret 1", "pam13": "Secret 1", "pam34": "Secret 1", "twice": "one",
    "badscheme": "cj",
}  # fmt: skip

# Where we differ on purpose: (user, password) -> our answer.  Dovecot's login process refuses
# nologin, which `doveadm auth test` does not ask.  Dovecot drops a line with bad ids from the
# passdb, too; with us the userdb refuses it after the password was verified, and says why.  There
# an empty stored password lets an empty one in; with us that needs nopassword.
DIFFERENT = {
    ("empty", ""): False,
    ("nologin", "pw"): False,
    ("zero", "pw"): True,
    ("zerogid", "pw"): True,
    ("nouser", "pw"): True,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with private_dovecot(EXTRA, []) as dovecot:
        lines = [f"{name}:{rest}\n" for name, rest in LINES.items()]
        lines.append("twice:{PLAIN}two:45099:45199::/other::\n")
        for scheme in SCHEMES:
            made = dovecot.doveadm("pw", "-s", scheme, "-p", PASSWORD, "-u", scheme.lower())
            lines.append(f"s-{scheme.lower()}:{made.stdout.strip()}:45200:45200::/h::\n")
        users = dovecot.base / "users"
        users.write_text("".join(lines))
        os.utime(users, ns=(10**18, 10**18))
        yield dovecot


@pytest.fixture(scope="module")
def ours(server: Dovecot) -> tuple[UserDatabase, PasswordDatabase]:
    text = f"""
auth_username_chars =
auth_master_user_separator = *
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {server.base}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {server.base}/users
}}
"""
    config = load(text=text)
    return UserDatabase(config), PasswordDatabase(config)


def verified_by_us(passwords: PasswordDatabase, user: str, password: str) -> bool:
    try:
        passwords.verify(user, password, remote="127.0.0.1")
    except AuthFailed:
        return False
    except SharingError:
        return False  # the stored password is broken
    return True


def passwords_of(user: str) -> set[str]:
    if user.startswith("s-"):
        return {PASSWORD, PASSWORD.lower()}
    return {"pw", PASSWORDS.get(user, "no"), LINES.get(user, "no").partition(":")[0]}


@pytest.fixture(scope="module")
def dovecot_verifies(server: Dovecot) -> dict[tuple[str, str], bool]:
    """(user, password) -> whether Dovecot lets it in.  Asked at once: each refusal takes 0.5 s."""

    def ask(pair: tuple[str, str]) -> bool:
        where = ("-x", "rip=127.0.0.1", "-x", "lip=127.0.0.1")
        return server.doveadm("auth", "test", *where, *pair, check=False).returncode == 0

    names = [*LINES, "missing", *(f"s-{scheme.lower()}" for scheme in SCHEMES)]
    pairs = [(name, password) for name in names for password in passwords_of(name)]
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(pairs, pool.map(ask, pairs), strict=True))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_verified_alike(
    dovecot_verifies: dict[tuple[str, str], bool],
    ours: tuple[UserDatabase, PasswordDatabase],
    scheme: str,
) -> None:
    user = f"s-{scheme.lower()}"
    for password, want in ((PASSWORD, True), (PASSWORD.lower(), False)):
        assert dovecot_verifies[user, password] is want, "the oracle itself"
        assert verified_by_us(ours[1], user, password) is want


@pytest.mark.parametrize("user", [*LINES, "missing"])
def test_every_line_lets_in_the_same_passwords(
    dovecot_verifies: dict[tuple[str, str], bool],
    ours: tuple[UserDatabase, PasswordDatabase],
    user: str,
) -> None:
    for password in passwords_of(user):
        want = dovecot_verifies[user, password]
        if (user, password) in DIFFERENT:
            assert want is not DIFFERENT[user, password], "the difference is gone"
            want = not want
        assert verified_by_us(ours[1], user, password) is want, password


def dovecots_user(server: Dovecot, user: str) -> dict[str, str] | None:
    done = server.doveadm("user", user, check=False)
    if done.returncode:
        return None
    rows = [line.split("\t") for line in done.stdout.splitlines()[1:]]
    return {row[0]: row[1] for row in rows if len(row) > 1}


@pytest.mark.parametrize("user", [*LINES, "missing"])
def test_every_line_makes_the_same_user(
    server: Dovecot, ours: tuple[UserDatabase, PasswordDatabase], user: str
) -> None:
    want = dovecots_user(server, user)
    try:
        got = ours[0].lookup(user)
    except SharingError:
        # doveadm shows what the userdb says; uid 0 and missing ids only fail a mail process.
        assert want is None or not ({"uid", "gid"} <= want.keys()) or "0" in (
            want["uid"], want["gid"])  # fmt: skip
        return
    assert want is not None
    assert (str(got.uid), str(got.gid)) == (want.pop("uid"), want.pop("gid"))
    assert ("" if got.home is None else str(got.home)) == want.pop("home", "")
    fields = dict(got.fields)
    if "mail_location" in fields:
        fields["mail"] = fields.pop("mail_location")
    # doveadm prints nothing for the value of a field without one.
    got_fields = {name: "" if value == "yes" else value for name, value in fields.items()}
    assert got_fields == {name: value for name, value in want.items() if name != "mail" or value}


def test_listing(server: Dovecot, ours: tuple[UserDatabase, PasswordDatabase]) -> None:
    want = set(server.doveadm("user", "*").stdout.split())
    got = set(ours[0].iterate())
    assert want <= got
    assert got - want <= {"zero", "zerogid", "nouser"}, "whose lines Dovecot drops when reading"


def test_the_process_gets_the_groups_that_dovecots_gets(open_tmp: Path) -> None:
    """mail_access_groups of the configuration, and none of the superuser's groups."""
    users = f"bob:{{PLAIN}}pass:45301:45302::{open_tmp}/bob::\n"
    (open_tmp / "bob").mkdir(mode=0o700)
    os.chown(open_tmp / "bob", 45301, 45302)
    setting = "mail_access_groups = 45303,45304\nmail_location = maildir:~/Maildir\n"
    with private_dovecot(setting, []) as dovecot:
        (dovecot.base / "users").write_text(users)
        with dovecot.imap("bob") as client:
            client.select()
            (status,) = [
                path.read_text() for path in Path("/proc").glob("[0-9]*/status")
                if "\nUid:\t45301\t" in path.read_text()
            ]  # fmt: skip
        line = next(line for line in status.splitlines() if line.startswith("Groups:"))
        config = load(
            text=setting + f"userdb {{\n driver = passwd-file\n args = {dovecot.base}/users\n}}\n"
        )
        got = UserDatabase(config).lookup("bob")
    internal = grp.getgrnam("dovecot").gr_gid  # for Dovecot's own sockets, from its service block
    assert set(got.gids) == {int(gid) for gid in line.split()[1:]} - {internal}


MASTERS = """
auth_master_user_separator = *
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u DIR/masters
  master = yes
  result_success = RESULT
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u DIR/second
  override_fields = userdb_o=over-%u
}
"""

LOGINS = [
    ("bob", "pw"), ("bob", "pw2"), ("bob", "mpw"), ("bob*root", "mpw"), ("bob*root", "pw"),
    ("zoe*root", "mpw"), ("root", "mpw"), ("bob*bob", "pw"), ("second*root", "mpw"),
]  # fmt: skip


@pytest.mark.parametrize("result", ["return-ok", "continue"])
def test_fields_of_several_databases_and_master_logins(open_tmp: Path, result: str) -> None:
    """What each login ends up as: whose mail, and which userdb fields, from which database."""
    (open_tmp / "masters").write_text(
        "root:mpw::::::userdb_x=master userdb_y=master userdb_acl_user=%{auth_user} userdb_u=%u\n"
    )
    (open_tmp / "second").write_text(
        "bob:pw2::::::userdb_x=second userdb_z=second\nsecond:pw2::::::userdb_x=second\n"
    )
    extra = MASTERS.replace("DIR", str(open_tmp)).replace("RESULT", result)
    with private_dovecot(NO_PENALTY + extra, []) as dovecot:
        (dovecot.base / "users").write_text("bob:{PLAIN}pw:45011:45111::/h::userdb_x=user\n")
        first = f"passdb {{\n driver = passwd-file\n args = scheme=PLAIN {dovecot.base}/users\n}}\n"
        users = f"userdb {{\n driver = passwd-file\n args = {dovecot.base}/users\n}}\n"
        config = load(text=first + extra + users)
        passwords, directory = PasswordDatabase(config), UserDatabase(config)
        for login, password in LOGINS:
            done = dovecot.doveadm("auth", "login", login, password, check=False)
            try:
                verified = passwords.verify(login, password)
                got = directory.lookup(verified.user, login=verified)
            except SharingError:
                assert done.returncode != 0, (login, password)
                continue
            assert done.returncode == 0, (login, password)
            lines = done.stdout.partition("userdb extra fields:\n")[2].splitlines()
            want = dict(line.strip().split("=", 1) for line in lines if "=" in line)
            assert lines[0].strip() == got.name
            assert want.pop("master_user", None) == got.master
            assert want.get("acl_user", got.name) == got.acl_user
            shown = {name: want[name] for name in "xyzuo" if name in want}
            assert shown == got.fields, (login, password)
