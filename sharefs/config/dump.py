"""What is in force: a list of entries with their origins, and text that loads again.  Pure."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sharefs.config.namespaces import AclSettings, NamespaceSettings, layout_of
from sharefs.config.services import (
    DEFAULT_SERVICES,
    PassdbSettings,
    ServiceSettings,
    UserdbSettings,
)
from sharefs.config.settings import DEFAULTS, SCHEMA, Settings
from sharefs.config.variables import Template
from sharefs.errors import Place

DEFAULT: Final = "default"
HIDDEN: Final = "# hidden, use -P to show it"
_SECRET: Final = re.compile(r"password$")
_NEEDS_QUOTES: Final = re.compile(r"^[\s<]|\s$|[#\"']|(?:^|\s)\$|\\$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting.  blocks: the headings around it, outermost first, such as "namespace inbox"."""

    blocks: tuple[str, ...]
    name: str
    value: str
    origin: str

    @property
    def is_default(self) -> bool:
        """Whether leaving it out would change nothing."""
        same = not self.blocks and self.value == DEFAULTS.get(self.name)
        return self.origin == DEFAULT or same

    @property
    def is_secret(self) -> bool:
        return bool(_SECRET.search(self.name)) and bool(self.value)

    @property
    def path(self) -> str:
        """`namespace/inbox/separator`, as `config get` takes it."""
        return "/".join([*(block.replace(" ", "/", 1) for block in self.blocks), self.name])


def entries_of(settings: Settings) -> Iterator[Entry]:
    """Everything, in the order of a dump."""
    for name in sorted(SCHEMA):
        yield Entry((), name, settings.get(name), settings.origin(name))
    yield from _acl((), settings.acl)
    if settings.acl_ignore_patterns:
        patterns = " ".join(settings.acl_ignore_patterns)
        origin = settings.origin("acl_ignore_patterns")
        yield Entry(("plugin",), "acl_ignore_namespace", patterns, origin)
    if (found := settings.sharing_map) is not None:
        blocks = ("acl_sharing_map", f"dict {found.driver}")
        origin = _origin(found.place)
        yield Entry(blocks, "driver", found.driver, origin)
        if found.path is not None:
            yield Entry(blocks, "path", str(found.path), origin)
        for name, value in found.parameters.items():
            if name != "driver":
                yield Entry(blocks, name, value, origin)
    for namespace in settings.namespaces:
        yield from _namespace(namespace, settings)
    for passdb in settings.passdbs:
        yield from _database("passdb", passdb)
    for userdb in settings.userdbs:
        yield from _database("userdb", userdb)
    for name in sorted(settings.services):
        yield from _service(settings.services[name])


def _origin(place: Place | None) -> str:
    return DEFAULT if place is None else str(place)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Template):
        return value.written()
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value)


def _acl(blocks: tuple[str, ...], entries: Iterable[AclSettings]) -> Iterator[Entry]:
    for each in entries:
        heading = (*blocks, f"acl {_quoted_name(each.identifier)}")
        yield Entry(heading, "rights", each.rights, _origin(each.place))


_NAMESPACE: Final = ("type", "prefix", "separator", "inbox", "list", "hidden", "subscriptions",
                     "ignore_on_failure", "alias_for", "order")  # fmt: skip
_LOCATION: Final = {
    "mail_path": "path",
    "mail_inbox_path": "inbox_path",
    "mail_control_path": "control_path",
    "mail_index_path": "index_path",
    "mail_index_private_path": "index_private_path",
    "mail_driver": "driver",
    "mailbox_list_layout": "layout",
    "mailbox_list_utf8": "utf8",
    "mailbox_directory_name": "directory_name",
    "mailbox_subscriptions_filename": "subscriptions_file_name",
}


def _namespace(namespace: NamespaceSettings, settings: Settings) -> Iterator[Entry]:
    blocks = (f"namespace {_quoted_name(namespace.name)}",)
    for name in _NAMESPACE:
        own = _word(getattr(namespace, name))
        yield Entry(blocks, name, own, _origin(namespace.places.get(name)))
    location = namespace.location
    for name, attribute in _LOCATION.items():
        if name not in namespace.places:
            continue  # it is the global one
        value: object = getattr(location, attribute)
        if name in location.templates and location.viewer is None:
            value = location.templates[name]
        text = "" if value is None else _word(value)
        if text in ("", DEFAULTS[name]) and settings.get(name) in ("", DEFAULTS[name]):
            continue  # 2.3's location resets what it does not name
        if name == "mailbox_list_layout" and text == layout_of(location.driver):
            continue
        yield Entry(blocks, name, text, _origin(namespace.places[name]))
    for name in ("acl_ignore", "acl_defaults_from_inbox", "acl_globals_only"):
        if name in namespace.places:
            own = _word(getattr(namespace, name))
            yield Entry(blocks, name, own, _origin(namespace.places[name]))
    yield from _acl(blocks, (each for each in namespace.acl if each not in settings.acl))
    for mailbox in namespace.mailboxes:
        inner = (*blocks, f"mailbox {_quoted_name(mailbox.name)}")
        origin = _origin(mailbox.place)
        yield Entry(inner, "auto", mailbox.auto, origin)
        if mailbox.special_use:
            yield Entry(inner, "special_use", " ".join(mailbox.special_use), origin)
        yield from _acl(inner, mailbox.acl)


