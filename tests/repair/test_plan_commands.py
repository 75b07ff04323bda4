"""plan, apply and undo from end to end: afterwards the kernel says what the ACLs say."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.repair.change import Kind
from tests.account.world import UIDS, World, append, messages, names
from tests.cli.command import Shell
from tests.repair.trees import picture
from tests.support.become import Identity

pytestmark = pytest.mark.superuser

TEAM = 61777


@pytest.fixture
def plans() -> Iterator[Path]:
    """Where root keeps plans: outside of what is compared."""
    path = Path(tempfile.mkdtemp(prefix="sharefs-plans-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def shared(host: World, shell: Shell) -> World:
    """Work may be read by bob and edited by carol; Team is dave's to edit; Private nobody's."""
    shell.ok("mailbox create -u alice Work Work/Sub Team Private")
    for name in ("INBOX", "Work", "Team", "Private"):
        host.as_user("alice", lambda account, name=name: append(account, name))  # type: ignore[misc]  # a default argument, which no Callable type can tell
    db = host.top / "db"
    db.chmod(0o2777)
    shell.ok("share add -u alice Work bob --role reader")
    shell.ok("share add -u alice Work carol --role editor")
    shell.ok("share add -u alice Team dave --role editor")
    return host


def in_team(host: World, *names: str) -> None:
    """Put users into one group more, in their mail processes."""
    path = host.top / "users"
    lines = []
    for line in path.read_text().splitlines():
        extra = f" userdb_mail_access_groups={TEAM}" if line.split(":")[0] in names else ""
        lines.append(line + extra)
    path.write_text("\n".join(lines) + "\n")


def kernel(host: World, user: str, path: Path, how: int) -> bool:
    member = host.user(user)
    identity = Identity(member.uid, member.gid, member.gids)
    return identity.run(lambda: os.access(path, how))


def listed(host: World, user: str) -> list[str]:
    return [one for one in host.as_user(user, names) if one.startswith("shared/alice/")]


def plan_and_apply(shell: Shell, plans: Path, words: str) -> Path:
    plan = plans / "the.plan"
    done = shell.run(f"plan {words} -o {plan}")
    assert done.status in (0, 1), done
    dry = shell.run(["apply", str(plan)])
    assert dry.status == 0, dry
    assert not Path(f"{plan}.journal").exists()
    done = shell.run(["apply", "--yes", str(plan)])
    assert (done.status, done.err) == (0, ""), done
    return plan


def undo(shell: Shell, plan: Path) -> None:
    before = shell.run(["undo", f"{plan}.journal"])
    assert before.status == 0
    done = shell.run(["undo", "--yes", f"{plan}.journal"])
    assert (done.status, done.err) == (0, ""), done


def test_posix_acls(shared: World, shell: Shell, plans: Path) -> None:
    work, team = shared.maildir("alice", ".Work"), shared.maildir("alice", ".Team")
    assert not kernel(shared, "bob", work / "cur", os.R_OK)
    plan_and_apply(shell, plans, "-u alice posix-acl")
    assert kernel(shared, "bob", work / "cur", os.R_OK | os.X_OK)
    assert kernel(shared, "carol", work / "new", os.W_OK)
    assert kernel(shared, "dave", team / "cur", os.W_OK)
    assert not kernel(shared, "dave", work / "cur", os.R_OK)
    assert not kernel(shared, "bob", team / "cur", os.R_OK)
    assert not kernel(shared, "bob", shared.maildir("alice", ".Private"), os.R_OK | os.X_OK)
    assert not kernel(shared, "bob", shared.maildir("alice"), os.W_OK)
    assert not kernel(shared, "carol", work / "dovecot-acl", os.W_OK)
    assert listed(shared, "dave") == ["shared/alice/Team"]
    for user in ("bob", "carol"):
        assert listed(shared, user) == ["shared/alice/Work"]
        assert shared.as_user(user, lambda a: messages(a, "shared/alice/Work")) == [1]
    # What is made later is shared as well, whoever makes it.
    shared.as_user("carol", lambda a: append(a, "shared/alice/Work"))
    shared.as_user("alice", lambda a: append(a, "Work"))
    assert shared.as_user("bob", lambda a: messages(a, "shared/alice/Work")) == [1, 2, 3]
    shared.as_user("alice", lambda a: a.create("Another"))
    assert not kernel(shared, "bob", shared.maildir("alice", ".Another"), os.R_OK | os.X_OK)
    # A second plan for the same end finds nothing left to do.
    assert shell.run("plan -u alice posix-acl").out == ""


def test_groups_of_the_root_that_others_are_in_are_told(shared: World, shell: Shell) -> None:
    in_team(shared, "bob", "carol")
    os.chown(shared.maildir("alice"), -1, TEAM)
    done = shell.run("plan -u alice posix-acl")
    assert done.status == 1
    assert f"belongs to group {TEAM}, which has bob, carol in it: new mailboxes copy" in done.err


@pytest.mark.parametrize("strategy", ["posix-acl", "groups", "single-uid --uid 61900", "mount"])
def test_undo_is_exact(shared: World, shell: Shell, plans: Path, strategy: str) -> None:
    in_team(shared, "bob", "carol", "dave")
    shared.home("alice").chmod(0o755)
    shared.maildir("alice", ".Private").chmod(0o755)
    before = picture(shared.top)
    plan = plan_and_apply(shell, plans, f"-u alice {strategy}")
    assert picture(shared.top) != before
    assert shell.run(f"plan -u alice {strategy}").out == "", "a plan leaves nothing to plan"
    undo(shell, plan)
    assert picture(shared.top) == before


def test_groups(shared: World, shell: Shell, plans: Path) -> None:
    in_team(shared, "bob", "carol")
    work, team = shared.maildir("alice", ".Work"), shared.maildir("alice", ".Team")
    done = shell.run("plan -u alice groups")
    assert done.status == 1, done
    assert "bob may only read Work" in done.err
    assert "no group has all of them in it" in done.err
    plan_and_apply(shell, plans, "-u alice groups")
    assert work.stat().st_mode & 0o7777 == 0o2770
    assert work.stat().st_gid == TEAM
    assert kernel(shared, "carol", work / "cur", os.W_OK)
    assert not kernel(shared, "carol", team / "cur", os.R_OK)
    assert not kernel(shared, "dave", work / "cur", os.R_OK)
    assert shared.as_user("bob", lambda a: messages(a, "shared/alice/Work")) == [1]
    # dave is alone with Team: his own group does for him.
    assert shared.as_user("dave", lambda a: messages(a, "shared/alice/Team")) == [1]
    # The owner is in no such group, and still makes mailboxes that work.
    shared.as_user("alice", lambda a: a.create("Another"))
    assert not kernel(shared, "carol", shared.maildir("alice", ".Another"), os.R_OK)


def test_what_a_group_shares_is_listed(shared: World, shell: Shell, plans: Path) -> None:
    in_team(shared, "bob", "carol", "dave")
    assert shell.run("plan -u alice groups").status == 0
    plan_and_apply(shell, plans, "-u alice groups")
    assert listed(shared, "bob") == listed(shared, "carol") == ["shared/alice/Work"]
    assert not kernel(shared, "bob", shared.maildir("alice"), os.R_OK)
    # The new list cache is as readable as the old; new mailboxes are closed until the next plan.
    cache = shared.maildir("alice", "dovecot-acl-list")
    old = cache.read_bytes()
    shared.as_user("alice", lambda a: a.create("Work/New"))
    assert cache.read_bytes() != old
    assert listed(shared, "bob") == ["shared/alice/Work"]
    plans.joinpath("the.plan").rename(plans / "first")
    plans.joinpath("the.plan.journal").rename(plans / "first.journal")
    plan_and_apply(shell, plans, "-u alice groups")
    assert listed(shared, "bob") == ["shared/alice/Work", "shared/alice/Work/New"]


def test_a_circle_without_a_group_is_said_and_nothing_opened(shared: World, shell: Shell) -> None:
    done = shell.run("plan -u alice groups")
    assert done.status == 1
    assert "no group has bob, carol in it" in done.err
    assert ".Work/" not in done.out


def test_single_uid(shared: World, shell: Shell, plans: Path) -> None:
    plan_and_apply(shell, plans, "-A single-uid --uid 61900 --gid 61901")
    for path in shared.maildir("alice").rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (61900, 61901)
        assert not status.st_mode & 0o077
    assert shared.home("alice").stat().st_uid == UIDS["alice"]


def test_mount_closes_everything(shared: World, shell: Shell, plans: Path) -> None:
    plan_and_apply(shell, plans, "-u alice posix-acl")
    assert shared.as_user("bob", lambda a: messages(a, "shared/alice/Work")) == [1]
    (plans / "the.plan").unlink()
    (plans / "the.plan.journal").unlink()
    plan_and_apply(shell, plans, "-u alice mount")
    work = shared.maildir("alice", ".Work")
    assert work.stat().st_mode & 0o7777 == 0o700
    assert os.listxattr(work) == []
    assert not kernel(shared, "bob", work, os.X_OK)


def test_strangers_files_are_left_alone(shared: World, shell: Shell, plans: Path) -> None:
    """A hard link to another's file in a mailbox must not have that file opened or given away."""
    secret = shared.top / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    work = shared.maildir("alice", ".Work")
    os.link(secret, work / "cur" / "99.x:2,S")
    (work / "cur" / "98.y:2,S").symlink_to(secret)
    os.mkfifo(work / "new" / "pipe")
    for strategy in ("posix-acl", "single-uid --uid 61900", "mount"):
        done = shell.run(f"plan -u alice {strategy} -o {plans}/{strategy[:4]}")
        assert done.status == 1
        assert "99.x" in done.err
        assert shell.run(f"apply --yes {plans}/{strategy[:4]}").status == 0
        status = secret.stat()
        assert (status.st_uid, status.st_mode & 0o777, os.listxattr(secret)) == (0, 0o600, [])
        assert shell.run(f"undo --yes {plans}/{strategy[:4]}.journal").status == 0


