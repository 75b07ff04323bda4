"""What is in force for one protocol, one user and one pair of addresses: Scopes -> Settings.  Pure.

Layers, weakest first: the file, its local, remote and protocol blocks, overrides of the command
line, userdb fields.  A namespace's own value beats a global one of any layer.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

from sharefs.config import databases
from sharefs.config.kinds import BOOL, UINT, BadValue, Kind
from sharefs.config.namespaces import (
    MAILDIRPP,
    AclSettings,
    Location,
    MailboxSettings,
    MapSettings,
    NamespaceSettings,
    expand_home,
    expanded_paths,
    layout_of,
)
from sharefs.config.scope import Folded, Scope, fold_list, fold_text
from sharefs.config.settings import DEFAULTS, SCHEMA, Settings
from sharefs.config.variables import Form, Template, Variables
from sharefs.errors import Code, Place, SharingError

_LOCATION_SETTINGS: Final = (
    "mail_path", "mail_inbox_path", "mail_control_path", "mail_index_path",
    "mail_index_private_path", "mail_cache_path", "mail_volatile_path", "mail_alt_path",
)  # fmt: skip
DEFAULT_MAIL_PATH: Final = "~/Maildir"


def layers_of(root: Scope, protocol: str, variables: Variables | None) -> Iterator[Scope]:
    """root and, after it, the filter blocks that match, the most specific last.

    local beats remote beats protocol, a small network a large one; then the order of the file.
    """
    matching: list[tuple[tuple[int, int, int], Scope]] = []
    _collect(root, (-1, -1, 0), protocol, variables, matching)
    matching.sort(key=lambda each: each[0])
    return (scope for _, scope in matching)


def _collect(
    scope: Scope, rank: tuple[int, int, int], protocol: str, variables: Variables | None,
    into: list[tuple[tuple[int, int, int], Scope]],
) -> None:  # fmt: skip
    into.append((rank, scope))
    local, remote, named = rank
    for inner in scope.children:
        if inner.kind == "protocol" and _is_protocol(inner, protocol):
            _collect(inner, (local, remote, named + 1), protocol, variables, into)
        elif inner.kind == "local" and variables is not None:
            if (size := _prefix_length(variables.local_ip, inner)) >= 0:
                _collect(inner, (size, remote, named), protocol, variables, into)
        elif (
            inner.kind == "remote"
            and variables is not None
            and (size := _prefix_length(variables.remote_ip, inner)) >= 0
        ):
            _collect(inner, (local, size, named), protocol, variables, into)


def _is_protocol(scope: Scope, protocol: str) -> bool:
    names = scope.name.split()
    wanted = {name for name in names if not name.startswith("!")}
    banned = {name[1:] for name in names if name.startswith("!")}
    return protocol in wanted if wanted else protocol not in banned


def _prefix_length(address: str, scope: Scope) -> int:
    """Of the smallest network of the block that holds address; -1: none does."""
    longest = -1
    for written in scope.name.replace(",", " ").split():
        try:
            network = ipaddress.ip_network(written, strict=False)
            if ipaddress.ip_address(address) in network:
                longest = max(longest, network.prefixlen)
        except ValueError:
            continue  # no address is known, or the file's mistake was reported
    return longest


class Resolver:
    """Resolves one set of layers.  variables None: values stay unexpanded."""

    def __init__(self, layers: Sequence[Scope], variables: Variables | None) -> None:
        self.layers = layers
        self.variables = variables

    def settings(self) -> Settings:
        values: dict[str, Any] = {}
        texts: dict[str, str] = {}
        origins: dict[str, str] = {}
        for name, kind in SCHEMA.items():
            folded = self.folded(name, kind, self.layers)
            if folded is None:
                continue
            text = self.expanded(name, kind, folded)
            values[name] = self.parsed(name, kind, text, folded)
            texts[name] = text
            origins[name] = str(folded.place)
        if self.variables is not None:
            for name in ("mail_path", "mail_home", *_LOCATION_SETTINGS):
                if name in values:
                    values[name] = texts[name] = self._with_home(values[name])
        ignored = fold_list(
            value for layer in self.layers for value in layer.values.get("acl_ignore_patterns", ())
        )
        if ignored is not None:
            origins["acl_ignore_patterns"] = str(ignored.place)
        return Settings(
            **values,
            namespaces=self.namespaces(),
            sharing_map=self.sharing_map(),
            acl=acl_of(self.layers),
            acl_ignore_patterns=tuple(ignored.text.split()) if ignored else (),
            services=databases.services_of(self.layers),
            passdbs=databases.passdbs_of(self.layers),
            userdbs=databases.userdbs_of(self.layers),
            texts=texts,
            origins=origins,
        )

    def folded(self, name: str, kind: Kind[Any], scopes: Iterable[Scope]) -> Folded | None:
        found = [scope.values[name] for scope in scopes if name in scope.values]
        if not found:
            return None  # as most settings of most users
        values = chain.from_iterable(found)
        return fold_list(values) if kind.is_list else fold_text(values)

    def expanded(self, name: str, kind: Kind[Any], folded: Folded) -> str:
        if not kind.expands and not kind.template:
            return folded.text
        if self.variables is None or kind.template:
            return Template.parse(folded.text, folded.form).written()
        return str(Template.parse(folded.text, folded.form).partial(self.variables))

    def parsed(self, name: str, kind: Kind[Any], text: str, folded: Folded) -> Any:  # noqa: ANN401  # its type is the kind's
        try:
            return kind.parse(text)
        except BadValue as error:
            raise SharingError(
                Code.INVALID, f"{folded.place}: {name}: {error}; {error.remedy}"
            ) from error

    def _with_home(self, text: str) -> str:
        if self.variables is None or not text.startswith("~"):
            return text
        if self.variables.home is None:
            return text
        return expand_home(Template.literal(text), self.variables)

    # -- namespaces --------------------------------------------------------------------------

    def namespaces(self) -> tuple[NamespaceSettings, ...]:
        """All that are not disabled, in their order; one private INBOX if none is configured."""
        grouped: dict[str, list[Scope]] = {}
        for layer in self.layers:
            for scope in layer.of_kind("namespace"):
                grouped.setdefault(scope.name, []).append(scope)
        if not grouped:
            origin = self.layers[0]
            made = Scope("namespace", "inbox", origin.place, origin.form)
            return (self._namespace("inbox", [made], inbox=True),)
        found = [self._namespace(name, scopes) for name, scopes in grouped.items()]
        return tuple(namespace for namespace in found if not namespace.disabled)

    def _namespace(
        self, name: str, scopes: list[Scope], *, inbox: bool = False
    ) -> NamespaceSettings:
        def text(key: str, default: str = "") -> str:
            for scope in reversed(scopes):
                value = scope.last(key)
                if value is not None:
                    return value.text
            return default

        def flag(key: str, default: bool) -> bool:
            return BOOL.parse(text(key, "yes" if default else "no"))

        kind = text("type", "private").lower()
        location = self.location(scopes, shared=kind == "shared")
        prefix = prefix_of(scopes)
        places = {
            key: value.place
            for scope in scopes
            for key in scope.values
            if (value := scope.last(key)) is not None
        }
        return NamespaceSettings(
            name=name,
            type=kind,
            prefix=prefix,
            separator=text("separator") or ("." if location.layout == MAILDIRPP else "/"),
            location=location,
            inbox=flag("inbox", inbox),
            list=text("list", "yes").lower(),
            hidden=flag("hidden", False),
            subscriptions=flag("subscriptions", True),
            ignore_on_failure=flag("ignore_on_failure", False),
            disabled=flag("disabled", False),
            alias_for=self._alias(name, text("alias_for")),
            order=UINT.parse(text("order", "0")),
            mailboxes=self._mailboxes(scopes),
            acl=acl_of([*self.layers, *scopes]),
            acl_ignore=self._scalar("acl_ignore", scopes),
            acl_defaults_from_inbox=self._scalar("acl_defaults_from_inbox", scopes),
            acl_globals_only=self._scalar("acl_globals_only", scopes),
            place=scopes[0].place,
            places=places,
        )

    def _alias(self, own: str, written: str) -> str:
        """alias_for names a namespace (2.4) or gives its prefix (2.3).  Returns the name, or ""."""
        if not written:
            return ""
        scopes = [
            scope
            for layer in self.layers
            for scope in layer.of_kind("namespace")
            if scope.name != own
        ]
        if any(scope.name == written for scope in scopes):
            return written
        for scope in scopes:
            if scope.last("prefix") is not None and prefix_of([scope]) == written:
                return scope.name
        return ""

    def _scalar(self, name: str, scopes: list[Scope]) -> Any:  # noqa: ANN401  # as the schema says
        folded = self.folded(name, SCHEMA[name], [*self.layers, *scopes])
        return SCHEMA[name].parse(DEFAULTS[name] if folded is None else folded.text)

    def location(self, scopes: list[Scope], *, shared: bool) -> Location:
        everywhere = [*self.layers, *scopes]
        templates: dict[str, Template] = {}
        places: dict[str, Place] = {}
        in_memory: list[str] = []
        for name in _LOCATION_SETTINGS:
            folded = self.folded(name, SCHEMA[name], everywhere)
            if folded is not None and folded.text == "MEMORY" and name != "mail_path":
                places[name] = folded.place
                in_memory.append(name)
            elif folded is not None and folded.text:
                templates[name] = Template.parse(folded.text, folded.form)
                places[name] = folded.place
        if "mail_path" not in templates:
            templates["mail_path"] = Template.literal(DEFAULT_MAIL_PATH)
        driver = self._scalar("mail_driver", scopes) or "maildir"
        layout = self._scalar("mailbox_list_layout", scopes).lower()
        folded = self.folded("mail_driver", SCHEMA["mail_driver"], everywhere)
        if folded is not None:
            places["mail_driver"] = folded.place
        made = Location(
            driver=driver,
            path=Path(str(templates["mail_path"])),
            layout=layout or layout_of(driver),
            utf8=self._scalar("mailbox_list_utf8", scopes),
            directory_name=self._scalar("mailbox_directory_name", scopes),
            subscriptions_file_name=self._scalar("mailbox_subscriptions_filename", scopes),
            templates=templates,
            places=places,
            in_memory=tuple(in_memory),
            viewer=self.variables,
        )
        paths: dict[str, Any] = {}
        if self.variables is not None:
            paths = expanded_paths(templates, self.variables)
        else:
            for field, name in (
                ("inbox_path", "mail_inbox_path"), ("control_path", "mail_control_path"),
                ("index_path", "mail_index_path"),
                ("index_private_path", "mail_index_private_path"),
            ):  # fmt: skip
                if name in templates:
                    paths[field] = Path(str(templates[name]))
        return replace(made, **paths)

    def _mailboxes(self, scopes: list[Scope]) -> tuple[MailboxSettings, ...]:
        grouped: dict[str, list[Scope]] = {}
        for scope in scopes:
            for mailbox in scope.of_kind("mailbox"):
                grouped.setdefault(mailbox.name, []).append(mailbox)
        found = []
        for name, boxes in grouped.items():
            merged: dict[str, str] = {}
            for box in boxes:
                merged.update((key, values[-1].text) for key, values in box.values.items())
            found.append(
                MailboxSettings(
                    name=name,
                    auto=merged.get("auto", "no").lower(),
                    special_use=tuple(merged.get("special_use", "").split()),
                    acl=acl_of(boxes),
                    place=boxes[0].place,
                )
            )
        return tuple(found)

    def sharing_map(self) -> MapSettings | None:
        dicts = [
            scope
            for layer in self.layers
            for sharing in layer.of_kind("acl_sharing_map")
            for scope in sharing.of_kind("dict")
        ]
        if not dicts:
            return None
        scope = dicts[-1]
        values = {name: made for name in scope.values if (made := scope.last(name)) is not None}
        path: Path | None = None
        if "path" in values:
            template = Template.parse(values["path"].text, values["path"].form)
            if self.variables is None:
                path = Path(str(template))
            else:
                path = Path(expand_home(template, self.variables))
        return MapSettings(
            driver=values["driver"].text if "driver" in values else scope.name or "file",
            path=path,
            parameters={name: value.text for name, value in values.items() if name != "path"},
            place=scope.place,
        )


def prefix_of(scopes: Sequence[Scope]) -> str:
    """The prefix with owner variables spelled $user, $username, $domain, in either form."""
    for scope in reversed(scopes):
        value = scope.last("prefix")
        if value is None:
            continue
        if value.form is not Form.V23:
            return value.text
        text = value.text
        for old, new in (("u", "user"), ("n", "username"), ("d", "domain")):
            text = text.replace(f"%%{old}", f"${new}").replace(f"%%{{{new}}}", f"${new}")
        return text
    return ""


def acl_of(scopes: Iterable[Scope]) -> tuple[AclSettings, ...]:
    """`acl` blocks of these scopes; the same identifier further in replaces the outer one."""
    found: dict[str, AclSettings] = {}
    for scope in scopes:
        for block in scope.of_kind("acl"):
            rights = block.last("rights")
            identifier = block.last("id")
            name = identifier.text if identifier else block.name
            if rights is not None:
                found[name] = AclSettings(identifier=name, rights=rights.text, place=rights.place)
    return tuple(found.values())
