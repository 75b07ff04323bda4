"""The view: to each caller his own tree of mailboxes, under the rights of their ACLs.

`/` holds the caller's own directory, `/<user>` a Maildir++ tree: INBOX itself, and every mailbox
that the user may look up.  A directory of the view knows its mailbox and whose view it is in; the
files below are opened by this process, so nobody's home must be open to others.  What policy says
of rights is asked at every operation; callers who are neither the viewer nor root find nothing.
"""

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from sharefs import fsops
from sharefs.account import Account
from sharefs.errors import Code, SharingError
from sharefs.fsops import Ownership
from sharefs.identity.privileges import call_as
from sharefs.mount import policy
from sharefs.mount.caller import Caller
from sharefs.mount.changes import Change
from sharefs.mount.creation import Place, owner_in_view, ownership
from sharefs.mount.entries import TIMEOUT, Entry, entry_of, virtual_directory
from sharefs.mount.handles import Handle
from sharefs.mount.leave import Acts, KnownName, Leave
from sharefs.mount.log_limit import about
from sharefs.mount.mirror import Acting
from sharefs.mount.nodes import NOWHERE, ROOT, Node
from sharefs.mount.policy import Act, Spot
from sharefs.mount.questions import NotYet
from sharefs.mount.tree import Waiting
from sharefs.mount.trusted import open_mailbox
from sharefs.mount.viewers import FRESH, Linked, Viewer, Viewers
from sharefs.namespaces.patterns import INBOX
from sharefs.rights import ALL, LOOKUP, Rights

log: Final = logging.getLogger(__name__)

T = TypeVar("T")

BoxKey = tuple[str, str, Linked | None]

_OURS_TO_MEND: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
TOP_MODE: Final = 0o755
HOME_MODE: Final = 0o700
_MESSAGE_FOLDERS: Final = frozenset({Spot.CUR, Spot.NEW, Spot.TMP})
_STICKY: Final = stat.S_ISVTX  # the kernel would judge by it; here rights do


class Box:
    """One mailbox in one viewer's view.  INBOX is the viewer's own directory.

    link: whose mailbox it is, if the viewer has a symbolic link to it in his own tree.
    copies: the directory of the viewer's own control files, once it is in use.
    home, home_until: an INBOX's node was this number, and will not be looked for before then.
    """

    __slots__ = (
        "__weakref__", "copies", "home", "home_until", "is_own", "link", "mailbox", "viewer",
    )  # fmt: skip

    def __init__(self, viewer: Viewer, mailbox: str, link: Linked | None = None) -> None:
        self.viewer = viewer
        self.mailbox = mailbox
        self.link = link
        self.is_own = viewer.owns(mailbox) and link is None
        self.copies: Node | None = None
        self.home = 0
        self.home_until = 0.0

    @property
    def is_home(self) -> bool:
        return self.mailbox == INBOX

    @property
    def known_as(self) -> tuple[Viewer, str]:
        """In whose account it is found, and under which name."""
        if self.link is not None:
            return self.link.owner, self.link.mailbox
        return self.viewer, self.mailbox

    def rights(self) -> Rights:
        """The viewer's, as of now."""
        if self.link is not None:
            return self.link.owner.rights_of_linker(self.link.mailbox, self.viewer)
        return self.viewer.rights(self.mailbox)

    def rights_until(self) -> float:
        """When rights() will be asked anew, as time.monotonic() counts."""
        if self.link is not None:
            return self.link.owner.rights_of_linker_until(self.link.mailbox, self.viewer)
        return self.viewer.rights_until(self.mailbox)

    def open(self) -> int:
        """Its directory below.  Raises OSError, SharingError."""
        viewer, mailbox = self.known_as
        site = viewer.site(mailbox)
        return open_mailbox(site.root, site.directory)


@dataclass(frozen=True, slots=True)
class Seat:
    """What a node of the view is: which mailbox, and which part of it."""

    box: Box
    spot: Spot


