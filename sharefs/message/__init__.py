"""What a message is made of: MIME parts with octet offsets, ENVELOPE, sections, search text.  Pure.

Everything takes the message in CRLF form (crlf()), and nothing raises on odd input.
"""

from sharefs.message.binary import BadData, UnknownEncoding, decoded, encoded
from sharefs.message.dates import parse_date, sent_day
from sharefs.message.decode import load_charsets
from sharefs.message.envelope import envelope, envelope_of
from sharefs.message.header import field_picker, header_fields
from sharefs.message.lines import crlf, find_header_end, virtual_size
from sharefs.message.objectid import email_id
from sharefs.message.parser import Part, parse, parse_header
from sharefs.message.preview import preview
from sharefs.message.search import header_texts, matches_body, matches_header, matches_text
from sharefs.message.section import SectionSpec, Spec, needs_body, section
from sharefs.message.structure import body, bodystructure

__all__ = [
    "BadData",
    "Part",
    "SectionSpec",
    "Spec",
    "UnknownEncoding",
    "body",
    "bodystructure",
    "crlf",
    "decoded",
    "email_id",
    "encoded",
    "envelope",
    "envelope_of",
    "field_picker",
    "find_header_end",
    "header_fields",
    "header_texts",
    "load_charsets",
    "matches_body",
    "matches_header",
    "matches_text",
    "needs_body",
    "parse",
    "parse_date",
    "parse_header",
    "preview",
    "section",
    "sent_day",
    "virtual_size",
]
