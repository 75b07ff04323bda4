"""Every rule of the audit: a host on which it finds something; and a clean one, with nothing."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sharefs.audit.facts import Account, HostFacts, ProcessFacts, RootFacts
from sharefs.audit.findings import RULES, Finding, Severity
from sharefs.audit.mounts import Mount
from sharefs.audit.rules import judge_host, judge_root
from sharefs.config import Problem, examine, load
from sharefs.config import Severity as ConfigSeverity
from sharefs.errors import Place
from sharefs.identity.model import UnknownUser
from sharefs.names import Layout
from sharefs.permissions.access import Credentials, Inode
from tests.account.world import SHARED_GID, UIDS, World, picture_of, world_in_tmp
from tests.audit.auditing import audited, one, rules, share

pytestmark = pytest.mark.superuser

BOB_SHELL = Account("bob", Credentials(UIDS["bob"], UIDS["bob"]), ("bob",))


def box(host: World, *below: str) -> Path:
    return host.maildir("alice", ".Work", *below)


def messages(host: World) -> list[Path]:
    return [*box(host).glob("new/*"), *box(host).glob("cur/*")]


def test_a_clean_host_has_no_findings() -> None:
    with world_in_tmp(groups={"bob": "staff"}) as host:
        share(host)
        share(host, "Work/Deep", "carol", "lr")
        share(host, "Private", letters="")
        host.as_user("bob", lambda account: account.create("Box"))
        before = picture_of(host.top)
        assert audited(host, accounts=[BOB_SHELL]) == []
        assert picture_of(host.top) == before


# --- situations on disk -------------------------------------------------------------------------


def acl_without_access(host: World) -> None:
    box(host, "cur").chmod(0o2700)


def world_readable(host: World) -> None:
    for path in (host.home("alice"), host.maildir("alice"), box(host), box(host, "new")):
        path.chmod(0o2775)
    for path in messages(host):
        path.chmod(0o664)


def owner_locked_out_by_acl(host: World) -> None:
    box(host, "dovecot-acl").write_text("owner ls\nuser=bob lr\n")


def owner_locked_out_by_kernel(host: World) -> None:
    for path in (box(host, "cur"), box(host, "new")):
        os.chown(path, UIDS["carol"], UIDS["carol"])
        path.chmod(0o700)


def no_administrator(host: World) -> None:
    box(host, "dovecot-acl").write_text("owner lrs\nuser=bob lr\n")


def chgrp_fails(host: World) -> None:
    root = host.maildir("alice")
    os.chown(root, UIDS["alice"], SHARED_GID + 1)
    root.chmod(0o770)


def setgid_missing(host: World) -> None:
    for path in (
        host.maildir("alice"),
        box(host),
        *(box(host, name) for name in ("cur", "new", "tmp")),
    ):
        path.chmod(0o770)


def setgid_lost(host: World) -> None:
    box(host, "cur").chmod(0o770)


def mailbox_differs(host: World) -> None:
    box(host).chmod(0o2750)


def files_differ(host: World) -> None:
    messages(host)[0].chmod(0o666)


def deliverer_umask(host: World) -> None:
    messages(host)[0].chmod(0o600)


def root_cannot_be_made(host: World) -> None:
    home = host.home("carol")
    os.chown(home, 0, 0)
    home.chmod(0o755)


def hard_link(host: World) -> None:
    share(host, "Other", letters="")
    os.link(messages(host)[0], host.maildir("alice", ".Other", "cur", "linked:2,S"))
    host.maildir("alice", ".Other").chmod(0o2700)


def wrong_owner(host: World) -> None:
    os.chown(messages(host)[0], 4242, SHARED_GID)


def malformed(host: World) -> None:
    box(host, "dovecot-acl").write_text("user=bob lrZ\n")


def doubtful(host: World) -> None:
    box(host, "dovecot-acl").write_text("user=bob\tlr\nuser=carol  lr\n")


def orphan(host: World) -> None:
    box(host, "dovecot-acl").write_text("user=zebedee lr\n")


def domain(host: World) -> None:
    box(host, "dovecot-acl").write_text("user=bob@example.org lr\n")


def broad(host: World) -> None:
    box(host, "dovecot-acl").write_text("anyone lr\n")


def never_matches(host: World) -> None:
    box(host, "dovecot-acl").write_text("group=nobody-has-it lr\n")


def cache_incomplete(host: World) -> None:
    host.maildir("alice", "dovecot-acl-list").unlink()


def cache_stale(host: World) -> None:
    with host.maildir("alice", "dovecot-acl-list").open("a") as file:
        file.write("1 Gone\n")


def cache_broken(host: World) -> None:
    host.maildir("alice", "dovecot-acl-list").write_text("nonsense\n")


def map_missing(host: World) -> None:
    host.map_path.write_text("")


def map_stale(host: World) -> None:
    with host.map_path.open("a") as file:
        file.write("shared/shared-boxes/user/carol/alice\n1\n")


def map_gone(host: World) -> None:
    with host.map_path.open("a") as file:
        file.write("shared/shared-boxes/user/carol/zebedee\n1\n")


def map_unstorable(host: World) -> None:
    box(host, "dovecot-acl").write_text("group=a/b lr\n")


def map_broken(host: World) -> None:
    host.map_path.unlink()
    host.map_path.mkdir()


def linked(host: World, name: str, target: str | Path) -> None:
    host.as_user("bob", lambda account: account.create("Mine"))
    host.maildir("bob", name).symlink_to(target)


def dangling(host: World) -> None:
    linked(host, ".Away", host.top / "not/there")


def loop(host: World) -> None:
    linked(host, ".Loop", host.maildir("bob", ".Loop"))


def crossing(host: World) -> None:
    share(host, "Secret", letters="")
    linked(host, ".Secret", host.maildir("alice", ".Secret"))


def without_children(host: World) -> None:
    share(host, "Work/Deep")
    linked(host, ".Linked", box(host))


def outside(host: World) -> None:
    place = host.top / "elsewhere"
    (place / "cur").mkdir(parents=True)
    linked(host, ".Else", place)


def foreign(host: World) -> None:
    host.maildir("alice", "report.pdf").write_bytes(b"")
    box(host, "notes.txt").write_bytes(b"")


def marker(host: World) -> None:
    host.maildir("alice", "maildirfolder").write_bytes(b"")


def stale_lock(host: World) -> None:
    lock = box(host, "dovecot-uidlist.lock")
    lock.write_bytes(b"1:elsewhere")
    os.utime(lock, (time.time() - 7200,) * 2)


def orphan_child(host: World) -> None:
    share(host, "Gone/Child", letters="")


SITUATIONS: list[tuple[Callable[[World], None], str]] = [
    (acl_without_access, "acl-without-access"),
    (world_readable, "world-readable-mail"),
    (owner_locked_out_by_acl, "owner-locked-out"),
    (owner_locked_out_by_kernel, "owner-locked-out"),
    (no_administrator, "no-administrator"),
    (chgrp_fails, "chgrp-will-fail"),
    (setgid_missing, "setgid-missing"),
    (setgid_lost, "setgid-lost"),
    (mailbox_differs, "mailbox-differs"),
    (files_differ, "files-differ"),
    (deliverer_umask, "deliverer-umask"),
    (root_cannot_be_made, "root-cannot-be-made"),
    (hard_link, "hard-link-across-permissions"),
    (wrong_owner, "wrong-owner"),
    (malformed, "acl-malformed"),
    (doubtful, "acl-doubtful"),
    (orphan, "orphan-identifier"),
    (domain, "identifier-domain"),
    (broad, "broad-identifier"),
    (never_matches, "entry-never-matches"),
    (cache_incomplete, "list-cache-incomplete"),
    (cache_stale, "list-cache-stale"),
    (cache_broken, "list-cache-broken"),
    (map_missing, "map-missing"),
    (map_stale, "map-stale"),
    (map_gone, "map-owner-gone"),
    (map_unstorable, "map-unstorable"),
    (map_broken, "map-broken"),
    (dangling, "link-dangling"),
    (loop, "link-loop"),
    (crossing, "link-without-acl"),
    (without_children, "link-without-children"),
    (outside, "link-outside"),
    (foreign, "foreign-entry"),
    (marker, "marker-in-root"),
    (stale_lock, "stale-lock"),
    (orphan_child, "orphan-child"),
]


@pytest.mark.parametrize(
    ("situation", "rule"), SITUATIONS, ids=[made.__name__ for made, _ in SITUATIONS]
)
def test_what_is_wrong_is_found(situation: Callable[[World], None], rule: str) -> None:
    with world_in_tmp() as host:
        share(host)
        assert audited(host) == []
        situation(host)
        before = picture_of(host.top)
        findings = audited(host)
        assert picture_of(host.top) == before
        assert rule in rules(findings)
        for finding in findings:
            assert finding.subject
            assert finding.evidence
            assert finding.remedy
            assert finding.rule in RULES


def test_evidence_names_right_person_and_component() -> None:
    with world_in_tmp() as host:
        share(host)
        acl_without_access(host)
        found = one(audited(host), "acl-without-access")
        assert found.subject == "alice: Work"
        assert found.user == "bob"
        assert f"bob: r, w, i, e refused: {box(host, 'cur')} lacks" in found.evidence[0]


def test_without_acls_the_kernel_alone_decides_who_shares() -> None:
    with world_in_tmp() as host:
        share(host)
        path = host.config_path
        path.write_text(path.read_text().replace("acl_driver = vfile", ""))
        host.config = load(path, lookup_group=lambda name: True)
        acl_without_access(host)
        found = rules(audited(host, accounts=[BOB_SHELL]))
        assert not found & {"acl-without-access", "access-without-acl", "no-administrator"}
        owner_locked_out_by_kernel(host)
        assert "owner-locked-out" in rules(audited(host))


def test_one_uid_for_everybody_is_clean() -> None:
    """The kernel tells nobody apart, the ACL alone does; that is a way to run a host."""
    with world_in_tmp(outsiders=frozenset(UIDS)) as host:
        uid = UIDS["alice"]
        users = host.top / "users"
        lines = [line.split(":") for line in users.read_text().splitlines()]
        users.write_text("".join(
            ":".join([name, password, str(uid), str(uid), *rest]) + "\n"
            for name, password, _, _, *rest in lines
        ))  # fmt: skip
        for place in (*(host.home(name) for name in UIDS), host.top / "db", host.top / "public"):
            os.chown(place, uid, uid)
            place.chmod(0o700)
        share(host)
        share(host, "Own", letters="")
        assert audited(host) == []


def test_messages_on_their_way_are_not_judged() -> None:
    with world_in_tmp() as host:
        share(host)
        (box(host) / "tmp" / "coming").touch(0o600)
        os.chown(box(host) / "tmp" / "coming", UIDS["alice"], SHARED_GID)
        assert audited(host) == []


@pytest.mark.parametrize(
    ("line", "rule", "column"),
    [("user=bob lrZ", "acl-malformed", 12), ("user=bob\tlr", "acl-doubtful", 9),
     ("user=bob  lr", "acl-doubtful", 10)],
    ids=["unknown-letter", "tab", "double-space"],
)  # fmt: skip
def test_lines_and_columns(line: str, rule: str, column: int) -> None:
    with world_in_tmp() as host:
        share(host)
        box(host, "dovecot-acl").write_text(f"# a comment\n{line}\n")
        found = one(audited(host), rule)
        assert f"{box(host, 'dovecot-acl')}:2:{column}" in found.subject


def test_a_line_is_named_with_its_column() -> None:
    with world_in_tmp() as host:
        share(host)
        malformed(host)
        found = one(audited(host), "acl-malformed")
        assert f"{box(host, 'dovecot-acl')}:1:12" in found.subject


def test_linked_child_in_the_own_tree_is_no_crossing() -> None:
    """An entry for the linker is what limits him, so then nothing is said."""
    with world_in_tmp() as host:
        share(host)
        linked(host, ".Work", box(host))
        assert "link-without-acl" not in rules(audited(host))


# --- what depends on shells, accounts and processes -----------------------------------------------


def leak(host: World) -> None:
    """The mail is open to a group that is bob's at his shell, too."""
    share(host, who="carol")


