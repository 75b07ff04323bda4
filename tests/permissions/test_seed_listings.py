"""Every `ls -l` of the documentation, made for real by processes of several uids."""

import os
from pathlib import Path

import pytest

from sharefs import fsops
from sharefs.permissions.lookup import (
    Source,
    creation_for_dictionary,
    creation_for_mailbox,
    plan_missing_root,
)
from tests.permissions.listing import make_owned, shown
from tests.support.become import Identity

pytestmark = pytest.mark.superuser

USER = Identity(5001, 5100, (6000,))  # "user" of "group"; 6000 is dovemail
OTHER = Identity(5002, 5200, (6000,))
STRANGER = Identity(5003, 5300)
GROUP, DOVEMAIL = 5100, 6000
UMASKS = [0o000, 0o022, 0o077]


def make_mailbox(root: Path, name: Path, source: Source = "root") -> None:
    """A Maildir as the store makes one: its directory, then what is inside by its own rules."""
    dirs = [name, *(parent for parent in name.parents if root in parent.parents)]
    above = creation_for_mailbox(root, dirs, source=source, egid=os.getegid())
    fsops.make_dir(name, above)
    inside = creation_for_mailbox(root, dirs, source=source, egid=os.getegid())
    for part in ("cur", "new", "tmp"):
        fsops.make_dir(name / part, inside)
    for part in ("dovecot.index.log", "dovecot-uidlist"):
        os.close(fsops.create_file(name / part, inside))


@pytest.mark.parametrize("umask", UMASKS, ids="umask-{:03o}".format)
@pytest.mark.parametrize(
    ("source", "want"),
    [("root", "drwx--xr-x 5001:5100"), ("parent", "drwxrwxrwx 5001:5100")],
)
def test_new_mailbox_copies_the_root(open_tmp: Path, source: Source, want: str, umask: int) -> None:
    """Seed, "Permissions For New Mailboxes": foo/bar gets mail/'s mode, not foo's."""
    mail = make_owned(open_tmp / "mail", 0o715, 5001, GROUP)
    foo = make_owned(mail / "foo", 0o777, 5001, GROUP)

    def run() -> None:
        os.umask(umask)
        creation = creation_for_mailbox(mail, [foo / "bar", foo], source=source, egid=os.getegid())
        fsops.make_dir(foo / "bar", creation)

    USER.run(run)
    assert shown(mail) == "drwx--xr-x 5001:5100"
    assert shown(foo) == "drwxrwxrwx 5001:5100"
    assert shown(foo / "bar") == want


@pytest.mark.parametrize("umask", UMASKS, ids="umask-{:03o}".format)
@pytest.mark.parametrize("who", [USER, OTHER, STRANGER], ids=["user", "member", "stranger"])
def test_setgid_root_hands_the_group_down(open_tmp: Path, who: Identity, umask: int) -> None:
    """Seed: chmod g+s, then "even if the user doesn't belong to the group"."""
    mail = make_owned(open_tmp / "mail", 0o2770, who.uid, DOVEMAIL)

    def run() -> None:
        os.umask(umask)
        make_mailbox(mail, mail / ".foo")
        make_mailbox(mail, mail / ".foo.bar")

    who.run(run)
    for name in (".foo", ".foo.bar", ".foo/cur", ".foo.bar/tmp"):
        assert shown(mail / name) == f"drwxrws--- {who.uid}:{DOVEMAIL}", name
    assert shown(mail / ".foo.bar/dovecot-uidlist") == f"-rw-rw---- {who.uid}:{DOVEMAIL}"


@pytest.mark.parametrize("umask", UMASKS, ids="umask-{:03o}".format)
def test_new_files_in_mailboxes(open_tmp: Path, umask: int) -> None:
    """Seed, "Permissions For New Files in Mailboxes": x reaches directories, never files."""
    root = make_owned(open_tmp / "Maildir", 0o715, 5001, GROUP)

    def run() -> None:
        os.umask(umask)
        make_mailbox(root, root / ".foo")

    USER.run(run)
    got = {name: shown(root / ".foo" / name) for name in os.listdir(root / ".foo")}
    assert got == {
        "cur": "drwx--xr-x 5001:5100",
        "new": "drwx--xr-x 5001:5100",
        "tmp": "drwx--xr-x 5001:5100",
        "dovecot.index.log": "-rw----r-- 5001:5100",
        "dovecot-uidlist": "-rw----r-- 5001:5100",
    }


