"""A small host in a directory: four users with uids of their own, a public tree, a sharing map.

Accounts can be opened in this process, where the kernel refuses root nothing, or as the users
themselves, where it has its say.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from sharefs.account import Account
from sharefs.config import Config, load
from sharefs.flags import NO_FLAGS
from sharefs.identity.from_config import identity_settings
from sharefs.identity.model import MailUser
from sharefs.identity.userdb import UserDatabase
from sharefs.namespaces.listing import EVERYTHING, Selection
from tests.support.become import Identity

T = TypeVar("T")

SHARED_GID: Final = 61500
UIDS: Final = {"alice": 61001, "bob": 61002, "carol": 61003, "dave": 61004}
MESSAGE: Final = b"Subject: hello\r\n\r\nbody\r\n"

CONFIG: Final = """
mail_driver = maildir
mail_path = ~/Maildir
mail_fsync = never
acl_driver = vfile
first_valid_uid = 1
userdb passwd-file {{
  passwd_file_path = {top}/users
}}
passdb passwd-file {{
  passwd_file_path = {top}/users
}}
namespace inbox {{
  type = private
  separator = /
  prefix =
  inbox = yes
  mailbox Sent {{
    auto = subscribe
    special_use = \\Sent
  }}
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/$user/
  mail_path = %{{owner_home}}/Maildir
  mail_index_private_path = ~/private/%{{owner_user}}
  subscriptions = no
  list = children
}}
namespace public {{
  type = public
  separator = /
  prefix = Public/
  mail_path = {top}/public
  subscriptions = no
  list = children
}}
"""

MAP: Final = """
acl_sharing_map {{
  dict file {{
    path = {top}/db/shared.db
  }}
}}
"""


class World:
    """See the module.

    extra: more configuration.  groups: ACL groups of a user, by name.  outsiders: users who are
    not in the shared Unix group.
    """

    def __init__(
        self,
        top: Path,
        extra: str = "",
        groups: dict[str, str] | None = None,
        *,
        with_map: bool = True,
        outsiders: frozenset[str] = frozenset(),
    ) -> None:
        self.top = top
        self.outsiders = outsiders
        top.chmod(0o755)
        self.config_path = top / "sharefs.conf"
        self.config_path.write_text((CONFIG + MAP if with_map else CONFIG).format(top=top) + extra)
        (top / "users").write_text(
            "".join(self._line(name, (groups or {}).get(name, "")) for name in UIDS)
        )
        for name, uid in UIDS.items():
            gid = uid if name in outsiders else SHARED_GID
            self._make_dir(self.home(name), uid, gid, 0o2770)
        self._make_dir(top / "db", 0, SHARED_GID, 0o2770)
        self._make_dir(top / "public", 0, SHARED_GID, 0o2770)
        self.config: Config = load(self.config_path, lookup_group=lambda name: True)
        self.users = UserDatabase(identity_settings(self.config))

    def _line(self, name: str, acl_groups: str) -> str:
        fields = [] if name in self.outsiders else [f"userdb_mail_access_groups={SHARED_GID}"]
        fields += [f"userdb_acl_groups={acl_groups}"] if acl_groups else []
        uid = UIDS[name]
        return f"{name}:{{PLAIN}}x:{uid}:{uid}::{self.home(name)}::{' '.join(fields)}\n"

    @staticmethod
    def _make_dir(path: Path, uid: int, gid: int, mode: int) -> None:
        path.mkdir(parents=True)
        os.chown(path, uid, gid)
        path.chmod(mode)

    def home(self, name: str) -> Path:
        return self.top / "home" / name

    def maildir(self, name: str, *below: str) -> Path:
        return self.home(name).joinpath("Maildir", *below)

    @property
    def public(self) -> Path:
        return self.top / "public"

    @property
    def map_path(self) -> Path:
        return self.top / "db" / "shared.db"

    def user(self, name: str) -> MailUser:
        return self.users.lookup(name)

    def account(self, name: str) -> Account:
        return Account.open(self.config, self.user(name), self.users)

    def as_user(self, name: str, action: Callable[[Account], T]) -> T:
        """What action returns, done under the user's own uid and groups."""
        user = self.user(name)
        identity = Identity(user.uid, user.gid, user.gids)
        return identity.run(lambda: action(Account.open(self.config, user, self.users)))

    def make_public(self, stored: str, acl: str) -> Path:
        """A mailbox `.a.b` in the public tree with this ACL file."""
        path = self.public / stored
        for folder in ("cur", "new", "tmp"):
            self._make_dir(path / folder, 0, SHARED_GID, 0o2770)
        path.chmod(0o2770)
        (path / "dovecot-acl").write_text(acl)
        (path / "dovecot-acl").chmod(0o664)
        return path


@contextlib.contextmanager
def world_in_tmp(
    extra: str = "",
    groups: dict[str, str] | None = None,
    *,
    with_map: bool = True,
    outsiders: frozenset[str] = frozenset(),
) -> Iterator[World]:
    """Outside of pytest's tmp_path, whose parents let no other uid pass."""
    top = Path(tempfile.mkdtemp(prefix="sharefs-world-"))
    try:
        yield World(top, extra, groups, with_map=with_map, outsiders=outsiders)
    finally:
        shutil.rmtree(top)


def names(account: Account, pattern: str = "*", selection: Selection = EVERYTHING) -> list[str]:
    """Names of LIST, those that hold no mail marked with "!"."""
    return [
        one.name + ("!" if "\\NoSelect" in one.flags else "")
        for one in account.list("", [pattern], selection)
    ]


def append(account: Account, name: str, octets: bytes = MESSAGE) -> list[int]:
    """Put one message into a mailbox by APPEND's way.  Returns its UID."""
    with contextlib.closing(account.writable_target(name)) as mailbox, mailbox.saver() as saver:
        saver.begin(NO_FLAGS, None)
        saver.write(octets)
        saver.finish()
        return saver.commit()


def messages(account: Account, name: str) -> Sequence[int]:
    with contextlib.closing(account.open_mailbox(name, readonly=True)) as mailbox:
        mailbox.sync()
        return list(mailbox.uids())


def picture_of(top: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything below a directory: mode, owner, group and content, to see that nothing changed."""
    found = {}
    for directory, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(directory, name)
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path.relative_to(top))] = (
                status.st_mode, status.st_uid, status.st_gid, content,
            )  # fmt: skip
    return found
