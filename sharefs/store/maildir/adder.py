"""Moving finished messages from tmp/ in place and giving them UIDs, all or none."""

import logging
import os
from collections.abc import Sequence
from itertools import chain
from typing import Final

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.flags import NO_FLAGS
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

    def commit(self, pending: Sequence[Pending]) -> list[int]:
        """Returns the UIDs, in order.  On any exception nothing was added.

        Raises SharingError(IN_USE), SharingError(NONEXISTENT) if the mailbox went away, OSError.
        """
        if not pending:
            return []
        try:
            return self._commit(pending)
        except FileNotFoundError as exc:
            site = self._picture.site
            if site.directory.is_dir():
                raise
            raise SharingError(Code.NONEXISTENT, f"mailbox {site.label} is gone") from exc

    def _commit(self, pending: Sequence[Pending]) -> list[int]:
        picture, directory = self._picture, self._picture.site.directory
        self._name_keywords(pending)
        with picture.locked():
            was_current = picture.is_current()
            picture.prepare_list()
            placed: dict[str, str] = {}
            try:
                self._place(pending, placed)
                records = picture.list.numbered(list(placed))
                picture.list.add(records)
            except BaseException:
                for base, info in placed.items():
                    folder = directory / ("cur" if info else "new")
                    fsops.unlink(folder / (base + info), missing_ok=True)
                raise
            picture.publish_added(placed, was_current=was_current)
        return [uid for uid, _ in records]

    def _name_keywords(self, pending: Sequence[Pending]) -> None:
        names = {name for item in pending for name in item.flags.keywords}
        if homeless := self._flags.name_keywords(names):
            log.warning(
                "keywords %s were dropped: %s has no letter left",
                " ".join(homeless), self._picture.site.label,
            )  # fmt: skip

    def _place(self, pending: Sequence[Pending], placed: dict[str, str]) -> None:
        """placed: info by base, of what was moved; filled as it happens, for undoing it."""
        site = self._picture.site
        infos = {id(NO_FLAGS): NO_INFO}  # many have the very same set
        taken = self._bases_taken() if any(item.base for item in pending) else set()
        with self._picture.folders.all_opened() as (new_fd, cur_fd, tmp_fd):
            for item in pending:
                info = infos.get(id(item.flags))
                if info is None:
                    info = self._flags.info_for(item.flags) if item.flags else NO_INFO
                    infos[id(item.flags)] = info
                base = item.place(tmp_fd, cur_fd if info else new_fd, info, taken)
                placed[base] = info
                taken.add(base)
        if site.config.fsync:
            for name in {"cur" if info else "new" for info in placed.values()}:
                fsops.fsync_dir(site.directory / name)

    def _bases_taken(self) -> set[str]:
        """Bases that a copy must not use here: ever listed, or standing in a directory now."""
        folders = self._picture.folders
        names = chain(os.listdir(folders.new.path), os.listdir(folders.cur.path))
        taken = {name.partition(":")[0] for name in names}
        taken.update(self._picture.list.uid_of)
        return taken
