"""The view: to each caller his own tree of mailboxes, under the rights of their ACLs.

`/` holds the caller's own directory, `/<user>` a Maildir++ tree: INBOX itself, and every mailbox
that the user may look up.  A directory of the view knows its mailbox and whose view it is in; the
files below are opened by this process, so nobody's home must be open to others.  What policy says
of rights is asked at every operation; callers who are neither the viewer nor root find nothing.
"""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sharefs.fsops import Ownership
from sharefs.mount import policy
from sharefs.mount.caller import Caller
from sharefs.mount.creation import Place, owner_in_view, ownership
from sharefs.mount.entries import Entry, entry_of, virtual_directory
from sharefs.mount.handles import Handle
from sharefs.mount.leave import Acts, KnownName, Leave
from sharefs.mount.nodes import NOWHERE, Node
from sharefs.mount.policy import Spot
from sharefs.mount.view_law import Law
from sharefs.mount.view_seats import Seat
from sharefs.mount.viewers import FRESH

TOP_MODE: Final = 0o755
HOME_MODE: Final = 0o700
MESSAGE_FOLDERS: Final = frozenset({Spot.CUR, Spot.NEW, Spot.TMP})
STICKY: Final = stat.S_ISVTX  # the kernel would judge by it; here rights do


class ViewTree(Law):
    """What is shown, and what new files get.  See the module."""

    # --- showing -------------------------------------------------------------------------

    def entry(self, node: Node, caller: Caller, status: os.stat_result | None = None) -> Entry:
        if node.place is None and node.is_dir:
            return virtual_directory(node, 0, TOP_MODE, self.timeout)
        if node.identity == NOWHERE:
            return virtual_directory(node, self.seat(node).box.viewer.uid, HOME_MODE, 0)
        entry = entry_of(node, status or self.gate.status(node), self.timeout)
        if node.is_dir:
            entry.st_mode &= ~STICKY
            seat: Seat = node.place
            if seat.spot is Spot.MAILBOX and seat.box.is_home:
                # Every path goes through here, and for each caller the answer is another one.
                entry.entry_timeout = 0
        return entry

    def lost(self, node: Node, parent: Node, name: str) -> None:
        if not node.is_dir:
            node.place = self.seat_of(parent, name)  # what it was, for whoever has it open
        super().lost(node, parent, name)

    def open_directory(self, node: Node) -> int:
        if node.place is None or node.identity == NOWHERE:
            return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return super().open_directory(node)

    def names(self, handle: Handle) -> list[str]:
        node = handle.node
        if node.place is None:
            return self.viewers.names_of(handle.caller.uid)
        seat = self.seat(node)
        below = [] if node.identity == NOWHERE else self.listed(handle.fd)
        if seat.spot is not Spot.MAILBOX:
            return below
        shown = [name for name in below if not name.startswith(".") or not seat.box.is_home]
        return shown + list(seat.box.viewer.directories()) if seat.box.is_home else shown

    # --- without being asked ---------------------------------------------------------------

    def leave(self, directory: Node, caller: Caller) -> Leave | None:
        """In cur, new and tmp, for as long as the rights are known."""
        seat = directory.place
        if seat is None or seat.spot not in MESSAGE_FOLDERS:
            return None
        rights = self.rights(seat.box, caller)
        acts = policy.acts_without_asking(seat.spot, rights)
        if caller.is_superuser:  # whose changes of modes count
            acts = acts & ~Acts.PRETEND | Acts.PERMIT
        if seat.box.is_own and acts & Acts.OPEN:
            acts |= Acts.BRING_ALONG
        if not self.devices.is_local(directory.identity[0], self.gate.directory(directory)):
            acts &= ~Acts.LOCAL
        until = time.monotonic() + FRESH if caller.is_superuser else seat.box.rights_until()
        return Leave(acts, self.timeout, self.timeout, uid=caller.uid, until=until, hidden=STICKY)

    def known_name(self, directory: Node, name: str, caller: Caller) -> KnownName | None:
        """A home with its INBOX: every path leads through it."""
        if directory.place is not None:
            return None
        node = self.home(name, caller)
        box = self.seat(node).box
        if box.home != node.ino:
            return None
        return KnownName(node, caller.uid, box.home_until, 0, self.timeout, hidden=STICKY)

    def on_revoke(self, revoke: Callable[[], None]) -> None:
        self.viewers.on_forget = revoke

    # --- creating ------------------------------------------------------------------------

    def owned(self, parent: Node, caller: Caller, *, directory: bool = False) -> Ownership:
        place = self.place(parent)
        uid = place.source.uid if caller.is_superuser else owner_in_view(place, caller.uid)
        return ownership(place, uid, caller.gid, directory=directory)

    def place(self, parent: Node) -> Place:
        seat: Seat = parent.place
        if seat.spot is Spot.MAILBOX:
            return super().place(parent)
        place = super().place(parent)
        above = next(reversed(parent.names))[0]
        return replace(place, source=super().place(above).holder)
