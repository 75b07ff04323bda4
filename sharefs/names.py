"""Mailbox name <-> storage name: layouts, modified UTF-7, and which names are legal.  Pure.

A mailbox name is a tuple of decoded Unicode levels.  A storage name is its path below the mail
root: `.a.b` in Maildir++, `a/b` in the fs layout, in modified UTF-7 (RFC 3501 section 5.1.3)
unless the namespace keeps UTF-8 on disk (`mailbox_list_utf8`).  INBOX is not mapped here: where
it lives is the storage's business.
"""

import binascii
import encodings.utf_16_be  # noqa: F401  # or it is looked for after privileges were dropped
import enum
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sharefs.errors import Code, SharingError

Levels = tuple[str, ...]

MAX_COMPONENT: Final = 255  # bytes in one path component; NAME_MAX of every Linux file system
MAX_PATH: Final = 4096  # bytes in a whole path; PATH_MAX of linux/limits.h, with its NUL
MAX_LEVELS: Final = 255  # deeper trees only serve to exhaust recursive clients

_UNSHIFTED: Final = re.compile(r"[ -%'-~]*\Z")  # printable US-ASCII but "&" stands for itself
_RUNS: Final = re.compile(r"([ -%'-~]+)|(&)|([^ -~]+)")
_SHIFTED: Final = re.compile(r"&([A-Za-z0-9+,]*)-")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_MAIL_DIRECTORIES: Final = frozenset({"cur", "new", "tmp"})
# Files that live beside fs-layout mailboxes; a mailbox of that name would collide with them.
_CONTROL_FILES: Final = frozenset({"maildirfolder", "maildirsize", "subscriptions"})
_CONTROL_PREFIXES: Final = ("dovecot-", "dovecot.")


class Layout(enum.StrEnum):
    """How mailboxes are laid out below the root.  Values are Dovecot's setting values."""

    MAILDIRPP = "maildir++"
    FS = "fs"

    @property
    def separator(self) -> str:
        return "." if self is Layout.MAILDIRPP else "/"


@dataclass(frozen=True, slots=True)
class Naming:
    """The naming rules of one storage.  utf8: names are UTF-8 on disk, not modified UTF-7."""

    layout: Layout = Layout.MAILDIRPP
    utf8: bool = False


class Flaw(enum.StrEnum):
    """Why a name cannot be used.  The value completes the sentence "the mailbox name ..."."""

    EMPTY = "is empty"
    EMPTY_LEVEL = "has an empty hierarchy level"
    DOT_LEVEL = "has a level '.' or '..'"
    TILDE = "begins with '~'"
    CONTROL = "has a control character"
    NOT_UNICODE = "is not valid Unicode text"
    SLASH = "has '/' inside a hierarchy level"
    SEPARATOR = "has '.', the separator of the Maildir++ layout, inside a hierarchy level"
    RESERVED = "uses a name that is reserved for the mail files themselves"
    HIDDEN = "has a level that begins with '.', which the fs layout hides"
    COMPONENT_TOO_LONG = "needs more than 255 bytes in one path component"
    TOO_LONG = "needs more than 4096 bytes as a path"
    TOO_DEEP = "has more than 255 hierarchy levels"


def encode_mutf7(text: str) -> str:
    """Modified UTF-7.  Raises SharingError(INVALID) for lone surrogates, which are no text."""
    if _UNSHIFTED.match(text):
        return text
    try:
        return _RUNS.sub(_encode_run, text)
    except UnicodeEncodeError as exc:
        raise SharingError(Code.INVALID, f"{text!r} is not valid Unicode text") from exc


def _encode_run(match: re.Match[str]) -> str:
    plain, ampersand, other = match.groups()
    if plain is not None:
        return plain
    if ampersand is not None:
        return "&-"
    octets = binascii.b2a_base64(other.encode("utf-16-be"), newline=False)
    return "&" + octets.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def decode_mutf7(text: str) -> str:
    """The inverse.  Raises SharingError(INVALID) for anything that encode_mutf7 never writes:

    unshifted octets beyond printable US-ASCII, bad base64, stray padding bits, lone surrogates,
    printable characters in base64, runs that should have been one.  RFC 3501 forbids them all,
    and one mailbox must not have two names.
    """
    if _UNSHIFTED.match(text):
        return text
    try:
        decoded = _SHIFTED.sub(_decode_run, text)
        canonical = encode_mutf7(decoded) == text
    except (ValueError, SharingError):
        canonical = False
    if not canonical:
        raise SharingError(Code.INVALID, f"{text!r} is not modified UTF-7 (RFC 3501 section 5.1.3)")
    return decoded


