"""A FUSE file system of some user's that everybody may enter, and that does not answer."""

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sharefs.mount.protocol import IN_HEADER, INIT_OUT, MAJOR, MINOR, OUT_HEADER, Opcode

_NOSUID_NODEV: Final = 2 | 4
_DETACH: Final = 2
_BUFFER: Final = 1 << 18  # octets; more than the largest request, or read(2) refuses
_libc: Final = ctypes.CDLL(None, use_errno=True)


class HangingFileSystem:
    """Mounted as fusermount3 does it for this uid.  top: an existing directory."""

    def __init__(self, top: Path, uid: int) -> None:
        self.top = top
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode=40000,user_id={uid},group_id={uid},allow_other"
        result = _libc.mount(
            b"hanging", os.fsencode(top), b"fuse.hanging", _NOSUID_NODEV, options.encode()
        )
        if result != 0:
            error = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(error, os.strerror(error), os.fspath(top))
        request = self._read()
        if request is None:
            return  # aborted already
        _, opcode, unique, _ = IN_HEADER.unpack_from(request)
        assert opcode == Opcode.INIT
        answer = INIT_OUT.pack(MAJOR, MINOR, 0, 0, 12, 9, 1 << 17, 1, 32, 0, 0, 0)
        with contextlib.suppress(OSError):
            os.write(self._fd, OUT_HEADER.pack(16 + len(answer), 0, unique) + answer)

    def _read(self) -> bytes | None:
        """A request; None: the kernel has given this file system up."""
        try:
            return os.read(self._fd, _BUFFER)
        except OSError as error:
            if error.errno not in (errno.ECONNABORTED, errno.ENODEV):
                raise
            return None

    def is_aborted(self) -> bool:
        """Takes a request away, if there is one."""
        os.set_blocking(self._fd, False)
        try:
            return self._read() is None
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Whoever waits for it gets an error."""
        _libc.umount2(os.fsencode(self.top), _DETACH)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
