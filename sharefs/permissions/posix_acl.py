"""POSIX ACLs as the kernel stores them in extended attributes.  Pure.

acl(5); the binary form is linux/posix_acl_xattr.h: a version, then (tag, permissions, id) each.
"""

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ACCESS: Final = "system.posix_acl_access"  # names of the extended attributes
DEFAULT: Final = "system.posix_acl_default"

_VERSION: Final = 2
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_NO_ID: Final = 0xFFFFFFFF


class Tag(enum.IntEnum):
    """What an entry speaks about.  Values are the kernel's; they are also the order of checking."""

    USER_OBJ = 0x01
    USER = 0x02
    GROUP_OBJ = 0x04
    GROUP = 0x08
    MASK = 0x10
    OTHER = 0x20


@dataclass(frozen=True, slots=True)
class AclEntry:
    """bits: rwx as 0-7.  qualifier: uid or gid of USER and GROUP entries, else None."""

    tag: Tag
    bits: int
    qualifier: int | None = None

    def __str__(self) -> str:
        """As getfacl -n prints it."""
        word = {Tag.USER_OBJ: "user", Tag.GROUP_OBJ: "group"}.get(self.tag, self.tag.name.lower())
        name = "" if self.qualifier is None else str(self.qualifier)
        return f"{word}:{name}:{rwx(self.bits)}"


PosixAcl = tuple[AclEntry, ...]


def rwx(bits: int) -> str:
    """5 is "r-x"."""
    return "".join(letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))


def parse_posix_acl(octets: bytes) -> PosixAcl:
    """Read the value of an extended attribute.  Raises ValueError if it is none."""
    if len(octets) < _HEADER.size or (len(octets) - _HEADER.size) % _ENTRY.size:
        raise ValueError(f"a POSIX ACL cannot have {len(octets)} octets")
    (version,) = _HEADER.unpack_from(octets)
    if version != _VERSION:
        raise ValueError(f"POSIX ACL version {version} is unknown")
    return tuple(
        AclEntry(Tag(tag), bits, None if qualifier == _NO_ID else qualifier)
        for tag, bits, qualifier in _ENTRY.iter_unpack(octets[_HEADER.size :])
    )


def format_posix_acl(acl: Sequence[AclEntry]) -> bytes:
    """The inverse; entries come out in the order that the kernel demands."""
    ordered = sorted(acl, key=lambda entry: (entry.tag, entry.qualifier or 0))
    return _HEADER.pack(_VERSION) + b"".join(
        _ENTRY.pack(entry.tag, entry.bits, _NO_ID if entry.qualifier is None else entry.qualifier)
        for entry in ordered
    )


def acl_text(acl: PosixAcl | None) -> str:
    """Entries as getfacl -n prints them, in one line: "user::rwx,user:1002:r-x,...".  "": none."""
    ordered = sorted(acl or (), key=lambda entry: (entry.tag, entry.qualifier or 0))
    return ",".join(map(str, ordered))


def parse_acl_text(text: str) -> PosixAcl:
    """The inverse of acl_text.  Raises ValueError."""
    return tuple(_parse_entry(part) for part in text.split(",")) if text else ()


def _parse_entry(text: str) -> AclEntry:
    word, name, bits = _three(text)
    if len(bits) != 3 or any(
        got not in (letter, "-") for got, letter in zip(bits, "rwx", strict=True)
    ):
        raise ValueError(f"{text!r} does not end in permissions like r-x")
    plain = {"user": Tag.USER_OBJ, "group": Tag.GROUP_OBJ, "mask": Tag.MASK, "other": Tag.OTHER}
    named = {"user": Tag.USER, "group": Tag.GROUP}
    tags = named if name else plain
    if word not in tags or (name and not (name.isascii() and name.isdigit())):
        raise ValueError(f"{text!r} is no entry of a POSIX ACL with numeric ids")
    value = sum(bit for got, bit in zip(bits, (4, 2, 1), strict=True) if got != "-")
    return AclEntry(tags[word], value, int(name) if name else None)


def _three(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError(f"{text!r} is no entry of a POSIX ACL")
    return parts[0], parts[1], parts[2]


def limit_of(acl: PosixAcl) -> int:
    """The most that a default ACL lets through of a mode given to mkdir(2), as 9 mode bits."""
    bits = {entry.tag: entry.bits for entry in acl}
    group = bits.get(Tag.MASK, bits.get(Tag.GROUP_OBJ, 0))
    return bits.get(Tag.USER_OBJ, 0) << 6 | group << 3 | bits.get(Tag.OTHER, 0)