def test_a_shell_in_the_group_reads_around_the_acl() -> None:
    with world_in_tmp() as host:
        leak(host)
        shell = Account("bob", Credentials(UIDS["bob"], 100, frozenset({SHARED_GID})), ("mail",))
        assert "access-without-acl" not in rules(audited(host, accounts=[BOB_SHELL]))
        found = one(audited(host, accounts=[shell]), "access-without-acl")
        assert found.severity is Severity.CRITICAL
        assert found.evidence[0].startswith("bob can read ")
        assert found.evidence[0].endswith("by group")


def test_accounts_that_are_no_mail_users() -> None:
    with world_in_tmp() as host:
        share(host)
        stranger = Account("backup", Credentials(34, 34, frozenset({SHARED_GID})))
        found = one(audited(host, accounts=[stranger]), "readers-beyond-sharees")
        assert found.evidence == ("backup can read the messages",)


def test_groups_for_mail_processes_that_shells_have() -> None:
    with world_in_tmp(f"mail_access_groups = {SHARED_GID}\n") as host:
        share(host)
        shell = Account("bob", Credentials(UIDS["bob"], 100, frozenset({SHARED_GID})))
        found = one(audited(host, accounts=[shell]), "access-group-in-shells")
        assert "sharefs.conf" in found.evidence[0]
        lacking = ProcessFacts(77, "imap", UIDS["bob"], frozenset({100}), 0o77, False)
        having = ProcessFacts(78, "imap", UIDS["bob"], frozenset({SHARED_GID}), 0o77, False)
        found = one(audited(host, processes=[lacking, having]), "process-lacks-group")
        assert found.evidence[0] == f"pid 77 lacks group {SHARED_GID}"
        assert "sharefs.conf" in found.evidence[1]


