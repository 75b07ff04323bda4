"""Who may do what with a mailbox: the one function behind every door.

A door describes the mailbox (AclMailbox) and who asks (Viewer); the answer is the effective
rights with their reasons, or a refusal.  Without the lookup right the refusal is exactly that of
a mailbox that does not exist (RFC 4314 section 6), so nonexistent() makes both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sharefs.acl import Acl, AclViewer, Effect, Effective, Entry, Reason, effective
from sharefs.config.namespaces import AclSettings
from sharefs.errors import Code, Place, SharingError
from sharefs.rights import ADMIN, ALL, LOOKUP, NONE, Rights
from sharefs.sharing.acl_text import (
    AclProblem,
    ParsedGlobals,
    Severity,
    entry_of_setting,
    wildcard_matches,
)
from sharefs.sharing.files import AclFile, AclReader, Condition, acl_path
from sharefs.store.interface import Stamp

# What a malformed file leaves the owner: enough to see that something is wrong and to mend it.
MENDING: Final = LOOKUP | ADMIN

NamespaceType = Literal["private", "shared", "public"]


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks.

    acl_user: the configured acl_user, else the master user's name, else the login name; None for
    the anonymous user.  groups: those of the acl_groups field, not the Unix ones.
    """

    acl_user: str | None
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AclMailbox:
    """What the policy must know of one mailbox.

    name: as the client spells it, with the namespace's prefix; for messages and patterns.
    owner: whose namespace it is, "" in public ones.
    acl_dir: Storage.acl_directory(); None if there is no place for an ACL file.
    default_acl_dir: where the default ACL lies: INBOX's directory with acl_defaults_from_inbox in
    private and shared namespaces, else the namespace root, unless that is INBOX's own (None).
    settings: entries from configuration that match (configured_entries).
    global_file: the global ACL file of Dovecot 2.3, and default_name the name under which the
    default ACL looks for its lines in it.
    ignored: acl_ignore holds here; everything is allowed.
    true_owner: of a symlinked mailbox, whose it really is; "" if nobody knows; None for no link.
    """

    namespace_type: NamespaceType
    name: str
    owner: str = ""
    acl_dir: Path | None = None
    default_acl_dir: Path | None = None
    settings: tuple[Entry, ...] = ()
    global_file: Path | None = None
    default_name: str = ""
    ignored: bool = False
    true_owner: str | None = None


