"""Names as they may be shown: none moves the cursor or turns the text around.  Pure."""

import re
from typing import Final

# C0 and C1 controls, line and paragraph separators, marks and overrides of the writing direction
# (UAX #9), characters without width, octets that were no UTF-8 (PEP 383), all other surrogates.
_HIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def shown(name: str) -> str:
    r"""The name with everything unseen made seen: a tab is \t, an octet \xff, the rest \u{202e}."""
    return _HIDDEN.sub(_visible, name)


def shortened(text: str, limit: int) -> str:
    """At most limit characters, the middle left out: ends tell more than middles."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    short = {9: r"\t", 10: r"\n", 13: r"\r"}.get(code)
    if short:
        return short
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"
