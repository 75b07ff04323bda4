"""One running host for each kind and module, empty again before every test.

Whatever the clients did, no process of the server has died of it.
"""

import re
from collections.abc import Iterator

import pytest

from tests.interop.host import Host, running_host
from tests.interop.hosts import STANDARD


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host of the kind that is the test's parameter, the standard one without it."""
    with running_host(getattr(request, "param", STANDARD)) as host:
        yield host
        bugs = re.findall(r"^.*(?:Traceback|: (?:Fatal|Critical|Panic): ).*$", host.log(), re.M)
        assert not bugs, "\n".join(bugs)


@pytest.fixture
def host(running: Host) -> Host:
    running.wipe()
    return running
