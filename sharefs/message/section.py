"""BODY[...] of a message: exact octets of parts, headers and texts.  RFC 3501 6.4.5.  Pure."""

from dataclasses import dataclass
from typing import Protocol

from sharefs.message.header import header_fields
from sharefs.message.parser import Part


class SectionSpec(Protocol):
    """What stands between the brackets.

    part: part numbers from 1, empty for the whole message.  text: "", "HEADER",
    "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT" or "MIME".  fields: field names in any case, for
    the two in the middle.
    """

    @property
    def part(self) -> tuple[int, ...]: ...
    @property
    def text(self) -> str: ...
    @property
    def fields(self) -> tuple[bytes, ...]: ...


@dataclass(frozen=True, slots=True)
class Spec:
    """A SectionSpec for callers that have no parsed command."""

    part: tuple[int, ...] = ()
    text: str = ""
    fields: tuple[bytes, ...] = ()


def section(
    octets: bytes, part: Part, spec: SectionSpec, partial: tuple[int, int] | None = None
) -> bytes | None:
    """The octets a client asks for, or None if the message has no such part (send NIL).

    octets: the message that part was parsed from.  partial: (first octet, most octets); a first
    octet beyond the end gives b"".
    """
    span = _span(part, spec)
    if span is None:
        return None
    first, last = span
    if spec.text in ("HEADER.FIELDS", "HEADER.FIELDS.NOT"):
        text = header_fields(octets[first:last], spec.fields, spec.text.endswith("NOT"))
        return text if partial is None else text[partial[0] : sum(partial)]
    if partial is not None:
        first = min(first + partial[0], last)
        last = min(first + partial[1], last)
    return octets[first:last]


def needs_body(spec: SectionSpec) -> bool:
    """Whether more than the message's own header is needed to answer."""
    return bool(spec.part) or spec.text in ("", "TEXT", "MIME")


def find_part(root: Part, numbers: tuple[int, ...]) -> Part | None:
    """The part with these numbers, None if there is none.

    A message that is no multipart has one part, number 1: its body (RFC 3501 section 6.4.5).  As
    in Dovecot, number 1 of a part without parts is that part again, once.
    """
    part = root
    fresh = True  # number 1 has not yet been used up on a part without parts
    message = True  # part is a whole message, whose body the next number counts in
    for number in numbers:
        if part.is_message and not message:
            part, fresh = part.children[0], True
        message = False
        if part.is_multipart:
            if number > len(part.children):
                return None
            part, fresh = part.children[number - 1], True
        elif number == 1 and fresh:
            fresh = False
        else:
            return None
    return part


def _span(root: Part, spec: SectionSpec) -> tuple[int, int] | None:
    """Where the section begins and ends; for HEADER.FIELDS the header to pick from."""
    if not spec.part:
        if spec.text == "":
            return root.start, root.end
        return (root.body_start, root.end) if spec.text == "TEXT" else (root.start, root.body_start)
    part = find_part(root, spec.part)
    if part is None:
        return None
    if spec.text == "":
        return part.body_start, part.end
    if spec.text == "MIME":
        return part.start, part.body_start
    if not part.is_message:
        return None
    message = part.children[0]
    if spec.text == "TEXT":
        return message.body_start, message.end
    return message.start, message.body_start
