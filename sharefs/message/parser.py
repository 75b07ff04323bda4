"""A message's MIME structure with exact offsets.  Pure, linear in the message's size, never raises.

RFC 2045, RFC 2046, and how Dovecot reads what breaks them: a boundary ends a header too; of
several boundaries that fit a line the longest counts; a part without an end goes to the end of
its parent; nesting and number of parts are limited.
"""

from dataclasses import dataclass, field
from typing import Final

from sharefs.message.header import values
from sharefs.message.lines import find_header_end
from sharefs.message.mimeheader import NOTHING, MimeFields, mime_fields

# Dovecot's limits.  Deeper structures are one opaque part; later parts belong to the last one.
DEPTH_LIMIT: Final = 100
PARTS_LIMIT: Final = 10_000

_TEXT: Final = (b"text", b"plain")


@dataclass(frozen=True, slots=True)
class Part:
    """One body part, or the whole message.  Offsets count octets of the message in CRLF form.

    start: of the header.  body_start: after the empty line.  end: of the body, without the line
    end that belongs to the next boundary.  body_lines: line ends within the body.
    kind: (type, subtype) in lower case, as it is treated; what was written is in mime.
    children: parts of a multipart; of a message/rfc822 the one message in it.
    """

    start: int
    body_start: int
    end: int
    body_lines: int
    kind: tuple[bytes, bytes]
    mime: MimeFields
    header: bytes = field(repr=False)
    children: tuple["Part", ...] = ()

    @property
    def size(self) -> int:
        """Octets of the body."""
        return self.end - self.body_start

    @property
    def is_multipart(self) -> bool:
        return self.kind[0] == b"multipart"

    @property
    def is_message(self) -> bool:
        """message/rfc822, with the message in children[0]."""
        return self.kind == (b"message", b"rfc822")

    @property
    def is_text(self) -> bool:
        return self.kind[0] == b"text"

    def values(self, name: bytes) -> list[bytes]:
        """Raw values of the header fields of that name."""
        return values(self.header, name)


def parse(octets: bytes) -> Part:
    """Read a message with CRLF line ends (lines.crlf)."""
    return _Parser(octets).run()


def parse_header(header: bytes) -> Part:
    """A Part of a header alone, for what needs no body (ENVELOPE, header fields)."""
    mime = mime_fields(header)
    return Part(0, len(header), len(header), 0, _kind(mime, False), mime, header)


@dataclass(slots=True, eq=False)
class _Draft:
    """A part being read."""

    start: int
    depth: int
    body_start: int = 0
    end: int = 0
    kind: tuple[bytes, bytes] = _TEXT
    mime: MimeFields = NOTHING
    cut: bool = False  # a boundary took the header's last line end
    boundary: bytes | None = None  # of a multipart whose children are being looked for
    children: list["_Draft"] = field(default_factory=list)


