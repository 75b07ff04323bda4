"""Password databases: may this login in, and as whom?  Asked in order, as Dovecot asks them.

Blocking: hashing takes tens of milliseconds, PAM may take seconds.  Not for several threads at
once; a process that wants parallel checks makes one PasswordDatabase for each thread.

Whoever fails learns nothing: unknown user, wrong password, forbidden network and disabled account
are one AuthFailed, and an unknown user costs the time of a known one.  The log gets the reason.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sharefs.config import Config, Template, Variables
from sharefs.errors import Code, SharingError
from sharefs.identity import schemes
from sharefs.identity.fields import Fields, expand
from sharefs.identity.files import FileCache
from sharefs.identity.from_config import identity_settings
from sharefs.identity.login_rules import applies, refusal
from sharefs.identity.model import Verified
from sharefs.identity.passdb_drivers import Answer, Attempt, Drivers, spend_time
from sharefs.identity.settings import Database, IdentitySettings, Result
from sharefs.identity.usernames import BadName, Login, normalise, parse_login

log = logging.getLogger(__name__)

_FINAL: Final = frozenset({Result.RETURN, Result.RETURN_OK, Result.RETURN_FAIL})

# Fields that steer the login itself and say nothing to the userdb or to settings.
_CONSUMED: Final = (
    "password", "nopassword", "allow_nets", "nologin", "reason", "fail", "nodelay",
)  # fmt: skip


class AuthFailed(SharingError):
    """The login is refused.  One kind for all reasons; str() and detail are for the log only.

    user: the name that was tried; short, and safe to log.
    """

    def __init__(self, detail: str, *, user: str) -> None:
        super().__init__(Code.NO_PERMISSION, detail)
        self.user = user


class PasswordDatabase:
    """All passdb blocks of a configuration, in their order."""

    def __init__(
        self, config: Config | IdentitySettings, *, files: FileCache | None = None
    ) -> None:
        self._settings = settings = identity_settings(config)
        self._drivers = Drivers(settings.form, files or FileCache())
        self._masters = [database for database in settings.passdbs if database.master]
        self._users = [database for database in settings.passdbs if not database.master]

    def verify(
        self,
        login: str,
        password: str | bytes,
        *,
        remote: str = "",
        tls: bool = False,
        mechanism: str = "PLAIN",
        protocol: str = "imap",
        authorize: str = "",
    ) -> Verified:
        """Who may go on, given what the client sent.

        remote: the client's address, "" for none (then only allow_nets=local matches).
        authorize: SASL's authorization identity, if it is not the login itself.
        Raises AuthFailed; SharingError(UNAVAILABLE) when a database could not be asked and none
        of the others let the login in.
        """
        try:
            who = parse_login(login, self._settings.names, _expand_name, authorize=authorize)
        except BadName as exc:
            # No hash is checked: this name never existed, and everybody can know the rules.
            shown = login[:64].encode("unicode_escape").decode()
            raise AuthFailed(str(exc), user=shown) from exc
        octets = password if isinstance(password, bytes) else password.encode("utf-8", "replace")
        if len(octets) > schemes.MAX_PASSWORD or b"\0" in octets:
            raise AuthFailed("the password is too long or has a NUL character", user=who.user)
        variables = Variables(
            user=who.user,
            protocol=protocol,
            remote_ip=remote,
            more={"mechanism": mechanism, "secured": "TLS" if tls else ""},
        )
        if who.master is None:
            attempt = Attempt(who.user, octets, variables, remote)
            return self._run(self._users, attempt, Fields(), mechanism)
        return self._verify_master(who, octets, variables, mechanism)

    def _verify_master(
        self, who: Login, password: bytes, variables: Variables, mechanism: str
    ) -> Verified:
        """The master's password first; then, if a passdb says "continue", that the user exists."""
        assert who.master is not None
        if not self._masters:
            detail = f"{who.master} asks for {who.user}, but no passdb has master = yes"
            raise AuthFailed(detail, user=who.user)
        variables = replace(variables, master_user=who.master)
        asked = replace(variables, user=who.master, more={**variables.more, "login_user": who.user})
        fields = Fields()
        attempt = Attempt(who.master, password, asked, variables.remote_ip)
        database, result = self._first_ok(self._masters, attempt, fields, mechanism)
        user, _ = fields.take("login_user")
        user = who.user if user is None else self._renamed(user, who.user)
        fields.take("user")
        if result in {Result.CONTINUE, Result.CONTINUE_OK}:
            later = replace(variables, user=user)
            attempt = Attempt(user, password, later, variables.remote_ip, proven=True)
            verified = self._run(self._users, attempt, fields, mechanism)
            return replace(verified, master=who.master)
        log.info("master %s let in as %s by passdb %s", who.master, user, database.label)
        return Verified(user, who.master, fields.values())

    def _first_ok(
        self, databases: Sequence[Database], attempt: Attempt, fields: Fields, mechanism: str
    ) -> tuple[Database, Result]:
        """The first database that lets the attempt in.  Raises as verify()."""
        trouble: SharingError | None = None
        reasons: list[str] = []
        for database in databases:
            if not applies(database, attempt.user, mechanism, found=False):
                continue
            try:
                answer, reason = self._ask(database, attempt, fields)
            except SharingError as exc:
                log.error("passdb %s: %s", database.label, exc.detail)
                trouble = exc
                if database.on_internal_failure in _FINAL:
                    break
                continue
            if answer is Answer.OK and database.on_success is not Result.RETURN_FAIL:
                return database, database.on_success
            reasons.append(f"{database.label}: {reason}")
            if database.on_failure in _FINAL:
                break
        raise _failure(attempt, reasons, trouble)

    def _run(
        self, databases: Sequence[Database], attempt: Attempt, fields: Fields, mechanism: str
    ) -> Verified:
        """Ask the ordinary passdbs in turn.  Raises as verify()."""
        state, trouble = False, None
        reasons: list[str] = []
        for database in databases:
            if not applies(database, attempt.user, mechanism, found=state):
                continue
            try:
                answer, reason = self._ask(database, attempt, fields)
            except SharingError as exc:
                log.error("passdb %s: %s", database.label, exc.detail)
                trouble, result = exc, database.on_internal_failure
                if database.deny:
                    raise _failure(attempt, reasons, trouble) from exc
            else:
                if database.deny:
                    if answer is not Answer.UNKNOWN:
                        spend_time(attempt.password)
                        reasons.append(f"{database.label}: the user is denied")
                        raise _failure(attempt, reasons, None)
                    continue
                result = database.on_success if answer is Answer.OK else database.on_failure
                if answer is Answer.OK:
                    attempt = self._moved_on(attempt, fields)
                    if result in {Result.CONTINUE, Result.CONTINUE_OK}:
                        attempt = replace(attempt, proven=True)
                else:
                    reasons.append(f"{database.label}: {reason}")
            if result in {Result.RETURN_OK, Result.CONTINUE_OK}:
                state = True
            elif result in {Result.RETURN_FAIL, Result.CONTINUE_FAIL}:
                state = False
            if result in _FINAL:
                break
        if not state:
            raise _failure(attempt, reasons, trouble)
        return Verified(attempt.user, None, fields.values())

    def _ask(self, database: Database, attempt: Attempt, fields: Fields) -> tuple[Answer, str]:
        """One database's answer and the reason for the log.  Only an OK adds to fields."""
        mine = Fields()
        for name, template in database.defaults.items():
            mine.add(name, expand(template, attempt.variables, database.label), database.label)
        answer, reason = self._drivers.ask(database, attempt, mine)
        if answer is not Answer.OK:
            return answer, reason
        more = {**attempt.variables.more, **mine.prefixed("passdb:")}
        variables = replace(attempt.variables, more=more)
        for name, template in database.overrides.items():
            mine.add(name, expand(template, variables, database.label), database.label)
        why_not = refusal(mine, attempt.remote)
        if why_not:
            return Answer.DISABLED, why_not
        for name in _CONSUMED:
            mine.take(name)
        for name in mine:
            fields.add(name, mine.get(name), mine.origin(name))
        return Answer.OK, ""

    def _renamed(self, name: str, was: str) -> str:
        """A name that a database gave.  It is held to the rules for names that clients give."""
        try:
            return normalise(name, self._settings.names, _expand_name)
        except BadName as exc:
            raise SharingError(
                Code.INVALID, f"the passdb renamed {was} to a name that cannot be: {exc}"
            ) from exc

    def _moved_on(self, attempt: Attempt, fields: Fields) -> Attempt:
        """The attempt under the name that the passdb's fields user, username or domain give."""
        name = was = attempt.user
        whole, _ = fields.take("user")
        if whole:
            name = whole
        username, _ = fields.take("username")
        if username:
            domain = name.partition("@")[1:]
            name = username if "@" in username else username + "".join(domain)
        domain_only, _ = fields.take("domain")
        if domain_only:
            name = f"{name.partition('@')[0]}@{domain_only}"
        if name != was:
            name = self._renamed(name, was)
            log.info("passdb renamed %s to %s", was, name)
        return replace(attempt, user=name, variables=replace(attempt.variables, user=name))


def _failure(
    attempt: Attempt, reasons: Sequence[str], trouble: SharingError | None
) -> SharingError:
    """What to raise.  Trouble wins: a password must not seem wrong because a database is away."""
    if trouble is not None:
        return SharingError(Code.UNAVAILABLE, trouble.detail, retryable=True)
    said = "; ".join(reasons) or "no passdb applies"
    return AuthFailed(
        f"login of {attempt.user} from {attempt.remote or 'local'}: {said}", user=attempt.user
    )


def _expand_name(template: Template, name: str) -> str:
    return expand(template, Variables(user=name), "auth_username_format")
