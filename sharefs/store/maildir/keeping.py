"""Keeping a picture for the next process, and going on with one that was kept.

The promise (docs/maildir.md): directories and list tell by device, inode, size, mtime and ctime
that nothing happened.  What is kept was certain when it was written: no change can have hidden in
the tick of the clock in which it was looked at.  It is for one boot of one system, for what a power
cut leaves of a directory may be older than its mtime.
"""

import os
from typing import TYPE_CHECKING, Final

from sharefs.store.boot import this_boot
from sharefs.store.maildir.directory import trace_of
from sharefs.store.maildir.kept import FILE_NAME, Listing, Marks, Place, unpack
from sharefs.store.shelf import Shelf

if TYPE_CHECKING:
    from sharefs.store.maildir.picture import Picture

WORTH: Final = 200  # messages; fewer are listed as quickly as they are read from the shelf


def resume(picture: "Picture", shelf: Shelf) -> Listing | None:
    """What was kept, if cur/ is as it was and the list goes on from there; the list then does.

    What came to new/ and to the list since is for the next look to find.
    """
    if picture.list.version:
        return None  # it is read already
    octets = shelf.read(FILE_NAME)
    kept = None if octets is None else unpack(octets)
    if kept is None or kept.marks.boot != this_boot() or not kept.marks.boot:
        return None
    folders = picture.folders
    try:
        if trace_of(folders.cur.path) != kept.marks.cur or not os.path.isdir(folders.new.path):
            return None
        return kept if picture.list.resume(kept.marks.listed) else None
    except OSError:
        return None


def marks_of(picture: "Picture") -> Marks | None:
    """As they are now.  None: something could still have been missed, or waits for a UID; or it is
    not worth it."""
    if not picture.loaded or len(picture.uids) < WORTH:
        return None
    if picture.strays or picture.folders.doubles:
        return None
    try:
        new, cur = picture.folders.new.settled_trace(), picture.folders.cur.settled_trace()
        listed = picture.list.mark()
    except OSError:
        return None
    if new is None or cur is None or listed is None or not picture.looks_unchanged():
        return None
    return Marks(this_boot(), new, cur, listed)


def listing_of(picture: "Picture", marks: Marks) -> Listing | None:
    """None: there are too many different sets of flags."""
    cur, new = picture.folders.cur.files, picture.folders.new.files
    infos = [cur.get(base) for base in map(picture.base_of.__getitem__, picture.uids)]
    places: list[Place | None] = [None if info is None else (False, info) for info in infos]
    for at, uid in enumerate(picture.uids):
        if infos[at] is None and (info := new.get(picture.base_of[uid])) is not None:
            places[at] = True, info
    return Listing.of(marks, picture.uids, places)
