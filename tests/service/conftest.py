"""Servers with the test double for the session, and users whose uids nobody else knows."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.dovecot import MailUser
from tests.support.server import Server, private_server

DOUBLE = (sys.executable, "-m", "tests.support.double_server", "{config}")

ALICE = MailUser("alice", 70001, 70001, Path("/nonexistent/alice"))
BOB = MailUser("bob", 70002, 70002, Path("/nonexistent/bob"), ("mail_access_groups=7777",))
CARL = MailUser("carl", 70003, 70003, Path("/nonexistent/carl"))
# Three people of one Unix identity.
VIRTUAL = [
    MailUser(name, 70010, 70010, Path("/nonexistent/v") / name) for name in ("xan", "yan", "zan")
]
USERS = [ALICE, BOB, CARL, *VIRTUAL]

Start = Callable[[str], AbstractContextManager[Server]]


def double_server(config: str = "") -> AbstractContextManager[Server]:
    """A server with these settings, the test double, and USERS."""
    return private_server(config, USERS, command=DOUBLE)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for all tests of a module that harm no process."""
    with double_server() as started:
        yield started
