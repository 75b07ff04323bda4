"""The lexical tokens of mail headers: atoms, quoted strings, comments, domains.  Pure.

RFC 5322 section 3.2, RFC 2045 section 5.1; tolerant in the way Dovecot is, so that two servers on
one Maildir describe a message alike.  8-bit octets count as letters.
"""

import re
from typing import Final

_SPACE: Final = re.compile(rb"[ \t\r\n]+")
_ATEXT: Final = rb"!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~\x80-\xff"
_ATOM: Final = re.compile(rb"[" + _ATEXT + rb"]+")
_ATOM_OR_DOT: Final = re.compile(rb"[." + _ATEXT + rb"]+")
_MIME_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~\x80-\xff]+")
_COMMENT_STOP: Final = re.compile(rb"[()\\]")
_QUOTED: Final = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)|\r?\n", re.DOTALL)
_DOMAIN_LITERAL: Final = re.compile(rb"\[[^\]\\]*+(?:\\.[^\]\\]*+)*+\]", re.DOTALL)


class Malformed(Exception):
    """The text does not go on as the grammar wants.  Never leaves sharefs.message."""


class Tokens:
    """A place in a header value.  Methods move it, and raise Malformed if they cannot read.

    last_comment: the text of the comment that was passed last; empty if there was none.
    """

    __slots__ = ("at", "last_comment", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0
        self.last_comment = b""

    def at_end(self) -> bool:
        return self.at >= len(self.text)

    def next_is(self, octet: bytes) -> bool:
        return self.text.startswith(octet, self.at)

    def word_follows(self) -> bool:
        """Whether an atom, a dot or a quoted string stands here."""
        return self.next_is(b'"') or _ATOM_OR_DOT.match(self.text, self.at) is not None

    def skip_space(self) -> None:
        """Move over white space and comments.  Raises for a comment that is not closed."""
        text = self.text
        while True:
            if found := _SPACE.match(text, self.at):
                self.at = found.end()
            if not text.startswith(b"(", self.at):
                return
            self._skip_comment()

    def _skip_comment(self) -> None:
        start = self.at = self.at + 1
        level = 1
        pieces = []
        self.last_comment = b""
        while found := _COMMENT_STOP.search(self.text, self.at):
            self.at = found.end()
            if found[0] == b"(":
                level += 1
            elif found[0] == b")":
                level -= 1
                if not level:
                    pieces.append(self.text[start : self.at - 1])
                    self.last_comment = b"".join(pieces)
                    return
            else:
                pieces.append(self.text[start : self.at - 1])
                start = self.at
                self.at += 1
        self.at = len(self.text)
        raise Malformed

    def atom(self) -> bytes:
        """An atom and the white space after it."""
        return self._token(_ATOM)

    def _token(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise Malformed
        self.at = found.end()
        self.skip_space()
        return found[0]

    def mime_token(self) -> bytes:
        """A token of RFC 2045, which may turn out empty, and the white space after it."""
        found = _MIME_TOKEN.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        self.skip_space()
        return found[0] if found else b""

    def quoted_string(self) -> bytes:
        """The content of a quoted string, unescaped, without folds."""
        found = _QUOTED.match(self.text, self.at)
        if found is None:
            self.at = len(self.text)
            raise Malformed
        self.at = found.end()
        content = found[1]
        if b"\\" in content or b"\n" in content:
            content = _QUOTED_PAIR.sub(lambda pair: pair[1] or b"", content)
        self.skip_space()
        return content

    def dot_atom(self, into: list[bytes]) -> None:
        """atom *("." atom) with white space allowed around the dots, appended to into.

        What was read so far is in into even if Malformed is raised.
        """
        found = _ATOM.match(self.text, self.at)
        if found is None and not self.next_is(b"."):
            raise Malformed
        while True:
            if found is not None:
                self.at = found.end()
                into.append(found[0])
            self.skip_space()
            if not self.next_is(b"."):
                return
            self.at += 1
            into.append(b".")
            self.skip_space()
            if self.at_end():
                return
            found = _ATOM.match(self.text, self.at)

    def phrase(self, into: list[bytes]) -> None:
        """Words and quoted strings with single spaces between them, appended to into."""
        if self.next_is(b"."):
            raise Malformed
        while True:
            if self.next_is(b'"'):
                into.append(self.quoted_string())
            else:
                found = _ATOM_OR_DOT.match(self.text, self.at)
                if found is not None:
                    self.at = found.end()
                    into.append(found[0])
                self.skip_space()
            if self.at_end() or not (self.next_is(b'"') or _ATOM_OR_DOT.match(self.text, self.at)):
                return
            into.append(b" ")

    def domain(self, into: list[bytes]) -> None:
        """A domain or domain literal after "@", at which the cursor stands; appended to into."""
        self.at += 1
        self.skip_space()
        if self.at_end():
            raise Malformed
        if self.next_is(b"["):
            found = _DOMAIN_LITERAL.match(self.text, self.at)
            if found is None:
                self.at = len(self.text)
                raise Malformed
            self.at = found.end()
            into.append(found[0])
            self.skip_space()
        else:
            self.dot_atom(into)
