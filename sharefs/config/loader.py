"""load(): the one way to a configuration."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs.config import checks, support
from sharefs.config.builder import Builder
from sharefs.config.checked import Checked, GroupLookup
from sharefs.config.forms import forms_of
from sharefs.config.groups import expand_groups
from sharefs.config.problems import ConfigError, Problem, Problems, Severity
from sharefs.config.reader import Assign, Block, Reader
from sharefs.config.resolve import Resolver, layers_of, prefix_of
from sharefs.config.scope import FILTERS, Scope, Value
from sharefs.config.settings import Settings
from sharefs.config.variables import Form, Variables
from sharefs.errors import Code, Place, SharingError

DEFAULT_PATHS: Final = ("/etc/sharefs/sharefs.conf", "/etc/dovecot/dovecot.conf")
MAX_READINGS: Final = 8  # $SET: of a $SET: of ...
ENVIRONMENT: Final = "SHAREFS_CONFIG"

# userdb fields that concern the process, not its settings (2.4 "userdb: Extra Fields").
IDENTITY_FIELDS: Final = frozenset(
    {"uid", "gid", "home", "user", "nice", "chroot", "quota_rule", "proxy", "host", "password",
     "nopassword", "allow_nets", "event", "login_user", "master_user", "original_user", "auth_user"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that was read and found usable.

    problems: warnings and what is not implemented, in file order.  path None: it came as text.
    """

    root: Scope
    overrides: Scope
    problems: tuple[Problem, ...]
    forms: Mapping[str, Form]
    path: Path | None = None

    def settings(
        self,
        *,
        protocol: str = "imap",
        fields: Mapping[str, str] | None = None,
        variables: Variables | None = None,
    ) -> Settings:
        """What is in force for one user.

        fields: userdb extra fields, which override settings: a setting's name,
        namespace/NAME/SETTING, plugin/NAME.  They are taken literally but
        for `~/` and an owner's variables.  Others are not looked at.  variables None: nothing
        is expanded, as wanted before a user is known.  Raises SharingError(INVALID) for a field
        whose value cannot work, SharingError(UNAVAILABLE) if a path needs a home and the user has
        none.
        """
        layers = list(layers_of(self.root, protocol, variables))
        layers += layers_of(self.overrides, protocol, variables)
        if fields:
            layers.append(self._fields_scope(fields))
        return Resolver(layers, variables).settings()

    def audited(self, name: str) -> str | None:
        """What a setting of known.AUDITED is for IMAP, as text; None: nothing in the file."""
        layers = [*layers_of(self.root, "imap", None), *layers_of(self.overrides, "imap", None)]
        found = [value for scope in layers if (value := scope.last(name)) is not None]
        return found[-1].text if found else None

    def _fields_scope(self, fields: Mapping[str, str]) -> Scope:
        problems = Problems()
        builder = Builder(problems, {}, self.root)
        scope = Scope("", "", Place("userdb"), Form.LITERAL)
        for name, text in fields.items():
            if name in IDENTITY_FIELDS or name.startswith("event_"):
                continue
            place = Place(f"userdb field {name}")
            builder.writer.expander.forms = {place.file: Form.LITERAL}
            wanted = "mail_location" if name == "mail" else name  # the old name of the field
            builder.assign(Assign(wanted, text, place, quoted=True), scope)
        for problem in problems.sorted():
            if problem.severity is Severity.ERROR and problem.check != "unknown-setting":
                raise SharingError(Code.INVALID, str(problem))
        return scope


