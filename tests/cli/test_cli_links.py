"""share link|unlink|repair, share list --by|--to|--links, user rename|delete."""

import os

import pytest

from tests.account.world import UIDS, World, append, messages, names
from tests.cli.command import Shell

pytestmark = pytest.mark.superuser


@pytest.fixture(autouse=True)
def work(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u alice Work Work/Sub Work/Sub/Deep Secret")
    shell.ok("share add -u alice --recursive Work bob --role editor")
    host.as_user("alice", lambda account: append(account, "Work/Sub"))


def test_linking_a_tree(shell: Shell, host: World) -> None:
    shell.run("acl delete -u alice Work/Sub/Deep user=bob")
    dry = shell.run("share link -u bob --with-children --dry-run alice Work linked/alice")
    assert [line.split(":")[0] for line in dry.lines] == ["would link"] * 2
    assert "Deep is not shown to bob" in dry.err
    assert "linked/alice" not in names(host.account("bob"))
    done = shell.run("share link -u bob --with-children alice Work linked/alice")
    assert done.status == 0
    root = host.maildir("bob")
    assert os.readlink(root / ".linked.alice.Sub") == str(host.maildir("alice", ".Work.Sub"))
    assert (root / ".linked.alice.Sub").lstat().st_uid == UIDS["bob"]
    assert host.as_user("bob", lambda account: messages(account, "linked/alice/Sub")) == [1]
    again = shell.run("share link -u bob --with-children alice Work linked/alice")
    assert [line.split(":")[0] for line in again.lines] == ["was there"] * 2
    assert shell.ok("share list -u bob --links --json").records == [
        {"link": str(root / ".linked.alice"), "state": "good", "owner": "alice", "missing": 0,
         "target": str(host.maildir("alice", ".Work"))},
        {"link": str(root / ".linked.alice.Sub"), "state": "good", "owner": "alice", "missing": 0,
         "target": str(host.maildir("alice", ".Work.Sub"))},
    ]  # fmt: skip
    shell.ok("share unlink -u bob --with-children linked/alice")
    assert not [path for path in root.iterdir() if path.is_symlink()]
    assert host.maildir("alice", ".Work.Sub", "cur").is_dir()


def test_what_is_not_shared_is_not_linked(shell: Shell, host: World) -> None:
    done = shell.run("share link -u bob alice Secret linked/x")
    assert done.status == os.EX_NOPERM
    assert "sharefs share add -u alice Secret bob" in done.err
    assert shell.run("share link -u bob alice Nope linked/x").status == os.EX_NOUSER
    assert shell.run("share link -u bob nobody Work linked/x").status == os.EX_NOUSER
    assert shell.run("share link -u bob alice Work shared/x").status == os.EX_UNAVAILABLE
    shell.ok("share link -u bob --force alice Secret linked/x")
    # The link gives nothing by itself: the true owner's ACL holds.
    assert shell.run("mailbox status -u bob messages linked/x").status != 0


def test_real_mailboxes_are_never_unlinked(shell: Shell, host: World) -> None:
    done = shell.run("share unlink -u alice Work")
    assert done.status == os.EX_NOUSER
    assert host.maildir("alice", ".Work", "cur").is_dir()


def test_repair(shell: Shell, host: World) -> None:
    shell.ok("share link -u bob alice Work linked/alice")
    (host.maildir("bob") / ".dead").symlink_to("/nowhere")
    dry = shell.ok("share repair -u bob")
    assert sorted(line.split(":")[0] for line in dry.lines) == [
        "would link", "would link", "would unlink",
    ]  # fmt: skip
    assert (host.maildir("bob") / ".dead").is_symlink()
    shell.ok("share repair -u bob --yes")
    assert not (host.maildir("bob") / ".dead").is_symlink()
    assert (host.maildir("bob") / ".linked.alice.Sub.Deep").is_symlink()
    assert shell.ok("share repair -u bob").out == ""


def test_repair_links_only_what_is_shared(shell: Shell, host: World) -> None:
    """Dovecot would take bob for the owner of whatever he has a link to."""
    shell.ok("share link -u bob alice Work linked/alice")
    shell.ok("share remove -u alice Work/Sub/Deep bob")
    shell.ok("mailbox create -u alice Work/Own Work/Own/Deep")
    shell.ok("share remove -u alice Work/Own bob")
    host.maildir("alice", ".Work.Own.Deep", "dovecot-acl").write_text("nonsense\nuser=bob lr\n")
    (link,) = shell.ok("share list -u bob --links --json").records
    assert link["missing"] == 1
    planned = shell.run("plan -u bob stores").out
    assert ".linked.alice.Sub:" in planned
    shell.ok("share repair -u bob --yes")
    root = host.maildir("bob")
    links = sorted(path.name for path in root.iterdir() if path.is_symlink())
    assert links == [".linked.alice", ".linked.alice.Sub"]
    for name in ("Deep", "Own"):
        assert name not in planned
    audited = shell.run("audit --format json --user bob").out
    assert "link-without-children" not in audited
    assert "link-without-acl" not in audited


# --- by whom, to whom ------------------------------------------------------------------------


def test_by_and_to(shell: Shell, host: World) -> None:
    shell.ok("share add -u carol --create Plans bob --role reader")
    shell.ok("share add -u carol --create Open anyone --role reader")
    by = shell.ok("share list --by alice --json").records
    assert {(one["mailbox"], one["with"]) for one in by} == {
        ("Work", "user=bob"), ("Work/Sub", "user=bob"), ("Work/Sub/Deep", "user=bob"),
    }  # fmt: skip
    host.map_path.unlink()  # the files themselves are asked, not the map
    to = shell.ok("share list --to bob --json").records
    assert [(one["owner"], one["mailbox"], one["role"]) for one in to] == [
        ("alice", "Work", "editor"), ("alice", "Work/Sub", "editor"),
        ("alice", "Work/Sub/Deep", "editor"), ("carol", "Open", "reader"),
        ("carol", "Plans", "reader"),
    ]  # fmt: skip
    assert shell.ok("share list -u bob --to").lines[1:] == []
    assert shell.run("share list -u alice --by alice").status == 2


# --- sweeping --------------------------------------------------------------------------------


def test_deleting_a_user_sweeps_grants(shell: Shell, host: World) -> None:
    assert shell.run("acl set --allow-unknown -u alice Work user=ghost lookup -read").status == 0
    path = host.maildir("alice", ".Work", "dovecot-acl")
    before = path.read_bytes()
    done = shell.ok("user delete ghost --json")
    assert [(r["owner"], r["mailbox"], r["was"]) for r in done.records] == [
        ("alice", "Work", "user=ghost")
    ]
    assert path.read_bytes() == before
    shell.ok("user delete --yes ghost")
    assert b"ghost" not in path.read_bytes()
    assert b"ghost" not in host.map_path.read_bytes()
    assert b"user=bob" in path.read_bytes()
    assert path.stat().st_uid == UIDS["alice"]
    assert shell.ok("user delete ghost --json").records == []


def test_an_owner_who_is_gone_leaves_the_map(shell: Shell, host: World) -> None:
    users = host.top / "users"
    users.write_text("".join(
        line + "\n" for line in users.read_text().splitlines() if not line.startswith("alice:")
    ))  # fmt: skip
    shell.ok("user delete --yes alice")
    assert host.map_path.read_bytes() == b""


def test_renaming_a_user_keeps_what_was_granted(shell: Shell, host: World) -> None:
    shell.ok("acl set --allow-unknown -u alice Work user=robert lookup insert -expunge")
    shell.ok("acl set --allow-unknown -u alice Work/Sub user=robert lookup")
    shell.ok("acl delete -u alice Work/Sub user=bob")
    shell.ok("user rename robert bob --yes")
    assert host.maildir("alice", ".Work", "dovecot-acl").read_text().splitlines() == [
        "user=bob eilprwts", "-user=bob e",
    ]  # fmt: skip
    assert host.maildir("alice", ".Work.Sub", "dovecot-acl").read_text() == "user=bob l\n"
    assert shell.run("user rename bob nobody").status == os.EX_NOUSER


def test_showing_users_still_works(shell: Shell) -> None:
    assert shell.ok("user alice").out.startswith("user      alice")
    assert shell.ok("user show alice").out.startswith("user      alice")
    assert "rename" in shell.ok("user --help").out
    assert shell.run("user").status != 0


@pytest.mark.parametrize(
    "command",
    ["plan", "apply", "undo", "share link", "share unlink", "share repair", "share list",
     "acl apply", "acl lint", "acl fmt", "acl export", "acl import", "user rename", "user delete"],
)  # fmt: skip
def test_help_has_examples_and_keeps_its_lines(shell: Shell, command: str) -> None:
    out = shell.ok(f"{command} --help").out
    assert "\\b" not in out
    assert f"\n    sharefs {command}" in out


def test_a_name_that_a_shared_namespace_has(host: World, shell: Shell) -> None:
    """The default lies where the shared namespace lists owners; the refusal says what to type."""
    done = shell.run("share link -u bob alice Work")
    assert done.status == 69
    assert "shared/alice is not in bob's own tree but in the shared namespace" in done.err
    assert "linked/alice" in done.err
    shell.ok("share link -u bob alice Work linked/alice")
