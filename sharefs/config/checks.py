"""What the documentation warns of, checked when a configuration is read: one function per warning.

Each function has a stable id, its name with dashes, and reports with file, line and remedy.
Sources: "Shared Mailboxes" of Dovecot's documentation (public and user-shared mailboxes, dbox,
troubleshooting) and the rules its namespace code enforces at login.
"""

import grp
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from sharefs.config.namespaces import NamespaceSettings
from sharefs.config.problems import Problems
from sharefs.config.scope import Value
from sharefs.config.settings import Settings
from sharefs.config.variables import Form, Template
from sharefs.errors import Place

GroupLookup = Callable[[str], bool]

_DBOX: Final = ("sdbox", "mdbox", "dbox")
_PREFIX_VARIABLE: Final = re.compile(r"\$([A-Za-z0-9]*)")
_PREFIX_VARIABLES: Final = ("username", "user", "domain")
_NO_PLACE: Final = Place("(configuration)")


def group_exists(name: str) -> bool:
    """Whether the host has a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks look at.  written: (namespace name, setting) -> the value as written."""

    settings: Settings
    written: Mapping[tuple[str, str], Value]
    places: Mapping[str, Place]
    problems: Problems
    lookup_group: GroupLookup

    @property
    def namespaces(self) -> tuple[NamespaceSettings, ...]:
        return self.settings.namespaces

    def of_others(self) -> Iterator[NamespaceSettings]:
        """Namespaces whose mail is not the viewer's own."""
        return (each for each in self.namespaces if each.type != "private")


def place_of(namespace: NamespaceSettings, setting: str) -> Place:
    """Where a namespace's setting stands, be it the global one; else where the block begins."""
    return (
        namespace.location.places.get(setting)
        or namespace.places.get(setting)
        or namespace.place
        or _NO_PLACE
    )


def normal(template: Template) -> str:
    """One spelling for each path: `%{home}/x`, `~/x/` and `~//x` are the same place."""
    text = str(template)
    if text.startswith("%{home}"):
        text = "~" + text.removeprefix("%{home}")
    return os.path.normpath(text) if text else ""


def _same_path(checked: Checked, setting: str, what: str, check: str) -> None:
    for one, other in combinations(checked.namespaces, 2):
        if other.alias_for == one.name or one.alias_for == other.name:
            continue  # an alias is the same mailboxes by intent
        mine, theirs = one.location.templates.get(setting), other.location.templates.get(setting)
        if mine is None or theirs is None or normal(mine) != normal(theirs):
            continue
        checked.problems.error(
            check,
            place_of(other, setting),
            f"namespaces {one.name} and {other.name} have the same {what} path {mine};"
            " mailboxes of the same name would share it",
            f"give each namespace its own, such as {setting} = {mine}/{other.name}",
        )


def same_control_path(checked: Checked) -> None:
    _same_path(checked, "mail_control_path", "control", "same-control-path")


def same_index_path(checked: Checked) -> None:
    _same_path(checked, "mail_index_path", "index", "same-index-path")


def same_private_index_path(checked: Checked) -> None:
    _same_path(checked, "mail_index_private_path", "private index", "same-private-index-path")


def _is_per_user(namespace: NamespaceSettings, setting: str) -> bool:
    """Whether viewers of the same mailbox get different paths."""
    template = namespace.location.templates.get(setting)
    return template is not None and template.depends_on_viewer


def per_user_control_with_shared_index(checked: Checked) -> None:
    for namespace in checked.of_others():
        if not _is_per_user(namespace, "mail_control_path"):
            continue
        index = "mail_index_path"
        if index not in namespace.location.templates:
            index = "mail_path"  # indexes lie beside the mail
        if not _is_per_user(namespace, index):
            control = namespace.location.templates["mail_control_path"]
            checked.problems.error(
                "per-user-control-with-shared-index",
                place_of(namespace, "mail_control_path"),
                f"namespace {namespace.name} has control files for each user but shares indexes",
                f"write mail_index_path = {control} as well",
            )


def per_user_control_breaks_keywords(checked: Checked) -> None:
    for namespace in checked.of_others():
        if namespace.location.driver == "maildir" and _is_per_user(namespace, "mail_control_path"):
            checked.problems.warning(
                "per-user-control-breaks-keywords",
                place_of(namespace, "mail_control_path"),
                f"namespace {namespace.name} has control files for each user, so keywords in its"
                " mailboxes mean something else to each of them",
                "use it only for mailboxes without keywords, or leave mail_control_path out",
            )


def dbox_per_user_index(checked: Checked) -> None:
    for namespace in checked.of_others():
        if namespace.location.driver in _DBOX and _is_per_user(namespace, "mail_index_path"):
            checked.problems.error(
                "dbox-per-user-index",
                place_of(namespace, "mail_index_path"),
                f"namespace {namespace.name} keeps {namespace.location.driver} indexes for each"
                " user: the mailboxes would be corrupted",
                "use mail_index_private_path for private flags, and no mail_index_path",
            )


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
            value.place if value else namespace.place or _NO_PLACE,
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


