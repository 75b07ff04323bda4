"""Puts values into scopes: checked against their types, each mistake reported with its place."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from sharefs.config.expand import Expander
from sharefs.config.grammar import BLOCKS
from sharefs.config.kinds import BadValue, Kind
from sharefs.config.known import KNOWN_SETTINGS, PASSDBS, USERDBS, is_known
from sharefs.config.problems import Problems, nearest
from sharefs.config.scope import Scope, Value
from sharefs.config.settings import SCHEMA
from sharefs.config.variables import BadTemplate, Form, Template
from sharefs.errors import Place

# In the 2.4 form this is a percent sign and a letter, but hardly ever meant so.
_OLD_OWNER: Final = re.compile(r"%%(?:[undh](?![a-zA-Z0-9])|\{\w+\})")


class Writer:
    """forms: which form each file is in."""

    def __init__(
        self, problems: Problems, forms: Mapping[str, Form], later: Scope | None = None
    ) -> None:
        self.problems = problems
        self.expander = Expander(problems, forms, later)

    def form_of(self, place: Place) -> Form:
        return self.expander.form_of(place)

    def put(self, scope: Scope, name: str, value: Value) -> None:
        if self.check(name, SCHEMA[name], value):
            scope.put(name, value)

    def put_all(self, scope: Scope, value: Value, split: Callable[[str], dict[str, str]]) -> None:
        try:
            settings = split(value.text)
        except BadValue as error:
            self.problems.error("bad-value", value.place, str(error), error.remedy)
            return
        for name, text in settings.items():
            self.put(scope, name, replace(value, text=text))

    # -- values ------------------------------------------------------------------------------

    def check(self, name: str, kind: Kind[object], value: Value) -> bool:
        """Whether the value can work.  One with variables is checked as far as possible."""
        if kind.expands or kind.template:
            return self.check_template(value)
        try:
            kind.parse(value.text)
        except BadValue as error:
            self.problems.error("bad-value", value.place, f"{name}: {error}", error.remedy)
            return False
        return True

    def check_template(self, value: Value) -> bool:
        if value.form is Form.V24 and (old := _OLD_OWNER.search(value.text)):
            self.problems.error(
                "bad-variable", value.place,
                f"`{old[0]}` is the old form of a variable of the sharing user",
                "write %{owner_user}, %{owner_username}, %{owner_domain} or %{owner_home}",
            )  # fmt: skip
            return False
        try:
            Template.parse(value.text, value.form)
        except BadTemplate as error:
            self.problems.error("bad-variable", value.place, str(error), error.remedy)
            return False
        return True

    def unknown(self, name: str, scope: Scope, place: Place) -> None:
        if (is_known(name) or _is_elsewhere(scope)) and not name.startswith("sharefs_"):
            self.problems.unimplemented(name, place, f"{name} is not implemented and has no effect")
            return
        where = f" in {label(scope)}" if scope.kind else ""
        candidates = [*BLOCKS[scope.kind].settings]
        if BLOCKS[scope.kind].globals_too:
            candidates += [*SCHEMA, *KNOWN_SETTINGS]
        self.problems.error("unknown-setting", place, f"there is no setting {name}{where}",
                            nearest(name, candidates))  # fmt: skip


def _is_elsewhere(scope: Scope) -> bool:
    """Whether the block belongs to a database driver that we do not have, with its settings."""
    if scope.kind not in ("passdb", "userdb"):
        return False
    driver = scope.last("driver")
    name = driver.text if driver else scope.name
    return (PASSDBS if scope.kind == "passdb" else USERDBS).get(name) is False


def label(scope: Scope) -> str:
    return f"{scope.kind} {scope.name}".strip() if scope.kind else "the top level"