class _Parser:
    """One pass from start to end.  Every line that begins with "--" is looked at once."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.open: list[_Draft] = []  # from the message down to the part being read
        self.boundaries: dict[bytes, list[_Draft]] = {}  # open multiparts; innermost last
        self.blank = -1  # where the last empty line found begins, and the search for it
        self.after_boundary = 0  # the end of the last boundary line
        self.count = 0

    def run(self) -> Part:
        root = _Draft(0, 0)
        at = self._begin(root)
        while self.boundaries and (found := self._next_boundary(at, len(self.octets))):
            line, multipart, closing = found
            self._close_down_to(multipart, line)
            at = self.after_boundary = self._line_end(line)
            if closing:
                self._forget(multipart)
            elif at > line and self.octets.endswith(b"\n", line, at):
                child = _Draft(at, multipart.depth + 1)
                multipart.children.append(child)
                at = self._begin(child)
        while self.open:
            self.open.pop().end = len(self.octets)
        return _freeze(root, self.octets)

    # -- beginning and ending parts --------------------------------------------------------

    def _begin(self, draft: _Draft) -> int:
        """Read the header at draft.start, and that of the message inside, and so on.

        Returns where to look for boundaries next.
        """
        while True:
            self.count += 1
            parent = self.open[-1] if self.open else None
            self.open.append(draft)
            draft.body_start = self._header_end(draft.start)
            cut = None
            if self.boundaries:
                cut = self._next_boundary(draft.start, draft.body_start)
            if cut:
                draft.cut = cut[0] > draft.start
                draft.body_start = max(draft.start, cut[0] - 2)
            self._read_header(draft, parent)
            full = draft.depth >= DEPTH_LIMIT or self.count >= PARTS_LIMIT
            if full and draft.kind[0] in (b"multipart", b"message"):
                draft.kind = (b"application", b"octet-stream")
            if draft.kind == (b"message", b"rfc822"):
                inner = _Draft(draft.body_start, draft.depth + 1)
                draft.children.append(inner)
                draft = inner
                if not cut:
                    continue
                self._empty(inner)
            elif draft.kind[0] == b"multipart" and not cut:
                draft.boundary = _boundary(draft.mime)
                if draft.boundary is not None:
                    self.boundaries.setdefault(draft.boundary, []).append(draft)
            return cut[0] if cut else draft.body_start

    def _empty(self, draft: _Draft) -> None:
        draft.body_start = draft.start
        self.open.append(draft)

    def _read_header(self, draft: _Draft, parent: _Draft | None) -> None:
        mime = mime_fields(self.octets[draft.start : draft.body_start])
        in_multipart = parent is not None and parent.kind[0] == b"multipart"
        if not mime.declared and not in_multipart:
            mime = NOTHING  # RFC 2045 section 4: without MIME-Version these are not MIME's
        draft.mime = mime
        in_digest = parent is not None and parent.kind == (b"multipart", b"digest")
        draft.kind = _kind(mime, in_digest)

    def _close_down_to(self, multipart: _Draft, line: int) -> None:
        """End every part inside multipart before the boundary line at offset line."""
        # The line end before a boundary belongs to it, unless it ended another boundary line.
        end = max(line - 2, self.after_boundary)
        while (draft := self.open[-1]) is not multipart:
            if draft.body_start == line:
                # No body: the empty line after the header is the boundary's line end.
                draft.body_start = max(draft.start, line - 2)
                draft.cut = draft.body_start < line
            draft.end = max(draft.body_start, end)
            if draft.cut:
                end = line  # the line end taken from the header counts as its parents' body
            if draft.boundary is not None:
                self._forget(draft)
            self.open.pop()

    def _forget(self, multipart: _Draft) -> None:
        assert multipart.boundary is not None
        same = self.boundaries[multipart.boundary]
        same.remove(multipart)
        if not same:
            del self.boundaries[multipart.boundary]
        multipart.boundary = None

    # -- finding lines ---------------------------------------------------------------------

    def _header_end(self, start: int) -> int:
        """As find_header_end(), but the same empty line is never searched for twice."""
        if self.octets.startswith(b"\r\n", start):
            return start + 2
        if self.blank <= start:
            self.blank = find_header_end(self.octets, start)
        return self.blank

    def _line_end(self, line: int) -> int:
        end = self.octets.find(b"\n", line)
        return len(self.octets) if end < 0 else end + 1

    def _next_boundary(self, at: int, stop: int) -> tuple[int, _Draft, bool] | None:
        """The first boundary line in octets[at:stop].  at: the start of a line, not the first.

        Returns (its offset, whose it is, whether it closes).
        """
        line = self.octets.find(b"\n--", at - 1, stop) + 1
        while line:
            found = self._owner(line)
            if found is not None:
                return line, *found
            line = self.octets.find(b"\n--", line, stop) + 1
        return None

    def _owner(self, line: int) -> tuple[_Draft, bool] | None:
        """The multipart that a line beginning with "--" belongs to, and whether it closes it."""
        text = self.octets[line + 2 : self._line_end(line)].rstrip()
        if self.count >= PARTS_LIMIT and not text.endswith(b"--"):
            return None
        if text.endswith(b"--") and text[:-2] in self.boundaries:
            return self.boundaries[text[:-2]][-1], True
        if text in self.boundaries:
            return self.boundaries[text][-1], False
        # RFC 2046 section 5.1.1: the line need only begin with the boundary.
        for length in sorted({len(boundary) for boundary in self.boundaries}, reverse=True):
            if text[:length] in self.boundaries:
                closing = text.startswith(b"--", length)
                return self.boundaries[text[:length]][-1], closing
        return None


def _boundary(mime: MimeFields) -> bytes | None:
    for name, value in mime.parameters:
        if name.lower() == b"boundary":
            return value.rstrip()
    return None


def _kind(mime: MimeFields, in_digest: bool) -> tuple[bytes, bytes]:
    if not mime.content_type:
        # Missing, or so broken that RFC 2045 section 5.2 takes it for missing.
        broken = mime.content_type is not None
        return (b"message", b"rfc822") if in_digest and not broken else _TEXT
    kind, subtype = mime.content_type.lower(), (mime.subtype or b"").lower()
    return kind, subtype


def _freeze(root: _Draft, octets: bytes) -> Part:
    """Turn drafts into Parts, from the leaves up, counting lines of all bodies in one pass."""
    order = [root]
    for draft in order:
        order += draft.children
    edges = sorted({edge for draft in order for edge in (draft.body_start, draft.end)})
    lines: dict[int, int] = {}
    total = before = 0
    for edge in edges:
        total += octets.count(b"\n", before, edge)
        lines[edge] = total
        before = edge
    done: dict[int, Part] = {}
    for draft in reversed(order):
        done[id(draft)] = Part(
            draft.start,
            draft.body_start,
            draft.end,
            lines[draft.end] - lines[draft.body_start],
            draft.kind,
            draft.mime,
            octets[draft.start : draft.body_start],
            tuple(done[id(child)] for child in draft.children),
        )
    return done[id(root)]
