"""What explain says of mailboxes is what happens: random permissions and rights, then the attempt.

SHAREFS_ACCOUNT_CASES: how many hosts are made up.
"""

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from sharefs.account import Account
from sharefs.acl import Mode
from sharefs.audit.explain import Asked, explain_mailbox
from sharefs.audit.names import Names
from sharefs.audit.operations import Operation
from sharefs.audit.viewing import ViewerContext
from sharefs.errors import SharingError
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.identifiers import user
from sharefs.rights import Rights
from tests.account.world import SHARED_GID, UIDS, World, append, names, world_in_tmp

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

CASES = int(os.environ.get("SHAREFS_ACCOUNT_CASES", "40"))
SEED = 4314

TRIED = (
    Operation.LIST, Operation.READ, Operation.FLAG, Operation.INSERT, Operation.EXPUNGE,
    Operation.DELETE, Operation.ADMINISTER, Operation.DELIVER, Operation.CREATE, Operation.SEEN,
    Operation.COPY_FROM, Operation.RENAME_TO,
)  # fmt: skip
OTHERS = {Operation.COPY_FROM: "INBOX", Operation.RENAME_TO: "shared/alice/M0/Renamed"}


def prepare(host: World, pick: random.Random) -> dict[Operation, str]:
    """One mailbox of alice's for each operation, all alike.  Returns bob's names for them."""
    letters = "".join(letter for letter in "lrwstipekxa" if pick.random() < 0.75)
    boxes = {operation: f"M{number}" for number, operation in enumerate(TRIED)}
    kinds = {
        part: (pick.choice((0o2770, 0o2750, 0o2755, 0o0770, 0o3770, 0o2710, 0o0700, 0o2775)),
               pick.choice((SHARED_GID, SHARED_GID, SHARED_GID, UIDS["alice"])))
        for part in (".", "cur", "new", "tmp", "root", "home")
    }  # fmt: skip
    if pick.random() < 0.5:  # at most one of the mailbox's own directories stands in the way
        spoilt = pick.choice((".", "cur", "new", "tmp", "none"))
        kinds |= {
            part: (0o2770, SHARED_GID) for part in (".", "cur", "new", "tmp") if part != spoilt
        }
    for part in ("root", "home"):  # or nearly nothing would get any further
        if pick.random() < 0.8:
            kinds[part] = (pick.choice((0o2770, 0o2775, 0o2755, 0o2750)), SHARED_GID)
    file_mode = pick.choice((0o660, 0o660, 0o640, 0o600, 0o664))
    acl_mode = pick.choice((0o660, 0o660, 0o660, 0o600))

    def fill(account: Account) -> None:
        for name in boxes.values():
            account.create(name)
            append(account, name)
            account.set_acl(name, user("bob"), Mode.REPLACE, Rights(letters))

    host.as_user("alice", fill)
    host.as_user("bob", lambda account: append(account, "INBOX"))
    for name in boxes.values():
        box = host.maildir("alice", "." + name)
        for path in (*box.glob("new/*"), *box.glob("cur/*")):
            path.chmod(file_mode)
        (box / "dovecot-acl").chmod(acl_mode)
        for part in ("cur", "new", "tmp", "."):
            put_on(box / part, *kinds[part])
    put_on(host.maildir("alice"), *kinds["root"])
    put_on(host.home("alice"), *kinds["home"])
    return {operation: f"shared/alice/{name}" for operation, name in boxes.items()}


def put_on(path: Path, mode: int, gid: int) -> None:
    os.chown(path, -1, gid)
    path.chmod(mode)


def read(account: Account, name: str) -> None:
    with contextlib.closing(account.open_mailbox(name, readonly=True)) as box:
        box.sync()
        for uid in box.uids():
            box.read(uid)
        if not list(box.uids()):
            raise PermissionError(name)


