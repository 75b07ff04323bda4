"""What a name in the view means: a user's own directory, a mailbox of his, a file in one."""

import contextlib
import errno
import logging
import os
import stat
import time
from typing import Final
from weakref import WeakValueDictionary

from sharefs.errors import Code, SharingError
from sharefs.mount import policy
from sharefs.mount.caller import Caller
from sharefs.mount.entries import TIMEOUT
from sharefs.mount.log_limit import about
from sharefs.mount.nodes import NOWHERE, ROOT, Node
from sharefs.mount.policy import Act, Spot
from sharefs.mount.tree import Waiting
from sharefs.mount.view_seats import Box, Seat, Seats, missing
from sharefs.mount.viewers import FRESH, Linked, Viewer, Viewers
from sharefs.namespaces.patterns import INBOX
from sharefs.rights import LOOKUP

log: Final = logging.getLogger(__name__)

_OURS_TO_MEND: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Finding(Seats):
    """See the module."""

    def __init__(
        self, viewers: Viewers, root_fd: int, waiting: Waiting, *, timeout: float = TIMEOUT
    ) -> None:
        super().__init__(viewers, root_fd, waiting, timeout=timeout)
        self._boxes: WeakValueDictionary[tuple[str, str, Linked | None], Box] = (
            WeakValueDictionary()
        )

    def find(self, parent: Node, name: str, caller: Caller) -> tuple[Node, os.stat_result | None]:
        if parent.place is None:
            return self.home(name, caller), None
        seat: Seat = parent.place
        rights = self.rights(seat.box, caller)
        if seat.spot is Spot.MAILBOX:
            if seat.box.is_home and name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    return self._mailbox(parent, seat.box, name, caller), None
            if not rights.covers(LOOKUP):
                raise missing()
        status = self.status_at(self.directory(parent), name)
        spot = policy.spot_of(seat.spot, name, directory=stat.S_ISDIR(status.st_mode))
        hidden = name.startswith(".") and not stat.S_ISREG(status.st_mode)
        if spot is Spot.FOREIGN or (seat.spot is Spot.MAILBOX and hidden):
            raise missing()
        self.demand(seat.box, caller, policy.need_of(Act.SEE, spot, name))
        node = self.node_of(parent, name, status)
        if node.is_dir:
            node.place = Seat(seat.box, spot)
        return node, status

    def directory(self, node: Node) -> int:
        """Raises FileNotFoundError for a home without an INBOX below."""
        if node.identity == NOWHERE:
            raise missing()
        return self.gate.directory(node)

    def home(self, name: str, caller: Caller) -> Node:
        viewer = self.viewers.get(name)
        if viewer is None or (caller.uid != viewer.uid and not caller.is_superuser):
            raise missing()
        node = self._inbox_node(viewer, make=not caller.is_superuser)
        node.name_is(self.table[ROOT], name)
        return node

    def _inbox_node(self, viewer: Viewer, *, make: bool) -> Node:
        """The home's.  make: whoever comes for the first time finds an INBOX, as after a login."""
        box = self.box(viewer, INBOX)
        known = self.table.get(box.home)
        if known is not None and time.monotonic() < box.home_until:
            seat = known.place
            if isinstance(seat, Seat) and seat.box is box and seat.spot is Spot.MAILBOX:
                return known
        if make and not viewer.has_inbox():
            self.viewers.make_inbox(viewer)
        try:
            node = self._box_node(box)
            box.home, box.home_until = node.ino, time.monotonic() + FRESH
            return node
        except FileNotFoundError as error:
            log.info("%s has no INBOX: %s", viewer.user.name, error, extra=about(viewer.user.name))
        except (OSError, SharingError) as error:
            if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT:
                raise  # an empty directory would be a lie: it may be back in a moment
            log.warning(
                "%s has no INBOX to show: %s",
                viewer.user.name,
                error,
                extra=about(viewer.user.name),
            )
        node = self.table.virtual((viewer.user.name, "home"))
        node.place = Seat(box, Spot.MAILBOX)
        return node

    def _mailbox(self, home: Node, own: Box, name: str, caller: Caller) -> Node:
        viewer = own.viewer
        mailbox = viewer.mailbox_of(name)
        if mailbox is None:
            raise missing()
        try:
            box = self.box(viewer, mailbox)
            self.demand(box, caller, policy.need_of(Act.SEE, Spot.MAILBOX))
            if box.link is None and not viewer.exists(mailbox):
                raise missing()
            node = self._box_node(box)
        except SharingError as refusal:
            if refusal.code is Code.UNAVAILABLE:
                raise
            log.info("%s of %s is not shown: %s", mailbox, viewer.user.name, refusal.detail,
                     extra=about(viewer.user.name))  # fmt: skip
            raise missing() from refusal
        except OSError as error:
            # Whatever an owner does to his directory, it must not spoil his sharees' listings.
            if error.errno in _OURS_TO_MEND:
                raise
            log.warning("%s of %s is not shown: %s", mailbox, viewer.user.name, error,
                        extra=about(viewer.user.name))  # fmt: skip
            raise missing() from error
        node.name_is(home, name)
        return node

    def box(self, viewer: Viewer, mailbox: str) -> Box:
        """One object for each, so that nodes of one mailbox know it as the same.

        Raises SharingError(NONEXISTENT) for a link that leads to no mailbox.
        """
        link = self.viewers.linked(viewer, mailbox)
        key = viewer.user.name, mailbox, link
        box = self._boxes.get(key)
        if box is None:
            box = self._boxes[key] = Box(viewer, mailbox, link)
        return box

    def _box_node(self, box: Box) -> Node:
        fd = box.open()
        status = os.fstat(fd)
        node = self.table.node_for(box.scope, status)
        node.place = Seat(box, Spot.MAILBOX)
        node.opener = box.open
        if node.fd >= 0:
            os.close(fd)
        else:
            self.gate.lend(node, fd)
        return node

    def node_of(self, parent: Node, name: str, status: os.stat_result) -> Node:
        node = super().node_of(parent, name, status)
        if node.is_dir:
            node.place = self.seat_of(parent, name, directory=True)
        return node