def test_groups_that_only_the_userdb_gives_one_user() -> None:
    extra = SHARED_GID + 7
    with world_in_tmp() as host:
        users = host.top / "users"
        field = f"mail_access_groups={SHARED_GID}"
        before, bob, after = users.read_text().partition("bob:")
        users.write_text(before + bob + after.replace(field, f"{field},{extra}", 1))
        process = ProcessFacts(5, "imap", UIDS["bob"], frozenset({SHARED_GID}), None, False)
        another = ProcessFacts(6, "imap", UIDS["carol"], frozenset({SHARED_GID}), None, False)
        shell = Account("bob", Credentials(UIDS["bob"], 100, frozenset({extra})))
        found = audited(host, accounts=[shell], processes=[process, another])
        lacking = one(found, "process-lacks-group")
        assert lacking.evidence[0] == f"pid 5 lacks group {extra}"
        assert str(users) in lacking.evidence[1]
        assert one(found, "access-group-in-shells").subject == f"group {extra}"


def test_a_deliverer_that_runs_with_a_bad_umask() -> None:
    with world_in_tmp() as host:
        bad = ProcessFacts(9, "procmail", UIDS["bob"], frozenset(), 0o077, True)
        good = ProcessFacts(10, "procmail", UIDS["bob"], frozenset(), 0o007, True)
        assert "umask 0077" in one(audited(host, processes=[bad]), "deliverer-umask").evidence[0]
        assert audited(host, processes=[good]) == []


