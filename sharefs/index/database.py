"""One SQLite connection to one index: opened safely, checked, set aside when it is wrong."""

import contextlib
import functools
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sharefs.index import place, schema, trigrams
from sharefs.index.damage import Damaged
from sharefs.index.numbers import LARGEST
from sharefs.index.place import Unusable
from sharefs.index.reserve import Reserve
from sharefs.index.sums import sum_of
from sharefs.store.boot import this_boot

log = logging.getLogger(__name__)

WRITING_TIME: Final = 2_000_000_000  # nanoseconds that a commit may take at most
BUSY_PATIENCE: Final = 2.0  # seconds to wait for another process of the same uid

# What says nothing about the file: others use it, or the file system has no room or no patience.
_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
    }
)


# What a damaged file makes SQLite raise; the last one when it cannot even say what is wrong.
DAMAGE: Final = (sqlite3.DatabaseError, Damaged, UnicodeDecodeError)

_NUMBERS: Final = "DELETE FROM numbers; DELETE FROM vanished; DELETE FROM kept"


def is_damage(error: Exception) -> bool:
    """Whether one of DAMAGE is the file's fault, not the surroundings' and not ours."""
    if isinstance(error, sqlite3.ProgrammingError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in _PASSING


class Database:
    """The connection, and the file behind it if there is one.

    places: directories to keep it in, the best first; where place.prepare() refuses all of them,
    it is in memory.  uidvalidity, label: of the mailbox.  Whoever opens one closes it.
    """

    def __init__(self, places: Sequence[Path], uidvalidity: int, label: str) -> None:
        self._places = tuple(places)
        self.label = label
        self.path: Path | None = None
        self._inode = self._changed = 0
        self._uidvalidity = uidvalidity
        self._reserve = Reserve(None)
        self._unsettled = False  # what was written may not be on the disk
        self.sql = self._open()

    # --- opening ---------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        self.path = None
        for directory in self._places:
            try:
                return self._open_file(directory)
            except Unusable as error:
                log.info("the index of %s is kept elsewhere: %s", self.label, error)
        log.debug("the index of %s is kept in memory", self.label)
        self._reserve = Reserve(None)
        return self._created(_connect(":memory:"))

    def _open_file(self, directory: Path) -> sqlite3.Connection:
        """Raises Unusable, also if not even a new file will do."""
        for attempt in range(2):
            prepared = place.prepare(directory)
            self._inode, self._changed = prepared.inode, prepared.changed
            self._reserve = Reserve(directory)
            try:
                sql = _connect(str(prepared.path))
            except sqlite3.Error as error:  # gone or closed again since it was prepared
                raise Unusable(f"{prepared.path}: {error}") from error
            try:
                self._adopt(sql, interrupted=prepared.interrupted)
            except DAMAGE as error:
                sql.close()
                if attempt or not is_damage(error):
                    raise Unusable(f"{prepared.path}: {error}") from error
                self._put_aside(directory, error)
                continue
            except BaseException:
                sql.close()
                raise
            self.path = prepared.path
            return sql
        raise AssertionError("a second attempt returns or raises")

    def _adopt(self, sql: sqlite3.Connection, *, interrupted: bool) -> None:
        """Make an empty file an index, see that another is this mailbox's.  Raises Damaged."""
        sql.execute("PRAGMA journal_mode = TRUNCATE")
        sql.execute("PRAGMA synchronous = NORMAL")
        (version,) = sql.execute("PRAGMA user_version").fetchone()
        (application,) = sql.execute("PRAGMA application_id").fetchone()
        (tables,) = sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables and not version and not application:
            # Nobody waits for the disk: what a power cut leaves of a file that never was whole on
            # it has a sum that is wrong, or says under which boot it was made.
            boot = _this_boot()
            sql.execute(f"PRAGMA synchronous = {'OFF' if boot else 'NORMAL'}")
            sql.execute("PRAGMA auto_vacuum = INCREMENTAL")  # for give_back()
            self._created(sql, boot)
            sql.execute("PRAGMA synchronous = NORMAL")
            self._unsettled = bool(boot)
            return
        if (application, version) != (schema.APPLICATION_ID, schema.VERSION):
            raise Damaged(f"it is of version {version}, not {schema.VERSION}")
        if _get(sql, schema.SCHEMA) != _schema_sum(sql):
            raise Damaged("its tables are defined otherwise")
        if (about := _get(sql, schema.UIDVALIDITY)) != self._uidvalidity:
            raise Damaged(f"it is about UIDVALIDITY {about}, the mailbox has {self._uidvalidity}")
        lost_power = _get(sql, schema.BOOT) not in (0, _this_boot())
        if interrupted or lost_power:
            (answer,) = sql.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise Damaged(f"after an interrupted write: {answer}")
        late = self._changed - _get(sql, schema.WRITTEN) > WRITING_TIME and not interrupted
        if late or lost_power or _get(sql, schema.INODE) != self._inode:
            # A copy, perhaps an old one, or what a power cut left of it.  What it says of messages
            # is checked anyway, but numbers that were given to changes later must not be given
            # again, and what it says of changes is not all that happened: all messages get a new
            # number.
            why = "was in use when the power went" if lost_power else "was put there by others"
            log.info("the index of %s %s", self.label, why)
            sql.execute("BEGIN IMMEDIATE")
            _set(sql, schema.INODE, self._inode)
            for statement in _NUMBERS.split(";"):
                sql.execute(statement)
            _set(sql, schema.BOOT, 0)
            self._set_first_modseq(sql, above=_get(sql, schema.MODSEQ))
            _set(sql, schema.WRITTEN, time.time_ns())
            sql.execute("COMMIT")

    def _created(self, sql: sqlite3.Connection, boot: int = 0) -> sqlite3.Connection:
        sql.execute("BEGIN IMMEDIATE")
        (tables,) = sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables:  # another process was faster
            sql.execute("ROLLBACK")
            return sql
        for statement in schema.CREATE.split(";"):
            sql.execute(statement)
        trigrams.configure(sql)
        trigrams.note_sums(sql)
        for name, value in (
            (schema.UIDVALIDITY, self._uidvalidity),
            (schema.SCHEMA, _schema_sum(sql)),
            (schema.WRITTEN, time.time_ns()),
            (schema.INODE, self._inode),
            (schema.DEAD, 0),
            (schema.BOOT, boot),
        ):
            _set(sql, name, value)
        self._set_first_modseq(sql, above=0)
        sql.execute("COMMIT")
        return sql

    # --- when it is wrong ------------------------------------------------------------------

    def start_anew(self, why: object) -> None:
        """Set the index aside and begin an empty one."""
        self._unsettled = False
        self.sql.close()
        if self.path is not None:
            directory = self.path.parent
            try:
                self._put_aside(directory, why)
            except Unusable as error:
                log.warning("%s; the index of %s is kept elsewhere", error, self.label)
                self._places = tuple(place for place in self._places if place != directory)
        else:
            log.info("the index of %s in memory is built anew: %s", self.label, why)
        self.sql = self._open()

    def _put_aside(self, directory: Path, why: object) -> None:
        log.warning(
            "the index of %s is wrong and is built anew: %s (kept as %s)",
            self.label, str(why), directory / place.BROKEN,
        )  # fmt: skip
        try:
            place.set_aside(directory)
        except OSError as error:
            raise Unusable(f"a wrong index cannot be set aside: {error}") from error

    def is_replaced(self) -> bool:
        """Whether another process set the file aside, or somebody removed it."""
        if self.path is None:
            return False
        try:
            return self.path.stat(follow_symlinks=False).st_ino != self._inode
        except OSError:
            return True

    def reopen(self) -> None:
        self._unsettled = False
        self.sql.close()
        self.sql = self._open()

    # --- using -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the writer's lock from its start.  All or nothing."""
        self.sql.execute("BEGIN IMMEDIATE")
        try:
            yield self.sql
            _set(self.sql, schema.WRITTEN, time.time_ns())
            self.sql.execute("COMMIT")
        except BaseException:
            if self.sql.in_transaction:
                self.sql.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def numbering(self) -> Iterator[sqlite3.Connection]:
        """As writing(), for modification sequences: without waiting for the disk, but for the
        first time, when it is written down that this is so.

        A crash of ours loses nothing then; a power cut may, and is found out by the next boot.
        """
        boot = _this_boot()
        announced = boot != 0 and self.get(schema.BOOT) == boot
        self.sql.execute(f"PRAGMA synchronous = {'OFF' if announced else 'NORMAL'}")
        try:
            with self.writing() as sql:
                yield sql
                withdrawn = announced and self.get(schema.BOOT) != boot
                self.set(schema.BOOT, boot)
        finally:
            self.sql.execute("PRAGMA synchronous = NORMAL")
        if withdrawn:  # by another process, which closed it since we looked
            with self.writing():
                pass
        self._unsettled = True

    def _settle(self) -> bool:
        """Have all on the disk, and say so.  Returns whether that was written."""
        if not self._unsettled:
            return False
        self._unsettled = False
        try:
            with self.writing():
                self.set(schema.BOOT, 0)
            return True
        except DAMAGE as error:
            # The next one that opens it will know by the boot, or find the damage itself.
            log.info("the index of %s is left unsettled: %s", self.label, error)
            return False

    def get(self, name: str) -> int:
        """Raises Damaged."""
        return _get(self.sql, name)

    def set(self, name: str, value: int) -> None:
        _set(self.sql, name, value)

    def _set_first_modseq(self, sql: sqlite3.Connection, *, above: int) -> None:
        """Begin to number messages: nothing of what was given before is known any more."""
        modseq = max(above + 1, clock_modseq(), self._reserve.limit() + 1)
        self._reserve.raise_to(modseq)
        for name, value in (
            (schema.MODSEQ, modseq),
            (schema.FLOOR, modseq),
            (schema.NOTED, 0),
            (schema.VANISHED, 0),
        ):
            _set(sql, name, value)

    def give_modseq(self, *, above: int = 0) -> int:
        """Within a transaction: a number above all that were given before, and above `above`."""
        modseq = max(self.get(schema.MODSEQ), above, clock_modseq() - 1) + 1
        if modseq > LARGEST:
            raise Damaged("there are no more modification sequences")
        self._reserve.raise_to(modseq)
        self.set(schema.MODSEQ, modseq)
        return modseq

    def data_version(self) -> int:
        """Changes when another process has written."""
        return self._pragma("data_version")

    def octets(self) -> int:
        return self._pragma("page_count") * self._pragma("page_size")

    def used_octets(self) -> int:
        """Without what is empty and will be filled before the file grows: merging leaves a lot."""
        pages = self._pragma("page_count") - self._pragma("freelist_count")
        return pages * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        (value,) = self.sql.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def give_back(self, pages: int) -> bool:
        """Make the file smaller by so many empty pages.  Outside of transactions.

        Returns whether it is as small as what is in it, or cannot be made so.
        """
        try:
            # execute() would free a single page
            self.sql.executescript(f"PRAGMA incremental_vacuum({pages})")
            with self.writing():
                pass  # notes the time
            return not self._pragma("freelist_count")
        except sqlite3.OperationalError as error:
            log.info("the index of %s stays larger than it need be: %s", self.label, error)
            return True

    def close(self) -> bool:
        """Harmless twice.  Returns whether it was written to, by one transaction."""
        written = self._settle()
        self.sql.close()
        return written


def _connect(name: str) -> sqlite3.Connection:
    # Calls are serialised by the mailbox's lock, but come from different threads.
    sql = sqlite3.connect(
        name, timeout=BUSY_PATIENCE, isolation_level=None, check_same_thread=False
    )
    sql.text_factory = _decoded
    sql.execute("PRAGMA trusted_schema = OFF")
    sql.execute("PRAGMA cell_size_check = ON")
    sql.execute("PRAGMA secure_delete = OFF")  # the mail itself is not shredded either
    sql.execute("PRAGMA temp_store = MEMORY")
    return sql


def _decoded(octets: bytes) -> str:
    """Text, of which a damaged file may hold any octets: its sum will tell."""
    return octets.decode("utf-8", "surrogateescape")


def _get(sql: sqlite3.Connection, name: str) -> int:
    row = sql.execute("SELECT value, sum FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None or not isinstance(row[0], int) or row[1] != sum_of(name, row[0]):
        raise Damaged(f"its {name} is missing or has a wrong sum")
    return row[0]


def _set(sql: sqlite3.Connection, name: str, value: int) -> None:
    sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, value, sum_of(name, value)))


@functools.lru_cache(maxsize=1)
def _this_boot() -> int:
    """A number that changes whenever the system starts; 0 if there is none."""
    try:
        return int(this_boot().replace("-", ""), 16) >> 65 or 1
    except ValueError:
        return 0


def _schema_sum(sql: sqlite3.Connection) -> int:
    rows = sql.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name, type")
    return sum_of(*rows.fetchall())


def clock_modseq() -> int:
    """A modification sequence above all that were given before, wherever they were noted.

    They follow the clock (milliseconds since 1970) and change more slowly than it runs, so even an
    index that was lost and built anew never lets HIGHESTMODSEQ go back.
    """
    return time.time_ns() // 1_000_000
