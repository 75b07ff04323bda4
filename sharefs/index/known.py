"""What one process knows of the rows of an index: which are about messages of the mailbox."""

from collections.abc import Iterable

from sharefs.index import kept, rows, schema
from sharefs.index.agreement import Agreement
from sharefs.index.columns import Columns
from sharefs.index.damage import Damaged
from sharefs.index.database import Database
from sharefs.index.harvest import Harvest
from sharefs.index.orders import Orders
from sharefs.store.interface import Mailbox


class Known:
    """indexed: messages with rows that are about them.  textless: those of them that are not in
    texts.  skipped: messages that cannot be read, or are gone.  gathered: what is still to be
    written.  vanished: rows of messages that are gone, still to be removed.  ahead: there are rows
    of messages that the mailbox does not know yet.

    checked_...: whether the sums in those tables have been compared.
    """

    def __init__(self, mailbox: Mailbox, database: Database) -> None:
        self._mailbox = mailbox
        self._database = database
        self.forget()

    def forget(self) -> None:
        self.indexed: set[int] = set()
        self.textless: set[int] = set()
        self.skipped: set[int] = set()
        self.gathered: dict[int, tuple[str, Harvest]] = {}
        self.vanished: list[int] = []
        self.ahead = False
        self.data_version = -1  # of the database when its rows were last looked at
        self.generation = -1  # of the mailbox then
        self._forget_rows()
        self.agreed: Agreement | None = None  # as it is written down

    def _forget_rows(self) -> None:
        """What is known of them, but not of which messages they are about."""
        self.checked_facts = False
        self.checked_heads = False
        self.checked_texts = False
        self.orders = Orders()
        self.columns = Columns()

    def update(self, *, facts: bool = False) -> None:
        """Know which rows are about the mailbox as it is now.

        facts: their sums have been compared too, for values without sums of their own.

        Raises Damaged.
        """
        version = self._database.data_version()
        changed = self.generation != self._mailbox.generation
        if version != self.data_version or (changed and self.ahead):
            if version != self.data_version:
                self._forget_rows()
            if self.data_version >= 0 or facts or not self._recall():
                self._compare()
            self.data_version = version
        elif changed:
            self._drop_vanished()
        if facts and not self.checked_facts:
            self._compare()
        self.generation = self._mailbox.generation

    def _compare(self) -> None:
        """Every row with the message that it claims to be about."""
        present = set(self._mailbox.uids())
        next_uid = self._mailbox.uidnext  # beyond are messages that only another process knows yet
        identity_of = self._mailbox.identity_of
        indexed, textless, gone = set[int](), set[int](), list[int]()
        ahead = False
        for uid, identity, has_texts in rows.facts_of_all(self._database.sql):
            if uid not in present:
                if uid < next_uid:
                    gone.append(uid)
                else:
                    ahead = True
            elif rows.identity_octets(identity_of(uid)) != identity:
                raise Damaged(f"message {uid} is another one than the index knew")
            else:
                indexed.add(uid)
                if not has_texts:
                    textless.add(uid)
        self._know(indexed, textless, gone)
        self.ahead = ahead
        self.checked_facts = True

    def _know(self, indexed: set[int], textless: set[int], gone: list[int]) -> None:
        self.indexed, self.textless, self.vanished = indexed, textless, gone
        self.skipped -= indexed
        for uid in indexed & self.gathered.keys():
            del self.gathered[uid]  # another process was faster
        self.ahead = False

    def _recall(self) -> bool:
        """Whether another process has found which rows are about the mailbox as it is."""
        octets = kept.get(self._database.sql, schema.KEPT_ROWS)
        memento = None if octets is None else self._mailbox.memento()
        if octets is None or memento is None:
            return False
        try:
            agreed = Agreement.unpack(octets)
        except ValueError as error:
            raise Damaged(str(error)) from error
        if not agreed.mark or agreed.mark != memento.fingerprint():
            return False
        indexed = set(self._mailbox.uids()).difference(agreed.missing)
        self._know(indexed, set(agreed.textless), list(agreed.gone))
        self.agreed = agreed
        return True

    def _drop_vanished(self) -> None:
        expunged = self._mailbox.changes_since(self.generation).expunged
        if not expunged:
            return
        gone = self.indexed.intersection(expunged)
        self.indexed -= gone
        self.textless -= gone
        self.skipped.difference_update(expunged)
        for uid in self.gathered.keys() & set(expunged):
            del self.gathered[uid]
        self.vanished += gone

    def note_removed(self) -> None:
        """The rows of what vanished."""
        gone, self.vanished, self.agreed = self.vanished, [], None
        self.orders.note_removed(set(gone))
        self.columns.note_removed(set(gone))

    def note_written(
        self, fresh: Iterable[tuple[int, str, Harvest]], *, with_texts: bool, complete: bool
    ) -> None:
        """What was gathered; complete: others have not written some of it meanwhile."""
        written = list(fresh)
        self.gathered.clear()
        self.agreed = None
        self.columns.note_written([(uid, got) for uid, _, got in written])
        self.orders.note_written(self._database.sql, [got.facts for _, _, got in written])
        self.indexed.update(uid for uid, _, _ in written)
        self.textless.update(uid for uid, _, got in written if got.texts is None or not with_texts)
        if not complete:
            self.data_version = -1  # learn what they wrote

    def put_away(self) -> None:
        """Write down which rows are true, if that is certain, and what was worked out of them."""
        database, mailbox = self._database, self._mailbox
        version = self.data_version
        current = version >= 0 and self.generation == mailbox.generation
        if database.path is None or not current or self.ahead or database.is_replaced():
            return
        memento = mailbox.memento()
        mark = b"" if memento is None else memento.fingerprint()
        same = self.agreed is not None and self.agreed.mark == mark
        has_news = self.orders.has_news() or self.columns.has_news()
        if not mark or (same and not has_news):
            return
        missing = tuple(uid for uid in mailbox.uids() if uid not in self.indexed)
        textless = tuple(sorted(self.textless))
        agreed = Agreement(mark, missing, textless, tuple(self.vanished))
        with database.numbering() as sql:  # it may be lost, so nobody waits for the disk
            if database.data_version() != version:
                return  # another process has written rows that we do not know
            kept.put(sql, schema.KEPT_ROWS, agreed.pack())
            self.orders.put_away(sql)
            self.columns.put_away(sql)
        self.agreed = agreed
