"""Rights in the view: extended attributes of mailbox directories, and the ACL file itself.

Whoever holds a may write them.  What is written is looked at as a whole before it counts: an ACL
that does not parse changes nothing.  ACL file, list cache and sharing map change in one step.
"""

import errno
import os
from dataclasses import replace
from typing import Final

from sharefs.acl import Acl, Mode
from sharefs.dotlock import read_holder
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier, Signed
from sharefs.mount.acting_attributes import STATUS
from sharefs.mount.acting_files import KEPT_FLAGS
from sharefs.mount.caller import Caller, process_of
from sharefs.mount.changes import Change
from sharefs.mount.handles import Handle
from sharefs.mount.nodes import Node
from sharefs.mount.policy import ACL_FILE, Need, Spot
from sharefs.mount.view_seats import Box, Seat
from sharefs.mount.view_tree import ViewTree
from sharefs.rights import ADMIN, LOOKUP, Rights
from sharefs.sharing.acl_text import format_acl, parse_acl
from sharefs.sharing.files import MAX_SIZE

PREFIX: Final = "user.sharefs."
MYRIGHTS: Final = PREFIX + "myrights"
OWNER: Final = PREFIX + "owner"
EXPLAIN: Final = PREFIX + "explain"
ACL_TEXT: Final = PREFIX + "acl"
ENTRY: Final = ACL_TEXT + "."


