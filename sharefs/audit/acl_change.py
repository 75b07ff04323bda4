"""The smallest change of an ACL that gives a viewer the rights he lacks.  Pure.

Candidates are applied to the ACL as values and the rules of precedence asked again, so what is
suggested is known to work.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from sharefs.acl import Acl, AclViewer, Change, Entry, Mode, Update, effective
from sharefs.identifiers import OWNER, Identifier, Kind, user
from sharefs.rights import NONE, Rights


@dataclass(frozen=True, slots=True)
class AclRemedy:
    """update: of the mailbox's own entries.  gives: what the viewer gains by it."""

    update: Update
    gives: Rights
    taken: Rights

    @property
    def identifier(self) -> Identifier:
        return self.update.identifier

    def commands(self, owner: str, mailbox: str) -> tuple[str, ...]:
        """As an administrator types it.  owner: for -u; mailbox: the name in his namespaces."""
        update, where = self.update, f"-u {shlex.quote(owner)} {shlex.quote(mailbox)}"
        name = self.identifier.file()
        commands: list[str] = []
        if update.negative is not None:
            words = shlex.quote("-" + name) + " " + " ".join(self.taken.long_names())
            commands.append(f"sharefs acl remove {where} {words}")
        if update.positive is not None:
            verb = "set" if update.positive.mode is Mode.REPLACE else "add"
            words = " ".join(update.positive.rights.long_names())
            commands.append(f"sharefs acl {verb} {where} {shlex.quote(name)} {words}")
        return tuple(commands)

    def opens(self) -> tuple[str, ...]:
        """Whom else the change concerns."""
        match self.identifier.kind:
            case Kind.GROUP | Kind.GROUP_OVERRIDE:
                return (f"every member of the ACL group {self.identifier.name} gains the same",)
            case Kind.OWNER:
                return ("nothing else: only the owner gains by it",)
            case _:
                return (f"nothing else: only {self.identifier.name} gains by it",)


def acl_remedy(acl: Acl, viewer: AclViewer, defaults: Rights, missing: Rights) -> AclRemedy | None:
    """The first candidate that works; None if no local entry can give the rights.

    defaults: what the viewer has if no entry speaks of him.
    """
    before = effective(acl, viewer, defaults).rights
    wanted = before | missing
    for update in _candidates(acl, viewer, before, missing):
        after = effective(acl.apply(update), viewer, defaults).rights
        if after.covers(wanted):
            taken = NONE
            if update.negative is not None:
                taken = update.negative.rights
            return AclRemedy(update, after - before, taken)
    return None


def _candidates(acl: Acl, viewer: AclViewer, before: Rights, missing: Rights) -> Iterator[Update]:
    for identifier in _identifiers(acl, viewer):
        entry = acl.find(identifier) or Entry(identifier, None)
        # A first entry of one's own replaces what weaker ones give, so it repeats that.
        if entry.rights is None:
            positive = Change(Mode.REPLACE, before | missing)
        else:
            positive = Change(Mode.ADD, missing)
        negative = None
        if entry.negative is not None and entry.negative & missing:
            negative = Change(Mode.REMOVE, entry.negative & missing)
        has_it = entry.rights is not None and entry.rights.covers(missing)
        yield Update(identifier, None if has_it else positive, negative)


def _identifiers(acl: Acl, viewer: AclViewer) -> Iterator[Identifier]:
    """Whose entry to change: the viewer's own, or whatever stronger one stands against it."""
    if viewer.is_owner:
        yield OWNER
    if viewer.name is not None:
        yield user(viewer.name)
    for entry in acl.entries:
        if entry.identifier.kind is Kind.GROUP_OVERRIDE and viewer.matches(entry.identifier):
            yield entry.identifier
