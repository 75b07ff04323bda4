"""The Date header field (RFC 5322 section 3.3).  Pure, never raises."""

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from sharefs.message.header import values

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun",
         b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"),
        start=1,
    )
}  # fmt: skip
# Obsolete zones that section 4.3 gives a meaning, hours from UTC; all others mean -0000.
_ZONES: Final = {
    b"EST": -5, b"EDT": -4, b"CST": -6, b"CDT": -5, b"MST": -7, b"MDT": -6, b"PST": -8, b"PDT": -7,
}  # fmt: skip
_COMMENT: Final = re.compile(rb"\([^()]*\)")
_DATE: Final = re.compile(
    rb"\s*(?:[A-Za-z]+\s*,?\s*)?([0-9]{1,2})[\s-]+([A-Za-z]{3})[A-Za-z]*[\s-]+([0-9]{2,4})(?![0-9])"
    rb"(?:\s+([0-9]{1,2})\s*[:.]\s*([0-9]{1,2})(?:\s*[:.]\s*([0-9]{1,2}))?)?"
    rb"(?:\s*([+-][0-9]{4}|[A-Za-z]{1,5}))?"
)
# A Date is short; nobody's parser shall chew on a megabyte of one.
_LENGTH_LIMIT: Final = 200

EPOCH: Final = date(1970, 1, 1)
_EPOCH_DAY: Final = EPOCH.toordinal()
# The years 1 to 9999, in seconds since 1970.
_FIRST: Final = (date.min.toordinal() - _EPOCH_DAY) * 86400
_LAST: Final = (date.max.toordinal() - _EPOCH_DAY + 1) * 86400 - 1


@dataclass(frozen=True, slots=True)
class SentDate:
    """day: as written, in the sender's own zone.  seconds: since 1970, UTC."""

    day: date
    seconds: int


def parse_date(value: bytes) -> SentDate | None:
    """Read a Date header value.  None if no day can be made out."""
    return _parsed(value[:_LENGTH_LIMIT])


@lru_cache(maxsize=16)
def _parsed(value: bytes) -> SentDate | None:
    """Its day and its second are asked for one after the other."""
    text = _COMMENT.sub(b" ", value) if b"(" in value else value
    found = _DATE.match(text)
    if found is None:
        return None
    month = _MONTHS.get(found[2].lower())
    year = int(found[3])
    if len(found[3]) < 4:
        # Section 4.3: 00 to 49 are of this century, all else counts from 1900.
        year += 2000 if len(found[3]) == 2 and year < 50 else 1900
    if month is None:
        return None
    try:
        day = date(year, month, int(found[1]))
    except ValueError:
        return None
    local = (day.toordinal() - _EPOCH_DAY) * 86400
    local += int(found[4] or 0) * 3600 + int(found[5] or 0) * 60 + int(found[6] or 0)
    seconds = local - _offset(found[7])
    if not (_FIRST <= local <= _LAST and _FIRST <= seconds <= _LAST):
        return None
    return SentDate(day, seconds)


def _offset(zone: bytes | None) -> int:
    """Seconds that its clocks are ahead of UTC."""
    if zone is None or not zone[1:].isdigit():
        return _ZONES.get((zone or b"").upper(), 0) * 3600
    ahead = int(zone[1:3]) * 3600 + int(zone[3:5]) * 60
    return -ahead if zone.startswith(b"-") else ahead


def sent_day(header: bytes) -> date:
    """The day of SENTBEFORE, SENTON and SENTSINCE: as written, whatever its zone.

    Without a Date that can be read it is the first of January 1970, as in Dovecot.
    """
    for value in values(header, b"Date")[:1]:
        parsed = parse_date(value)
        if parsed is not None:
            return parsed.day
    return EPOCH
