"""From facts to the matrix and the tree."""

import stat
import time
from pathlib import Path

import pytest

from sharefs.audit.facts import BoxFacts, Judged, LinkFacts, RootFacts, UserFacts
from sharefs.audit.findings import Finding, Severity
from sharefs.audit.report.collect import Collector, cell_of, matrix_name, why_of
from sharefs.audit.report.matrix import LETTERS, NOTHING, UNKNOWN, Cell
from sharefs.identity.model import MailUser
from sharefs.names import Layout
from sharefs.permissions.access import Credentials, Inode
from sharefs.permissions.inherit import Creation, Facts
from sharefs.rights import ALL, NONE, Rights
from tests.audit_report.sample import MADE

CASES = [  # id, rights, denied, leaked -> cell
    ("all is well", "lrs", {}, "", Cell.of("lrs", "lrs")),
    ("one operation refused", "lrx", {"x": "why"}, "", Cell.of("lrx", "lr")),
    ("flags go together", "lrwst", {"w": "why"}, "", Cell.of("lrwst", "lr")),
    ("insert and post go together", "lip", {"i": "why"}, "", Cell.of("lip", "l")),
    ("an ACL that cannot be read gives nothing", "lrs", {"l": "why"}, "", Cell.of("lrs", "")),
    ("a leak", "", {}, "/m/cur/1 by other", Cell.of("", "", "lr")),
    ("a leak of more than was granted", "l", {}, "/m/cur/1", Cell.of("l", "l", "lr")),
]


