"""Settings that cannot work, or mean something else than they seem to.  Pure."""

from collections.abc import Iterator
from typing import Final

from sharefs.audit.facts import HostFacts, RootFacts, UserFacts
from sharefs.audit.findings import Finding, Severity, rule
from sharefs.audit.rules.access import people
from sharefs.config import Severity as ConfigSeverity

AREA: Final = "configuration"

configuration = rule(
    "configuration", Severity.WARNING, AREA, "The configuration has a flaw",
    "The loader's own checks: what the documentation of shared mailboxes warns of.",
)  # fmt: skip
no_effect = rule(
    "setting-without-effect", Severity.NOTICE, AREA, "A setting that sharefs does not know",
    "Dovecot obeys it. It matters where sharefs is to serve the mail itself; no answer of this"
    " audit depends on it.",
)  # fmt: skip
other_format = rule(
    "format-not-read", Severity.WARNING, AREA, "Mail that is no Maildir was not looked at",
    "Only Maildirs are audited; of this namespace nothing is known but its settings.",
)  # fmt: skip
unusable_place = rule(
    "place-unusable", Severity.WARNING, AREA, "A configured place cannot be used",
    "Control files, indexes or the sharing map cannot be written there by the user's mail process.",
)  # fmt: skip
user_unusable = rule(
    "user-unusable", Severity.WARNING, AREA, "A user cannot log in as the databases have him",
    "A login of this user fails, and this audit does not see his mail.",
)  # fmt: skip
users_unlisted = rule(
    "users-unlisted", Severity.NOTICE, AREA, "A user database cannot list its users",
    "This audit sees only users that can be listed, or are named with --user.",
)  # fmt: skip
shell_has_group = rule(
    "access-group-in-shells", Severity.WARNING, AREA,
    "A group for mail processes is a login shell's group too",
    "mail_access_groups is meant for groups that only mail processes have; with a shell that has"
    " one, its user goes round every ACL.",
)  # fmt: skip
process_lacks_group = rule(
    "process-lacks-group", Severity.WARNING, AREA, "A running mail process lacks an access group",
    "It was started before the setting was made, or by something that does not know it: shared"
    " mail is closed to it.",
)  # fmt: skip
mbox_link = rule(
    "mbox-link-dotlock", Severity.WARNING, AREA, "An mbox behind a link with dotlocks only",
    "The lock file lies beside the link and protects nothing: two writers corrupt the mbox.",
)  # fmt: skip


def find_problems(facts: HostFacts) -> Iterator[Finding]:
    severities = {
        ConfigSeverity.ERROR: Severity.CRITICAL,
        ConfigSeverity.WARNING: Severity.WARNING,
        ConfigSeverity.UNIMPLEMENTED: Severity.NOTICE,
    }
    for problem in facts.problems:
        found = no_effect if problem.severity is ConfigSeverity.UNIMPLEMENTED else configuration
        yield found(
            f"{problem.place} {problem.check}".strip(), problem.message,
            remedy=problem.remedy or "see docs/configuration.md",
            severity=severities[problem.severity], place=str(problem.place or ""),
        )  # fmt: skip


def find_users(facts: HostFacts) -> Iterator[Finding]:
    for name, why in sorted(facts.bad_users.items()):
        yield user_unusable(name, why, remedy="correct the entry of the user", user=name)
    for database in facts.unlisted:
        yield users_unlisted(database, "its users cannot be listed", remedy="name them with --user")


def find_format(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    """Said once of each namespace, however many users have it."""
    if root.driver != "maildir":
        yield other_format(
            f"namespace {root.namespace}", f"its mail_driver is {root.driver}",
            remedy="convert it, for instance with doveadm sync, or leave it out with --namespace",
        )  # fmt: skip


def find_places(root: RootFacts, facts: HostFacts) -> Iterator[Finding]:
    for setting, why in root.unusable:
        yield unusable_place(
            f"{root.owner or root.namespace}: {setting}", why,
            remedy="give the user's mail process write permission there, by group and setgid",
            user=root.owner,
        )  # fmt: skip


def find_shells_with_groups(facts: HostFacts) -> Iterator[Finding]:
    for gid, origin in sorted(facts.access_groups.items()):
        names = [account.name for account in facts.accounts if account.who.in_group(gid)]
        if names:
            yield shell_has_group(
                f"group {gid}", f"{origin}", f"login shells of {people(names)} have it",
                remedy="use a group without members for mail_access_groups",
            )  # fmt: skip


def find_processes(facts: HostFacts) -> Iterator[Finding]:
    by_uid: dict[int, list[UserFacts]] = {}
    for user in facts.users:
        by_uid.setdefault(user.who.uid, []).append(user)
    for process in facts.processes:
        if process.uid not in by_uid or process.delivers:
            continue
        # Several users may have one uid; the process is one of theirs, nobody knows whose.
        theirs = [set(user.access_groups) for user in by_uid[process.uid]]
        missing = sorted(set.intersection(*theirs) - process.gids)
        if missing:
            name = by_uid[process.uid][0].name
            origins = by_uid[process.uid][0].access_groups
            yield process_lacks_group(
                f"process {process.name} of {name}",
                f"pid {process.pid} lacks group {', '.join(map(str, missing))}",
                *(f"{gid}: {origins[gid]}" for gid in missing),
                remedy="restart the mail server", user=name,
            )  # fmt: skip


def find_mbox(facts: HostFacts) -> Iterator[Finding]:
    for path, why in facts.mbox:
        yield mbox_link(path, why, remedy="add fcntl to mbox_write_locks and mbox_read_locks")


ROOT_RULES: Final = (find_places, find_format)
HOST_RULES: Final = (
    find_problems,
    find_users,
    find_shells_with_groups,
    find_processes,
    find_mbox,
)
