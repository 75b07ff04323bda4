"""A small host for reports, with its command line."""

from collections.abc import Iterator

import pytest

import sharefs.audit.rules  # noqa: F401  # findings name rules, which are known once written
from tests.account.world import World, world_in_tmp
from tests.cli.command import Shell


@pytest.fixture
def host() -> Iterator[World]:
    with world_in_tmp(outsiders=frozenset({"dave"})) as made:
        yield made


@pytest.fixture
def shell(host: World, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(host, capfd)
