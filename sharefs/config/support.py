"""Drivers and values that are understood but not implemented, and those that cannot work at all.

What is not implemented is reported once with file and line; what Dovecot does not know either is an
error.
"""

import difflib
from typing import Final

from sharefs.config.checked import NOWHERE, Checked, place_of
from sharefs.config.known import (
    IMPLEMENTED_SERVICES,
    KNOWN_SERVICES,
    LAYOUTS,
    MAP_DRIVERS,
    PASSDBS,
    STORAGES,
    USERDBS,
)
from sharefs.config.services import PassdbSettings, UserdbSettings
from sharefs.config.variables import Template
from sharefs.errors import Place, SharingError
from sharefs.identifiers import Identifier
from sharefs.rights import Rights


def _driver(checked: Checked, what: str, name: str, table: dict[str, bool], place: Place) -> None:
    implemented = table.get(name)
    if implemented is None:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0.6)
        known = ", ".join(each for each, works in table.items() if works)
        remedy = f"did you mean {near[0]}?" if near else f"write one of {known}"
        checked.problems.error("unknown-driver", place, f"there is no {what} {name!r}", remedy)
    elif not implemented:
        works = ", ".join(each for each, works in table.items() if works)
        checked.problems.unimplemented(
            f"{what} {name} {place}",
            place,
            f"{what} {name} is not implemented",
            f"use one that works: {works}",
        )


def mail_drivers(checked: Checked) -> None:
    for namespace in checked.namespaces:
        location = namespace.location
        _driver(checked, "mail_driver", location.driver, STORAGES,
                place_of(namespace, "mail_driver"))  # fmt: skip
        if location.driver != "imapc":
            _driver(
                checked,
                "mailbox_list_layout",
                location.layout,
                LAYOUTS,
                checked.places.get("mailbox_list_layout", place_of(namespace, "mail_driver")),
            )


def absolute_paths(checked: Checked) -> None:
    """A relative path would depend on where a process happens to run."""
    for namespace in checked.namespaces:
        for setting, template in namespace.location.templates.items():
            if not _is_absolute(template):
                checked.problems.error(
                    "relative-path", place_of(namespace, setting),
                    f"{setting} {template} of namespace {namespace.name} is relative",
                    f"write {setting} = ~/{template} or an absolute path",
                )  # fmt: skip


def mount_point(checked: Checked) -> None:
    found = checked.settings.sharefs_mount_point
    if found and not found.startswith("/"):
        checked.problems.error(
            "relative-path", checked.places.get("sharefs_mount_point", NOWHERE),
            f"sharefs_mount_point {found} is relative", f"write sharefs_mount_point = /{found}",
        )  # fmt: skip


def _is_absolute(template: Template) -> bool:
    text = str(template)
    return text.startswith(("/", "~", "%{"))


def sharing_map(checked: Checked) -> None:
    found = checked.settings.sharing_map
    if found is None:
        return
    place = found.place or NOWHERE
    _driver(checked, "sharing map driver", found.driver, MAP_DRIVERS, place)
    if found.driver != "file":
        return
    if found.path is None:
        checked.problems.error("map-without-path", place, "the sharing map has no file",
                               "write path = /var/lib/dovecot/shared-mailboxes.db")  # fmt: skip
    elif not str(found.path).startswith(("/", "~", "%{")):
        checked.problems.error("relative-path", place, f"the sharing map {found.path} is relative",
                               "write an absolute path")  # fmt: skip


def databases(checked: Checked) -> None:
    found: list[tuple[str, PassdbSettings | UserdbSettings, dict[str, bool]]] = [
        *(("passdb", each, PASSDBS) for each in checked.settings.passdbs),
        *(("userdb", each, USERDBS) for each in checked.settings.userdbs),
    ]
    for kind, database, table in found:
        place = database.place or NOWHERE
        if not database.driver:
            checked.problems.error(
                "unknown-driver",
                place,
                f"this {kind} has no driver",
                f"write {kind} passwd-file {{, or driver = passwd-file in it",
            )
            continue
        _driver(checked, f"{kind} driver", database.driver, table, place)
        if database.driver == "passwd-file" and database.passwd_file_path is None:
            checked.problems.error("passwd-file-without-path", place,
                                   f"this {kind} names no file",
                                   "write passwd_file_path = /etc/dovecot/users")  # fmt: skip


def services(checked: Checked) -> None:
    for service in checked.settings.services.values():
        if service.place is None or service.name in IMPLEMENTED_SERVICES or service.is_empty:
            continue
        near = difflib.get_close_matches(service.name, IMPLEMENTED_SERVICES, n=1, cutoff=0.75)
        if near and service.name not in KNOWN_SERVICES:
            checked.problems.warning(
                "unknown-service", service.place, f"no service is called {service.name}",
                f"did you mean {near[0]}?",
            )  # fmt: skip
            continue
        checked.problems.unimplemented(
            f"service {service.name}", service.place,
            f"service {service.name} is not implemented, so its settings have no effect",
        )  # fmt: skip


def ports(checked: Checked) -> None:
    for service in checked.settings.services.values():
        for listener in service.inet_listeners.values():
            if listener.port > 65535:
                checked.problems.error(
                    "bad-port", listener.place or NOWHERE,
                    f"port {listener.port} of {service.name}/{listener.name} does not exist",
                    "write a number from 1 to 65535, or 0 to switch it off",
                )  # fmt: skip


def acl_entries(checked: Checked) -> None:
    """Both sides of an entry must parse: a misspelt one would grant nobody anything, silently."""
    blocks = [*checked.settings.acl]
    for namespace in checked.namespaces:
        blocks += namespace.acl
        for mailbox in namespace.mailboxes:
            blocks += mailbox.acl
    for each in dict.fromkeys(blocks):
        place = each.place or NOWHERE
        try:
            Identifier.parse_file(each.identifier)
        except SharingError as error:
            what, _, remedy = error.detail.partition(": ")
            checked.problems.error("bad-identifier", place, what, remedy)
        try:
            Rights.parse(each.rights.strip().removeprefix("-"))
        except SharingError as error:
            checked.problems.error("bad-rights", place, f"{each.identifier}: {error.detail}",
                                   "write letters, like rights = lrs")  # fmt: skip


def index_in_memory(checked: Checked) -> None:
    for namespace in checked.namespaces:
        for setting in namespace.location.in_memory:
            checked.problems.unimplemented(
                f"{setting} MEMORY", place_of(namespace, setting),
                f"{setting} = MEMORY is not implemented", "leave it out, or write a path",
            )  # fmt: skip


CHECKS: Final = (
    mail_drivers,
    absolute_paths,
    mount_point,
    sharing_map,
    databases,
    services,
    ports,
    acl_entries,
    index_in_memory,
)
