"""`sharefs explain` and `sharefs predict` as an administrator types them."""

import json
import os
from typing import Any

import pytest

from sharefs.account import Account
from sharefs.acl import Mode, Update
from sharefs.identifiers import Identifier, Kind, user
from sharefs.rights import Rights
from tests.account.world import SHARED_GID, UIDS, World, append, picture_of
from tests.cli.command import Done, Shell
from tests.support.become import Identity

pytestmark = pytest.mark.superuser


def share(host: World, who: str = "bob", letters: str = "lrs") -> None:
    def act(account: Account) -> None:
        if not account.exists("Work"):
            account.create("Work")
            append(account, "Work")
        account.set_acl("Work", user(who), Mode.REPLACE, Rights(letters))

    host.as_user("alice", act)


def explained(shell: Shell, words: str, status: int) -> dict[str, Any]:
    done = shell.run("explain --json " + words)
    assert (done.status, done.err) == (status, "")
    got = json.loads(done.out)
    assert isinstance(got, dict)
    return got


def test_all_layers_of_what_works(host: World, shell: Shell) -> None:
    share(host)
    lines = shell.ok("explain bob shared/alice/Work").lines
    assert lines[0] == "bob may read: shared/alice/Work"
    text = "\n".join(lines)
    box = host.maildir("alice", ".Work")
    for want in (
        "✓ namespace  shared/alice/Work is Work in the shared namespace 'shared/alice/', owned by",
        f"✓ ACL        {box}/dovecot-acl:1: user=bob gives lrs",
        f"✓ groups     group {SHARED_GID} (from mail_access_groups from {host.top}/users:2)",
        f"✓ path       {box}/cur: drwxrws--- {UIDS['alice']}:{SHARED_GID}, group rx",
    ):
        assert want in text
    assert "✗" not in text


def test_the_acl_denies_and_one_change_opens_it(host: World, shell: Shell) -> None:
    share(host)
    got = explained(shell, "bob shared/alice/Work insert", 1)
    assert got["denied"]["layer"] == "ACL"
    assert "missing: insert" in got["denied"]["text"]
    assert got["changes"] == [
        {
            "change": "sharefs acl add -u alice Work user=bob insert",
            "opens": ["nothing else: only bob gains by it"],
        }
    ]
    shell.ok("acl add -u alice Work user=bob insert")
    assert explained(shell, "bob shared/alice/Work insert", 0)["denied"] is None


def test_a_first_entry_of_ones_own_keeps_what_a_group_gave(host: World, shell: Shell) -> None:
    """A user entry replaces group entries, so the change has to repeat them."""
    share(host, "carol")
    everybody = Update.of(Identifier(Kind.AUTHENTICATED), Mode.REPLACE, Rights("lr"))
    host.as_user(
        "alice", lambda account: account.change_acl("Work", everybody, override=True, force=True)
    )
    (change,) = explained(shell, "bob shared/alice/Work flag", 1)["changes"]
    assert change["change"] == "sharefs acl set -u alice Work user=bob lookup read write"
    shell.ok(change["change"].removeprefix("sharefs "))
    assert explained(shell, "bob shared/alice/Work flag", 0)["allowed"]


def test_negative_rights_have_to_go_first(host: World, shell: Shell) -> None:
    share(host)
    shell.ok("acl add -u alice Work -user=bob read")
    got = explained(shell, "bob shared/alice/Work read", 1)
    (change,) = got["changes"]
    assert change["change"] == "sharefs acl remove -u alice Work -user=bob read"
    assert f"{host.maildir('alice', '.Work', 'dovecot-acl')}:2" in json.dumps(got["layers"])
    shell.ok(change["change"].removeprefix("sharefs "))
    assert explained(shell, "bob shared/alice/Work read", 0)


def test_the_kernel_denies_and_says_where(host: World, shell: Shell) -> None:
    share(host)
    host.maildir("alice", ".Work", "cur").chmod(0o2700)
    got = explained(shell, "bob shared/alice/Work read", 1)
    assert got["denied"]["place"] == str(host.maildir("alice", ".Work", "cur"))
    assert "lacks rx for group" in got["denied"]["text"]
    (change,) = got["changes"]
    assert change["change"] == f"chmod g+rx {host.maildir('alice', '.Work', 'cur')}"
    assert change["opens"][0].endswith("also: carol (rx)")
    assert os.system(change["change"]) == 0
    assert explained(shell, "bob shared/alice/Work read", 0)


