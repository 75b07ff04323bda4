"""One host for each module of tests that harm no process."""

from collections.abc import Iterator

import pytest

from tests.robust.world import World, world


@pytest.fixture(scope="module")
def host() -> Iterator[World]:
    with world() as started:
        yield started
