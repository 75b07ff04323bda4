"""The subscriptions file: read and written as Dovecot does, always the viewer's own.

A name in it is a *stored name*: levels in the spelling of the layout, joined by the layout's
separator ("Work.Sub" in Maildir++).  Version 2 splits it at that separator and writes the levels
with TABs, so that the dots of "shared/alice@ex.org/Work" become TABs too; joining the levels again
gives the name back.  Names that we do not understand are kept.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.dotlock import DotLock
from sharefs.errors import Code, SharingError
from sharefs.permissions.inherit import Creation

HEADER: Final = b"V\t2\n\n"
LOCK_TIMEOUT: Final = 120  # seconds; formats 2
LOCK_STALE: Final = 30  # seconds; formats 2

_ESCAPES: Final = {"\x01": "\x011", "\t": "\x01t", "\r": "\x01r", "\n": "\x01n", "\0": "\x010"}
_UNESCAPES: Final = {"1": "\x01", "t": "\t", "r": "\r", "n": "\n", "0": "\0"}
_SPECIAL: Final = re.compile("[\x01\t\r\n\0]")
_ESCAPED: Final = re.compile("\x01(.)", re.DOTALL)


def escape(level: str) -> str:
    """Dovecot's tab-escaping: nothing in the result is a TAB or ends a line."""
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], level)


def unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: _UNESCAPES.get(found[1], found[1]), text)


@dataclass(frozen=True, slots=True)
class Content:
    """What a subscriptions file says.  names: stored names, in file order, each once."""

    version: int
    names: tuple[str, ...]


EMPTY: Final = Content(2, ())


def parse(octets: bytes, separator: str) -> Content:
    """Read a file's content.  Never raises: an unknown first line is version 1's first name.

    separator: the layout's, which joins the levels of version 2.
    """
    version = 2 if octets.startswith(HEADER) else 1
    text = octets.removeprefix(HEADER).decode("utf-8", "surrogateescape")
    lines: Iterable[str] = (line for line in text.split("\n") if line)
    if version == 2:
        lines = (separator.join(unescape(level) for level in line.split("\t")) for line in lines)
    return Content(version, tuple(dict.fromkeys(_capital_inbox(line) for line in lines)))


def serialize(content: Content, separator: str) -> bytes:
    """The inverse of parse().  Raises SharingError(CANNOT): version 1 has no line ends in names."""
    if content.version == 2:
        lines = (
            "\t".join(escape(level) for level in name.split(separator)) for name in content.names
        )
        return HEADER + _encode(lines)
    for name in content.names:
        if "\n" in name:
            raise SharingError(Code.CANNOT, f"mailbox name {name!r} contains a line end")
    return _encode(content.names)


def _encode(lines: Iterable[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def _capital_inbox(name: str) -> str:
    return "INBOX" if name.upper() == "INBOX" else name


class Subscriptions:
    """One subscriptions file.  Readers take no lock; a writer replaces the file under a dotlock.

    creation: what a new file gets, asked for when it is needed.  ensure_directory: makes the
    directory of the file when a first subscription comes before anything else.
    """

    def __init__(
        self,
        path: Path,
        separator: str,
        creation: Callable[[], Creation],
        *,
        ensure_directory: Callable[[], object] = lambda: None,
        fsync: bool = True,
    ) -> None:
        self.path = path
        self.separator = separator
        self._creation = creation
        self._ensure_directory = ensure_directory
        self._fsync = fsync
        self._cache: tuple[tuple[int, ...], Content] | None = None

    def names(self) -> tuple[str, ...]:
        """Stored names.  Empty without a file.  Raises SharingError(UNAVAILABLE)."""
        return self._read().names

    def add(self, name: str) -> bool:
        """Returns whether it is new.  Nothing is written if it is not."""
        name = _capital_inbox(name)
        return self._change(
            lambda names: names if name in names else (*names, name)
        )  # fmt: skip

    def remove(self, *gone: str) -> bool:
        """Returns whether any of them was there.  Nothing is written if none was."""
        spelled = {_capital_inbox(name) for name in gone}
        return self._change(lambda names: tuple(name for name in names if name not in spelled))

    def _change(self, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> bool:
        before = self._read()
        if change(before.names) == before.names:
            return False
        try:
            self._ensure_directory()
            with DotLock(
                self.path, timeout=LOCK_TIMEOUT, stale=LOCK_STALE, creation=self._creation()
            ) as lock:
                before = self._read(fresh=True)
                after = change(before.names)
                if after == before.names:
                    return False
                content = serialize(Content(before.version, after), self.separator)
                lock.replace(content, fsync=self._fsync)
        except OSError as error:
            raise SharingError(
                Code.UNAVAILABLE, f"cannot write subscriptions to {self.path}: {error.strerror}"
            ) from error
        return True

    def _read(self, *, fresh: bool = False) -> Content:
        try:
            status = self.path.stat()
            stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if not fresh and self._cache is not None and self._cache[0] == stamp:
                return self._cache[1]
            content = parse(fsops.read_file(self.path, follow=True), self.separator)
        except (FileNotFoundError, NotADirectoryError):
            return EMPTY
        except OSError as error:
            raise SharingError(
                Code.UNAVAILABLE, f"cannot read subscriptions in {self.path}: {error.strerror}"
            ) from error
        self._cache = (stamp, content)
        return content
