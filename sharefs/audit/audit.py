"""`sharefs audit` without its command line: facts are gathered, rules applied, findings come out.

Only reads.  Findings are yielded as they are found; what they were found in is forgotten.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

from sharefs.audit.facts import Account, HostFacts, Known, ProcessFacts, RootFacts, UserFacts
from sharefs.audit.findings import Finding
from sharefs.audit.gather import Gatherer, Selection
from sharefs.audit.mboxes import linked_mboxes
from sharefs.audit.mounts import has_view, mounts_of_host
from sharefs.audit.people import KnownHomes, login_accounts, mail_processes, users_of
from sharefs.audit.probing import Probed
from sharefs.audit.resuming import Outcome, ResumeFile
from sharefs.audit.rules import judge_host, judge_root
from sharefs.audit.viewing import ViewerContext
from sharefs.audit.workers import in_processes
from sharefs.config import Config, ConfigError, Severity
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Kind
from sharefs.identity import groups
from sharefs.identity.userdb import UserDatabase

MIN_OWNERS: Final = 8  # for each process; fewer are not worth starting one


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an audit is.  owners: users done; of: users to do; entries: looked at."""

    owners: int
    of: int
    entries: int


@dataclass(frozen=True, slots=True)
class _Part:
    """What came of one mail root of a user.  root: its facts, if somebody wants them."""

    user: str
    mailboxes: int
    findings: list[Finding]
    root: RootFacts | None