def test_acl_kernel_and_map_together(host: World, shell: Shell) -> None:
    """dave is outside of the group: everything denies, and all that is needed is named."""
    share(host)
    got = explained(shell, "dave shared/alice/Work list", 1)
    assert got["denied"]["layer"] == "map"
    assert [change["change"] for change in got["changes"]] == [
        "sharefs acl set -u alice Work user=dave lookup",
        f"add group {SHARED_GID} to mail_access_groups, or uid {UIDS['dave']} to the group",
    ]
    assert got["changes"][1]["opens"] == [
        f"everything else on this host that group {SHARED_GID} may use"
    ]
    assert got["changes_suffice"]


def test_a_malformed_acl_is_to_be_corrected_before_anything_else(host: World, shell: Shell) -> None:
    """What it grants is not known, so nothing is opened on its account."""
    share(host)
    path = host.maildir("alice", ".Work", "dovecot-acl")
    path.write_text(path.read_text() + "user=carol lrZ\n")
    host.maildir("alice", ".Work", "cur").chmod(0o2700)
    got = explained(shell, "dave shared/alice/Work read", 1)
    (change,) = got["changes"]
    assert change["change"].startswith(f"correct the ACL file and ask again: {path}:2")
    assert not got["changes_suffice"]
    path.write_text("user=dave lr\n")
    later = [
        change["change"] for change in explained(shell, "dave shared/alice/Work", 1)["changes"]
    ]
    assert later
    assert "correct the ACL" not in "".join(later)


def test_an_unreadable_acl_file_gives_nothing(host: World, shell: Shell) -> None:
    share(host)
    host.maildir("alice", ".Work", "dovecot-acl").chmod(0o600)
    got = explained(shell, "bob shared/alice/Work read", 1)
    assert "no access" in json.dumps(got["layers"])
    (change,) = got["changes"]
    assert change["change"] == f"chmod g+r {host.maildir('alice', '.Work', 'dovecot-acl')}"
    assert os.system(change["change"]) == 0
    assert explained(shell, "bob shared/alice/Work read", 0)


def test_a_lost_map_is_rebuilt(host: World, shell: Shell) -> None:
    share(host)
    host.map_path.unlink()
    got = explained(shell, "bob shared/alice/Work list", 1)
    assert got["denied"]["layer"] == "map"
    assert [change["change"] for change in got["changes"]] == ["sharefs acl recalc -u alice"]
    shell.ok("acl recalc -u alice")
    assert explained(shell, "bob shared/alice/Work list", 0)


@pytest.mark.parametrize(
    ("words", "status", "layer"),
    [
        ("alice INBOX delete", 1, "rule"),
        ("alice Work create", 1, "rule"),
        ("alice Work rename-to Work2", 0, None),
        ("alice Work rename-to shared/bob/Work", 1, "ACL"),
        ("alice Projects create", 0, None),
        ("bob shared/alice/Work expunge", 1, "ACL"),
        ("bob Work copy-from shared/alice/Work", 1, "namespace"),
        ("bob INBOX copy-from shared/alice/Work", 0, None),
        ("bob INBOX insert", 0, None),
        ("bob shared/nobody/Work read", 1, "namespace"),
        ("bob shared read", 1, "namespace"),
        ("bob shared/alice/Work deliver", 0, None),
        ("dave shared/alice/Work deliver", 1, "path"),
        ("alice Work administer", 0, None),
    ],
)
def test_operations(host: World, shell: Shell, words: str, status: int, layer: str | None) -> None:
    share(host)
    denied = explained(shell, words, status)["denied"]
    assert (denied and denied["layer"]) == layer


OLD_FORM = """
mail_location = maildir:~/Maildir
mail_plugins = acl
first_valid_uid = 1
userdb {{
  driver = passwd-file
  args = {top}/users
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/%%u/
  location = maildir:%%h/Maildir
}}
plugin {{
  acl = vfile{globals}
}}
"""


def test_what_is_changed_in_a_configuration_is_in_its_form(host: World, shell: Shell) -> None:
    """Dovecot 2.3 knows no entries in namespaces; its global ACL file says the same."""
    share(host)
    words = "bob shared/alice/New create"
    (change, *_) = explained(shell, words, 1)["changes"]
    assert change["change"].startswith("in the configuration: namespace shared { acl user=bob")
    host.config_path.write_text(OLD_FORM.format(top=host.top, globals=""))
    entry = '"shared/alice" user=bob k'
    (change, *_) = explained(shell, words, 1)["changes"]
    assert change["change"] == (
        f"in the configuration: plugin {{ acl = vfile:FILE }}, and in FILE: {entry}"
    )
    path = host.top / "global-acls"
    path.write_text("")
    host.config_path.write_text(OLD_FORM.format(top=host.top, globals=f":{path}"))
    (change, *_) = explained(shell, words, 1)["changes"]
    assert change["change"] == f"as a line of {path}: {entry}"
    path.write_text(f"{entry}\n")
    assert explained(shell, words, 0)["allowed"]


