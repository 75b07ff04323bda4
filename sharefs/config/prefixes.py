"""Checks of namespace prefixes and separators: could a mailbox name be told from another one?

As in checks.py each function's name, with dashes, is the stable id of what it finds.
"""

import re
from collections.abc import Callable
from typing import Final

from sharefs.config.checked import NOWHERE, Checked, place_of
from sharefs.config.namespaces import NamespaceSettings
from sharefs.config.variables import Form

_PREFIX_VARIABLE: Final = re.compile(r"\$([A-Za-z0-9]*)")
_PREFIX_VARIABLES: Final = ("username", "user", "domain")


def old_variable_in_prefix(checked: Checked) -> None:
    for namespace in checked.namespaces:
        value = checked.written.get((namespace.name, "prefix"))
        if value is None:
            continue
        if value.form is Form.V24 and "%" in value.text:
            new = value.text
            for pattern, variable in (
                (r"%%?u|%%?\{(?:owner_)?user\}", "$user"),
                (r"%%?n|%%?\{(?:owner_)?username\}", "$username"),
                (r"%%?d|%%?\{(?:owner_)?domain\}", "$domain"),
            ):
                new = re.sub(pattern, lambda _, variable=variable: variable, new)  # type: ignore[misc]  # the default binds early
            checked.problems.error(
                "old-variable-in-prefix",
                value.place,
                f"prefix {value.text} of namespace {namespace.name} has a variable that means"
                " nothing in a prefix since 2.4",
                f"write prefix = {new}",
            )
        elif value.form is Form.V23 and "$" in value.text:
            new = value.text
            for variable, old in (("$username", "%%n"), ("$user", "%%u"), ("$domain", "%%d")):
                new = new.replace(variable, old)
            checked.problems.error(
                "old-variable-in-prefix",
                value.place,
                f"prefix {value.text} of namespace {namespace.name} has a variable of 2.4 in a"
                " file of the 2.3 form",
                f"write prefix = {new}, or dovecot_config_version = 2.4.0 at the top",
            )


def shared_prefix_without_user(checked: Checked) -> None:
    names_owner = re.compile(r"\$user(name)?(?![a-zA-Z0-9])")
    for namespace in checked.namespaces:
        value = checked.written.get((namespace.name, "prefix"))
        if namespace.type != "shared" or names_owner.search(namespace.prefix):
            continue
        if value is not None and value.form is Form.V24 and re.search(r"%%[unh]", value.text):
            continue  # said by old_variable_in_prefix
        checked.problems.error(
            "shared-prefix-without-user",
            value.place if value else namespace.place or NOWHERE,
            f"prefix {namespace.prefix!r} of shared namespace {namespace.name} does not say whose"
            " mailboxes are meant",
            "write prefix = shared/$user/ (shared/%%u/ in the 2.3 form), or type = public",
        )


def prefix_variable_boundary(checked: Checked) -> None:
    """A variable of a shared prefix must not be followed by a letter or digit (formats: it could
    not be found again in a mailbox name)."""
    for namespace in checked.namespaces:
        if namespace.type != "shared":
            continue
        for match in _PREFIX_VARIABLE.finditer(namespace.prefix):
            name = match[1]
            if name in _PREFIX_VARIABLES:
                continue
            known = next((each for each in _PREFIX_VARIABLES if name.startswith(each)), None)
            if known is None:
                message = f"there is no variable ${name} in a prefix"
                remedy = "write $user, $username or $domain"
            else:
                message = (
                    f"${known} is followed by {name[len(known)]!r}, so it cannot be told apart"
                )
                remedy = f"write ${known}{namespace.separator}{name[len(known) :]}"
            checked.problems.error(
                "prefix-variable-boundary", place_of(namespace, "prefix"), message, remedy
            )


def duplicate_prefix(checked: Checked) -> None:
    seen: dict[str, NamespaceSettings] = {}
    for namespace in checked.namespaces:
        other = seen.setdefault(namespace.prefix, namespace)
        if other is not namespace:
            checked.problems.error(
                "duplicate-prefix",
                place_of(namespace, "prefix"),
                f"namespaces {other.name} and {namespace.name} have the same prefix"
                f" {namespace.prefix!r}",
                "give each its own prefix",
            )


def prefix_without_separator(checked: Checked) -> None:
    for namespace in checked.namespaces:
        if (
            namespace.prefix
            and namespace.list != "no"
            and namespace.prefix[-1] != namespace.separator
        ):
            checked.problems.error(
                "prefix-without-separator",
                place_of(namespace, "prefix"),
                f"prefix {namespace.prefix!r} of namespace {namespace.name} does not end in its"
                f" separator {namespace.separator!r}",
                f"write prefix = {namespace.prefix}{namespace.separator}",
            )


def different_separators(checked: Checked) -> None:
    listed = [each for each in checked.namespaces if each.list != "no"]
    for namespace in listed[1:]:
        if namespace.separator != listed[0].separator:
            place = place_of(namespace, "separator")
            checked.problems.error(
                "different-separators",
                place,
                f"namespaces {listed[0].name} and {namespace.name} separate levels by"
                f" {listed[0].separator!r} and {namespace.separator!r}",
                f"write separator = {listed[0].separator} in {namespace.name}",
            )


def bad_separator(checked: Checked) -> None:
    for namespace in checked.namespaces:
        letter = namespace.separator
        if len(letter) != 1 or not " " < letter < "\x7f" or letter in '"\\*%' or letter.isalnum():
            checked.problems.error(
                "bad-separator",
                place_of(namespace, "separator"),
                f"separator {letter!r} of namespace {namespace.name} is not one usable character",
                "write separator = / or separator = .",
            )


PREFIX_CHECKS: Final[tuple[Callable[[Checked], None], ...]] = (
    old_variable_in_prefix,
    shared_prefix_without_user,
    prefix_variable_boundary,
    duplicate_prefix,
    prefix_without_separator,
    different_separators,
    bad_separator,
)
