"""What new files and directories will be like, and where old ones are otherwise.  Pure."""

import stat
from collections.abc import Iterator
from typing import Final

from sharefs.audit.commands import line
from sharefs.audit.facts import BoxFacts, FileKind, HostFacts, RootFacts
from sharefs.audit.findings import Finding, Severity, rule
from sharefs.audit.rules.access import people
from sharefs.audit.words import counted
from sharefs.permissions.access import Inode
from sharefs.rights import INSERT

AREA: Final = "creation"
UMASKS: Final = (0o077, 0o027, 0o022, 0o007, 0o002)  # those that people set

chgrp_fails = rule(
    "chgrp-will-fail", Severity.WARNING, AREA, "New mailboxes cannot be given their group",
    "Creating a mailbox fails, and so may opening one; new messages get the wrong group.",
)  # fmt: skip
bare = rule(
    "mailbox-cannot-be-made-whole", Severity.WARNING, AREA,
    "A mailbox has no cur, new and tmp, and its owner cannot make them",
    "It is listed, and cannot be opened. A restore or a script made the directory alone.",
)  # fmt: skip
setgid_missing = rule(
    "setgid-missing", Severity.WARNING, AREA, "Several users create here, and setgid is missing",
    "Each user's new files get his own group, so that the others cannot read them.",
)  # fmt: skip
setgid_lost = rule(
    "setgid-lost", Severity.WARNING, AREA, "setgid is lost one level down",
    "What is made below no longer gets the common group: sharing breaks there, and quietly.",
)  # fmt: skip
differs = rule(
    "mailbox-differs", Severity.NOTICE, AREA, "The mailbox differs from what it would be made like",
    "It cannot be renamed below another mailbox, copies into it are no hard links, and whoever"
    " set it so may have forgotten it.",
)  # fmt: skip
files_differ = rule(
    "files-differ", Severity.NOTICE, AREA, "Messages differ from the rule of their mailbox",
    "Some messages of a shared mailbox cannot be read, or flagged, by those who read the others.",
)  # fmt: skip
bad_umask = rule(
    "deliverer-umask", Severity.WARNING, AREA, "A deliverer's umask takes permissions away",
    "Messages that it delivers cannot be read by the people with whom the mailbox is shared.",
)  # fmt: skip
cannot_make = rule(
    "root-cannot-be-made", Severity.WARNING, AREA, "A user's mail root cannot be made",
    "The first delivery or login of this user fails: somebody made the directory above it so.",
)  # fmt: skip
hard_links = rule(
    "hard-link-across-permissions", Severity.WARNING, AREA,
    "One message file belongs to mailboxes with different permissions",
    "One of the two gives it to the wrong people: a file has one mode, whatever name it is"
    " opened by.",
)  # fmt: skip
wrong_owner = rule(
    "wrong-owner", Severity.WARNING, AREA, "Files belong to somebody who has no business there",
    "After a restore or a change of uids the owner cannot use his mail, and a stranger may.",
)  # fmt: skip


