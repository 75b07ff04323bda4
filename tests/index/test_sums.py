"""Sums of a whole column are those of its values."""

from collections.abc import Sequence

import pytest

from sharefs.index.sums import sealed, unsealed_all

HIGHEST = (1 << 32) - 1


@pytest.mark.parametrize(
    "uids", [[1, 2, 3], [5], [1, 3, 4], [HIGHEST - 2, HIGHEST - 1, HIGHEST], [1, HIGHEST]]
)
def test_values_of_one_column_are_unsealed_together(uids: Sequence[int]) -> None:
    texts = [b"text of %d" % uid for uid in uids]
    values = [sealed(text, uid, 3) for text, uid in zip(texts, uids, strict=True)]
    assert unsealed_all(values, uids, 3) == texts
    assert unsealed_all(values, uids, 4) is None
    assert unsealed_all(values, [uid - 1 for uid in uids], 3) is None


@pytest.mark.parametrize("wrong", [None, 7, "text", b"", b"text"])
def test_one_wrong_value_among_them_is_found_out(wrong: object) -> None:
    values = [sealed(b"one", 1, 3), wrong, sealed(b"three", 3, 3)]
    assert unsealed_all(values, [1, 2, 3], 3) is None


def test_swapped_values_are_found_out() -> None:
    one, two = sealed(b"one", 1, 3), sealed(b"two", 2, 3)
    assert unsealed_all([two, one], [1, 2], 3) is None
