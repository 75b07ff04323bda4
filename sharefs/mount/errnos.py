"""Refusals and exceptions as errno values: the one place that translates."""

import errno
import logging
from types import TracebackType
from typing import Final

import pyfuse3

from sharefs.errors import Code, SharingError
from sharefs.mount.questions import NotYet

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


class Answering:
    """`with answering:` around a handler: whatever it raises reaches the caller as an errno.

    Our own bugs become EIO and a traceback in the log: one bad request must not take the mail of
    everybody else on the host away.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, pyfuse3.FUSEError | NotYet):
            return
        if isinstance(error, OSError):
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from error
        if isinstance(error, SharingError):
            log.debug("refused: %s", error.detail)
            raise pyfuse3.FUSEError(ERRNO[error.code]) from error
        if isinstance(error, Exception):
            log.error("a request failed, which is a bug", exc_info=error)
            raise pyfuse3.FUSEError(errno.EIO) from error


answering: Final = Answering()