@pytest.mark.parametrize("setting", ["mail_control_path", "mail_index_path"])
def test_places_that_cannot_be_used(setting: str) -> None:
    with world_in_tmp(f"namespace inbox {{\n {setting} = /proc/none/%{{user}}\n}}\n") as host:
        found = [each for each in audited(host) if each.rule == "place-unusable"]
        assert {each.user for each in found} >= set(UIDS)
        assert all(setting in each.subject for each in found)


@pytest.mark.parametrize(
    ("closed", "users"),
    [("db", {"alice", "bob", "carol", "dave"}), ("db/shared.db", {"bob", "carol", "dave"})],
    ids=["directory", "file"],
)
def test_a_sharing_map_that_processes_cannot_use(closed: str, users: set[str]) -> None:
    with world_in_tmp() as host:
        share(host)
        os.chown(host.map_path, UIDS["alice"], -1)
        (host.top / closed).chmod(0o600)
        found = [each for each in audited(host) if each.rule == "place-unusable"]
        assert {each.subject for each in found} == {f"{name}: acl_sharing_map" for name in users}
        assert all(f"{host.top}/{closed} lacks " in each.evidence[0] for each in found)


def test_users_that_cannot_be_used() -> None:
    with world_in_tmp() as host:
        with (host.top / "users").open("a") as file:
            file.write("eve:{PLAIN}x:0:0::/home/eve::\n")
        found = one(audited(host), "user-unusable")
        assert found.subject == "eve"


