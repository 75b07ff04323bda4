"""Changing flags: a rename for each message, and letters for keywords."""

from collections.abc import Callable, Iterable
from typing import Final

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.flags import FlagChange, FlagOp, FlagSet
from sharefs.store.maildir.config import Fsync
from sharefs.store.maildir.filename import format_info
from sharefs.store.maildir.picture import Picture

ATTEMPTS: Final = 10  # listings for messages that are renamed again and again


class FlagWriter:
    """Writes to one mailbox and tells its picture."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def store(
        self, uids: Iterable[int], change: FlagChange, *, unless_changed: bool = False
    ) -> list[int]:
        """Returns the UIDs whose flags now differ.  Skips vanished messages.

        unless_changed: a message that is not where it was last seen is skipped if its flags
        differ, instead of being tried again.  A rename finds that out: its old name has the flags.

        Raises SharingError(LIMIT) for a 27th keyword, with nothing changed.
        """
        picture = self._picture
        picture.load()
        change = self._with_known_keywords(change)
        renamed: dict[str, str | None] = {}  # new info by old one; None: stays as it is

        def renaming(info: str) -> str | None:
            try:
                return renamed[info]
            except KeyError:
                old = picture.flags_of_info(info)
                new = change.apply(old)
                renamed[info] = None if new == old else self.info_for(new, info)
            return renamed[info]

        changed: list[int] = []
        missed = list(uids)
        before = {uid: self._flags_of(uid) for uid in missed} if unless_changed else {}
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    picture.sync(force=True)
                    if unless_changed:
                        missed = [uid for uid in missed if self._flags_of(uid) == before[uid]]
                if not (missed := self._rename(missed, renaming, changed)):
                    if changed and picture.site.config.fsync is Fsync.ALWAYS:
                        picture.folders.flush()
                    return changed
        finally:
            picture.publish_flags(changed)
        raise SharingError(
            Code.UNAVAILABLE,
            f"{len(missed)} messages of {picture.site.label} are renamed by others again and again",
            retryable=True,
        )

    def _flags_of(self, uid: int) -> FlagSet | None:
        """None: it is gone."""
        try:
            return self._picture.flags_of(uid)
        except KeyError:
            return None

    def _rename(
        self, uids: list[int], renaming: Callable[[str], str | None], changed: list[int]
    ) -> list[int]:
        """Returns those whose files were not where they were last seen."""
        folders, base_of = self._picture.folders, self._picture.base_of
        new, cur = folders.new.files, folders.cur.files
        missed: list[int] = []
        with folders.own_changes(), folders.opened() as (new_fd, cur_fd):
            in_cur, out_of_new = fsops.renamer(cur_fd, cur_fd), fsops.renamer(new_fd, cur_fd)
            for uid in uids:
                base = base_of.get(uid)
                if base is None:
                    continue
                old = cur.get(base)
                is_new = old is None
                if old is None:
                    old = new[base]
                after = renaming(old)
                if after is None:
                    continue
                try:
                    (out_of_new if is_new else in_cur)(base + old, base + after)
                except FileNotFoundError:
                    missed.append(uid)
                    continue
                cur[base] = after  # before it leaves new: other threads may be looking
                if is_new:
                    del new[base]
                changed.append(uid)
            if missed:
                folders.lost_track()
        return missed

    def _with_known_keywords(self, change: FlagChange) -> FlagChange:
        """Keywords in the case they have here, new ones with a letter of their own.

        There are 26 letters.  (Dovecot keeps a 27th keyword in its index only, where no other
        program finds it, nor Dovecot itself once the index is rebuilt.)
        """
        wanted = change.flags.keywords if change.allowed.keywords else frozenset()
        if change.op is not FlagOp.REMOVE and (homeless := self.name_keywords(wanted)):
            label = self._picture.site.label
            raise SharingError(Code.LIMIT, f"{label} has no letter left for {homeless[0]!r}")
        current = self._picture.keywords.current
        letters = (current.letter_of(name) for name in change.flags.keywords)
        known = frozenset(current.name_of(letter) for letter in letters if letter)
        return FlagChange(change.op, FlagSet(change.flags.system, known), change.allowed)

    def name_keywords(self, names: Iterable[str]) -> list[str]:
        """Give each keyword a letter.  Returns those for which none was left."""
        picture, keywords = self._picture, self._picture.keywords
        names = sorted(names)
        if not names:
            return []
        picture.refresh_keywords()
        if all(keywords.current.letter_of(name) for name in names):
            return []
        picture.load()  # to know the letters in use
        with picture.locked():
            picture.refresh_keywords()
            used = picture.folders.used_letters()
            table, homeless = keywords.current.with_added(names, used)
            if table != keywords.current:
                picture.write_keywords(table)
        return homeless

    def info_for(self, flags: FlagSet, old: str = "") -> str:
        """The info for these flags.  Keywords without a letter are left out."""
        current = self._picture.keywords.current
        letters = (current.letter_of(name) for name in flags.keywords)
        return format_info(flags.system, frozenset(filter(None, letters)), old)