def test_paths_ask_the_kernel_alone(host: World, shell: Shell) -> None:
    share(host)
    box = host.maildir("alice", ".Work")
    assert explained(shell, f"bob {box}/cur list", 0)
    assert explained(shell, f"bob {box}/dovecot-acl read", 0)
    assert explained(shell, f"bob {box}/dovecot-acl administer", 1)["changes"] == [
        {
            "change": f"chown {UIDS['bob']} {box}/dovecot-acl",
            "opens": [f"{UIDS['bob']} may then change every permission of {box}/dovecot-acl"],
        }
    ]
    got = explained(shell, f"dave {box}/cur list", 1)
    assert got["denied"]["place"] == str(host.home("alice"))


def test_nothing_is_changed(host: World, shell: Shell) -> None:
    share(host)
    before = picture_of(host.top)
    for operation in ("list", "read", "flag", "insert", "expunge", "delete", "administer"):
        for who in ("alice", "bob", "dave"):
            name = "Work" if who == "alice" else "shared/alice/Work"
            shell.run(f"explain {who} {name} {operation}")
            shell.run(f"predict {who} {name}")
    assert picture_of(host.top) == before


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("explain bob Work fly", 2),
        ("explain bob Work copy-from", 2),
        ("explain bob Work read Other", 2),
        ("explain bob /tmp copy-from Work", 2),
        ("explain nobody-here Work", 67),
        ("predict bob Work --copy-from A --rename-to B", 2),
        ("predict bob /no/such/place", 67),
    ],
)
def test_usage(shell: Shell, words: str, status: int) -> None:
    done = shell.run(words)
    assert done.status == status
    assert "Traceback" not in done.err


def predicted(shell: Shell, words: str, status: int = 0) -> dict[str, Any]:
    done = shell.run("predict --json " + words)
    assert (done.status, done.err) == (status, "")
    got = json.loads(done.out)
    assert isinstance(got, dict)
    return got


def test_predictions_come_true(host: World, shell: Shell) -> None:
    """carol has no mail root yet: every directory is foretold, then made."""
    got = predicted(shell, "carol Projects")
    host.as_user("carol", lambda account: account.create("Projects"))
    for one in got["made"]:
        if one["what"] == "a message in it":
            continue
        status = os.stat(one["path"])
        have = f"{status.st_mode & 0o7777:04o}", str(status.st_uid), str(status.st_gid)
        assert have == (one["mode"], one["owner"], one["group"]), one
    assert {one["path"] for one in got["made"]} >= {
        str(host.maildir("carol")), str(host.maildir("carol", ".Projects", "cur")),
    }  # fmt: skip
    append_got = predicted(shell, "carol Projects")["made"][0]
    host.as_user("carol", lambda account: append(account, "Projects"))
    (message,) = host.maildir("carol", ".Projects", "new").iterdir()
    assert f"{message.stat().st_mode & 0o7777:04o}" == append_got["mode"]
    assert str(message.stat().st_gid) == append_got["group"]


def test_a_chgrp_that_will_fail(host: World, shell: Shell) -> None:
    """The trap of the documentation: group bits, no setgid, and a process outside of the group."""
    root = host.maildir("dave")
    for folder in ("", "cur", "new", "tmp"):
        (root / folder).mkdir()
        os.chown(root / folder, UIDS["dave"], SHARED_GID)
        (root / folder).chmod(0o770)
    got = predicted(shell, "dave INBOX", 1)
    message, _, below = got["made"]
    assert message["made"]
    assert message["chgrp_refused"] == str(SHARED_GID)
    assert not below["made"]
    assert "chmod g+s" in below["remedy"]
    assert explained(shell, "dave Box create", 1)["denied"]["layer"] == "rule"
    root.chmod(0o2770)
    assert predicted(shell, "dave INBOX")["succeeds"]
    assert explained(shell, "dave Box create", 0)


def test_link_or_copy(host: World, shell: Shell) -> None:
    share(host)
    host.as_user("alice", lambda account: account.create("Other"))
    assert predicted(shell, "alice Other --copy-from Work")["decided"]["outcome"] == "link"
    for path in (host.maildir("alice", ".Other"), host.maildir("alice", ".Other", "cur")):
        path.chmod(0o2700)
    got = predicted(shell, "alice Other --copy-from Work")["decided"]
    assert got["outcome"] == "copy"
    assert "file modes differ" in got["why"]


