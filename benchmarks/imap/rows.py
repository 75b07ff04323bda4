"""What is measured on one mailbox of many messages."""

import re
from collections.abc import Callable
from typing import Final

from benchmarks.imap.measure import Row, timed
from benchmarks.imap.servers import USER, Side
from benchmarks.mail import ABSENT, RARE

MANY_AT_ONCE: Final = 5000  # messages for what changes or reads whole messages
# What clients ask for to show a list of messages.
HEADERS: Final = (
    b"BODY.PEEK[HEADER.FIELDS (From To Cc Subject Date Message-ID References In-Reply-To)]"
)
_HIGHEST: Final = re.compile(rb"HIGHESTMODSEQ (\d+)")
_UIDVALIDITY: Final = re.compile(rb"UIDVALIDITY (\d+)")


def in_inbox(command: bytes, times: int = 1, *, tls: bool = False) -> Callable[[Side], float]:
    """Seconds of one command with the INBOX selected."""

    def measure(side: Side) -> float:
        with side.client(USER, b"SELECT INBOX", tls=tls) as client:
            return timed(lambda: [client.ask(command) for _ in range(times)]) / times

    return measure


def _answer(command: bytes) -> Callable[[Side], list[bytes]]:
    def answer(side: Side) -> list[bytes]:
        with side.client(USER, b"SELECT INBOX") as client:
            lines = client.answer(command).split(b"\r\n")
        # Dovecot tells how far it is while it searches.
        return [line for line in lines if not line.startswith(b"* OK ")]

    return answer


def asked(
    name: str, command: bytes, *, times: int = 1, needs: frozenset[bytes] = frozenset()
) -> Row:
    """A row for a search that both must answer alike."""
    return Row(name, in_inbox(command, times), needs=needs, same=_answer(command))


def login_select_logout(side: Side) -> float:
    return timed(lambda: side.client(USER, b"SELECT INBOX").close())


def select_fresh(side: Side) -> float:
    """In a process that knows nothing of the mailbox but what is on disk."""
    side.forget(USER)
    with side.client(USER) as client:
        return timed(lambda: client.ask(b"SELECT INBOX"))


def select_unknown(side: Side) -> float:
    with side.without_index(USER):
        return select_fresh(side)


def first_indexing(side: Side) -> float:
    side.drop_index(USER)
    return timed(lambda: side.build_index(USER))


def status(side: Side) -> float:
    with side.client(USER) as client:
        return timed(lambda: [client.ask(_STATUS) for _ in range(20)]) / 20


_STATUS: Final = b"STATUS INBOX (MESSAGES UNSEEN UIDNEXT UIDVALIDITY)"


def stores(count: int) -> Callable[[Side], float]:
    def measure(side: Side) -> float:
        with side.client(USER, b"SELECT INBOX") as client:
            seconds = timed(lambda: client.ask(b"STORE 1:%d +FLAGS.SILENT (\\Answered)" % count))
            client.ask(b"STORE 1:%d -FLAGS.SILENT (\\Answered)" % count)
        return seconds

    return measure


def copies(count: int) -> Callable[[Side], float]:
    def measure(side: Side) -> float:
        with side.client(USER, b"CREATE Target", b"SELECT INBOX") as client:
            seconds = timed(lambda: client.ask(b"COPY 1:%d Target" % count))
            client.ask(b"DELETE Target")
        return seconds

    return measure


def moves(count: int) -> Callable[[Side], float]:
    """Of copies, which were made and indexed before, out of the mailbox."""

    def measure(side: Side) -> float:
        with side.client(USER, b"CREATE Target", b"SELECT INBOX") as client:
            client.ask(b"COPY 1:%d INBOX" % count)
            total = int(
                re.findall(rb"MESSAGES (\d+)", client.answer(b"STATUS INBOX (MESSAGES)"))[0]
            )
            client.ask(b"NOOP")
            side.wait_until_quiet()
            which = total - count + 1, total
            seconds = timed(lambda: client.ask(b"MOVE %d:%d Target" % which))
            client.ask(b"DELETE Target")
        return seconds

    return measure


def resynchronises(count: int) -> Callable[[Side], float]:
    """SELECT with QRESYNC (RFC 7162) after the flags of so many messages changed."""

    def measure(side: Side) -> float:
        with side.client(USER, b"ENABLE QRESYNC") as client:
            told = client.answer(b"SELECT INBOX")
            highest, validity = (int(each.findall(told)[0]) for each in (_HIGHEST, _UIDVALIDITY))
            client.ask(b"STORE 1:%d +FLAGS.SILENT (\\Draft)" % count)
        with side.client(USER, b"ENABLE QRESYNC") as client:
            command = b"SELECT INBOX (QRESYNC (%d %d))" % (validity, highest)
            seconds = timed(lambda: client.ask(command))
            client.ask(b"STORE 1:%d -FLAGS.SILENT (\\Draft)" % count)
        return seconds

    return measure


