"""sharefs.sharing.policy: from ACL files to an answer, for every kind of namespace."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.acl import Effect
from sharefs.config.namespaces import AclSettings
from sharefs.errors import Code, Place, SharingError
from sharefs.rights import ADMIN, ALL, INSERT, LOOKUP, NONE, READ, Rights
from sharefs.sharing.policy import (
    MENDING,
    AclMailbox,
    Policy,
    Viewer,
    configured_entries,
    is_ignored,
    nonexistent,
    true_owner,
)

ALICE = Viewer("alice", frozenset({"staff"}))
BOB = Viewer("bob", frozenset({"staff"}))


@pytest.fixture
def work(tmp_path: Path) -> AclMailbox:
    (tmp_path / ".Work").mkdir()
    return AclMailbox(
        namespace_type="private", name="Work", owner="alice", acl_dir=tmp_path / ".Work"
    )


def shared(mailbox: AclMailbox) -> AclMailbox:
    """The same mailbox through the shared namespace."""
    return replace(mailbox, namespace_type="shared", name=f"shared/alice/{mailbox.name}")


def put(mailbox: AclMailbox, octets: bytes) -> None:
    assert mailbox.acl_dir is not None
    (mailbox.acl_dir / "dovecot-acl").write_bytes(octets)


def rights(viewer: Viewer, mailbox: AclMailbox, policy: Policy | None = None) -> Rights:
    return (policy or Policy()).rights_of(viewer, mailbox).rights


def test_defaults_by_namespace(work: AclMailbox) -> None:
    assert rights(ALICE, work) == ALL
    assert rights(BOB, work) == NONE
    assert rights(ALICE, shared(work)) == NONE, "nobody is owner in a shared namespace"
    public = replace(work, namespace_type="public", owner="", name="Public/Work")
    assert rights(ALICE, public) == NONE


def test_a_master_user_is_a_stranger(work: AclMailbox) -> None:
    put(work, b"user=admin lr\nowner lrsa\n")
    assert rights(Viewer("admin"), work) == Rights("lr")


def test_the_anonymous_user(work: AclMailbox) -> None:
    put(work, b"anyone l\nauthenticated lr\n")
    assert rights(Viewer(None), shared(work)) == LOOKUP


def test_changes_are_seen_at_once(work: AclMailbox) -> None:
    policy = Policy()
    for letters in ("l", "lr", "lrs", "lr", ""):
        put(work, f"user=bob {letters}\n".encode())
        assert policy.rights_of(BOB, shared(work)).rights == Rights(letters)


# --- defaults from elsewhere ---------------------------------------------------------------


def test_defaults_from_inbox(work: AclMailbox, tmp_path: Path) -> None:
    (tmp_path / "dovecot-acl").write_bytes(b"user=bob lr\nowner l\n")
    with_default = replace(work, default_acl_dir=tmp_path)
    got = Policy().rights_of(BOB, shared(with_default))
    assert got.rights == Rights("lr")
    assert got.reasons[-1].place == Place(str(tmp_path / "dovecot-acl"))
    put(work, b"user=bob s\n")
    assert rights(BOB, shared(with_default)) == Rights("s"), "an own entry ends the defaults"
    assert rights(ALICE, with_default) == ALL, "as in Dovecot, the owner has no such defaults"


def test_a_malformed_default_gives_nothing(work: AclMailbox, tmp_path: Path) -> None:
    (tmp_path / "dovecot-acl").write_bytes(b"user=bob lr\nowner z\n")
    assert rights(BOB, shared(replace(work, default_acl_dir=tmp_path))) == NONE


# --- global entries ------------------------------------------------------------------------

FILE = Place("sharefs.conf", 3)


def block(identifier: str, letters: str) -> AclSettings:
    return AclSettings(identifier=identifier, rights=letters, place=FILE)


def test_configured_entries_beat_local_ones(work: AclMailbox) -> None:
    put(work, b"user=bob lrswa\n")
    entries = configured_entries([block("user=bob", "l")], [block("group=staff", "lr")])
    got = Policy().rights_of(BOB, shared(replace(work, settings=entries)))
    assert got.rights == LOOKUP
    reason = got.reason_for(LOOKUP)
    assert reason is not None
    assert reason.place == FILE


def test_a_more_specific_block_replaces_the_same_identifier() -> None:
    entries = configured_entries([block("user=bob", "lr")], [], [block("user=bob", "-s")])
    assert [(str(entry), entry.rights, entry.negative) for entry in entries] == [
        ("user=bob", None, Rights("s"))
    ]


def test_a_bad_block_is_named() -> None:
    with pytest.raises(SharingError, match=r"sharefs\.conf:3: acl bob"):
        configured_entries([block("bob", "l")])


def test_the_global_file(work: AclMailbox, tmp_path: Path) -> None:
    (tmp_path / "global").write_bytes(b"shared/*/Work user=bob l\nPriv* anyone -\n")
    mailbox = replace(shared(work), global_file=tmp_path / "global")
    assert rights(BOB, mailbox) == NONE, "the second line is malformed"
    (tmp_path / "global").write_bytes(b"shared/*/Work user=bob l\nPriv* anyone lrs\n")
    assert rights(BOB, mailbox) == LOOKUP
    assert rights(BOB, replace(mailbox, name="Private")) == Rights("lrs")
    assert rights(BOB, replace(mailbox, name="Other")) == NONE


def test_ignored_namespaces(work: AclMailbox) -> None:
    put(work, b"user=bob l\n")
    assert rights(BOB, replace(shared(work), ignored=True)) == ALL
    assert rights(BOB, shared(work), Policy(enabled=False)) == ALL
    assert is_ignored("virtual/", ["virtual/"])
    assert is_ignored("archive/2020/", ["virtual/", "archive/*"])
    assert not is_ignored("", ["virtual/"])


# --- malformed files: nobody gains ----------------------------------------------------------

MALFORMED = [
    (b"user=bob lr\nanyone z\n", MENDING),
    (b"-user=bob z\nuser=bob lr\n", MENDING),
    (b"owner lr\nanyone z\n", LOOKUP),
    (b"group-override=staff r\nanyone z\n", NONE),
    (b"user=alice lrswa\n-owner zz\n", MENDING),
    (b"\xff\xfe", MENDING),
]


@pytest.mark.parametrize(("octets", "owner"), MALFORMED)
def test_a_malformed_file_gives_nobody_anything(
    work: AclMailbox, octets: bytes, owner: Rights
) -> None:
    put(work, octets)
    assert rights(BOB, shared(work)) == NONE
    assert rights(ALICE, work) == owner
    reason = Policy().rights_of(BOB, shared(work)).reason_for(READ)
    assert reason is not None
    assert reason.effect is Effect.REPLACED
    assert reason.place is not None
    assert "until that is repaired" in reason.text


LINES = [b"user=bob lr\n", b"-user=bob r\n", b"anyone lrs\n", b"group=staff lrwi\n",
         b"owner lrwsa\n", b"-owner a\n", b"group-override=staff lra\n"]  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=5), st.integers(0, 5))
def test_spoiling_a_line_never_gains(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], at: int
) -> None:
    directory = tmp_path_factory.mktemp("acl", numbered=True)
    mailbox = AclMailbox(namespace_type="private", name="Work", owner="alice", acl_dir=directory)
    spoilt = [*lines[:at], b"nonsense line\n", *lines[at:]]
    for who, seen in ((ALICE, mailbox), (BOB, shared(mailbox))):
        put(mailbox, b"".join(lines))
        before = rights(who, seen)
        put(mailbox, b"".join(spoilt))
        assert before.covers(rights(who, seen))


def test_no_place_for_a_file(work: AclMailbox) -> None:
    nowhere = replace(work, acl_dir=None)
    assert rights(ALICE, nowhere) == ALL
    assert rights(BOB, shared(nowhere)) == NONE


# --- refusals ------------------------------------------------------------------------------


def test_demand_returns_what_is_held(work: AclMailbox) -> None:
    put(work, b"user=bob lri\n")
    assert Policy().demand(BOB, shared(work), READ, INSERT).rights == Rights("lri")
    assert Policy().demand(BOB, shared(work)).rights == Rights("lri")


def test_without_lookup_the_answer_is_that_of_a_missing_mailbox(work: AclMailbox) -> None:
    want = nonexistent("shared/alice/Work")
    for octets in (b"", b"user=bob rsi\n", b"user=bob z\n"):
        put(work, octets)
        with pytest.raises(SharingError) as refused:
            Policy().demand(BOB, shared(work), ADMIN)
        assert (refused.value.code, refused.value.detail) == (want.code, want.detail)
        assert str(refused.value) == str(want)


def test_with_lookup_the_missing_right_is_named(work: AclMailbox) -> None:
    put(work, b"user=bob lrs\n-user=bob s\n")
    with pytest.raises(SharingError) as refused:
        Policy().demand(BOB, shared(work), Rights("s"))
    assert refused.value.code is Code.NO_PERMISSION
    assert "write-seen" in refused.value.detail
    assert ":2: -user=bob takes away s" in refused.value.detail


def test_the_acl_of_a_malformed_file_is_refused(work: AclMailbox) -> None:
    put(work, b"user=bob z\n")
    with pytest.raises(SharingError) as refused:
        Policy().acl_of(work)
    assert refused.value.code is Code.CORRUPT
    put(work, b"user=bob\tl\n")
    assert len(Policy().acl_of(work).entries) == 1, "a warning is no error"


# --- symlink shares ------------------------------------------------------------------------


def test_a_linker_is_a_stranger(tmp_path: Path) -> None:
    """Pain 38: in Dovecot whoever links a mailbox into his own tree owns it."""
    work = tmp_path / "alice" / ".Work"
    work.mkdir(parents=True)
    link = AclMailbox(
        namespace_type="private", name="shared/alice", owner="bob", acl_dir=work,
        true_owner="alice",
    )  # fmt: skip
    assert rights(BOB, link) == NONE
    put(link, b"user=bob lr\nowner lrwstipekxa\n")
    assert rights(BOB, link) == Rights("lr")
    assert rights(ALICE, link) == ALL
    assert rights(BOB, link, Policy(linker_is_owner=True)) == Rights("lr"), "user= still names him"
    put(link, b"user=carl lr\n")
    assert rights(BOB, link) == NONE
    assert rights(BOB, link, Policy(linker_is_owner=True)) == ALL
    assert rights(BOB, replace(link, true_owner="")) == NONE, "a link to nobody's mailbox"
    assert rights(BOB, replace(link, true_owner=None)) == ALL, "no link"


ROOTS = {Path("/home/alice/Maildir"): "alice", Path("/home/alice/Maildir/.team"): "team"}
LINKS = [
    ("/home/bob/Maildir/.Work", None),
    ("/home/bob/Maildir", None),
    ("/home/alice/Maildir/.Work", "alice"),
    ("/home/alice/Maildir/.team/.x", "team"),
    ("/home/alice/Maildirs/.x", ""),
    ("/srv/elsewhere", ""),
]


@pytest.mark.parametrize(("target", "want"), LINKS)
def test_true_owners(target: str, want: str | None) -> None:
    assert true_owner(Path(target), Path("/home/bob/Maildir"), "bob", ROOTS) == want
