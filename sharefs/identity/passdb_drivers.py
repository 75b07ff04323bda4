"""What each kind of passdb says about one login: PAM, passwd-file, static.  Blocking."""

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sharefs.config import Form, Variables
from sharefs.errors import Code, SharingError
from sharefs.identity import pam_check, schemes
from sharefs.identity.fields import Fields, expand, expand_text
from sharefs.identity.files import FileCache
from sharefs.identity.pam_check import PamAnswer
from sharefs.identity.settings import Database

log = logging.getLogger(__name__)

# Checked when a database has nobody whose hash could be checked instead.  Of no password.
_DECOY: Final = "{SHA512-CRYPT}$6$sharefsdecoy$" + "/" * 86


class Answer(enum.Enum):
    """What one passdb said."""

    OK = "ok"
    MISMATCH = "password mismatch"
    UNKNOWN = "unknown user"
    DISABLED = "login not allowed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One login on its way through the passdbs."""

    user: str
    password: bytes
    variables: Variables
    remote: str
    proven: bool = False  # an earlier passdb has verified the password: only look up


class Drivers:
    """The drivers by name.  form: of the templates inside passwd-files."""

    def __init__(self, form: Form, files: FileCache) -> None:
        self._form = form
        self._files = files
        self._drivers: dict[str, Callable[[Database, Attempt, Fields], tuple[Answer, str]]] = {
            "pam": self._pam,
            "passwd-file": self._passwd_file,
            "static": self._static,
        }

    def ask(self, database: Database, attempt: Attempt, fields: Fields) -> tuple[Answer, str]:
        """The answer, and the reason for the log.  Adds the database's own fields, if it is OK.

        Raises SharingError when the database cannot tell.
        """
        driver = self._drivers.get(database.driver)
        if driver is None:
            raise SharingError(
                Code.UNAVAILABLE,
                f"passdb {database.label}: this driver is not implemented; use pam, passwd-file "
                "or static",
            )
        return driver(database, attempt, fields)

    def _passwd_file(
        self, database: Database, attempt: Attempt, fields: Fields
    ) -> tuple[Answer, str]:
        path = expand(database.path, attempt.variables, database.label)
        file = self._files.read(path, missing_is_empty=bool(database.path.variables))
        name = attempt.user
        if database.username_format:
            name = expand(database.username_format, attempt.variables, database.label)
        entry = file.entry(name)
        look_only = attempt.proven or database.deny
        if entry is None:
            if not look_only:
                decoy = file.decoy(name)
                stored = decoy.password if decoy and decoy.password else _DECOY
                spend_time(attempt.password, stored, database.scheme)
            return Answer.UNKNOWN, f"{name} is not in {path}"
        origin = str(entry.place)
        for key, value in entry.extra:
            fields.add(key, expand_text(value, self._form, attempt.variables, origin), origin)
        if look_only:
            return Answer.OK, ""
        return _check(attempt.password, entry.password or "", fields, database.scheme, origin)

    def _static(self, database: Database, attempt: Attempt, fields: Fields) -> tuple[Answer, str]:
        for name, template in database.fields.items():
            fields.add(name, expand(template, attempt.variables, database.label), database.label)
        if attempt.proven:
            return Answer.OK, ""
        stored = fields.get("password")
        return _check(attempt.password, stored, fields, database.scheme, database.label)

    def _pam(self, database: Database, attempt: Attempt, fields: Fields) -> tuple[Answer, str]:
        if attempt.proven or database.deny:
            raise SharingError(
                Code.UNAVAILABLE,
                f"passdb {database.label}: PAM cannot say whether {attempt.user} exists without "
                "the password; use a passwd-file here, or result_success = return-ok before it",
            )
        got = pam_check.check(
            attempt.user,
            attempt.password,
            expand(database.service, attempt.variables, database.label),
            remote=attempt.remote,
            session=database.pam_session,
            setcred=database.pam_setcred,
        )
        if got.answer is PamAnswer.FAILURE:
            raise SharingError(Code.UNAVAILABLE, f"PAM failed for {attempt.user}: {got.reason}")
        return _PAM_ANSWERS[got.answer], f"PAM: {got.reason}"


def spend_time(password: bytes, stored: str = _DECOY, scheme: str = "CRYPT") -> None:
    """Check a password whose answer does not matter, so that refusals take equally long."""
    try:
        schemes.verify(password, stored, default=scheme)
    except schemes.BadStoredPassword:
        schemes.verify(password, _DECOY)


_PAM_ANSWERS: Final = {
    PamAnswer.OK: Answer.OK,
    PamAnswer.MISMATCH: Answer.MISMATCH,
    PamAnswer.UNKNOWN_USER: Answer.UNKNOWN,
    PamAnswer.EXPIRED: Answer.DISABLED,
}


def _check(
    password: bytes, stored: str, fields: Fields, scheme: str, origin: str
) -> tuple[Answer, str]:
    """Compare.  A stored password that nobody could match is the administrator's to repair."""
    if not stored:
        if "nopassword" in fields:
            return Answer.OK, ""
        spend_time(password)
        return Answer.MISMATCH, f"{origin}: no password is stored; nopassword would let anybody in"
    if "nopassword" in fields:
        log.warning("%s: nopassword has no effect beside a password; remove one of them", origin)
    try:
        if schemes.verify(password, stored, default=scheme):
            return Answer.OK, ""
    except schemes.BadStoredPassword as exc:
        spend_time(password)
        raise SharingError(Code.INVALID, f"{origin}: {exc}") from exc
    return Answer.MISMATCH, Answer.MISMATCH.value
