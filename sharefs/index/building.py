"""Building an index: taking messages apart and writing rows about them, a slice at a time."""

import logging
import time
from collections.abc import Sequence
from itertools import filterfalse
from typing import Final

from sharefs.errors import Code, SharingError
from sharefs.index import kept, rows, schema, trigrams
from sharefs.index.damage import Damaged
from sharefs.index.database import Database
from sharefs.index.harvest import Harvest, harvest
from sharefs.index.helpers import Helpers
from sharefs.index.known import Known
from sharefs.store.interface import Mailbox

log = logging.getLogger(__name__)

SLICE: Final = 500  # messages in one transaction
BULK: Final = 4  # slices in one transaction where nobody waits for the mailbox
TEXT_AT_ONCE: Final = 16 << 20  # characters of texts in one transaction, for they are in memory
# Texts are left out where the index would grow beyond this share of the mail it is about.
SHARE_LIMIT: Final = 0.5
FREE_OCTETS: Final = 2048  # for each message, what rows need even if a message is tiny
BASE_OCTETS: Final = 512 * 1024  # for the file: every table begins with a page
WORTH_MERGING: Final = 8  # segments of texts, to make room
DEAD_LIMIT: Final = 1000  # dead rows in texts, besides one for each living message
PAGES_AT_ONCE: Final = 4096  # given back in one transaction
# Written by one step of a merge, about 0.1 ms each: sessions wait for the mailbox as long.
MERGED_AT_ONCE: Final = 256


