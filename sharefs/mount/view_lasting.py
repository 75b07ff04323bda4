"""What the kernel may remember of the view for long: messages, while the viewer's rights last.

The kernel's memory is one for all callers, and so it holds only what every caller who can come here
may know: names and attributes in cur, new and tmp, which have numbers of their own in each viewer's
tree.  The way there, a user's own directory and those of mailboxes, is asked for as ever.

Such answers stand on two grounds.  What is there below is told by events (`lasting`).  What the
viewer may see is not: ACL files, groups, databases and links have a say in it.  So the rights on
which answers were given are asked for again every moment, as long as anything lasts, and with
others everything is taken back.  Root's answers stand on no rights, and never last.
"""

from collections import Counter
from dataclasses import replace
from typing import Final

from sharefs.errors import SharingError
from sharefs.mount.caller import Caller
from sharefs.mount.entries import TIMEOUT, Entry
from sharefs.mount.fanotify import OF_DIRECTORIES, OF_FILES, Mask
from sharefs.mount.lasting import Lasting
from sharefs.mount.leave import Acts, Leave
from sharefs.mount.mount_table import mounts_in_mail_folders
from sharefs.mount.nodes import Node
from sharefs.mount.policy import acts_without_asking
from sharefs.mount.questions import NotYet
from sharefs.mount.remembering import Remembering
from sharefs.mount.tree import Waiting
from sharefs.mount.view_seats import Box, Seat
from sharefs.mount.view_tree import MESSAGE_FOLDERS, STICKY, ViewTree
from sharefs.mount.viewers import Viewer, Viewers
from sharefs.rights import Rights

MAX_BOXES: Final = 1000  # mailboxes in which something may last; each costs 30 µs at every check
SHARE: Final = 4  # one viewer may have this part of them
AT_ONCE: Final = 50  # of them in one turn

Ground = tuple[int, Rights]  # the viewer's uid, and what he may do


class LastingView(Remembering, ViewTree):
    """See the module."""

    # One file below is several to the kernel, which knows of what it asked for under one number
    # alone.  Who opens a file through us makes no mapping of it.
    ours = (OF_DIRECTORIES | OF_FILES) & ~(Mask.OPEN | Mask.ONDIR)

    def __init__(
        self, viewers: Viewers, root_fd: int, waiting: Waiting, *, timeout: float = TIMEOUT
    ) -> None:
        super().__init__(viewers, root_fd, waiting, timeout=timeout)
        self._grounds: dict[Box, Ground] = {}
        self._counts: Counter[Viewer] = Counter()
        self._unchecked: list[Box] = []

    # --- what lasts ----------------------------------------------------------------------

    def lasting_in(self, directory: Node, caller: Caller) -> Lasting | None:
        seat: Seat | None = directory.place
        if self._lasting is None or caller.is_superuser:
            return None
        if seat is None or seat.spot not in MESSAGE_FOLDERS:
            return None
        rights = self.rights(seat.box, caller)
        if not acts_without_asking(seat.spot, rights) & Acts.SEE:
            return None
        return self._lasting if self._stands(seat.box, rights) else None

    def leave(self, directory: Node, caller: Caller) -> Leave | None:
        leave = super().leave(directory, caller)
        if leave is None or self.lasting_in(directory, caller) is None:
            return leave
        return replace(leave, acts=leave.acts | Acts.LASTS)

    def missing(self, parent: Node, name: str, caller: Caller) -> float:
        # Not there for the caller may be there for all that.
        if self.lasting_in(parent, caller) is None or self._is_there(parent, name):
            return 0.0
        return super().missing(parent, name, caller)

    def _is_there(self, parent: Node, name: str) -> bool:
        try:
            self.status_at(self.directory(parent), name)
        except FileNotFoundError:
            return False
        return True

    def asked(self, node: Node, caller: Caller) -> Entry:
        directory = node if node.is_dir else next(reversed(node.names), (None, ""))[0]
        lasting = None if directory is None else self.lasting_in(directory, caller)
        if lasting is None:
            return super().asked(node, caller)
        entry = lasting.asked(node, self.gate.status(node))
        if node.is_dir:
            entry.st_mode &= ~STICKY
        return entry

    def status(self) -> bytes:
        return super().status() + b"mailboxes %d\n" % len(self._grounds)

    def mounts(self, mountinfo: str) -> frozenset[str]:
        return mounts_in_mail_folders(mountinfo)

    # --- as long as the rights are the same ----------------------------------------------

    def _stands(self, box: Box, rights: Rights) -> bool:
        """Whether answers about a mailbox may last on this ground, which is looked after then."""
        ground = box.viewer.uid, rights
        before = self._grounds.get(box)
        if before == ground:
            return True
        if before is not None:
            self._fall(box)
        if len(self._grounds) >= MAX_BOXES or self._counts[box.viewer] >= MAX_BOXES // SHARE:
            return False
        self._grounds[box] = ground
        self._counts[box.viewer] += 1
        if len(self._grounds) == 1 and self._wake is not None:
            self._wake()
        return True

    @property
    def needs_checks(self) -> bool:
        return bool(self._grounds)

    def check(self) -> bool:
        if not self._unchecked:
            self._unchecked = list(self._grounds)
        assert self._lasting is not None
        for _ in range(min(AT_ONCE, len(self._unchecked))):
            box = self._unchecked.pop()
            ground = self._grounds.get(box)
            if ground is None:
                continue
            if not self._lasting.lasts(box.scope):
                self._let_go(box)
            elif _ground_of(box) != ground:
                self._fall(box)
        return bool(self._unchecked)

    def _fall(self, box: Box) -> None:
        assert self._lasting is not None
        self._let_go(box)
        self._lasting.take_back(box.scope)

    def _let_go(self, box: Box) -> None:
        del self._grounds[box]
        self._counts[box.viewer] -= 1
        if not self._counts[box.viewer]:
            del self._counts[box.viewer]


def _ground_of(box: Box) -> Ground | None:
    """As of now; None: nobody knows."""
    try:
        return box.viewer.uid, box.rights()
    except (NotYet, OSError, SharingError):
        return None
