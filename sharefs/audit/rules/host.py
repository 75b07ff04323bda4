"""File systems, strange entries, locks, and what could not be looked at.  Pure."""

from collections.abc import Iterator
from typing import Final

from sharefs.audit.commands import line
from sharefs.audit.facts import BoxFacts, HostFacts, RootFacts
from sharefs.audit.findings import Finding, Severity, rule
from sharefs.audit.mounts import Mount

AREA: Final = "host"
STALE: Final = 600.0  # seconds; every lock of ours and of Dovecot's is overridden before that

group_of_directory = rule(
    "mount-grpid", Severity.NOTICE, AREA, "The file system gives every file its directory's group",
    "Files get the directory's group without setgid, so directories made elsewhere behave"
    " differently after a move.",
)  # fmt: skip
network = rule(
    "mount-network", Severity.NOTICE, AREA, "Mail is on a network file system",
    "The server has a say: it may squash root, ignore groups beyond the 16th, and lock badly."
    " What this audit says of permissions is the client's half.",
)  # fmt: skip
no_acls = rule(
    "mount-noacl", Severity.WARNING, AREA, "The file system is mounted without POSIX ACLs",
    "Entries for single users have no effect there.",
)  # fmt: skip
read_only = rule(
    "mount-read-only", Severity.WARNING, AREA, "Mail is on a read-only file system",
    "Nothing can be delivered, flagged or deleted.",
)  # fmt: skip
locks_alone = rule(
    "mount-local-locks", Severity.WARNING, AREA, "Locks are not shared with other hosts",
    "Two hosts with the same mail each take the lock, and both write: mailboxes are corrupted.",
)  # fmt: skip
no_permissions = rule(
    "mount-no-permissions", Severity.CRITICAL, AREA, "The file system keeps no owners and modes",
    "Every file belongs to whom the mount says, whatever was set: nothing protects one user's mail"
    " from another.",
)  # fmt: skip
setgid_ignored = rule(
    "mount-setgid-ignored", Severity.WARNING, AREA, "setgid on directories has no effect",
    "Sharing by groups depends on it: new files get their maker's group, and the others cannot"
    " read them.",
)  # fmt: skip
no_links = rule(
    "mount-no-links", Severity.NOTICE, AREA, "The file system has no hard links",
    "COPY then writes every message a second time, and locks of the old kind cannot be taken.",
)  # fmt: skip
no_view = rule(
    "mount-not-there", Severity.CRITICAL, AREA, "The mount that serves shared mail is not there",
    "Shares are reached through it alone, so nobody reads anybody else's mail.",
)  # fmt: skip
overlay = rule(
    "mount-overlay", Severity.NOTICE, AREA, "Mail is on an overlay",
    "What lay below it is copied when it is first changed: hard links come apart, every new flag"
    " writes a whole message, and mailboxes from below cannot be renamed.",
)  # fmt: skip
foreign = rule(
    "foreign-entry", Severity.NOTICE, AREA, "Entries in a mail root that no mail program made",
    "Some programs take them for mailboxes, count them for quota, or trip over them.",
)  # fmt: skip
marker = rule(
    "marker-in-root", Severity.NOTICE, AREA, "maildirfolder is in a mail root",
    "It says that this is a subfolder: deliverers then count quota wrongly and look above it."
    " Dovecot 2.3 makes it there itself at times.",
)  # fmt: skip
stale_lock = rule(
    "stale-lock", Severity.NOTICE, AREA, "A lock file has been left behind",
    "The first who wants the lock waits until it counts as stale.",
)  # fmt: skip
unreadable = rule(
    "unreadable", Severity.WARNING, AREA, "Something could not be looked at",
    "What is there was not audited.",
)  # fmt: skip
changed = rule(
    "changed-meanwhile", Severity.NOTICE, AREA, "Something went away while it was looked at",
    "Mail in use changes; run the audit again if it matters.",
)  # fmt: skip
orphan_child = rule(
    "orphan-child", Severity.NOTICE, AREA, "A mailbox whose parent does not exist",
    "Left over when the parent was deleted; clients show a level that cannot be opened.",
)  # fmt: skip


