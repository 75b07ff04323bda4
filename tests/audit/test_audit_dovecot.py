"""A host that runs Dovecot alone: what Dovecot itself makes is clean, what spoils it is found.

Its configuration is read as it is, in the 2.3 form; sharefs has never served there.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.audit.audit import Audit
from sharefs.audit.explain import Asked, explain_mailbox
from sharefs.audit.findings import Finding
from sharefs.audit.names import Names
from sharefs.audit.operations import Operation
from sharefs.audit.output import in_order
from sharefs.audit.viewing import ViewerContext
from sharefs.config import load
from sharefs.identity.userdb import UserDatabase
from tests.support.dovecot import Dovecot, MailUser, private_dovecot

pytestmark = [pytest.mark.superuser, pytest.mark.dovecot, pytest.mark.slow]

GID = 61700
UIDS = {"alice@ex.org": 61031, "bob@ex.org": 61032}
CONFIG = """
mail_location = maildir:~/Maildir
mail_access_groups = {gid}
mail_plugins = acl
protocol imap {{
  mail_plugins = acl imap_acl
}}
namespace inbox {{
  type = private
  separator = /
  inbox = yes
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/%%u/
  location = maildir:{top}/home/%%u/Maildir:INDEXPVT=~/private/%%u
  subscriptions = no
  list = children
}}
plugin {{
  acl = vfile
  acl_shared_dict = file:{top}/db/shared.db
}}
"""


class Host:
    """Two users with uids of their own, and a Dovecot."""

    def __init__(self, top: Path, dovecot: Dovecot) -> None:
        self.top = top
        self.dovecot = dovecot
        self.config = load(dovecot.config, lookup_group=lambda name: True)
        self.users = UserDatabase(self.config)

    def maildir(self, user: str, *below: str) -> Path:
        return self.top.joinpath("home", user, "Maildir", *below)

    def audited(self) -> list[Finding]:
        audit = Audit(self.config, self.users, accounts=[], processes=[])
        # Settings of Dovecot's own that sharefs does not know are no matter of this test.
        return [
            found
            for found in in_order(audit.run())
            if found.rule not in ("configuration", "setting-without-effect")
        ]


@pytest.fixture
def host() -> Iterator[Host]:
    top = Path(tempfile.mkdtemp(prefix="sharefs-audited-"))
    top.chmod(0o755)
    try:
        for path, uid in [(top / "home", 0), (top / "db", 0)]:
            make(path, uid, 0o755 if path.name == "home" else 0o2770)
        users = []
        for name, uid in UIDS.items():
            make(top / "home" / name, uid, 0o2770)
            users.append(MailUser(name, uid, uid, top / "home" / name))
        with private_dovecot(CONFIG.format(top=top, gid=GID), users) as dovecot:
            share(dovecot)
            yield Host(top, dovecot)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def make(path: Path, uid: int, mode: int) -> None:
    path.mkdir()
    os.chown(path, uid, GID)
    path.chmod(mode)


def share(dovecot: Dovecot) -> None:
    for who, *words in [
        ("alice@ex.org", "mailbox", "create", "INBOX", "Work", "Work/Deep"),
        ("bob@ex.org", "mailbox", "create", "INBOX"),
    ]:
        dovecot.doveadm(*words[:2], "-u", who, *words[2:], check=False)
    dovecot.doveadm("save", "-u", "alice@ex.org", "-m", "Work", stdin=b"Subject: x\n\nbody\n")
    dovecot.doveadm("acl", "set", "-u", "alice@ex.org", "Work", "user=bob@ex.org", "lookup", "read")


def test_what_dovecot_makes_is_clean_and_what_spoils_it_is_found(host: Host) -> None:
    # The marker is a fault of this Dovecot's, mended in later ones.
    assert {each.rule for each in host.audited()} <= {"marker-in-root"}
    context = ViewerContext(host.config, host.users.lookup("bob@ex.org"), host.users)
    for operation, allowed in [
        (Operation.LIST, True), (Operation.READ, True), (Operation.INSERT, False),
    ]:  # fmt: skip
        asked = Asked(operation, "shared/alice@ex.org/Work")
        assert explain_mailbox(context, asked, names=Names()).allowed is allowed
    host.maildir("alice@ex.org", ".Work", "cur").chmod(0o700)
    (host.top / "db/shared.db").unlink()
    found = {each.rule for each in host.audited()}
    assert {"acl-without-access", "setgid-lost", "map-missing"} <= found
