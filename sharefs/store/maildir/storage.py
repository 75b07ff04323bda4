"""All Maildirs below one root: naming, creating, deleting, renaming, listing, opening."""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.fsops import Entry
from sharefs.names import Layout, Levels, storage_path
from sharefs.permissions.acting import file_gid
from sharefs.permissions.explain import explain_refusal
from sharefs.permissions.inherit import DEFAULTS, Creation, rename_decision
from sharefs.permissions.lookup import creation_for_mailbox, plan_missing_root
from sharefs.store.interface import Existence, Storage, StoredMailbox
from sharefs.store.maildir import listing
from sharefs.store.maildir.config import MaildirConfig, Site
from sharefs.store.maildir.filename import unique_names
from sharefs.store.maildir.mailbox import MaildirMailbox
from sharefs.store.maildir.picture import Picture

log = logging.getLogger(__name__)

INBOX: Final = ("INBOX",)
MARKER: Final = "maildirfolder"  # tells deliverers that this is a subfolder of a Maildir++
DOOMED: Final = "..sharefs-deleted."  # hidden in both layouts: a mailbox on its way out
PATHS: Final = 10_000  # remembered; a client may ask for any name
DOOMED_AGE: Final = 24 * 3600  # seconds after which what a crash left of one is removed


class MaildirStorage(Storage):
    """Implements the interface for the layouts maildir++ and fs."""

    def __init__(
        self,
        config: MaildirConfig,
        *,
        egid: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self._egid = file_gid() if egid is None else egid
        self._paths: dict[Levels, Path] = {}
        self._looks = listing.Looks(clock=clock)

    # --- places ----------------------------------------------------------------------------

    def _is_inbox(self, name: Levels) -> bool:
        return self.config.has_inbox and len(name) == 1 and name[0].upper() == "INBOX"

    def mailbox_path(self, name: Levels) -> Path:
        path = self._paths.get(name)
        if path is None:
            if len(self._paths) >= PATHS:
                self._paths.clear()
            path = self._paths[name] = self._mailbox_path(name)
        return path

    def _mailbox_path(self, name: Levels) -> Path:
        if self._is_inbox(name):
            return self.config.inbox_path or self.config.root
        return self.config.root / storage_path(name, self.config.naming)

    def acl_directory(self, name: Levels) -> Path:
        """A Maildir keeps its ACL file beside cur, new and tmp."""
        return self.mailbox_path(name)

    def _control_path(self, name: Levels) -> Path:
        if self.config.control is None:
            return self.mailbox_path(name)
        if self._is_inbox(name):
            return self.config.control
        return self.config.control / storage_path(name, self.config.naming)

    def creation_of(self, name: Levels) -> Creation:
        """What new files of this mailbox get, or the mailbox itself if it is to be made."""
        if self._is_inbox(name):
            return self._creation(self.mailbox_path(name), [])
        paths = [self.mailbox_path(name[:end]) for end in range(len(name), 0, -1)]
        if self._is_inbox(name[:1]):
            paths.pop()  # the root, which comes last anyway
        return self._creation(self.config.root, paths)

    def _creation(self, root: Path, paths: list[Path]) -> Creation:
        return creation_for_mailbox(
            root, paths, source=self.config.permissions_from, egid=self._egid
        )

    def _control_creation(self, name: Levels) -> Creation:
        if self.config.control is None:
            return self.creation_of(name)
        return self._creation(self.config.control, [self._control_path(name)])

    def _site(self, name: Levels) -> Site:
        return Site(
            label="/".join(name),
            directory=self.mailbox_path(name),
            control=self._control_path(name),
            control_root=self.config.control or self.config.root,
            creation=functools.cache(lambda: self.creation_of(name)),
            control_creation=functools.cache(lambda: self._control_creation(name)),
            root_creation=lambda: self._creation(self.config.control or self.config.root, []),
            config=self.config,
        )

    # --- looking ---------------------------------------------------------------------------

    def existence(self, name: Levels) -> Existence:
        try:
            path = self.mailbox_path(name)
        except SharingError:
            return Existence.ABSENT  # a name that cannot be created does not exist
        return listing.existence_of(path, bare=self._may_be_bare(name))

    def look(self, name: Levels) -> StoredMailbox:
        try:
            path = self.mailbox_path(name)
        except SharingError:
            return StoredMailbox(name, Existence.ABSENT)
        return self._looks.look(os.fspath(path), name, bare=self._may_be_bare(name))

    def _may_be_bare(self, name: Levels) -> bool:
        """Whether a directory of that name is a mailbox before it has cur, new and tmp."""
        return self.config.naming.layout is Layout.MAILDIRPP and not self._is_inbox(name)

    def iterate(self) -> Iterator[StoredMailbox]:
        config = self.config
        if config.has_inbox:
            inbox = self.look(INBOX)
            if inbox.existence is Existence.SELECTABLE:
                yield inbox
        if config.naming.layout is Layout.MAILDIRPP:
            found = listing.in_maildirpp(config.root, config.naming, self._looks)
        else:
            found = listing.in_fs(config.root, config.naming, self._looks)
        for mailbox in found:
            if not self._is_inbox(mailbox.name):
                yield mailbox

    def open(self, name: Levels, *, readonly: bool = False) -> MaildirMailbox:
        found = self.existence(name)
        if found is not Existence.SELECTABLE:
            if not self._is_inbox(name) or readonly or not self.config.create_inbox:
                raise self._why_not(name)
            with contextlib.suppress(FileExistsError):
                self._make(name)
        elif self._may_be_bare(name) and not os.path.isdir(self.mailbox_path(name) / "cur"):
            self._fill(name, self.creation_of(name))
        return MaildirMailbox(self._site(name), readonly=readonly)

    def guid(self, name: Levels) -> str:
        if self.existence(name) is not Existence.SELECTABLE:
            raise self._nonexistent(name)
        picture = Picture(self._site(name))
        picture.list.refresh()
        if picture.list.header is None or picture.list.header.guid is None:
            with picture.locked():
                picture.list.prepare()
        header = picture.list.header
        if header is None or header.guid is None:
            raise SharingError(Code.UNAVAILABLE, f"{picture.list.path} could not be written")
        return header.guid

    def _why_not(self, name: Levels) -> SharingError:
        """Why a mailbox cannot be opened: it is not there, or nobody of us may look."""
        try:
            os.stat(self.mailbox_path(name) / "cur")
        except PermissionError as exc:
            why = explain_refusal(exc.filename)
            return SharingError(
                Code.UNAVAILABLE, f"mailbox {'/'.join(name)!r} cannot be looked at: {why}"
            )
        except (OSError, ValueError, SharingError):
            pass
        return self._nonexistent(name)

    def _nonexistent(self, name: Levels) -> SharingError:
        return SharingError(Code.NONEXISTENT, f"there is no mailbox {'/'.join(name)!r}")

    # --- creating --------------------------------------------------------------------------

    def create(self, name: Levels, *, directory: bool = False) -> None:
        """A Maildir++ has no mere levels of hierarchy: there, directory makes no difference."""
        self.mailbox_path(name)  # refuses illegal names
        directory = directory and self.config.naming.layout is Layout.FS
        found = self.existence(name)
        if found is Existence.SELECTABLE or (found is Existence.NO_SELECT and directory):
            raise SharingError(Code.ALREADY_EXISTS, f"mailbox {'/'.join(name)!r} exists")
        if directory:
            self._make_directory(name)
        else:
            self._make(name)

    def _make(self, name: Levels) -> None:
        self._fill(name, self._make_directory(name))

    def _fill(self, name: Levels, creation: Creation) -> None:
        """Make what a mailbox's directory needs, as far as it is missing."""
        path = self.mailbox_path(name)
        for folder in ("tmp", "new", "cur"):  # cur last: it is what makes a level of fs a mailbox
            with contextlib.suppress(FileExistsError):
                fsops.make_dir(path / folder, creation)
        if self.config.naming.layout is Layout.MAILDIRPP and not self._is_inbox(name):
            with contextlib.suppress(FileExistsError):
                os.close(fsops.create_file(path / MARKER, creation))
        if self.config.fsync:
            # Or the directory of a message that is on the disk could be lost.
            fsops.fsync_dir(path)

    def _make_directory(self, name: Levels) -> Creation:
        """Make the mailbox's own directory, and the root or the levels above it."""
        self._make_root()
        creation = self.creation_of(name)
        path = self.mailbox_path(name)
        if self.config.naming.layout is Layout.FS and not self._is_inbox(name):
            for end in range(1, len(name)):
                with contextlib.suppress(FileExistsError):
                    fsops.make_dir(self.mailbox_path(name[:end]), self.creation_of(name[:end]))
                    self._flush_parent(self.mailbox_path(name[:end]))
        if not path.is_dir():
            _refuse_dangling(path)
            fsops.make_dirs(path, creation)
            self._flush_parent(path)
        return creation

    def _flush_parent(self, path: Path) -> None:
        if self.config.fsync:
            fsops.fsync_dir(path.parent)

    def _make_root(self) -> None:
        root = self.config.root
        if not root.is_dir():
            _refuse_dangling(root)
            template = self.config.template or os.fspath(root)
            fsops.make_root(plan_missing_root(template, root, egid=self._egid, creation=DEFAULTS))
            self._flush_parent(root)

    # --- deleting --------------------------------------------------------------------------

    def delete(self, name: Levels) -> None:
        if self._is_inbox(name):
            raise SharingError(Code.CANNOT, "INBOX cannot be deleted (RFC 3501 section 6.3.4)")
        path = self.mailbox_path(name)
        if path.is_symlink():
            fsops.unlink(path)
            return
        found = self.existence(name)
        if found is Existence.ABSENT:
            raise self._nonexistent(name)
        children = listing.has_children(path) if self.config.naming.layout is Layout.FS else False
        if found is Existence.NO_SELECT and children:
            raise SharingError(
                Code.CANNOT, f"{'/'.join(name)!r} is only a level of hierarchy, and has children"
            )
        self._doom(path, whole=not children)
        control = self._control_path(name)
        if control != path and control.is_dir():
            self._doom(control, whole=not children)
        self._sweep()

    def _doom(self, path: Path, *, whole: bool) -> None:
        """Hide a mailbox by one rename, then remove it.

        whole: nothing in it belongs to other mailboxes.  Otherwise only its mail goes, cur/ first,
        so that it is no mailbox any more.
        """
        doomed = self.config.root / (DOOMED + unique_names.next())
        device = path.stat().st_dev
        if device != self.config.root.stat().st_dev:
            doomed = path.with_name(doomed.name)
        if not whole and device != doomed.parent.stat().st_dev:
            doomed = path / doomed.name  # it is a Btrfs subvolume, or something is mounted on it
        if whole:
            fsops.rename_new(Entry(None, path), Entry(None, doomed))
        else:
            fsops.make_dir(doomed, DEFAULTS)
            for own in listing.own_entries(path):
                with contextlib.suppress(FileNotFoundError):
                    fsops.rename_new(Entry(None, path / own), Entry(None, doomed / own))
        _remove_doomed(doomed)

    def _sweep(self) -> None:
        """Remove what a crash left of doomed mailboxes."""
        try:
            with os.scandir(self.config.root) as entries:
                old = [
                    Path(entry.path)
                    for entry in entries
                    if entry.name.startswith(DOOMED)
                    and time.time() - entry.stat(follow_symlinks=False).st_ctime > DOOMED_AGE
                ]
        except OSError as exc:
            log.debug("%s was not swept: %s", self.config.root, exc)
            return
        for path in old:
            _remove_doomed(path)

    # --- renaming --------------------------------------------------------------------------

    def rename(self, old: Levels, new: Levels) -> None:
        if self._is_inbox(new):
            raise SharingError(Code.ALREADY_EXISTS, "INBOX exists")
        if new[: len(old)] == old:
            raise SharingError(Code.CANNOT, "a mailbox cannot be moved below itself")
        target = self.mailbox_path(new)  # refuses illegal names
        if listing.existence_of(target) is not Existence.ABSENT:
            raise SharingError(Code.ALREADY_EXISTS, f"mailbox {'/'.join(new)!r} exists")
        if self._is_inbox(old):
            self._empty_inbox_into(new)
            return
        moves = self._moves(old, new)
        if not moves:
            raise self._nonexistent(old)
        decision = rename_decision(
            self.creation_of(old), self.creation_of(new), below_another=len(new) > 1
        )
        if not decision:
            raise SharingError(
                Code.CANNOT,
                "renaming is not supported across conflicting directory permissions:"
                f" {'/'.join(old)!r} to {'/'.join(new)!r}, {decision.reason}",
            )
        if self.config.naming.layout is Layout.FS and len(new) > 1:
            self._make_directory(new[:-1])
        self._carry_out(moves)

    def _moves(self, old: Levels, new: Levels) -> list[tuple[Path, Path]]:
        """Renames to make, the mailbox first.  Raises SharingError if a child cannot follow."""
        pairs = [(old, new)] if os.path.lexists(self.mailbox_path(old)) else []
        if self.config.naming.layout is Layout.MAILDIRPP:
            below = listing.below_in_maildirpp(self.config.root, self.config.naming, old)
            pairs += [(child, new + child[len(old) :]) for child in below]
        moves = [(self.mailbox_path(a), self.mailbox_path(b)) for a, b in pairs]
        if self.config.control is not None:
            controls = [(self._control_path(a), self._control_path(b)) for a, b in pairs]
            moves += [(a, b) for a, b in controls if os.path.lexists(a)]
        for _, target in moves:
            if os.path.lexists(target):
                raise SharingError(Code.ALREADY_EXISTS, f"{target} is in the way")
        return moves

    def _carry_out(self, moves: list[tuple[Path, Path]]) -> None:
        """All or none, as far as the file system lets us go back."""
        done: list[tuple[Path, Path]] = []
        try:
            for source, target in moves:
                if not target.parent.is_dir():
                    fsops.make_dirs(target.parent, DEFAULTS)
                fsops.rename_new(Entry(None, source), Entry(None, target))
                done.append((source, target))
        except OSError:
            for source, target in reversed(done):
                try:
                    fsops.rename_new(Entry(None, target), Entry(None, source))
                except OSError as exc:
                    log.error("%s stays renamed to %s: %s", source, target, exc)
            raise

    def _empty_inbox_into(self, new: Levels) -> None:
        """RFC 3501 section 6.3.5: the messages move, INBOX stays, and its children stay too."""
        with contextlib.closing(self.open(INBOX)) as inbox:
            self.create(new)
            with contextlib.closing(self.open(new)) as target:
                target.move_from(inbox, inbox.uids())


def _remove_doomed(path: Path) -> None:
    """The mailbox is gone already; what is left of it is only space on the disk."""
    try:
        fsops.remove_tree(path)
    except OSError as exc:
        log.warning("%s, the rest of a deleted mailbox, cannot be removed: %s", path, exc)


def _refuse_dangling(path: Path) -> None:
    """Never make what a link should lead to: its file system may just not be mounted yet."""
    if path.is_symlink():
        raise SharingError(
            Code.UNAVAILABLE, f"{path} is a symbolic link to {os.readlink(path)}, which is missing"
        )
    if os.path.lexists(path):
        raise SharingError(Code.CANNOT, f"{path} is in the way: it is no directory")
