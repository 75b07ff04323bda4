"""One change of sharing, in all three places: ACL file, list cache, sharing map.

The ACL file is the truth and the other two are derived from it.  So it is written first, under
its lock; and if a derived place cannot be written the change stands, and the outcome says what is
now out of step and how to mend it.  See docs/decisions/0002-malformed-acl-lines.md for files that
cannot be read: on the strength of those nothing is taken out of the map.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.acl import Acl, Entry
from sharefs.errors import SharingError
from sharefs.permissions.inherit import Creation
from sharefs.sharing.acl_text import Severity
from sharefs.sharing.files import AclReader, AclUpdate, Change, update_acl
from sharefs.sharing.keys import MapDiff, Wanted, desired_keys, diff
from sharefs.sharing.list_cache import CachedMailbox, is_listable, write_list
from sharefs.sharing.maps import ShareMap

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OwnedMailbox:
    """One mailbox of a namespace.

    name: storage name as the list cache spells it.  settings: the global entries that match.
    """

    name: str
    acl_path: Path
    settings: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Where the derived places of one namespace are, and what they are derived from.

    owner: "" in public namespaces, which are not in the map.  mailboxes: all of the namespace,
    listed anew at each call.  list_path, list_creation: its list cache, with the permissions of
    the namespace root.  elsewhere: mailboxes of the same owner in other private namespaces.
    """

    owner: str
    mailboxes: Callable[[], Iterable[OwnedMailbox]]
    list_path: Path
    list_creation: Creation
    share_map: ShareMap | None = None
    elsewhere: Callable[[], Iterable[OwnedMailbox]] = tuple


@dataclass(frozen=True, slots=True)
class Derived:
    """What happened to the derived places.

    list_written: False where permissions forbid a list cache, which is no failure.
    map_change: None if there is no map, or it could not be changed.  warnings: for the log and
    the command line, each with its remedy.
    """

    list_written: bool = False
    map_change: MapDiff | None = None
    warnings: tuple[str, ...] = ()


NOTHING_DERIVED: Final = Derived()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A change of sharing, carried out: the ACL file for certain, the rest as `derived` says."""

    acl: AclUpdate
    derived: Derived = NOTHING_DERIVED


def change_sharing(
    path: Path,
    change: Change,
    creation: Creation,
    shares: Shares,
    *,
    always: bool = False,
    locked: bool = False,
) -> Outcome:
    """Change one ACL file and bring the derived places in step.

    Raises as files.update_acl, and then nothing has happened.  always: derive even if the ACL
    already was as asked, which mends a map that was lost.  locked: as of files.update_acl.
    """
    update = update_acl(path, change, creation, locked=locked)
    if not update.changed and not always:
        return Outcome(update)
    return Outcome(update, derive(shares))


def derive(shares: Shares, reader: AclReader | None = None) -> Derived:
    """Rebuild list cache and map of one owner from the ACL files.  Raises nothing expected."""
    reader = reader or AclReader()
    warnings: list[str] = []
    try:
        lines = list(_cache_lines(shares.mailboxes(), reader))
        written = write_list(shares.list_path, lines, shares.list_creation)
    except OSError as error:
        written = False
        warnings.append(
            f"list cache {shares.list_path} was not written: {error.strerror}; it is rebuilt when"
            " next needed"
        )
    change: MapDiff | None = None
    if shares.share_map is not None and shares.owner:
        try:
            wanted = _Finding(shares, reader)
            change = shares.share_map.refresh(shares.owner, wanted)
            warnings += wanted.warnings()
        except SharingError as refused:
            warnings.append(
                f"{refused.detail}; the ACLs of {shares.owner} are in force, but lists of shared"
                f" mailboxes are out of step until `sharefs map rebuild -u {shares.owner}`"
            )
    for warning in warnings:
        log.warning("%s", warning)
    return Derived(written, change, tuple(warnings))


def check_map(shares: Shares, reader: AclReader | None = None) -> MapDiff:
    """What derive() would change in the map.  Raises SharingError if the map cannot be read."""
    assert shares.share_map is not None
    wanted = wanted_of(shares, reader or AclReader())
    return diff(shares.share_map.shares_of(shares.owner), wanted)


def wanted_of(shares: Shares, reader: AclReader) -> Wanted:
    """The keys that the owner's ACL files call for."""
    return desired_keys(shares.owner, _acls((*shares.mailboxes(), *shares.elsewhere()), reader))


def unreadable_files(shares: Shares, reader: AclReader) -> Iterator[str]:
    """What is wrong with each of the owner's ACL files that cannot be read, its place first.

    One without a name stands for mailboxes out of sight; there is no file to name.
    """
    for mailbox in (*shares.mailboxes(), *shares.elsewhere()):
        file = reader.read(mailbox.acl_path)
        if mailbox.name and not file.readable:
            errors = (flaw for flaw in file.problems if flaw.severity is Severity.ERROR)
            yield str(next(errors, file.path))


class _Finding:
    """wanted_of, as the map's lock calls it, remembering what it found for the report."""

    def __init__(self, shares: Shares, reader: AclReader) -> None:
        self._shares = shares
        self._reader = reader
        self._found: Wanted | None = None

    def __call__(self) -> Wanted:
        self._found = wanted_of(self._shares, self._reader)
        return self._found

    def warnings(self) -> Iterator[str]:
        found, owner = self._found, self._shares.owner
        if found is None:
            return
        if not found.complete:
            flaw = next(unreadable_files(self._shares, self._reader), "")
            why = (
                f"{flaw}; until that is repaired"
                if flaw
                else f"not every mailbox of {owner} can be seen from here, so"
            )
            yield (
                f"{why} nothing is removed from the sharing map; `sharefs map rebuild -u {owner}`"
                " makes it exact"
            )
        for key in sorted(found.unstorable):
            yield (
                f"the sharing map cannot hold {key}, whose name has a slash: {owner}'s share is"
                " in force but not listed"
            )


def _acls(mailboxes: Iterable[OwnedMailbox], reader: AclReader) -> Iterator[Acl | None]:
    for mailbox in mailboxes:
        file = reader.read(mailbox.acl_path)
        yield file.acl.joined(mailbox.settings) if file.readable else None


def _cache_lines(mailboxes: Iterable[OwnedMailbox], reader: AclReader) -> Iterator[CachedMailbox]:
    """A mailbox whose file cannot be read stays in: the cache is a superset."""
    for mailbox in mailboxes:
        file = reader.read(mailbox.acl_path)
        if not file.readable or is_listable(file.acl.joined(mailbox.settings)):
            yield CachedMailbox(mailbox.name, file.mtime)
