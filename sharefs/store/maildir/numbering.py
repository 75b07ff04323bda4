"""Giving UIDs to files that have none, and going on without where that is refused."""

import errno
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from sharefs.errors import Code, SharingError
from sharefs.permissions.access import Want
from sharefs.permissions.explain import explain_refusal
from sharefs.store.maildir import doubles
from sharefs.store.maildir.filename import arrival_key
from sharefs.store.maildir.folders import Touched

if TYPE_CHECKING:
    from sharefs.store.maildir.picture import Picture

log = logging.getLogger(__name__)

SYNC_PATIENCE: Final = 10.0  # seconds to wait for the lock before new messages are shown later
# Why a mailbox may refuse new list entries and still be read.
REFUSED: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT}
)


class Numbering:
    """Of one picture's files.  strays: bases that wait for a UID."""

    def __init__(self, picture: "Picture") -> None:
        self._picture = picture
        self.strays: set[str] = set()
        self._complaint = ""

    def number(self, strays: set[str], touched: Touched) -> None:
        """Give UIDs to files that have none, if we may write the list; else they stay hidden.

        touched grows by what another look under the lock found.  Raises as _do_without().
        """
        picture = self._picture
        self.strays = strays
        mended = picture.list.is_plain and not picture.folders.doubles
        if not strays and mended and not self.is_untidy():
            return
        try:
            with picture.locked(patience=SYNC_PATIENCE if picture.list.header else None):
                self._number_locked(touched)
        except SharingError as exc:
            if exc.code is not Code.IN_USE:
                raise
            self._do_without(strays, exc)
        except OSError as exc:
            if exc.errno not in REFUSED or not picture.site.directory.is_dir():
                raise
            self._do_without(strays, exc)

    def _number_locked(self, touched: Touched) -> None:
        picture, listed, folders = self._picture, self._picture.list, self._picture.folders
        if listed.version != picture.looked_with:
            # Others listed files since we looked; some of theirs may have come after our look.
            again = picture.look(at_cur=True)
            for base, info in again.items():
                touched.setdefault(base, info)
            self.strays |= again.keys() if picture.loaded else folders.bases()
        picture.prepare_list()
        unnumbered = sorted(filter(self.is_unnumbered, self.strays), key=arrival_key)
        if unnumbered:
            listed.add(listed.numbered(unnumbered))
        if self.is_untidy():
            listed.rewrite(folders.bases())
        picture.looked_with = listed.version
        self.strays = set()
        if folders.doubles:
            doubles.mend(folders)
        self._complaint = ""

    def is_untidy(self) -> bool:
        """Whether the list holds too many records of dead messages, and we know which."""
        folders = self._picture.folders
        return folders.quiet and self._picture.list.wants_rewrite(
            len(folders.cur.files) + len(folders.new.files)
        )

    def is_unnumbered(self, base: str) -> bool:
        """Whether a file needs a new UID: it has none, or one that clients saw vanish (rule 3)."""
        picture = self._picture
        if base not in picture.folders:
            return False
        uid = picture.list.uid_of.get(base)
        return uid is None or (uid <= picture.high and picture.base_of.get(uid) != base)

    def _do_without(self, strays: Collection[str], why: OSError | SharingError) -> None:
        """Go on with messages hidden that cannot be given UIDs, and complain once.

        Raises SharingError(UNAVAILABLE) if a mailbox that is being opened has messages and no
        list at all: it would look like an empty one, under a UIDVALIDITY less than a lost list
        had, and clients and private \\Seen would drop what they know of its messages.
        """
        picture = self._picture
        label = picture.site.label
        if not picture.loaded and strays and picture.list.header is None:
            if isinstance(why, SharingError):
                raise why
            raise SharingError(
                Code.UNAVAILABLE,
                f"{label} has {len(strays)} messages that nobody has given UIDs yet, and"
                f" this user may not: {self._why_not_listed(why)}.  It can be opened once its"
                " owner, or somebody else who may write there, has opened it",
            ) from why
        if strays and str(why) != self._complaint:
            self._complaint = str(why)
            log.warning(
                "%d new messages in %s stay hidden, because they cannot be given UIDs: %s",
                len(strays), label, why,
            )  # fmt: skip

    def _why_not_listed(self, why: OSError) -> str:
        picture = self._picture
        if isinstance(why, PermissionError):
            control = picture.site.control
            return explain_refusal(control, Want.WRITE | Want.SEARCH, with_remedy=False)
        return f"{picture.list.path}: {why.strerror}"
