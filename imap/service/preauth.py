"""IMAP before login: what may be said, and what to do about it.  Pure; the login process acts.

RFC 3501 sections 6.1 and 6.2, RFC 4959 (SASL-IR), RFC 4616 (PLAIN), RFC 2971 (ID),
RFC 5530 (response codes).
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from imap.wire import Command, Cursor, ProtocolError

# Limits of a peer we know nothing about.  8192 octets is what Dovecot reads before login; a
# password may be long, a conversation of megabytes has no purpose here.
MAX_LINE: Final = 8192  # octets
MAX_COMMANDS: Final = (
    100  # commands without a login attempt; Dovecot's 10 bad ones are too few for ID
)
MAX_BAD: Final = 10  # commands that are no commands: not an IMAP client
_MAX_ID_PAIRS: Final = 30  # RFC 2971 section 3.3


@dataclass(frozen=True, slots=True)
class Policy:
    """What this listener offers.

    greeting: text after the capabilities.  starttls: TLS can be started.  cleartext: passwords are
    welcome without TLS (a loopback client, a trusted network, or auth_allow_cleartext).
    failure_delay: seconds before the first failure is answered; longest_delay: before any.
    max_failures: failed attempts after which the connection ends.
    """

    greeting: str = "sharefs ready."
    starttls: bool = False
    cleartext: bool = False
    failure_delay: float = 2.0
    longest_delay: float = 15.0
    max_failures: int = 3


@dataclass(frozen=True, slots=True)
class Say:
    """Send octets and go on."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Send octets and hang up.  reason is for the log."""

    octets: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class StartTls:
    """Send octets, throw away what else the client sent, and shake hands."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """Send octets; the next line is a SASL response, for PreAuth.response()."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Attempt:
    """Ask auth.  authzid: on whose behalf, when that is somebody else; empty: the user."""

    tag: str
    mechanism: str
    user: str
    password: str
    authzid: str = ""

    def __repr__(self) -> str:
        return f"Attempt({self.tag!r}, {self.mechanism!r}, {self.user!r}, <password>)"


@dataclass(frozen=True, slots=True)
class Refused:
    """An attempt that auth need not hear of.  Answered as a wrong password, as late."""

    tag: str
    user: str
    reason: str


Action: TypeAlias = Say | Close | StartTls | ReadResponse | Attempt | Refused

CAPABILITIES: Final = ("IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE")

AUTH_FAILED: Final = "NO [AUTHENTICATIONFAILED] Authentication failed."
UNAVAILABLE: Final = "NO [UNAVAILABLE] Temporary authentication failure."
_PRIVACY: Final = (
    "NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections."
)


