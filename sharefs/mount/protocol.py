"""The kernel's side of FUSE, version 7.38: numbers and layouts, as in linux/fuse.h.  Pure.

Everything is in the machine's own byte order.  Names follow the header file, so that one can be
read beside the other.
"""

import enum
import struct
from typing import Final

MAJOR: Final = 7
MINOR: Final = 38
OLDEST_MINOR: Final = 31  # Linux 5.4: what the layouts below need and more


class Opcode(enum.IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46


class Init(enum.IntFlag):
    """What kernel and daemon agree on at the start."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    FLOCK_LOCKS = 1 << 10
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    ASYNC_DIO = 1 << 15
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    MAX_PAGES = 1 << 22
    HANDLE_KILLPRIV_V2 = 1 << 28


class Fopen(enum.IntFlag):
    """What the kernel may do with one open file."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NOFLUSH = 1 << 5


class Fattr(enum.IntFlag):
    """What a SETATTR changes."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    CTIME = 1 << 10
    KILL_SUIDGID = 1 << 11


GETATTR_FH: Final = 1 << 0
WRITE_KILL_SUIDGID: Final = 1 << 2
OPEN_KILL_SUIDGID: Final = 1 << 0
FSYNC_FDATASYNC: Final = 1 << 0
LK_FLOCK: Final = 1 << 0
# out_header.error of messages that nobody asked for
NOTIFY_INVAL_INODE: Final = 2
NOTIFY_INVAL_ENTRY: Final = 3
NOTIFY_STORE: Final = 4
NOTIFY_INC_EPOCH: Final = 8  # since 7.44
EXPIRE_ONLY: Final = 1 << 0  # of INVAL_ENTRY; before Linux 6.2 the name is forgotten altogether

IN_HEADER: Final = struct.Struct("=IIQQ")  # len opcode unique nodeid
CALLER: Final = struct.Struct("=III")  # uid gid pid, behind it
IN_HEADER_SIZE: Final = 40
CALLER_AT: Final = slice(24, 36)
OUT_HEADER: Final = struct.Struct("=IiQ")  # len error unique

_ATTR: Final = "QQQqqqIIIIIIIIII"  # fuse_attr
_ENTRY: Final = "QQQQII" + _ATTR  # fuse_entry_out
ENTRY_OUT: Final = struct.Struct("=" + _ENTRY)
ATTR_OUT: Final = struct.Struct("=QII" + _ATTR)
OPEN_OUT: Final = struct.Struct("=QIi")  # fh open_flags backing_id
CREATE_OUT: Final = struct.Struct("=" + _ENTRY + "QIi")
DIRENTPLUS: Final = struct.Struct("=" + _ENTRY + "QQII")  # and the name, padded to eight octets
STATFS_OUT: Final = struct.Struct("=QQQQQIII28x")
WRITE_OUT: Final = struct.Struct("=I4x")
GETXATTR_OUT: Final = struct.Struct("=I4x")
LSEEK_OUT: Final = struct.Struct("=Q")
STORE_OUT: Final = struct.Struct("=QQII")  # nodeid offset size padding
INVAL_INODE_OUT: Final = struct.Struct("=Qqq")  # nodeid offset length
INVAL_ENTRY_OUT: Final = struct.Struct("=QII")  # parent namelen flags; and the name, and a zero
INIT_OUT: Final = struct.Struct("=IIIIHHIIHHII24x")

INIT_IN: Final = struct.Struct("=IIII")  # major minor max_readahead flags
FORGET_IN: Final = struct.Struct("=Q")
BATCH_FORGET_IN: Final = struct.Struct("=I4x")
FORGET_ONE: Final = struct.Struct("=QQ")
GETATTR_IN: Final = struct.Struct("=I4xQ")
SETATTR_IN: Final = struct.Struct("=I4xQQQqqqIIIIIII4x")
MKNOD_IN: Final = struct.Struct("=III4x")
MKDIR_IN: Final = struct.Struct("=II")
RENAME_IN: Final = struct.Struct("=Q")
RENAME2_IN: Final = struct.Struct("=QI4x")
LINK_IN: Final = struct.Struct("=Q")
OPEN_IN: Final = struct.Struct("=II")
CREATE_IN: Final = struct.Struct("=IIII")
READ_IN: Final = struct.Struct("=QQI20x")
WRITE_IN: Final = struct.Struct("=QQII16x")
FH_IN: Final = struct.Struct("=Q")  # RELEASE, RELEASEDIR, FLUSH
FLUSH_IN: Final = struct.Struct("=Q8xQ")  # fh lock_owner
INTERRUPT_IN: Final = struct.Struct("=Q")
LK_IN: Final = struct.Struct("=QQQQIII4x")  # fh owner, start end type pid, lk_flags
LK_OUT: Final = struct.Struct("=QQII")
FSYNC_IN: Final = struct.Struct("=QI4x")
SETXATTR_IN: Final = struct.Struct("=II")
GETXATTR_IN: Final = struct.Struct("=I4x")
ACCESS_IN: Final = struct.Struct("=I4x")
FALLOCATE_IN: Final = struct.Struct("=QQQI4x")
LSEEK_IN: Final = struct.Struct("=QQI4x")
