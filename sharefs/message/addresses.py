"""Address lists of mail headers (RFC 5322 section 3.4, groups and obsolete routes too).  Pure.

Anything at all yields a list: what cannot be read shows up with MISSING_MAILBOX,
MISSING_DOMAIN or SYNTAX_ERROR in its place, as in Dovecot, so that a client sees something is
there.
"""

import contextlib
import functools
import re
from dataclasses import dataclass, field
from typing import Final

from sharefs.message.rfc822 import Malformed, Tokens

MISSING_MAILBOX: Final = b"MISSING_MAILBOX"
MISSING_DOMAIN: Final = b"MISSING_DOMAIN"
SYNTAX_ERROR: Final = b"SYNTAX_ERROR"
INVALID_ROUTE: Final = b"INVALID_ROUTE"

_SHORT: Final = 1024  # octets; values that may be remembered
# Most mail has just this; what it does not match takes the long way.
_ATEXT: Final = rb"[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~\x80-\xff]+"
_SIMPLE: Final = re.compile(
    rb"[ \t]*(?:(?:(" + _ATEXT + rb"(?: " + _ATEXT + rb')*)|"([^"\\\r\n]*)")[ \t]*<|(<)?)'
    rb"(" + _ATEXT + rb"(?:\." + _ATEXT + rb")*)@(" + _ATEXT + rb"(?:\." + _ATEXT + rb")*)"
    rb"(>?)[ \t\r\n]*(,|\Z)"
)


@dataclass(frozen=True, slots=True)
class Address:
    """As in RFC 3501's ENVELOPE.  A group starts with mailbox alone and ends with nothing."""

    name: bytes | None = None
    route: bytes | None = None
    mailbox: bytes | None = None
    domain: bytes | None = None


GROUP_END: Final = Address()


def parse_addresses(text: bytes) -> list[Address]:
    """Read a header value, unfolded or not.  Never raises."""
    if len(text) > _SHORT:
        return _parse_addresses(text)
    return list(_parsed(text))


@functools.lru_cache(maxsize=256)
def _parsed(text: bytes) -> tuple[Address, ...]:
    """Each message is asked several times, and many are of the same people."""
    return tuple(_parse_addresses(text))


def _parse_addresses(text: bytes) -> list[Address]:
    addresses: list[Address] = []
    at = 0
    while found := _SIMPLE.match(text, at):
        atoms, quoted, bracket, mailbox, domain, closed, comma = found.groups()
        if bool(closed) != (atoms is not None or quoted is not None or bracket is not None):
            break
        name = quoted if quoted is not None else atoms
        addresses.append(Address(name or None, None, mailbox, domain))
        at = found.end()
        if not comma:
            return addresses
    if at < len(text):
        addresses += _List(text[at:]).read()
    return addresses


def first_address(text: bytes) -> Address | None:
    """The first of parse_addresses(text), without reading a long list to its end if it is simple.

    None: there is none.
    """
    if len(text) <= _SHORT:
        return next(iter(_parsed(text)), None)
    found = _SIMPLE.match(text)
    if found is not None:
        atoms, quoted, bracket, mailbox, domain, closed, _ = found.groups()
        if bool(closed) == (atoms is not None or quoted is not None or bracket is not None):
            return Address((quoted if quoted is not None else atoms) or None, None, mailbox, domain)
    return next(iter(_List(text).read()), None)


@dataclass(slots=True)
class _Draft:
    name: bytes | None = None
    route: bytes | None = None
    mailbox: bytes | None = None
    domain: bytes | None = None

    def finish(self) -> Address:
        return Address(
            self.name,
            self.route,
            MISSING_MAILBOX if self.mailbox is None else self.mailbox,
            MISSING_DOMAIN if self.domain is None else self.domain,
        )