def flag(account: Account, name: str) -> None:
    with contextlib.closing(account.open_mailbox(name)) as box:
        box.sync()
        account.demand(name, Rights("w"))
        change = FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED))
        box.store_flags(list(box.uids()), change)
    with contextlib.closing(account.open_mailbox(name)) as box:
        box.sync()
        if not all(System.FLAGGED in box.flags_of(uid).system for uid in box.uids()):
            raise PermissionError(name)


def expunge(account: Account, name: str) -> None:
    with contextlib.closing(account.open_mailbox(name)) as box:
        box.sync()
        account.demand(name, Rights("e"))
        box.expunge(list(box.uids()))
        box.sync()
        if list(box.uids()):
            raise PermissionError(name)


def listed(account: Account, name: str) -> None:
    if name not in names(account):
        raise PermissionError(name)


def deliver(account: Account, name: str) -> None:
    """As procmail would: no ACL, only files."""
    box = Path(os.fspath(account.paths(name)["mailbox"]))
    (box / "tmp/delivered").write_bytes(b"Subject: x\n\n")
    os.rename(box / "tmp/delivered", box / "new/delivered")


def see(account: Account, name: str) -> None:
    with contextlib.closing(account.open_mailbox(name)) as box:
        box.sync()
        account.demand(name, Rights("s"))
        box.store_flags(list(box.uids()), FlagChange(FlagOp.ADD, FlagSet(System.SEEN)))
    with contextlib.closing(account.open_mailbox(name)) as box:
        box.sync()
        if not all(System.SEEN in box.flags_of(uid).system for uid in box.uids()):
            raise PermissionError(name)


def copy(account: Account, name: str) -> None:
    with (
        contextlib.closing(account.open_mailbox("INBOX", readonly=True)) as source,
        contextlib.closing(account.writable_target(name)) as target,
    ):
        source.sync()
        target.copy_from(source, list(source.uids()))


ATTEMPTS: dict[Operation, Callable[[Account, str], object]] = {
    Operation.LIST: listed,
    Operation.READ: read,
    Operation.FLAG: flag,
    Operation.INSERT: append,
    Operation.EXPUNGE: expunge,
    Operation.DELETE: lambda account, name: account.delete(name),
    Operation.ADMINISTER: lambda account, name: account.set_acl(
        name, user("carol"), Mode.REPLACE, Rights("lr")
    ),
    Operation.DELIVER: deliver,
    Operation.CREATE: lambda account, name: account.create(f"{name}/Sub"),
    Operation.SEEN: see,
    Operation.COPY_FROM: copy,
    Operation.RENAME_TO: lambda account, name: account.rename(name, OTHERS[Operation.RENAME_TO]),
}


def attempts(boxes: dict[Operation, str]) -> Callable[[Account], dict[Operation, str]]:
    def run(account: Account) -> dict[Operation, str]:
        """What refused each operation; "" if nothing did."""
        got = {}
        for operation in TRIED:
            try:
                ATTEMPTS[operation](account, boxes[operation])
                got[operation] = ""
            except (SharingError, OSError) as error:
                got[operation] = str(error) or type(error).__name__
        return got

    return run


def test_random_hosts() -> None:
    pick = random.Random(SEED)
    seen: set[tuple[Operation, bool]] = set()
    wrong: list[str] = []
    for case in range(CASES):
        with world_in_tmp(outsiders=frozenset({"dave"})) as host:
            boxes = prepare(host, pick)
            said = {}
            for operation in TRIED:
                context = ViewerContext(host.config, host.user("bob"), host.users)
                name = boxes[operation] + ("/Sub" if operation is Operation.CREATE else "")
                asked = Asked(operation, name, OTHERS.get(operation, ""))
                said[operation] = explain_mailbox(context, asked, names=Names())
            got = host.as_user("bob", attempts(boxes))
            for operation in TRIED:
                happened = not got[operation]
                seen.add((operation, happened))
                if said[operation].allowed != happened:
                    denied = said[operation].denied
                    wrong.append(
                        f"case {case}, {operation}: {denied} but {got[operation] or 'done'}"
                    )
    assert not wrong, "\n".join(wrong)
    assert seen == {(operation, answer) for operation in TRIED for answer in (True, False)}