def test_names_that_are_not_utf8(shared: World, shell: Shell, plans: Path) -> None:
    path = os.fsencode(shared.maildir("alice", ".Work", "cur")) + b"/1.\xff\xfe:2,S"
    with open(path, "wb") as file:
        file.write(b"x")
    os.chown(path, UIDS["alice"], UIDS["alice"])
    before = picture(shared.top / "home")
    plan = plan_and_apply(shell, plans, "-u alice posix-acl")
    assert os.getxattr(path, "system.posix_acl_access")
    undo(shell, plan)
    assert picture(shared.top / "home") == before


# --- plan files ------------------------------------------------------------------------------


def test_a_plan_is_lines_of_json(shared: World, shell: Shell) -> None:
    done = shell.run("plan -u alice posix-acl --json")
    header, *lines = [json.loads(line) for line in done.lines]
    assert (header["sharefs-plan"], header["strategy"]) == (1, "posix-acl")
    for line in lines:
        assert list(line) == ["kind", "path", "old", "new", "device", "inode", "finding"]
        assert line["kind"] in list(Kind)
        assert os.lstat(line["path"]).st_ino == line["inode"]


def test_lines_may_be_left_out(shared: World, shell: Shell, plans: Path) -> None:
    plan = plans / "p"
    shell.run(f"plan -u alice posix-acl -o {plan}")
    lines = plan.read_text().splitlines(keepends=True)
    plan.write_text("".join(line for line in lines if ".Team" not in line))
    assert shell.run(f"apply --yes {plan}").status == 0
    assert not kernel(shared, "dave", shared.maildir("alice", ".Team", "cur"), os.R_OK)
    assert kernel(shared, "bob", shared.maildir("alice", ".Work", "cur"), os.R_OK)


