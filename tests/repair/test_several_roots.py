"""Plans for public mail, and for owners with several private namespaces."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.permissions.access import Inode
from sharefs.repair.change import Kind
from sharefs.repair.facts import Home, Mailbox, Need, Person
from sharefs.repair.plan_file import Note
from sharefs.repair.planner import plan_home
from sharefs.repair.strategies import Name, Options
from sharefs.repair.strategies.posix_acls import MOST_USERS
from sharefs.repair.wish import Node
from tests.account.world import UIDS, World, append, messages, world_in_tmp
from tests.cli.command import Shell
from tests.repair.test_plan_commands import in_team, kernel, plan_and_apply, plans, undo
from tests.repair.trees import picture

pytestmark = pytest.mark.superuser

__all__ = ["plans"]

ARCHIVE = """
namespace archive {{
  type = private
  separator = /
  prefix = Archive/
  mail_path = {place}
}}
"""


@pytest.fixture
def public(host: World) -> World:
    """News is for everybody to read and carol's to edit; Staff is bob's; nobody gets in yet."""
    news = host.make_public(".News", "anyone lr\nuser=carol lrwstipekxa\n")
    (news / "cur" / "1.news:2,").write_text("Subject: news\n\nbody\n")
    (news / "cur" / "1.news:2,").chmod(0o600)
    staff = host.make_public(".Staff", "user=bob lr\n")
    for box in (news, staff):
        for path in (box, *(box / name for name in ("cur", "new", "tmp"))):
            os.chown(path, 0, 0)
            path.chmod(0o700)
        os.chown(box / "dovecot-acl", 0, 0)
        (box / "dovecot-acl").chmod(0o600)
    os.chown(host.public, 0, 0)
    host.public.chmod(0o700)
    return host


def test_public_mail_by_acls(public: World, shell: Shell, plans: Path) -> None:
    news, staff = public.public / ".News", public.public / ".Staff"
    before = picture(public.top)
    plan = plan_and_apply(shell, plans, "-A posix-acl --namespace public")
    assert picture(public.top) != before
    for name in UIDS:
        assert kernel(public, name, news / "cur", os.R_OK | os.X_OK)
        assert kernel(public, name, news / "cur", os.W_OK) == (name == "carol")
        assert kernel(public, name, staff / "cur", os.R_OK) == (name == "bob")
        assert not kernel(public, name, public.public, os.W_OK)
    assert shell.run("plan -A posix-acl --namespace public").out == ""
    undo(shell, plan)
    assert picture(public.top) == before


def test_public_mail_works_by_acls(public: World, shell: Shell, plans: Path) -> None:
    plan_and_apply(shell, plans, "-A posix-acl --namespace public")
    public.as_user("carol", lambda a: append(a, "Public/News"))
    for name in ("carol", *UIDS):  # who may write gives new messages their UIDs
        assert public.as_user(name, lambda a: messages(a, "Public/News")) == [1, 2], name


def test_public_mail_by_groups(public: World, shell: Shell, plans: Path) -> None:
    in_team(public, *UIDS)
    plan_and_apply(shell, plans, "-A groups --namespace public")
    news, staff = public.public / ".News", public.public / ".Staff"
    assert all(kernel(public, name, news / "cur", os.R_OK) for name in UIDS)
    assert kernel(public, "bob", staff / "cur", os.R_OK)
    assert not kernel(public, "dave", staff / "cur", os.R_OK)


def test_public_mail_is_everybodys_and_not_one_users(public: World, shell: Shell) -> None:
    assert str(public.public) not in shell.run("plan -u alice posix-acl").out
    assert str(public.public / ".News") in shell.run("plan -A posix-acl").out
    assert str(public.public / ".News") in shell.run("plan -u bob posix-acl --namespace public").out


def test_a_public_acl_file_that_is_a_link(public: World, shell: Shell) -> None:
    path = public.public / ".News" / "dovecot-acl"
    path.unlink()
    path.symlink_to("/etc/shadow")
    done = shell.run("plan -A posix-acl --namespace public")
    assert done.status == 1
    assert "its ACL file is a symbolic link" in done.err
    assert "/.News/" not in done.out


def test_unknown_namespaces_are_refused(public: World, shell: Shell) -> None:
    done = shell.run("plan -A groups --namespace publik")
    assert done.status == 2
    assert "no namespace 'publik'; it has inbox, public, shared" in done.err


@pytest.fixture(params=["~/archive", "~/Maildir/archive"], ids=["beside", "inside"])
def archived(request: pytest.FixtureRequest) -> Iterator[World]:
    extra = ARCHIVE.format(place=request.param)
    with world_in_tmp(extra, outsiders=frozenset(UIDS)) as made:
        (made.top / "db").chmod(0o2777)
        yield made


def test_each_private_namespace_is_planned_for(
    archived: World, plans: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(archived, capfd)
    shell.ok("mailbox create -u alice Work Archive/Old")
    shell.ok("acl set -u alice Archive/Old user=bob lookup read")
    archived.as_user("alice", lambda a: append(a, "Archive/Old"))
    old = Path(shell.ok("mailbox path -u alice Archive/Old").out.split()[-1])
    before = picture(archived.top)
    plan = plan_and_apply(shell, plans, "-u alice posix-acl")
    assert kernel(archived, "bob", old / "cur", os.R_OK | os.X_OK)
    assert not kernel(archived, "bob", old.parent, os.W_OK)
    assert not kernel(archived, "carol", old / "cur", os.X_OK)
    assert shell.run("plan -u alice posix-acl").out == ""
    undo(shell, plan)
    assert picture(archived.top) == before
    only = shell.run("plan -u alice posix-acl --namespace archive").out.splitlines()
    assert any(str(old) in line for line in only)
    assert not any("/.Work" in line for line in only)


def test_more_users_than_an_acl_can_name() -> None:
    """They are told to use groups, and the others get theirs."""
    alice = Person("alice", 1000, 1000)
    people = {f"u{number}": Person(f"u{number}", 2000 + number, 2000) for number in range(300)}
    box = Mailbox("Big", "/m/.Big", dict.fromkeys(people, Need.READ))
    small = Mailbox("Small", "/m/.Small", {"u1": Need.READ})
    home = Home(alice, "/m", (), (box, small), {"alice": alice, **people}, {})
    nodes = [
        Node(Inode(path, 0o040700, 1000, 1000), 1, number)
        for number, path in enumerate(("/m", "/m/.Big", "/m/.Small"))
    ]
    notes: list[Note] = []
    changes = list(plan_home(Name.POSIX_ACL, home, nodes, Options(), notes))
    assert [note.path for note in notes] == ["/m/.Big"]
    assert f"more than {MOST_USERS}: use groups" in notes[0].text
    assert {one.path for one in changes if one.kind is Kind.SETFACL} == {"/m", "/m/.Small"}


def test_many_small_circles_pass_a_root_as_others() -> None:
    alice = Person("alice", 1000, 1000)
    people = {f"u{number}": Person(f"u{number}", 2000 + number, 2000) for number in range(300)}
    boxes = tuple(Mailbox(name, f"/m/.{name}", {name: Need.READ}) for name in people)
    home = Home(alice, "/m", (), boxes, {"alice": alice, **people}, {})
    root = Node(Inode("/m", 0o040700, 1000, 1000), 1, 1)
    notes: list[Note] = []
    (change,) = plan_home(Name.POSIX_ACL, home, [root], Options(), notes)
    assert "shared with 300 users" in notes[0].text
    assert (change.kind, change.new) == (Kind.CHMOD, "0711")
