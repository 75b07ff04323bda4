"""A value as it stands in a file -> the text that is meant: `<FILE`, `$name`, `$SET:`, `$ENV:`."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from sharefs.config import legacy
from sharefs.config.problems import Problems, nearest
from sharefs.config.reader import Assign, read_regular
from sharefs.config.scope import Scope, Value, fold_list, fold_text, today
from sharefs.config.settings import DEFAULTS, SCHEMA
from sharefs.config.variables import Form
from sharefs.errors import Place

_DOLLAR: Final = re.compile(r"(?:(?<=\s)|^)\$(?:(ENV|SET):)?([A-Za-z0-9_:/-]+)")
_EXPANDED_24: Final = re.compile(r"(?:(?<=\s)|^)\$(?:(ENV|SET):)([A-Za-z0-9_:/-]+)")
# Unset in the documentation's own example, a placeholder; harmless: nothing is listed.
_MAY_BE_UNDEFINED: Final = frozenset({"acl_shared_dict"})
_MAY_BEGIN_WITH_LESS: Final = frozenset({"login_greeting"})
MAX_CONTENT: Final = 1 << 20  # octets of a file that is a value


class Expander:
    """forms: which form each file is in.  later: the whole configuration, as read before.

    `$SET:name` means what name will be at the end of the file, which only a second reading can
    know; uses_later tells whether one is needed.
    """

    def __init__(
        self, problems: Problems, forms: Mapping[str, Form], later: Scope | None = None
    ) -> None:
        self.problems = problems
        self.forms = forms
        self.later = later
        self.uses_later = False

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
            if match[1] == "SET" and match[2] != name:
                self.uses_later = True
                found = self._later(match[2], scope)
            else:
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

    def _later(self, written: str, scope: Scope | None) -> str | None:
        """What a setting, or `kind/name/setting`, adds up to in the end."""
        *path, name = written.split("/")
        if self.later is None or (name not in SCHEMA and not path):
            return self._current(name, scope) if not path else ""
        if not path:
            while scope is not None and scope.parent is not None:
                path = [scope.kind, scope.name, *path]
                scope = scope.parent
        chain = [self.later]
        for kind, block in zip(path[::2], path[1::2], strict=False):
            chain += [each for each in chain[-1].of_kind(kind) if each.name == block][:1]
        name = name.removeprefix(f"{chain[-1].kind}_") if name not in SCHEMA else name
        return _folded(name, chain)

    def _current(self, name: str, scope: Scope | None) -> str | None:
        """What a setting adds up to at this point of the file, outermost block first."""
        name = legacy.RENAMED.get(name, name)
        if name not in SCHEMA:
            return None
        chain: list[Scope] = []
        while scope is not None:
            chain.insert(0, scope)
            scope = scope.parent
        return _folded(name, chain)

    def path_of(self, written: str, place: Place) -> str:
        """Relative to the file that names it, as an !include is."""
        return os.path.join(os.path.dirname(place.file), written)

    def _file_content(self, written: str, item: Assign) -> str | None:
        path = self.path_of(written, item.place)
        try:
            text = read_regular(path, MAX_CONTENT)[0].decode()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            message = f"{item.name}: cannot read {path}: {reason}"
            self.problems.error("unreadable", item.place, message)
            return None
        if "\0" in text:
            self.problems.error("nul", item.place, f"{item.name}: {path} holds a NUL",
                                "no setting may hold one")  # fmt: skip
            return None
        return text.rstrip("\n")


def _folded(name: str, chain: Sequence[Scope]) -> str | None:
    values = [value for link in chain for value in link.values.get(name, ())]
    is_list = name in SCHEMA and SCHEMA[name].is_list
    folded = fold_list(values) if is_list else fold_text(values)
    return DEFAULTS.get(name) if folded is None else today(folded.text, folded.form)