def test_databases_that_cannot_list() -> None:
    with world_in_tmp(
        "userdb static {\n fields {\n uid = 5\n gid = 5\n home = /h/%{user}\n }\n}\n"
    ) as host:
        assert "users-unlisted" in rules(audited(host))


def test_what_the_configuration_puts_into_a_mail_root_is_not_foreign() -> None:
    """As in Dovecot's own example, where viewers' \\Seen files are in ~/Maildir/shared."""
    with world_in_tmp() as host:
        share(host)
        foreign(host)
        for folder in ("cur", "new", "tmp"):
            host.maildir("alice", folder).mkdir()
        path = host.config_path
        path.write_text(path.read_text().replace("~/private/", "~/Maildir/shared/"))
        host.config = load(path, lookup_group=lambda name: True)
        host.maildir("alice", "shared", "bob").mkdir(parents=True)
        found = [each for each in audited(host) if each.rule == "foreign-entry"]
        assert [each.evidence for each in found if each.subject == str(host.maildir("alice"))] == [
            ("not known: report.pdf",)
        ]


def test_a_user_whom_nobody_knows_is_no_clean_host() -> None:
    with world_in_tmp() as host, pytest.raises(UnknownUser):
        audited(host, only=["alcie"])


def test_what_was_not_read_takes_nothing_out_of_the_map() -> None:
    """Not looked at is not the same as shared with nobody."""
    with world_in_tmp() as host:
        share(host)
        path = host.config_path
        path.write_text(path.read_text().replace("mail_driver = maildir", "mail_driver = sdbox"))
        host.config = examine(path, lookup_group=lambda name: True)
        found = rules(audited(host))
        assert "format-not-read" in found
        assert "map-stale" not in found


def test_one_user_only() -> None:
    with world_in_tmp() as host:
        share(host)
        acl_without_access(host)
        assert "acl-without-access" not in rules(audited(host, only=["bob"]))
        assert "acl-without-access" in rules(audited(host, only=["alice"]))


# --- the rest, from facts alone -------------------------------------------------------------------

ROOT = RootFacts(
    "alice", "inbox", "private", Path("/m"), Layout.MAILDIRPP,
    inode=Inode("/m", stat.S_IFDIR | 0o2770, 1, 1),
)  # fmt: skip


def from_mount(*options: str, kind: str = "ext4") -> list[Finding]:
    mount = Mount(1, "/m", kind, "/dev/x", frozenset(options))
    facts = RootFacts(
        ROOT.owner, ROOT.namespace, ROOT.type, ROOT.path, ROOT.layout, inode=ROOT.inode,
        mount=mount,
    )  # fmt: skip
    return list(judge_root(facts, HostFacts()))


@pytest.mark.parametrize(
    ("options", "kind", "rule"),
    [
        (("ro",), "ext4", "mount-read-only"),
        (("rw", "grpid"), "xfs", "mount-grpid"),
        (("rw", "bsdgroups"), "ext4", "mount-grpid"),
        (("rw", "noacl"), "ext4", "mount-noacl"),
        (("rw",), "nfs4", "mount-network"),
        (("rw",), "fuse.sshfs", "mount-network"),
        (("rw",), "overlay", "mount-overlay"),
        (("rw", "nolock"), "nfs", "mount-local-locks"),
        (("rw",), "vfat", "mount-no-permissions"),
    ],
)
def test_mounts(options: tuple[str, ...], kind: str, rule: str) -> None:
    found = rules(from_mount(*options, kind=kind))
    assert found == {rule} | ({"mount-network"} if kind.startswith(("nfs", "fuse.")) else set())


def test_mounts_that_change_nothing() -> None:
    assert from_mount("rw", "nosuid", "noexec", "relatime") == []


def test_flaws_of_the_configuration_and_mbox_links() -> None:
    problem = Problem(ConfigSeverity.WARNING, Place("/f", 3), "it is wrong", "do it", "some-check")
    unknown = Problem(ConfigSeverity.UNIMPLEMENTED, Place("/f", 4), "not done", "", "unimplemented")
    facts = HostFacts(problems=(problem, unknown), mbox=(("/var/mail/bob", "a link to /x"),))
    found = list(judge_host(facts))
    assert rules(found) == {"configuration", "setting-without-effect", "mbox-link-dotlock"}
    assert one(found, "configuration").subject == "/f:3 some-check"


