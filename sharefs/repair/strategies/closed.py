"""Everything closed to other uids, so that the ACLs alone decide.  Pure."""

from collections.abc import Iterator

from sharefs.permissions.access import Want, check
from sharefs.permissions.remedy import minimal_acl
from sharefs.repair.facts import Person, Placed
from sharefs.repair.plan_file import Note
from sharefs.repair.strategies.base import Finding, Strategy
from sharefs.repair.wish import Node, Wish, without_group_and_others


class SingleUid(Strategy):
    """See the module."""

    def begin(self) -> Iterator[tuple[Node, Wish]]:
        uid, gid = self._ids()
        server = Person("the mail server", uid, gid)
        for node in self.home.above:
            if not check(node.inode, server.credentials, Want.SEARCH):
                self.notes.append(
                    Note(
                        node.path,
                        f"keeps uid {uid} out: mail does not belong in homes then; move it to"
                        " /var/mail or the like, or chmod o+x the directory",
                    )
                )
        self.notes.append(
            Note(
                self.home.root,
                f"set mail_uid = {uid} and mail_gid = {gid} in the configuration before the server"
                " starts again",
                False,
            )
        )
        yield from ()

    def wish(self, placed: Placed) -> Wish | None:
        uid, gid = self._ids()
        mode = 0o700 if placed.node.inode.is_directory else 0o600
        return Wish(
            Finding.OWNER, uid=uid, gid=gid, mode=mode, acl=minimal_acl(mode), default_acl=()
        )

    def trusted_uids(self) -> frozenset[int]:
        return super().trusted_uids() | {self._ids()[0]}

    def _ids(self) -> tuple[int, int]:
        uid = self.options.uid
        assert uid is not None, "the command asks for it"
        return uid, uid if self.options.gid is None else self.options.gid


class Mount(Strategy):
    """See the module."""

    def wish(self, placed: Placed) -> Wish | None:
        node = placed.node
        kept = node.mode & 0o5000 | node.mode & 0o700
        default = () if node.inode.is_directory else None
        return Wish(
            Finding.LEAK, mode=kept, acl=without_group_and_others(node.acl), default_acl=default
        )
