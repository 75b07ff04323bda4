"""A value as it stands in a file -> the text that is meant: `<FILE`, `$name`, `$SET:`, `$ENV:`."""

import os
import re
from collections.abc import Mapping
from typing import Final

from sharefs.config import legacy
from sharefs.config.problems import Problems, nearest
from sharefs.config.reader import Assign
from sharefs.config.scope import Scope, Value, fold_list, fold_text, today
from sharefs.config.settings import DEFAULTS, SCHEMA
from sharefs.config.variables import Form
from sharefs.errors import Place

_DOLLAR: Final = re.compile(r"(?:(?<=\s)|^)\$(?:(ENV|SET):)?([A-Za-z0-9_:/-]+)")
_EXPANDED_24: Final = re.compile(r"(?:(?<=\s)|^)\$(?:(ENV|SET):)([A-Za-z0-9_:/-]+)")
# Unset in the documentation's own example, a placeholder; harmless: nothing is listed.
_MAY_BE_UNDEFINED: Final = frozenset({"acl_shared_dict"})
_MAY_BEGIN_WITH_LESS: Final = frozenset({"login_greeting"})
MAX_CONTENT: Final = 1 << 20  # characters of a file that is a value


class Expander:
    """forms: which form each file is in."""

    def __init__(self, problems: Problems, forms: Mapping[str, Form]) -> None:
        self.problems = problems
        self.forms = forms

    def form_of(self, place: Place) -> Form:
        return self.forms.get(place.file, Form.V24)

    def value(self, item: Assign, name: str, scope: Scope | None = None) -> Value | None:
        """The text after `<file` and `$name` expansion.  None: it was reported."""
        form = self.form_of(item.place)
        text = item.value
        if not item.quoted and text.startswith("<") and name not in _MAY_BEGIN_WITH_LESS:
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
                                nearest(match[2], SCHEMA))  # fmt: skip
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
        return DEFAULTS[name] if folded is None else today(folded.text, folded.form)

    def _file_content(self, path: str, item: Assign) -> str | None:
        try:
            with open(path, encoding="utf-8") as file:
                return file.read(MAX_CONTENT).rstrip("\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problems.error(
                "unreadable", item.place, f"{item.name}: cannot read {path}: {reason}"
            )
            return None
