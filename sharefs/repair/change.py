"""One change: what, where, from which value to which, and what it cures.  Pure.

A change is small enough to be read by a person and exact enough to be refused when the world is
no longer what it was: it names the inode and the value that it expects to find.
"""

import enum
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sharefs.errors import Code, SharingError
from sharefs.permissions.posix_acl import parse_acl_text
from sharefs.sharing.acl_text import parse_acl
from sharefs.sharing.keys import ShareKey

MAX_ID: Final = 0xFFFFFFFE  # of uids and gids; one more means "leave it"


class Kind(enum.StrEnum):
    """What is changed.  Values stand in plan files."""

    CHMOD = "chmod"
    SETGID = "setgid"  # a chmod of nothing but the setgid bit
    CHGRP = "chgrp"
    CHOWN = "chown"
    SETFACL = "setfacl"  # the access ACL; three entries: there is none, but the mode's bits
    DEFACL = "setfacl-default"  # the default ACL of a directory; "": none
    ACL_LINE = "acl-line"  # one line of a mailbox's ACL file
    MAP_ENTRY = "map-entry"  # one key of the sharing map's file
    SYMLINK = "symlink"  # the target of a symbolic link


class Aspect(enum.Enum):
    """What of its subject a change looks at: changes of one aspect build on one another."""

    MODE = "mode"  # mode bits and access ACL: each shows in the other
    GROUP = "group"
    OWNER = "owner"
    DEFAULT = "default ACL"
    CONTENT = "content"  # of a small file
    LINK = "link"


ASPECT: Final = {
    Kind.CHMOD: Aspect.MODE,
    Kind.SETGID: Aspect.MODE,
    Kind.SETFACL: Aspect.MODE,
    Kind.CHGRP: Aspect.GROUP,
    Kind.CHOWN: Aspect.OWNER,
    Kind.DEFACL: Aspect.DEFAULT,
    Kind.ACL_LINE: Aspect.CONTENT,
    Kind.MAP_ENTRY: Aspect.CONTENT,
    Kind.SYMLINK: Aspect.LINK,
}
# Kinds whose device and inode are those of the directory, since the name may not be there yet.
IN_DIRECTORY: Final = frozenset({Kind.ACL_LINE, Kind.MAP_ENTRY, Kind.SYMLINK})


@dataclass(frozen=True, slots=True)
class Change:
    """old, new: values in the text form of the kind; None: there is none.

    device, inode: of the path, or of its directory for the kinds IN_DIRECTORY.  finding: the id
    of what it cures.
    """

    kind: Kind
    path: str
    old: str | None
    new: str | None
    device: int
    inode: int
    finding: str

    @property
    def aspect(self) -> Aspect:
        return ASPECT[self.kind]

    def inverse(self) -> "Change":
        return replace(self, old=self.new, new=self.old)

    def __str__(self) -> str:
        """One line for people."""
        old, new = (value or "(none)" for value in (self.old, self.new))
        return f"{self.kind} {_shown(self.path)}: {_shown(old)} -> {_shown(new)}"


def format_change(change: Change) -> str:
    """One line of JSON, always with the same keys in the same order."""
    return json.dumps(
        {
            "kind": change.kind.value,
            "path": change.path,
            "old": change.old,
            "new": change.new,
            "device": change.device,
            "inode": change.inode,
            "finding": change.finding,
        }
    )


def change_of(fields: object) -> Change:
    """The inverse, from parsed JSON.  Raises SharingError(INVALID) saying what is wrong."""
    if not isinstance(fields, dict):
        raise _invalid("a change is a JSON object")
    wanted = {"kind", "path", "old", "new", "device", "inode", "finding"}
    if fields.keys() != wanted:
        odd = sorted(wanted ^ fields.keys())
        raise _invalid(f"a change has exactly the keys {', '.join(sorted(wanted))}; look at {odd}")
    try:
        kind = Kind(fields["kind"])
    except ValueError:
        raise _invalid(f"unknown kind {fields['kind']!r}") from None
    path, finding = fields["path"], fields["finding"]
    if not isinstance(path, str) or not isinstance(finding, str):
        raise _invalid("path and finding are text")
    if not path.startswith("/") or "\0" in path or {".", ".."} & set(path.split("/")):
        raise _invalid(f"path {path!r} is not absolute, or has a component '.' or '..'")
    for key in ("device", "inode"):
        if type(fields[key]) is not int or fields[key] < 0:
            raise _invalid(f"{key} is a number")
    for key in ("old", "new"):
        _check_value(kind, fields[key])
    if fields["old"] == fields["new"]:
        raise _invalid("old and new are the same")
    return Change(
        kind, path, fields["old"], fields["new"], fields["device"], fields["inode"], finding
    )


def _check_value(kind: Kind, value: object) -> None:
    if value is None:
        if kind not in IN_DIRECTORY:
            raise _invalid(f"{kind} needs an old and a new value")
        return
    if not isinstance(value, str) or "\0" in value:
        raise _invalid("old and new are text")
    try:
        _CHECKS[kind](value)
    except ValueError as flaw:
        raise _invalid(f"{kind}: {value!r}: {flaw}") from None


def _mode(value: str) -> None:
    if len(value) != 4 or any(digit not in "01234567" for digit in value):
        raise ValueError("a mode is four octal digits")


def _id(value: str) -> None:
    if not (value.isascii() and value.isdigit()) or int(value) > MAX_ID:
        raise ValueError("a number is wanted, not a name")


@functools.lru_cache(maxsize=1024)  # a plan has few different ones
def _access(value: str) -> None:
    words = {entry.tag.name for entry in parse_acl_text(value)}
    if not {"USER_OBJ", "GROUP_OBJ", "OTHER"} <= words:
        raise ValueError("user::, group:: and other:: are missing")


def _default(value: str) -> None:
    if value:
        _access(value)


def _acl_line(value: str) -> None:
    if "\n" in value or not value.strip():
        raise ValueError("one line is wanted")


def _link(value: str) -> None:
    if not value:
        raise ValueError("a link needs a target")


def _map_key(value: str) -> None:
    if "\n" in value or ShareKey.parse(value) is None:
        raise ValueError("no key of the sharing map")


_CHECKS: Final[Mapping[Kind, Callable[[str], None]]] = {
    Kind.CHMOD: _mode,
    Kind.SETGID: _mode,
    Kind.CHGRP: _id,
    Kind.CHOWN: _id,
    Kind.SETFACL: _access,
    Kind.DEFACL: _default,
    Kind.ACL_LINE: _acl_line,
    Kind.MAP_ENTRY: _map_key,
    Kind.SYMLINK: _link,
}


def is_good_acl_line(line: str) -> bool:
    """Whether a line would leave an ACL file readable."""
    return not parse_acl(line.encode("utf-8", "surrogateescape"), "").malformed


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c) & 0xFFFF:02x}" for c in text)


def _invalid(text: str) -> SharingError:
    return SharingError(Code.INVALID, text)