def find_chgrp_fails(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if root.chgrp and root.type == "private":
        yield chgrp_fails(
            f"{root.owner}: {root.path}", root.chgrp,
            remedy="let the kernel hand the group down, or put the user into the group with"
            " mail_access_groups",
            commands=(line("chmod", "g+s", root.path),), user=root.owner,
        )  # fmt: skip


def find_cannot_make(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if root.cannot_make:
        yield cannot_make(
            f"{root.owner}: {root.path}", root.cannot_make,
            remedy="let users of the same domain or group make directories there: setgid and"
            " group write on the first existing directory above; or make it for this one",
            commands=_made_root(root, facts), user=root.owner,
        )  # fmt: skip


def _made_root(root: RootFacts, facts: HostFacts) -> tuple[str, ...]:
    who = next((user.who for user in facts.users if user.name == root.owner), None)
    if who is None:
        return ()
    return (line("install", "-d", "-m", "0700", "-o", who.uid, "-g", who.gid, root.path),)


def find_bare(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    for name, path, why in root.bare:
        yield bare(
            f"{root.owner}: {name}", why,
            remedy="give it to the owner, or remove it if it is a leftover",
            commands=(line("chown", "-h", facts.uids[root.owner], path),)
            if root.owner in facts.uids else (),
            mailbox=name, user=root.owner, place=path,
        )  # fmt: skip


def find_setgid_missing(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if box.inode is None or box.inode.mode & stat.S_ISGID or _group_is_other(box.inode):
        return
    creators = [
        name
        for each in box.judged
        if each.rights.covers(INSERT) and "i" not in each.denied
        for name in each.people
    ]
    uids = {facts.uids[name] for name in creators}
    if len(uids) > 1 and box.inode.acl is None:
        yield setgid_missing(
            box.subject, f"{box.path}: {_facts(box.inode)}",
            f"{people(creators)} may add messages",
            remedy="set setgid, so that the kernel hands the group down",
            commands=(
                line("chmod", "g+s", box.path, *(inode.path for inode in box.folders.values())),
            ),
            mailbox=box.name,
        )  # fmt: skip


def find_setgid_lost(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    above = box.above
    lost = []
    if above is not None and box.inode is not None and _lost(above, box.inode):
        lost.append((above, box.inode))
    if box.inode is not None:
        lost += [(box.inode, folder) for folder in box.folders.values() if _lost(box.inode, folder)]
    if lost:
        yield setgid_lost(
            box.subject,
            *(f"{inode.path}: {_facts(inode)}, below {parent.path}: {_facts(parent)}"
              for parent, inode in lost),
            remedy="set it again, and the group of the directory above",
            commands=tuple(
                f"{line('chgrp', parent.gid, inode.path)} && {line('chmod', 'g+s', inode.path)}"
                for parent, inode in lost
            ),
            mailbox=box.name,
        )  # fmt: skip


def _lost(above: Inode, below: Inode) -> bool:
    return bool(above.mode & stat.S_ISGID) and not below.mode & stat.S_ISGID


def find_differs(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    above, here = box.above, box.inode
    if above is None or here is None or _lost(above, here):
        return
    modes = [stat.S_IMODE(inode.mode) & 0o777 | 0o700 for inode in (above, here)]
    handed_down = above.mode & stat.S_ISGID or not _group_is_other(above)
    groups = handed_down and above.gid != here.gid and not _group_is_other(here)
    if modes[0] != modes[1] or groups:
        yield differs(
            box.subject, f"{here.path}: {_facts(here)}", f"{above.path}: {_facts(above)}",
            remedy="make them alike, unless it is meant so: a mailbox's own permissions are how"
            " one is shared more or less than the others",
            mailbox=box.name,
        )  # fmt: skip


def find_files_differ(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    """Fewer bits than the rule, as a umask takes them, is a deliverer's fault."""
    if box.creation is None:
        return
    wanted = box.creation.file_mode
    by_umask: list[str] = []
    others: list[str] = []
    for kind in box.kinds:
        if kind.folder == "tmp" or not stat.S_ISREG(kind.mode):
            continue  # what is in tmp is not delivered yet
        mode = stat.S_IMODE(kind.mode) & 0o777
        group = box.creation.group
        wrong_group = group is not None and kind.gid != group and wanted & 0o070
        umask = next((mask for mask in UMASKS if wanted & ~mask == mode != wanted), None)
        if umask is not None and not wrong_group:
            by_umask.append(
                f"{_kind(kind)} instead of {wanted:04o}, as a umask of {umask:04o} would"
            )
        elif mode != wanted or wrong_group:
            expected = f"{wanted:04o}" + (f" group {group}" if wrong_group else "")
            others.append(f"{_kind(kind)} instead of {expected}")
    places = [box.path / name for name in ("cur", "new")]
    command = (line("find", *places, "-type", "f", "-exec", "chmod", f"{wanted:04o}", "{}", "+"),)
    if by_umask:
        remedy = "set the deliverer's umask to 0007 or 0000, and mend the modes of what is there"
        yield bad_umask(box.subject, *by_umask, remedy=remedy, commands=command, mailbox=box.name)
    if others:
        remedy = "give them the mode and the group of new messages"
        yield files_differ(box.subject, *others, remedy=remedy, commands=command, mailbox=box.name)


def find_wrong_owner(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if root.type != "private" or box.inode is None:
        return
    owner = facts.uids.get(box.owner)
    if owner is None:
        return
    allowed = {owner}
    for each in box.judged:
        if each.rights.covers(INSERT):
            allowed |= {facts.uids[name] for name in each.people}
    evidence = [
        f"{inode.path} belongs to uid {inode.uid}"
        for inode in (box.inode, *box.folders.values())
        if inode.uid not in allowed
    ]
    evidence += [
        f"{_kind(kind)} of uid {kind.uid}" for kind in box.kinds if kind.uid not in allowed
    ]
    if evidence:
        yield wrong_owner(
            box.subject, *evidence, remedy="give them back to the owner",
            commands=(line("chown", "-R", "-h", owner, box.path),), mailbox=box.name,
        )  # fmt: skip


def find_umask_of_processes(facts: HostFacts) -> Iterator[Finding]:
    for process in facts.processes:
        if process.delivers and process.umask is not None and process.umask & 0o070:
            yield bad_umask(
                f"process {process.name}, uid {process.uid}",
                f"pid {process.pid} has umask {process.umask:04o}",
                remedy="deliver with a umask of 0007 or 0000; the mailboxes decide over modes",
                severity=Severity.NOTICE if process.umask & 0o077 != 0o077 else None,
            )


def find_hard_links(facts: HostFacts) -> Iterator[Finding]:
    for one, other in facts.crossing:
        yield hard_links(
            f"{one} and {other}", f"a message file has a name in {one} and one in {other}",
            remedy="copy the file, so that each mailbox has its own",
        )  # fmt: skip


def _group_is_other(inode: Inode) -> bool:
    return inode.mode >> 3 & 7 == inode.mode & 7


def _facts(inode: Inode) -> str:
    return f"mode {stat.S_IMODE(inode.mode):04o}, owner {inode.uid}:{inode.gid}"


def _kind(kind: FileKind) -> str:
    mode = stat.S_IMODE(kind.mode)
    files = counted(kind.count, "file")
    return f"{files} like {kind.sample} (mode {mode:04o}, group {kind.gid})"


BOX_RULES: Final = (
    find_setgid_missing,
    find_setgid_lost,
    find_differs,
    find_files_differ,
    find_wrong_owner,
)
ROOT_RULES: Final = (find_bare, find_chgrp_fails, find_cannot_make)
HOST_RULES: Final = (find_umask_of_processes, find_hard_links)
