"""Variables in setting values: `%{user | domain}` of 2.4, `%Ln` of 2.3, and the owner's `%%u`.

A Template is parsed once, from either form, and expanded as often as wanted.  Variables of the
*viewer* (user, home, ...) and of the *owner* of a shared mailbox (owner_user, ...) are never mixed
up: expanding without an owner leaves the owner's variables in place.  Pure.
"""

import enum
import functools
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sharefs.config.filters import BadTemplate, Filter, apply_filters, parse_filters, unquoted
from sharefs.errors import Code, SharingError

__all__ = ["BadTemplate", "Form", "Template", "Variable", "Variables"]


class Form(enum.Enum):
    """Which generation of the language a text is written in.

    LITERAL: userdb fields, which were expanded where they came from; only an owner's variables
    are still to come.
    """

    V23 = "2.3"
    V24 = "2.4"
    LITERAL = "literal"


# One-letter variables of 2.3 and what they are called today.
SHORT: Final = {
    "u": "user", "n": "username", "d": "domain", "h": "home", "s": "protocol", "l": "local_ip",
    "r": "remote_ip", "p": "pid", "i": "uid", "a": "local_port", "b": "remote_port", "c": "secured",
    "m": "mechanism", "w": "password", "k": "cert",
}  # fmt: skip

# Long names of 2.3 that have another name in 2.4.
LONG: Final = {
    "service": "protocol", "lip": "local_ip", "rip": "remote_ip", "lport": "local_port",
    "rport": "remote_port", "auth_user": "auth_user", "login_user": "login_user",
    "orig_user": "original_user", "user": "user", "username": "username", "domain": "domain",
}  # fmt: skip

OWNER: Final = frozenset({"owner_user", "owner_username", "owner_domain", "owner_home"})

# Names a template may use.  Prefixed names (env:PATH, passdb:uid, ...) are allowed besides.
NAMES: Final = OWNER | {
    "user", "username", "domain", "home", "uid", "gid", "protocol", "service", "hostname", "pid",
    "local_ip", "remote_ip", "local_port", "remote_port", "local_name", "session", "mechanism",
    "auth_user", "auth_username", "auth_domain", "login_user", "login_username", "login_domain",
    "master_user", "original_user", "original_username", "original_domain", "password", "secured",
    "cert", "client_id", "real_remote_ip", "real_local_ip", "real_remote_port", "real_local_port",
    "listener", "ssl_security", "ssl_ja3", "ssl_ja3_hash", "mail_pid", "client_pid", "session_pid",
    "domain_first", "domain_last",
}  # fmt: skip
PREFIXES: Final = ("env", "passdb", "userdb", "system", "process", "provider", "lookup")

