"""Whether nothing can be written there, whoever it is."""

import ctypes
import errno
import os
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.access.argtypes = (ctypes.c_char_p, ctypes.c_int)


def is_read_only(file: int | str) -> bool:
    """Of a path, or an open descriptor.  False if that cannot be found out.

    statvfs(3) tells of the mount.  A Btrfs subvolume may be read-only by itself, as snapshots are,
    which access(2) alone tells: before it looks at modes, so it does not matter who asks.
    """
    try:
        if os.statvfs(file).f_flag & os.ST_RDONLY:
            return True
    except OSError:
        return False
    path = f"/proc/self/fd/{file}" if isinstance(file, int) else file
    refused = _libc.access(os.fsencode(path), os.W_OK)
    return bool(refused) and ctypes.get_errno() == errno.EROFS