class AclChanges(ViewTree):
    """See the module."""

    # --- extended attributes -------------------------------------------------------------

    def _with_attributes(self, node: Node, caller: Caller, need: Need) -> Box:
        """The mailbox whose directory this is.  Raises OSError(ENODATA) for anything else."""
        if node.place is None or not node.is_dir or node.place.spot is not Spot.MAILBOX:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        seat: Seat = node.place
        self.demand(seat.box, caller, need)
        return seat.box

    async def get_attribute(self, node: Node, name: bytes, caller: Caller) -> bytes:
        word = os.fsdecode(name)
        if not word.startswith(PREFIX):
            if name == STATUS:
                return await super().get_attribute(node, name, caller)
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        admin = word == ACL_TEXT or word.startswith(ENTRY)
        box = self._with_attributes(node, caller, Need((ADMIN,)) if admin else _SEEN)
        if word == MYRIGHTS:
            return self.rights(box, caller).letters.encode()
        if word == OWNER:
            if box.link is not None:
                return box.link.owner.user.name.encode()
            return (box.viewer.account.owner_of(box.mailbox) or "").encode()
        if word == EXPLAIN:
            return (await self._explained(box)).encode()
        acl = await self._stored(box)
        if word == ACL_TEXT:
            return format_acl(acl)
        signed = _identifier(word)
        entry = acl.find(signed.identifier)
        rights = None
        if entry is not None:
            rights = entry.negative if signed.negative else entry.rights
        if rights is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return rights.letters.encode()

    async def _explained(self, box: Box) -> str:
        if box.link is None:
            steps = await self.look(box, lambda account, name: account.explain(name))
            return "".join(f"{step.verdict.value}: {step.text}\n" for step in steps)
        linker = box.viewer.account.acl_viewer
        found = await self.look(box, lambda account, own: account.rights_of_linker(own, linker))
        owner, own = box.known_as
        names = " ".join(found.rights.long_names())
        return "".join(
            f"note: {line}\n"
            for line in (
                f"{box.mailbox} is a symbolic link to {own} of {owner.user.name}",
                *map(str, found.reasons),
                f"{box.viewer.user.name} has the rights: {names or 'none'}",
            )
        )

    async def list_attributes(self, node: Node, caller: Caller) -> list[bytes]:
        try:
            box = self._with_attributes(node, caller, _SEEN)
        except OSError as error:
            if error.errno == errno.ENODATA:
                return []
            raise
        names = [MYRIGHTS, OWNER, EXPLAIN]
        if self.rights(box, caller).covers(ADMIN):
            names.append(ACL_TEXT)
            for entry in (await self._stored(box)).entries:
                identifier = entry.identifier
                names += [ENTRY + identifier.file()] if entry.rights is not None else []
                names += [ENTRY + identifier.file(negative=True)] if entry.negative else []
        return [os.fsencode(name) for name in names]

    async def set_attribute(self, node: Node, name: bytes, value: bytes, caller: Caller) -> None:
        word = os.fsdecode(name)
        if word == ACL_TEXT:
            box = self._with_attributes(node, caller, Need((ADMIN,)))
            await self._replace(box, value)
        elif word.startswith(ENTRY):
            box, signed = self._with_attributes(node, caller, Need((ADMIN,))), _identifier(word)
            rights = _rights(value)
            await self.act(
                box,
                lambda account, own: account.set_acl(
                    own, signed.identifier, Mode.REPLACE, rights, negative=signed.negative
                ),
            )
        else:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    async def remove_attribute(self, node: Node, name: bytes, caller: Caller) -> None:
        word = os.fsdecode(name)
        if not word.startswith(ENTRY):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        box, signed = self._with_attributes(node, caller, Need((ADMIN,))), _identifier(word)
        await self.get_attribute(node, name, caller)  # ENODATA if there is nothing to remove
        await self.act(
            box,
            lambda account, own: account.delete_acl(
                own, signed.identifier, negative=signed.negative
            ),
        )

    async def _stored(self, box: Box) -> Acl:
        return await self.look(box, lambda account, own: account.stored_acl(own, override=True))

    async def _replace(self, box: Box, octets: bytes, *, locked: bool = False) -> None:
        if len(octets) > MAX_SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        await self.act(box, lambda account, own: account.replace_acl(own, octets, locked=locked))

    def _is_locked_by(self, parent: Node, caller: Caller) -> bool:
        """Whether the calling program holds the ACL file's lock: we would wait for it in vain."""
        holder = read_holder(ACL_LOCK, dir_fd=self.directory(parent))
        return holder is not None and holder == process_of(caller)

    # --- the file ------------------------------------------------------------------------

    def open_file(self, node: Node, flags: int, caller: Caller) -> Handle:
        """Opened to be written, the ACL file is a copy in memory until it is closed."""
        if flags & os.O_ACCMODE == os.O_RDONLY or self.seat(node).spot is not Spot.ACL:
            return super().open_file(node, flags, caller)
        self.may_open(node, flags, caller)
        fd = self.gate.open_file(node, os.O_RDONLY)
        try:
            content = b"" if flags & os.O_TRUNC else os.pread(fd, MAX_SIZE + 1, 0)
            handle = Handle(fd, node, caller, flags & KEPT_FLAGS)
        except BaseException:
            os.close(fd)
            raise
        handle.content = bytearray(content)
        handle.changed = bool(flags & os.O_TRUNC)
        return handle

    def create_file(self, parent: Node, name: str, flags: int, caller: Caller) -> Handle:
        seat = parent.place
        if name != ACL_FILE or seat is None or seat.spot is not Spot.MAILBOX:
            return super().create_file(parent, name, flags, caller)
        self.may_create(parent, name, 0o100000, caller)
        fd = os.memfd_create("acl", os.MFD_CLOEXEC)
        try:
            node = self.table.node_for(parent.scope, os.fstat(fd))
            node.place = Seat(seat.box, Spot.ACL)
            handle = Handle(fd, node, caller, flags & KEPT_FLAGS)
        except BaseException:
            os.close(fd)
            raise
        handle.content = bytearray()
        handle.changed = True
        return handle

    def read(self, handle: Handle, offset: int, size: int) -> bytes | memoryview:
        if handle.content is None:
            return super().read(handle, offset, size)
        self.may_read(handle)
        return bytes(handle.content[offset : offset + size])

    def write(
        self, handle: Handle, offset: int, octets: bytes | memoryview, *, drop_set_id: bool
    ) -> int:
        content = handle.content
        if content is None:
            return super().write(handle, offset, octets, drop_set_id=drop_set_id)
        self.may_write(handle)
        if handle.flags & os.O_APPEND:
            offset = len(content)
        if offset + len(octets) > MAX_SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(octets)] = octets
        handle.changed = True
        return len(octets)

    def change(self, node: Node, change: Change, handle: Handle | None) -> None:
        """Cut short or lengthened it is what is written, too.  By name alone that cannot be
        looked at as a whole: EPERM."""
        if change.size is None or node.is_dir or self.seat(node).spot is not Spot.ACL:
            super().change(node, change, handle)
            return
        if handle is None or handle.content is None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if change.size > MAX_SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        handle.content.extend(bytes(max(0, change.size - len(handle.content))))
        del handle.content[change.size :]
        handle.changed = True
        super().change(node, replace(change, size=None), handle)

    async def remove_file(self, parent: Node, name: str, caller: Caller) -> None:
        """Without its ACL a mailbox is shared with nobody, and the sharing map says so."""
        seat = parent.place
        if name == ACL_FILE and seat is not None and seat.spot is Spot.MAILBOX:
            node, _ = self.find(parent, name, caller)
            self.may_remove(parent, name, node, caller)
            await self._replace(seat.box, b"")
            self.dispose(node)
        else:
            await super().remove_file(parent, name, caller)

    async def flush(self, handle: Handle) -> None:
        """close(2) puts the new ACL in force, or says EINVAL and leaves the old one."""
        if handle.content is None:
            await super().flush(handle)
            return
        if not handle.changed:
            return
        handle.changed = False
        self.may_write(handle)
        await self._replace(self.seat(handle.node).box, bytes(handle.content))

    async def rename(
        self, old: tuple[Node, str], new: tuple[Node, str], flags: int, caller: Caller
    ) -> None:
        """A program's new ACL file takes the old one's place: its content counts, if it parses."""
        seat = new[0].place
        if new[1] != ACL_FILE or seat is None or seat.spot is not Spot.MAILBOX:
            await super().rename(old, new, flags, caller)
            return
        if flags & ~1:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        node, _ = self.find(*old, caller)
        if node.is_dir or self.seat(node).box is not seat.box:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self.demand(seat.box, caller, Need((ADMIN,)))
        self.demand_disposable(node)
        fd = self.gate.open_file(node, os.O_RDONLY)
        try:
            octets = os.pread(fd, MAX_SIZE + 1, 0)
        finally:
            os.close(fd)
        if old[1] != ACL_LOCK:
            locked = seat.box.is_own and self._is_locked_by(new[0], caller)
            await self._replace(seat.box, octets, locked=locked)
            self.dispose(node)
            return
        # The very lock that we need for it: its holder gives it up by this rename.
        demand_acl(octets)
        self.dispose(node)
        await self._replace(seat.box, octets)


ACL_LOCK: Final = ACL_FILE + ".lock"


def demand_acl(octets: bytes) -> None:
    """Raises SharingError(INVALID) for what is no ACL file."""
    parsed = parse_acl(octets, ACL_FILE)
    if parsed.malformed:
        raise SharingError(Code.INVALID, "; ".join(str(problem) for problem in parsed.problems))


_SEEN: Final = Need((LOOKUP,), errno.ENOENT)


def _identifier(word: str) -> Signed:
    return Identifier.parse_cli(word.removeprefix(ENTRY))


def _rights(value: bytes) -> Rights:
    """ "lrs"; a final newline, as echo writes it, is fine."""
    try:
        return Rights.parse(value.decode("ascii").rstrip("\n\0"))
    except UnicodeDecodeError as error:
        raise SharingError(Code.INVALID, f"{value!r} is no set of rights") from error
