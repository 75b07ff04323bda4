"""The small host of account tests, with homes that are closed to everybody else."""

from collections.abc import Iterator

import pytest

from tests.account.world import UIDS, World, world_in_tmp
from tests.cli.command import Shell


@pytest.fixture
def host() -> Iterator[World]:
    with world_in_tmp(outsiders=frozenset(UIDS)) as made:
        for name in UIDS:
            made.home(name).chmod(0o700)
        yield made


@pytest.fixture
def shell(host: World, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(host, capfd)