def _decode_run(match: re.Match[str]) -> str:
    run = match[1].replace(",", "/")
    if not run:
        return "&"
    return binascii.a2b_base64(run + "=" * (-len(run) % 4)).decode("utf-16-be")


@lru_cache(maxsize=4096)  # every command asks about the same few mailboxes
def flaw_of(levels: Levels, naming: Naming) -> Flaw | None:
    """What is wrong with the name, or None if it can be created.  Never raises."""
    if not levels:
        return Flaw.EMPTY
    if len(levels) > MAX_LEVELS:
        return Flaw.TOO_DEEP
    if levels[0].startswith("~"):
        return Flaw.TILDE  # some programs would expand it as a home directory
    for level in levels:
        if flaw := _flaw_of_level(level, naming.layout):
            return flaw
    return _flaw_of_length(_join(levels, naming))


def _flaw_of_level(level: str, layout: Layout) -> Flaw | None:
    maildirpp = layout is Layout.MAILDIRPP
    rules = (  # first match wins
        (not level, Flaw.EMPTY_LEVEL),
        (level in {".", ".."}, Flaw.DOT_LEVEL),
        (_CONTROL.search(level) is not None, Flaw.CONTROL),
        (_SURROGATE.search(level) is not None, Flaw.NOT_UNICODE),
        ("/" in level, Flaw.SLASH),
        (maildirpp and "." in level, Flaw.SEPARATOR),
        (not maildirpp and level.startswith("."), Flaw.HIDDEN),
        (not maildirpp and _is_reserved(level), Flaw.RESERVED),
    )
    return next((flaw for applies, flaw in rules if applies), None)


def _is_reserved(level: str) -> bool:
    return (
        level in _MAIL_DIRECTORIES or level in _CONTROL_FILES or level.startswith(_CONTROL_PREFIXES)
    )


def _flaw_of_length(path: str) -> Flaw | None:
    octets = path.encode("utf-8", "surrogatepass")
    if any(len(component) > MAX_COMPONENT for component in octets.split(b"/")):
        return Flaw.COMPONENT_TOO_LONG
    return Flaw.TOO_LONG if len(octets) >= MAX_PATH else None


def _join(levels: Levels, naming: Naming) -> str:
    written = levels if naming.utf8 else tuple(encode_mutf7(level) for level in levels)
    if naming.layout is Layout.MAILDIRPP:
        return "." + ".".join(written)
    return "/".join(written)


@lru_cache(maxsize=4096)
def storage_path(levels: Levels, naming: Naming) -> str:
    """Path below the root.  Raises SharingError(CANNOT) with the flaw for an illegal name."""
    if flaw := flaw_of(levels, naming):
        raise SharingError(Code.CANNOT, f"the mailbox name {'/'.join(levels)!r} {flaw}")
    return _join(levels, naming)


@lru_cache(maxsize=4096)
def levels_of(path: str, naming: Naming) -> Levels:
    """The name of a path found below the root.

    Raises SharingError(CANNOT) for a path that no legal name leads to, such as `cur`, `..x` or
    a directory whose name is not in the configured encoding: it is no mailbox.
    """
    if naming.layout is Layout.MAILDIRPP:
        if not path.startswith("."):
            raise SharingError(
                Code.CANNOT, f"{path!r} does not begin with '.': no Maildir++ mailbox"
            )
        written = path[1:].split(".")
    else:
        written = path.split("/")
    try:
        levels = tuple(written if naming.utf8 else map(decode_mutf7, written))
    except SharingError as exc:
        raise SharingError(Code.CANNOT, f"{path!r} is no mailbox: {exc.detail}") from exc
    if flaw := flaw_of(levels, naming):
        raise SharingError(Code.CANNOT, f"{path!r} is no mailbox: its name {flaw}")
    return levels
