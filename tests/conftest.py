"""What every test gets: leak checks, honest markers, directories that other users can enter."""

import contextlib
import gc
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest

from tests.support.dovecot import Dovecot, MailUser, private_dovecot

OPEN_TMP_PREFIX: Final = "sharefs-test-"
CLIENTS: Final = ("mbsync", "mutt", "neomutt", "tmux", "curl", "offlineimap", "getmail")
# Machines are busy, and a slow example says nothing of what a law says.
hypothesis.settings.register_profile("sharefs", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("sharefs")

BROWSERS: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def _missing(item: pytest.Item) -> str | None:
    """What a test needs and this machine lacks."""
    if item.get_closest_marker("superuser") and os.geteuid() != 0:
        return "needs the superuser"
    if item.get_closest_marker("dovecot"):
        if os.geteuid() != 0:
            return "needs the superuser to start Dovecot"
        absent = [name for name in ("dovecot", "doveadm") if shutil.which(name) is None]
        if absent:
            return f"needs {' and '.join(absent)}"
    if item.get_closest_marker("fuse"):
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "needs /dev/fuse"
        if importlib.util.find_spec("pyfuse3") is None:
            return "needs pyfuse3 (pip install 'sharefs[mount]')"
    if item.get_closest_marker("clients"):
        absent = [name for name in CLIENTS if shutil.which(name) is None]
        if absent:
            return f"needs {', '.join(absent)}"
    if item.get_closest_marker("browser") and not any(map(shutil.which, BROWSERS)):
        return f"needs one of {', '.join(BROWSERS)}"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, but not in CI: there a tier that does not run is a failure."""
    missing = _missing(item)
    if missing is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{missing}; in CI that is a failure, not a skip", pytrace=False)
    pytest.skip(missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip of any kind, by a mark or from inside a test, is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which in CI is a failure: {report.longrepr}"
    return report


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _children() -> set[int]:
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):
            found |= {
                int(pid) for pid in Path(f"/proc/self/task/{task}/children").read_text().split()
            }
    return found


# Directories made by this process; another test run at the same moment has mounts of its own.
_made: list[str] = []
_make_directory = tempfile.mkdtemp


def _make_and_remember(*args: Any, **kwargs: Any) -> Any:
    _made.append(os.fsdecode(_make_directory(*args, **kwargs)))
    return _made[-1]


tempfile.mkdtemp = _make_and_remember


@pytest.fixture(scope="session", autouse=True)
def _remember_tmp_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    _made.append(str(tmp_path_factory.getbasetemp()))


def _our_mounts() -> set[str]:
    ours = tuple(f"{path}/" for path in _made)
    points = {line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return {point for point in points if f"{point}/".startswith(ours)}


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No descriptor, child process or mount outlives its test."""
    before = _descriptors()
    children = _children()
    mounts = _our_mounts()
    yield
    leaked = _new_descriptors(before)
    if leaked:
        gc.collect()  # what only waits for the collector is reported as a ResourceWarning
        leaked = _new_descriptors(before)
    assert not leaked, f"descriptors left open: {leaked}"
    assert not _children() - children, "child processes left running"
    assert not _our_mounts() - mounts, "mounts left behind"


def _new_descriptors(before: dict[int, str]) -> dict[int, str]:
    return {
        fd: target
        for fd, target in _descriptors().items()
        if before.get(fd) != target and not target.startswith("/proc/")
    }


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """An empty directory that every user can enter, unlike tmp_path.  Removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix=OPEN_TMP_PREFIX))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start_dovecot() -> Iterator[Callable[[str, Sequence[MailUser]], Dovecot]]:
    """start_dovecot(config, users): a private Dovecot that ends with the test.

    For one server for a whole module use tests.support.dovecot.private_dovecot in a fixture.
    """
    with contextlib.ExitStack() as stack:
        yield lambda config, users: stack.enter_context(private_dovecot(config, users))
