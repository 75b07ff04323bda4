"""What somebody wants changed about a file: setattr's arguments.  Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """chmod(2), chown(2), truncate(2), utimensat(2).  None: stays as it is.

    *_ns: nanoseconds since 1970.  drop_set_id: setuid and setgid go with a new size.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    drop_set_id: bool = False