def test_the_group_is_preserved(open_tmp: Path) -> None:
    """Seed: "The group is also preserved", for a member of it without setgid."""
    root = make_owned(open_tmp / "Maildir", 0o770, 5001, DOVEMAIL)
    OTHER.run(make_mailbox, root, root / ".foo")
    assert shown(root / ".foo") == "drwxrwx--- 5002:6000"
    assert shown(root / ".foo/cur") == "drwxrwx--- 5002:6000"
    assert shown(root / ".foo/dovecot-uidlist") == "-rw-rw---- 5002:6000"


def test_a_group_that_cannot_be_preserved_is_an_error(open_tmp: Path) -> None:
    """Seed: "different users having different groups create mailboxes, causing ... errors"."""
    root = make_owned(open_tmp / "Maildir", 0o770, 5003, DOVEMAIL)
    with pytest.raises(PermissionError) as caught:
        STRANGER.run(make_mailbox, root, root / ".foo")
    assert "6000" in str(caught.value)
    assert "5300" in str(caught.value)
    assert str(root) in str(caught.value)
    assert "chmod g+s" in str(caught.value)
    assert os.listdir(root) == []


DOMAIN_CASES = [  # mode of /var/vmail -> what the end result looks like
    (0o2770, "drwxrws---"),
    (0o3770, "drwxrws--T"),
    (0o2775, "drwxrwsr-x"),  # the mode that the seed's listing shows
    (0o3775, "drwxrwsr-t"),
]


@pytest.mark.parametrize("umask", UMASKS, ids="umask-{:03o}".format)
@pytest.mark.parametrize(("mode", "want"), DOMAIN_CASES, ids=[row[1] for row in DOMAIN_CASES])
def test_domain_and_user_directories(open_tmp: Path, mode: int, want: str, umask: int) -> None:
    """Seed, "Permissions to New /domain/user Directories", with two users of one domain."""
    top = make_owned(open_tmp / "vmail", mode, 0, DOVEMAIL)
    template = f"{top}/%{{user | domain}}/%{{user | username}}/Maildir"
    domain = top / "domain.example.com"

    def run(name: str) -> None:
        os.umask(umask)
        plan = plan_missing_root(template, domain / name / "Maildir", egid=os.getegid())
        fsops.make_root(plan)

    USER.run(run, "user")
    OTHER.run(run, "other")
    assert shown(domain) == f"{want} 5001:6000"
    assert shown(domain / "user") == "drwx--S--- 5001:5100"
    assert shown(domain / "user/Maildir") == "drwx--S--- 5001:5100"
    assert shown(domain / "other") == "drwx--S--- 5002:5200"


def test_home_template_does_not_know_where_the_domain_ends(open_tmp: Path) -> None:
    """Seed: with ~/Maildir the whole of the home gets the parent's permissions."""
    top = make_owned(open_tmp / "vmail", 0o2770, 0, DOVEMAIL)
    root = top / "domain.example.com/user/Maildir"
    USER.run(lambda: fsops.make_root(plan_missing_root("~/Maildir", root, egid=os.getegid())))
    for path in (root.parent.parent, root.parent, root):
        assert shown(path) == "drwxrws--- 5001:6000"


def test_home_without_setgid_above_is_private(open_tmp: Path) -> None:
    top = make_owned(open_tmp / "home", 0o777, 0, 0)
    root = top / "user/Maildir"
    USER.run(lambda: fsops.make_root(plan_missing_root("~/Maildir", root, egid=os.getegid())))
    assert shown(root.parent) == "drwx------ 5001:5100"
    assert shown(root) == "drwx------ 5001:5100"


def test_dictionary_files_start_like_their_directory_and_then_keep_what_they_have(
    open_tmp: Path,
) -> None:
    """Seed, "Dictionary Files": "permanently preserved ... just chown/chmod the file"."""
    db = make_owned(open_tmp / "db", 0o2770, 0, DOVEMAIL)
    path = db / "shared-mailboxes.db"

    def write(content: bytes) -> None:
        fsops.replace_file(path, content, creation_for_dictionary(path))

    USER.run(write, b"1")
    assert shown(path) == "-rw-rw---- 5001:6000"
    path.chmod(0o640)
    os.chown(path, 5001, GROUP)
    USER.run(write, b"2")
    assert shown(path) == "-rw-r----- 5001:5100"
    assert path.read_bytes() == b"2"


def test_dictionary_in_an_ordinary_group_directory(open_tmp: Path) -> None:
    """Seed, "Shared Mailbox Listing": db/ of mode 0770 and group sharedusers."""
    db = make_owned(open_tmp / "db", 0o770, 0, DOVEMAIL)
    path = db / "shared-mailboxes.db"
    OTHER.run(lambda: fsops.replace_file(path, b"", creation_for_dictionary(path)))
    assert shown(path) == "-rw-rw---- 5002:6000"