@pytest.mark.parametrize(
    ("locks", "found"),
    [("", False), ("mbox_write_locks = dotlock fcntl\n", False),
     ("mbox_write_locks = dotlock\n", True),
     ("protocol imap {\n mbox_write_locks = dotlock_try\n}\n", True)],
    ids=["default", "both", "dotlock", "for-imap"],
)  # fmt: skip
def test_mbox_behind_links(locks: str, found: bool) -> None:
    """Every user's: INBOX, and mailboxes in the mail directory."""
    with world_in_tmp() as host:
        path = host.config_path
        text = path.read_text().replace("mail_driver = maildir", f"{locks}mail_driver = mbox")
        text = text.replace("mail_path = ~/Maildir", "mail_path = ~/mail", 1)
        path.write_text(text.replace("  inbox = yes\n", "  inbox = yes\n mail_inbox_path = ~/in\n"))
        host.config = examine(path)
        spool = host.top / "spool"
        spool.write_bytes(b"")
        links = [host.home("carol") / "in", host.home("bob") / "mail" / "team" / "list"]
        for link in links:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(spool)
        (host.home("bob") / "mail" / "plain").write_bytes(b"")
        (host.home("bob") / "mail" / "up").symlink_to("..")
        told = [each for each in audited(host) if each.rule == "mbox-link-dotlock"]
        assert {each.subject for each in told} == (
            {str(link) for link in links} if found else set()
        )
        assert all(str(spool) in each.evidence[0] for each in told)


def test_other_formats_are_told_once_and_not_read() -> None:
    """Debian's Dovecot keeps mail as mbox if nobody says otherwise."""
    with world_in_tmp() as host:
        path = host.config_path
        path.write_text(path.read_text().replace("mail_driver = maildir", "mail_driver = mbox"))
        host.config = examine(path)
        found = audited(host)
        told = [each.subject for each in found if each.rule == "format-not-read"]
        assert told == ["namespace inbox", "namespace public"]
        assert not rules(found) & {"root-cannot-be-made", "foreign-entry", "unreadable"}


def test_a_mount_that_is_to_serve_is_looked_for() -> None:
    told = list(judge_host(HostFacts(no_view="/mail")))
    assert one(told, "mount-not-there").commands == ("sharefs mount /mail",)
    assert not list(judge_host(HostFacts()))


def test_every_rule_is_tested() -> None:
    """A rule without a test here, or a name in the tests that is no rule."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in RULES if f'"{name}"' not in text] == []


def test_places_are_whole_paths() -> None:
    """Whatever the text around them: names hold spaces."""
    with world_in_tmp() as host:
        host.as_user("alice", lambda account: account.create("My Mail"))
        directory = host.maildir("alice", ".My Mail")
        (directory / "dovecot-acl").write_text("user=bob lrZ\n")
        (directory / "cur").chmod(0o750)
        places = {finding.rule: finding.place for finding in audited(host)}
        assert places["acl-malformed"] == f"{directory}/dovecot-acl:1:12"
        assert places["setgid-lost"] == f"{directory}/cur"


def test_a_malformed_acl_is_not_cured_by_adding_to_it() -> None:
    with world_in_tmp() as host:
        share(host)
        malformed(host)
        found = [each for each in audited(host) if each.rule == "owner-locked-out"]
        assert [each.commands for each in found] == [()]


def test_a_bare_directory_of_somebody_else_cannot_become_a_mailbox() -> None:
    """In a Maildir++ it is listed; a bare one of the owner's is made whole when it is opened."""
    with world_in_tmp() as host:
        share(host)
        for name, uid in ((".Restored", 0), (".Own", UIDS["alice"])):
            host.maildir("alice", name).mkdir(0o755)
            os.chown(host.maildir("alice", name), uid, uid)
        found = one(audited(host), "mailbox-cannot-be-made-whole")
        assert found.subject == "alice: Restored"
        assert found.place == str(host.maildir("alice", ".Restored"))
        assert os.system(found.commands[0]) == 0
        assert "mailbox-cannot-be-made-whole" not in rules(audited(host))
