"""Who somebody is: ids, home, groups and where each came from, for every driver."""

import os
from pathlib import Path

import pytest

from sharefs.config.variables import Form, Template
from sharefs.errors import Code, Place, SharingError
from sharefs.identity import groups
from sharefs.identity.groups import IdRange
from sharefs.identity.model import Group, UnknownUser, Verified
from sharefs.identity.settings import Database, IdentitySettings, Result, Skip, Sourced
from sharefs.identity.userdb import UserDatabase
from sharefs.identity.usernames import NameRules
from tests.support.become import run_as

CONF = "sharefs.conf:7"


def t(text: str) -> Template:
    return Template.parse(text)


def sourced(text: str) -> Sourced:
    return Sourced(t(text), CONF)


def file_db(path: Path | str, **more: object) -> Database:
    return Database("passwd-file", path=t(str(path)), place=Place("c", 3), **more)  # type: ignore[arg-type]  # each test names fields of its own


def users_in(*userdbs: Database, **settings: object) -> UserDatabase:
    return UserDatabase(IdentitySettings(userdbs=userdbs, **settings))  # type: ignore[arg-type]  # each test names settings of its own


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(
        "# comment\n"
        "\n"
        "alice:{PLAIN}x:45001:45100:Alice:/home/alice::userdb_acl_groups=ops,dev "
        "userdb_mail_access_groups=46000,46001 userdb_mail_path=~/Mail/%{user} allow_nets=::1\n"
        "bob:{PLAIN}x:45002:45100::/home/bob\r\n"
        "carol:{PLAIN}x\n"
        "dave:{PLAIN}x:0:45100::/home/dave::\n"
        "erin:{PLAIN}x:45005:0::/home/erin::\n"
        "frank:{PLAIN}x:nosuchuser:45100::/home/frank::\n"
        "grace:{PLAIN}x:45007:45100::relative/home::\n"
        "heidi:{PLAIN}x:45008:45100::/home/../root::\n"
        "ivan:{PLAIN}x:99999999999:45100::/home/ivan::\n"
        "old:{PLAIN}x:45009:45100::/home/old:::mbox:~/mail\n"
    )
    return path


def test_a_passwd_file_user(users_file: Path) -> None:
    got = users_in(file_db(users_file)).lookup("alice")
    assert (got.name, got.uid, got.gid, got.home) == ("alice", 45001, 45100, Path("/home/alice"))
    assert got.acl_user == "alice"
    assert got.acl_groups == {"ops", "dev"}
    assert got.gids == (45100, 46000, 46001)
    assert got.fields == {"mail_path": "~/Mail/alice"}
    assert got.origins["uid"] == f"{users_file}:3"
    assert got.groups[1].origin == f"mail_access_groups from {users_file}:3"


def test_a_line_with_dos_line_end_and_without_extra_fields(users_file: Path) -> None:
    got = users_in(file_db(users_file)).lookup("bob")
    assert (got.uid, got.home, dict(got.fields)) == (45002, Path("/home/bob"), {})


