"""One question to PAM: may this user in with this password?  Blocking: modules may ask a network.

PAM modules are foreign code in our process.  Only the auth process calls this, in its threads (each
question has a PAM handle of its own); mail processes never do.
"""

import ctypes
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pam

# <security/_pam_types.h>: PAM_MAX_RESP_SIZE, octets with the final NUL.
_MAX_RESPONSE: Final = 512

_PAM_SUCCESS: Final = 0
_PAM_RHOST: Final = 4
_PAM_FAIL_DELAY: Final = 10


class PamAnswer(enum.Enum):
    """What PAM's codes mean to us."""

    OK = enum.auto()
    MISMATCH = enum.auto()
    UNKNOWN_USER = enum.auto()
    EXPIRED = enum.auto()  # right password, but the account or password may not be used
    FAILURE = enum.auto()  # PAM itself is in trouble


# Linux-PAM, <security/_pam_types.h>.  What is not listed is PAM's own trouble.
_MEANING: Final = {
    _PAM_SUCCESS: PamAnswer.OK,
    6: PamAnswer.EXPIRED,  # PAM_PERM_DENIED: account rules (pam_access, pam_time) say no
    7: PamAnswer.MISMATCH,  # PAM_AUTH_ERR
    8: PamAnswer.MISMATCH,  # PAM_CRED_INSUFFICIENT
    10: PamAnswer.UNKNOWN_USER,
    11: PamAnswer.MISMATCH,  # PAM_MAXTRIES
    12: PamAnswer.EXPIRED,  # PAM_NEW_AUTHTOK_REQD
    13: PamAnswer.EXPIRED,  # PAM_ACCT_EXPIRED
    16: PamAnswer.EXPIRED,  # PAM_CRED_EXPIRED
    27: PamAnswer.EXPIRED,  # PAM_AUTHTOK_EXPIRED
}


@dataclass(frozen=True, slots=True)
class PamResult:
    """answer, and PAM's own words for the log."""

    answer: PamAnswer
    reason: str


# pam_authenticate(3) sleeps for seconds after a failure.  The login process delays the client
# itself; sleeping here would only let a stranger's guesses hold up everybody else's logins.
_no_delay: Final = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)(
    lambda retval, microseconds, appdata: None
)


class _Asking(pam.PamAuthenticator):  # type: ignore[misc]  # python-pam has no types
    """python-pam's conversation, with the client's address and without PAM's own delay."""

    pam_start: Callable[..., int]

    def __init__(self, remote: str) -> None:
        super().__init__()
        start = self.pam_start

        def start_and_tell(*args: object) -> int:
            code = start(*args)
            if code == _PAM_SUCCESS:
                delay = ctypes.cast(_no_delay, ctypes.c_void_p)
                self.pam_set_item(self.handle, _PAM_FAIL_DELAY, delay)
                if remote:
                    self.pam_set_item(self.handle, _PAM_RHOST, ctypes.c_char_p(remote.encode()))
            return code

        self.pam_start = start_and_tell


def check(
    user: str,
    password: bytes,
    service: str,
    *,
    remote: str = "",
    session: bool = False,
    setcred: bool = False,
) -> PamResult:
    """Ask PAM: authentication, then account rules.  Never raises for what a user could send.

    remote: the client's address, for modules such as pam_access and pam_faillock.
    session: open a session and close it at once, for modules such as pam_mkhomedir.
    """
    if len(password) >= _MAX_RESPONSE or b"\0" in password:
        return PamResult(PamAnswer.MISMATCH, "the password is longer than PAM takes, or has a NUL")
    asking = _Asking(remote)
    try:
        asking.authenticate(user, password, service=service, call_end=False, resetcreds=setcred)
        if asking.code == _PAM_SUCCESS and session:
            asking.open_session()
            if asking.code == _PAM_SUCCESS:
                asking.close_session()
        return PamResult(_MEANING.get(asking.code, PamAnswer.FAILURE), str(asking.reason))
    finally:
        asking.end()