def test_a_rename_that_will_be_refused(host: World, shell: Shell) -> None:
    share(host)
    assert predicted(shell, "alice Work --rename-to Old")["decided"]["outcome"] == "renamed"
    host.maildir("alice", ".Work").chmod(0o2700)
    got = predicted(shell, "alice Work --rename-to Old/Work", 1)["decided"]
    assert got["outcome"] == "refused"
    assert "conflicting directory permissions" in got["why"]
    assert explained(shell, "alice Work rename-to Old/Work", 1)["denied"]["layer"] == "rule"


# --- what is not there, and what cannot be seen ----------------------------------------------


@pytest.mark.parametrize("operation", ["list", "read", "insert", "delete", "copy-from"])
def test_a_mailbox_that_is_not_there(host: World, shell: Shell, operation: str) -> None:
    """No change of an ACL helps: there is none to be changed."""
    share(host)
    other = " shared/alice/Work" if operation == "copy-from" else ""
    got = explained(shell, f"bob shared/alice/Nope {operation}{other}", 1)
    assert got["denied"]["layer"] == "namespace"
    assert got["denied"]["text"] == "there is no mailbox shared/alice/Nope"
    assert not any("acl" in change["change"] for change in got["changes"])
    assert not got["changes_suffice"]


def test_an_owner_whom_nobody_knows(shell: Shell) -> None:
    got = explained(shell, "bob shared/nobody-here/Work", 1)
    assert got["denied"]["text"] == "no user database knows the owner nobody-here"
    assert got["changes"] == []


def as_bob(shell: Shell, words: str) -> Done:
    """A command as in bob's shell, which has no group that mail processes alone get."""
    shell.world.top.chmod(0o755)
    (shell.world.top / "users").chmod(0o644)
    shell.run(words)  # loads what the command imports: bob may be unable to read our interpreter
    return Identity(UIDS["bob"], UIDS["bob"]).run(shell.run, words)


def test_a_no_of_who_sees_less_than_his_mail_processes(host: World, shell: Shell) -> None:
    share(host)
    assert as_bob(shell, "explain bob INBOX").status == 0
    done = as_bob(shell, "explain bob shared/alice/Work")
    assert done.status == os.EX_NOPERM
    assert 'sharefs: this "no" need not be true: ' in done.err
    path = f"{host.maildir('alice')}: "
    assert path + "cannot be looked at by this command; run it as root" in done.out
    assert path + "does not exist" not in done.out


def test_who_is_not_root_is_told_of_his_own_mail(host: World, shell: Shell) -> None:
    share(host)
    host.maildir("alice", ".Work", "cur").chmod(0o2700)  # alice's matter
    host.map_path.chmod(0o600)
    done = as_bob(shell, "audit --format json")
    findings = json.loads(done.out)["findings"]
    assert {(found["id"], found["subject"]) for found in findings} == {
        ("unreadable", str(host.map_path)), ("unreadable", str(host.public)),
    }  # fmt: skip


def test_what_a_restore_gave_to_others_is_given_back(host: World, shell: Shell) -> None:
    """Not by putting its owner into a group that the restore left it with, root's least of all."""
    append_to = host.maildir("alice", ".Work")
    share(host)
    for path in (append_to, append_to / "cur"):
        os.chown(path, 0, 0)
        path.chmod(0o770)
    got = explained(shell, "alice Work read", 1)
    assert got["denied"]["layer"] == "ACL"
    assert "no access to the ACL file" in got["denied"]["text"]
    changes = [change["change"] for change in got["changes"]]
    assert changes[0] == f"chown -h {UIDS['alice']} {append_to}"
    assert all(change.startswith("chown -h ") for change in changes)
    for change in changes:
        assert os.system(change) == 0
    assert explained(shell, "alice Work read", 0)["allowed"]
    append_to.chmod(0o770)
    os.chown(append_to, UIDS["alice"], 0)
    told = json.dumps(explained(shell, "bob shared/alice/Work read", 1)["changes"])
    assert "setfacl" in told
    assert "mail_access_groups" not in told


def test_what_is_granted_first_is_seen_as_well(host: World, shell: Shell) -> None:
    share(host, "carol")
    (change,) = explained(shell, "bob shared/alice/Work read", 1)["changes"]
    assert change["change"] == "sharefs acl set -u alice Work user=bob lookup read"


def test_a_message_must_leave_tmp(host: World, shell: Shell) -> None:
    share(host)
    host.maildir("alice", ".Work", "new").chmod(0o550)
    done = shell.run("predict --json alice Work")
    assert done.status == 1
    (message, *others) = json.loads(done.out)["made"]
    assert not message["made"]
    assert "new lacks w for owner" in message["why"]
    assert all(one["made"] for one in others)