class PreAuth:
    """One connection before login.  Feed it commands; do what it answers."""

    def __init__(self, policy: Policy, *, tls: bool) -> None:
        self.policy = policy
        self.tls = tls
        self.failures = 0
        self._commands = 0
        self._bad = 0
        self._waiting_tag: str | None = None  # of the AUTHENTICATE whose response is awaited
        self._table: dict[str, Callable[[Command, Cursor], Action]] = {
            "CAPABILITY": self._capability,
            "NOOP": self._noop,
            "LOGOUT": self._logout,
            "ID": self._id,
            "STARTTLS": self._starttls,
            "LOGIN": self._login,
            "AUTHENTICATE": self._authenticate,
        }

    @property
    def secure(self) -> bool:
        """Whether a password may be sent."""
        return self.tls or self.policy.cleartext

    def capabilities(self) -> str:
        """What is possible now; the rest comes with the OK of the login."""
        words = [*CAPABILITIES]
        if self.policy.starttls and not self.tls:
            words.append("STARTTLS")
        words.append("AUTH=PLAIN" if self.secure else "LOGINDISABLED")
        return " ".join(words)

    def greeting(self) -> bytes:
        return f"* OK [CAPABILITY {self.capabilities()}] {self.policy.greeting}\r\n".encode()

    def command(self, command: Command) -> Action:
        """Never raises: a command that does not parse is answered BAD, ten of them with BYE."""
        self._commands += 1
        if self._commands > MAX_COMMANDS:
            return Close(b"* BYE Too many commands without logging in.\r\n", "too many commands")
        handle = self._table.get(command.name)
        if handle is None:
            text = "Unknown command, or not valid before login."
            return self.bad(ProtocolError(text, tag=command.tag))
        try:
            return handle(command, Cursor(command))
        except ProtocolError as error:
            return self.bad(error)

    def bad(self, error: ProtocolError) -> Action:
        """Answer what was no command."""
        self._bad += 1
        if error.fatal:
            return Close(error.response(), "protocol error")
        if self._bad >= MAX_BAD:
            bye = b"* BYE Too many invalid IMAP commands.\r\n"
            return Close(error.response() + bye, "too many invalid commands")
        return Say(error.response())

    def failed(self, tag: str) -> Action:
        """Answer a failed attempt; the delay is the caller's, before."""
        self.failures += 1
        answer = f"{tag} {AUTH_FAILED}\r\n".encode()
        if self.failures >= self.policy.max_failures:
            return Close(answer + b"* BYE Too many failed logins.\r\n", "too many failed logins")
        return Say(answer)

    def delay(self) -> float:
        """Seconds before the coming failure is answered: doubled each time, up to a limit."""
        return min(self.policy.failure_delay * 2.0**self.failures, self.policy.longest_delay)

    def response(self, line: bytes) -> Action:
        """The line after ReadResponse."""
        assert self._waiting_tag is not None
        tag, self._waiting_tag = self._waiting_tag, None
        if line == b"*":
            return Say(f"{tag} BAD Authentication aborted by client.\r\n".encode())
        return self._plain(tag, line)

    # -- commands ------------------------------------------------------------------------

    def _capability(self, command: Command, arguments: Cursor) -> Action:
        arguments.end()
        text = f"* CAPABILITY {self.capabilities()}\r\n{command.tag} OK Capability completed.\r\n"
        return Say(text.encode())

    def _noop(self, command: Command, arguments: Cursor) -> Action:
        arguments.end()
        return Say(f"{command.tag} OK NOOP completed.\r\n".encode())

    def _logout(self, command: Command, arguments: Cursor) -> Action:
        arguments.end()
        text = f"* BYE Logging out\r\n{command.tag} OK Logout completed.\r\n"
        return Close(text.encode(), "logged out without logging in")

    def _id(self, command: Command, arguments: Cursor) -> Action:
        if not arguments.nil():
            pairs = arguments.parenthesised(arguments.nstring)
            if len(pairs) % 2 or len(pairs) > 2 * _MAX_ID_PAIRS:
                arguments.fail("Invalid ID parameter list")
        arguments.end()
        return Say(f'* ID ("name" "sharefs")\r\n{command.tag} OK ID completed.\r\n'.encode())

    def _starttls(self, command: Command, arguments: Cursor) -> Action:
        arguments.end()
        if self.tls:
            return Say(f"{command.tag} BAD TLS is already active.\r\n".encode())
        if not self.policy.starttls:
            return Say(f"{command.tag} BAD TLS support is not enabled.\r\n".encode())
        return StartTls(f"{command.tag} OK Begin TLS negotiation now.\r\n".encode())

    def _login(self, command: Command, arguments: Cursor) -> Action:
        user = arguments.astring()
        arguments.space()
        password = arguments.astring()
        arguments.end()
        if not self.secure:
            return self._privacy(command.tag)
        return _attempt(command.tag, "LOGIN", user, password, b"")

    def _authenticate(self, command: Command, arguments: Cursor) -> Action:
        mechanism = arguments.keyword("a SASL mechanism")
        initial = arguments.sasl_initial()
        arguments.end()
        if mechanism != "PLAIN":
            return Say(f"{command.tag} NO Unsupported authentication mechanism.\r\n".encode())
        if not self.secure:
            return self._privacy(command.tag)
        if initial is None:
            self._waiting_tag = command.tag
            return ReadResponse(b"+ \r\n")
        return self._plain(command.tag, initial)

    def _privacy(self, tag: str) -> Action:
        # The password has crossed the network by now; the client's user should hear of it.
        alert = "* BAD [ALERT] A password sent without TLS is visible to the network.\r\n"
        return Say(f"{alert}{tag} {_PRIVACY}\r\n".encode())

    def _plain(self, tag: str, response: bytes) -> Action:
        """RFC 4616: [authzid] NUL authcid NUL passwd, in base64."""
        try:
            message = base64.b64decode(response, validate=True)
        except binascii.Error:
            return self.bad(ProtocolError("Invalid base64 data in SASL response", tag=tag))
        parts = message.split(b"\0")
        if len(parts) != 3:
            return Refused(tag, "", "malformed PLAIN response")
        authzid, user, password = parts
        return _attempt(tag, "PLAIN", user, password, authzid)


def _attempt(tag: str, mechanism: str, user: bytes, password: bytes, authzid: bytes) -> Action:
    try:
        texts = user.decode(), password.decode(), authzid.decode()
    except UnicodeDecodeError:
        return Refused(tag, user.decode("utf-8", "backslashreplace"), "not UTF-8")
    if not texts[0]:
        return Refused(tag, "", "empty user name")
    on_behalf_of = texts[2] if texts[2] != texts[0] else ""
    return Attempt(tag, mechanism, texts[0], texts[1], on_behalf_of)
