"""Moving finished messages from tmp/ in place and giving them UIDs, all or none."""

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.store.maildir.flag_writer import FlagWriter
from sharefs.store.maildir.picture import Picture
from sharefs.store.maildir.saver import Pending

log = logging.getLogger(__name__)

NO_INFO: Final = ""  # a message without flags goes to new/ under its bare base


class Adder:
    """Adds to one mailbox and tells its picture."""

    def __init__(self, picture: Picture, flags: FlagWriter) -> None:
        self._picture = picture
        self._flags = flags

    def commit(self, pending: Sequence[Pending], tmp_fd: int) -> list[int]:
        """Returns the UIDs, in order.  On any exception nothing was added.

        tmp_fd: of the directory that they are in.

        Raises SharingError(IN_USE), SharingError(NONEXISTENT) if the mailbox went away, OSError.
        """
        if not pending:
            return []
        try:
            return self._commit(pending, tmp_fd)
        except FileNotFoundError as exc:
            site = self._picture.site
            if site.directory.is_dir():
                raise
            raise SharingError(Code.NONEXISTENT, f"mailbox {site.label} is gone") from exc

    def _commit(self, pending: Sequence[Pending], tmp_fd: int) -> list[int]:
        picture, directory = self._picture, self._picture.site.directory
        self._name_keywords(pending)
        with picture.locked():
            was_current = picture.is_current()
            picture.prepare_list()
            placed: dict[str, str] = {}
            try:
                self._place(pending, tmp_fd, placed)
                records = picture.list.numbered(list(placed))
                picture.list.add(records)
                self._flush(placed)
            except BaseException:
                for base, info in placed.items():
                    path = directory / _folder_of(info) / (base + info)
                    fsops.unlink(path, missing_ok=True)
                raise
            picture.publish_added(placed, records, was_current=was_current)
        return [uid for uid, _ in records]

    def _name_keywords(self, pending: Sequence[Pending]) -> None:
        names = {name for item in pending for name in item.flags.keywords}
        if homeless := self._flags.name_keywords(names):
            log.warning(
                "keywords %s were dropped: %s has no letter left",
                " ".join(homeless), self._picture.site.label,
            )  # fmt: skip

    def _place(self, pending: Sequence[Pending], tmp_fd: int, placed: dict[str, str]) -> None:
        """placed: info by base, of what was moved; filled as it happens, for undoing it."""
        ways: dict[int, tuple[str, int]] = {}  # by id() of the flags: many have the very same set
        fds: dict[str, int] = {}
        taken = self._bases_taken() if any(item.base for item in pending) else set()
        with contextlib.ExitStack() as stack:
            top = stack.enter_context(self._picture.folders.mailbox())
            for item in pending:
                way = ways.get(id(item.flags))
                if way is None:
                    info = self._flags.info_for(item.flags) if item.flags else NO_INFO
                    folder = _folder_of(info)
                    if folder not in fds:
                        opened = fsops.directory(folder, dir_fd=top, search_only=True)
                        fds[folder] = stack.enter_context(opened)
                    way = ways[id(item.flags)] = info, fds[folder]
                info, fd = way
                base = item.place(tmp_fd, fd, info, taken)
                placed[base] = info
                taken.add(base)

    def _flush(self, placed: Mapping[str, str]) -> None:
        """After the list was: on a file system with a journal, that has written these names too,
        and nothing is left to wait for."""
        if self._picture.site.config.fsync:
            with self._picture.folders.mailbox() as top:
                for folder in set(map(_folder_of, placed.values())):
                    fsops.fsync_dir(folder, dir_fd=top)

    def _bases_taken(self) -> set[str]:
        """Bases that a copy must not use here: ever listed, or standing in a directory now."""
        folders = self._picture.folders
        names = chain(os.listdir(folders.new.path), os.listdir(folders.cur.path))
        taken = {name.partition(":")[0] for name in names}
        taken.update(self._picture.list.uid_of)
        return taken


def _folder_of(info: str) -> str:
    return "cur" if info else "new"
