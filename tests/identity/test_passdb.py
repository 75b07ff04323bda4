"""Who is let in, and as whom."""

import logging
from pathlib import Path

import pytest

from sharefs.config import Template
from sharefs.errors import Code, Place, SharingError
from sharefs.identity import schemes
from sharefs.identity.login_rules import in_networks
from sharefs.identity.model import Verified
from sharefs.identity.passdb import AuthFailed, PasswordDatabase
from sharefs.identity.settings import Database, IdentitySettings, Result, Skip
from sharefs.identity.usernames import NameRules


def t(text: str) -> Template:
    return Template.parse(text)


def file_db(path: Path | str, **more: object) -> Database:
    return Database("passwd-file", path=t(str(path)), place=Place("c", 3), **more)  # type: ignore[arg-type]  # each test names fields of its own


def passdb(*databases: Database, **settings: object) -> PasswordDatabase:
    names = NameRules(format=t("%{user | lower}"), master_separator="*")
    return PasswordDatabase(IdentitySettings(passdbs=databases, names=names, **settings))  # type: ignore[arg-type]  # each test names settings of its own


def refusal(database: PasswordDatabase, login: str, password: str = "pw", **more: str) -> str:
    with pytest.raises(AuthFailed) as caught:
        database.verify(login, password, **more)  # type: ignore[arg-type]  # remote and authorize are texts
    assert caught.value.code is Code.NO_PERMISSION
    return caught.value.detail


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(
        "alice:{PLAIN}pw:1:1::/a::userdb_acl_groups=ops theme=dark\n"
        "bob:{PLAIN}pw\n"
        "local:{PLAIN}pw::::::allow_nets=192.0.2.0/24,2001:db8::/32\n"
        "open:::::::nopassword\n"
        "mixed:{PLAIN}pw::::::nopassword\n"
        "empty:\n"
        "closed:{PLAIN}pw::::::nologin reason=moved\n"
        "failing:{PLAIN}pw::::::fail\n"
        "alias:{PLAIN}pw::::::user=Bob\n"
        "part:{PLAIN}pw::::::domain=ex.org\n"
        "nick@ex.org:{PLAIN}pw::::::username=real\n"
        "evil:{PLAIN}pw::::::user=../../root\n"
        "broken:{ROT13}cj\n"
        "templated:{PLAIN}pw::::::userdb_mail_path=/m/%{user}/%{remote_ip}\n"
    )
    return path


def test_the_right_password(users_file: Path) -> None:
    got = passdb(file_db(users_file)).verify("alice", "pw")
    assert got == Verified("alice", None, {"userdb_acl_groups": "ops", "theme": "dark"})
    assert passdb(file_db(users_file)).verify("ALICE", b"pw").user == "alice"


REFUSED = [
    ("wrong password", "alice", "no", "password mismatch"),
    ("unknown user", "zoe", "pw", "zoe is not in"),
    ("no password stored", "empty", "", "no password is stored"),
    ("nopassword and a password", "mixed", "no", "password mismatch"),
    ("nologin", "closed", "pw", "nologin is set: moved"),
    ("fail", "failing", "pw", "fail is set"),
    ("NUL in the password", "alice", "pw\0", "NUL"),
    ("long password", "alice", "p" * 5000, "too long"),
    ("hostile name", "../alice", "pw", "slash"),
    ("not a local address", "local", "pw", "allow_nets"),
    ("master without master passdb", "alice*root", "pw", "no passdb has master"),
]


@pytest.mark.parametrize(("login", "password", "said"), [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])  # fmt: skip
def test_refusals_are_one_kind_with_the_reason_in_the_detail(
    users_file: Path, login: str, password: str, said: str
) -> None:
    assert said in refusal(passdb(file_db(users_file)), login, password)


def test_a_hostile_name_is_safe_to_log(users_file: Path) -> None:
    with pytest.raises(AuthFailed) as caught:
        passdb(file_db(users_file)).verify("a\nb\udcff" * 999, "pw")
    assert caught.value.user.isprintable()
    assert caught.value.detail.isprintable()
    assert len(caught.value.user) < 400


def test_no_reason_tells_the_password(users_file: Path) -> None:
    assert "s3cret" not in refusal(passdb(file_db(users_file)), "alice", "s3cret")