class Policy:
    """Answers for one process.  Cheap to ask again: unchanged ACL files cost one stat(2) each.

    enabled: whether ACLs are obeyed at all (acl_driver).  linker_is_owner: the permissive reading
    of symlink shares, in which whoever has the link in his own tree has all rights.
    """

    def __init__(
        self,
        reader: AclReader | None = None,
        *,
        enabled: bool = True,
        linker_is_owner: bool = False,
    ) -> None:
        self.reader = reader or AclReader()
        self._enabled = enabled
        self._known: dict[tuple[Viewer, str], Answer] = {}
        self._linker_is_owner = linker_is_owner

    def rights_of(self, viewer: Viewer, mailbox: AclMailbox) -> Effective:
        """What viewer may do, and why.  Never raises: what cannot be read gives nothing."""
        return self.answer(viewer, mailbox).effective

    def answer(self, viewer: Viewer, mailbox: AclMailbox, stamp: Stamp | None = None) -> "Answer":
        """rights_of(), and what they were computed from: the same object while that is the same.

        stamp: of acl_dir, for AclReader.read_in(); it spares looking for a file that is not there.
        """
        key = (viewer, mailbox.name)
        known = self._known.get(key)
        if not self._enabled or mailbox.ignored:
            if known is None or known.basis.mailbox is not mailbox:
                basis = _Basis(mailbox, _NO_FILE, _NO_GLOBALS, _NO_FILE)
                known = self._known[key] = Answer(self._everything(mailbox), basis)
            return known
        directory = mailbox.acl_dir
        file = _NO_FILE if directory is None else self.reader.read_in(directory, stamp)
        lines = self._globals_of(mailbox)
        default = self._read(mailbox.default_acl_dir)
        if known is not None and known.basis.consists_of(mailbox, file, lines, default):
            return known
        basis = _Basis(mailbox, file, lines, default)
        if known is None or known.basis != basis:
            known = self._known[key] = Answer(self._compute(viewer, basis), basis)
        return known

    def rights_of_each(self, viewers: Iterable[Viewer], mailbox: AclMailbox) -> Iterator[Effective]:
        """rights_of() many viewers, in their order: files are looked at once for all of them."""
        if not self._enabled or mailbox.ignored:
            everything = self._everything(mailbox)
            yield from (everything for _ in viewers)
            return
        basis = self._basis(mailbox)
        yield from (self._compute(viewer, basis) for viewer in viewers)

    @staticmethod
    def _everything(mailbox: AclMailbox) -> Effective:
        why = "ACLs are ignored here" if mailbox.ignored else "ACLs are not in use"
        return Effective(ALL, (Reason(Effect.GAVE, ALL, None, None, why),))

    def _basis(self, mailbox: AclMailbox) -> "_Basis":
        return _Basis(
            mailbox,
            self.file_of(mailbox),
            self._globals_of(mailbox),
            self._read(mailbox.default_acl_dir),
        )

    def _compute(self, viewer: Viewer, basis: "_Basis") -> Effective:
        mailbox, file, lines = basis.mailbox, basis.file, basis.lines
        who = self.acl_viewer(viewer, mailbox)
        acl = file.acl.joined((*mailbox.settings, *lines.entries_for(mailbox.name)))
        defaults, origin = _defaults(who, acl, basis)
        found = effective(acl, who, defaults, origin=origin)
        spoilt = file.malformed or lines.malformed
        return _confined(found, who, file, lines) if spoilt else found

    def demand(self, viewer: Viewer, mailbox: AclMailbox, *rights: Rights) -> Effective:
        """Returns the effective rights if they cover all of rights; else raises SharingError:

        NONEXISTENT, exactly that of a missing mailbox, without the lookup right; NO_PERMISSION.
        """
        return self.judge(viewer, mailbox, self.rights_of(viewer, mailbox), *rights)

    def judge(
        self, viewer: Viewer, mailbox: AclMailbox, found: Effective, *rights: Rights
    ) -> Effective:
        """demand() with the answer of rights_of() that the caller has just had."""
        if all(map(found.rights.covers, rights)):
            return found
        required = NONE
        for right in rights:
            required |= right
        missing = required - found.rights
        if not found.rights.covers(LOOKUP):
            raise nonexistent(mailbox.name)
        why = found.reason_for(missing.each()[0])
        because = f": {why}" if why else ""
        names = ", ".join(missing.long_names())
        raise SharingError(
            Code.NO_PERMISSION,
            f"{who_text(viewer)} lacks the right {names} on {mailbox.name}{because}",
        )

    def acl_viewer(self, viewer: Viewer, mailbox: AclMailbox) -> AclViewer:
        """The viewer as the rules of ACLs see him: owner, or stranger."""
        private = mailbox.namespace_type == "private"
        owner = mailbox.owner
        if mailbox.true_owner is not None and not self._linker_is_owner:
            owner = mailbox.true_owner
        return AclViewer(
            viewer.acl_user,
            viewer.groups,
            is_owner=private and bool(owner) and viewer.acl_user == owner,
            owner_name=owner,
            private_namespace=private,
        )

    def file_of(self, mailbox: AclMailbox) -> AclFile:
        """The mailbox's own ACL file, through the cache."""
        return self._read(mailbox.acl_dir)

    def acl_of(self, mailbox: AclMailbox) -> Acl:
        """Local and global entries, as GETACL lists them.

        Raises SharingError(CORRUPT) if the file is malformed, (UNAVAILABLE) if it is out of reach.
        """
        file = self.file_of(mailbox)
        lines = self._globals_of(mailbox)
        if flaw := _first_error((*file.problems, *lines.problems)):
            no_access = file.condition is Condition.NO_ACCESS
            raise SharingError(Code.UNAVAILABLE if no_access else Code.CORRUPT, str(flaw))
        return file.acl.joined((*mailbox.settings, *lines.entries_for(mailbox.name)))

    def _read(self, directory: Path | None) -> AclFile:
        return self.reader.read(acl_path(directory)) if directory is not None else _NO_FILE

    def _globals_of(self, mailbox: AclMailbox) -> ParsedGlobals:
        if mailbox.global_file is None:
            return _NO_GLOBALS
        return self.reader.read_globals(mailbox.global_file)


