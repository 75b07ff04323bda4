"""The one authoritative text on what an index file holds.

Change VERSION with any change of meaning, here or in what is stored: an index of another version
is built anew.  All sums are those of sums.py.

meta        what the file is about, each value with its sum; see the names below.
messages    one row for each indexed message.
    identity      Mailbox.identity_of(): the row is about this message or it is dropped.  UTF-8,
                  but file names may be any octets (rows.identity_octets)
    size          RFC822.SIZE
    internaldate  seconds since 1970
    saved         seconds since 1970: when it came into the mailbox, as it was told first
    sent          day of the Date field as date.toordinal() (message.sent_day)
    email         message.email_id()
    text          1: its texts are in the text table; 0: they were left out, so a search reads it
    sum           over the other columns
heads       folded forms (message.header_forms) of the fields that are searched most, UTF-8,
            joined by LF.  NULL: there is no such field.  left_out: bits of LEFT_OUT; that field is
            too long to be kept, a search reads the header
envelopes   ENVELOPE, ready to send, and its sum
structures  BODY and BODYSTRUCTURE, ready to send, and their sums; NULL: too long to be kept
fields      the header fields of KEPT_FIELDS, taken apart (packed_fields.py), and the sum
orders      ordering.Facts of each message, by which it is sorted and threaded, and a sum over
            them; no row if a value is longer than orders.VALUE_LIMIT: the message is read then
previews    message.preview() in UTF-8, and the sum
numbers     modification sequences (RFC 7162) of all messages, indexed or not, in chunks of
            consecutive UIDs: numbers.Chunk, packed and sealed.  highest: of those in it
vanished    what vanished: ranges of UIDs, packed and sealed, by the modseq of their vanishing.
            Only the last ones: see number_rows.VANISHED_ROWS
kept        what was worked out from other tables, sealed, by name (kept.py):
    numbers       the mailbox (Memento.fingerprint()) that numbers agrees with, and a sum over which
                  chunks there are and their highest numbers; forgotten when numbers is written
    rows          agreement.Agreement; forgotten, as all below, when rows of messages are written
    order ...     UIDs of all rows of orders, in the order of these criteria
    threads ...   by algorithm: a sum over the UIDs they are of, and the threads as they are sent
    column ...    of messages, by name: all values, ascending, 8 octets each; then the UIDs they
                  are of, 4 octets each
texts       FTS5, trigrams without positions.  Row 2 * uid: the headers of all parts;
            row 2 * uid + 1: the text parts; both folded, with END after each text.  Rows of
            messages that are gone stay until the index is built anew: no UID comes back.
text_sums   a sum for each block of texts (id as in texts_data) and for each segment of its
            index (-segment), because SQLite would not notice a wrong octet in either
"""

from typing import Final

APPLICATION_ID: Final = 0x53464958  # "SFIX", in the file's header, for file(1) and for us
VERSION: Final = 6

# Names in kept.
KEPT_NUMBERS: Final = "numbers"
KEPT_ROWS: Final = "rows"
KEPT_ORDER: Final = "order "
KEPT_THREADS: Final = "threads "
KEPT_COLUMN: Final = "column "

# Names in meta.
SCHEMA: Final = "schema"  # a sum over the tables' definitions
UIDVALIDITY: Final = "uidvalidity"
MODSEQ: Final = "modseq"  # the highest ever given to a change here
INODE: Final = "inode"  # of this very file: a copy from a backup has another one
WRITTEN: Final = "written"  # nanoseconds since 1970: a file that was changed later was put there
BOOT: Final = "boot"  # of the system, while numbers or a new file may not be on the disk; else 0
NOTED: Final = "noted"  # the UIDNEXT up to which numbers were given; 0: nobody asked yet
FLOOR: Final = "floor"  # what vanished up to this modseq is not remembered
VANISHED: Final = "vanished"  # rows there
DEAD: Final = "dead"  # messages whose rows are still in texts

HEADS: Final = ("from", "to", "cc", "bcc", "subject")
LEFT_OUT: Final = {name: 1 << bit for bit, name in enumerate(HEADS)}