class Builder:
    """Of the index that known is about, which the caller keeps up to date."""

    def __init__(self, mailbox: Mailbox, database: Database, known: Known) -> None:
        self._mailbox = mailbox
        self._database = database
        self._known = known
        self.forget()

    def forget(self) -> None:
        """Begin anew to look for what is missing."""
        self._done: tuple[int, int] | None = None  # extent of the mailbox when nothing was left
        self._queue: list[int] = []  # messages to be indexed, ascending, taken from the end
        self._text_held = 0  # characters of texts that are gathered
        self._is_merging = False  # there are too many segments of texts
        self._is_merged = False  # and there is nothing to merge since texts were written last
        self._has_room = False  # merging has left empty pages
        self._mail: tuple[int, int, int] | None = None  # as _mail_so_far()

    def build(
        self, deadline: float | None, *, bulk: bool = False, helpers: Helpers | None = None
    ) -> bool:
        """Index what is missing, the newest first, until a time of time.monotonic().

        bulk: in larger transactions, which leave less to be merged.  helpers: who take messages
        apart meanwhile.

        Returns whether nothing is left to do.  Raises Damaged, sqlite3.Error.
        """
        at_once = SLICE * BULK if bulk else SLICE
        self._done = None
        known = self._known
        if known.vanished:
            self._remove_vanished()
        pages = MERGED_AT_ONCE * (BULK if bulk else 1)
        if not self._merge(deadline, pages):
            return False
        while True:
            self._queue = self._queue or self.missing()
            if not self._queue:
                break
            while self._queue:
                uid = self._queue.pop()
                self._gather(uid, helpers.take(uid, self._queue) if helpers else None)
                enough = len(known.gathered) >= at_once or self._text_held >= TEXT_AT_ONCE
                if enough and not self._store(deadline, pages):
                    return False
                if deadline is not None and time.monotonic() >= deadline and self._queue:
                    return False
        if not self._store(deadline, pages):
            return False
        while self._has_room:
            self._has_room = not self._database.give_back(PAGES_AT_ONCE)
            if deadline is not None and time.monotonic() >= deadline:
                break
        if self._has_room:
            return False
        self._done = _extent(self._mailbox)
        return True

    def looks_done(self) -> bool:
        """Whether build() would do nothing: no message has come or gone since it was done."""
        return self._done == _extent(self._mailbox)

    def missing(self) -> list[int]:
        """Messages that are neither indexed nor gathered but could be, ascending."""
        uids = self._mailbox.uids()
        if self._known.skipped:
            self._known.skipped.intersection_update(uids)  # some were skipped for being gone
        some = (self._known.indexed, self._known.skipped, self._known.gathered)
        if len(uids) == sum(map(len, some)):
            return []
        for one in some:
            uids = list(filterfalse(one.__contains__, uids))
        return list(uids)

    def _remove_vanished(self) -> None:
        known = self._known
        with self._database.writing() as sql:
            kept.forget_rows(sql)
            rows.remove(sql, known.vanished)
            dead = self._database.get(schema.DEAD) + len(known.vanished)
            self._database.set(schema.DEAD, dead)
        known.note_removed()
        self._mail = None
        if dead > len(known.indexed) + DEAD_LIMIT:
            raise Damaged(f"{dead} messages in it are gone")

    def _gather(self, uid: int, got: tuple[str, Harvest] | None) -> None:
        """Have what is kept of a message ready to be written with others.  got: if it is known."""
        known = self._known
        got = got or self._harvest(uid)
        if got is None:
            known.skipped.add(uid)
        elif uid not in known.indexed:
            known.gathered[uid] = got
            self._text_held += sum(map(len, got[1].texts or ()))

    def _store(self, deadline: float | None, pages: int) -> bool:
        """Write what was gathered, and merge if need be.  Returns False if the time was too short
        for all of it."""
        while not self._write():
            self._is_merging = True
            if not self._merge(deadline, pages):
                return False
        return self._merge(deadline, pages)

    def _write(self) -> bool:
        """One transaction for all that was gathered: FTS5 makes a segment for each.

        Returns False, with nothing written, if there would be room for texts after a merge: many
        small segments take more than few large ones.
        """
        known = self._known
        taken = [(uid, *known.gathered[uid]) for uid in sorted(known.gathered)]
        if not taken:
            return True
        with self._database.writing() as sql:
            there = self._rows_of_others(taken)
            fresh = [each for each in taken if each[0] not in there]
            with_texts = self._may_grow(fresh)
            if not (with_texts or self._is_merged) and len(trigrams.segments(sql)) > WORTH_MERGING:
                return False
            kept.forget_rows(sql)
            rows.write(sql, fresh, with_texts=with_texts)
            if with_texts:
                self._is_merged = False
                self._is_merging = len(trigrams.segments(sql)) > trigrams.SEGMENTS_LIMIT
        self._text_held = 0
        if self._mail is not None:
            version, octets, count = self._mail
            octets += sum(got.size for _, _, got in fresh)
            self._mail = version, octets, count + len(fresh)
        known.note_written(fresh, with_texts=with_texts, complete=not there)
        return True

    def _merge(self, deadline: float | None, pages: int) -> bool:
        """Each step is a transaction: others have the file between two of them, and, where there
        is a deadline, the mailbox.  Returns whether there is nothing left to merge."""
        while self._is_merging:
            with self._database.writing() as sql:
                self._is_merging = trigrams.merge(sql, pages)
            if not self._is_merging:
                self._is_merged = True
                return True
            self._has_room = True  # which what comes next will fill; what is left is given back
            if deadline is not None and time.monotonic() >= deadline:
                return False
        return True

    def _harvest(self, uid: int) -> tuple[str, Harvest] | None:
        """None: the message is gone, or cannot be read by this process."""
        mailbox = self._mailbox
        try:
            got = harvest(mailbox.read(uid), mailbox.info(uid))
            return mailbox.identity_of(uid), got
        except KeyError:
            return None
        except SharingError as error:
            if error.code is not Code.EXPUNGED:
                log.info("message %d of %s is not indexed: %s", uid, self._database.label, error)
            return None

    def _rows_of_others(self, taken: Sequence[tuple[int, str, Harvest]]) -> set[int]:
        """Those of taken that another process of this uid has indexed meanwhile."""
        if not taken:
            return set()
        found = self._database.sql.execute(
            "SELECT uid FROM messages WHERE uid BETWEEN ? AND ?", (taken[0][0], taken[-1][0])
        )
        return {uid for (uid,) in found}

    def _may_grow(self, fresh: Sequence[tuple[int, str, Harvest]]) -> bool:
        """Whether the index, with the texts of some more messages, is a bounded share of mail."""
        mail, count = self._mail_so_far()
        mail += sum(got.size for _, _, got in fresh)
        allowed = SHARE_LIMIT * mail + FREE_OCTETS * (count + len(fresh)) + BASE_OCTETS
        return bool(self._database.used_octets() < allowed)

    def _mail_so_far(self) -> tuple[int, int]:
        """Octets and number of all messages that have rows.

        Added up once: for each slice it would take longer the more there are.
        """
        version = self._database.data_version()
        if self._mail is None or self._mail[0] != version:
            octets, count = self._database.sql.execute(
                "SELECT coalesce(sum(size), 0), count(*) FROM messages"
            ).fetchone()
            self._mail = version, octets, count
        return self._mail[1:]


def _extent(mailbox: Mailbox) -> tuple[int, int]:
    """Number of messages and the highest UID: if these stay, none has come or gone."""
    uids = mailbox.uids()
    return len(uids), uids[-1] if uids else 0
