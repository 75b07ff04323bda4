"""The settings of the 2.3 form, as they stand in a file -> today's settings in a scope.

legacy.py knows how the old values are taken apart; here is where their parts go.
"""

import difflib
import re
from dataclasses import replace
from typing import Final

from sharefs.config import legacy
from sharefs.config.grammar import PAIRS, setting_of
from sharefs.config.kinds import BadValue
from sharefs.config.known import is_known
from sharefs.config.reader import Assign, Block
from sharefs.config.scope import Scope, Value
from sharefs.config.settings import DEFAULTS, SCHEMA
from sharefs.config.writer import Writer

_PLUGIN_NAMES: Final = (
    *legacy.PLUGIN_RENAMED,
    "acl",
    "acl_shared_dict",
    "acl_anyone",
    "acl_ignore_namespace",
)


class OldForm:
    """Everything goes through one Writer."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.problems = writer.problems
        self.expander = writer.expander

    def plugin(self, block: Block, scope: Scope) -> None:
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
        value = self.expander.value(item, name)
        if value is None:
            return
        value = value
        if name == "acl":
            self.writer.put_all(scope, value, legacy.split_acl)
        elif name in legacy.PLUGIN_RENAMED:
            self.writer.put(scope, legacy.PLUGIN_RENAMED[name], value)
        elif name == "acl_anyone":
            text = "yes" if value.text == "allow" else "no"
            self.writer.put(scope, "imap_acl_allow_anyone", replace(value, text=text))
        elif re.fullmatch(r"acl_ignore_namespace[0-9]*", name):
            scope.put("acl_ignore_patterns", replace(value, append=True))
        elif name == "acl_shared_dict":
            self._sharing_dict(value, scope)
        elif name.startswith("sharefs_"):
            self.writer.unknown(name, scope, item.place)
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

    def renamed(self, item: Assign, scope: Scope) -> bool:
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
            if text:
                text = self.expander.path_of(text, item.place)
            scope.put(new, Value(text, item.place, self.writer.form_of(item.place)))
            return True
        if name == "disable_plaintext_auth":
            value = self.expander.value(item, name, scope)
            if value is not None:
                self.writer.put_all(
                    scope,
                    value,
                    lambda text: {"auth_allow_cleartext": legacy.inverse(text)},
                )
            return True
        if name in legacy.RENAMED and name not in SCHEMA:
            value = self.expander.value(item, name, scope)
            if value is not None:
                self.writer.put(scope, legacy.RENAMED[name], value)
            return True
        return False

    def location(self, item: Assign, scope: Scope) -> None:
        value = self.expander.value(item, item.name, scope)
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
            made = replace(value, text=text)
            if self.writer.check(name, SCHEMA[name], made):
                scope.put(name, made)

    def args(self, item: Assign, scope: Scope) -> None:
        value = self.expander.value(item, item.name, scope)
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
            made = replace(value, text=text)
            if found is None:
                self.problems.error(
                    "bad-value", item.place, f"{scope.kind} {driver.text} has no {name}"
                )
            elif found[1] is PAIRS or self.writer.check(name, found[1], made):
                self.writer.check_template(made)
                scope.put(name, made)
