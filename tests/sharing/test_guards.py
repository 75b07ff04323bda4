"""sharefs.sharing.guards: changes that would lock somebody out."""

import pytest

from sharefs.acl import Acl, AclViewer, Entry, Mode, Update
from sharefs.identifiers import OWNER, Identifier, user
from sharefs.rights import ALL, CANONICAL, NONE, Rights
from sharefs.sharing.acl_text import parse_acl
from sharefs.sharing.guards import administrators, keep_admin, locks_out

ALICE = AclViewer("alice", frozenset({"staff"}), True, "alice", True)


def acl_of(*lines: str) -> Acl:
    return parse_acl("".join(f"{line}\n" for line in lines).encode(), "f").acl


KEPT = [  # id, ACL before, update, rights it then names
    ("replace", [], Update.of(user("alice"), Mode.REPLACE, Rights("lr")), "lra"),
    ("replace-owner", [], Update.of(OWNER, Mode.REPLACE, Rights("lr")), "lra"),
    ("remove", ["user=alice lra"], Update.of(user("alice"), Mode.REMOVE, Rights("ra")), "r"),
    ("first-add-keeps-defaults", [], Update.of(user("alice"), Mode.ADD, Rights("s")), CANONICAL),
    ("later-add", ["owner lra"], Update.of(user("alice"), Mode.ADD, Rights("s")), "s"),
    ("others", [], Update.of(user("bob"), Mode.REPLACE, Rights("lr")), "lr"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "update", "want"), [row[1:] for row in KEPT], ids=[row[0] for row in KEPT]
)
def test_nobody_drops_his_own_admin_right(before: list[str], update: Update, want: str) -> None:
    kept = keep_admin(acl_of(*before), update, ALICE)
    assert kept.positive is not None
    assert kept.positive.rights == Rights(want)


def test_the_guard_is_for_private_namespaces_and_positive_rights() -> None:
    replacing = Update.of(user("bob"), Mode.REPLACE, Rights("lr"))
    stranger = AclViewer("bob", owner_name="alice", private_namespace=False)
    assert keep_admin(acl_of(), replacing, stranger) is replacing
    negative = Update.of(user("alice"), Mode.REPLACE, Rights("l"), negative=True)
    assert keep_admin(acl_of(), negative, ALICE) is negative
    deletion = Update.deletion(user("alice"))
    assert keep_admin(acl_of("user=alice la"), deletion, ALICE) is deletion


LOCK_OUT = [  # id, before, after, owner, part of the answer
    ("override", [], ["group-override=staff l"], ALICE, "group-override=staff replaces"),
    ("negative", [], ["-owner a"], ALICE, "-owner takes away a"),
    ("named-owner", ["user=alice lra"], ["user=alice lr"], ALICE, "would lose the admin right"),
    ("harmless", [], ["user=bob l"], ALICE, ""),
    ("others-admin", ["user=bob la"], [], ALICE, ""),
    ("public-last", ["user=bob la", "user=carl l"], ["user=carl l"], None, "nobody would be left"),
    ("public-not-last", ["user=bob la", "group=x a"], ["group=x a"], None, ""),
    ("public-negative", ["user=bob la"], ["user=bob la", "-user=bob a"], None, "nobody"),
    ("public-empty", [], ["user=bob l"], None, ""),
    ("already-lost", ["group-override=staff l"], ["group-override=staff lr"], ALICE, ""),
]


@pytest.mark.parametrize(
    ("before", "after", "owner", "want"), [row[1:] for row in LOCK_OUT],
    ids=[row[0] for row in LOCK_OUT],
)  # fmt: skip
def test_lock_outs_are_foreseen(
    before: list[str], after: list[str], owner: AclViewer | None, want: str
) -> None:
    got = locks_out(acl_of(*before), acl_of(*after), owner)
    assert (want in got) if want else got == ""


def test_administrators() -> None:
    acl = acl_of("user=bob la", "group=ops a", "anyone l", "user=carl a", "-user=carl a")
    names = {str(identifier) for identifier in administrators(acl, ALICE)}
    assert names == {"owner", "user=bob", "group=ops"}
    everybody = Acl((Entry(Identifier.parse_file("anyone").identifier, ALL),))
    assert {str(one) for one in administrators(everybody, None)} == {"anyone"}
    assert administrators(Acl((Entry(user("bob"), NONE),)), None) == frozenset()