def shared_path_without_owner(checked: Checked) -> None:
    for namespace in checked.namespaces:
        template = namespace.location.templates.get("mail_path")
        if namespace.type != "shared" or template is None or template.needs_owner:
            continue
        if namespace.location.driver == "imapc" and "mail_path" not in namespace.location.places:
            continue  # nothing is kept locally
        reason = (
            "names the user who looks, not the one who shares"
            if {"user", "username", "domain", "home"} & template.names or str(template)[:1] == "~"
            else "is the same for every sharing user"
        )
        checked.problems.error(
            "shared-path-without-owner",
            place_of(namespace, "mail_path"),
            f"mail_path {template} of shared namespace {namespace.name} {reason}",
            "write mail_path = %{owner_home}/Maildir, or use %{owner_user} in it",
        )


def owner_outside_shared(checked: Checked) -> None:
    for namespace in checked.namespaces:
        if namespace.type == "shared":
            continue
        for setting, template in namespace.location.templates.items():
            if template.needs_owner:
                checked.problems.error(
                    "owner-outside-shared",
                    place_of(namespace, setting),
                    f"{setting} of {namespace.type} namespace {namespace.name} asks for an owner,"
                    " which only shared namespaces have",
                    "write %{user} or %{home}, or type = shared",
                )


def public_path_per_user(checked: Checked) -> None:
    for namespace in checked.namespaces:
        template = namespace.location.templates.get("mail_path")
        if namespace.type == "public" and template is not None and str(template)[:1] == "~":
            checked.problems.warning(
                "public-path-per-user",
                place_of(namespace, "mail_path"),
                f"mail_path {template} of public namespace {namespace.name} is another one for each"
                " user, so nothing is public",
                "write one path for all, such as mail_path = /var/mail/public",
            )


def no_inbox_namespace(checked: Checked) -> None:
    inboxes = [each for each in checked.namespaces if each.inbox]
    if not any(each.type == "private" for each in inboxes):
        first = next(iter(checked.namespaces), None)
        checked.problems.warning(
            "no-inbox-namespace",
            (first.place if first else None) or _NO_PLACE,
            "there is no private namespace with inbox = yes, so nobody has an INBOX",
            "add namespace inbox { inbox = yes }",
        )
    for extra in inboxes[1:]:
        checked.problems.error(
            "two-inbox-namespaces",
            place_of(extra, "inbox"),
            f"namespaces {inboxes[0].name} and {extra.name} both have inbox = yes",
            "leave it in one of them",
        )


def unknown_group(checked: Checked) -> None:
    for setting in ("mail_access_groups", "mail_privileged_group"):
        place = checked.places.get(setting, _NO_PLACE)
        for name in checked.settings.get(setting).replace(",", " ").split():
            if name.isdigit() or "%" in name or checked.lookup_group(name):
                continue
            checked.problems.error(
                "unknown-group",
                place,
                f"{setting}: this host has no group {name}",
                f"create it with `groupadd {name}`, or write the number of one",
            )


def shared_subscriptions(checked: Checked) -> None:
    for namespace in checked.of_others():
        if namespace.subscriptions:
            checked.problems.warning(
                "shared-subscriptions",
                place_of(namespace, "subscriptions"),
                f"{namespace.type} namespace {namespace.name} keeps its own subscriptions: one"
                " user's change alters everybody's list",
                "write subscriptions = no",
            )


def no_subscriptions_file(checked: Checked) -> None:
    keepers = [each for each in checked.namespaces if each.subscriptions]
    for namespace in checked.namespaces:
        if not namespace.subscriptions and not any(
            namespace.prefix.startswith(each.prefix) for each in keepers
        ):
            checked.problems.warning(
                "no-subscriptions-file",
                place_of(namespace, "subscriptions"),
                f"no namespace keeps the subscriptions of namespace {namespace.name}",
                "add namespace subscriptions { prefix = , subscriptions = yes, hidden = yes,"
                " list = no, alias_for = inbox }",
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


def unknown_alias(checked: Checked) -> None:
    names = {each.name for each in checked.namespaces}
    for namespace in checked.namespaces:
        value = checked.written.get((namespace.name, "alias_for"))
        if value is not None and value.text and not namespace.alias_for:
            others = ", ".join(sorted(names - {namespace.name}))
            checked.problems.warning(
                "unknown-alias",
                value.place,
                f"alias_for of namespace {namespace.name}: there is no other namespace"
                f" {value.text}, so it is an alias of none",
                f"write one of {others}" if others else "add the namespace it is an alias of",
            )


def no_sharing_map(checked: Checked) -> None:
    for namespace in checked.namespaces:
        if namespace.type == "shared" and checked.settings.sharing_map is None:
            if namespace.list == "no" or namespace.acl_ignore:
                continue
            checked.problems.warning(
                "no-sharing-map",
                namespace.place or _NO_PLACE,
                f"mailboxes in shared namespace {namespace.name} can be opened but are never"
                " listed: nothing records who shares with whom",
                "add acl_sharing_map { dict file { path = ... } }",
            )
            return


CHECKS: Final[tuple[Callable[[Checked], None], ...]] = (
    same_control_path,
    same_index_path,
    same_private_index_path,
    per_user_control_with_shared_index,
    per_user_control_breaks_keywords,
    dbox_per_user_index,
    old_variable_in_prefix,
    shared_prefix_without_user,
    prefix_variable_boundary,
    shared_path_without_owner,
    owner_outside_shared,
    public_path_per_user,
    no_inbox_namespace,
    unknown_group,
    shared_subscriptions,
    no_subscriptions_file,
    duplicate_prefix,
    prefix_without_separator,
    different_separators,
    bad_separator,
    unknown_alias,
    no_sharing_map,
)