@pytest.mark.parametrize(
    ("rights", "denied", "leaked", "want"), [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)  # fmt: skip
def test_cells(rights: str, denied: dict[str, str], leaked: str, want: Cell) -> None:
    assert cell_of(Judged(("bob",), Rights.parse(rights), denied, leaked)) == want


def test_reasons_are_told_once() -> None:
    judged = Judged(("bob",), ALL, {"r": "cur is closed", "w": "cur is closed", "x": "no"})
    assert why_of(judged) == "rw: cur is closed; x: no"
    assert why_of(Judged(("bob",), NONE, {}, "cur/1 by other")) == "a shell reads cur/1 by other"


def inode(path: str, mode: int = 0o2770) -> Inode:
    return Inode(path, stat.S_IFDIR | mode, 4_000_001, 4_000_002)


def user(name: str, *, shell: bool = True) -> UserFacts:
    who = Credentials(4_000_001, 4_000_001)
    mail_user = MailUser(name, 4_000_001, 4_000_001, Path("/home", name))
    return UserFacts(mail_user, who, who if shell else None)


def small_host() -> Collector:
    """alice's root with INBOX, a mailbox whose cur is closed, and a link."""
    collector = Collector([user("bob"), user("alice", shell=False)])
    root = Path("/home/alice/Maildir")
    creation = Creation.of_directory(Facts(0o42770, 1, 4_000_002, str(root)), egid=5)
    inbox = BoxFacts(
        "alice", ("INBOX",), "INBOX", "INBOX", root, inode(str(root)), creation=creation,
        judged=(Judged(("alice",), ALL, {"x": "it is the root itself"}, is_owner=True),),
    )  # fmt: skip
    work = BoxFacts(
        "alice", ("Work",), "Work", "Work", root / ".Work", inode(str(root / ".Work")),
        folders={
            "cur": inode(str(root / ".Work/cur"), 0o700), "new": inode(str(root / ".Work/new")),
        },
        judged=(
            Judged(("alice",), ALL, {}, is_owner=True),
            Judged(("bob", "gone"), Rights.parse("lr"), {"r": "cur is closed"}),
        ),
    )  # fmt: skip
    collector.root(
        RootFacts("alice", "inbox", "private", root, Layout.MAILDIRPP, inode(str(root)),
                  boxes=(inbox, work, link_of("alice", "x", "")))
    )  # fmt: skip
    return collector


def link_of(owner: str, name: str, real: str, *, linker_owns: bool = False) -> BoxFacts:
    path = Path(f"/home/{owner}/Maildir/.{name}")
    facts = LinkFacts(real or "/nowhere", real, owner="alice", linker_owns=linker_owns)
    return BoxFacts(owner, (name,), name, name, path, link=facts)


def finding(subject: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding("acl-without-access", severity, subject, ("seen",), "why", "mend it")


def test_rows_and_columns() -> None:
    matrix = small_host().matrix()
    assert [(each.name, each.login) for each in matrix.users] == [("alice", False), ("bob", True)]
    assert [each.name for each in matrix.mailboxes] == ["alice/INBOX", "alice/Work", "alice/x"]
    assert matrix.cell(1, 1) == Cell.of("lr", "l")
    assert matrix.cell(0, 0) == Cell.of(LETTERS, LETTERS)
    assert matrix.cell(2, 0) == NOTHING
    assert matrix.notes == {
        (1, 1): "r: cur is closed", (2, 0): "the link to /nowhere leads nowhere",
    }  # fmt: skip


def test_a_linker_gets_what_he_gets_at_the_target() -> None:
    """Whichever root comes first; and what nobody has compared stays unknown."""
    collector = small_host()
    root, work = Path("/home/bob/Maildir"), "/home/alice/Maildir/.Work"
    links = (
        link_of("bob", "alices", work), link_of("bob", "away", "/srv/old"),
        link_of("bob", "his", work, linker_owns=True),
    )  # fmt: skip
    collector.root(RootFacts("bob", "inbox", "private", root, Layout.MAILDIRPP, boxes=links))
    matrix = collector.matrix()
    rows = {each.name: number for number, each in enumerate(matrix.mailboxes)}
    alice, bob = 0, 1
    assert matrix.cell(rows["bob/alices"], bob) == matrix.cell(rows["alice/Work"], bob)
    assert matrix.cell(rows["bob/alices"], alice) == NOTHING, "she does not go through his tree"
    assert matrix.notes[rows["bob/alices"], bob] == f"as at {work}, a mailbox of alice"
    assert matrix.cell(rows["bob/away"], bob) == UNKNOWN
    assert matrix.cell(rows["bob/his"], bob) == UNKNOWN
    assert collector.matrix() == matrix


def test_nobody_and_not_known_are_two_answers() -> None:
    root = Path("/srv/mail/public")
    boxes = (
        BoxFacts("", ("a",), "Public/a", "a", root / ".a", inode(str(root / ".a"))),
        BoxFacts("", ("b",), "Public/b", "b", root / ".b"),
    )
    collector = Collector([user("bob")])
    collector.root(RootFacts("", "public", "public", root, Layout.MAILDIRPP, boxes=boxes))
    matrix = collector.matrix()
    assert [matrix.cell(0, 0), matrix.cell(1, 0)] == [NOTHING, UNKNOWN]


def test_a_thousand_users_and_five_thousand_mailboxes_are_collected_in_seconds() -> None:
    users = [user(f"u{number:04}") for number in range(1000)]
    everybody = tuple(each.name for each in users)
    collector = Collector(users)
    began = time.process_time()
    for owner in everybody:
        root = Path("/home", owner)
        boxes = tuple(
            BoxFacts(
                owner, (str(at),), str(at), str(at), root / f".{at}", inode(str(root / f".{at}")),
                judged=(
                    Judged((owner,), ALL, {}, is_owner=True),
                    Judged(everybody[1:] if at == 0 else ("u0001",), Rights.parse("lr"), {}),
                ),
            )
            for at in range(5)
        )  # fmt: skip
        collector.root(RootFacts(owner, "inbox", "private", root, Layout.MAILDIRPP, boxes=boxes))
    matrix = collector.matrix()
    assert len(matrix.mailboxes) == 5000
    assert time.process_time() - began < 10, "measured: 1 s"


def test_public_mailboxes_have_no_owner_in_their_name() -> None:
    assert matrix_name(BoxFacts("", ("info",), "Public/info", "info", Path("/p"))) == "Public/info"


def test_the_tree() -> None:
    findings = [
        finding("alice: Work"), finding("alice: Work", Severity.CRITICAL),
        finding("/home/alice/Maildir", Severity.NOTICE),
    ]  # fmt: skip
    tree = small_host().build(findings, host="h", made=MADE).tree
    assert [(each.depth, each.name, each.mode, each.problem) for each in tree] == [
        (0, "/home/alice/Maildir", "drwxrws---", Severity.NOTICE),
        (1, ".Work", "drwxrws---", Severity.CRITICAL),
        (2, "cur", "drwx------", None),
        (1, ".x -> /nowhere", "l---------", None),
    ]
    assert tree[0].rule == "0660 4000002 (setgid)"


def test_findings_know_their_mailbox_and_come_once() -> None:
    model = small_host().build(
        [finding("alice: Work"), finding("alice: Work"), finding("elsewhere")], host="h", made=MADE
    )
    assert [(each.subject, each.mailbox) for each in model.problems] == [
        ("alice: Work", "alice/Work"), ("elsewhere", ""),
    ]  # fmt: skip


def test_without_any_root() -> None:
    model = Collector([]).build([], host="h", made=MADE)
    assert (model.matrix.users, model.tree, model.problems) == ((), (), ())
