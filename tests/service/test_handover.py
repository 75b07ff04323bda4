"""A handover survives its way through JSON."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from imap.service.handover import Handover, decode, decode_user, encode, encode_user
from sharefs.identity.model import Group, MailUser

TEXT = st.text(max_size=20)
IDS = st.integers(min_value=1, max_value=2**32 - 2)
USERS = st.builds(
    MailUser,
    name=TEXT,
    uid=IDS,
    gid=IDS,
    home=st.none() | TEXT.map(lambda text: Path("/home") / text.replace("\0", "")),
    groups=st.lists(st.builds(Group, IDS, TEXT, TEXT), max_size=3).map(tuple),
    acl_user=TEXT,
    acl_groups=st.frozensets(TEXT, max_size=3),
    master=st.none() | TEXT,
    fields=st.dictionaries(TEXT, TEXT, max_size=3),
    anonymous=st.booleans(),
    origins=st.dictionaries(TEXT, TEXT, max_size=3),
)
HANDOVERS = st.builds(
    Handover,
    user=USERS,
    tag=TEXT,
    unread=st.binary(max_size=50),
    remote=TEXT,
    local=TEXT,
    tls=st.booleans(),
    session_id=TEXT,
)


@given(USERS)
def test_user_round_trip(user: MailUser) -> None:
    got = decode_user(json.loads(json.dumps(encode_user(user))))
    assert got == user
    assert (got.fields, got.origins) == (user.fields, user.origins)


@given(HANDOVERS)
def test_handover_round_trip(handover: Handover) -> None:
    assert decode(json.loads(json.dumps(encode(handover)))) == handover
