"""ACLs of Cyrus and Courier: what comes over means the same, or a loss says that it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.acl import Acl, AclViewer, Entry, effective
from sharefs.errors import Code, SharingError
from sharefs.identifiers import ANYONE, AUTHENTICATED, OWNER, Identifier, Kind, group, user
from sharefs.rights import ALL, NONE, Rights
from sharefs.sharing.acl_text import format_acl, parse_acl
from sharefs.sharing.foreign import (
    IMPLICIT,
    Dialect,
    Loss,
    Rule,
    adding,
    export_acl,
    import_acl,
    replacing,
    sum_of,
)

GROUPS_OF = {
    "alice": frozenset({"g1"}), "bob": frozenset({"g1"}), "carol": frozenset({"g1", "g2"}),
    "dave": frozenset[str](),
}  # fmt: skip

VIEWERS = [
    AclViewer(None),
    AclViewer("stranger"),
    AclViewer("stranger", frozenset({"g1"})),
    AclViewer("bob", GROUPS_OF["bob"]),
    AclViewer("carol", GROUPS_OF["carol"]),
    AclViewer("dave", GROUPS_OF["dave"]),
    AclViewer("alice", GROUPS_OF["alice"], True, "alice", True),
]

rights = st.sets(st.sampled_from("lrswia")).map(lambda s: Rights.parse("".join(s)))
identifiers = st.sampled_from(
    [ANYONE, AUTHENTICATED, group("g1"), group("g2"), OWNER, user("bob"), user("carol"),
     user("dave"), user("alice"), Identifier(Kind.GROUP_OVERRIDE, "g2")]
)  # fmt: skip
acls = st.lists(
    st.builds(Entry, identifiers, rights | st.none(), rights | st.none()), max_size=5
).map(lambda entries: Acl(tuple(entries)))
rules = st.lists(
    st.builds(
        Rule,
        st.sampled_from([ANYONE, group("g1"), group("g2"), user("bob"), user("carol"),
                         user("alice"), OWNER]),
        rights, st.booleans(),
    ) | st.builds(Rule, st.just(ANYONE), rights, st.booleans(), st.just(True)),
    max_size=6,
)  # fmt: skip


@given(rules, st.sampled_from([Dialect.CYRUS, Dialect.COURIER]))
def test_what_comes_in_means_the_same(given_rules: list[Rule], dialect: Dialect) -> None:
    losses: list[Loss] = []
    acl = replacing(given_rules, "alice", IMPLICIT[dialect], GROUPS_OF, losses)
    assert not losses  # who is in which group is known
    assert parse_acl(format_acl(acl), "").acl == acl
    for viewer in VIEWERS:
        want = sum_of(given_rules, viewer, IMPLICIT[dialect])
        assert effective(acl, viewer, NONE).rights == want, viewer


@given(acls, st.sampled_from([Dialect.CYRUS, Dialect.COURIER]))
def test_what_goes_out_means_the_same_or_less(acl: Acl, dialect: Dialect) -> None:
    losses: list[Loss] = []
    got_rules = adding(acl, "alice", dialect, GROUPS_OF, losses)
    overridden = any(e.identifier.kind is Kind.GROUP_OVERRIDE for e in acl.entries)
    for viewer in VIEWERS:
        want = effective(acl, viewer, NONE).rights
        got = sum_of(got_rules, viewer, IMPLICIT[dialect])
        if not losses:
            assert got == want, viewer
        elif not overridden and not any("more there" in loss.text for loss in losses):
            more = IMPLICIT[dialect] if viewer.is_owner else NONE
            assert (want | more).covers(got), viewer


@given(acls)
def test_there_and_back_again(acl: Acl) -> None:
    """What was exported without a loss comes back with the same meaning."""
    for dialect in (Dialect.CYRUS, Dialect.COURIER):
        out = export_acl(acl, dialect, owner="alice", groups_of=GROUPS_OF)
        if out.losses:
            continue
        back = import_acl(out.text.encode(), dialect, owner="alice", groups_of=GROUPS_OF)
        assert not back.losses
        for viewer in VIEWERS:
            want = effective(acl, viewer, NONE).rights
            assert effective(back.acl, viewer, NONE).rights == want


def entries(text: str) -> Acl:
    return parse_acl(text.encode(), "").acl


EXPORTS = [  # dialect, Dovecot's lines, the other's
    (Dialect.CYRUS, "user=bob lrs\n", "bob\tlrs\nalice\tlrswipkxtea\n"),
    (Dialect.CYRUS, "group=ops lr\n", "group:ops\tlr\nalice\tlrswipkxtea\n"),
    (Dialect.COURIER, "user=bob lrk\n", "user=bob clr\nowner aceilrstwx\n"),
    # Replacing: bob has less than everybody.
    (Dialect.COURIER, "anyone lrs\nuser=bob l\n",
     "anyone lrs\nuser=bob l\n-user=bob rs\nowner aceilrstwx\n"),
    # Who logged in, without who did not.
    (Dialect.CYRUS, "authenticated lr\n",
     "anyone\tlr\n-anonymous\tlr\nalice\tlrswipkxtea\n"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "ours", "theirs"), EXPORTS, ids=range(len(EXPORTS)))
def test_exports(dialect: Dialect, ours: str, theirs: str) -> None:
    got = export_acl(entries(ours), dialect, owner="alice", groups_of={"bob": frozenset()})
    assert got.text == theirs


IMPORTS = [  # dialect, the other's lines, Dovecot's
    # The example of maildiracl(1): everybody reads, john may flag as well, mary may not open.
    (Dialect.COURIER,
     "owner aceilrstwx\nanyone lr\nuser=john w\n-user=mary r\n",
     "anyone lr\nuser=john lrw\n-user=mary r\n"),
    (Dialect.CYRUS, "bob lrs\nalice lrswipkxtecda\n", "user=bob lrs\n"),
    (Dialect.CYRUS, "bob\tlrs\n", "owner akxl\nuser=bob lrs\n"),
    (Dialect.CYRUS, "anonymous l\nalice lrswipkxtea\n", "anyone l\n-anyone \n"
     "authenticated \n-authenticated \n"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "theirs", "ours"), IMPORTS, ids=range(len(IMPORTS)))
def test_imports(dialect: Dialect, theirs: str, ours: str) -> None:
    got = import_acl(theirs.encode(), dialect, owner="alice")
    assert format_acl(got.acl).decode() == ours
    assert got.losses == ()


LOSSES = [  # dialect, Dovecot's lines, a word of the loss
    (Dialect.COURIER, "authenticated l\n", "authenticated"),
    (Dialect.COURIER, "user=bob lp\n", "no right p"),
    (Dialect.CYRUS, "user=bob l :custom\n", "custom"),
    (Dialect.CYRUS, "group-override=ops l\n", "group-override"),
    (Dialect.CYRUS, "owner lr\n", "owner"),
    (Dialect.CYRUS, "group=ops l\nuser=zoe r\n", "in case zoe is in one of the groups ops"),
    (Dialect.CYRUS, "user=anonymous l\n", "no user can have this name"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "ours", "word"), LOSSES, ids=range(len(LOSSES)))
def test_losses_are_told(dialect: Dialect, ours: str, word: str) -> None:
    got = export_acl(entries(ours), dialect, owner="alice", groups_of=GROUPS_OF)
    assert any(word in str(loss) for loss in got.losses), got


def test_annotation_rights_and_digits_are_told() -> None:
    got = import_acl(b"bob lrn05\n", Dialect.CYRUS, owner="")
    assert [str(loss) for loss in got.losses] == [
        "bob: the rights 05n are unknown to Dovecot and were left out"
    ]


@pytest.mark.parametrize(
    "line", [b"lonely", b"bob l?", b"\xff l", b"bob L", b"usr=bob l", b"user= l"]
)
def test_bad_lines_are_refused_with_their_place(line: bytes) -> None:
    with pytest.raises(SharingError) as caught:
        import_acl(b"anyone l\n" + line + b"\n", Dialect.COURIER, owner="", file="rules")
    assert caught.value.code is Code.INVALID
    assert caught.value.detail.startswith("rules:2: ")


@given(st.binary(max_size=60), st.sampled_from(Dialect))
def test_garbage_is_refused_or_read(octets: bytes, dialect: Dialect) -> None:
    try:
        import_acl(octets, dialect, owner="alice")
    except SharingError as refused:
        assert refused.code is Code.INVALID  # noqa: PT017  # or it was read


def test_all_rights_of_an_owner_need_no_line() -> None:
    got = import_acl(b"owner acdeilrstwxp\n", Dialect.COURIER, owner="alice")
    assert got.acl == Acl(())
    assert effective(got.acl, VIEWERS[-1], NONE).rights == ALL
