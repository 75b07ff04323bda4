"""One open Maildir: reading messages, changing flags, adding and removing.

Whatever touches a file first tries where it was last seen.  If it is not there, somebody renamed
or removed it: the directories are listed again, and only what that does not find is gone.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.flags import EVERY_FLAG, NO_FLAGS, FlagChange, FlagFilter, FlagOp, FlagSet
from sharefs.fsops import Entry
from sharefs.permissions.access import Want
from sharefs.permissions.explain import explain_refusal
from sharefs.permissions.inherit import link_decision
from sharefs.store.interface import Changes, Copied, Mailbox, MessageInfo
from sharefs.store.maildir.config import Site
from sharefs.store.maildir.filename import (
    NO_FLAGS_INFO,
    Sizes,
    format_info,
    sizes_of,
)
from sharefs.store.maildir.line_ends import header_end, virtual_size, with_crlf
from sharefs.store.maildir.picture import Picture
from sharefs.store.maildir.saver import MaildirSaver, Pending
from sharefs.store.maildir.uidlist_format import extra_value

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS: Final = 10  # listings for one message that is renamed again and again
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

    def sync(self) -> bool:
        return self.picture.sync()

    def looks_unchanged(self) -> bool:
        return self.picture.looks_unchanged()

    def uids(self) -> Sequence[int]:
        self.picture.load()
        return self.picture.uids

    def flags_of(self, uid: int) -> FlagSet:
        self.picture.load()
        return self.picture.flags_of(uid)

    def changes_since(self, generation: int) -> Changes:
        return self.picture.changes.since(generation)

    def keywords(self) -> Sequence[str]:
        """Named ones, and those of letters that stand in file names without having a name."""
        self.picture.load()
        current = self.picture.keywords.current
        nameless = {current.name_of(letter) for letter in self.picture.folders.used_letters()}
        return (*current.known(), *sorted(nameless.difference(current.known())))

    def can_add_keywords(self) -> bool:
        self.picture.load()
        return not self.readonly and self.picture.keywords.current.has_room(
            self.picture.folders.used_letters()
        )

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

    def recent(self, *, claim: bool) -> frozenset[int]:
        """Messages in new/.  Claiming moves them to cur/, which only one process can do."""
        picture = self.picture
        picture.load()
        uid_of = picture.list.uid_of
        waiting = {base: uid_of.get(base, 0) for base in picture.folders.new.files}
        found = {b: uid for b, uid in waiting.items() if picture.base_of.get(uid) == b}
        if not claim or self.readonly or not found:
            return frozenset(found.values())
        claimed: list[int] = []
        with picture.folders.own_changes(), self._directories() as (new_fd, cur_fd):
            for base, uid in found.items():
                info = picture.folders.new.files[base]
                after = info or NO_FLAGS_INFO
                try:
                    fsops.rename(Entry(new_fd, base + info), Entry(cur_fd, base + after))
                except FileNotFoundError:
                    picture.folders.lost_track()  # another process has claimed it
                    continue
                picture.folders.cur.files[base] = after
                del picture.folders.new.files[base]
                claimed.append(uid)
        return frozenset(claimed)

    def info(self, uid: int) -> MessageInfo:
        status = self._reach(uid, os.lstat)
        base = self.picture.base_of[uid]
        return MessageInfo(
            uid=uid,
            size=self._size_of(uid, base),
            internaldate=int(status.st_mtime),
            save_date=int(status.st_ctime),
        )

    def _size_of(self, uid: int, base: str) -> int:
        if (size := sizes_of(base).virtual) is not None:
            return size
        extras = self.picture.list.extras.get(uid, "")
        if (value := extra_value(extras, "W")) and value.isascii() and value.isdigit():
            return int(value)
        if uid not in self._sizes:
            self._sizes[uid] = virtual_size(self._read_by(uid, fsops.read_file))
        return self._sizes[uid]

    def read(self, uid: int) -> bytes:
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

    def store_flags(self, uids: Iterable[int], change: FlagChange) -> list[int]:
        self._demand_writable()
        picture = self.picture
        picture.load()
        change = self._with_known_keywords(change)
        renamed: dict[str, str | None] = {}  # new info by old one; None: stays as it is

        def renaming(info: str) -> str | None:
            if info not in renamed:
                old = picture.flags_of_info(info)
                new = change.apply(old)
                renamed[info] = None if new == old else self._info_for(new, info)
            return renamed[info]

        changed: list[int] = []
        try:
            self._rename_all(list(uids), renaming, changed)
        finally:
            picture.publish_flags(changed)
        return changed

    def _rename_all(
        self, uids: list[int], renaming: Callable[[str], str | None], changed: list[int]
    ) -> None:
        picture = self.picture
        for attempt in range(ATTEMPTS):
            if attempt:
                picture.sync(force=True)
            missed: list[int] = []
            new, cur, base_of = (
                picture.folders.new.files,
                picture.folders.cur.files,
                picture.base_of,
            )
            with picture.folders.own_changes(), self._directories() as (new_fd, cur_fd):
                for uid in uids:
                    base = base_of.get(uid)
                    if base is None:
                        continue
                    old = cur.get(base)
                    fd = cur_fd
                    if old is None:
                        old, fd = new[base], new_fd
                    after = renaming(old)
                    if after is None:
                        continue
                    try:
                        fsops.rename(Entry(fd, base + old), Entry(cur_fd, base + after))
                    except FileNotFoundError:
                        missed.append(uid)
                        continue
                    cur[base] = after  # before it leaves new: other threads may be looking
                    if fd is new_fd:
                        del new[base]
                    changed.append(uid)
                if missed:
                    picture.folders.lost_track()
            if not missed:
                return
            uids = missed
        raise SharingError(
            Code.UNAVAILABLE,
            f"{len(uids)} messages of {self.site.label} are renamed by others again and again",
            retryable=True,
        )

    def _with_known_keywords(self, change: FlagChange) -> FlagChange:
        """Keywords in the case they have here, new ones with a letter of their own.

        Raises SharingError(LIMIT) for a 27th keyword: there are 26 letters.  (Dovecot would keep
        it in its index only, where no other program and no rebuilt index ever finds it.)
        """
        wanted = change.flags.keywords if change.allowed.keywords else frozenset()
        if change.op is not FlagOp.REMOVE and (homeless := self.name_keywords(wanted)):
            raise SharingError(
                Code.LIMIT, f"{self.site.label} has no letter left for keyword {homeless[0]!r}"
            )
        flags = FlagSet(change.flags.system, self._as_known(change.flags.keywords))
        return FlagChange(change.op, flags, change.allowed)

    def _as_known(self, names: Iterable[str]) -> frozenset[str]:
        current = self.picture.keywords.current
        letters = (current.letter_of(name) for name in names)
        return frozenset(current.name_of(letter) for letter in letters if letter)

    def name_keywords(self, names: Iterable[str]) -> list[str]:
        """Give each keyword a letter.  Returns those for which none was left."""
        keywords = self.picture.keywords
        if all(keywords.current.letter_of(name) for name in names):
            return []
        self.picture.load()  # to know the letters in use
        with self.picture.locked():
            keywords.refresh()
            table, homeless = keywords.current.with_added(
                sorted(names), self.picture.folders.used_letters()
            )
            if table != keywords.current:
                self.picture.write_keywords(table)
        return homeless

    def _info_for(self, flags: FlagSet, old: str = "") -> str:
        current = self.picture.keywords.current
        letters = (current.letter_of(name) for name in flags.keywords)
        return format_info(flags.system, frozenset(filter(None, letters)), old)

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
        return [uid for uid in wanted if uid not in picture.base_of]

    def _unlink(self, uids: Iterable[int]) -> list[int]:
        """Returns those whose files were not where they were last seen."""
        picture = self.picture
        new, cur = picture.folders.new.files, picture.folders.cur.files
        missed: list[int] = []
        removed: list[int] = []
        try:
            with picture.folders.own_changes(), self._directories() as (new_fd, cur_fd):
                for uid in uids:
                    base = picture.base_of[uid]
                    files, fd = (cur, cur_fd) if base in cur else (new, new_fd)
                    if fsops.unlink(base + files[base], dir_fd=fd, missing_ok=True):
                        del files[base]
                        removed.append(uid)
                    else:
                        missed.append(uid)
                if missed:
                    picture.folders.lost_track()
        finally:
            picture.publish_removal(removed)
        return missed

    # --- adding ----------------------------------------------------------------------------

    def saver(self) -> MaildirSaver:
        """Raises SharingError(NONEXISTENT) if the mailbox was deleted meanwhile."""
        self._demand_writable()
        if not os.path.isdir(self.site.directory / "tmp"):
            self.picture.make_missing_directories()
        return MaildirSaver(self.site, self._commit)

    def _commit(self, pending: Sequence[Pending]) -> list[int]:
        """Move finished messages from tmp/ in place and list them, all or none."""
        if not pending:
            return []
        picture = self.picture
        homeless = self.name_keywords({name for item in pending for name in item.flags.keywords})
        if homeless:
            log.warning("keywords %s were dropped: %s has no letter left",
                        " ".join(homeless), self.site.label)  # fmt: skip
        with picture.locked():
            was_current = picture.is_current()
            picture.prepare_list()
            placed: dict[str, str] = {}
            try:
                self._place_all(pending, placed)
                first = picture.list.next_uid
                picture.list.add(list(enumerate(placed, first)))
            except BaseException:
                for base, info in placed.items():
                    folder = self.site.directory / ("cur" if info else "new")
                    fsops.unlink(folder / (base + info), missing_ok=True)
                raise
            picture.publish_added(placed, was_current=was_current)
        return list(range(first, first + len(placed)))

    def _place_all(self, pending: Sequence[Pending], placed: dict[str, str]) -> None:
        """placed: info by base, of what was moved; filled as it happens, for undoing it."""
        infos: dict[FlagSet, str] = {NO_FLAGS: ""}
        taken = self._bases_taken() if any(item.base for item in pending) else set()
        with (
            self._directories() as (new_fd, cur_fd),
            fsops.directory(self.site.directory / "tmp", follow=True, search_only=True) as tmp_fd,
        ):
            for item in pending:
                info = infos.get(item.flags)
                if info is None:
                    info = infos[item.flags] = self._info_for(item.flags)
                base = item.place(tmp_fd, cur_fd if info else new_fd, info, taken)
                placed[base] = info
                taken.add(base)
        if self.site.config.fsync:
            for name in {"cur" if info else "new" for info in placed.values()}:
                fsops.fsync_dir(self.site.directory / name)

    def _bases_taken(self) -> set[str]:
        """Bases that a copy must not use here: ever listed, or standing in a directory now."""
        picture = self.picture
        names = chain(os.listdir(picture.folders.new.path), os.listdir(picture.folders.cur.path))
        return picture.list.uid_of.keys() | {name.partition(":")[0] for name in names}

    def copy_from(
        self, source: Mailbox, uids: Sequence[int], allowed: FlagFilter = EVERY_FLAG
    ) -> list[Copied]:
        files = source.backing()
        with self.saver() as saver:
            if isinstance(files, MaildirMailbox):
                alike = self._is_alike(files)
                linked = [
                    files.give(uid, saver, flags, alike=alike)
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

    def give(self, uid: int, saver: MaildirSaver, flags: FlagSet, *, alike: bool) -> bool:
        """Put a copy of one message into another mailbox's saver.  Returns whether it is a link."""

        def add(path: str) -> bool:
            base = self.picture.base_of[uid]
            sizes = sizes_of(base)
            if sizes.stored is None:
                sizes = Sizes(os.lstat(path).st_size, sizes.virtual)
            return saver.add_file(path, flags, base, sizes, alike=alike)

        return self._reach(uid, add)

    # --- helpers ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _directories(self) -> Iterator[tuple[int, int]]:
        """Descriptors of new/ and cur/."""
        with (
            fsops.directory(self.picture.folders.new.path, follow=True, search_only=True) as new_fd,
            fsops.directory(self.picture.folders.cur.path, follow=True, search_only=True) as cur_fd,
        ):
            yield new_fd, cur_fd

    def _demand_writable(self) -> None:
        if self.readonly:
            raise SharingError(Code.NO_PERMISSION, f"{self.site.label} is open for reading only")


def _flags_of_all(
    source: Mailbox, uids: Sequence[int], allowed: FlagFilter
) -> Iterator[tuple[int, FlagSet]]:
    """Raises SharingError(EXPUNGED)."""
    filtered: dict[FlagSet, FlagSet] = {}
    for uid in uids:
        try:
            flags = source.flags_of(uid)
        except KeyError:
            raise SharingError(Code.EXPUNGED, f"message {uid} of the source is gone") from None
        if flags not in filtered:
            filtered[flags] = allowed.apply(flags)
        yield uid, filtered[flags]


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
