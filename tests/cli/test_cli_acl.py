"""`sharefs acl` and `sharefs share`: as root for users, who own everything that comes of it."""

import os
from pathlib import Path

import pytest

from sharefs.acl import Mode, Update
from sharefs.cli.acl import update_of
from sharefs.errors import SharingError
from sharefs.identifiers import Identifier
from sharefs.rights import Rights
from tests.account.world import SHARED_GID, UIDS, World
from tests.cli.command import Shell
from tests.support.become import Identity

pytestmark = pytest.mark.superuser


@pytest.fixture(autouse=True)
def work(shell: Shell) -> None:
    shell.ok("mailbox create -u alice Work")


def lines(host: World, name: str = ".Work") -> list[str]:
    return host.maildir("alice", name, "dovecot-acl").read_text().splitlines()


def root_owned(top: Path) -> list[Path]:
    return [path for home in top.iterdir() for path in home.rglob("*") if path.lstat().st_uid == 0]


CHANGES = [  # words after `acl`, the lines of the file
    ("set -u alice Work user=bob lookup read", ["user=bob lr"]),
    ("set -u alice Work user=bob lrs", ["user=bob lrs"]),
    ("set -u alice Work user=bob reader", ["user=bob lrs"]),
    ("set -u alice Work user=bob lookup :custom", ["user=bob l :custom"]),
    ("set -u alice Work -user=bob read", ["-user=bob r"]),
    ("set -u alice Work user=bob lookup -read", ["user=bob l", "-user=bob r"]),
    ("set -u alice Work $staff lr", ["group=staff lr"]),
    ("set -u alice Work !$staff lr", ["group-override=staff lr"]),
    ("add -u alice Work user=bob insert", ["user=bob i"]),
    ("set -u alice Work anyone lookup", ["anyone l"]),
]


@pytest.mark.parametrize(("words", "want"), CHANGES)
def test_changes(shell: Shell, host: World, words: str, want: list[str]) -> None:
    shell.ok(f"acl {words}")
    assert lines(host) == want
    assert not root_owned(host.top / "home")
    assert host.maildir("alice", ".Work", "dovecot-acl").stat().st_uid == UIDS["alice"]


def test_a_sequence_of_changes(shell: Shell, host: World) -> None:
    shell.ok("acl set -u alice Work user=bob lookup read")
    shell.ok("acl add -u alice Work user=bob write -expunge")
    assert lines(host) == ["user=bob lrw", "-user=bob e"]
    shell.ok("acl remove -u alice Work user=bob read")
    assert lines(host) == ["user=bob lw", "-user=bob e"]
    shell.ok("acl delete -u alice Work -user=bob")
    assert lines(host) == ["user=bob lw"]
    shell.ok("acl delete -u alice Work user=bob")
    assert lines(host) == []


@pytest.mark.parametrize(
    "words",
    ["Work bob lr", "Work usr=bob lr", "Work user=bob frobnicate", "Work -user=bob -read",
     "Work user=bob lrZ", "Work user= lr"],
)  # fmt: skip
def test_bad_words_change_nothing(shell: Shell, host: World, words: str) -> None:
    done = shell.run(f"acl set -u alice {words}")
    assert done.status == os.EX_DATAERR
    assert done.err.startswith("sharefs: ")
    assert not host.maildir("alice", ".Work", "dovecot-acl").exists()


def test_get_in_every_format(shell: Shell) -> None:
    shell.ok("acl set -u alice Work user=bob lookup read")
    assert shell.ok("acl get -u alice Work").out == (
        "ID       Global Rights\nuser=bob        lookup read\n"
    )
    assert shell.ok("acl get -u alice -f tab Work").out == (
        "ID\tGlobal\tRights\nuser=bob\t\tlookup read\n"
    )
    assert shell.ok("acl get -u alice -f flow Work").out == (
        "ID=user=bob Global= Rights=lookup read\n"
    )
    assert shell.ok("acl get -u alice -f pager Work").out == (
        "ID: user=bob\nGlobal: \nRights: lookup read\n"
    )
    assert shell.ok("acl get -u alice --json Work").records == [
        {"id": "user=bob", "global": "", "rights": "lookup read"}
    ]


def test_everybody(shell: Shell) -> None:
    shell.run("mailbox create -A Common")
    records = shell.ok("acl rights -A --json Common").records
    assert [record["username"] for record in records] == list(UIDS)


def test_a_mask(shell: Shell) -> None:
    done = shell.ok("acl rights -u al* --json Work")
    assert [record["username"] for record in done.records] == ["alice"]
    assert shell.run("acl rights -u zz* Work").status == os.EX_NOUSER


def test_one_user_in_trouble_does_not_stop_the_others(shell: Shell) -> None:
    done = shell.run("acl rights -A --json Work")
    assert done.status == os.EX_NOUSER  # bob, carol and dave have no Work
    assert [record["username"] for record in done.records] == ["alice"]
    assert "sharefs(bob): " in done.err


