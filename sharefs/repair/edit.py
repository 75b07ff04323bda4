"""Small text files edited one line at a time: ACL files and the sharing map's file.  Pure.

None stands for a file that is not there.  Lines that are not concerned keep every octet.
"""

from typing import Final

from sharefs.errors import Code, SharingError
from sharefs.repair.change import Change, Kind, is_good_acl_line
from sharefs.sharing.dict_file import tab_escape

_SHARED: Final = "1"  # the value of every key of the sharing map


class Changed(SharingError):
    """The world is not what it was when the plan was made: nothing was done."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.CANNOT, detail)


def edited(change: Change, before: bytes | None) -> bytes:
    """The file's content afterwards.  Raises Changed if what should go is not there."""
    match change.kind:
        case Kind.ACL_LINE:
            return _edit_lines(change, before)
        case Kind.MAP_ENTRY:
            return _edit_map(change, before)
    raise AssertionError(f"{change.kind} is not about a line")


def is_done(change: Change, content: bytes | None) -> bool:
    """Whether a file already says what the change is to make it say."""
    if change.kind is Kind.MAP_ENTRY:
        keys = _keys(content)
        return (change.new is None or _encoded(change.new) in keys) and (
            change.old is None or _encoded(change.old) not in keys
        )
    lines = (content or b"").split(b"\n")
    if change.old is not None and _octets(change.old) in lines:
        return False
    if change.new is not None:
        return _octets(change.new) in lines
    # A line that should go and is not there: another one about the same identifier may be what
    # somebody made of it.
    word = _octets(change.old or "").split(b" ")[0]
    return all(line.split(b" ")[0] != word for line in lines)


def _edit_lines(change: Change, before: bytes | None) -> bytes:
    text = before or b""
    lines = text.split(b"\n")
    if change.new is not None and _octets(change.new) in lines:
        raise Changed(f"{change.path} says {change.new!r} already")
    if change.new is not None and not is_good_acl_line(change.new):
        raise SharingError(
            Code.INVALID, f"{change.path}: {change.new!r} would make the file unreadable"
        )
    if change.old is None:
        assert change.new is not None
        end = b"" if not text or text.endswith(b"\n") else b"\n"
        return text + end + _octets(change.new) + b"\n"
    old = _octets(change.old)
    if lines.count(old) != 1:
        raise Changed(
            f"{change.path} has the line {change.old!r} {lines.count(old)} times, and not once"
        )
    at = lines.index(old)
    lines[at : at + 1] = [] if change.new is None else [_octets(change.new)]
    return b"\n".join(lines)


def _edit_map(change: Change, before: bytes | None) -> bytes:
    text = before or b""
    if text and not text.endswith(b"\n"):
        raise Changed(f"{change.path} ends in the middle of a line")
    keys = _keys(text)
    lines = text.split(b"\n")[:-1]
    if change.old is not None:
        old = _encoded(change.old)
        if keys.count(old) != 1:
            raise Changed(
                f"{change.path} has the key {change.old!r} {keys.count(old)} times, and not once"
            )
        at = 2 * keys.index(old)
        del lines[at : at + 2]
    if change.new is not None:
        new = _encoded(change.new)
        if new in keys:
            raise Changed(f"{change.path} has the key {change.new!r} already")
        lines += [new, _SHARED.encode()]
    return b"".join(line + b"\n" for line in lines)


def _keys(content: bytes | None) -> list[bytes]:
    return (content or b"").split(b"\n")[:-1:2]


def _encoded(key: str) -> bytes:
    return _octets(tab_escape(key))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
