"""Where a node of the view belongs: a mailbox, a part of it, and who may be there."""

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sharefs.account import Account
from sharefs.identity.privileges import call_as
from sharefs.mount import policy
from sharefs.mount.caller import Caller
from sharefs.mount.entries import TIMEOUT
from sharefs.mount.mirror import Acting
from sharefs.mount.nodes import Node
from sharefs.mount.policy import Act, Spot
from sharefs.mount.questions import NotYet
from sharefs.mount.tree import Waiting
from sharefs.mount.trusted import open_mailbox
from sharefs.mount.viewers import Linked, Viewer, Viewers
from sharefs.namespaces.patterns import INBOX
from sharefs.rights import ALL, Rights

log: Final = logging.getLogger(__name__)

T = TypeVar("T")


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
    def scope(self) -> tuple[str, str]:
        """Of the nodes in it: for each viewer the same file below is another one."""
        return self.viewer.user.name, self.mailbox

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
        site = viewer.site_that_answers(mailbox)
        return open_mailbox(site.root, site.directory)


@dataclass(frozen=True, slots=True)
class Seat:
    """What a node of the view is: which mailbox, and which part of it."""

    box: Box
    spot: Spot


class Seats(Acting):
    """See the module.  place of a directory's node: its Seat; None for the top.

    Rights are asked for at every operation; callers who are neither the viewer nor root find
    nothing.
    """

    def __init__(
        self, viewers: Viewers, root_fd: int, waiting: Waiting, *, timeout: float = TIMEOUT
    ) -> None:
        super().__init__(root_fd, waiting, timeout=timeout)
        self.viewers = viewers
        self.silent = viewers.silent

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

    def at_work(self) -> list[int]:
        return self.viewers.questions.at_work()

    def give_up(self, thread: int) -> bool:
        return self.viewers.questions.give_up(thread)

    def close(self) -> None:
        super().close()
        self.viewers.close()


def missing() -> OSError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