def test_a_user_without_home_is_a_user(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("bob:x:45002:45100\n")
    users = users_in(file_db(path))
    assert users.lookup("bob").home is None
    assert users.home_of("bob") is None
    assert users.exists("bob")
    with pytest.raises(SharingError, match="has no home"):
        users.lookup("bob").variables().expand(t("%{home}/Maildir"))


def test_the_old_form_of_the_mail_field(users_file: Path) -> None:
    got = users_in(file_db(users_file)).lookup("old")
    assert got.fields == {"mail_location": "mbox:~/mail"}


BROKEN = [
    ("dave", Code.CANNOT, ":6 is the superuser's"),
    ("erin", Code.CANNOT, "gid 0 from"),
    ("frank", Code.INVALID, "names the user 'nosuchuser'"),
    ("grace", Code.INVALID, "'relative/home'"),
    ("heidi", Code.INVALID, "has .."),
    ("ivan", Code.INVALID, "out of range"),
    ("carol", Code.INVALID, "gave no uid; set mail_uid"),
]


@pytest.mark.superuser
@pytest.mark.parametrize(("name", "code", "said"), BROKEN, ids=[row[0] for row in BROKEN])
def test_one_broken_entry_is_explained_and_hurts_nobody_else(
    users_file: Path, name: str, code: Code, said: str
) -> None:
    users = users_in(file_db(users_file))
    with pytest.raises(SharingError) as caught:
        users.lookup(name)
    assert caught.value.code is code
    assert said in caught.value.detail
    assert users.lookup("bob").uid == 45002


def test_defaults_fill_in_and_overrides_win(users_file: Path) -> None:
    database = file_db(
        users_file,
        defaults={"uid": t("45900"), "gid": t("45901"), "home": t("/srv/%{user}")},
        overrides={"home": t("/over/%{user}")},
    )
    users = users_in(database)
    assert (users.lookup("carol").uid, users.lookup("carol").gid) == (45900, 45901)
    assert users.lookup("bob").uid == 45002
    assert users.lookup("bob").home == Path("/over/bob")


def test_overrides_may_refer_to_what_the_databases_said(users_file: Path) -> None:
    database = file_db(
        users_file,
        overrides={"home": t("%{userdb:home}/mail"), "note": t("%{passdb:theme}-%{home}")},
    )
    login = Verified("bob", None, {"theme": "dark", "home": "/not/this"})
    got = users_in(database).lookup("bob", login=login)
    assert got.home == Path("/home/bob/mail")
    assert got.fields["note"] == "dark-/home/bob"


def test_settings_give_what_the_userdb_does_not(users_file: Path) -> None:
    users = users_in(
        file_db(users_file),
        mail_uid=sourced("45900"), mail_gid=sourced("45901"), mail_home=sourced("/h/%{user}"),
    )  # fmt: skip
    got = users.lookup("carol")
    assert (got.uid, got.gid, got.home) == (45900, 45901, Path("/h/carol"))
    assert got.origins == {"uid": CONF, "gid": CONF, "home": CONF}


@pytest.mark.parametrize(
    ("ranges", "permitted"),
    [
        ({}, True),
        ({"uids": IdRange(45002, 0, "first_valid_uid")}, True),
        ({"uids": IdRange(45003, 0, "first_valid_uid")}, False),
        ({"uids": IdRange(1, 45002, "last_valid_uid")}, True),
        ({"uids": IdRange(1, 45001, "last_valid_uid")}, False),
        ({"gids": IdRange(45101, 0, "first_valid_gid")}, False),
        ({"gids": IdRange(1, 45099, "last_valid_gid")}, False),
    ],
)
def test_the_valid_ranges_hold(
    users_file: Path, ranges: dict[str, IdRange], permitted: bool
) -> None:
    users = users_in(file_db(users_file), **ranges)
    if permitted:
        assert users.lookup("bob").uid == 45002
    else:
        with pytest.raises(SharingError) as caught:
            users.lookup("bob")
        assert caught.value.code is Code.CANNOT
        assert next(iter(ranges.values())).names in caught.value.detail


ACCESS = [
    ("configuration only", "46100", "", [46100]),
    ("userdb only", "", "userdb_mail_access_groups=46200", [46200]),
    ("both", "46100,46101", "userdb_mail_access_groups=46200", [46100, 46101, 46200]),
    ("empty field takes all away", "46100", "userdb_mail_access_groups=", []),
    ("one added", "46100", "userdb_mail_access_groups/46200=yes", [46100, 46200]),
    ("one taken away", "46100 46101", "userdb_mail_access_groups/46100=no", [46101]),
    ("a variable", "46%{user | substr(3)}", "", [46100]),
]


@pytest.mark.parametrize(("setting", "field", "want"), [row[1:] for row in ACCESS],
                         ids=[row[0] for row in ACCESS])  # fmt: skip
def test_access_groups(tmp_path: Path, setting: str, field: str, want: list[int]) -> None:
    path = tmp_path / "users"
    path.write_text(f"bob100:x:45002:45100::/h::{field}\n")
    got = users_in(file_db(path), mail_access_groups=sourced(setting)).lookup("bob100")
    assert [group.gid for group in got.groups[1:]] == want
    for group in got.groups[1:]:
        assert group.origin in {
            f"mail_access_groups at {CONF}",
            f"mail_access_groups from {path}:1",
        }


@pytest.mark.parametrize("name", ["nosuchgroup", "0", "99999999999"])
def test_a_group_that_cannot_be_names_the_place(users_file: Path, name: str) -> None:
    users = users_in(file_db(users_file), mail_access_groups=sourced(name))
    with pytest.raises(SharingError) as caught:
        users.lookup("bob")
    assert f"mail_access_groups at {CONF}" in caught.value.detail


def test_a_home_can_be_looked_up_although_groups_are_broken(users_file: Path) -> None:
    users = users_in(file_db(users_file), mail_access_groups=sourced("nosuchgroup"))
    assert users.home_of("bob") == Path("/home/bob")
    assert users.exists("bob")
    assert not users.exists("nobody-here")
    with pytest.raises(UnknownUser):
        users.home_of("nobody-here")


def test_system_users_come_with_their_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    def grouplist(name: str, gid: int) -> list[int]:
        return {"daemon": [46300, gid, 5, 46301]}[name]

    monkeypatch.setattr(os, "getgrouplist", grouplist)
    users = users_in(
        Database("passwd"),
        uids=IdRange(1, 0, "first_valid_uid"), gids=IdRange(1, 46300, "last_valid_gid"),
    )  # fmt: skip
    got = users.lookup("daemon")
    assert (got.uid, got.gid) == (1, 1)
    assert got.gids == (1, 46300, 5), "the group above last_valid_gid is dropped"
    assert got.groups[0].origin == "primary group, passwd"
    assert got.groups[1].origin == "passwd group of daemon"
    assert got.groups[0].name == "daemon"


def test_system_groups_user_of_a_virtual_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users"
    path.write_text("bob:x:45002:45100::/h::userdb_system_groups_user=unixbob\n")
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 46400])
    got = users_in(file_db(path)).lookup("bob")
    assert got.gids == (45100, 46400)
    assert got.groups[1].origin == f"system_groups_user unixbob from {path}:1"
    assert "system_groups_user" not in got.fields


