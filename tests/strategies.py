"""Hypothesis strategies for ACLs, shared by the tests of the pure model and of its files."""

from hypothesis import strategies as st

from sharefs.acl import Acl, AclViewer, Entry
from sharefs.identifiers import MAX_BYTES, Identifier, Kind
from sharefs.rights import CANONICAL, Rights

extra_names = st.text("abcdefgh-_.", min_size=1, max_size=8).filter(
    # names of standard rights are those rights, not extra ones
    lambda name: name not in Rights(CANONICAL).long_names()
)
letters = st.text(CANONICAL, max_size=14)
standard_rights = letters.map(Rights)
rights = st.builds(Rights, letters, st.lists(extra_names, max_size=3).map(tuple))

# Names as users and administrators choose them, and as attackers do: quotes, blanks, prefixes.
names = st.one_of(
    st.sampled_from(["bob", "carl", "staff", "owner", "anyone", "!ops", "$x", "-y", "#z", "a b"]),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12),
    st.text("a\"\\' :=$!-", min_size=1, max_size=8),
    st.just("é" * (MAX_BYTES // 2)),
)
_named = st.sampled_from([Kind.USER, Kind.GROUP, Kind.GROUP_OVERRIDE])
_plain = st.sampled_from([Kind.ANYONE, Kind.AUTHENTICATED, Kind.OWNER])
identifiers = st.one_of(st.builds(Identifier, _named, names), st.builds(Identifier, _plain))

# A small world, in which entries and viewers meet often.
_few = st.one_of(
    st.builds(Identifier, st.just(Kind.USER), st.sampled_from(["alice", "bob"])),
    st.builds(
        Identifier,
        st.sampled_from([Kind.GROUP, Kind.GROUP_OVERRIDE]),
        st.sampled_from(["staff", "ops"]),
    ),
    st.builds(Identifier, _plain),
)
entries = st.builds(
    Entry, _few, st.none() | standard_rights, st.none() | standard_rights, st.booleans()
)
acls = st.lists(entries, max_size=8).map(lambda found: Acl(tuple(found)))
_groups = st.frozensets(st.sampled_from(["staff", "ops"]))
owners = st.builds(
    AclViewer, st.just("alice"), _groups, st.just(True), st.just("alice"), st.just(True)
)
strangers = st.builds(AclViewer, st.sampled_from(["bob", "carl", None]), _groups)
viewers = owners | strangers
