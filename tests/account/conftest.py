"""Fixtures for accounts."""

from collections.abc import Iterator

import pytest

from tests.account.world import World, world_in_tmp


@pytest.fixture
def world() -> Iterator[World]:
    with world_in_tmp() as made:
        yield made