def test_system_groups_user_that_nobody_knows_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users"
    path.write_text("bob:x:45002:45100::/h::userdb_system_groups_user=nosuchuser\n")
    assert users_in(file_db(path)).lookup("bob").gids == (45100,)
    assert f"nosuchuser from {path}:1: this host knows no such user" in caplog.text


def test_groups_of_one_gid_are_one_group_with_both_origins() -> None:
    merged = groups.merge(
        [Group(5, "a", "here")], [Group(5, "a", "there"), Group(6, "b", "x")],
        [Group(5, "a", "here")],
    )  # fmt: skip
    assert merged == (Group(5, "a", "here; there"), Group(6, "b", "x"))


STATIC = Database(
    "static",
    fields={
        "uid": t("45500"),
        "gid": t("45501"),
        "home": t("/srv/%{user | domain}/%{user | username}"),
    },
    place=Place("c", 9),
)


def test_static() -> None:
    got = users_in(STATIC).lookup("bob@ex.org")
    assert (got.uid, got.home) == (45500, Path("/srv/ex.org/bob"))


def test_static_asks_the_passdbs_who_exists(users_file: Path) -> None:
    users = users_in(STATIC, passdbs=(file_db(users_file),))
    assert users.lookup("bob").home == Path("/srv//bob")
    with pytest.raises(UnknownUser):
        users.lookup("zoe")
    assert users.lookup("zoe", login=Verified("zoe")).uid == 45500, "a login was verified"


def test_prefetch_takes_what_the_passdb_said_and_nothing_else(users_file: Path) -> None:
    users = users_in(Database("prefetch"), file_db(users_file))
    fields = {"userdb_uid": "45600", "userdb_gid": "45601", "userdb_home": "/pre"}
    assert users.lookup("bob", login=Verified("bob", None, fields)).uid == 45600
    assert users.lookup("bob").uid == 45002
    assert users.lookup("bob", login=Verified("bob", None, {"other": "x"})).uid == 45002


def test_a_master_login_acts_as_the_master_in_acls(users_file: Path) -> None:
    users = users_in(file_db(users_file))
    fields = {"userdb_namespace/shared/disabled": "yes"}
    got = users.lookup("bob", login=Verified("bob", "root", fields))
    assert (got.name, got.master, got.acl_user) == ("bob", "root", "root")
    assert got.fields == {"namespace/shared/disabled": "yes"}
    fields = {"userdb_acl_user": "bob"}
    assert users.lookup("bob", login=Verified("bob", "root", fields)).acl_user == "bob"
    settings = {"acl_user": sourced("%{user}")}
    users = users_in(file_db(users_file), **settings)
    assert users.lookup("bob", login=Verified("bob", "root")).acl_user == "bob"


