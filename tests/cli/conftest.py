"""Fixtures for commands that work on mailboxes."""

from collections.abc import Iterator

import pytest

from tests.account.world import World, world_in_tmp
from tests.cli.command import Shell


@pytest.fixture
def host() -> Iterator[World]:
    with world_in_tmp() as made:
        yield made


@pytest.fixture
def shell(host: World, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(host, capfd)
