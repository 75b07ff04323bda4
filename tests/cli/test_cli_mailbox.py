"""`sharefs mailbox` and `sharefs map` over the small host, as root for users."""

import os
import stat
from pathlib import Path

import pytest

from sharefs.cli._common.output import printable, render
from sharefs.rights import Rights
from tests.account.world import SHARED_GID, UIDS, World, append
from tests.cli.command import Shell

pytestmark = pytest.mark.superuser


def test_a_mailbox_from_making_to_deleting(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u bob -s Projects Projects/2026")
    assert shell.ok("mailbox list -u bob P*").lines == ["Projects", "Projects/2026"]
    assert shell.ok("mailbox list -u bob -s").lines == ["Projects", "Projects/2026", "Sent"]
    status = host.maildir("bob", ".Projects").stat()
    assert (status.st_uid, status.st_gid) == (UIDS["bob"], SHARED_GID)
    shell.ok("mailbox rename -u bob -s Projects Old")
    assert shell.ok("mailbox list -u bob -s").lines == ["Old", "Old/2026", "Sent"]
    shell.ok("mailbox delete -u bob -r -s Old")
    assert shell.ok("mailbox list -u bob O*").lines == []
    assert shell.ok("mailbox list -u bob -s").lines == ["Sent"]


def test_deleting_a_level_of_hierarchy_takes_what_is_below(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u bob -s C/B C/B/A Cc")
    assert shell.run("mailbox delete -u bob C").status == os.EX_NOUSER
    shell.ok("mailbox delete -u bob -r -s C")
    assert shell.ok("mailbox list -u bob --all-levels C*").lines == ["Cc"]
    assert shell.ok("mailbox list -u bob -s C*").lines == ["Cc"]
    assert shell.run("mailbox delete -u bob -r C").status == os.EX_NOUSER


def test_sharing_a_level_of_hierarchy_shares_what_is_below(shell: Shell) -> None:
    shell.ok("mailbox create -u alice C/B C/D")
    shell.ok("share add -u alice --recursive C bob")
    assert shell.ok("mailbox list -u bob shared/*").lines == [
        "shared/alice/C/B",
        "shared/alice/C/D",
    ]
    done = shell.run("acl apply -u alice --recursive --yes C")
    assert done.status == os.EX_NOUSER, "it has no ACL that could be given to those"


def test_an_entry_that_makes_no_user_does_not_stop_the_others(shell: Shell, host: World) -> None:
    users = host.top / "users"
    users.write_text(f"aaa:{{PLAIN}}x:0:0::{host.home('bob')}::\n" + users.read_text())
    shell.ok("mailbox create -u bob Work")
    done = shell.run("mailbox list -A Work")
    assert done.status == os.EX_UNAVAILABLE
    assert done.lines == ["bob Work"]
    assert done.err.startswith("sharefs(aaa): user aaa: uid 0")


def test_a_closed_home_is_said_and_said_once(shell: Shell, host: World) -> None:
    os.chown(host.home("bob"), 0, 0)
    host.home("bob").chmod(0o700)
    done = shell.run("mailbox list -u bob")
    assert done.err.count("sharefs(bob): namespace inbox cannot be listed") == 1
    assert "lacks x for other (mode 0700, owner 0:0)" in done.err
    done = shell.run("share add -u bob --create Work alice")
    assert done.status == os.EX_TEMPFAIL
    assert done.err.count("lacks x for other") == 1


def test_one_refusal_does_not_stop_the_others(shell: Shell) -> None:
    done = shell.run("mailbox create -u bob A a//b B A")
    assert done.status == os.EX_CANTCREAT
    assert "empty hierarchy level" in done.err
    assert shell.ok("mailbox list -u bob %").lines == ["INBOX", "A", "B", "Drafts", "Sent"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("create -u bob ../x", os.EX_UNAVAILABLE),
        ("create -u bob ~root", os.EX_UNAVAILABLE),
        ("create -u bob INBOX/" + "x" * 300, os.EX_UNAVAILABLE),
        ("delete -u bob Nope", os.EX_NOUSER),
        ("delete -u bob INBOX", os.EX_UNAVAILABLE),
        ("rename -u bob Nope X", os.EX_NOUSER),
        ("status -u bob messages Nope", os.EX_NOUSER),
        ("status -u bob frob INBOX", 2),
        ("path -u bob shared/../x", os.EX_NOUSER),
        ("create -u bob shared/alice/x", os.EX_NOPERM),
    ],
)
def test_refusals(shell: Shell, words: str, status: int) -> None:
    done = shell.run(f"mailbox {words}")
    assert done.status == status
    assert done.out == ""
    assert done.err
    assert "Traceback" not in done.err


def test_status(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u bob Work")
    host.as_user("bob", lambda account: append(account, "Work"))
    line = shell.ok(["mailbox", "status", "-u", "bob", "messages unseen vsize", "Work"]).out
    assert line == "Work messages=1 unseen=1 vsize=24\n"
    record = shell.ok("mailbox status -u bob --json all Work").records[0]
    assert record["uidnext"] == 2
    assert len(record["guid"]) == 32
    assert not list(Path(host.maildir("bob")).glob("**/.root*"))


def test_status_of_a_shared_mailbox_counts_private_flags(shell: Shell, host: World) -> None:
    shell.ok("share add -u alice --create Work bob")
    host.as_user("alice", lambda account: append(account, "Work"))
    words = ["mailbox", "status", "-u", "bob", "messages unseen", "shared/*"]
    assert shell.ok(words).out == "shared/alice/Work messages=1 unseen=1\n"


def test_paths(shell: Shell, host: World) -> None:
    assert shell.ok("mailbox path -u bob Work").out == f"{host.maildir('bob', '.Work')}\n"
    records = shell.ok("mailbox path -u bob -t all --json shared/alice/Work").records
    paths = {record["type"]: record["path"] for record in records}
    assert paths == {
        "mailbox": str(host.maildir("alice", ".Work")),
        "control": str(host.maildir("alice", ".Work")),
        "index": str(host.maildir("alice", ".Work")),
        "private": str(host.home("bob") / "private" / "alice" / ".Work"),
        "acl": str(host.maildir("alice", ".Work")),
    }


def test_permissions_say_what_would_be_made(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u bob Work")
    record = shell.ok("mailbox permissions -u bob --json Work/New").records
    assert record[0] == {
        "for": "files", "mode": "0660", "group": str(SHARED_GID), "reason": "setgid",
        "origin": str(host.maildir("bob")),
    }  # fmt: skip
    before = sorted(os.listdir(host.maildir("bob")))
    host.maildir("bob").chmod(0o2750)
    record = shell.ok("mailbox permissions -u bob --json Work/New").records
    assert [one["mode"] for one in record] == ["0640", "2750"]
    assert sorted(os.listdir(host.maildir("bob"))) == before
    shell.ok("mailbox create -u bob Work/New")
    made = host.maildir("bob", ".Work.New")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made, made / "cur")] == [0o2750] * 2


def test_a_refusal_names_the_mailbox_once(shell: Shell) -> None:
    done = shell.run("mailbox delete -u bob Nowhere")
    assert (done.status, done.err) == (67, "sharefs: Mailbox doesn't exist: Nowhere\n")


def test_a_refused_name_does_not_reach_the_terminal(shell: Shell) -> None:
    done = shell.run(["mailbox", "create", "-u", "bob", "a\x1b[31m"])
    assert done.status == 69
    assert "\x1b" not in done.err


def test_nothing_belongs_to_root(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u bob -s Work")
    shell.ok("mailbox status -u bob all *")
    shell.ok("share add -u bob Work alice")
    everything = [path for home in (host.top / "home").iterdir() for path in home.rglob("*")]
    assert everything
    assert {path.lstat().st_uid for path in everything} == {UIDS["bob"]}


# --- the map ---------------------------------------------------------------------------------


@pytest.fixture
def mapped(shell: Shell) -> Shell:
    shell.ok("share add -u alice --create Work bob")
    shell.ok("share add -u carol --create Plans bob")
    return shell


def test_map_list(mapped: Shell) -> None:
    assert mapped.ok("map list -u alice --json").records == [{"owner": "alice", "with": "user bob"}]
    assert mapped.ok("map list -u bob --to").lines == ["Owner With", "alice bob", "carol bob"]
    assert [one["owner"] for one in mapped.ok("map list -A --json").records] == ["alice", "carol"]


def test_map_check_and_rebuild(mapped: Shell, host: World) -> None:
    assert mapped.ok("map check --all").status == 0
    host.map_path.write_text(
        "shared/shared-boxes/user/dave/alice\n1\nshared/shared-boxes/user/bob/ghost\n1\n"
    )
    want = [
        ("alice", "missing", "user bob"), ("alice", "stale", "user dave"),
        ("carol", "missing", "user bob"), ("ghost", "gone", ""),
    ]  # fmt: skip

    def differences(words: str, status: int) -> list[tuple[str, str, str]]:
        done = mapped.run(words)
        assert done.status == status
        return [(one["owner"], one["state"], one["with"]) for one in done.records]

    assert differences("map check --all --json", 1) == want
    before = host.map_path.read_bytes()
    assert differences("map rebuild --all --dry-run --json", 0) == want
    assert host.map_path.read_bytes() == before
    assert differences("map rebuild --all --json", 0) == want
    assert mapped.ok("map check --all").status == 0
    assert sorted(host.map_path.read_text().splitlines()[::2]) == [
        "shared/shared-boxes/user/bob/alice", "shared/shared-boxes/user/bob/carol",
    ]  # fmt: skip
    assert host.map_path.stat().st_uid in UIDS.values()
    assert host.map_path.stat().st_gid == SHARED_GID


def test_a_lost_map_is_rebuilt(mapped: Shell, host: World) -> None:
    host.map_path.unlink()
    assert mapped.ok("mailbox list -u bob shared/*").lines == []
    mapped.ok("map rebuild --all")
    assert mapped.ok("mailbox list -u bob shared/*").lines == [
        "shared/alice/Work", "shared/carol/Plans",
    ]  # fmt: skip


def test_rights_over_acls_by_hand(mapped: Shell, host: World) -> None:
    """An ACL file that somebody edited counts at once; the map follows when it is rebuilt."""
    host.maildir("alice", ".Work", "dovecot-acl").write_text("user=dave lr\n")
    assert host.account("dave").rights("shared/alice/Work").rights == Rights.parse("lr")
    assert mapped.run("map check -u alice").status == 1


# --- output ----------------------------------------------------------------------------------


def test_names_cannot_write_to_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202e") == "a\\x1b[2Jb\\x0ac\u202e"
    text = render(["Name"], [{"Name": "a\nb"}], "table")
    assert text == "Name\na\\x0ab\n"


def test_nothing_to_print() -> None:
    assert render(["A", "B"], [], "table") == "A B\n"
    assert render(["A", "B"], [], "flow") == ""
    assert render(["A", "B"], [], "json") == "[]\n"