# Field of PassdbSettings or UserdbSettings -> setting, where they differ.
_DATABASE_NAMES: Final = {
    "pass_through": "pass",
    "username_format": "auth_username_format",
    "failure_show_msg": "pam_failure_show_msg",
    "mechanisms": "mechanisms_filter",
}


def _database(kind: str, database: PassdbSettings | UserdbSettings) -> Iterator[Entry]:
    blocks = (f"{kind} {_quoted_name(database.name)}".rstrip() if database.name else kind,)
    origin = _origin(database.place)
    for item in dataclasses.fields(database):
        value = getattr(database, item.name)
        if item.name in ("name", "place") or value in ("", None, (), {}):
            continue
        name = _DATABASE_NAMES.get(item.name, item.name)
        if isinstance(value, Mapping):
            for key, template in value.items():
                yield Entry((*blocks, name), key, _word(template), origin)
            continue
        default = DEFAULT if value == item.default else origin
        yield Entry(blocks, name, _word(value), default)


def _service(service: ServiceSettings) -> Iterator[Entry]:
    blocks = (f"service {service.name}",)
    base = DEFAULT_SERVICES.get(service.name, ServiceSettings(name=service.name))
    origin = _origin(service.place)
    for name in ("client_limit", "process_limit", "process_min_avail", "service_count", "user",
                 "group", "chroot", "extra_groups", "vsz_limit", "idle_kill"):  # fmt: skip
        value = getattr(service, name)
        changed = value != getattr(base, name)
        yield Entry(blocks, name, _word(value), origin if changed else DEFAULT)
    for inet in service.inet_listeners.values():
        inner = (*blocks, f"inet_listener {inet.name}")
        yield Entry(inner, "port", str(inet.port), _origin(inet.place))
        yield Entry(inner, "ssl", _word(inet.ssl), _origin(inet.place))
        if inet.addresses:
            yield Entry(inner, "address", " ".join(inet.addresses), _origin(inet.place))
    for unix in service.unix_listeners.values():
        inner = (*blocks, f"unix_listener {_quoted_name(unix.path)}")
        yield Entry(inner, "mode", f"0{unix.mode:o}", _origin(unix.place))
        for name in ("user", "group"):
            if getattr(unix, name):
                yield Entry(inner, name, getattr(unix, name), _origin(unix.place))


def _escaped(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quoted_name(name: str) -> str:
    return _escaped(name) if re.search(r"[\s\"{}#]", name) or not name else name


def quoted(value: str) -> str:
    """A value as it must be written in a file."""
    return _escaped(value) if _NEEDS_QUOTES.search(value) else value


def render(entries: Iterable[Entry], *, origins: bool = True, secrets: bool = False) -> str:
    """Text in the 2.4 form.  Each line ends in a comment with its origin."""
    lines: list[str] = []
    opened: list[str] = []
    for entry in entries:
        common = 0
        while common < min(len(opened), len(entry.blocks)) and (
            opened[common] == entry.blocks[common]
        ):
            common += 1
        while len(opened) > common:
            opened.pop()
            lines.append("  " * len(opened) + "}")
        for block in entry.blocks[common:]:
            lines.append("  " * len(opened) + f"{block} {{")
            opened.append(block)
        value = quoted(entry.value) if secrets or not entry.is_secret else HIDDEN
        line = "  " * len(opened) + f"{entry.name} = {value}".rstrip()
        shown = origins and not (entry.is_secret and not secrets)
        lines.append(f"{line}  # {entry.origin}" if shown else line)
    while opened:
        opened.pop()
        lines.append("  " * len(opened) + "}")
    return "".join(line + "\n" for line in lines)


def find(settings: Settings, name: str) -> list[Entry]:
    """Entries for `name`, a setting or a path of blocks to one.  Raises KeyError for none."""
    if name in DEFAULTS:
        return [Entry((), name, settings.get(name), settings.origin(name))]
    found = [each for each in entries_of(settings) if each.path == name]
    if not found:
        found = [each for each in entries_of(settings) if each.path.startswith(name + "/")]
    if not found:
        raise KeyError(name)
    return found
