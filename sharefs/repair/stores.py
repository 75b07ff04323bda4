"""Changes that make the stores of one owner agree: ACL files, the sharing map's file, links.

Reads ACL files through pinned directories; decides by sharing.tidy and sharing.keys.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from sharefs import fsops
from sharefs.identity.model import MailUser
from sharefs.repair.change import Change, Kind
from sharefs.repair.plan_file import Note
from sharefs.sharing.acl_text import parse_acl
from sharefs.sharing.files import MAX_SIZE
from sharefs.sharing.tidy import tidy

Value = tuple[str, str | None, str | None]
"""The finding, the old value, the new one."""


def plan_stores(
    owner: MailUser, described: Mapping[str, Any], map_path: str | None, notes: list[Note]
) -> Iterator[Change]:
    """described: of survey.describe_stores().  map_path: the sharing map's file, None if it is
    kept elsewhere; then a note says how to bring it in line."""
    for path in described["acls"]:
        yield from _acl_changes(owner, os.path.realpath(str(path)), notes)
    if described["problem"]:
        notes.append(Note(owner.name, f"the sharing map: {described['problem']}"))
    keys: list[Value] = [("map-stale", str(key), None) for key in described["removed"]]
    keys += [("map-missing", None, str(key)) for key in described["added"]]
    if keys and map_path is None:
        text = f"the sharing map is no file: use sharefs map rebuild -u {owner.name}"
        notes.append(Note(owner.name, text))
    elif keys and map_path is not None:
        yield from _at(Kind.MAP_ENTRY, os.path.realpath(map_path), keys, notes)
    for path, target, state in described["links"]:
        finding = "link-dangling" if state == "dangling" else "link-loop"
        yield from _at(Kind.SYMLINK, _real_parent(str(path)), [(finding, target, None)], notes)
    for path, target in described["unlinked"]:
        finding = "link-without-children"
        yield from _at(Kind.SYMLINK, _real_parent(str(path)), [(finding, None, target)], notes)


def _real_parent(path: str) -> str:
    """The link's own name in the directory that it really lies in."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _at(kind: Kind, path: str, values: list[Value], notes: list[Note]) -> Iterator[Change]:
    try:
        handle = fsops.pin(os.path.dirname(path))
    except OSError as error:
        notes.append(Note(path, f"cannot be reached: {error.strerror}"))
        return
    status = os.fstat(handle)
    os.close(handle)
    for finding, old, new in values:
        yield Change(kind, path, old, new, status.st_dev, status.st_ino, finding)


def _acl_changes(owner: MailUser, path: str, notes: list[Note]) -> Iterator[Change]:
    try:
        octets = _read(owner, path)
    except FileNotFoundError:
        return
    except OSError as error:
        notes.append(Note(path, f"is not an ACL file that can be mended: {error.strerror}"))
        return
    tidied = tidy(octets, path)
    lines = octets.split(b"\n")
    values: list[Value] = []
    for old, new in tidied.mended:
        if lines.count(old.encode("utf-8", "surrogateescape")) > 1:
            notes.append(Note(path, f"the line {old!r} stands there twice: sharefs acl fmt"))
            continue
        malformed = parse_acl(old.encode("utf-8", "surrogateescape"), "").malformed
        values.append(("acl-malformed" if malformed else "acl-doubtful", old, new))
    yield from _at(Kind.ACL_LINE, path, values, notes)
    notes += [Note(path, f"a person must mend this: {problem}") for problem in tidied.left]


def _read(owner: MailUser, path: str) -> bytes:
    """Raises OSError; PermissionError for a file that is not the owner's."""
    handle = fsops.pin(os.path.dirname(path))
    try:
        with open(fsops.open_file(os.path.basename(path), dir_fd=handle), "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != owner.uid:
                raise PermissionError(1, f"it belongs to uid {status.st_uid}", path)
            return file.read(MAX_SIZE)
    finally:
        os.close(handle)