BAD_LINES = [
    "nonsense",
    "[]",
    '{"kind": "chmod"}',
    '{"kind": "unlink", "path": "/x", "old": "1", "new": "2", "device": 1, "inode": 1,'
    ' "finding": ""}',
    '{"kind": "chmod", "path": "x", "old": "0700", "new": "0755", "device": 1, "inode": 1,'
    ' "finding": ""}',
    '{"kind": "chmod", "path": "/x/../y", "old": "0700", "new": "0755", "device": 1, "inode": 1,'
    ' "finding": ""}',
    '{"kind": "chmod", "path": "/x", "old": "0700", "new": "u+x", "device": 1, "inode": 1,'
    ' "finding": ""}',
    '{"kind": "chown", "path": "/x", "old": "1", "new": "4294967295", "device": 1, "inode": 1,'
    ' "finding": ""}',
    '{"kind": "setfacl", "path": "/x", "old": "user::rwx", "new": "user:bob:rwx", "device": 1,'
    ' "inode": 1, "finding": ""}',
    '{"kind": "acl-line", "path": "/x", "old": null, "new": "a\\nb", "device": 1, "inode": 1,'
    ' "finding": ""}',
    '{"kind": "map-entry", "path": "/x", "old": null, "new": "priv/x", "device": 1, "inode": 1,'
    ' "finding": ""}',
    '{"kind": "chmod", "path": "/x", "old": "0700", "new": "0755", "device": -1, "inode": true,'
    ' "finding": ""}',
    "[" * 100_000,
]


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_bad_plans_are_refused_with_the_line(shell: Shell, plans: Path, line: str) -> None:
    plan = plans / "bad"
    plan.write_text('{"sharefs-plan": 1, "strategy": "x", "made": ""}\n' + line + "\n")
    done = shell.run(f"apply --yes {plan}")
    assert done.status == os.EX_DATAERR
    assert f"{plan}:2: " in done.err
    assert not Path(f"{plan}.journal").exists()