def before_indexing(count: int, *, indexing: bool = True) -> list[Row]:
    """To be measured first, for it ends with whatever indexes there were before.

    indexing: also what is indexed anew.
    """
    planned = [Row("SELECT, nothing known but UIDs", select_unknown, 3, warm=False, writes=True)]
    if indexing:
        planned.append(
            Row(
                f"first indexing of {count:,}", first_indexing, 3 if count <= 5000 else 1,
                warm=False, writes=True,
                remark="sharefs indexes the text too, Dovecot what it can cache of headers",
            )
        )  # fmt: skip
    return planned


def tidy(side: Side, count: int) -> None:
    """Take back what rows did that were cut short, so that USER has his first count messages."""
    with side.client(USER, b"SELECT INBOX") as client:
        marks = b"(\\Answered \\Draft)"
        if marked := _found(client.answer(b"UID SEARCH OR ANSWERED DRAFT")):
            client.ask(b"UID STORE %d:%d -FLAGS.SILENT %b" % (marked[0], marked[-1], marks))
        copies = [
            uid for uid in _found(client.answer(b"UID SEARCH UID %d:*" % count)) if uid > count
        ]
        if copies:
            span = copies[0], copies[-1]
            client.ask(b"UID STORE %d:%d +FLAGS.SILENT (\\Deleted)" % span)
            client.ask(b"UID EXPUNGE %d:%d" % span)
        if client.answer(b'LIST "" Target'):
            client.ask(b"DELETE Target")
    side.drop_orphans(USER)


def _found(answer: bytes) -> list[int]:
    """Of SEARCH, ascending."""
    (line,) = (line for line in answer.split(b"\r\n") if line.startswith(b"* SEARCH"))
    return sorted(map(int, line.split()[2:]))


def warm_up(side: Side) -> None:
    """Have everything listed, cached and indexed that a client's questions bring about."""
    with side.client(USER, b"SELECT INBOX") as client:
        client.ask(b"FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
        client.ask(b"FETCH 1:* (UID %b)" % HEADERS)
    side.wait_until_quiet()


def on_one_mailbox(count: int) -> list[Row]:
    """To be measured on a mailbox of count messages, all known to both servers."""
    some = min(count, MANY_AT_ONCE)
    changed = max(1, count // 100)
    day = b"14-Dec-2023" if count > 45_000 else b"14-Nov-2023"
    quick = 5 if count <= 5000 else 1
    return [
        Row("kept on disk beside the mail", lambda side: side.index_octets(USER), 1,
            unit="octets", warm=False, remark="of sharefs most of it is the text"),
        Row("login + SELECT + LOGOUT", login_select_logout, 15),
        Row("NOOP", in_inbox(b"NOOP", 200)),
        Row("STATUS", status),
        Row("SELECT, fresh process", select_fresh, 5, writes=True),
        Row("SELECT again", in_inbox(b"SELECT INBOX", 5)),
        Row("FETCH FLAGS, all", in_inbox(b"FETCH 1:* (UID FLAGS)", quick)),
        Row("FETCH ENVELOPE, all", in_inbox(b"FETCH 1:* ENVELOPE", quick)),
        Row("FETCH 8 header fields, all", in_inbox(b"FETCH 1:* (UID %b)" % HEADERS, quick)),
        Row("FETCH BODYSTRUCTURE, all", in_inbox(b"FETCH 1:* BODYSTRUCTURE", quick)),
        Row(f"FETCH BODY[], {some:,}", in_inbox(b"FETCH 1:%d BODY.PEEK[]" % some)),
        Row(f"FETCH BODY[], {some:,}, TLS",
            in_inbox(b"FETCH 1:%d BODY.PEEK[]" % some, tls=True)),
        asked("SEARCH UNSEEN", b"SEARCH UNSEEN", times=5),
        asked("SEARCH FLAGGED UNSEEN", b"SEARCH FLAGGED UNSEEN", times=5),
        asked("SEARCH SUBJECT", b"SEARCH SUBJECT warehouse", times=quick),
        asked("SEARCH FROM", b"SEARCH FROM sender42@", times=quick),
        asked("SEARCH SENTSINCE", b"SEARCH SENTSINCE " + day, times=quick),
        asked("SEARCH SINCE", b"SEARCH SINCE " + day, times=quick),
        asked("SEARCH BODY, 1 % match", b"SEARCH BODY " + RARE.encode()),
        asked("SEARCH BODY, none matches", b"SEARCH BODY " + ABSENT.encode()),
        asked("SORT (REVERSE DATE)", b"SORT (REVERSE DATE) UTF-8 ALL", times=quick,
              needs=frozenset({b"SORT"})),
        asked("SORT (SUBJECT)", b"SORT (SUBJECT) UTF-8 ALL", times=quick,
              needs=frozenset({b"SORT"})),
        Row("THREAD REFERENCES", in_inbox(b"THREAD REFERENCES UTF-8 ALL", quick),
            needs=frozenset({b"THREAD=REFERENCES"})),
        Row(f"STORE, {some:,}", stores(some), 5, writes=True),
        Row(f"COPY, {some:,}", copies(some), 5, writes=True),
        Row(f"MOVE, {some:,}", moves(some), 3, writes=True, needs=frozenset({b"MOVE"})),
        Row("QRESYNC, 1 % changed", resynchronises(changed), 5, writes=True,
            needs=frozenset({b"QRESYNC"})),
    ]  # fmt: skip
