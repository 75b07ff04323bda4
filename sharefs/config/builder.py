"""The tree of a configuration -> one Scope with canonical names, whichever form it was written in.

Names are looked up, values are checked against their types, and every finding becomes a Problem.
Nothing is dropped without one.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from sharefs.config import legacy
from sharefs.config.grammar import BLOCKS, PAIRS, WITHOUT_EFFECT, setting_of
from sharefs.config.kinds import STRING, BadValue, Kind
from sharefs.config.known import KNOWN_BLOCKS, KNOWN_SETTINGS, is_known
from sharefs.config.problems import Problems
from sharefs.config.reader import Assign, Block
from sharefs.config.scope import FILTERS, Scope, Value, fold_list, fold_text
from sharefs.config.settings import DEFAULTS, SCHEMA
from sharefs.config.variables import BadTemplate, Form, Template
from sharefs.errors import Place

_DOLLAR: Final = re.compile(r"(?:(?<=\s)|^)\$(?:(ENV|SET):)?([A-Za-z0-9_:/-]+)")
_EXPANDED_24: Final = re.compile(r"(?:(?<=\s)|^)\$(?:(ENV|SET):)([A-Za-z0-9_:/-]+)")
# Unset in the seed's own example (a placeholder), and harmless to leave unset: nothing is listed.
_MAY_BE_UNDEFINED: Final = frozenset({"acl_shared_dict"})
_PLUGIN_NAMES: Final = (
    *legacy.PLUGIN_RENAMED,
    "acl",
    "acl_shared_dict",
    "acl_anyone",
    "acl_ignore_namespace",
)
# In the 2.3 form 0 means what `unlimited` means in 2.4.
_ZERO_IS_UNLIMITED: Final = frozenset({"mail_max_userip_connections"})


class Builder:
    """Builds one Scope tree.  forms: which form each file is in."""

    def __init__(self, problems: Problems, forms: Mapping[str, Form]) -> None:
        self.problems = problems
        self.forms = forms

    def form_of(self, place: Place) -> Form:
        return self.forms.get(place.file, Form.V24)

    def build(self, tree: Block, into: Scope | None = None) -> Scope:
        scope = into or Scope("", "", tree.place, self.form_of(tree.place))
        self._items(tree, scope)
        return scope

    def _items(self, block: Block, scope: Scope) -> None:
        items = block.items
        if scope.kind in ("passdb", "userdb"):  # what args mean depends on the driver
            items = sorted(items, key=lambda item: getattr(item, "name", "") != "driver")
        for item in items:
            if isinstance(item, Block):
                self._block(item, scope)
            else:
                self.assign(item, scope)

    # -- blocks ------------------------------------------------------------------------------

    def _block(self, block: Block, scope: Scope) -> None:
        kind = block.kind
        name = " ".join(block.names)
        if kind == "acl_sharing_map" and name:
            # 2.4 allows `acl_sharing_map { dict file {` only; say so instead of guessing.
            self.problems.error("block-name", block.place, "acl_sharing_map takes no name",
                                "write acl_sharing_map {")  # fmt: skip
            return
        if kind in BLOCKS[scope.kind].children:
            if BLOCKS[kind].named == "must" and not name:
                self.problems.error("block-name", block.place, f"`{kind}` needs a name",
                                    f"write `{kind} NAME {{`")  # fmt: skip
                return
            if kind == "plugin":
                self._plugin(block, scope)
                return
            if kind == "dict" and scope.kind == "acl_sharing_map" and not name:
                name = ""
            inner = scope.child(kind, name, block.place, self.form_of(block.place))
            self._items(block, inner)
            return
        found = setting_of(scope.kind, scope.name, kind)
        if found is not None and found[1].is_list:
            self._list_block(block, scope, found[0], found[1])
            return
        if kind in KNOWN_BLOCKS or is_known(kind):
            if not block.items and not name:
                return  # `dict { }` as packages ship it: nothing is asked for
            label = f"{kind} {name}".strip()
            self.problems.unimplemented(
                f"block {label}",
                block.place,
                f"`{label} {{ }}` is not implemented and has no effect",
            )
            return
        if kind in BLOCKS:
            self.problems.error("misplaced", block.place,
                                f"`{kind}` cannot stand inside {_label(scope)}",
                                "move it out")  # fmt: skip
            return
        where = f" in {_label(scope)}" if scope.kind else ""
        candidates = [*BLOCKS[scope.kind].children, *(KNOWN_BLOCKS if not scope.kind else ())]
        self.problems.error("unknown-block", block.place, f"there is no block `{kind}`{where}",
                            _nearest(kind, candidates))  # fmt: skip

    def _list_block(self, block: Block, scope: Scope, name: str, kind: Kind[object]) -> None:
        """`mail_plugins { acl = yes }` and `fields { home = /x }`."""
        for item in block.items:
            if isinstance(item, Block):
                self.problems.error("syntax", item.place, f"{name} holds no blocks",
                                    "write items as `name = yes`" )  # fmt: skip
                continue
            if kind is not PAIRS and item.value.lower() not in ("yes", "no", "y", "n", "1", "0"):
                self.problems.error("bad-value", item.place,
                                    f"{item.name} in {name} is neither yes nor no",
                                    f"write {item.name} = yes")  # fmt: skip
                continue
            value = self._value(item, name)
            if value is None:
                continue
            if kind is PAIRS:
                self._check_template(value)
            elif kind is not STRING and item.value.lower() not in ("no", "n", "0"):
                self._check(name, kind, replace(value, text=item.name))
            scope.put(name, replace(value, item=item.name))

    def _plugin(self, block: Block, scope: Scope) -> None:
        """2.3's plugin { }: names nobody ever checked."""
        for item in block.items:
            if isinstance(item, Block):
                self.problems.error(
                    "syntax", item.place, "plugin { } holds no blocks", "move it out"
                )
                continue
            self.plugin_setting(item, scope)

    def plugin_setting(self, item: Assign, scope: Scope) -> None:
        """One setting of plugin { }, from a file or from a userdb field plugin/NAME."""
        name = item.name
        value = self._value(item, name)
        if value is None:
            return
        value = replace(value, by_old_name=True)
        if name == "acl":
            self._put_all(scope, value, legacy.split_acl)
        elif name in legacy.PLUGIN_RENAMED:
            self._put(scope, legacy.PLUGIN_RENAMED[name], value)
        elif name == "acl_anyone":
            text = "yes" if value.text == "allow" else "no"
            self._put(scope, "imap_acl_allow_anyone", replace(value, text=text))
        elif re.fullmatch(r"acl_ignore_namespace[0-9]*", name):
            scope.put("acl_ignore_patterns", replace(value, append=True))
        elif name == "acl_shared_dict":
            self._sharing_dict(value, scope)
        elif name.startswith("sharefs_"):
            self._unknown(name, scope, item.place)
        else:
            near = difflib.get_close_matches(name, _PLUGIN_NAMES, n=1, cutoff=0.8)
            if near and not is_known(name):
                self.problems.error(
                    "unknown-setting",
                    item.place,
                    f"there is no plugin setting {name}",
                    f"did you mean {near[0]}?",
                )
                return
            self.problems.unimplemented(
                f"plugin/{name}",
                item.place,
                f"plugin setting {name} is not implemented and has no effect",
            )

    def _sharing_dict(self, value: Value, scope: Scope) -> None:
        if not value.text:
            return
        try:
            driver, path, parameters = legacy.split_dict(value.text)
        except BadValue as error:
            self.problems.error("bad-value", value.place, str(error), error.remedy)
            return
        sharing = scope.child("acl_sharing_map", "", value.place, value.form)
        made = sharing.child("dict", driver, value.place, value.form)
        made.place = value.place
        for name, text in {"path": path, **parameters}.items():
            if text:
                made.put(name, replace(value, text=text))

    # -- settings ----------------------------------------------------------------------------

    def assign(self, item: Assign, scope: Scope) -> None:
        """One `name = value` in a scope."""
        if "/" in item.name and setting_of(scope.kind, scope.name, item.name) is None:
            self._path(item, scope)
            return
        name = item.name.removeprefix(f"{scope.kind}_") if scope.kind == "namespace" else item.name
        if name in legacy.LOCATIONS and (scope.kind == "namespace" or name == "mail_location"):
            self._location(item, scope)
            return
        if scope.kind in ("passdb", "userdb") and name == "args":
            self._args(item, scope)
            return
        if BLOCKS[scope.kind].globals_too and self._old_global(item, scope):
            return
        found = setting_of(scope.kind, scope.name, item.name)
        if found is None:
            self._unknown(item.name, scope, item.place)
            return
        canonical, kind = found
        if kind.is_list and canonical in ("mail_plugins",):
            value = self._value(item, canonical, scope)
        else:
            value = self._value(item, item.name, scope)
        if value is None:
            return
        if (scope.kind, canonical) in WITHOUT_EFFECT:
            self.problems.unimplemented(f"{scope.kind}/{canonical}", item.place,
                                        f"{canonical} in {_label(scope)} is not implemented"
                                        " and has no effect")  # fmt: skip
        if item.append and not kind.is_list:
            self.problems.error("bad-value", item.place, f"{item.name} is not a list",
                                f"write {item.name} = {item.value}")  # fmt: skip
            return
        if value.form is Form.V23 and canonical in _ZERO_IS_UNLIMITED and value.text == "0":
            value = replace(value, text="unlimited")
        if kind is PAIRS:
            self._check_template(value)
            scope.put(canonical, value)
        elif self._check(canonical, kind, value):
            scope.put(canonical, value)

    def _path(self, item: Assign, scope: Scope) -> None:
        """`namespace/inbox/separator = /`, as on the command line and in userdb fields."""
        kind, _, rest = item.name.partition("/")
        if kind == "plugin" and rest:
            self.plugin_setting(replace(item, name=rest), scope)
            return
        if kind in BLOCKS[scope.kind].children and rest:
            if BLOCKS[kind].named == "no":
                name, rest = "", rest
            else:
                name, _, rest = rest.partition("/")
            if rest:
                inner = scope.child(kind, name, item.place, self.form_of(item.place))
                self.assign(replace(item, name=rest), inner)
                return
        found = setting_of(scope.kind, scope.name, kind)
        if found is not None and found[1].is_list and rest:
            block = Block(kind, (), item.place, [replace(item, name=rest)])
            self._list_block(block, scope, *found)
            return
        self._unknown(item.name, scope, item.place)

    def _old_global(self, item: Assign, scope: Scope) -> bool:
        """Whether item was a setting that 2.4 calls something else, and has been dealt with."""
        name = item.name
        if name in legacy.FILE_SETTINGS:
            new = legacy.FILE_SETTINGS[name]
            if not item.value.startswith("<") and item.value:
                self.problems.error(
                    "bad-value",
                    item.place,
                    f"{name} holds a file's content",
                    f"write {name} = </etc/ssl/FILE.pem",
                )
                return True
            text = item.value.removeprefix("<").strip()
            scope.put(new, Value(text, item.place, self.form_of(item.place), by_old_name=True))
            return True
        if name == "disable_plaintext_auth":
            value = self._value(item, name, scope)
            if value is not None:
                self._put_all(
                    scope,
                    replace(value, by_old_name=True),
                    lambda text: {"auth_allow_cleartext": legacy.inverse(text)},
                )
            return True
        if name in legacy.RENAMED and name not in SCHEMA:
            value = self._value(item, name, scope)
            if value is not None:
                self._put(scope, legacy.RENAMED[name], replace(value, by_old_name=True))
            return True
        return False

    def _location(self, item: Assign, scope: Scope) -> None:
        value = self._value(item, item.name, scope)
        if value is None or not value.text:
            return
        try:
            settings, ignored = legacy.split_location(value.text)
        except BadValue as error:
            self.problems.error("bad-value", item.place, str(error), error.remedy)
            return
        for key in ignored:
            self.problems.unimplemented(f"location {key}", item.place,
                                        f"{key} in a mail location has no effect here")  # fmt: skip
        for name in legacy.LOCATION_GROUP:
            text = settings.get(name, DEFAULTS[name])
            made = replace(value, text=text, by_old_name=True)
            if self._check(name, SCHEMA[name], made):
                scope.put(name, made)

    def _args(self, item: Assign, scope: Scope) -> None:
        value = self._value(item, item.name, scope)
        if value is None:
            return
        driver = scope.last("driver")
        scope.put("args", value)
        if driver is None:
            self.problems.error("bad-value", item.place, "args without a driver",
                                "write driver = passwd-file, or another")  # fmt: skip
            return
        try:
            settings = legacy.split_passdb_args(driver.text, value.text)
        except BadValue as error:
            self.problems.error("bad-value", item.place, str(error), error.remedy)
            return
        for name, text in settings.items():
            found = setting_of(scope.kind, scope.name, name)
            made = replace(value, text=text, by_old_name=True)
            if found is None:
                self.problems.error(
                    "bad-value", item.place, f"{scope.kind} {driver.text} has no {name}"
                )
            elif found[1] is PAIRS or self._check(name, found[1], made):
                self._check_template(made)
                scope.put(name, made)

    def _put(self, scope: Scope, name: str, value: Value) -> None:
        if self._check(name, SCHEMA[name], value):
            scope.put(name, value)

    def _put_all(self, scope: Scope, value: Value, split: Callable[[str], dict[str, str]]) -> None:
        try:
            settings = split(value.text)
        except BadValue as error:
            self.problems.error("bad-value", value.place, str(error), error.remedy)
            return
        for name, text in settings.items():
            self._put(scope, name, replace(value, text=text))

    # -- values ------------------------------------------------------------------------------

    def _value(self, item: Assign, name: str, scope: Scope | None = None) -> Value | None:
        """The text after `<file` and `$name` expansion.  None: it was reported."""
        form = self.form_of(item.place)
        text = item.value
        if not item.quoted and text.startswith("<") and name not in ("login_greeting",):
            content = self._file_content(text[1:].strip(), item)
            if content is None:
                return None
            text = content
        elif not item.quoted and "$" in text:
            expanded = self._dollars(text, item, name, scope, form)
            if expanded is None:
                return None
            text = expanded
        return Value(text, item.place, form, append=item.append)

    def _dollars(self, text: str, item: Assign, name: str, scope: Scope | None,
                 form: Form) -> str | None:  # fmt: skip
        failed = False
        mail_names = name in ("prefix", "namespace_prefix") or (scope and scope.kind == "dict")

        def value_of(match: re.Match[str]) -> str:
            nonlocal failed
            if match[1] == "ENV":
                return os.environ.get(match[2], "")
            if mail_names and not match[1]:
                return match[0]
            found = self._current(match[2], scope)
            if found is not None:
                return found
            if name in _MAY_BE_UNDEFINED:
                self.problems.warning(
                    "undefined-variable", item.place,
                    f"{match[0]} is not set, so {name} is not set either",
                    "write what it stands for, such as file:/var/lib/dovecot/shared-mailboxes.db",
                )  # fmt: skip
                return ""
            failed = True
            self.problems.error("undefined-variable", item.place, f"there is no setting {match[2]}",
                                _nearest(match[2], SCHEMA))  # fmt: skip
            return ""

        pattern = _DOLLAR if form is Form.V23 or name == "mail_plugins" else _EXPANDED_24
        expanded = pattern.sub(value_of, text)
        return None if failed else expanded

    def _current(self, name: str, scope: Scope | None) -> str | None:
        """What a setting adds up to at this point of the file, outermost block first."""
        name = legacy.RENAMED.get(name, name)
        if name not in SCHEMA:
            return None
        chain: list[Scope] = []
        while scope is not None:
            chain.insert(0, scope)
            scope = scope.parent
        values = [value for link in chain for value in link.values.get(name, ())]
        folded = fold_list(values) if SCHEMA[name].is_list else fold_text(values)
        return DEFAULTS[name] if folded is None else folded.text

    def _file_content(self, path: str, item: Assign) -> str | None:
        try:
            with open(path, encoding="utf-8") as file:
                return file.read(1 << 20).rstrip("\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problems.error(
                "unreadable", item.place, f"{item.name}: cannot read {path}: {reason}"
            )
            return None

    def _check(self, name: str, kind: Kind[object], value: Value) -> bool:
        """Whether the value can work.  One with variables is checked as far as possible."""
        if kind.expands or kind.template:
            return self._check_template(value)
        try:
            kind.parse(value.text)
        except BadValue as error:
            self.problems.error("bad-value", value.place, f"{name}: {error}", error.remedy)
            return False
        return True

    def _check_template(self, value: Value) -> bool:
        try:
            Template.parse(value.text, value.form)
        except BadTemplate as error:
            self.problems.error("bad-variable", value.place, str(error), error.remedy)
            return False
        return True

    def _unknown(self, name: str, scope: Scope, place: Place) -> None:
        if is_known(name) and not name.startswith("sharefs_"):
            self.problems.unimplemented(name, place, f"{name} is not implemented and has no effect")
            return
        where = f" in {_label(scope)}" if scope.kind else ""
        candidates = [*BLOCKS[scope.kind].settings]
        if BLOCKS[scope.kind].globals_too:
            candidates += [*SCHEMA, *KNOWN_SETTINGS]
        self.problems.error("unknown-setting", place, f"there is no setting {name}{where}",
                            _nearest(name, candidates))  # fmt: skip


def _nearest(name: str, candidates: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else "see docs/configuration.md for what there is"


def _label(scope: Scope) -> str:
    return f"{scope.kind} {scope.name}".strip() if scope.kind else "the top level"


def is_filter(scope: Scope) -> bool:
    return scope.kind in FILTERS
