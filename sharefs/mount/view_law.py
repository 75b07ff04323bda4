"""What the view allows: each act asks for the rights that `policy` says it needs."""

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import replace

from sharefs import fsops
from sharefs.mount import policy
from sharefs.mount.caller import Caller
from sharefs.mount.changes import Change
from sharefs.mount.handles import Handle
from sharefs.mount.nodes import NOWHERE, Node
from sharefs.mount.policy import Act, Spot
from sharefs.mount.view_finding import Finding
from sharefs.mount.view_seats import Box, Seat


class Law(Finding):
    """See the module.  A refusal is raised."""

    def may_look(self, node: Node, caller: Caller) -> None:
        if node.place is None and node.is_dir:
            return
        self.demand_act(Act.SEE, node, caller)

    def may_list(self, node: Node, caller: Caller) -> None:
        if node.place is None or node.identity == NOWHERE:
            return
        self.demand_act(Act.LIST, node, caller)

    def may_open(self, node: Node, flags: int, caller: Caller) -> None:
        if flags & os.O_ACCMODE != os.O_WRONLY:
            self.demand_act(Act.OPEN, node, caller)
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            self.demand_act(Act.WRITE, node, caller)

    def may_read(self, handle: Handle) -> None:
        if not handle.created:
            self.demand_act(Act.OPEN, handle.node, handle.caller)

    def may_bring_along(self, handle: Handle) -> bool:
        """Not what is somebody else's: the right to read may go before the file is read."""
        return self.seat(handle.node).box.is_own

    def may_write(self, handle: Handle) -> None:
        seat = self.seat(handle.node)
        if handle.created and seat.spot in (Spot.MESSAGE, Spot.TEMPORARY):
            # What he made he may finish, as long as he may put messages here at all.
            self.demand(seat.box, handle.caller, policy.FINISHING)
        else:
            self.demand_act(Act.WRITE, handle.node, handle.caller)

    def may_change(self, node: Node, change: Change, caller: Caller) -> None:
        if change.size is not None:
            self.demand_act(Act.WRITE, node, caller)
        if change.atime_ns is not None or change.mtime_ns is not None:
            self.demand_act(Act.TOUCH, node, caller)
        if change.mode is not None or change.gid is not None:
            self.demand_act(Act.CHMOD, node, caller)
        if change.uid is not None and not caller.is_superuser:
            self.demand_act(Act.CHMOD, node, caller)
            if change.uid not in (caller.uid, self.gate.status(node).st_uid):
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def what_counts(self, change: Change, caller: Caller) -> Change:
        """Modes and groups belong to the mailbox: cp -a and rsync -a must not close it, nor open
        it to anybody.  Whoever may do without them is told that it worked."""
        if caller.is_superuser:
            return change
        return replace(change, mode=None, uid=None, gid=None)

    def may_create(self, parent: Node, name: str, kind: int, caller: Caller) -> None:
        seat = self._parent_seat(parent)
        if kind == stat.S_IFDIR:
            spot = policy.spot_of(seat.spot, name, directory=True)
            self.demand(seat.box, caller, policy.need_of(Act.MAKE_DIRECTORY, spot))
        elif kind != stat.S_IFREG:
            self.rights(seat.box, caller)
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        elif seat.spot is Spot.MAILBOX:
            spot = policy.spot_of(seat.spot, name, directory=False)
            self.demand(seat.box, caller, policy.need_of(Act.MAKE, spot))
        else:
            self.demand(seat.box, caller, policy.need_of_new(seat.spot, name))

    def _parent_seat(self, parent: Node) -> Seat:
        if parent.place is None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if parent.identity == NOWHERE:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        seat: Seat = parent.place
        return seat

    def may_remove(self, parent: Node, name: str, node: Node, caller: Caller) -> None:
        if parent.place is None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        seat = node.place if node.is_dir else self.seat_of(parent, name)
        if node.is_dir and seat.box.is_home and seat.spot is not Spot.MAILBOX:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))  # INBOX is there, always
        node.place = seat  # for when it has lost its last name
        self.demand(seat.box, caller, policy.need_of(Act.REMOVE, seat.spot, name))

    def may_rename(
        self, source: tuple[Node, str, Node], dest: tuple[Node, str], flags: int, caller: Caller
    ) -> None:
        old_parent, old_name, node = source
        new_parent, new_name = dest
        if flags & ~1:  # all but RENAME_NOREPLACE: an exchange is two of each at once
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        old_seat, new_seat = self._parent_seat(old_parent), self._parent_seat(new_parent)
        if node.is_dir or Spot.MAILBOX in (old_seat.spot, new_seat.spot):
            self._may_rename_other(source, dest, caller)
            return
        needs = policy.needs_of_rename(
            policy.Named(old_seat.spot, old_name), policy.Named(new_seat.spot, new_name),
            same_mailbox=old_seat.box is new_seat.box,
        )  # fmt: skip
        self._demand_all(needs, old_seat.box, new_seat.box, caller)
        try:
            victim, _ = self.find(new_parent, new_name, caller)
        except FileNotFoundError:
            return
        if victim is not node:
            self.may_remove(new_parent, new_name, victim, caller)

    def _may_rename_other(
        self, source: tuple[Node, str, Node], dest: tuple[Node, str], caller: Caller
    ) -> None:
        self.rights(self._parent_seat(source[0]).box, caller)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def demand_disposable(self, node: Node) -> None:
        """A control file that takes the place of a common one must be the viewer's to give."""
        box = self.seat(node).box
        if not box.is_own and next(reversed(node.names))[0] is not box.copies:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def dispose(self, node: Node) -> None:
        """It has served its purpose.  Nothing is asked: the rights may be others by now."""
        holder, name = next(reversed(node.names))
        fsops.unlink(name, dir_fd=self.directory(holder), missing_ok=True)
        self.lost(node, holder, name)

    def may_link(self, node: Node, dest: tuple[Node, str], caller: Caller) -> None:
        parent, name = dest
        new_seat = self._parent_seat(parent)
        old_parent, old_name = next(reversed(node.names), (None, ""))
        old_seat = self.seat(node)
        if old_parent is None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if Spot.MAILBOX in (new_seat.spot, old_parent.place.spot):
            self._may_rename_other((old_parent, old_name, node), dest, caller)
            return
        needs = policy.needs_of_link(
            policy.Named(old_parent.place.spot, old_name), policy.Named(new_seat.spot, name),
            same_mailbox=old_seat.box is new_seat.box,
        )  # fmt: skip
        self._demand_all(needs, old_seat.box, new_seat.box, caller)

    def _demand_all(
        self, needs: Iterable[tuple[str, policy.Need]], old: Box, new: Box, caller: Caller
    ) -> None:
        for where, need in needs:
            self.demand(old if where == "source" else new, caller, need)

    def may_copy(self, node: Node, pinned: int, caller: Caller) -> bool:
        return True  # the right r on its mailbox was demanded