# What clients ask for in lists of messages: Thunderbird, Apple Mail, Outlook, mutt, K-9 Mail,
# Roundcube.  In upper case.
KEPT_FIELDS: Final = frozenset(
    b"""
    BCC CC CONTENT-CLASS CONTENT-DESCRIPTION CONTENT-DISPOSITION CONTENT-LANGUAGE
    CONTENT-TRANSFER-ENCODING CONTENT-TYPE DATE DELIVERED-TO DISPOSITION-NOTIFICATION-TO FROM
    IMPORTANCE IN-REPLY-TO LINES LIST-HELP LIST-ID LIST-POST LIST-SUBSCRIBE LIST-UNSUBSCRIBE
    MAIL-FOLLOWUP-TO MESSAGE-ID MIME-VERSION NEWSGROUPS ORGANIZATION PRIORITY REFERENCES REPLY-TO
    RESENT-DATE RESENT-FROM RESENT-TO RETURN-PATH SENDER STATUS SUBJECT TO X-KEYWORDS X-LABEL
    X-K9MAIL-IDENTITY X-MAILER X-MOZILLA-DRAFT-INFO X-ORIGINAL-TO X-PRIORITY X-SPAM-FLAG
    X-SPAM-STATUS X-UNIFORM-TYPE-IDENTIFIER X-UNIVERSALLY-UNIQUE-IDENTIFIER
    """.split()
)

# Ends every text, so that each of its characters begins a trigram.
END: Final = "\x02\x02"

CREATE: Final = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE meta (name TEXT PRIMARY KEY, value, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE messages (
    uid INTEGER PRIMARY KEY, identity BLOB NOT NULL, size INTEGER NOT NULL,
    internaldate INTEGER NOT NULL, saved INTEGER NOT NULL, sent INTEGER NOT NULL,
    email BLOB NOT NULL, text INTEGER NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE numbers (
    chunk INTEGER PRIMARY KEY, highest INTEGER NOT NULL, packed BLOB NOT NULL
);
CREATE TABLE vanished (modseq INTEGER PRIMARY KEY, uids BLOB NOT NULL);
CREATE TABLE kept (name TEXT PRIMARY KEY, octets BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE heads (
    uid INTEGER PRIMARY KEY, "from" BLOB, "to" BLOB, cc BLOB, bcc BLOB, subject BLOB,
    left_out INTEGER NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE orders (
    uid INTEGER PRIMARY KEY, arrival INTEGER NOT NULL, size INTEGER NOT NULL,
    date INTEGER NOT NULL, subject BLOB NOT NULL, reply INTEGER NOT NULL, sender BLOB NOT NULL,
    "to" BLOB NOT NULL, cc BLOB NOT NULL, display_from BLOB NOT NULL, display_to BLOB NOT NULL,
    ids BLOB NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE envelopes (uid INTEGER PRIMARY KEY, envelope BLOB NOT NULL);
CREATE TABLE structures (uid INTEGER PRIMARY KEY, body BLOB, bodystructure BLOB);
CREATE TABLE fields (uid INTEGER PRIMARY KEY, fields BLOB NOT NULL);
CREATE TABLE previews (uid INTEGER PRIMARY KEY, preview BLOB NOT NULL);
CREATE VIRTUAL TABLE texts USING fts5 (
    text, content='', columnsize=0, detail=none, tokenize='trigram case_sensitive 1'
);
CREATE VIRTUAL TABLE text_terms USING fts5vocab (texts, instance);
CREATE TABLE text_sums (id INTEGER PRIMARY KEY, sum INTEGER NOT NULL);
"""

# How FTS5 shall work: segments are written once for each slice and merged when we say so,
# because only then we know which blocks need new sums.
CONFIGURE_TEXTS: Final = (("automerge", 0), ("crisismerge", 1900), ("hashsize", 64 << 20))

# Tables with a row for each message, by uid.
PER_MESSAGE: Final = (
    "messages", "heads", "orders", "envelopes", "structures", "fields", "previews",
)  # fmt: skip
