"""What the documentation warns of, checked when a configuration is read: one function per warning.

Each function has a stable id, its name with dashes, and reports with file, line and remedy.
Sources: "Shared Mailboxes" of Dovecot's documentation (public and user-shared mailboxes, dbox,
troubleshooting) and the rules its namespace code enforces at login.
"""

import grp
import os
from collections.abc import Callable
from itertools import combinations
from typing import Final

from sharefs.config.checked import NOWHERE, Checked, place_of
from sharefs.config.namespaces import NamespaceSettings
from sharefs.config.prefixes import PREFIX_CHECKS
from sharefs.config.tls_checks import TLS_CHECKS
from sharefs.config.variables import Template

_DBOX: Final = ("sdbox", "mdbox", "dbox")


def group_exists(name: str) -> bool:
    """Whether the host has a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


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


def shared_files_without_owner(checked: Checked) -> None:
    """A shared namespace is one for each owner, so the rule of same_index_path holds within it."""
    for namespace in checked.namespaces:
        if namespace.type != "shared":
            continue
        for setting in ("mail_control_path", "mail_index_path", "mail_index_private_path"):
            template = namespace.location.templates.get(setting)
            if template is not None and not template.needs_owner:
                checked.problems.error(
                    "shared-files-without-owner",
                    place_of(namespace, setting),
                    f"{setting} {template} of shared namespace {namespace.name} is the same for"
                    " every sharing user; mailboxes of the same name would share it",
                    f"write {setting} = {str(template).rstrip('/')}/%{{owner_user}}",
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
            (first.place if first else None) or NOWHERE,
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
        place = checked.places.get(setting, NOWHERE)
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
                namespace.place or NOWHERE,
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
    shared_path_without_owner,
    shared_files_without_owner,
    owner_outside_shared,
    public_path_per_user,
    no_inbox_namespace,
    unknown_group,
    shared_subscriptions,
    no_subscriptions_file,
    unknown_alias,
    no_sharing_map,
    *PREFIX_CHECKS,
    *TLS_CHECKS,
)
