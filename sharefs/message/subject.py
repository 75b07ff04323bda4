"""The base subject of a message, by which SORT and THREAD compare: RFC 5256 section 2.1.  Pure.

Linear in the length of the subject, whatever stands in it.
"""

import re
from typing import Final, NamedTuple

from sharefs.message.decode import fold

_SPACES: Final = re.compile(r"[ \t\r\n]+")
# In the folded form letters are upper case and space is single.
_BLOB: Final = re.compile(r"\[[^\[\]]*\] ?")
_REFWD: Final = re.compile(r"(?:RE|FWD?) ?(?:\[[^\[\]]*\] ?)?:")
_TRAILER: Final = "(FWD)"
_FORWARDED: Final = "[FWD:"


class BaseSubject(NamedTuple):
    """text: folded.  is_reply: something was taken away that marks a reply or a forward."""

    text: str
    is_reply: bool


def base_subject(subject: str) -> BaseSubject:
    """subject: decoded (message.header_texts).  The numbers are those of the RFC's steps."""
    text = _SPACES.sub(" ", fold(subject))  # (1)
    start, end, is_reply = 0, len(text), False
    while True:
        while end > start:  # (2)
            if text[end - 1] == " ":
                end -= 1
            elif text.endswith(_TRAILER, start, end):
                end -= len(_TRAILER)
                is_reply = True
            else:
                break
        while True:  # (3) to (5)
            if text.startswith(" ", start, end):
                start += 1
            blobs = _blobs(text, start, end)
            leader = _REFWD.match(text, blobs[-1] if blobs else start, end)
            if leader is None:
                # No leader begins anywhere in these blobs, so all of them go; but not the last
                # one if nothing would be left.
                if blobs and blobs[-1] == end:
                    blobs.pop()
                start = blobs[-1] if blobs else start
                break
            start, is_reply = leader.end(), True
        if not (text.startswith(_FORWARDED, start, end) and text[end - 1] == "]"):
            return BaseSubject(text[start:end], is_reply)
        start, end, is_reply = start + len(_FORWARDED), end - 1, True  # (6)


def _blobs(text: str, start: int, end: int) -> list[int]:
    """Where each of the blobs ends that stand one after the other from start."""
    ends: list[int] = []
    found = _BLOB.match(text, start, end)
    while found is not None:
        ends.append(found.end())
        found = _BLOB.match(text, found.end(), end)
    return ends
