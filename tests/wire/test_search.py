"""SEARCH: every key of RFC 3501 section 6.4.4, what clients send, and what must be refused."""

from datetime import date

import pytest

from imap.wire import Command, ProtocolError
from imap.wire.search import DEPTH_LIMIT, parse_search
from imap.wire.search_keys import (
    All,
    And,
    BodyContains,
    DateIs,
    DateOf,
    EmailIdIs,
    HasFlag,
    HasKeyword,
    HeaderContains,
    LargerThan,
    Not,
    Or,
    SearchKey,
    SequenceIs,
    SmallerThan,
    TextContains,
    UidIs,
    When,
)
from imap.wire.sequence import SequenceSet


def parsed(arguments: str | bytes) -> SearchKey:
    octets = arguments.encode() if isinstance(arguments, str) else arguments
    return parse_search(Command("a", "SEARCH", octets))


SEEN = HasFlag("\\Seen")
DAY = date(1994, 2, 1)

KEYS: dict[str, SearchKey] = {
    "ALL": All(),
    "1:2,*": SequenceIs(SequenceSet(((1, 2), (0, 0)))),
    "*": SequenceIs(SequenceSet(((0, 0),))),
    "ANSWERED": HasFlag("\\Answered"),
    "BCC x": HeaderContains("BCC", "x"),
    "BEFORE 1-Feb-1994": DateIs(DateOf.INTERNAL, When.BEFORE, DAY),
    "BODY x": BodyContains("x"),
    "CC x": HeaderContains("CC", "x"),
    "DELETED": HasFlag("\\Deleted"),
    "DRAFT": HasFlag("\\Draft"),
    "FLAGGED": HasFlag("\\Flagged"),
    'FROM "a b"': HeaderContains("FROM", "a b"),
    'HEADER X-Spam ""': HeaderContains("X-Spam", ""),
    "KEYWORD $Junk": HasKeyword("$Junk"),
    "LARGER 10": LargerThan(10),
    "NEW": And((HasFlag("\\Recent"), Not(SEEN))),
    "NOT SEEN": Not(SEEN),
    "OLD": Not(HasFlag("\\Recent")),
    "ON 1-Feb-1994": DateIs(DateOf.INTERNAL, When.ON, DAY),
    "OR SEEN ALL": Or(SEEN, All()),
    "RECENT": HasFlag("\\Recent"),
    "seen": SEEN,
    'SENTBEFORE "1-Feb-1994"': DateIs(DateOf.SENT, When.BEFORE, DAY),
    "SENTON 1-Feb-1994": DateIs(DateOf.SENT, When.ON, DAY),
    "SENTSINCE 1-Feb-1994": DateIs(DateOf.SENT, When.SINCE, DAY),
    "SAVEDBEFORE 1-Feb-1994": DateIs(DateOf.SAVED, When.BEFORE, DAY),
    "savedon 1-Feb-1994": DateIs(DateOf.SAVED, When.ON, DAY),
    "SAVEDSINCE 1-Feb-1994": DateIs(DateOf.SAVED, When.SINCE, DAY),
    "SAVEDATESUPPORTED": All(),
    "EMAILID M6d99ac3275bb4e": EmailIdIs("M6d99ac3275bb4e"),
    "THREADID T-_0": Not(All()),
    "SINCE 1-Feb-1994": DateIs(DateOf.INTERNAL, When.SINCE, DAY),
    "SMALLER 10": SmallerThan(10),
    "SUBJECT {3}\r\na b": HeaderContains("SUBJECT", "a b"),
    "TEXT x": TextContains("x"),
    "TO x": HeaderContains("TO", "x"),
    "UID 5:*": UidIs(SequenceSet(((5, 0),))),
    "UNANSWERED": Not(HasFlag("\\Answered")),
    "UNDELETED": Not(HasFlag("\\Deleted")),
    "UNDRAFT": Not(HasFlag("\\Draft")),
    "UNFLAGGED": Not(HasFlag("\\Flagged")),
    "UNKEYWORD x": Not(HasKeyword("x")),
    "UNSEEN": Not(SEEN),
    "(SEEN)": SEEN,
    "SEEN ALL": And((SEEN, All())),
    "(SEEN ALL) 1": And((And((SEEN, All())), SequenceIs(SequenceSet(((1, 1),))))),
    "OR (SEEN ALL) NOT (NOT ALL)": Or(And((SEEN, All())), Not(Not(All()))),
}


@pytest.mark.parametrize(("arguments", "want"), KEYS.items(), ids=KEYS)
def test_key(arguments: str, want: SearchKey) -> None:
    assert parsed(arguments) == want


def test_clients_search() -> None:
    assert parsed("UNDELETED SINCE 1-Feb-1994") == And(
        (Not(HasFlag("\\Deleted")), DateIs(DateOf.INTERNAL, When.SINCE, DAY))
    )
    # Roundcube's header search, and Thunderbird's with a literal
    assert parsed('CHARSET UTF-8 UNDELETED OR HEADER SUBJECT "grüß" HEADER FROM "grüß"') == And(
        (
            Not(HasFlag("\\Deleted")),
            Or(HeaderContains("SUBJECT", "grüß"), HeaderContains("FROM", "grüß")),
        )
    )
    assert parsed("CHARSET UTF-8 UNDELETED BODY {6}\r\ngrüß") == And(
        (Not(HasFlag("\\Deleted")), BodyContains("grüß"))
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (b'CHARSET ISO-8859-1 BODY "gr\xfc"', "grü"),
        (b'charset "utf-8" BODY "gr\xc3\xbc"', "grü"),
        (b'CHARSET US-ASCII BODY "x"', "x"),
        (b'BODY "gr\xc3\xbc"', "grü"),
    ],
)
def test_charsets(arguments: bytes, text: str) -> None:
    assert parsed(arguments) == BodyContains(text)


@pytest.mark.parametrize(
    "charset", ["X-UNKNOWN", "hex", "idna", "undefined", '""', '"\\\\"', "punycode"]
)
def test_unknown_charsets(charset: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parsed(f"CHARSET {charset} ALL")
    assert caught.value.response().startswith(b"a NO [BADCHARSET (UTF-8 US-ASCII)] ")


@pytest.mark.parametrize(
    "arguments",
    [b"", b"NONSENSE", b"()", b"(ALL", b"NOT", b"OR ALL", b"UID", b"BEFORE yesterday", b"LARGER x",
     b"HEADER x", b"KEYWORD \\Seen", b"KEYWORD", b"ALL)", b"CHARSET", b"CHARSET UTF-8",
     b'BODY "\xff"', b"CHARSET UTF-8 CHARSET UTF-8 ALL", b"SEEN,ALL", b"SUBJECT",
     b"SMALLER 4294967296"],
)  # fmt: skip
def test_refused(arguments: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parsed(arguments)
    assert caught.value.condition == "BAD"


def test_nesting_is_limited() -> None:
    deep = DEPTH_LIMIT
    parsed("(" * deep + "ALL" + ")" * deep)
    parsed("NOT " * deep + "ALL")
    for arguments in ("(" * 10_000 + "ALL" + ")" * 10_000, "NOT " * 10_000 + "ALL", "OR " * 10_000):
        with pytest.raises(ProtocolError, match="deep"):
            parsed(arguments)
