"""The beginning of what a message says, for lists of messages (PREVIEW, RFC 8970).  Pure.

What a reader would read first: no markup, no quotations, no signatures, no invisible padding.
Never raises; time is linear in what is looked at, and that is bounded.
"""

import html
import re
from collections.abc import Iterator
from typing import Final

from sharefs.message.decode import decode_charset, decode_transfer
from sharefs.message.parser import Part

LENGTH: Final = 200  # characters; RFC 8970 section 3.2 recommends this and allows 256

_PLAIN_LIMIT: Final = 16 << 10  # octets of a text part that are looked at
_HTML_LIMIT: Final = 256 << 10  # style sheets come first, and are long
_ENOUGH: Final = 4 * LENGTH  # characters of text; much of it may be white space
_PARTS_LIMIT: Final = 8  # that are tried before there is nothing

# Texts, but none that anybody reads.
_UNREADABLE: Final = frozenset(
    b"calendar css csv directory javascript rtf rtx vcard x-amp-html x-vcard xml".split()
)
_INVISIBLE: Final = "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\ufffc"
# Characters that would turn round, or blank, what stands after a preview.  The usual ones are in it
# too: str.translate() takes a key that is missing for an exception.
_DROPPED: Final[dict[int, int | None]] = {code: code for code in range(128)} | dict.fromkeys(
    [*range(9), *range(14, 28), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
_SPACES: Final = re.compile(rf"[\s{_INVISIBLE}]{{2,}}|\s")
_RULED: Final = "-=_*~#.+|"
_RULE: Final = re.compile(rf"[{re.escape(_RULED)}\s]{{3,}}")


def preview(octets: bytes, root: Part) -> str:
    """At most LENGTH characters; none if there is no text to read.

    octets: the message that root was parsed from.
    """
    for number, leaf in enumerate(_readable(root)):
        if number == _PARTS_LIMIT:
            break
        if text := _text_of(octets, leaf):
            return text
    return ""


def _readable(part: Part) -> Iterator[Part]:
    """Text parts that a reader is shown, those he would be shown first in front."""
    if part.is_multipart:
        children = part.children
        if part.kind[1] == b"alternative":
            children = tuple(sorted(children, key=lambda child: child.kind != (b"text", b"plain")))
        elif part.kind[1] == b"encrypted":
            children = ()
        for child in children:
            yield from _readable(child)
        return
    shown = (part.mime.disposition or b"").lower() != b"attachment"
    if shown and part.is_text and part.kind[1] not in _UNREADABLE:
        yield part


def _text_of(octets: bytes, leaf: Part) -> str:
    is_html = leaf.kind[1] == b"html"
    stop = min(leaf.end, leaf.body_start + (_HTML_LIMIT if is_html else _PLAIN_LIMIT))
    raw = decode_transfer(octets[leaf.body_start : stop], leaf.mime.encoding)
    charset = next((v for name, v in leaf.mime.parameters if name.lower() == b"charset"), None)
    text = decode_charset(raw, charset)
    if stop < leaf.end:
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")  # half a character
    own, quoted = _of_html(text) if is_html else _of_plain(text)
    return _tidy(own) or _tidy(quoted)


def _tidy(text: str) -> str:
    """One line without what cannot be seen, cut at the limit between two words."""
    text = text.translate(_DROPPED)
    if text.isascii():  # split() knows the same white space; so many words are always enough
        line = " ".join(text.split(None, LENGTH)[:LENGTH])
    else:
        line = _SPACES.sub(" ", text).strip(" " + _INVISIBLE)
    if len(line) <= LENGTH:
        return line
    cut = line.rfind(" ", LENGTH * 3 // 4, LENGTH + 1)
    return line[: cut if cut > 0 else LENGTH].rstrip(" " + _INVISIBLE)


# --- plain text ------------------------------------------------------------------------------


def _of_plain(text: str) -> tuple[str, str]:
    """What the author wrote, and what he quoted."""
    own: list[str] = []
    quoted: list[str] = []
    length = 0
    lines = iter(text.splitlines())
    for line in lines:
        if length >= _ENOUGH:
            break
        if line.startswith(">"):
            if not quoted:
                _drop_attribution(own)
            quoted.append(line.lstrip("> "))
        elif line == "-- ":  # RFC 3676 section 4.3
            break
        elif line.startswith("-----BEGIN PGP"):
            if "SIGNED" not in line:
                break
            for header in lines:  # of the armour, up to an empty line
                if not header.strip():
                    break
        elif (written := line.strip()) and not (written[0] in _RULED and _RULE.fullmatch(line)):
            own.append(line)
            length += len(written)
    return "\n".join(own), "\n".join(quoted)


def _drop_attribution(lines: list[str]) -> None:
    """ "On Monday Bob wrote:" above the first quotation; it may be folded."""
    if lines and lines[-1].rstrip().endswith(":"):
        last = lines.pop()
        if len(last.split()) < 3 and lines:
            lines.pop()


# --- HTML ------------------------------------------------------------------------------------

_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_HIDDEN: Final = {
    name: re.compile(rf"</{name}\b", re.IGNORECASE | re.ASCII)
    for name in ("script", "style", "svg", "template", "textarea", "title", "select", "object")
} | {"head": re.compile(r"</head\b|<body\b", re.IGNORECASE | re.ASCII)}
# Elements at whose edges no word ends.
_INLINE: Final = re.compile(
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span"
    "|strike|strong|sub|sup|tt|u|var|wbr"
)


def _of_html(text: str) -> tuple[str, str]:
    """The same of HTML, where quotations are in blockquote elements."""
    own: list[str] = []
    quoted: list[str] = []
    depth = length = at = 0
    while at < len(text) and length < _ENOUGH:
        start = text.find("<", at)
        piece = text[at : start if start >= 0 else len(text)]
        (quoted if depth else own).append(piece)
        length += 0 if depth else len(piece.strip())
        if start < 0:
            break
        tag = _TAG.match(text, start)
        if tag is None and text[start + 1 : start + 2] not in ("!", "?", "/"):
            own.append("<")  # of no tag
            at = start + 1
            continue
        comment = text.startswith("<!--", start)
        end = text.find("-->" if comment else ">", start)
        at = len(text) if end < 0 else end + (3 if comment else 1)
        if tag is None:
            continue
        closing, name = bool(tag[1]), tag[2].lower()
        if not closing and name in _HIDDEN and text[at - 2 : at] != "/>":
            found = _HIDDEN[name].search(text, at)
            at = found.start() if found else len(text)
        elif name == "blockquote":
            depth = max(0, depth - 1) if closing else depth + 1
        if not _INLINE.fullmatch(name):
            (quoted if depth else own).append("\n")
    return html.unescape("".join(own)), html.unescape("".join(quoted))
