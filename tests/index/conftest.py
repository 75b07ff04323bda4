"""An index that is set aside without being told to would hide every other fault."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Tests that expect warnings look at them and call caplog.clear()."""
    yield
    got = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert not got
