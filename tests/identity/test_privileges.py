"""Becoming somebody is for good: children become, and tell what they can still do."""

import ctypes
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharefs.identity.privileges import become, enter_empty_root

pytestmark = pytest.mark.superuser

UID, GID, TEAM = 45_001, 45_002, 45_003


@pytest.fixture(autouse=True)
def _root_only() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, because it becomes other users")


def in_child(action: Callable[[], Any]) -> Any:
    """Run action in a child process; its JSON-able result, or "errno NAME" / exception name."""
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            here.close()
            try:
                result = action()
            except OSError as exc:
                result = f"OSError {exc.errno}"
            except Exception as exc:
                result = f"{type(exc).__name__}: {exc}"
            there.sendall(json.dumps(result).encode())
            status = 0
        finally:
            os._exit(status)
    there.close()
    octets = b""
    while chunk := here.recv(65536):
        octets += chunk
    here.close()
    os.waitpid(pid, 0)
    return json.loads(octets)


def status_of_self() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def outcome(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as exc:
        return type(exc).__name__
    return "done"


def test_ids_groups_and_capabilities_are_what_was_asked_for() -> None:
    def child() -> dict[str, str]:
        become(UID, GID, [TEAM])
        return status_of_self()

    got = in_child(child)
    assert got["Uid"].split() == [str(UID)] * 4
    assert got["Gid"].split() == [str(GID)] * 4
    assert got["Groups"].split() == [str(GID), str(TEAM)]
    assert got["NoNewPrivs"] == "1"
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(got[capabilities], 16) == 0, capabilities


def test_there_is_no_way_back(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)

    def child() -> dict[str, str]:
        become(UID, GID, [TEAM])
        return {
            "setuid": outcome(lambda: os.setuid(0)),
            "seteuid": outcome(lambda: os.seteuid(0)),
            "setgid": outcome(lambda: os.setgid(0)),
            "setgroups": outcome(lambda: os.setgroups([0])),
            "chown": outcome(lambda: os.chown(secret, UID, GID)),
            "secret": outcome(lambda: os.close(os.open(secret, os.O_RDONLY))),
            "another uid": outcome(lambda: os.setuid(UID + 1)),
        }

    assert set(in_child(child).values()) == {"PermissionError"}


def test_capabilities_that_survive_an_ordinary_drop_do_not_survive_this() -> None:
    def child() -> str:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
        become(UID, GID, [])
        return status_of_self()["CapPrm"]

    assert int(in_child(child), 16) == 0


def test_the_process_is_not_dumpable() -> None:
    def child() -> int:
        become(UID, GID, [])
        return int(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE

    assert in_child(child) == 0


@pytest.mark.parametrize(
    ("uid", "gid", "groups"),
    [(0, GID, []), (UID, 0, []), (UID, GID, [0]), (-1, GID, []), (UID, 2**32 - 1, []),
     (UID, GID, [2**32 + 5])],
    ids=["uid 0", "gid 0", "group 0", "uid -1", "gid -1", "group wraps"],
)  # fmt: skip
def test_bad_ids_are_refused_before_anything_changes(uid: int, gid: int, groups: list[int]) -> None:
    def child() -> list[object]:
        before = (os.getresuid(), os.getresgid(), os.getgroups())
        try:
            become(uid, gid, groups)
        except ValueError:
            return [before == (os.getresuid(), os.getresgid(), os.getgroups()), os.geteuid()]
        return ["became"]

    assert in_child(child) == [True, 0]


def test_becoming_twice_is_becoming_once_but_nobody_else() -> None:
    def child() -> list[str]:
        become(UID, GID, [TEAM])
        return [
            outcome(lambda: become(UID, GID, [TEAM])),
            outcome(lambda: become(UID + 1, GID, [])),
            outcome(lambda: become(UID, TEAM, [])),
        ]

    assert in_child(child) == ["done", "PermissionError", "PermissionError"]


def test_many_groups_arrive() -> None:
    def child() -> int:
        become(UID, GID, range(50_000, 50_500))
        return len(os.getgroups())

    assert in_child(child) == 501


def test_the_empty_root_is_all_there_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    def child() -> list[object]:
        enter_empty_root(tmp_path)
        become(UID, GID, [])
        return [os.listdir("/"), os.getcwd(), outcome(lambda: os.stat("/etc/passwd")),
                outcome(lambda: os.chroot("..")), outcome(lambda: os.mkdir("/x"))]  # fmt: skip

    want = [[], "/", "FileNotFoundError", "PermissionError", "PermissionError"]
    assert in_child(child) == want


def test_a_root_that_is_no_prison_is_refused(tmp_path: Path) -> None:
    full, open_to_all = tmp_path / "full", tmp_path / "open"
    full.mkdir(0o755)
    (full / "key").touch()
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for path in (full, open_to_all):
        with pytest.raises(ValueError, match="empty root directory"):
            enter_empty_root(path)