@dataclass(slots=True)
class Audit:
    """One run.

    only: names of users to audit; empty: all that can be listed.  namespaces: the same for
    namespaces.  accounts, processes: of this host; None: find them out.  observe: gets the facts of
    every mail root before its findings come; people: who was compared, once run() has begun.
    jobs: how many processes look at owners' mail, if there are owners enough.  resume: where to
    remember what is done, and what was done already.  probes: of file systems that were tried.
    """

    config: Config
    database: UserDatabase
    only: Sequence[str] = ()
    namespaces: frozenset[str] = frozenset()
    accounts: list[Account] | None = None
    processes: list[ProcessFacts] | None = None
    progress: Callable[[Progress], None] | None = None
    observe: Callable[[RootFacts], None] | None = None
    jobs: int = 1
    resume: ResumeFile | None = None
    probes: Sequence[Probed] = ()
    people: tuple[UserFacts, ...] = ()
    users: int = 0
    mailboxes: int = 0
    entries: int = 0
    _exists: dict[str, bool] = field(default_factory=dict)

    def run(self) -> Iterator[Finding]:
        """Every finding.

        Raises ConfigError if the configuration has errors and therefore nobody's mail is found;
        SharingError(UNAVAILABLE) if no user can be listed, (NONEXISTENT) if there is no such
        namespace or user: nothing would be found there, which reads as if all were well.
        """
        self._demand_namespaces()
        accounts = login_accounts() if self.accounts is None else self.accounts
        bad: dict[str, str] = {}
        with groups.remembering():
            users = list(users_of(self.database, self._names(), bad, accounts, demanded=self.only))
        if not users and not bad:
            self._raise_nobody()
        chosen = [user for user in users if self._is_chosen(user)]
        if users and not chosen and not bad:
            uid = os.geteuid()
            raise SharingError(Code.NO_PERMISSION, f"no mail user has uid {uid}: run it as root")
        self.users = len(chosen)
        self.people = tuple(users)
        facts = HostFacts(
            problems=self.config.problems,
            users=tuple(users),
            uids={user.name: user.who.uid for user in users},
            accounts=tuple(accounts),
            access_groups=_access_groups(self.config, users),
            processes=tuple(mail_processes() if self.processes is None else self.processes),
            known=self._known(users),
            probes=tuple(self.probes),
            no_view=_no_view(self.config),
            mbox=tuple(linked_mboxes(
                self.config, (user.user for user in chosen), self.database
            )),
            unlisted=() if self.only else tuple(
                database.label for database in self.database.unlisted
            ),
        )  # fmt: skip
        selection = Selection(self.namespaces)
        homes = KnownHomes(self.database, {user.name: user.user.home for user in users})
        gatherer = Gatherer(self.config, homes, users, accounts, selection, self._tick, bad,
                            self.probes)  # fmt: skip
        gatherer.prepare()
        facts = self._with_map(facts, users)
        yield from self._private(gatherer, chosen, facts)
        for root in gatherer.public(chosen):
            yield from self._judged(self._part("", root, facts))
        gatherer.take(gatherer.outcome_of(""))
        if not self.namespaces:
            crossing = tuple(gatherer.crossing)
            yield from judge_host(replace(facts, bad_users=bad, crossing=crossing))

    def _is_chosen(self, user: UserFacts) -> bool:
        """Who is not the superuser sees his own mail: of others' he would only find it closed."""
        if self.only:
            return user.name in self.only
        return os.geteuid() in (0, user.who.uid)

    def _demand_namespaces(self) -> None:
        present = {space.name for space in self.config.settings().namespaces}
        for name in sorted(self.namespaces - present):
            listed = ", ".join(sorted(present)) or "none"
            text = f"the configuration has no namespace {name!r}; it has {listed}"
            raise SharingError(Code.NONEXISTENT, text)

    def _private(
        self, gatherer: Gatherer, chosen: list[UserFacts], facts: HostFacts
    ) -> Iterator[Finding]:
        """Every owner's mail, by as many processes as there are jobs."""
        done: set[str] = set()
        for outcome in () if self.resume is None else self.resume.outcomes():
            done.add(outcome.user)
            gatherer.take(outcome)
            self.mailboxes += outcome.mailboxes
            self.entries += outcome.entries
            yield from outcome.findings
        left = [user for user in chosen if user.name not in done]
        jobs = max(1, min(self.jobs, len(left) // MIN_OWNERS))
        before = self.entries

        def work(number: int) -> Iterator[_Part | Outcome]:
            for user in left[number::jobs]:
                self.entries = 0
                for root in gatherer.private(user):
                    yield self._part(user.name, root, facts)
                outcome = gatherer.outcome_of(user.name)
                outcome.entries = self.entries
                yield outcome

        parts: dict[str, list[_Part]] = {}
        for result in in_processes(jobs, work):
            if isinstance(result, _Part):
                parts.setdefault(result.user, []).append(result)
                yield from self._judged(result)
                continue
            before += result.entries
            done.add(result.user)
            self._keep(result, parts.pop(result.user, []))
            gatherer.take(result)
            self._report(len(done), before)
        self.entries = before

    def _keep(self, outcome: Outcome, parts: list[_Part]) -> None:
        if self.resume is not None:
            outcome.mailboxes = sum(part.mailboxes for part in parts)
            outcome.findings = [finding for part in parts for finding in part.findings]
            self.resume.add(outcome)

    def _part(self, user: str, root: RootFacts, facts: HostFacts) -> "_Part":
        self._learn_names(root, facts)
        findings = list(judge_root(root, facts))
        seen = root if self.observe is not None else None
        return _Part(user, len(root.boxes), findings, seen)

    def _judged(self, part: "_Part") -> Iterator[Finding]:
        self.mailboxes += part.mailboxes
        if self.observe is not None and part.root is not None:
            self.observe(part.root)
        yield from part.findings

    def _raise_nobody(self) -> NoReturn:
        if any(problem.severity is Severity.ERROR for problem in self.config.problems):
            raise ConfigError(self.config.problems)
        raise SharingError(
            Code.UNAVAILABLE,
            "no user database lists a user; name those to be audited with --user",
        )

    def _names(self) -> list[str]:
        """Everybody: comparisons need those too who are not audited themselves."""
        names = list(self.database.iterate())
        return names + [name for name in self.only if name not in names]

    def _known(self, users: list[UserFacts]) -> Known:
        return Known(
            frozenset(user.name for user in users),
            self._exists,
            frozenset(name for user in users for name in user.user.acl_groups),
            frozenset(user.user.acl_user for user in users),
        )

    def _learn_names(self, root: RootFacts, facts: HostFacts) -> None:
        """Whether those exist whom the ACLs of this root name."""
        for box in root.boxes:
            for entry in () if box.acl is None else box.acl.acl.entries:
                name = entry.identifier.name
                if entry.identifier.kind is not Kind.USER or name in facts.known.acl_users:
                    continue
                if name not in self._exists:
                    try:
                        self._exists[name] = self.database.exists(name)
                    except SharingError:
                        self._exists[name] = True  # nobody can tell, so nothing is said

    def _with_map(self, facts: HostFacts, users: list[UserFacts]) -> HostFacts:
        """The sharing map as a whole, as the first usable account has it."""
        for user in users:
            try:
                context = ViewerContext(self.config, user.user, self.database)
            except SharingError:
                continue
            facts = replace(facts, allow_anyone=context.settings.imap_acl_allow_anyone)
            if context.share_map is None:
                return facts
            place = str(context.settings.sharing_map and context.settings.sharing_map.path)
            try:
                shared = context.share_map.all()
            except SharingError as refusal:
                if os.geteuid() != 0 and isinstance(refusal.__cause__, PermissionError):
                    return replace(facts, map_hidden=((place, refusal.detail),))
                return replace(facts, map_flaws=((place, refusal.detail),))
            return replace(facts, gone=tuple(sorted(self._gone(shared))))
        return facts

    def _gone(self, shared: Iterable[str]) -> Iterator[str]:
        for owner in shared:
            try:
                if not self.database.exists(owner):
                    yield owner
            except SharingError:
                continue

    def _tick(self, entries: int) -> None:
        self.entries += entries

    def _report(self, owners: int, entries: int) -> None:
        if self.progress is not None:
            self.progress(Progress(owners, self.users, entries))


def _no_view(config: Config) -> str:
    """The configured mount point if there is no view on it."""
    point = config.settings().sharefs_mount_point
    return point if point and not has_view(point, mounts_of_host()) else ""


def _access_groups(config: Config, users: Iterable[UserFacts]) -> dict[int, str]:
    """gid -> where mail_access_groups names it: in the configuration, or for some user."""
    settings = config.settings()
    found: dict[int, str] = {}
    origin = settings.origin("mail_access_groups")
    for name in settings.mail_access_groups:
        try:
            found[groups.group_of(name, str(origin)).gid] = f"mail_access_groups at {origin}"
        except SharingError:
            continue  # the loader's own check has said so
    for user in users:
        for gid, where in user.access_groups.items():
            found.setdefault(gid, where)
    return found
