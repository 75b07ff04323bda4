"""What a file system does, found out by trying: an administrator asks for it (audit --probe DIR).

Everything else of an audit only reads, and what mount options and getxattr(2) say is mostly
enough.  A server behind NFS or a FUSE program may still do otherwise.  So in a directory that the
administrator names, which is never chosen here, a temporary one is made, a few files in it, and
all is removed again.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.audit.mounts import Mount, mount_of, mounts_of_host
from sharefs.permissions.inherit import DEFAULTS
from sharefs.permissions.posix_acl import ACCESS, AclEntry, Tag, format_posix_acl

# Ids that nobody has: what is made belongs to them for a moment, inside of a closed directory.
_UID: Final = 2_147_000_001
_GID: Final = 2_147_000_002
# link(2), chown(2), setxattr(2) of file systems that have no such thing.
_NOT_DONE: Final = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
)
_PREFIX: Final = "sharefs-probe."
_ACL: Final = (
    AclEntry(Tag.USER_OBJ, 7), AclEntry(Tag.USER, 5, _UID), AclEntry(Tag.GROUP_OBJ, 0),
    AclEntry(Tag.MASK, 7), AclEntry(Tag.OTHER, 0),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of it; None where it could not be tried.

    directory: that was named.  point: where its file system is mounted.  flaw: why nothing could
    be tried.  hands_down: setgid directories hand down their group and the bit.
    group_of_directory: so do directories without setgid.  keeps_owners: chown and chmod have an
    effect.  keeps_acls: POSIX ACLs do.  links: there are hard links.  said_grpid: the mount's
    options say group_of_directory.
    """

    directory: str
    point: str = ""
    flaw: str = ""
    hands_down: bool | None = None
    group_of_directory: bool | None = None
    keeps_owners: bool | None = None
    keeps_acls: bool | None = None
    links: bool | None = None
    said_grpid: bool = False


def probe(directory: Path) -> Probed:
    """Try the file system of a directory.  Never raises OSError; leaves nothing behind."""
    real = os.path.realpath(directory)
    mount = mount_of(real, mounts_of_host())
    found = Probed(
        str(directory), "" if mount is None else mount.point,
        said_grpid=mount is not None and mount.group_of_directory,
    )  # fmt: skip
    if os.geteuid() != 0:
        return replace(found, flaw="only root can try: it takes files that belong to others")
    try:
        with _scratch(real) as top:
            return _tried(found, top)
    except OSError as error:
        return replace(found, flaw=f"{error.filename or real}: {error.strerror}")


@contextlib.contextmanager
def _scratch(directory: str) -> Iterator[str]:
    """A directory of our own, and nobody else's; removed with all that is in it."""
    top = os.path.join(directory, fsops.temp_name(_PREFIX))
    fsops.make_dir(top, DEFAULTS)
    try:
        yield top
    finally:
        fsops.remove_tree(top)


def _tried(found: Probed, top: str) -> Probed:
    inside = os.path.join(top, "in")
    fsops.make_dir(inside, DEFAULTS)
    keeps = _works(fsops.change_permissions, inside, gid=_GID) and os.stat(inside).st_gid == _GID
    plain = _made_in(inside, 0o770) if keeps else None
    setgid = _made_in(inside, 0o2770) if keeps else None
    source = os.path.join(top, "file")
    os.close(fsops.create_file(source, DEFAULTS))
    fsops.change_permissions(source, mode=0o640)
    return replace(
        found,
        keeps_owners=keeps and stat.S_IMODE(os.stat(source).st_mode) == 0o640,
        keeps_acls=_works(os.setxattr, source, ACCESS, format_posix_acl(_ACL)),
        links=_works(fsops.link, fsops.Entry(None, source), fsops.Entry(None, f"{source}.2")),
        group_of_directory=None if plain is None else plain[0] == _GID,
        hands_down=None if plain is None or setgid is None else _hands_down(plain, setgid),
    )


def _works(act: Callable[..., object], *arguments: object, **options: object) -> bool:
    """False: the file system does not do that.  Other failures are raised."""
    try:
        act(*arguments, **options)
    except OSError as error:
        if error.errno not in _NOT_DONE:
            raise
        return False
    return True


def _made_in(inside: str, mode: int) -> tuple[int, bool]:
    """Group and setgid bit of a directory made in a directory with that mode and group _GID."""
    fsops.change_permissions(inside, mode=mode)
    name = os.path.join(inside, f"made{mode:o}")
    fsops.make_dir(name, DEFAULTS)
    status = os.stat(name, follow_symlinks=False)
    return status.st_gid, bool(status.st_mode & stat.S_ISGID)


def _hands_down(plain: tuple[int, bool], setgid: tuple[int, bool]) -> bool:
    """Where every directory hands its group down, the bit is not needed, and ext4 drops it."""
    return setgid[0] == _GID and (setgid[1] or plain[0] == _GID)


def refine(mount: Mount, probes: Sequence[Probed]) -> Mount:
    """A mount with what is known of it from trying.  Pure."""
    for one in probes:
        if one.point == mount.point and one.group_of_directory and not mount.group_of_directory:
            mount = replace(mount, options=mount.options | {"grpid"})
    return mount
