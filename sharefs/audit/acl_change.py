"""The smallest change of an ACL that gives a viewer the rights he lacks.  Pure.

Candidates are applied to the ACL as values and the rules of precedence asked again, so what is
suggested is known to work.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from sharefs.account.context import Target
from sharefs.acl import Acl, AclViewer, Change, Entry, Mode, Update, effective
from sharefs.audit import layers
from sharefs.audit.viewing import ViewerContext
from sharefs.config import Form
from sharefs.identifiers import OWNER, Identifier, Kind, user
from sharefs.rights import LOOKUP, NONE, POST, Rights
from sharefs.sharing.acl_text import format_acl


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
    if missing - POST:
        missing |= LOOKUP - before  # without it the mailbox stays hidden
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


def configured_change(
    context: ViewerContext, target: Target, missing: Rights
) -> layers.Change | None:
    """Where there is no place for an ACL file only the configuration can give rights: in the form
    of 2.3 its global ACL file, since that knows no entries in namespaces."""
    who = context.viewer.acl_user
    if who is None or not context.settings.acl_enabled:
        return None
    if context.form is Form.V23:
        granted = Entry(user(who), target.rights | missing)
        entry = f"{_quoted(target.name)} {format_acl(Acl((granted,))).decode().rstrip()}"
        path = context.settings.acl_global_path
        if path:
            text = f"as a line of {path}: {entry}"
        else:
            text = f"in the configuration: plugin {{ acl = vfile:FILE }}, and in FILE: {entry}"
        return layers.Change(text, (f"nothing else: only {who} gains by it",))
    rights = (target.rights | missing).letters
    name = target.namespace.settings.name
    text = f"in the configuration: namespace {name} {{ acl user={who} {{ rights = {rights} }} }}"
    return layers.Change(text, (f"{who} gains the same on every mailbox of that namespace",))


def _quoted(name: str) -> str:
    """A mailbox's name as the pattern of a line of the global ACL file."""
    text = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