def test_acl_groups_from_the_setting_unless_the_userdb_has_them(users_file: Path) -> None:
    users = users_in(file_db(users_file), acl_groups=sourced("staff, all hands,%{user}"))
    assert users.lookup("bob").acl_groups == {"staff", "all hands", "bob"}
    assert users.lookup("alice").acl_groups == {"ops", "dev"}


def test_the_first_database_that_knows_wins(users_file: Path, tmp_path: Path) -> None:
    second = tmp_path / "more"
    second.write_text("bob:x:45999:45100::/other\nzoe:x:45998:45100::/zoe\n")
    users = users_in(file_db(users_file), file_db(second))
    assert users.lookup("bob").uid == 45002
    assert users.lookup("zoe").uid == 45998


def test_results_of_databases_can_be_combined(users_file: Path, tmp_path: Path) -> None:
    second = tmp_path / "more"
    second.write_text("bob:x::::::userdb_acl_groups=extra\n")
    first = file_db(users_file, on_success=Result.CONTINUE_OK)
    assert users_in(first, file_db(second)).lookup("bob").acl_groups == {"extra"}
    skipping = file_db(second, skip=Skip.IF_FOUND)
    assert users_in(first, skipping).lookup("bob").acl_groups == set()
    refusing = file_db(second, on_success=Result.RETURN_FAIL)
    with pytest.raises(UnknownUser):
        users_in(first, refusing).lookup("bob")


def test_a_database_that_is_away_is_not_an_unknown_user(tmp_path: Path, users_file: Path) -> None:
    gone = file_db(tmp_path / "gone")
    with pytest.raises(SharingError) as caught:
        users_in(gone).lookup("bob")
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.retryable
    assert users_in(gone, file_db(users_file)).lookup("bob").uid == 45002
    stopping = file_db(tmp_path / "gone", on_internal_failure=Result.RETURN_FAIL)
    with pytest.raises(SharingError) as caught:
        users_in(stopping, file_db(users_file)).lookup("bob")
    assert caught.value.code is Code.UNAVAILABLE


def test_one_file_per_domain(tmp_path: Path) -> None:
    (tmp_path / "ex.org").write_text("bob:x:45002:45100::/bob\n")
    users = users_in(
        file_db(f"{tmp_path}/%{{user | domain}}", username_format=t("%{user | username}"))
    )
    assert users.lookup("bob@ex.org").uid == 45002
    with pytest.raises(UnknownUser):
        users.lookup("bob@missing.example")
    assert list(users.iterate()) == []
    assert len(users.unlisted) == 1


def test_iteration(users_file: Path) -> None:
    users = users_in(file_db(users_file), file_db(users_file), STATIC)
    names = list(users.iterate())
    assert names[:3] == ["alice", "bob", "carol"]
    assert len(names) == len(set(names)) == 10


@pytest.mark.parametrize("name", ["..", "a/b", "bob\0", "", "b" * 10_000, "bo b"])
def test_hostile_names_are_unknown_users(users_file: Path, name: str) -> None:
    with pytest.raises(UnknownUser) as caught:
        users_in(file_db(users_file)).lookup(name)
    assert "no user can have this name" in caught.value.detail


def test_names_are_normalised(users_file: Path) -> None:
    users = users_in(file_db(users_file), names=NameRules(format=t("%{user | lower}")))
    assert users.lookup("BoB").name == "bob"


def test_extra_fields_in_the_language_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("bob@ex.org:x:45002:45100::/h::userdb_mail=maildir:/m/%d/%Ln userdb_flag\n")
    users = users_in(file_db(path), form=Form.V23)
    assert users.lookup("bob@ex.org").fields == {
        "mail_location": "maildir:/m/ex.org/bob",
        "flag": "yes",
    }
    with pytest.raises(SharingError) as caught:
        users_in(file_db(path)).lookup("bob@ex.org")
    assert f"{path}:1" in caught.value.detail
    assert "%{user" in caught.value.detail, "the remedy"


@pytest.mark.superuser
def test_whoever_is_not_root_serves_himself() -> None:
    def child() -> tuple[int, int, str]:
        got = users_in(Database("static", fields={"home": t("/h/%{user}")})).lookup("bob")
        return got.uid, got.gid, got.origins["uid"]

    assert run_as(45_001, 45_002, (), child) == (45_001, 45_002, "this process, which is not root")
