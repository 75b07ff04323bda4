"""Seeing mailboxes as somebody else would, from a process that sees more (the superuser's).

Only reads.  Where the viewer's own process would be refused, so is the answer: an ACL file that he
may not read gives him nothing, whatever the superuser could read there.
"""

from pathlib import Path

from sharefs.account.context import Context
from sharefs.config import Config, Form
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser
from sharefs.permissions.access import Credentials, Want
from sharefs.permissions.explain import describe, explain_access
from sharefs.sharing.files import AclFile, AclReader, no_access
from sharefs.sharing.policy import Policy


def credentials_of(user: MailUser) -> Credentials:
    """How the kernel sees a mail process of this user."""
    return Credentials(user.uid, user.gid, frozenset(user.gids), superuser=user.uid == 0)


class ReaderAs(AclReader):
    """ACL files as a process with these credentials would read them."""

    def __init__(self, who: Credentials) -> None:
        super().__init__()
        self._who = who

    def read(self, path: Path) -> AclFile:
        """As AclReader.read, and no access where the viewer has none."""
        access = explain_access(self._who, path, Want.READ)
        if access.refusal is not None:
            return no_access(path, describe(access.refusal, self._who))
        return super().read(path)


class ViewerContext(Context):
    """The account of another user, for looking at only.

    who: his credentials.  form: which form the configuration is written in.  unhindered: the
    policy if he could read every ACL file.
    """

    def __init__(
        self, config: Config, user: MailUser, homes: HomeLookup, *, protocol: str = "imap"
    ) -> None:
        """Raises SharingError if the user's settings cannot work."""
        super().__init__(config, user, homes, protocol=protocol)
        self.who = credentials_of(user)
        self.form = config.forms.get(config.root.place.file, Form.V24)
        self.unhindered = self.policy
        self.policy = Policy(
            ReaderAs(self.who),
            enabled=self.settings.acl_enabled,
            linker_is_owner=self.settings.sharefs_symlink_owner == "linker",
        )

    def _log_refusal(self, *about: object) -> None:
        """What the viewer would be refused is the answer here, and no news for the log."""
