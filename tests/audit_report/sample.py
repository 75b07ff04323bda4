"""Reports to look at: a small office with the usual mistakes, and a host as large as they get."""

import random
from datetime import UTC, datetime

from sharefs.audit.findings import Severity
from sharefs.audit.report.matrix import (
    LETTERS,
    NOTHING,
    UNKNOWN,
    Cell,
    Mailbox,
    Matrix,
    MatrixBuilder,
    User,
)
from sharefs.audit.report.model import Directory, Problem, ReportModel

MADE = datetime(2026, 3, 14, 6, 25, 7, tzinfo=UTC)
OWN = Cell.of(LETTERS, LETTERS, LETTERS)
TEAM = [
    "alice",
    "anna",
    "ben",
    "bob",
    "carla",
    "chen",
    "dora",
    "eve",
    "farid",
    "grace",
    "hana",
    "ivan",
    "jonas",
    "kim",
    "lars",
    "mia",
    "nils",
    "olga",
    "pavel",
    "quinn",
    "rosa",
    "sam",
    "tara",
    "uwe",
]
FOLDERS = ("INBOX", "Archive", "Drafts", "Projects", "Projects/2026", "Sent", "Trash")


def office() -> ReportModel:
    """24 users; two leaks, grants that cannot work, and everything else as it should be."""
    users = [User(name, login=name not in ("kim", "uwe")) for name in TEAM]
    number = {name: at for at, name in enumerate(TEAM)}
    builder = MatrixBuilder(users)
    shares: dict[str, dict[str, Cell]] = {
        "alice/Projects": {n: Cell.of("lrwsi", "lrwstipe") for n in ("bob", "carla", "chen")},
        "alice/Projects/2026": {"bob": Cell.of("lrwsi", "lr"), "carla": Cell.of("lrwsi", "")},
        "bob/INBOX": {"eve": Cell.of("", "lr", "lr"), "anna": Cell.of("lr", "lrwste")},
        "carla/Archive": {n: Cell.of("lr", "lr") for n in TEAM[5:14]},
        "dora/INBOX": {"grace": Cell.of("lrwstipekxa", "lrwstipekxa")},
        "hana/Projects": {n: Cell.of("lrwstipe", "lrwstipe") for n in ("ivan", "jonas", "mia")},
        "mia/INBOX": {"nils": Cell.of("lr", ""), "olga": Cell.of("l", "l")},
        "pavel/Archive": {n: Cell.of("", "lr", "lr") for n in ("quinn", "rosa", "sam")},
    }
    for owner in TEAM:
        for folder in FOLDERS:
            name = f"{owner}/{folder}"
            cells = {number[owner]: OWN}
            cells |= {number[who]: cell for who, cell in shares.get(name, {}).items()}
            notes = {}
            if name == "mia/INBOX":
                notes[number["nils"]] = (
                    "/home/mia/Maildir is drwx------ mia mia: others may not search it"
                )
            tail = "" if folder == "INBOX" else "." + folder.replace("/", ".")
            builder.add(
                Mailbox(name, owner, f"/home/{owner}/Maildir/{tail}".rstrip("/")),
                cells, notes=notes,
            )  # fmt: skip
    everybody = {at: Cell.of("lr", "lr") for at in range(len(users))}
    everybody[number["grace"]] = Cell.of("lrwstipekxa", "lrwstipekxa")
    builder.add(Mailbox("Public/info", "", "/srv/mail/public/.info"), everybody)
    builder.add(Mailbox("Public/news", "", "/srv/mail/public/.news"), everybody)
    builder.add(Mailbox("Public/support", "", "/mnt/old/support"), {}, default=UNKNOWN)
    return ReportModel(
        host="mail.example.org", made=MADE, config="/etc/dovecot/dovecot.conf", seconds=0.84,
        problems=PROBLEMS, matrix=builder.build(), tree=_tree(),
    )  # fmt: skip