def test_plans_that_others_could_have_written(shared: World, shell: Shell, plans: Path) -> None:
    plan = plans / "p"
    shell.run(f"plan -u alice mount -o {plan}")
    assert plan.stat().st_mode & 0o777 == 0o600
    assert shell.run(f"plan -u alice mount -o {plan}").status == os.EX_CANTCREAT
    plan.chmod(0o622)
    assert shell.run(f"apply --yes {plan}").status == os.EX_NOPERM
    plan.chmod(0o600)
    os.chown(plan, UIDS["bob"], UIDS["bob"])
    assert shell.run(f"apply --yes {plan}").status == os.EX_NOPERM


def test_a_journal_belongs_to_its_plan(shared: World, shell: Shell, plans: Path) -> None:
    plan = plan_and_apply(shell, plans, "-u alice posix-acl")
    with plan.open("a") as file:
        file.write("\n")
    done = shell.run(f"apply --yes {plan}")
    assert done.status == os.EX_UNAVAILABLE
    assert "journal of another plan" in done.err
    undo(shell, plan)


def test_what_changed_since_stops_everything(shared: World, shell: Shell, plans: Path) -> None:
    plan = plans / "p"
    shell.run(f"plan -u alice posix-acl -o {plan}")
    shared.maildir("alice", ".Work").chmod(0o701)
    before = picture(shared.top / "home")
    for words in (f"apply {plan}", f"apply --yes {plan}"):
        done = shell.run(words)
        assert done.status == 1
        assert "refused: " in done.out
        assert picture(shared.top / "home") == before
    done = shell.run(f"apply --yes --keep-going --json {plan}")
    assert done.status == 1
    report = json.loads(done.out)
    assert report["done"] > 5
    assert [one["change"]["path"] for one in report["refused"]] == [
        str(shared.maildir("alice", ".Work"))
    ]


def test_usage(shell: Shell) -> None:
    for words in ("plan -u alice single-uid", "plan -u alice groups --uid 5", "plan -u alice x",
                  "plan -u alice single-uid --uid root"):  # fmt: skip
        assert shell.run(words).status == 2
    assert shell.run("plan -u nobody mount").status == os.EX_NOUSER
    assert shell.run("undo /nonexistent").status == os.EX_TEMPFAIL
    assert shell.run("apply /nonexistent").status == os.EX_TEMPFAIL


def test_one_change_is_no_changes(shared: World, shell: Shell, plans: Path) -> None:
    plan = plans / "a.plan"
    shell.run(f"plan -u alice posix-acl -o {plan}")
    lines = plan.read_text().splitlines(keepends=True)
    first = next(line for line in lines if '"kind"' in line)
    plan.write_text(lines[0] + first)
    assert shell.run(f"apply {plan}").out == "1 change would be done\n"
