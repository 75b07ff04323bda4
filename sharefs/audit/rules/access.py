"""Who can read what: where ACL and kernel disagree, and who is locked out.  Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from sharefs.audit.commands import line, on_acl, planned
from sharefs.audit.facts import BoxFacts, HostFacts, RootFacts
from sharefs.audit.findings import Finding, Severity, rule
from sharefs.rights import ADMIN, LOOKUP, READ

AREA: Final = "access"
MAX_NAMED: Final = 10  # people named in one line

acl_without_access = rule(
    "acl-without-access", Severity.WARNING, AREA, "The ACL grants what the kernel denies",
    "The share looks right to whoever set it up, and fails for the people it is meant for.",
)  # fmt: skip
access_without_acl = rule(
    "access-without-acl", Severity.CRITICAL, AREA,
    "A shell user can read what the ACL does not grant",
    "ACLs are obeyed by mail servers alone. Whoever has a shell on this host reads the files with"
    " any program, and nobody notices.",
)  # fmt: skip
world_readable = rule(
    "world-readable-mail", Severity.CRITICAL, AREA, "Everybody on this host can read the messages",
    "Every account and every program on the host reads this mail, whatever the ACL says.",
)  # fmt: skip
other_readers = rule(
    "readers-beyond-sharees", Severity.CRITICAL, AREA,
    "Accounts that are no mail users can read the messages",
    "The group of the files has members with whom nothing was shared.",
)  # fmt: skip
owner_locked_out = rule(
    "owner-locked-out", Severity.CRITICAL, AREA, "The owner cannot use his own mailbox",
    "His mail is there and he does not see it, or cannot read it or change its ACL.",
)  # fmt: skip
no_administrator = rule(
    "no-administrator", Severity.WARNING, AREA, "Nobody may change the ACL",
    "Only root can still share this mailbox or take a share back.",
)  # fmt: skip


def people(names: Sequence[str]) -> str:
    """ "alice, bob and 7 more"."""
    shown = ", ".join(sorted(names)[:MAX_NAMED])
    return shown + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")


def find_acl_without_access(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    for each in box.judged:
        # No plan opens a mail root for writing: who could make one mailbox could make any.
        denied = {letter: why for letter, why in each.denied.items() if letter != "k"}
        if each.is_owner or not denied:
            continue
        by_reason: dict[str, str] = {}
        for letter, why in denied.items():
            by_reason[why] = by_reason.get(why, "") + letter
        name = box.name if not box.owner else f"the mailbox {box.name} of {box.owner}"
        yield acl_without_access(
            box.subject,
            *(f"{people(each.people)}: {', '.join(letters)} refused: {why}"
              for why, letters in by_reason.items()),
            remedy=f"let the permissions follow the ACL of {name}, or take the rights back;"
            " sharefs explain names the smallest change",
            commands=planned("posix-acl", root),
            mailbox=box.name, user=sorted(each.people)[0],
        )  # fmt: skip


def find_access_without_acl(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if box.stranger:
        return  # world-readable-mail says it of everybody
    for each in box.judged:
        if each.leaked:
            yield access_without_acl(
                box.subject, f"{people(each.people)} can read {each.leaked}",
                remedy=f"close {box.path} to them: chmod o-rwx, another group, or no POSIX ACL"
                " entry; or grant the right r, if they are meant to read it",
                commands=_closed(box, root, facts),
                mailbox=box.name, user=sorted(each.people)[0],
            )  # fmt: skip


def _closed(box: BoxFacts, root: RootFacts, facts: HostFacts) -> tuple[str, ...]:
    """The files get the owner's own group; then whom the ACL names gets an entry of his own."""
    own = next((user.who.gid for user in facts.users if user.name == box.owner), None)
    inode = box.inode
    by_group = own is not None and inode is not None and inode.mode & 0o050 and inode.gid != own
    first = (line("chgrp", "-R", "-h", own, box.path),) if by_group else ()
    return first + planned("posix-acl", root)


def find_world_readable(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if box.stranger:
        yield world_readable(
            box.subject, f"anybody can read {box.stranger}",
            remedy="close the mail root to others; the files may stay as they are",
            commands=(line("chmod", "o-rwx", root.path),), mailbox=box.name,
        )  # fmt: skip


def find_other_readers(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if box.outsiders and not box.stranger:
        yield other_readers(
            box.subject, f"{people(box.outsiders)} can read the messages",
            remedy=f"take them out of the group of {box.path}, or give it the owner's own group"
            " and single users POSIX ACL entries",
            commands=_closed(box, root, facts), mailbox=box.name,
        )  # fmt: skip


def find_owner_locked_out(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    for each in box.judged:
        if not each.is_owner:
            continue
        missing = (LOOKUP | READ | ADMIN) - each.rights
        evidence = []
        if missing:
            evidence.append(f"the ACL does not give {box.owner}: {' '.join(missing.long_names())}")
        evidence += [f"{letter}: {why}" for letter, why in each.denied.items() if letter in "lri"]
        if evidence:
            path = box.acl.path if box.acl is not None else box.path
            remedy = (
                f"look at {path}, and at the owner and mode of {box.path};"
                f" sharefs explain {box.owner} '{box.name}' read tells each step"
            )
            mendable = missing and not (box.acl is not None and box.acl.malformed)
            commands = on_acl("add", box, "owner", *missing.long_names()) if mendable else ()
            commands += tuple(_given_back(box, facts.uids.get(box.owner)))
            yield owner_locked_out(
                box.subject, *evidence, remedy=remedy, commands=commands, mailbox=box.name
            )


def _given_back(box: BoxFacts, uid: int | None) -> Iterator[str]:
    """What lets the owner into his own files again."""
    inodes = [inode for inode in (box.inode, *box.folders.values()) if inode is not None]
    strange = [inode.path for inode in inodes if uid is not None and inode.uid != uid]
    closed = [inode.path for inode in inodes if inode.mode & 0o700 != 0o700]
    if strange:
        yield line("chown", "-h", uid, *strange)
    if closed:
        yield line("chmod", "u+rwx", *closed)


def find_no_administrator(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if not box.judged or (root.type == "public" and not _has_entries(box)):
        return  # a public mailbox without an ACL has no rights at all, and that is meant so
    if not any(each.rights.covers(ADMIN) for each in box.judged):
        yield no_administrator(
            box.subject, "no user has the right a",
            remedy="give it to somebody",
            commands=on_acl("add", box, f"user={box.owner}", "admin"),
            mailbox=box.name,
        )  # fmt: skip


def _has_entries(box: BoxFacts) -> bool:
    return box.effective_acl is not None and bool(box.effective_acl.entries)


BOX_RULES: Final = (
    find_acl_without_access,
    find_access_without_acl,
    find_world_readable,
    find_other_readers,
    find_owner_locked_out,
    find_no_administrator,
)
