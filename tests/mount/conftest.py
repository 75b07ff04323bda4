"""The mount answers with its compiled part or without: the same promises hold for both."""

import os
from collections.abc import Iterator

import pytest

from sharefs.mount.engine import CHOICE

# Their tests run once with each.  Others run with the compiled part, as it is installed.
BOTH = {
    "test_mirror_posix", "test_mount_mirror", "test_mount_view", "test_mount_rights",
    "test_mount_visibility", "test_mount_links",
}  # fmt: skip
ENGINES = ("compiled", "python")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in BOTH:
        needs_mount = {"fuse"} & {mark.name for mark in metafunc.definition.iter_markers()}
        engines = ENGINES if needs_mount else ENGINES[:1]
        metafunc.parametrize("engine_choice", engines, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def engine_choice(request: pytest.FixtureRequest) -> Iterator[str]:
    """What daemons that are started meanwhile are told to use."""
    choice: str = getattr(request, "param", ENGINES[0])
    before = os.environ.get(CHOICE)
    os.environ[CHOICE] = before or choice
    yield choice
    if before is None:
        del os.environ[CHOICE]
