"""Text of a configuration file -> a tree of blocks and assignments, each with its place.

The language is line oriented (Dovecot's "Config File Syntax"): `key = value`, `kind name {`, `}`,
`#` comments, `\\` at a line's end, quotes, `!include`.  Beyond it, one setting may stand on the
line that opens its block.  Nothing here knows what a setting means.  Any input gives a tree; what
cannot be read becomes a Problem.
"""

import errno
import glob
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sharefs.config.problems import Problems
from sharefs.errors import Place

MAX_FILE: Final = 16 << 20  # octets; a real configuration is a thousandth of it
MAX_LINE: Final = 64 << 10  # characters of one logical line
MAX_DEPTH: Final = 16  # blocks within blocks; Dovecot's deepest real nesting is five
MAX_INCLUDES: Final = 16  # files within files
MAX_FILES: Final = 1000

_KEY: Final = re.compile(r"[^\s={}\"']+?(?=\s|=|\+=|\{|\}|$)")
_OPERATOR: Final = re.compile(r"\s*(\+?=)\s*")
_WORD: Final = re.compile(r"\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\"{][^\s]*))")
_QUOTED: Final = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
# Up to a comment: quoted texts may hold #, and so may all that follows a quote that never closes.
_UNCOMMENTED: Final = re.compile(
    r"(?:[^#\"']+|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[\"'].*)*+", re.DOTALL
)
_HERE: Final = re.compile(r"<<([A-Za-z0-9_-]+)")
_SECOND: Final = re.compile(r"^[^\"']*\s=(?:\s|$)")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def _split_closing(text: str) -> tuple[str, str]:
    """Split "yes } }" into "yes" and "}}".  A brace belongs to the value unless space precedes."""
    value, closing = text.rstrip(), ""
    while value == "}" or value.endswith((" }", "\t}")):
        value, closing = value[:-1].rstrip(), closing + "}"
    return value, closing


def read_regular(path: Path | str, limit: int) -> tuple[bytes, tuple[int, int]]:
    """A regular file's octets, and its device and inode.

    Raises OSError, also for what is no regular file or larger than limit, ValueError for a NUL in
    path.
    """
    # O_NONBLOCK: a FIFO in the way must not hang us.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if facts.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} octets")
        with open(fd, "rb", closefd=False) as file:
            return file.read(limit), (facts.st_dev, facts.st_ino)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Assign:
    """`name = value`.  quoted: quotes protected the value from $ and < expansion."""

    name: str
    value: str
    place: Place
    append: bool = False
    quoted: bool = False


@dataclass(slots=True)
class _Here:
    """A value of several lines, `name = <<MARKER`, while it is being read."""

    name: str
    marker: str
    place: Place
    into: "Block"
    lines: list[str] = field(default_factory=list)

    def finish(self) -> None:
        text = "".join(line + "\n" for line in self.lines)
        self.into.items.append(Assign(self.name, text, self.place, quoted=True))


@dataclass(slots=True)
class Block:
    """`kind names... { items }`.  The whole file is a Block of kind ""."""

    kind: str
    names: tuple[str, ...]
    place: Place
    items: "list[Assign | Block]" = field(default_factory=list)


def _remedy(error: OSError | ValueError, path: Path, asked: Place) -> str:
    if isinstance(error, FileNotFoundError) and asked == Place(str(path)):
        return "write it, or name another one with -c"  # nothing includes it
    return "make it readable, or take it out"