def find_path() -> Path:
    """$SHAREFS_CONFIG, or the first default path that exists."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    for name in DEFAULT_PATHS:
        if os.path.exists(name):
            return Path(name)
    return Path(DEFAULT_PATHS[0])


def load(
    path: Path | None = None,
    *,
    text: str | None = None,
    overrides: Sequence[str] = (),
    lookup_group: GroupLookup = checks.group_exists,
) -> Config:
    """Read a file, or text.  overrides: `SETTING=VALUE` as of doveconf -o.

    lookup_group: whether a Unix group of that name exists.
    Raises ConfigError, with every problem found, if any of them is an error.
    """
    config = examine(path, text=text, overrides=overrides, lookup_group=lookup_group)
    if any(problem.severity is Severity.ERROR for problem in config.problems):
        raise ConfigError(config.problems)
    return config


def examine(
    path: Path | None = None,
    *,
    text: str | None = None,
    overrides: Sequence[str] = (),
    lookup_group: GroupLookup = checks.group_exists,
) -> Config:
    """As load, but never raises ConfigError: the result may hold errors, and is for looking at."""
    problems = Problems()
    reader = Reader(problems)
    if text is not None:
        tree = reader.read_text(text, "(text)" if path is None else str(path))
    else:
        path = find_path() if path is None else Path(path)
        tree = reader.read_file(path)
    tree = expand_groups(tree, problems)
    forms = forms_of(tree, reader.files)
    root = _build(tree, forms, problems)
    override_place = Place("override")
    form = forms.get(tree.place.file, Form.V24)
    given = Scope("", "", override_place, form)
    builder = Builder(problems, {override_place.file: form}, root)
    builder.build(_overrides_tree(overrides, override_place, problems), given)
    _check([root, given], problems, lookup_group)
    return Config(root, given, problems.sorted(reader.files), forms, path)


def _build(tree: Block, forms: Mapping[str, Form], problems: Problems) -> Scope:
    """Build the scopes; again while `$SET:` refers to what stands further down."""
    later: Scope | None = None
    for _ in range(MAX_READINGS):
        found = Problems()
        builder = Builder(found, forms, later)
        root = builder.build(tree)
        name_namespaces(root)
        if not builder.writer.expander.uses_later or (later is not None and root == later):
            break
        later = root
    else:
        found.error("set-loop", tree.place, "settings refer to each other in a circle by $SET:",
                    "take one of them out")  # fmt: skip
    for problem in found.sorted():
        problems.add(problem)
    return root


def _check(roots: Sequence[Scope], problems: Problems, lookup_group: GroupLookup) -> None:
    """Run every check over what would be in force for IMAP, before any user is known."""
    layers = [layer for root in roots for layer in layers_of(root, "imap", None)]
    settings = Resolver(layers, None).settings()
    written: dict[tuple[str, str], Value] = {}
    for scope in (scope for layer in layers for scope in layer.of_kind("namespace")):
        written.update(((scope.name, name), values[-1]) for name, values in scope.values.items())
    places = {name: values[-1].place for layer in layers for name, values in layer.values.items()}
    checked = Checked(settings, written, places, problems, lookup_group)
    for check in (*checks.CHECKS, *support.CHECKS):
        check(checked)


def _overrides_tree(overrides: Sequence[str], place: Place, problems: Problems) -> Block:
    tree = Block("", (), place)
    for each in overrides:
        name, equals, text = each.partition("=")
        if not equals or not name.strip():
            problems.error("syntax", place, f"cannot make sense of `{each}`",
                           "write SETTING=VALUE")  # fmt: skip
            continue
        tree.items.append(Assign(name.strip(), text.strip(), place))
    return tree


def name_namespaces(root: Scope) -> None:
    """Give unnamed namespaces a name: inbox, or the first word of their prefix, or a number."""
    scopes = list(_namespaces(root))
    taken = {scope.name for scope in scopes if scope.name}
    for scope in scopes:
        if scope.name:
            continue
        inbox = scope.last("inbox")
        if inbox is not None and inbox.text.lower() in ("yes", "y", "1"):
            wanted = "inbox"
        else:
            prefix = prefix_of([scope])
            wanted = "".join(
                letter for letter in prefix.partition("$")[0] if letter.isalnum() or letter in "-_"
            ).lower()
            wanted = wanted or "namespace"
        name, number = wanted, 1
        while name in taken:
            number += 1
            name = f"{wanted}-{number}"
        scope.name = name
        taken.add(name)


def _namespaces(scope: Scope) -> "list[Scope]":
    found = list(scope.of_kind("namespace"))
    for child in scope.children:
        if child.kind in FILTERS:
            found += _namespaces(child)
    return found
