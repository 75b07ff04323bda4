"""Extra fields on their way from databases to a user: merging, suffixes, origins.

A field's name may carry a suffix (Dovecot, "Extra Fields"): `name:protected` counts only if the
field is not set yet, `name:remove` takes it away.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from sharefs.config.variables import BadTemplate, Form, Template, Variables
from sharefs.errors import Code, SharingError

# What 2.3 called a setting, and the section in which it kept those that this room reads.
_ALIASES: Final = {
    "mail": "mail_location",
    "plugin/acl_user": "acl_user",
    "plugin/acl_groups": "acl_groups",
    "plugin/master_user": "master_user",
}


class Fields:
    """Fields by name, each with its value and where it came from."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._origins: dict[str, str] = {}

    def add(self, name: str, value: str, origin: str) -> None:
        name, _, suffix = name.partition(":")
        name = _ALIASES.get(name, name)
        if suffix == "remove":
            self._values.pop(name, None)
            self._origins.pop(name, None)
        elif suffix != "protected" or name not in self._values:
            self._values[name] = value
            self._origins[name] = origin

    def update(self, fields: Mapping[str, str], origin: str) -> None:
        for name, value in fields.items():
            self.add(name, value, origin)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def get(self, name: str, default: str = "") -> str:
        return self._values.get(name, default)

    def take(self, name: str) -> tuple[str | None, str]:
        """Remove a field.  Returns its value, None if it was not set, and its origin."""
        return self._values.pop(name, None), self._origins.pop(name, "")

    def origin(self, name: str) -> str:
        return self._origins.get(name, "")

    def values(self) -> dict[str, str]:
        return dict(self._values)

    def prefixed(self, prefix: str) -> dict[str, str]:
        """The fields as variables are named: "userdb:uid" for prefix "userdb:"."""
        return {prefix + name: value for name, value in self._values.items()}


def expand(template: Template, variables: Variables, origin: str) -> str:
    """The template's text.  Raises SharingError(INVALID) naming origin if it cannot be made."""
    try:
        return template.expand(variables)
    except BadTemplate as exc:
        remedy = f"; {exc.remedy}" if exc.remedy else ""
        raise SharingError(Code.INVALID, f"{origin}: {template.source!r}: {exc}{remedy}") from exc


def expand_text(text: str, form: Form, variables: Variables, origin: str) -> str:
    """As expand(), for a text that was not parsed yet: extra fields of a passwd-file."""
    if "%" not in text:
        return text
    try:
        template = Template.parse(text, form)
    except BadTemplate as exc:
        remedy = f"; {exc.remedy}" if exc.remedy else ""
        raise SharingError(Code.INVALID, f"{origin}: {text!r}: {exc}{remedy}") from exc
    return expand(template, variables, origin)