class ViewTree(Acting):
    """See the module.  place of a directory's node: its Seat; None for the top."""

    def __init__(
        self, viewers: Viewers, root_fd: int, waiting: Waiting, *, timeout: float = TIMEOUT
    ) -> None:
        super().__init__(root_fd, waiting, timeout=timeout)
        self.viewers = viewers
        self._boxes: WeakValueDictionary[tuple[str, str, Linked | None], Box] = (
            WeakValueDictionary()
        )

    # --- who -----------------------------------------------------------------------------

    def seat(self, node: Node) -> Seat:
        """Where a node belongs.  Raises FileNotFoundError for the top, which is no mailbox's."""
        if node.is_dir:
            if node.place is None:
                raise missing()
            seat: Seat = node.place
            return seat
        name = next(reversed(node.names), None)
        if name is None:
            seat = node.place
            return seat
        seat = self.seat_of(*name)
        node.place = seat  # for when it has lost its last name
        return seat

    def seat_of(self, parent: Node, name: str, *, directory: bool = False) -> Seat:
        above: Seat = parent.place
        return Seat(above.box, policy.spot_of(above.spot, name, directory=directory))

    def rights(self, box: Box, caller: Caller) -> Rights:
        """The viewer's, if he is the caller.  Raises FileNotFoundError for anybody else."""
        if caller.is_superuser:
            return ALL
        if caller.uid != box.viewer.uid:
            raise missing()
        return box.rights()

    def demand(self, box: Box, caller: Caller, need: policy.Need) -> None:
        decision = policy.decide(self.rights(box, caller), need)
        if not decision:
            log.debug("uid %d on %s: %s", caller.uid, box.mailbox, decision.reason)
            raise OSError(decision.errno, os.strerror(decision.errno))

    def demand_act(self, act: Act, node: Node, caller: Caller) -> Seat:
        seat = self.seat(node)
        name = next(reversed(node.names), (node, ""))[1]
        self.demand(seat.box, caller, policy.need_of(act, seat.spot, name))
        return seat

    async def wait(self, question: NotYet, asker: int) -> None:
        """Until there is an answer."""
        await self.waiting.wait_for(question.ask(asker), asker)

    async def when_known(self, ask: Callable[[], T], asker: int) -> T:
        """What ask() returns, once everything is known that it needs."""
        while True:
            try:
                return ask()
            except NotYet as question:
                await self.wait(question, asker)

    async def act(self, box: Box, work: Callable[[Account, str], T]) -> T:
        """Change what belongs to the mailbox besides messages, as its owner to the file system.

        So that no link or swapped directory makes us write where the owner could not.  In a
        thread: a lock may have to be waited for.
        """
        try:
            return await self.look(box, work)
        finally:
            self.viewers.forget()

    async def look(self, box: Box, work: Callable[[Account, str], T]) -> T:
        """The same to read what is shown: an ACL file may be a link to what only we can read."""
        viewer, mailbox = box.known_as
        asker = box.viewer.uid
        user = await self.when_known(lambda: self.viewers.acting_for(viewer, mailbox), asker)

        def work_as_user() -> T:
            account = self.viewers.account_for_thread(viewer)
            return call_as(user.uid, user.gid, user.gids, lambda: work(account, mailbox))

        return await self.waiting.run_long(work_as_user, asker)

    def close(self) -> None:
        super().close()
        self.viewers.close()

    # --- finding -------------------------------------------------------------------------

    def find(self, parent: Node, name: str, caller: Caller) -> tuple[Node, os.stat_result | None]:
        if parent.place is None:
            return self._home(name, caller), None
        seat: Seat = parent.place
        rights = self.rights(seat.box, caller)
        if seat.spot is Spot.MAILBOX:
            if seat.box.is_home and name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    return self._mailbox(parent, seat.box, name, caller), None
            if not rights.covers(LOOKUP):
                raise missing()
        status = os.stat(name, dir_fd=self.directory(parent), follow_symlinks=False)
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

    def _home(self, name: str, caller: Caller) -> Node:
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
        node = self.table.node_for((box.viewer.user.name, box.mailbox), status)
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

    # --- showing -------------------------------------------------------------------------

    def entry(self, node: Node, caller: Caller, status: os.stat_result | None = None) -> Entry:
        if node.place is None and node.is_dir:
            return virtual_directory(node, 0, TOP_MODE, self.timeout)
        if node.identity == NOWHERE:
            return virtual_directory(node, self.seat(node).box.viewer.uid, HOME_MODE, 0)
        entry = entry_of(node, status or self.gate.status(node), self.timeout)
        if node.is_dir:
            entry.st_mode &= ~_STICKY
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
        if seat is None or seat.spot not in _MESSAGE_FOLDERS:
            return None
        rights = self.rights(seat.box, caller)
        acts = policy.acts_without_asking(seat.spot, rights)
        if seat.box.is_own and acts & Acts.OPEN:
            acts |= Acts.BRING_ALONG
        if not self.devices.is_local(directory.identity[0]):
            acts &= ~Acts.LOCAL
        until = time.monotonic() + FRESH if caller.is_superuser else seat.box.rights_until()
        return Leave(acts, self.timeout, self.timeout, uid=caller.uid, until=until, hidden=_STICKY)

    def known_name(self, directory: Node, name: str, caller: Caller) -> KnownName | None:
        """A home with its INBOX: every path leads through it."""
        if directory.place is not None:
            return None
        node = self._home(name, caller)
        box = self.seat(node).box
        if box.home != node.ino:
            return None
        return KnownName(node, caller.uid, box.home_until, 0, self.timeout, hidden=_STICKY)

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

    # --- law -----------------------------------------------------------------------------

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


def missing() -> OSError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
