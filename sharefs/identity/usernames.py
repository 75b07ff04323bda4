"""Login names: what is let in, and what it becomes.  Pure.

The order is Dovecot's: master separator, default domain, translation, allowed characters, format.
Beyond its checks a name may never be able to leave a directory or a line: names end up in paths
(`%{user | domain}`), in ACL files and in logs, whatever auth_username_chars allows.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sharefs.config.variables import Template

Expand = Callable[[Template, str], str]  # a template's text for a user of that name

# Octets.  RFC 5321 section 4.5.3.1 allows 64 for the local part and 255 for the domain.
MAX_NAME = 64 + 1 + 255
# With a master user there are two names and a separator.
MAX_LOGIN = 2 * MAX_NAME + 1

AS_IS = Template.literal("")

DEFAULT_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@")


class Flaw(enum.StrEnum):
    """Why a name is refused."""

    EMPTY = "the name is empty"
    TOO_LONG = "the name is too long"
    CONTROL = "the name has a control character"
    SLASH = "the name has a slash"
    DOTS = "the name or its domain is . or .."
    NOT_UNICODE = "the name is not valid UTF-8"
    PERCENT = "the name has a percent sign, which a later setting would take for a variable"
    CHARACTER = "the name has a character that auth_username_chars does not allow"


class BadName(ValueError):
    """A login name that is refused before any database is asked.  str() is for the log."""

    def __init__(self, flaw: Flaw, name: str) -> None:
        super().__init__(f"{flaw}: {name[:MAX_NAME]!r}" + ("…" if len(name) > MAX_NAME else ""))
        self.flaw = flaw


@dataclass(frozen=True, slots=True)
class NameRules:
    """The auth_username_* settings.

    chars: allowed characters, empty for all.  format: expanded with the name as user.
    """

    chars: frozenset[str] = DEFAULT_CHARS
    translation: Mapping[str, str] = field(default_factory=dict, hash=False)
    format: Template = AS_IS
    default_domain: str = ""
    master_separator: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """Whose mail is asked for, and who asks: master is None when it is the user."""

    user: str
    master: str | None = None


def check_name(name: str) -> None:
    """Raise BadName for a name that could leave a directory or a line.  Total otherwise."""
    if not name:
        raise BadName(Flaw.EMPTY, name)
    if len(name) > MAX_NAME:  # before anything that costs time
        raise BadName(Flaw.TOO_LONG, name)
    try:
        octets = name.encode()
    except UnicodeEncodeError as exc:
        raise BadName(Flaw.NOT_UNICODE, name) from exc
    if len(octets) > MAX_NAME:
        raise BadName(Flaw.TOO_LONG, name)
    # C0, DEL, C1 and the two Unicode line ends: str.splitlines() would cut there.
    if any(ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u2028\u2029" for char in name):
        raise BadName(Flaw.CONTROL, name)
    if "/" in name:
        raise BadName(Flaw.SLASH, name)
    username, _, domain = name.partition("@")
    if {name, username, domain} & {".", ".."}:
        raise BadName(Flaw.DOTS, name)


def normalise(name: str, rules: NameRules, expand: Expand) -> str:
    """The name as databases and paths will see it.  Raises BadName.

    expand(template, user): the text of rules.format for that user.
    """
    check_name(name)
    if rules.default_domain and "@" not in name:
        name = f"{name}@{rules.default_domain}"
    name = "".join(rules.translation.get(char, char) for char in name)
    if rules.chars and not rules.chars.issuperset(name):
        raise BadName(Flaw.CHARACTER, name)
    if rules.format:
        name = expand(rules.format, name)
    check_name(name)
    if "%" in name:
        raise BadName(Flaw.PERCENT, name)
    return name


def parse_login(login: str, rules: NameRules, expand: Expand, *, authorize: str = "") -> Login:
    """Read what a client sent as its name.  Raises BadName.

    authorize: the SASL authorization identity (RFC 4616 section 2): whose mail, if not one's own.
    The separator form is `user*master`; an authorization identity takes its place.
    """
    if len(login) > MAX_LOGIN:
        raise BadName(Flaw.TOO_LONG, login)
    whose, who = authorize or login, login
    if rules.master_separator and rules.master_separator in login and not authorize:
        whose, _, who = login.partition(rules.master_separator)
    user, master = normalise(whose, rules, expand), normalise(who, rules, expand)
    # Whoever asks for himself is no master: his own password counts.
    return Login(user, None if master == user else master)


def parse_translation(text: str) -> dict[str, str]:
    """auth_username_translation: pairs of characters, from and to.  An odd last one is dropped."""
    return dict(zip(text[::2], text[1::2], strict=False))
