"""One open Maildir: reading messages, changing flags, adding and removing.

Whatever touches a file first tries where it was last seen.  If it is not there, somebody renamed
or removed it: the directories are listed again, and only what that does not find is gone.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.flags import EVERY_FLAG, NO_FLAGS, FlagChange, FlagFilter, FlagSet, System
from sharefs.fsops import Entry
from sharefs.permissions.access import Want
from sharefs.permissions.explain import explain_refusal
from sharefs.permissions.inherit import link_decision
from sharefs.store.interface import Changes, Copied, Mailbox, MessageInfo
from sharefs.store.maildir.adder import Adder
from sharefs.store.maildir.config import Fsync, Site
from sharefs.store.maildir.filename import (
    NO_FLAGS_INFO,
    Sizes,
    virtual_size_in,
    virtual_sizes_in,
)
from sharefs.store.maildir.flag_writer import ATTEMPTS, FlagWriter
from sharefs.store.maildir.line_ends import header_end, virtual_size, with_crlf
from sharefs.store.maildir.picture import Picture
from sharefs.store.maildir.saver import MaildirSaver
from sharefs.store.maildir.uidlist_format import extra_value
from sharefs.store.shelf import Shelf
from sharefs.store.stamps import Stamps

log = logging.getLogger(__name__)

T = TypeVar("T")

# open(2) and read(2) on a symbolic link, a FIFO or socket, a directory.
NO_MESSAGE: Final = frozenset({errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EISDIR})
HEADER_CHUNK: Final = 16384  # octets; most headers end within the first read


class MaildirMailbox(Mailbox):
    """Implements the interface; the state is in Picture.

    Opening costs next to nothing: messages are looked at when they are first asked for.
    """

    def __init__(self, site: Site, *, readonly: bool) -> None:
        self.site = site
        self.picture = Picture(site)
        self.readonly = readonly or not os.access(site.directory / "cur", os.W_OK | os.X_OK)
        self._flags = FlagWriter(self.picture)
        self._letters: tuple[int, frozenset[str]] = (0, frozenset())  # and their generation
        self._first_unseen = (0, 0)  # and its generation
        self._sizes: dict[int, int] = {}  # computed by reading, where no name tells them

    # --- the picture -----------------------------------------------------------------------

    @property
    def uidvalidity(self) -> int:  # type: ignore[override]  # found out when first asked for
        return self.picture.know_uidvalidity()

    @property
    def uidnext(self) -> int:  # type: ignore[override]  # as above
        self.picture.load()
        return self.picture.uidnext

    @property
    def generation(self) -> int:  # type: ignore[override]  # as above
        return self.picture.generation

    def guid(self) -> str:
        return self.picture.know_guid()

    def sync(self) -> bool:
        return self.picture.sync()

    def looks_unchanged(self) -> bool:
        return self.picture.looks_unchanged()

    def looks_the_same(self) -> bool:
        return self.picture.looks_the_same()

    def memento(self) -> Stamps | None:
        picture = self.picture
        directories = (picture.folders.new.path, picture.folders.cur.path)
        stamps = Stamps([*directories, os.fspath(picture.list.path), picture.keywords.path])
        return stamps if picture.is_settled() and picture.looks_unchanged() else None

    def keep_in(self, shelf: Shelf) -> None:
        self.picture.shelf = shelf

    def put_away(self) -> None:
        self.picture.put_away()

    def uids(self) -> Sequence[int]:
        self.picture.load()
        return self.picture.uids

    def late_uids(self) -> Sequence[int]:
        self.picture.load()
        return self.picture.late_uids()

    def flags_of(self, uid: int) -> FlagSet:
        self.picture.load()
        return self.picture.flags_of(uid)

    def flags_of_each(self, uids: Sequence[int]) -> list[FlagSet | None]:
        self.picture.load()
        return self.picture.flags_of_each(uids)

    def unseen(self) -> Sequence[int]:
        """One look at each file name, not at each message's flags."""
        picture = self.picture
        picture.load()
        if self._unseen is None or self._unseen[0] != picture.generation:
            self._unseen = picture.generation, picture.uids_without(System.SEEN)
        return self._unseen[1]

    def first_unseen(self) -> int:
        picture = self.picture
        picture.load()
        generation = picture.generation
        if self._first_unseen[0] != generation:
            first = picture.first_without(System.SEEN)
            if first is None:
                first = super().first_unseen()
            self._first_unseen = generation, first
        return self._first_unseen[1]

    def changes_since(self, generation: int) -> Changes:
        return self.picture.changes.since(generation)

    def keywords(self) -> Sequence[str]:
        """Named ones, and those of letters that stand in file names without having a name."""
        self.picture.load()
        current = self.picture.keywords.current
        nameless = {current.name_of(letter) for letter in self._used_letters()}
        return (*current.known(), *sorted(nameless.difference(current.known())))

    def can_add_keywords(self) -> bool:
        self.picture.load()
        return not self.readonly and self.picture.keywords.current.has_room(self._used_letters())

    def _used_letters(self) -> frozenset[str]:
        """Keyword letters in use, as the picture shows it: clients ask all the time."""
        picture = self.picture
        if self._letters[0] != picture.generation:
            self._letters = picture.generation, picture.used_letters()
        return self._letters[1]

    def watch_paths(self) -> Sequence[Path]:
        paths = [self.site.directory / "new", self.site.directory / "cur"]
        if self.site.control != self.site.directory:
            paths.append(self.site.control)
        return paths

    def settles_in(self) -> float | None:
        waits = [self.picture.folders.new.settles_in(), self.picture.folders.cur.settles_in()]
        return min((wait for wait in waits if wait is not None), default=None)

    def close(self) -> None:
        """There is nothing to release: no descriptor is kept."""

    # --- messages --------------------------------------------------------------------------

    def has_recent(self) -> bool:
        return not self.picture.loaded or self.picture.has_new()

    def recent(self, *, claim: bool) -> frozenset[int]:
        """Messages in new/.  Claiming moves them to cur/, which only one process can do."""
        picture = self.picture
        picture.load()
        folders, uid_of = picture.folders, picture.list.uid_of
        waiting = {base: uid_of.get(base, 0) for base in folders.new.files}
        found = {b: uid for b, uid in waiting.items() if picture.base_of.get(uid) == b}
        if not claim or self.readonly or not found:
            return frozenset(found.values())
        claimed: list[int] = []
        with folders.own_changes(), folders.opened() as (new_fd, cur_fd):
            for base, uid in found.items():
                info = folders.new.files[base]
                after = info or NO_FLAGS_INFO
                try:
                    fsops.rename(Entry(new_fd, base + info), Entry(cur_fd, base + after))
                except FileNotFoundError:
                    folders.lost_track()  # another process has claimed it
                    continue
                folders.cur.files[base] = after
                del folders.new.files[base]
                claimed.append(uid)
        return frozenset(claimed)

    def info(self, uid: int) -> MessageInfo:
        try:
            status = os.lstat(self.picture.folders.path_of(self.picture.base_of[uid]))
        except (KeyError, FileNotFoundError):
            status = self._reach(uid, os.lstat)
        return MessageInfo(uid, self.size(uid), int(status.st_mtime), int(status.st_ctime))

    def size(self, uid: int) -> int:
        """From the name or the list where they tell it, else by reading the message once."""
        self.picture.load()
        base = self.picture.base_of.get(uid)
        if base is None:
            raise SharingError(Code.EXPUNGED, f"message {uid} of {self.site.label} is gone")
        if (size := virtual_size_in(base)) is not None:
            return size
        extras = self.picture.list.extras.get(uid, "")
        if (value := extra_value(extras, "W")) and value.isascii() and value.isdigit():
            return int(value)
        if uid not in self._sizes:
            self._sizes[uid] = virtual_size(self._read_by(uid, fsops.read_file))
        return self._sizes[uid]

    def known_sizes(self, uids: Sequence[int]) -> list[int | None]:
        """From the names."""
        self.picture.load()
        bases = [self.picture.base_of.get(uid, "") for uid in uids]
        sizes = virtual_sizes_in(bases)
        return [*map(virtual_size_in, bases)] if sizes is None else sizes

    def identity_of(self, uid: int) -> str:
        self.picture.load()
        return self.picture.base_of[uid]

    def read(self, uid: int) -> bytes:
        picture = self.picture
        try:  # mostly it is where it was last seen
            return with_crlf(fsops.read_file(picture.folders.path_of(picture.base_of[uid])))
        except (KeyError, OSError):
            pass
        return with_crlf(self._read_by(uid, fsops.read_file))

    def read_header(self, uid: int) -> bytes:
        return with_crlf(self._read_by(uid, _read_header))

    def _read_by(self, uid: int, act: Callable[[str], bytes]) -> bytes:
        """One message that cannot be read is that message's fault: a refusal, with the reason."""
        try:
            return self._reach(uid, act)
        except OSError as exc:
            if exc.errno in NO_MESSAGE:
                raise SharingError(
                    Code.CORRUPT, f"{exc.filename} is not a regular file: it cannot be a message"
                ) from exc
            if exc.errno != errno.EACCES:
                raise
            why = explain_refusal(exc.filename, Want.READ)
            raise SharingError(
                Code.UNAVAILABLE, f"message {uid} of {self.site.label} cannot be read: {why}"
            ) from exc

    def _reach(self, uid: int, act: Callable[[str], T]) -> T:
        """Do something with the message's file, wherever it is by now."""
        picture = self.picture
        picture.load()
        for attempt in range(ATTEMPTS):
            if attempt:
                picture.sync(force=True)
            base = picture.base_of.get(uid)
            if base is None:
                raise SharingError(Code.EXPUNGED, f"message {uid} of {self.site.label} is gone")
            try:
                return act(picture.folders.path_of(base))
            except FileNotFoundError:
                continue
        raise SharingError(
            Code.UNAVAILABLE,
            f"message {uid} of {self.site.label} was renamed by others {ATTEMPTS} times while it"
            " was opened",
            retryable=True,
        )

    # --- flags -----------------------------------------------------------------------------

    def store_flags(
        self, uids: Iterable[int], change: FlagChange, *, unless_changed: bool = False
    ) -> list[int]:
        self._demand_writable()
        return self._flags.store(uids, change, unless_changed=unless_changed)

    # --- removing --------------------------------------------------------------------------

    def expunge(self, uids: Iterable[int]) -> list[int]:
        self._demand_writable()
        picture = self.picture
        picture.load()
        wanted = [uid for uid in uids if uid in picture.base_of]
        left = wanted
        for attempt in range(ATTEMPTS):
            if attempt:
                picture.sync(force=True)
            left = self._unlink(uid for uid in left if uid in picture.base_of)
            if not left:
                break
        if wanted and self.site.config.fsync is Fsync.ALWAYS:
            picture.folders.flush()
        return [uid for uid in wanted if uid not in picture.base_of]

    def _unlink(self, uids: Iterable[int]) -> list[int]:
        """Returns those whose files were not where they were last seen."""
        picture, folders = self.picture, self.picture.folders
        new, cur = folders.new.files, folders.cur.files
        missed: list[int] = []
        removed: list[int] = []
        try:
            with folders.own_changes(), folders.opened() as (new_fd, cur_fd):
                for uid in uids:
                    base = picture.base_of[uid]
                    files, fd = (cur, cur_fd) if base in cur else (new, new_fd)
                    if fsops.unlink(base + files[base], dir_fd=fd, missing_ok=True):
                        del files[base]
                        removed.append(uid)
                    else:
                        missed.append(uid)
                if missed:
                    folders.lost_track()
        finally:
            picture.publish_removal(removed)
        return missed

    # --- adding ----------------------------------------------------------------------------

    def saver(self) -> MaildirSaver:
        """Raises SharingError(NONEXISTENT) if the mailbox was deleted meanwhile."""
        self._demand_writable()
        directory = os.fspath(self.site.directory)
        if not all(os.path.isdir(f"{directory}/{name}") for name in ("cur", "new", "tmp")):
            self.picture.make_missing_directories()
        return MaildirSaver(
            self.site, self.picture.folders, Adder(self.picture, self._flags).commit
        )

    def copy_from(
        self, source: Mailbox, uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        files = source.backing()
        with self.saver() as saver:
            if isinstance(files, MaildirMailbox):
                alike = self._is_alike(files)
                with files.picture.folders.opened() as folders:
                    linked = [
                        files.give(uid, saver, flags, folders, alike=alike)
                        for uid, flags in _flags_of_all(source, uids, allowed)
                    ]
            else:
                linked = [False] * len(uids)
                for uid, flags in _flags_of_all(source, uids, allowed):
                    saver.begin(flags, source.info(uid).internaldate)
                    saver.write(source.read(uid))
                    saver.finish()
            copies = saver.commit()
        return [Copied(*each) for each in zip(uids, copies, linked, strict=True)]

    def move_from(
        self, source: Mailbox, uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        """Links, then unlinks: between the two a crash leaves both, which renaming cannot promise
        together with all-or-nothing."""
        copied = self.copy_from(source, uids, allowed)
        source.expunge(uids)
        return copied

    def _is_alike(self, source: "MaildirMailbox") -> bool:
        if not self.site.config.links_between:
            return False
        return bool(link_decision(source.site.creation(), self.site.creation()))

    def give(
        self,
        uid: int,
        saver: MaildirSaver,
        flags: FlagSet,
        folders: tuple[int, int],
        *,
        alike: bool,
    ) -> bool:
        """Put a copy of one message into another mailbox's saver.  Returns whether it is a link.

        folders: descriptors of new/ and cur/: what is copied was certainly in this mailbox.
        """

        def add(path: str) -> bool:
            base = self.picture.base_of[uid]
            name = path.rpartition("/")[2]
            fd = folders[base in self.picture.folders.cur.files]
            sizes = None
            # Both sizes or neither: Dovecot 2.3, copying a file whose name has S= alone, takes that
            # for the virtual size too, and then sends the message with bare LF.
            if virtual_size_in(base) is None and (virtual := self._sizes.get(uid)) is not None:
                sizes = Sizes(os.lstat(name, dir_fd=fd).st_size, virtual)
            return saver.add_file(Entry(fd, name), flags, base, sizes, alike=alike)

        return self._reach(uid, add)

    # --- helpers ---------------------------------------------------------------------------

    def _demand_writable(self) -> None:
        if self.readonly:
            raise SharingError(Code.NO_PERMISSION, f"{self.site.label} is open for reading only")


def _flags_of_all(
    source: Mailbox, uids: Sequence[int], allowed: FlagFilter
) -> Iterator[tuple[int, FlagSet]]:
    """Raises SharingError(EXPUNGED)."""
    found = source.flags_of_each(uids)
    filtered = {id(flags): flags and allowed.apply(flags) for flags in found}
    for uid, flags in zip(uids, found, strict=True):
        if flags is None:
            raise SharingError(Code.EXPUNGED, f"message {uid} of the source is gone")
        yield uid, filtered[id(flags)] or NO_FLAGS


def _read_header(path: str) -> bytes:
    """The header and its end, or the whole file if there is no body."""
    fd = fsops.open_file(path)
    try:
        octets = b""
        while chunk := os.read(fd, HEADER_CHUNK):
            octets += chunk
            if (end := header_end(octets)) >= 0:
                return octets[:end]
        return octets
    finally:
        os.close(fd)
