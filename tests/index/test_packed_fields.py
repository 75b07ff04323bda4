"""Header fields that are kept taken apart are those of the header, octet by octet."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs import message
from sharefs.index.packed_fields import NAMES, pack, picker

LINES = st.sampled_from(
    [
        b"From: a\r\n",
        b"from : b\r\n\tfolded: on\r\n",
        b"SUBJECT:\r\n",
        b"Subject: x\ny: bare LF\r\n",
        b"Subject: with\0NUL\r\n",
        b"Date: x\r\n \r\n",
        b"X-Unheard-Of: y\r\n",
        b"no field\r\n",
        b" lost fold\r\n",
        b"To: at the end",
        b"\rCc: x\r\r\n",
        b"\r\n",
    ]
)


@given(st.lists(LINES, max_size=8), st.sets(st.sampled_from((*NAMES[:3], b"FROM", b"SUBJECT"))))
def test_any_choice_is_that_of_the_header(lines: list[bytes], names: set[bytes]) -> None:
    header = b"".join(lines)
    packed = pack(header)
    for some in (tuple(names), (b"subject", b"To", b"date"), NAMES):
        assert picker(some)([packed, packed]) == [message.header_fields(header, some)] * 2


@pytest.mark.parametrize("header", [b"", b"\r\n", b"X: y\r\n\r\n"])
def test_nothing_kept(header: bytes) -> None:
    assert picker((b"FROM",))([pack(header)]) == [b"\r\n"]


def test_more_orders_than_are_remembered() -> None:
    pick = picker((b"CC", b"TO"))
    for some in product((b"To", b"Cc", b"From"), repeat=7):
        header = b"".join(b"%b: %d\r\n" % (name, at) for at, name in enumerate(some)) + b"\r\n"
        assert pick([pack(header)]) == [message.header_fields(header, (b"CC", b"TO"))]
