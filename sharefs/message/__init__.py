"""What a message is made of: MIME parts with octet offsets, ENVELOPE, sections, search text.  Pure.

Everything takes the message in CRLF form (crlf()), and nothing raises on odd input.
"""

from sharefs.message.envelope import envelope, envelope_of
from sharefs.message.header import header_fields
from sharefs.message.lines import crlf, find_header_end, virtual_size
from sharefs.message.parser import Part, parse, parse_header
from sharefs.message.structure import body, bodystructure

__all__ = [
    "Part",
    "body",
    "bodystructure",
    "crlf",
    "envelope",
    "envelope_of",
    "find_header_end",
    "header_fields",
    "parse",
    "parse_header",
    "virtual_size",
]