def test_rights(shell: Shell) -> None:
    shell.ok("acl set -u alice Work user=bob lookup read")
    assert shell.ok("acl rights -u bob shared/alice/Work").lines == ["Rights", "lookup read"]
    own = shell.ok("acl rights -u alice Work").lines[1]
    assert own == (
        "lookup read write write-seen write-deleted insert post expunge create delete admin"
    )
    for missing in ("shared/alice/Nope", "shared/nobody/Work", "Nope"):
        done = shell.run(f"acl rights -u bob {missing}")
        assert (done.status, done.out) == (os.EX_NOUSER, "")
        assert done.err == f"sharefs: Mailbox doesn't exist: {missing}\n"


def test_an_unknown_user(shell: Shell) -> None:
    assert shell.run("acl get -u nobody Work").status == os.EX_NOUSER


def test_locking_out_needs_force(shell: Shell, host: World) -> None:
    done = shell.run("acl set -u alice Work owner lookup")
    assert done.status == os.EX_UNAVAILABLE
    assert "--force" in done.err
    shell.ok("acl set -u alice --force Work owner lookup")
    assert lines(host) == ["owner l"]
    shell.ok("acl set -u alice Work owner all")  # root mends it


def test_debug_ends_with_what_denies(shell: Shell, host: World) -> None:
    done = shell.run("acl debug -u bob shared/alice/Work")
    assert done.status == 1
    assert "bob lacks the right lookup" in done.out
    assert "sharing map does not say" in done.out
    shell.ok("acl set -u alice Work user=bob lookup read")
    assert shell.ok("acl debug -u bob shared/alice/Work").status == 0
    host.maildir("alice").chmod(0o700)
    done = shell.run("acl debug -u bob shared/alice/Work")
    assert done.status == 1
    assert f"{host.maildir('alice')} lacks" in done.out
    assert "remedy" in done.out


def test_recalc(shell: Shell, host: World) -> None:
    shell.ok("acl set -u alice Work user=bob lookup")
    host.map_path.unlink()
    done = shell.ok("acl recalc -u alice")
    assert done.out == "alice: added to the sharing map: user bob\n"
    assert host.map_path.stat().st_uid == UIDS["alice"]


# --- sharefs share ---------------------------------------------------------------------------


def test_a_share_from_end_to_end(shell: Shell, host: World) -> None:
    done = shell.ok("share add -u alice Work bob --role reader")
    assert done.out == "Work: user=bob has lrs\n"
    assert shell.ok("mailbox list -u bob shared/*").lines == ["shared/alice/Work"]
    assert shell.ok("share list -u alice --json").records == [
        {"mailbox": "Work", "with": "user=bob", "rights": "lrs", "role": "reader"}
    ]
    assert shell.ok("share list -u bob --to --json").records == [
        {"mailbox": "shared/alice/Work", "owner": "alice", "rights": "lrs", "role": "reader"}
    ]
    assert shell.ok("share add -u alice Work bob --role reader").out.endswith("(no change)\n")
    assert shell.ok("share remove -u alice Work bob").out == "Work: user=bob has nothing\n"
    assert shell.ok("mailbox list -u bob shared/*").lines == []
    assert host.map_path.read_text() == ""
    assert not root_owned(host.top / "home")


ROLES = [("reader", "lrs"), ("contributor", "lrsip"), ("editor", "lrswtipe"), ("manager", "all")]


@pytest.mark.parametrize(("role", "letters"), ROLES)
def test_roles(shell: Shell, host: World, role: str, letters: str) -> None:
    shell.ok(f"share add -u alice Work carol --role {role}")
    got = host.account("carol").rights("shared/alice/Work").rights
    assert got == Rights.parse_names([letters])


def test_sharing_a_tree(shell: Shell) -> None:
    shell.ok("mailbox create -u alice Work/Sub Work/Sub/Deep Workshop")
    shell.ok("share add -u alice --recursive Work bob")
    assert shell.ok("mailbox list -u bob shared/*").lines == [
        "shared/alice/Work", "shared/alice/Work/Sub", "shared/alice/Work/Sub/Deep",
    ]  # fmt: skip
    shell.ok("share remove -u alice --recursive Work/Sub bob")
    assert shell.ok("mailbox list -u bob shared/*").lines == ["shared/alice/Work"]


def test_making_the_mailbox_along_with_the_share(shell: Shell) -> None:
    assert shell.run("share add -u alice New bob").status == os.EX_NOUSER
    shell.ok(["share", "add", "-u", "alice", "--create", "New", "bob", "--rights", "lookup r"])
    assert shell.ok("mailbox list -u bob shared/*").lines == ["shared/alice/New"]