PROBLEMS = (
    Problem(
        "kernel-grants-more", Severity.CRITICAL, "eve can read bob's mail with a shell",
        subject="bob/INBOX",
        evidence=(
            "ACL: no entry for eve, and she is in none of its groups",
            "/home/bob/Maildir/cur  drwxr-x---  bob:sharedmail  group r-x",
            "eve is in group sharedmail (passwd group, /etc/group)",
        ),
        why="The ACL hides this mailbox from eve, but only from her mail program: cat and grep"
        " read it. The group is meant for mail processes alone.",
        remedy="Take eve out of the group, or give it to mail processes only.",
        commands=("gpasswd -d eve sharedmail",), mailbox="bob/INBOX", user="eve",
    ),
    Problem(
        "kernel-grants-more", Severity.CRITICAL, "quinn, rosa and sam can read pavel's archive",
        subject="pavel/Archive",
        evidence=("/home/pavel/Maildir/.Archive/cur  drwxr-xr-x  pavel:pavel  other r-x",),
        why="Every account on this host can read these messages.",
        commands=("chmod o-rwx /home/pavel/Maildir/.Archive/{cur,new,tmp}",),
        mailbox="pavel/Archive",
    ),
    Problem(
        "kernel-denies-grant", Severity.WARNING, "nils was given mia/INBOX but cannot open it",
        subject="mia/INBOX",
        evidence=(
            "dovecot-acl:2  user=nils lr",
            "/home/mia/Maildir  drwx------  mia:mia  other ---  denies search",
        ),
        why="The mailbox is listed and every attempt to open it fails.",
        commands=("chgrp sharedmail /home/mia/Maildir", "chmod 2770 /home/mia/Maildir"),
        mailbox="mia/INBOX", user="nils",
    ),
    Problem(
        "setgid-lost", Severity.WARNING, "Setgid is lost below alice/Projects",
        subject="/home/alice/Maildir/.Projects.2026",
        evidence=(
            "/home/alice/Maildir/.Projects       drwxrws---  alice:team",
            "/home/alice/Maildir/.Projects.2026  drwx------  alice:alice",
        ),
        why="What bob and carla add here gets their own group, and alice cannot read it.",
        commands=(
            "chgrp -R team /home/alice/Maildir/.Projects.2026",
            "chmod 2770 /home/alice/Maildir/.Projects.2026",
        ),
        mailbox="alice/Projects/2026",
    ),
    Problem(
        "acl-syntax", Severity.WARNING, "A line of an ACL file matches nobody",
        subject="/home/hana/Maildir/.Sent/dovecot-acl",
        evidence=("line 3, column 9: a tab where a space must be: “user=ivan\tlr”",),
        why="ivan was meant to read this, and sees nothing.",
        commands=("sharefs acl fmt /home/hana/Maildir/.Sent/dovecot-acl",),
        mailbox="hana/Sent", user="ivan",
    ),
    Problem(
        "orphan-identifier", Severity.NOTICE, "A user who is gone still has access",
        subject="carla/Archive", evidence=("dovecot-acl:5  user=gerd lr", "no user gerd"),
        why="Should the name be given to somebody else, the mail is theirs to read.",
        commands=("sharefs acl delete -u carla Archive user=gerd",), mailbox="carla/Archive",
    ),
    Problem(
        "foreign-entry", Severity.NOTICE, "Something in a mail root is no mailbox",
        subject="/home/farid/Maildir/.dovecot.sieve.bak", evidence=("a plain file",),
        why="Some programs show it as a mailbox.",
    ),
)  # fmt: skip


def _tree() -> tuple[Directory, ...]:
    lines = [Directory(0, "/home", "drwxr-xr-x", "root", "root")]
    for owner in TEAM:
        lines.append(Directory(1, owner, "drwx--x--x", owner, owner))
        private = owner in ("mia", "kim")
        mode = "drwx------" if private else "drwxrws---"
        group = owner if private else "sharedmail"
        rule = "0600, group of the process" if private else "0660, group sharedmail (setgid)"
        root_problem = {"mia": Severity.WARNING, "farid": Severity.NOTICE}.get(owner)
        lines.append(Directory(2, "Maildir", mode, owner, group, "", rule, root_problem))
        for folder in FOLDERS[1:]:
            name = "." + folder.replace("/", ".")
            broken = owner == "alice" and folder == "Projects/2026"
            leak = owner == "pavel" and folder == "Archive"
            lines.append(
                Directory(
                    3, name,
                    "drwx------" if broken else "drwxr-xr-x" if leak else mode,
                    owner, owner if broken or leak else group,
                    "user:ivan:r-x" if (owner, folder) == ("hana", "Projects") else "",
                    "0600, group of the process" if broken or private else rule,
                    Severity.WARNING if broken else Severity.CRITICAL if leak else None,
                )
            )  # fmt: skip
    lines.append(Directory(0, "/srv/mail/public", "drwxrws--x", "root", "sharedmail"))
    lines.append(Directory(1, ".info", "drwxrws---", "grace", "sharedmail"))
    lines.append(Directory(1, ".news", "drwxrws---", "grace", "sharedmail"))
    return tuple(lines)


def large_matrix(users: int, mailboxes: int, *, seed: int = 1) -> Matrix:
    """Each mailbox shared to some, some of it wrongly; about 300 different cells."""
    chance = random.Random(seed)
    kinds = [
        Cell.of(acl, kernel, shell)
        for acl in ("", "l", "lr", "lrs", "lrwsi", "lrwstipe", LETTERS)
        for kernel in ("", "l", "lr", "lrwstipe", LETTERS, "lrwst")
        for shell in ("", "l", "lr", "lrwstipe", LETTERS, "lrk", "lre")
    ]
    builder = MatrixBuilder([User(f"user{at:04}") for at in range(users)])
    for at in range(mailboxes):
        owner = at % users
        cells = {chance.randrange(users): chance.choice(kinds) for _ in range(30)}
        cells[owner] = OWN
        name = f"user{owner:04}/{FOLDERS[at // users % len(FOLDERS)]}"
        default = Cell.of("lr", "lr") if at % 97 == 0 else NOTHING
        builder.add(Mailbox(name, f"user{owner:04}", f"/home/{name}"), cells, default=default)
    return builder.build()


def large(users: int = 1000, mailboxes: int = 5000) -> ReportModel:
    """A thousand users, five thousand mailboxes, 2,000 findings, 6,000 directories."""
    tree = []
    for at in range(users):
        tree.append(Directory(0, f"/home/user{at:04}", "drwx--x--x", f"user{at:04}", "users"))
        tree += [
            Directory(1, folder, "drwxrws---", f"user{at:04}", "sharedmail", "", "0660")
            for folder in FOLDERS[:5]
        ]
    problems = tuple(
        Problem(
            f"rule-{at % 12}", Severity(at % 3), f"Finding number {at}", f"/home/user{at % users}",
            (f"seen at {at}",), "It matters.", "Mend it.", (f"chmod 2770 /home/user{at % users}",),
        )
        for at in range(2000)
    )  # fmt: skip
    return ReportModel(
        host="big.example.org", made=MADE, config="/etc/sharefs/sharefs.conf", seconds=41.2,
        problems=problems, matrix=large_matrix(users, mailboxes), tree=tuple(tree),
    )  # fmt: skip
