"""Refusals and exceptions as errno values: the one place that translates."""

import errno
import logging
from typing import Final

from sharefs.errors import Code, SharingError

log: Final = logging.getLogger(__name__)

# Total: tests/mount/test_mount_errnos.py.  NONEXISTENT covers mailboxes that must not be known of.
ERRNO: Final = {
    Code.NONEXISTENT: errno.ENOENT,
    Code.ALREADY_EXISTS: errno.EEXIST,
    Code.NO_PERMISSION: errno.EACCES,
    Code.CANNOT: errno.EPERM,
    Code.INVALID: errno.EINVAL,
    Code.IN_USE: errno.EBUSY,
    Code.LIMIT: errno.ENFILE,
    Code.OVER_QUOTA: errno.EDQUOT,
    Code.EXPUNGED: errno.ENOENT,
    Code.CORRUPT: errno.EIO,
    Code.UNAVAILABLE: errno.EIO,
}


def errno_of(error: BaseException) -> int:
    """What a handler raised, as the caller is told it.

    Our own bugs become EIO and a traceback in the log: one bad request must not take the mail of
    everybody else on the host away.
    """
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if isinstance(error, SharingError):
        log.debug("refused: %s", error.detail)
        return ERRNO[error.code]
    log.error("a request failed, which is a bug", exc_info=error)
    return errno.EIO
