"""Typed settings of namespaces: where their mail is, and what they look like to a client.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sharefs.config.variables import Template, Variables
from sharefs.errors import Code, Place, SharingError

MAILDIRPP: Final = "maildir++"
FS: Final = "fs"


def layout_of(driver: str) -> str:
    """The layout of mailboxes where none is configured."""
    return MAILDIRPP if driver == "maildir" else FS


@dataclass(frozen=True, slots=True, kw_only=True)
class AclSettings:
    """`acl IDENTIFIER { rights = LETTERS }`: both as written; a leading - in rights is negative."""

    identifier: str
    rights: str
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSettings:
    """`mailbox NAME { }`.  name: storage name with the namespace's separator; may be a pattern."""

    name: str
    auto: str = "no"
    special_use: tuple[str, ...] = ()
    acl: tuple[AclSettings, ...] = ()
    autoexpunge: int = 0  # seconds; 0: never
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSettings:
    """The sharing map: who shares with whom.  path is expanded; None if the driver has none.

    driver: file, fs, sql, proxy, redis, ...; we implement `file`.
    """

    driver: str
    path: Path | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where one namespace's mail is, for one viewer.

    In a shared namespace paths may still hold the owner's variables, spelled %{owner_home}:
    needs_owner is then true, and nothing may be opened before for_owner().  Paths that are not
    configured are None; what takes their place is control_dir and index_dir.
    templates: the values before any expansion, by setting name, for the rules that look at them.
    """

    driver: str
    path: Path
    layout: str = MAILDIRPP
    inbox_path: Path | None = None
    control_path: Path | None = None
    index_path: Path | None = None
    index_private_path: Path | None = None
    utf8: bool = False
    directory_name: str = ""
    subscriptions_file_name: str = "subscriptions"
    templates: Mapping[str, Template] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    in_memory: tuple[str, ...] = ()  # settings of the value MEMORY; their paths are None
    viewer: Variables | None = None  # whose variables were used; None: none were

    @property
    def path_template(self) -> Template:
        """mail_path before expansion: permissions of missing roots depend on how it was written."""
        return self.templates.get("mail_path", Template.literal(str(self.path)))

    @property
    def needs_owner(self) -> bool:
        return any(template.needs_owner for template in self.templates.values())

    @property
    def needs_owner_home(self) -> bool:
        """Whether the owner's home must be looked up before for_owner()."""
        return any("owner_home" in template.names for template in self.templates.values())

    @property
    def control_dir(self) -> Path:
        return self.control_path or self.path

    @property
    def index_dir(self) -> Path:
        return self.index_path or self.path

    def for_owner(self, owner: Variables) -> "Location":
        """The same location for one owner, given the owner's own user name and home.

        Raises SharingError(UNAVAILABLE) if the home is needed and owner.home is None.
        """
        assert self.viewer is not None, "expand for a viewer first"
        variables = self.viewer.for_owner(owner)
        return replace(self, **expanded_paths(self.templates, variables), viewer=variables)  # type: ignore[arg-type]  # names and types of the path fields


_PATHS: Final = {
    "path": "mail_path",
    "inbox_path": "mail_inbox_path",
    "control_path": "mail_control_path",
    "index_path": "mail_index_path",
    "index_private_path": "mail_index_private_path",
}


def expanded_paths(
    templates: Mapping[str, Template], variables: Variables
) -> dict[str, Path | None]:
    """Field of Location -> path.  `~/` is the viewer's home, `~user/` is not understood."""
    paths: dict[str, Path | None] = {}
    for name, setting in _PATHS.items():
        template = templates.get(setting)
        if template:
            paths[name] = Path(expand_home(template, variables))
        elif name != "path":
            paths[name] = None
    return paths


def _demand_harmless(who: Variables) -> None:
    for part in (who.user, who.username, who.domain):
        if "/" in part or "\0" in part or part in (".", ".."):
            raise SharingError(Code.NONEXISTENT, f"user name {who.user!r} cannot be part of a path")


def expand_home(template: Template, variables: Variables) -> str:
    """Expand variables and a leading `~/`.  Raises SharingError(UNAVAILABLE) without a home.

    A user name that would lead out of its place in the path is refused: who has typed it chose it.
    """
    for who in (variables, variables.owner):
        if who is not None and template.variables:
            _demand_harmless(who)
    text = str(template.partial(variables))
    if "\0" in text:
        raise SharingError(Code.INVALID, f"{template.source} expands to a path with a NUL")
    if text == "~" or text.startswith("~/"):
        home = variables.value_of("home")
        return (home.rstrip("/") or "/") + text[1:] if text != "~" else home
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSettings:
    """One namespace.  In a shared one, prefix holds `$user`, or `$username` and `$domain`.

    list: "yes", "no" or "children".  separator: one character, the layout's own if not set.
    alias_for: name of another namespace, or "".  subscriptions: False: an outer namespace's file.
    """

    name: str
    type: str
    prefix: str
    separator: str
    location: Location
    inbox: bool = False
    list: str = "yes"
    hidden: bool = False
    subscriptions: bool = True
    ignore_on_failure: bool = False
    disabled: bool = False
    alias_for: str = ""
    order: int = 0
    mailboxes: tuple[MailboxSettings, ...] = ()
    acl: tuple[AclSettings, ...] = ()
    acl_ignore: bool = False
    acl_defaults_from_inbox: bool = False
    acl_globals_only: bool = False
    place: Place | None = None
    places: Mapping[str, Place] = field(default_factory=dict)  # where each own setting stands

    @property
    def subscriptions_file_name(self) -> str:
        return self.location.subscriptions_file_name

    @property
    def listable_prefix(self) -> str:
        """The prefix up to its first variable: `shared/` of `shared/$user/`."""
        return self.prefix.partition("$")[0] if self.type == "shared" else self.prefix