def test_taking_back_takes_negative_rights_too(shell: Shell, host: World) -> None:
    shell.ok("acl set -u alice Work user=bob lookup -read")
    shell.ok("share remove -u alice Work bob")
    assert lines(host) == []


# --- who may act -----------------------------------------------------------------------------


def as_user(shell: Shell, name: str, words: str) -> tuple[int, str, str]:
    """Run a command in a child that is the user, with what it printed."""

    def act() -> tuple[int, str, str]:
        os.environ["USER"] = name
        done = shell.run(words)
        return done.status, done.out, done.err

    user = shell.world.user(name)
    return Identity(user.uid, user.gid, user.gids).run(act)


def test_users_act_for_themselves_only(shell: Shell, host: World) -> None:
    status, out, err = as_user(shell, "alice", "share add Work bob")
    assert (status, out, err) == (0, "Work: user=bob has lrs\n", "")
    status, out, err = as_user(shell, "bob", "acl get -u alice Work")
    assert status == os.EX_NOPERM
    assert "only root can act for alice" in err
    status, out, err = as_user(shell, "bob", "acl set shared/alice/Work user=bob all")
    assert status == os.EX_NOPERM
    assert lines(host) == ["user=bob lrs"]


@pytest.mark.parametrize("words", ["share add -u alice Work {}", "acl set -u alice Work user={} l"])
def test_a_share_with_nobody_is_refused(shell: Shell, host: World, words: str) -> None:
    """Slips of the pen, and logins with or without the domain: entries that never match."""
    users = host.top / "users"
    users.write_text(users.read_text().replace("dave:", "dave@ex.org:"))
    for name, hint in (
        ("zoe", "no user database knows zoe; until"),
        ("bob@ex.org", "no user database knows bob@ex.org; bob exists: write that"),
        ("dave", "no user database knows dave; there is dave@ex.org"),
        ("Bob", "Bob logs in as bob, which user=Bob does not match: write that"),
    ):
        done = shell.run(words.format(name))
        assert (done.status, done.out) == (os.EX_NOUSER, "")
        assert done.err.startswith(f"sharefs: {hint}")
        assert "--allow-unknown" in done.err
        assert not any(shell.ok("acl get -u alice --json Work").records), "nothing is done"
        command, _, rest = words.partition(" -u ")
        assert shell.run(f"{command} --allow-unknown -u {rest.format(name)}").status == 0
        assert [line.split()[0] for line in lines(host)] == [f"user={name}"], "it is done"
        assert shell.ok(f"acl delete -u alice Work user={name}"), "and undone without a word"


def as_login(shell: Shell, name: str, words: str) -> tuple[int, str, str]:
    """As as_user, but with the groups of a shell: mail_access_groups are not among them."""

    def act() -> tuple[int, str, str]:
        os.environ["USER"] = name
        done = shell.run(words)
        return done.status, done.out, done.err

    user = shell.world.user(name)
    return Identity(user.uid, user.gid, (user.gid,)).run(act)


@pytest.mark.parametrize("words", ["mailbox list", "acl get shared/alice/Work", "share list --to="])
def test_a_login_without_the_mail_processes_groups_is_told_so(
    shell: Shell, host: World, words: str
) -> None:
    shell.ok("mailbox create -u bob Own")
    shell.ok("share add -u alice Work bob")
    status, out, err = as_login(shell, "bob", words)
    if words == "mailbox list":
        assert status == 0
        assert "Own\n" in out, "what can be listed is"
    assert f"without the group {SHARED_GID} (gid {SHARED_GID}" in err
    assert "`sudo sharefs ... -u bob`" in err
    assert as_user(shell, "bob", words)[2].count("sudo") == 0


def test_a_login_is_not_bothered_with_groups_that_nothing_needed(shell: Shell) -> None:
    shell.ok("share add -u alice Work bob")
    assert as_login(shell, "alice", "acl get Work")[2] == ""


def test_root_must_say_whose(shell: Shell) -> None:
    done = shell.run("mailbox list")
    assert done.status == 2
    assert "-u USER" in done.err


# --- words to updates ------------------------------------------------------------------------


BOB = Identifier.parse_cli("user=bob")
NOT_BOB = Identifier.parse_cli("-user=bob")


def test_words_become_updates() -> None:
    lr, s = Rights.parse("lr"), Rights.parse("s")
    assert update_of(BOB, Mode.REPLACE, ("lr", "-s")) == Update.whole(BOB.identifier, lr, s)
    negative = Update.of(BOB.identifier, Mode.ADD, lr, negative=True)
    assert update_of(NOT_BOB, Mode.ADD, ("lr",)) == negative
    assert update_of(BOB, Mode.REMOVE, ("lr",)) == Update.of(BOB.identifier, Mode.REMOVE, lr)
    with pytest.raises(SharingError):
        update_of(NOT_BOB, Mode.ADD, ("-s",))