@dataclass(slots=True)
class _List:
    """The long way: one address list being read."""

    text: bytes
    found: list[Address] = field(default_factory=list)

    def read(self) -> list[Address]:
        tokens = Tokens(self.text)
        try:
            tokens.skip_space()
        except Malformed:
            return self.found
        while not tokens.at_end():
            if not self._group(tokens):
                self._mailbox(tokens)
            if not tokens.next_is(b","):
                break
            tokens.at += 1
            try:
                tokens.skip_space()
            except Malformed:
                self.found.append(_Draft().finish())
                break
        return self.found

    def _group(self, tokens: Tokens) -> bool:
        """Read a group if one stands here, else leave the cursor where it is."""
        start = tokens.at
        name: list[bytes] = []
        try:
            tokens.phrase(name)
        except Malformed:
            tokens.at = start
            return False
        if not tokens.next_is(b":"):
            tokens.at = start
            return False
        tokens.at += 1
        self.found.append(Address(mailbox=b"".join(name)))
        try:
            tokens.skip_space()
            self._members(tokens)
            if tokens.next_is(b";"):
                tokens.at += 1
                tokens.skip_space()
        except Malformed:
            pass
        self.found.append(GROUP_END)
        return True

    def _members(self, tokens: Tokens) -> None:
        while not tokens.at_end() and not tokens.next_is(b";"):
            self._mailbox(tokens)
            if not tokens.next_is(b","):
                return
            tokens.at += 1
            tokens.skip_space()

    def _mailbox(self, tokens: Tokens) -> None:
        """Read a mailbox and add it, whatever it is."""
        start = tokens.at
        draft = _Draft()
        if not self._name_addr(tokens, draft):
            tokens.at = start
            had_domain = self._addr_spec(tokens, draft)
            if not had_domain and (tokens.word_follows() or tokens.text.startswith(b'"', start)):
                # Words that are no address: show them as a name.
                end, tokens.at = tokens.at, start
                if words := _words(tokens):
                    draft.name, draft.mailbox = words, None
                else:
                    tokens.at = end
        self.found.append(draft.finish())

    def _name_addr(self, tokens: Tokens, draft: _Draft) -> bool:
        """[display-name] "<" ... ">".  False: this is something else."""
        name: list[bytes] = []
        try:
            tokens.phrase(name)
        except Malformed:
            return False
        if not tokens.next_is(b"<"):
            return False
        draft.name = b"".join(name) or None
        try:
            self._angle_addr(tokens, draft)
        except Malformed:
            if draft.route != INVALID_ROUTE:
                draft.domain = SYNTAX_ERROR
        return True

    def _angle_addr(self, tokens: Tokens, draft: _Draft) -> None:
        tokens.at += 1
        tokens.skip_space()
        if tokens.next_is(b"@"):
            self._route(tokens, draft)
        if not tokens.next_is(b">"):  # "<>" is an address without anything
            self._local_part(tokens, draft)
            if tokens.next_is(b"@"):
                self._domain(tokens, draft)
        if not tokens.next_is(b">"):
            raise Malformed
        tokens.at += 1
        tokens.skip_space()

    def _route(self, tokens: Tokens, draft: _Draft) -> None:
        route: list[bytes] = []
        try:
            while tokens.next_is(b"@"):
                route.append(b",@" if route else b"@")
                tokens.domain(route)
                while tokens.next_is(b","):
                    tokens.at += 1
                    tokens.skip_space()
            if not tokens.next_is(b":"):
                raise Malformed
        except Malformed:
            draft.route = INVALID_ROUTE
            raise
        draft.route = b"".join(route)
        tokens.at += 1
        tokens.skip_space()

    def _local_part(self, tokens: Tokens, draft: _Draft) -> None:
        if tokens.next_is(b'"'):
            draft.mailbox = tokens.quoted_string()
            return
        local: list[bytes] = []
        tokens.dot_atom(local)
        draft.mailbox = b"".join(local)

    def _domain(self, tokens: Tokens, draft: _Draft) -> None:
        domain: list[bytes] = []
        tokens.domain(domain)
        if domain[0] == b"." or domain[-1] == b".":
            raise Malformed
        draft.domain = b"".join(domain)

    def _addr_spec(self, tokens: Tokens, draft: _Draft) -> bool:
        """local-part "@" domain, with a comment after it for a name (RFC 822 habit).

        Returns whether there was an "@", followed by a domain or not.
        """
        tokens.last_comment = b""
        with contextlib.suppress(Malformed):
            self._local_part(tokens, draft)
        had_domain = tokens.next_is(b"@")
        if had_domain:
            with contextlib.suppress(Malformed):
                self._domain(tokens, draft)
        draft.name = tokens.last_comment or None
        return had_domain


def _words(tokens: Tokens) -> bytes:
    """A phrase, or nothing if it is broken."""
    words: list[bytes] = []
    try:
        tokens.phrase(words)
    except Malformed:
        return b""
    return b"".join(words)