class Reader:
    """Reads one configuration and what it includes.  files: their names, in reading order."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.files: list[str] = []
        self._here: _Here | None = None

    def read_file(self, path: Path) -> Block:
        root = Block("", (), Place(str(path)))
        self._file(path, root, (), Place(str(path)))
        return root

    def read_text(self, text: str, name: str) -> Block:
        root = Block("", (), Place(name))
        self.files.append(name)
        self._parse(text, name, root, (), Path())
        return root

    def _file(self, path: Path, into: Block, within: tuple[tuple[int, int], ...],
              asked: Place) -> None:  # fmt: skip
        """Read path into a block.  asked: the line that wants it, for the report."""
        octets, identity = self._octets(path, asked)
        if octets is None:
            return
        if identity in within:
            self.problems.error("include-loop", asked, f"{path} includes itself",
                                "remove this line")  # fmt: skip
            return
        if len(within) >= MAX_INCLUDES or len(self.files) >= MAX_FILES:
            self.problems.error(
                "include-depth",
                asked,
                f"{path} is not read: too many files",
                f"nest at most {MAX_INCLUDES} files, {MAX_FILES} altogether",
            )
            return
        if str(path) not in self.files:
            self.files.append(str(path))
        text = self._text(octets, str(path))
        self._parse(text, str(path), into, (*within, identity), path.parent)

    def _octets(self, path: Path, asked: Place) -> tuple[bytes | None, tuple[int, int]]:
        try:
            return read_regular(path, MAX_FILE)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problems.error("unreadable", asked, f"cannot read {path}: {reason}",
                                _remedy(error, path, asked))  # fmt: skip
            return None, (0, 0)

    def _text(self, octets: bytes, name: str) -> str:
        octets = octets.removeprefix(b"\xef\xbb\xbf")
        try:
            return octets.decode()
        except UnicodeDecodeError as error:
            line = octets.count(b"\n", 0, error.start) + 1
            self.problems.error("bad-utf8", Place(name, line), "the text is not UTF-8",
                                "save the file as UTF-8")  # fmt: skip
            return octets.decode(errors="replace")

    def _lines(self, text: str, name: str) -> Iterator[tuple[Place, str]]:
        """Logical lines without their comments' lines: continuations joined by one space."""
        held: list[str] = []
        length, start = 0, 0
        for number, physical in enumerate(text.split("\n"), 1):
            if self._here is not None:
                if physical.strip() == self._here.marker:
                    self._here.finish()
                    self._here = None
                else:
                    self._here.lines.append(physical.rstrip("\r"))
                continue
            line = physical.strip(" \t\r\f\v")
            if "\0" in line:
                self.problems.error("nul", Place(name, number), "the line holds a NUL",
                                    "remove it: no setting may hold one")  # fmt: skip
                line = line.replace("\0", "")
            if line.startswith("#") or (not line and not held):
                continue
            start = start or number
            length += len(line)
            if length > MAX_LINE:
                self.problems.error("long-line", Place(name, start),
                                    f"the line is longer than {MAX_LINE} characters")  # fmt: skip
                held, length, start = [], 0, 0
                continue
            if line.endswith("\\"):
                held.append(line[:-1].rstrip())
                continue
            yield Place(name, start), " ".join([*held, line])
            held, length, start = [], 0, 0
        if held:
            yield Place(name, start), " ".join(held)
        if self._here is not None:
            self.problems.error("syntax", self._here.place,
                                f"the text after <<{self._here.marker} never ends",
                                f"write {self._here.marker} on a line of its own")  # fmt: skip
            self._here = None

    def _parse(self, text: str, name: str, into: Block, within: tuple[tuple[int, int], ...],
               folder: Path) -> None:  # fmt: skip
        stack = [into]
        for place, line in self._lines(text, name):
            rest, inline = line, 0
            while rest:
                if rest.startswith("}"):
                    if len(stack) == 1:
                        self.problems.error("brace", place, "this } closes nothing",
                                            "remove it, or find the { that is missing")  # fmt: skip
                    else:
                        stack.pop()
                    inline -= 1
                    rest = rest[1:].lstrip()
                    if rest.startswith("#"):
                        break
                    continue
                if rest.startswith("!"):
                    self._include(rest, place, stack[-1], within, folder)
                    break
                if rest.startswith("#"):
                    break
                rest, opened = self._statement(rest, place, stack[-1], inline)
                if opened is not None:
                    if len(stack) > MAX_DEPTH:
                        self.problems.error("depth", place, "blocks are nested too deeply",
                                            f"nest at most {MAX_DEPTH}")  # fmt: skip
                        return
                    stack[-1].items.append(opened)
                    stack.append(opened)
                    inline += 1
        for block in stack[1:]:
            label = " ".join([block.kind, *block.names])
            self.problems.error("brace", block.place, f"`{label} {{` is never closed",
                                "write } on a line of its own")  # fmt: skip

    def _statement(self, text: str, place: Place, into: Block,
                   inline: int) -> tuple[str, Block | None]:  # fmt: skip
        """Take one assignment or block opening.  Returns what is left of the line."""
        key = _KEY.match(text)
        if key is None:
            self._syntax(place, text)
            return "", None
        operator = _OPERATOR.match(text, key.end())
        if operator is None:
            return self._opening(text, place, key)
        value, rest = text[operator.end() :], ""
        if inline > 0:  # the block was opened on this line, so its } may be here too
            value, rest = _split_closing(value)
            if _SECOND.search(value):
                self.problems.error("syntax", place, "there are several settings on this line",
                                    "write each on a line of its own")  # fmt: skip
                return rest, None
        marker = _HERE.fullmatch(value.strip())
        if marker is not None:
            self._here = _Here(key[0], marker[1], place, into)
            return rest, None
        into.items.append(self._assign(key[0], value, operator[1] == "+=", place))
        return rest, None

    def _assign(self, name: str, value: str, append: bool, place: Place) -> Assign:
        quoted = _QUOTED.match(value)
        if quoted is not None:
            after = value[quoted.end() :].strip()
            if not after or after.startswith("#"):
                inner = quoted[1] if quoted[1] is not None else quoted[2]
                return Assign(name, _ESCAPE.sub(r"\1", inner), place, append, quoted=True)
        elif value[:1] in ('"', "'"):
            self.problems.error("quote", place, f"the quote in the value of {name} is not closed",
                                f"end it with {value[0]}")  # fmt: skip
        kept = _UNCOMMENTED.match(value)
        if kept is not None and kept.end() < len(value):
            value = value[: kept.end()]
            if value and not value[-1].isspace():
                self.problems.warning(
                    "ambiguous-comment", place, f"# in the value of {name} begins a comment",
                    f'write {name} = "..." if it belongs to the value, or a space before it',
                )  # fmt: skip
        return Assign(name, value.strip(), place, append)

    def _opening(self, text: str, place: Place, key: re.Match[str]) -> tuple[str, Block | None]:
        names: list[str] = []
        at = key.end()
        while True:
            brace = re.compile(r"\s*\{").match(text, at)
            if brace is not None:
                rest = text[brace.end() :].strip()
                return rest, Block(key[0], tuple(names), place)
            word = _WORD.match(text, at)
            if word is None or word.end() == at:
                self._syntax(place, text)
                return "", None
            if word[1] is not None:
                names.append(_ESCAPE.sub(r"\1", word[1]))
            elif word[2].endswith("{") and text[word.end() :].strip() == "":
                names.append(word[2][:-1])  # `namespace inbox{`
                return "", Block(key[0], tuple(names), place)
            else:
                names.append(word[2])
            at = word.end()

    def _syntax(self, place: Place, text: str) -> None:
        shown = text if len(text) <= 60 else text[:57] + "..."
        self.problems.error("syntax", place, f"cannot make sense of `{shown}`",
                            "write `setting = value`, `block name {` or `}`")  # fmt: skip

    def _include(self, line: str, place: Place, into: Block,
                 within: tuple[tuple[int, int], ...], folder: Path) -> None:  # fmt: skip
        word, _, pattern = line.partition(" ")
        pattern = re.sub(r"(?:^|\s)#.*", "", pattern).strip().strip("\"'")
        if word not in ("!include", "!include_try") or not pattern:
            self.problems.error("syntax", place, f"cannot make sense of `{line[:60]}`",
                                "write `!include FILE` or `!include_try FILE`")  # fmt: skip
            return
        try:
            found = sorted(glob.glob(str(folder / pattern)))
        except (OSError, ValueError, re.error) as error:
            self.problems.error("include", place, f"cannot expand {pattern}: {error}")
            return
        if not found and word == "!include" and not glob.has_magic(pattern):
            self.problems.error("include", place, f"no file matches {pattern}",
                                "use !include_try if there may be none")  # fmt: skip
        for name in found:
            self._file(Path(name), into, within, place)