_OWNER_24: Final = re.compile(r"%\{(owner_(?:user|username|domain|home))\}")
_V23: Final = re.compile(
    r"%%\{(?P<owner_long>[^{}]*)\}"
    r"|%%(?P<owner_modifiers>-?[0-9.]*[LUTRM]*)(?P<owner>[undh])"
    r"|%%"
    r"|%\{(?P<long>[^{}]*)\}"
    r"|%(?P<modifiers>-?[0-9.]*[A-Z]*)(?P<short>[a-z$])"
    r"|%"
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable in a template, and the filters its value goes through, in order."""

    name: str
    filters: tuple[Filter, ...] = ()

    @property
    def is_owner(self) -> bool:
        return self.name in OWNER

    def __str__(self) -> str:
        return "%{" + " | ".join([self.name, *map(str, self.filters)]) + "}"


@dataclass(frozen=True, slots=True)
class Template:
    """A text with variables in it.  str() gives it in 2.4's form, whatever it was written in.

    source: as written, for messages and for the rules that look at the unexpanded path.
    """

    source: str
    parts: tuple[str | Variable, ...]

    @classmethod
    def parse(cls, text: str, form: Form = Form.V24) -> "Template":
        """Raises BadTemplate."""
        parts = _PARSERS[form](text)
        return cls(text, tuple(_merged(parts)))

    @classmethod
    def literal(cls, text: str) -> "Template":
        return cls(text, (text,) if text else ())

    @property
    def variables(self) -> tuple[Variable, ...]:
        return tuple(part for part in self.parts if isinstance(part, Variable))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(variable.name for variable in self.variables)

    @property
    def needs_owner(self) -> bool:
        return any(variable.is_owner for variable in self.variables)

    @property
    def depends_on_viewer(self) -> bool:
        """Whether two viewers get different texts.  `~/` is the viewer's home."""
        constant = {"hostname", "pid", "protocol", "service", "system"}
        return str(self).startswith("~/") or any(
            not variable.is_owner and variable.name not in constant and ":" not in variable.name
            for variable in self.variables
        )

    def expand(self, variables: "Variables") -> str:
        """The text.  Raises SharingError(UNAVAILABLE) when a variable has no value here."""
        return str(self.partial(variables)) if self.parts else ""

    def partial(self, variables: "Variables") -> "Template":
        """Replace what is known.  Only owner variables without an owner remain."""
        parts: list[str | Variable] = []
        for part in self.parts:
            if isinstance(part, str) or (part.is_owner and variables.owner is None):
                parts.append(part)
            else:
                try:
                    parts.append(apply_filters(variables.value_of(part.name), part.filters))
                except BadTemplate as error:
                    raise SharingError(Code.INVALID, f"{self.source}: {error}") from error
        return replace(self, parts=tuple(_merged(parts)))

    def written(self) -> str:
        """The template as 2.4 writes it: parse(written()) gives the same parts."""
        return "".join(
            part.replace("%", "%%") if isinstance(part, str) else str(part) for part in self.parts
        )

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def __bool__(self) -> bool:
        return bool(self.parts)


@functools.cache
def _cpu_count() -> str:
    return str(os.cpu_count() or 1)


def _merged(parts: list[str | Variable]) -> list[str | Variable]:
    merged: list[str | Variable] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part:
            merged.append(part)
    return merged


def _check_name(name: str) -> str:
    prefix, colon, _ = name.partition(":")
    if name not in NAMES and not (colon and prefix in PREFIXES):
        raise BadTemplate(f"there is no variable %{{{name}}}", "see docs/configuration.md for them")
    return name


def _parse_24(text: str) -> list[str | Variable]:
    parts: list[str | Variable] = []
    at = 0
    while (percent := text.find("%", at)) >= 0:
        parts.append(text[at:percent])
        following = text[percent + 1 : percent + 2]
        if following == "%":
            parts.append("%")
            at = percent + 2
        elif following == "{":
            end = _closing(text, percent + 2)
            name, pipe, tail = text[percent + 2 : end].partition("|")
            filters = parse_filters(tail) if pipe else ()
            parts.append(Variable(_check_name(name.strip()), filters))
            at = end + 1
        else:
            raise BadTemplate(
                f"`{text[percent : percent + 3]}` is the old form of a variable",
                "write %{user}, %{user | username}, %{user | domain}, %{home}, "
                "or %{owner_user} for the sharing user",
            )
    parts.append(text[at:])
    return parts


def _closing(text: str, at: int) -> int:
    """Position of the } that ends a variable; quotes may hide one."""
    for end in unquoted(text, "}", at):
        return end
    raise BadTemplate("a variable lacks its closing brace", "write it like %{user}")


_MODIFIERS: Final = {
    "L": Filter("lower"), "U": Filter("upper"), "T": Filter("trim"), "R": Filter("reverse"),
    "M": Filter("md5"), "X": Filter("hex"), "E": Filter("escape"),
}  # fmt: skip


def _modified(name: str, modifiers: str) -> Variable:
    match = re.fullmatch(r"(-?[0-9]*)(?:\.([0-9]+))?([A-Z]*)", modifiers)
    if match is None:
        raise BadTemplate(
            f"modifier %{modifiers} is not understood", "use %L, %U or %{user | lower}"
        )
    filters: list[Filter] = []
    for letter in match[3]:
        if letter not in _MODIFIERS:
            raise BadTemplate(f"modifier %{letter} is not implemented", "use %{user | md5} of 2.4")
        filters.append(_MODIFIERS[letter])
    if match[1] not in ("", "-") or match[2]:
        # 2.3: %<offset>.<width>u, or %<width>u
        offset, width = (match[1] or "0", match[2]) if match[2] else ("0", match[1])
        filters.append(Filter("substr", (offset, width)))
    return Variable(name, tuple(filters))


def _long_name(text: str, owner: bool) -> str:
    name = LONG.get(text, text)
    if owner:
        name = "owner_" + name
    return _check_name(name)


def _parse_23(text: str) -> list[str | Variable]:
    parts: list[str | Variable] = []
    at = 0
    for match in _V23.finditer(text):
        parts.append(text[at : match.start()])
        at = match.end()
        if match["owner_long"] is not None:
            parts.append(Variable(_long_name(match["owner_long"], owner=True)))
        elif match["owner"] is not None:
            parts.append(_modified("owner_" + SHORT[match["owner"]], match["owner_modifiers"]))
        elif match[0] == "%%":
            parts.append("%")
        elif match["long"] is not None:
            name, _, tail = match["long"].partition("|")
            modifiers, _, inner = name.partition(":") if name[:1] in "LUTRM" else ("", "", "")
            if inner:
                parts.append(_modified(_long_name(inner, owner=False), modifiers))
            else:
                filters = parse_filters(tail) if tail.strip() else ()
                parts.append(Variable(_long_name(name.strip(), owner=False), filters))
        elif match["short"] is not None:
            if match["short"] not in SHORT:
                raise BadTemplate(f"there is no variable {match[0]}", "write %% for a percent sign")
            parts.append(_modified(SHORT[match["short"]], match["modifiers"]))
        else:
            raise BadTemplate("a lone % means nothing", "write %% for a percent sign")
    parts.append(text[at:])
    return parts


def _parse_literal(text: str) -> list[str | Variable]:
    pieces = _OWNER_24.split(text)
    return [Variable(piece) if piece in OWNER else piece for piece in pieces]


_PARSERS: Final[Mapping[Form, Callable[[str], list[str | Variable]]]] = {
    Form.V23: _parse_23,
    Form.V24: _parse_24,
    Form.LITERAL: _parse_literal,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """Values for one viewer.  None: not known, and a template that needs it cannot be expanded.

    user: whole login name.  owner: the same for the owner of a shared mailbox.
    more: further names, with their prefix: "passdb:uid", "auth_user", ...
    """

    user: str = ""
    home: Path | str | None = None
    uid: int | None = None
    gid: int | None = None
    master_user: str | None = None
    protocol: str = "imap"
    local_ip: str = ""
    remote_ip: str = ""
    owner: "Variables | None" = None
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def username(self) -> str:
        return self.user.partition("@")[0]

    @property
    def domain(self) -> str:
        return self.user.partition("@")[2]

    def for_owner(self, owner: "Variables") -> "Variables":
        return replace(self, owner=owner)

    def expand(self, template: "Template | str") -> str:
        """Raises SharingError(UNAVAILABLE) for a missing value, BadTemplate for a bad text."""
        if isinstance(template, str):
            template = Template.parse(template)
        return template.expand(self)

    def value_of(self, name: str) -> str:
        if name in self.more:
            return self.more[name]
        if name in OWNER:
            assert self.owner is not None
            return self.owner.value_of(name.removeprefix("owner_"))
        if name.startswith("env:"):
            return os.environ.get(name[4:], "")
        kind, _, field_name = name.partition(":")
        if kind in ("userdb", "passdb") and ":" in field_name:  # %{userdb:NAME:DEFAULT}
            known, _, default = field_name.partition(":")
            return self.more.get(f"{kind}:{known}", default)
        value = self._values().get(name, "" if ":" not in name else None)
        if value is None:
            raise SharingError(
                Code.UNAVAILABLE,
                f"user {self.user or '(none)'} has no {name}, which %{{{name}}} or ~/ asks for",
            )
        return value

    def _values(self) -> dict[str, str | None]:
        return {
            "user": self.user,
            "username": self.username,
            "domain": self.domain,
            "home": None if self.home is None else str(self.home),
            "uid": None if self.uid is None else str(self.uid),
            "gid": None if self.gid is None else str(self.gid),
            "master_user": self.master_user or "",
            "auth_user": self.master_user or self.user,
            "auth_username": (self.master_user or self.user).partition("@")[0],
            "auth_domain": (self.master_user or self.user).partition("@")[2],
            "login_user": self.user,
            "login_username": self.username,
            "login_domain": self.domain,
            "original_user": self.user,
            "original_username": self.username,
            "original_domain": self.domain,
            "protocol": self.protocol,
            "service": self.protocol,
            "local_ip": self.local_ip,
            "remote_ip": self.remote_ip,
            "pid": str(os.getpid()),
            "hostname": socket.gethostname(),
            "system:hostname": socket.gethostname(),
            "system:cpu_count": _cpu_count(),
            "process:pid": str(os.getpid()),
            "process:uid": str(os.geteuid()),
            "process:gid": str(os.getegid()),
        }