def find_mount(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    """Said once of each mount, however many mail roots are on it."""
    mount = root.mount
    if mount is None or root.inode is None:
        return
    evidence = f"{mount.point}: {mount.describe()}"
    if mount.read_only or root.inode.read_only:
        yield read_only(mount.point, evidence, remedy="mount it writable",
                        commands=(line("mount", "-o", _writable(mount), mount.point),))  # fmt: skip
    if mount.acls_off:
        yield no_acls(mount.point, evidence, remedy="mount it with acl",
                      commands=(line("mount", "-o", "remount,acl", mount.point),))  # fmt: skip
    elif root.keeps_acls is False and not mount.is_foreign:
        yield no_acls(
            mount.point, evidence, "asked for a POSIX ACL, it says that it keeps none",
            remedy="share by groups, or move the mail to a file system with POSIX ACLs",
        )  # fmt: skip
    if mount.group_of_directory:
        yield group_of_directory(mount.point, evidence, remedy="nothing, if it is meant so")
    if mount.is_network:
        yield network(mount.point, evidence, remedy="try what matters as the user himself")
    if mount.is_overlay:
        yield overlay(mount.point, evidence, remedy="keep mail on a file system of its own, a"
                      " volume in the case of a container")  # fmt: skip
    if mount.locks_alone:
        yield locks_alone(
            mount.point, evidence, remedy="mount it without nolock and local_lock, unless this is"
            " the only host that has the mail",
        )  # fmt: skip
    if mount.is_foreign:
        yield no_permissions(
            mount.point, evidence, remedy="move the mail to a file system with owners and modes"
        )


def _writable(mount: Mount) -> str:
    return "remount,bind,rw" if mount.read_only_bind else "remount,rw"


def find_probed(facts: HostFacts) -> Iterator[Finding]:
    """What was tried and came out otherwise than the mount's options say."""
    for probed in facts.probes:
        where = probed.point or probed.directory
        if probed.flaw:
            yield unreadable(f"probe of {probed.directory}", probed.flaw,
                             remedy="name a directory that root may write to")  # fmt: skip
        if probed.hands_down is False:
            yield setgid_ignored(
                where, f"a directory made in a setgid one below {probed.directory} got another"
                " group, or no setgid",
                remedy="look for squashed ids at the server, or move the mail",
            )  # fmt: skip
        if probed.group_of_directory and not probed.said_grpid:
            yield group_of_directory(
                where, f"a file made below {probed.directory} got its directory's group",
                remedy="nothing, if it is meant so",
            )  # fmt: skip
        if probed.keeps_acls is False:
            yield no_acls(
                where, f"a POSIX ACL cannot be set below {probed.directory}",
                remedy="share by groups, or move the mail to a file system with POSIX ACLs",
            )  # fmt: skip
        if probed.keeps_owners is False:
            yield no_permissions(
                where, f"owner, group or mode of a file below {probed.directory} did not stay",
                remedy="move the mail to a file system with owners and modes",
            )  # fmt: skip
        if probed.links is False:
            yield no_links(
                where, f"a hard link cannot be made below {probed.directory}",
                remedy="nothing: COPY copies there",
            )  # fmt: skip


def find_view(facts: HostFacts) -> Iterator[Finding]:
    if facts.no_view:
        yield no_view(
            facts.no_view, "sharefs_mount_point names it, and no view is mounted there",
            remedy="mount it, and have it mounted at boot (docs/mount.md)",
            commands=(line("sharefs", "mount", facts.no_view),), place=facts.no_view,
        )  # fmt: skip


def find_entries(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if root.foreign:
        yield foreign(
            str(root.path), "not known: " + ", ".join(root.foreign),
            remedy="move them elsewhere", user=root.owner,
        )  # fmt: skip
    if root.marker:
        yield marker(
            str(root.path), f"{root.path}/maildirfolder", remedy="remove it",
            commands=(line("rm", root.path / "maildirfolder"),), user=root.owner,
        )  # fmt: skip


def find_troubles(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    for trouble in root.troubles:
        found = changed if trouble.vanished else unreadable
        yield found(
            trouble.path, trouble.why,
            remedy="look again" if trouble.vanished else "run the audit as root, or mend it",
            user=root.owner, place=trouble.path,
        )  # fmt: skip


def find_orphans(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    names = {box.levels: box.name for box in root.boxes}
    found = [box for box in root.boxes if len(box.levels) > 1 and box.levels[:-1] not in names]
    lonely = sorted(box.name for box in found)
    above = sorted({_name_above(box) for box in found})
    if lonely:
        yield orphan_child(
            f"{root.owner or root.namespace}: {root.path}", ", ".join(lonely[:10]),
            remedy="make the parent again, or move them",
            commands=(line("sharefs", "mailbox", "create", "-u", root.owner, "--", *above),)
            if root.owner else (),
            user=root.owner,
        )  # fmt: skip


def _name_above(box: BoxFacts) -> str:
    """As its owner spells it: the same name without the last level."""
    return box.name[: -len(box.levels[-1]) - 1]


def find_locks_of_root(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    yield from _locks(str(root.path), root.locks, root.owner, "")


def find_locks(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    yield from _locks(str(box.path), box.locks, box.owner, box.name)


def _locks(
    path: str, locks: tuple[tuple[str, float], ...], owner: str, name: str
) -> Iterator[Finding]:
    """locks: names and how old they are, in seconds."""
    for lock, age in locks:
        if age > STALE:
            yield stale_lock(
                f"{path}/{lock}", f"it is {age / 60:.0f} minutes old",
                remedy="remove it if no process holds it", commands=(line("rm", f"{path}/{lock}"),),
                mailbox=name, user=owner,
            )  # fmt: skip


def find_foreign(box: BoxFacts, root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    if box.foreign:
        yield foreign(
            box.subject, f"in {box.path}: " + ", ".join(box.foreign),
            remedy="move them elsewhere", mailbox=box.name,
        )  # fmt: skip


def find_hidden(facts: HostFacts) -> Iterator[Finding]:
    for path, why in facts.map_hidden:
        yield unreadable(path, why, remedy="run the audit as root")


BOX_RULES: Final = (find_locks, find_foreign)
ROOT_RULES: Final = (find_mount, find_entries, find_troubles, find_orphans, find_locks_of_root)
HOST_RULES: Final = (find_probed, find_view, find_hidden)
