"""All that an index keeps of one message, taken from its octets once.  Pure, never raises."""

from dataclasses import dataclass
from typing import Final

from sharefs import message
from sharefs.index import packed_fields
from sharefs.index.schema import END, HEADS, LEFT_OUT
from sharefs.message import Part
from sharefs.message.header import by_name
from sharefs.message.search import ADDRESS_FIELDS, body_texts, header_forms, header_lines
from sharefs.message.structure import structures
from sharefs.ordering.facts import Facts, facts_of
from sharefs.store.interface import MessageInfo

# Bounds for what one message may put into the index.  Longer ones are read instead.
HEAD_LIMIT: Final = 4096  # octets of one searched field
RENDERED_LIMIT: Final = 16384  # octets of one ENVELOPE, BODYSTRUCTURE or block of fields
TEXT_LIMIT: Final = 256 * 1024  # characters of its texts

# Fields with forms that are not among a message's header lines, and have no column in heads.
_MORE_ADDRESSES: Final = sorted(
    name.decode() for name in ADDRESS_FIELDS if name.decode() not in HEADS
)
# Characters that FTS5 ends at, or reads as U+FFFD.
_ALIKE: Final = {0: "\x01", 0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}


@dataclass(frozen=True, slots=True)
class Harvest:
    """One message's part of an index.  None: too long to be kept.

    heads: in the order of HEADS; None also for an absent field, left_out tells which.
    facts: by which it is sorted; kept within bounds by orders.py.
    texts: its headers and its text parts, ready for the text table.
    saved: as MessageInfo.save_date, which may move when flags change: what is kept stays.
    """

    size: int
    internaldate: int
    saved: int
    sent: int
    email_id: bytes
    heads: tuple[bytes | None, ...]
    left_out: int
    envelope: bytes | None
    body: bytes | None
    bodystructure: bytes | None
    fields: bytes | None
    facts: Facts
    preview: bytes
    texts: tuple[str, str] | None


def harvest(octets: bytes, info: MessageInfo) -> Harvest:
    """octets: the whole message in CRLF form."""
    part = message.parse(octets)
    header = octets[: message.find_header_end(octets)]
    heads, left_out = _heads(header)
    body, structure = structures(part)
    return Harvest(
        size=info.size,
        internaldate=info.internaldate,
        saved=info.save_date,
        sent=message.sent_day(header).toordinal(),
        email_id=message.email_id(octets, info.internaldate),
        heads=heads,
        left_out=left_out,
        envelope=_bounded(message.envelope_of(header)),
        body=body if len(structure) <= RENDERED_LIMIT else None,
        bodystructure=_bounded(structure),
        fields=_bounded(packed_fields.pack(header)),
        facts=facts_of(info.uid, header, arrival=info.internaldate, size=info.size),
        preview=message.preview(octets, part).encode("utf-8", "replace"),
        texts=_texts(octets, part, header),
    )


def _bounded(octets: bytes) -> bytes | None:
    return octets if len(octets) <= RENDERED_LIMIT else None


def _heads(header: bytes) -> tuple[tuple[bytes | None, ...], int]:
    found: list[bytes | None] = []
    left_out = 0
    for name in HEADS:
        forms = dict.fromkeys(header_forms(header, name))
        text = "\n".join(forms).encode("utf-8", "surrogatepass")
        if len(text) > HEAD_LIMIT:
            left_out |= LEFT_OUT[name]
            found.append(None)
        else:
            found.append(text if forms else None)
    return tuple(found), left_out


def _texts(octets: bytes, part: Part, header: bytes) -> tuple[str, str] | None:
    # A message with more text than the limit is not cut: half a text could not say no.
    bodies: list[str] = []
    left = TEXT_LIMIT
    for body in body_texts(octets, part):
        left -= len(body)
        if left < 0:
            return None
        bodies.append(body)
    heads = list(header_lines(part))
    present = by_name(header)
    for name in _MORE_ADDRESSES:
        if name.encode() in present:
            heads += header_forms(header, name)
    if sum(map(len, heads)) > left:
        return None
    return tokenizable(heads), tokenizable(bodies)


def tokenizable(texts: list[str]) -> str:
    """Texts as one that FTS5 takes: it ends at a NUL, and is UTF-8.

    The same octets stand for all characters that it cannot tell apart, so a needle that goes
    through here as well is found wherever it occurs, and sometimes where it does not.
    """
    text = "".join(text + END for text in texts)
    if text.isascii() and "\0" not in text:
        return text
    return text.translate(_ALIKE).encode("utf-8", "replace").decode("utf-8")
