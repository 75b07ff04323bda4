"""`sharefs plan`: say, change by change, what would make the kernel agree with the ACLs."""

import contextlib
import datetime
import grp
import os
import pwd
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, Final

import click

from sharefs import fsops
from sharefs.account import Account
from sharefs.audit.people import login_accounts
from sharefs.audit.words import counted
from sharefs.cli._common.acting import run_as
from sharefs.cli._common.mail import Host, Who, user_options
from sharefs.cli._common.output import printable
from sharefs.errors import Code, SharingError
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser
from sharefs.permissions.inherit import DEFAULTS
from sharefs.repair.change import Change
from sharefs.repair.facts import Home, Person
from sharefs.repair.gather import walk
from sharefs.repair.plan_file import Note, plan_lines
from sharefs.repair.planner import plan_home
from sharefs.repair.public import public_homes
from sharefs.repair.stores import plan_stores
from sharefs.repair.strategies import Name, Options
from sharefs.repair.survey import describe, describe_stores, homes_of, person_of

STORES: Final = "stores"


@click.command(short_help="Plan changes that make the kernel allow what ACLs grant.")
@user_options()
@click.argument("strategy", type=click.Choice([*(name.value for name in Name), STORES]))
@click.option("-o", "--output", metavar="FILE", type=click.Path(dir_okay=False),
              help="Write the plan there, for `sharefs apply`.  It must not exist.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the plan as it would be written.")
@click.option("--namespace", "namespaces", metavar="NAME", multiple=True,
              help="Only this namespace of the configuration.  May be repeated.")  # fmt: skip
@click.option("--group", metavar="GROUP", help="groups: take this group for every share.")
@click.option("--uid", metavar="USER", help="single-uid: whose all mail shall be.")
@click.option("--gid", metavar="GROUP", help="single-uid: its group.  Default: that of --uid.")
@click.pass_context
def plan(
    ctx: click.Context, who: Who, strategy: str, output: str | None, as_json: bool,
    namespaces: tuple[str, ...], group: str | None, uid: str | None, gid: str | None,
) -> None:  # fmt: skip
    """Plan the changes that make the kernel allow what the ACLs promise, and nothing more.

    Nothing is changed.  The plan is a text file, one change a line: read it, delete what you do
    not want, then `sharefs apply` it.  Lines with a "note" say what no change can cure.

    \b
    Strategies:
      groups      setgid, and one group for each circle of people who share a mailbox;
                  everybody in the circle must be in the group already
      posix-acl   POSIX ACL entries for each user, and defaults for what comes later
      single-uid  all mail belongs to --uid; the ACLs alone decide
      mount       everything is closed; `sharefs mount` serves, and the ACLs alone decide
      stores      no permissions: mend lines of ACL files, bring the sharing map's file in line
                  with them, remove links that lead nowhere and make those that are missing

    With -u the user's private namespaces are planned for, with -A public ones as well; with
    --namespace those that are named.

    \b
    Examples:
      sharefs plan -u alice posix-acl
      sharefs plan -A groups -o /root/groups.plan
      sharefs plan -A single-uid --uid vmail -o /root/vmail.plan
      sharefs plan -A groups --namespace public
      sharefs plan -A stores

    \b
    Exit status: 0 a plan, maybe an empty one; 1 a plan, but something in it needs more than
    changes of permissions (see its notes); 2 usage; 65-77 as everywhere.
    """
    options = _options(strategy, group, uid, gid)
    host = Host.of(ctx)
    notes: list[Note] = []
    owners = list(host.chosen(who))
    made = f"{datetime.datetime.now().astimezone().isoformat(timespec='seconds')} for " + (
        "everybody" if who.everybody else ", ".join(user.name for user in owners[:10])
    )
    changes: Iterator[Change]
    if strategy == STORES:
        if namespaces:
            raise click.UsageError("--namespace does not go with stores")
        changes = _store_changes(host, owners, notes)
    else:
        planning = _Planning(host, Name(strategy), options, _chosen(host, namespaces), notes)
        changes = planning.of_owners(owners)
        if who.everybody or planning.wanted:
            changes = chain(changes, planning.of_public(owners))
    if strategy == Name.MOUNT and not host.config.settings().sharefs_mount_point:
        text = "set sharefs_mount_point, so that sharefs audit knows of the mount"
        notes.append(Note(host.config.root.place.file, text, False))
    count = 0

    def each_counted() -> Iterator[Change]:
        nonlocal count
        for change in changes:
            count += 1
            yield change

    lines = plan_lines(strategy, made, notes, each_counted())
    if output is not None:
        _write(output, lines)
        number = counted(count, "change")
        click.echo(f"{number} in {output}; read it, then: sharefs apply {output}", err=True)
    elif as_json:
        for line in lines:
            click.echo(line, nl=False)
    else:
        for change in each_counted():
            click.echo(str(change))
        click.echo(counted(count, "change"), err=True)
    for note in notes:
        click.echo(f"sharefs: {printable(note.path)}: {printable(note.text)}", err=True)
    host.end()
    if any(note.blocking for note in notes):
        sys.exit(1)


def _options(strategy: str, group: str | None, uid: str | None, gid: str | None) -> Options:
    if strategy == Name.SINGLE_UID and uid is None:
        raise click.UsageError("single-uid needs --uid: whose shall all mail be?")
    if strategy != Name.SINGLE_UID and (uid or gid):
        raise click.UsageError("--uid and --gid are for single-uid")
    if strategy != Name.GROUPS and group:
        raise click.UsageError("--group is for groups")
    options = Options(group=_gid(group) if group else None)
    if uid:
        options.uid, options.gid = _uid(uid)
    if gid:
        options.gid = _gid(gid)
    if 0 in (options.uid, options.gid, options.group):
        raise click.UsageError("nobody's mail is root's, nor its group's")
    return options