@dataclass(frozen=True, slots=True)
class _Basis:
    """All that an answer was computed from.  While it is the same, so is the answer."""

    mailbox: AclMailbox
    file: AclFile
    lines: ParsedGlobals
    default: AclFile

    def consists_of(
        self, mailbox: AclMailbox, file: AclFile, lines: ParsedGlobals, default: AclFile
    ) -> bool:
        """Whether it is made of these very objects, as it is mostly; quicker than comparing."""
        return (
            self.file is file
            and self.mailbox is mailbox
            and self.lines is lines
            and self.default is default
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody may do with a mailbox, and why."""

    effective: Effective
    basis: _Basis

    @property
    def file(self) -> AclFile:
        """The mailbox's own ACL file that this was computed from."""
        return self.basis.file


def _defaults(who: AclViewer, acl: Acl, basis: _Basis) -> tuple[Rights, Place | None]:
    """The rights of a stranger of whom no entry speaks, and where they come from."""
    if who.is_owner or any(who.matches(entry.identifier) for entry in acl.entries):
        return NONE, None
    file = basis.default
    if file.malformed:
        return NONE, file.problems[0].place
    default = file.acl.joined(basis.lines.entries_for(basis.mailbox.default_name))
    place = Place(str(file.path)) if file is not _NO_FILE else None
    return effective(default, who, NONE).rights, place


_NO_GLOBALS: Final = ParsedGlobals()
_NO_FILE: Final = AclFile(Path("/"), Condition.MISSING)


def nonexistent(name: str) -> SharingError:
    """The refusal for a mailbox that is not there, or that the viewer may not know of."""
    return SharingError(Code.NONEXISTENT, f"Mailbox doesn't exist: {name}")


def who_text(viewer: Viewer) -> str:
    return "the anonymous user" if viewer.acl_user is None else viewer.acl_user


def _first_error(problems: Iterable[AclProblem]) -> AclProblem | None:
    return next((flaw for flaw in problems if flaw.severity is Severity.ERROR), None)


def _confined(found: Effective, who: AclViewer, file: AclFile, lines: ParsedGlobals) -> Effective:
    """What is left of the good lines' rights when a file is spoilt: nobody gains through it."""
    left = found.rights & (MENDING if who.is_owner else NONE)
    flaw = _first_error((*file.problems, *lines.problems))
    assert flaw is not None
    text = f"{flaw.text}; until that is repaired only the owner may look up and administer"
    lost = found.rights - left
    spoilt = Reason(Effect.REPLACED, lost or ALL - left, None, flaw.place, text)
    return Effective(left, (*found.reasons, spoilt))


def configured_entries(*levels: Sequence[AclSettings]) -> tuple[Entry, ...]:
    """The `acl ID { rights = ... }` blocks that match a mailbox, as global entries.

    levels: global, namespace, mailbox; a more specific block replaces one of the same identifier.
    Raises SharingError(INVALID) naming the block.
    """
    blocks = {block.identifier: block for level in levels for block in level}
    return tuple(
        entry_of_setting(block.identifier, block.rights, block.place) for block in blocks.values()
    )


def is_ignored(prefix: str, patterns: Sequence[str]) -> bool:
    """Whether ACLs are ignored in the namespace with this prefix (2.3's acl_ignore_namespace)."""
    return any(wildcard_matches(pattern, prefix) for pattern in patterns)


def true_owner(target: Path, own_root: Path, owner: str, roots: Mapping[Path, str]) -> str | None:
    """Whose mailbox a symbolic link leads to.  Pure: all paths are resolved ones.

    own_root: the mail root in which the link lies, that of owner.  roots: mail roots of others.
    Returns None for a link within own_root, the name of the deepest root that holds target, or ""
    if it lies in nobody's: then nobody is its owner.
    """
    places = {**roots, own_root: owner}
    inside = [root for root in places if target == root or root in target.parents]
    if not inside:
        return ""
    found = places[max(inside, key=lambda root: len(root.parts))]
    return None if found == owner else found
