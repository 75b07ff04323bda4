"""Making and removing system users and groups for a test, one test run at a time."""

import contextlib
import fcntl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def change_accounts(*command: str, stdin: str = "") -> None:
    """Run useradd(8) or one of its relatives.  Raises AssertionError with what it said."""
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@contextlib.contextmanager
def account_files() -> Iterator[None]:
    """One run at a time: the account tools give up when another holds their lock."""
    with open(Path(tempfile.gettempdir()) / "sharefs-test-accounts.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