@pytest.mark.parametrize(
    ("remote", "networks", "want"),
    [
        ("192.0.2.7", "192.0.2.0/24", True),
        ("192.0.3.7", "192.0.2.0/24", False),
        ("192.0.2.7", "10.0.0.1, 192.0.2.7", True),
        ("::ffff:192.0.2.7", "192.0.2.0/24", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db9::1", "2001:db8::/32", False),
        ("fe80::1%eth0", "fe80::/10", True),
        ("192.0.2.7", "192.0.2.5/24", True),
        ("192.0.2.7", "::/0", False),
        ("192.0.2.7", "", False),
        ("192.0.2.7", "nonsense,192.0.2.0/99", False),
        ("nonsense", "0.0.0.0/0", False),
        ("", "local", True),
        ("", "0.0.0.0/0", False),
        ("192.0.2.7", "local", False),
    ],
)
def test_allow_nets(remote: str, networks: str, want: bool) -> None:
    assert in_networks(remote, networks) is want


def test_allow_nets_lets_in(users_file: Path) -> None:
    got = passdb(file_db(users_file)).verify("local", "pw", remote="192.0.2.9")
    assert got == Verified("local")


def test_nopassword_takes_anything(users_file: Path) -> None:
    assert passdb(file_db(users_file)).verify("open", "whatever") == Verified("open")


def test_nopassword_beside_a_password_has_no_effect_and_is_said(
    users_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert passdb(file_db(users_file)).verify("mixed", "pw") == Verified("mixed")
    assert f"{users_file}:5: nopassword has no effect" in caplog.text


def test_renaming(users_file: Path) -> None:
    database = passdb(file_db(users_file))
    assert database.verify("alias", "pw").user == "bob"
    assert database.verify("part", "pw").user == "part@ex.org"
    assert database.verify("nick@ex.org", "pw").user == "real@ex.org"
    with pytest.raises(SharingError) as caught:
        database.verify("evil", "pw")
    assert caught.value.code is Code.INVALID
    assert "slash" in caught.value.detail


def test_fields_are_templates_of_the_login(users_file: Path) -> None:
    got = passdb(file_db(users_file)).verify("templated", "pw", remote="192.0.2.9")
    assert got.fields == {"userdb_mail_path": "/m/templated/192.0.2.9"}


def test_defaults_and_overrides(users_file: Path) -> None:
    database = file_db(
        users_file,
        defaults={"theme": t("light"), "lang": t("de")},
        overrides={"allow_nets": t("local"), "userdb_uid": t("45%{user | substr(3)}")},
    )
    got = passdb(database).verify("alice", "pw")
    assert got.fields["theme"] == "dark"
    assert got.fields["lang"] == "de"
    assert got.fields["userdb_uid"] == "45ce"
    assert "allow_nets" in refusal(passdb(database), "alice", remote="192.0.2.1")


def test_a_broken_stored_password_is_trouble_and_not_a_mismatch(
    users_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SharingError) as caught:
        passdb(file_db(users_file)).verify("broken", "pw")
    assert caught.value.code is Code.UNAVAILABLE
    assert f"{users_file}:13" in caught.value.detail
    assert "ROT13" in caplog.text


def test_the_next_database_is_asked(users_file: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.write_text("alice:{PLAIN}other\nzoe:{PLAIN}pw\n")
    both = passdb(file_db(users_file), file_db(second))
    assert both.verify("zoe", "pw").user == "zoe"
    assert both.verify("alice", "other").user == "alice"
    assert refusal(both, "alice", "third").count("mismatch") == 2


def test_a_database_that_is_away_never_looks_like_a_wrong_password(
    users_file: Path, tmp_path: Path
) -> None:
    both = passdb(file_db(tmp_path / "gone"), file_db(users_file))
    assert both.verify("alice", "pw").user == "alice"
    with pytest.raises(SharingError) as caught:
        both.verify("alice", "wrong")
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.retryable


def test_an_unimplemented_driver_is_away(users_file: Path) -> None:
    sql = Database("sql", place=Place("c", 8))
    assert passdb(sql, file_db(users_file)).verify("alice", "pw").user == "alice"
    with pytest.raises(SharingError, match=r"sql at c:8.*not implemented"):
        passdb(sql).verify("alice", "pw")


def test_denied_users(users_file: Path, tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.write_text("bob\n")
    database = passdb(file_db(denied, deny=True), file_db(users_file))
    assert database.verify("alice", "pw").user == "alice"
    assert "the user is denied" in refusal(database, "bob")
    denied.unlink()
    with pytest.raises(SharingError) as caught:
        database.verify("alice", "pw")
    assert caught.value.code is Code.UNAVAILABLE, "a missing list of denied users lets nobody in"
    unknown = Database("sql", deny=True)
    with pytest.raises(SharingError):
        passdb(unknown, file_db(users_file)).verify("alice", "pw")


def test_static() -> None:
    fields = {"password": t("{PLAIN}pw"), "userdb_home": t("/h/%{user}")}
    database = passdb(Database("static", scheme="PLAIN", fields=fields))
    assert database.verify("anybody", "pw") == Verified(
        "anybody", None, {"userdb_home": "/h/anybody"}
    )
    refusal(database, "anybody", "no")
    refusal(passdb(Database("static", scheme="PLAIN")), "anybody", "")
    free = Database("static", fields={"nopassword": t("yes")})
    assert passdb(free).verify("anybody", "x").user == "anybody"


def test_filters(users_file: Path) -> None:
    only = file_db(users_file, username_filter=("a*", "!al*"))
    assert "no passdb applies" in refusal(passdb(only), "alice")
    assert "no passdb applies" in refusal(passdb(only), "bob")
    assert passdb(file_db(users_file, username_filter=("a*",))).verify("alice", "pw")
    login_only = passdb(file_db(users_file, mechanisms=("LOGIN",)))
    assert "no passdb applies" in refusal(login_only, "alice")
    assert login_only.verify("alice", "pw", mechanism="login").user == "alice"


def test_a_password_for_everybody_and_then_who_exists(users_file: Path) -> None:
    first = Database(
        "static", scheme="PLAIN", fields={"password": t("masterpw")}, on_success=Result.CONTINUE
    )
    database = passdb(first, file_db(users_file))
    assert database.verify("alice", "masterpw").fields["theme"] == "dark"
    refusal(database, "zoe", "masterpw")
    refusal(database, "alice", "no")


def test_skipping(users_file: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.write_text("alice:{PLAIN}x::::::colour=red\n")
    first = file_db(users_file, on_success=Result.CONTINUE_OK)
    got = passdb(first, file_db(second)).verify("alice", "pw")
    assert got.fields["colour"] == "red"
    got = passdb(first, file_db(second, skip=Skip.IF_FOUND)).verify("alice", "pw")
    assert "colour" not in got.fields


@pytest.fixture
def masters_file(tmp_path: Path) -> Path:
    path = tmp_path / "masters"
    path.write_text(
        "root:{PLAIN}mpw::::::userdb_namespace/shared/disabled=yes userdb_acl_user=%{auth_user}\n"
        "jump:{PLAIN}mpw::::::login_user=bob\n"
    )
    return path


def test_a_master_logs_in_as_somebody(users_file: Path, masters_file: Path) -> None:
    database = passdb(file_db(masters_file, master=True), file_db(users_file))
    got = database.verify("alice*root", "mpw")
    assert (got.user, got.master) == ("alice", "root")
    assert got.fields["userdb_namespace/shared/disabled"] == "yes"
    assert got.fields["userdb_acl_user"] == "root"
    assert database.verify("root", "mpw", authorize="alice") == got
    assert database.verify("zoe*root", "mpw").user == "zoe", "whether zoe exists is the userdb's"
    assert database.verify("alice*jump", "mpw").user == "bob"


def test_masters_are_nobody_on_their_own_and_users_are_no_masters(
    users_file: Path, masters_file: Path
) -> None:
    database = passdb(file_db(masters_file, master=True), file_db(users_file))
    refusal(database, "root", "mpw")
    refusal(database, "alice*root", "pw")
    refusal(database, "alice*bob", "pw")
    refusal(database, "bob", "pw", authorize="alice")


def test_a_master_may_have_to_name_a_user_that_exists(users_file: Path, masters_file: Path) -> None:
    masters = file_db(masters_file, master=True, on_success=Result.CONTINUE)
    database = passdb(masters, file_db(users_file))
    got = database.verify("alice*root", "mpw")
    assert (got.user, got.master, got.fields["theme"]) == ("alice", "root", "dark")
    refusal(database, "zoe*root", "mpw")
    assert "nologin" in refusal(database, "closed*root", "mpw")


def test_an_unknown_user_costs_what_a_known_one_costs(
    users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not measured but counted: the same number of hashes, of schemes the file really has."""
    users_file.write_text(
        "".join(f"u{n}:{{SSHA}}mjP8rw53tWe9ycyhw6cg6H3s5J/wi4vh\n" for n in range(9))
    )
    checked: list[str] = []
    verify = schemes.verify

    def counting(password: bytes, stored: str, *, default: str = "CRYPT") -> bool:
        checked.append(stored)
        return verify(password, stored, default=default)

    monkeypatch.setattr(schemes, "verify", counting)
    database = passdb(file_db(users_file))
    refusal(database, "u1", "no")
    known = list(checked)
    refusal(database, "stranger", "no")
    assert checked[len(known) :] == known
    users_file.write_text("# nobody yet\n")
    checked.clear()
    refusal(database, "stranger", "no")
    assert len(checked) == 1


def test_a_changed_password_counts_at_once(users_file: Path) -> None:
    database = passdb(file_db(users_file))
    assert database.verify("bob", "pw")
    users_file.write_text("bob:{PLAIN}new\n")
    refusal(database, "bob", "pw")
    assert database.verify("bob", "new")


def test_logins_are_logged_without_passwords(
    users_file: Path, masters_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        passdb(file_db(masters_file, master=True)).verify("alice*root", "mpw")
    assert "root" in caplog.text
    assert "mpw" not in caplog.text
