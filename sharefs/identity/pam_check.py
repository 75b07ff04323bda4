"""One question to PAM: may this user in with this password?  Blocking; PAM may take seconds.

PAM modules are foreign code in our process.  Only the auth process calls this, in a thread; mail
processes never do.
"""

import enum
import threading
from dataclasses import dataclass
from typing import Final

import pam

# <security/_pam_types.h>: PAM_MAX_RESP_SIZE, octets with the final NUL.
_MAX_RESPONSE: Final = 512

# Many PAM modules were written for programs that ask once and exit.
_one_at_a_time = threading.Lock()


class PamAnswer(enum.Enum):
    """What PAM's codes mean to us."""

    OK = enum.auto()
    MISMATCH = enum.auto()
    UNKNOWN_USER = enum.auto()
    EXPIRED = enum.auto()  # right password, but the account or password may not be used
    FAILURE = enum.auto()  # PAM itself is in trouble


# Linux-PAM, <security/_pam_types.h>.  What is not listed is PAM's own trouble.
_MEANING: Final = {
    0: PamAnswer.OK,
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


def check(
    user: str, password: bytes, service: str, *, session: bool = False, setcred: bool = False
) -> PamResult:
    """Ask PAM: authentication, then account rules.  Never raises for what a user could send.

    session: open a session and close it at once, for modules such as pam_mkhomedir.
    """
    if len(password) >= _MAX_RESPONSE or b"\0" in password:
        return PamResult(PamAnswer.MISMATCH, "the password is longer than PAM takes, or has a NUL")
    with _one_at_a_time:
        asking = pam.PamAuthenticator()
        try:
            asking.authenticate(user, password, service=service, call_end=False, resetcreds=setcred)
            if asking.code == 0 and session:
                asking.open_session()
                if asking.code == 0:
                    asking.close_session()
            return PamResult(_MEANING.get(asking.code, PamAnswer.FAILURE), str(asking.reason))
        finally:
            asking.end()