def _uid(text: str) -> tuple[int, int | None]:
    if text.isascii() and text.isdigit():
        return int(text), None
    try:
        entry = pwd.getpwnam(text)
    except KeyError:
        raise click.UsageError(f"this host knows no user {text!r}") from None
    return entry.pw_uid, entry.pw_gid


def _gid(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise click.UsageError(f"this host knows no group {text!r}") from None


def _people(host: Host, notes: list[Note]) -> dict[str, Person]:
    """Everybody whom the user databases list; who cannot be looked up is noted."""
    people = {}
    for name in host.users.iterate():
        try:
            people[name] = person_of(host.users.lookup(name))
        except SharingError as refusal:
            notes.append(Note(name, f"left out: {refusal.detail}"))
    return people


def _chosen(host: Host, names: tuple[str, ...]) -> frozenset[str]:
    known = {space.name for space in host.config.settings().namespaces}
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise click.UsageError(f"the configuration has no namespace {name!r}; it has {listed}")
    return frozenset(names)


class _Planning:
    """Permissions by one strategy.  wanted: names of namespaces; empty: all."""

    def __init__(
        self, host: Host, strategy: Name, options: Options, wanted: frozenset[str],
        notes: list[Note],
    ) -> None:  # fmt: skip
        self.wanted = wanted
        self._host = host
        self._strategy = strategy
        self._options = options
        self._notes = notes
        self._people = _people(host, notes)
        self._group_names = {entry.gr_gid: entry.gr_name for entry in grp.getgrall()}
        self._accounts: dict[int, dict[str, int]] = {}
        for account in login_accounts():
            for number in {account.who.gid, *account.who.groups}:
                self._accounts.setdefault(number, {})[account.name] = account.who.uid

    def of_owners(self, owners: list[MailUser]) -> Iterator[Change]:
        """Of everybody's private mail, one after the other."""
        for user in owners:
            with self._noted(user.name):
                described = _described(self._host, user, self._people, self.wanted, self._notes)
                if self.wanted and not described["roots"]:
                    continue
                person = self._people.setdefault(user.name, person_of(user))
                for home in homes_of(
                    person, described, self._people, self._group_names, self._notes
                ):
                    yield from self._of_home(home)

    def of_public(self, users: list[MailUser]) -> Iterator[Change]:
        """Of public mail.  What only the superuser may do; for anybody else a note says so."""
        if os.geteuid() != 0:
            self._notes.append(Note("public", "only root can plan for public mail"))
            return
        with self._noted("public"):
            for home in public_homes(
                self._host.config, users, self._host.users, self._people, self._group_names,
                self._notes, wanted=self.wanted,
            ):  # fmt: skip
                yield from self._of_home(home)

    def _of_home(self, home: Home) -> Iterator[Change]:
        nodes = walk(home.root, self._notes)
        home = replace(home, accounts=self._accounts)
        return plan_home(self._strategy, home, nodes, self._options, self._notes)

    @contextlib.contextmanager
    def _noted(self, subject: str) -> Iterator[None]:
        """One owner's trouble does not stop the rest."""
        try:
            yield
        except SharingError as refusal:
            self._notes.append(Note(subject, f"not planned for: {refusal.detail}"))
        except OSError as error:
            where = str(error.filename or subject)
            self._notes.append(Note(where, f"not planned for: {error.strerror}"))


def _store_changes(host: Host, owners: list[MailUser], notes: list[Note]) -> Iterator[Change]:
    for user in owners:
        try:
            described = run_as(
                user,
                host.users,
                lambda homes, user=user: describe_stores(Account.open(host.config, user, homes)),  # type: ignore[misc]  # the default binds the loop's user
            )
            settings = host.config.settings(fields=user.fields, variables=user.variables())
            place = settings.sharing_map
            map_path = str(place.path) if place and place.driver == "file" and place.path else None
            yield from plan_stores(user, described, map_path, notes)
        except SharingError as refusal:
            notes.append(Note(user.name, f"not planned for: {refusal.detail}"))


def _described(
    host: Host, user: MailUser, people: dict[str, Person], wanted: frozenset[str],
    notes: list[Note],
) -> dict[str, Any]:  # fmt: skip
    """survey.describe() in a process of the owner's, and again if that tells of more people."""

    def action(homes: HomeLookup) -> dict[str, Any]:
        return describe(Account.open(host.config, user, homes), list(people.values()), wanted)

    described = run_as(user, host.users, action)
    return run_as(user, host.users, action) if _know(host, described, people, notes) else described


def _know(
    host: Host, described: dict[str, Any], people: dict[str, Person], notes: list[Note]
) -> bool:
    """Users whom an ACL names and no listing does: databases need not be able to list.

    Returns whether there are any more of them.
    """
    before = len(people)
    for mailbox in described["mailboxes"]:
        for name in mailbox["users"]:
            if name in people:
                continue
            try:
                people[name] = person_of(host.users.lookup(name))
            except SharingError as refusal:
                text = f"{mailbox['name']} is shared with {name}: {refusal.detail}"
                notes.append(Note(str(mailbox["path"]), text, False))
    return len(people) > before


def _write(output: str, lines: Iterator[str]) -> None:
    try:
        fd = fsops.create_file(output, DEFAULTS)
    except FileExistsError:
        raise SharingError(Code.ALREADY_EXISTS, f"{output} exists; plans replace nothing") from None
    except OSError as error:
        raise SharingError(Code.UNAVAILABLE, f"{output}: {error.strerror}") from error
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        fsops.unlink(output, missing_ok=True)
        raise
