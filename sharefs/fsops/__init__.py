"""System calls that create, link, move, remove and set permissions: hardened, in one place.

Every function takes a name and an optional dir_fd (None: the name is a path).  Rules of this
package: nothing here follows a symbolic link in the last component unless it says so; every
descriptor is close-on-exec; a name is created with O_EXCL or not at all; nobody ever sees a file
with half its permissions: where a group is to be given, it is made for the owner alone, then given
its group, then its mode.

The umask never matters here and is never touched: it belongs to the whole process.
"""

from sharefs.fsops.base import GroupRefused, Name
from sharefs.fsops.changing import change_permissions, give_away, open_socket_to
from sharefs.fsops.creating import (
    create_file,
    create_unnamed,
    make_dir,
    make_dirs,
    make_root,
    name_file,
    set_permissions,
    symlink,
    temp_name,
    temp_start,
)
from sharefs.fsops.for_others import (
    Ownership,
    allocate,
    chmod_pinned,
    chown_pinned,
    create_owned,
    create_owned_unnamed,
    drop_set_id,
    make_owned_dir,
    make_owned_node,
    make_owned_symlink,
    rename_flags,
    truncate_pinned,
)
from sharefs.fsops.linking import (
    COPY_CHUNK,
    LINK_REFUSED,
    Entry,
    Placed,
    copy_file,
    copy_octets,
    link,
    link_or_copy,
    write_all,
)
from sharefs.fsops.moving import fsync_dir, put_file, rename, rename_new, renamer, replace_file
from sharefs.fsops.opening import (
    DIRECTORY_ONLY,
    directory,
    open_beneath,
    open_dir,
    open_file,
    read_file,
)
from sharefs.fsops.pinning import (
    Dress,
    pin,
    replace_dressed,
    set_link_owner,
    set_mode,
    set_owner,
    through,
)
from sharefs.fsops.removing import exists, remove_tree, rmdir, unlink

__all__ = [
    "COPY_CHUNK",
    "DIRECTORY_ONLY",
    "LINK_REFUSED",
    "Dress",
    "Entry",
    "GroupRefused",
    "Name",
    "Ownership",
    "Placed",
    "allocate",
    "change_permissions",
    "chmod_pinned",
    "chown_pinned",
    "copy_file",
    "copy_octets",
    "create_file",
    "create_owned",
    "create_owned_unnamed",
    "create_unnamed",
    "directory",
    "drop_set_id",
    "exists",
    "fsync_dir",
    "give_away",
    "link",
    "link_or_copy",
    "make_dir",
    "make_dirs",
    "make_owned_dir",
    "make_owned_node",
    "make_owned_symlink",
    "make_root",
    "name_file",
    "open_beneath",
    "open_dir",
    "open_file",
    "open_socket_to",
    "pin",
    "put_file",
    "read_file",
    "remove_tree",
    "rename",
    "rename_flags",
    "rename_new",
    "renamer",
    "replace_dressed",
    "replace_file",
    "rmdir",
    "set_link_owner",
    "set_mode",
    "set_owner",
    "set_permissions",
    "symlink",
    "temp_name",
    "temp_start",
    "through",
    "truncate_pinned",
    "unlink",
    "write_all",
]
