"""One thread as somebody else, and a superuser with few capabilities."""

import os
from pathlib import Path

import pytest

from sharefs.identity.privileges import Capability, call_as, keep_capabilities
from tests.support.become import run_as

pytestmark = pytest.mark.superuser

UID, GID, TEAM = 61001, 61001, 61500


def test_files_belong_to_whom_we_act_for(open_tmp: Path) -> None:
    os.chown(open_tmp, UID, GID)
    call_as(UID, GID, [TEAM], lambda: (open_tmp / "his").write_text("x"))
    status = (open_tmp / "his").stat()
    assert (status.st_uid, status.st_gid) == (UID, GID)
    (open_tmp / "ours").write_text("x")
    assert (open_tmp / "ours").stat().st_uid == 0


def test_the_kernel_refuses_what_he_may_not(open_tmp: Path) -> None:
    secret = open_tmp / "secret"
    secret.write_text("x")
    secret.chmod(0o640)
    with pytest.raises(PermissionError):
        call_as(UID, GID, [], secret.read_text)
    os.chown(secret, 0, TEAM)
    assert call_as(UID, GID, [TEAM], secret.read_text) == "x"
    with pytest.raises(PermissionError):
        call_as(UID, GID, [TEAM], lambda: os.chown(secret, UID, GID))


def test_the_rest_of_the_process_stays_itself(open_tmp: Path) -> None:
    groups = os.getgroups()
    call_as(UID, GID, [TEAM], lambda: None)
    assert (os.geteuid(), os.getgroups()) == (0, groups)
    assert "Uid:\t0\t0\t0\t0" in Path("/proc/self/status").read_text()


@pytest.mark.parametrize(("uid", "gid"), [(0, GID), (UID, 0), (-1, GID)])
def test_nobody_acts_as_the_superuser(uid: int, gid: int) -> None:
    with pytest.raises(ValueError, match="refusing"):
        call_as(uid, gid, [], lambda: None)


def test_capabilities_that_were_given_up_are_gone(open_tmp: Path) -> None:
    private = open_tmp / "private"
    private.write_text("x")
    os.chown(private, UID, GID)
    private.chmod(0o600)

    def attempt() -> tuple[str, str, str]:
        keep_capabilities([Capability.DAC_OVERRIDE])
        try:
            os.chown(private, 0, 0)
        except PermissionError:
            status = Path("/proc/self/status").read_text()
            masks = [line.split()[1] for line in status.splitlines() if line.startswith("Cap")]
            return private.read_text(), masks[1], masks[3]
        return "", "", ""

    want = f"{1 << Capability.DAC_OVERRIDE:016x}"
    assert run_as(0, 0, (), attempt) == ("x", want, want)
