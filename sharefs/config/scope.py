"""What a configuration assigns, block by block, before it is decided what is in force.  Pure.

A Scope is one block with canonical names; its values keep every assignment in order, because lists
add up (`mail_plugins { acl = yes }`) and each value must be able to say where it came from.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from sharefs.config.variables import BadTemplate, Form, Template
from sharefs.errors import Place

FILTERS: Final = ("protocol", "local", "remote")


@dataclass(frozen=True, slots=True)
class Value:
    """One assignment.  item "": the whole setting; else one item of a list, with its text.

    append: `+=`.
    """

    text: str
    place: Place
    form: Form
    item: str = ""
    append: bool = False


@dataclass(slots=True)
class Scope:
    """kind "": the whole file.  name "": an unnamed block, which stays by itself."""

    kind: str
    name: str
    place: Place
    form: Form
    parent: "Scope | None" = field(default=None, compare=False, repr=False)
    values: dict[str, list[Value]] = field(default_factory=dict)
    children: "list[Scope]" = field(default_factory=list)

    def child(self, kind: str, name: str, place: Place, form: Form) -> "Scope":
        """The block of that kind and name; a named one is continued where it appears again."""
        for scope in self.children:
            if name and (scope.kind, scope.name) == (kind, name):
                return scope
        made = Scope(kind, name, place, form, self)
        self.children.append(made)
        return made

    def of_kind(self, kind: str) -> "Iterator[Scope]":
        return (scope for scope in self.children if scope.kind == kind)

    def put(self, name: str, value: Value) -> None:
        self.values.setdefault(name, []).append(value)

    def last(self, name: str) -> Value | None:
        values = self.values.get(name)
        return values[-1] if values else None


@dataclass(frozen=True, slots=True)
class Folded:
    """What assignments add up to.  form and place: those of the last one."""

    text: str
    place: Place
    form: Form


def today(text: str, form: Form) -> str:
    """A text of either form in the 2.4 form.  One that does not parse stays as it is."""
    if form is Form.V24 or "%" not in text:
        return text
    try:
        return Template.parse(text, form).written()
    except BadTemplate:
        return text


def fold_text(values: Iterable[Value]) -> Folded | None:
    """The last assignment wins."""
    found: Value | None = None
    for value in values:
        found = value
    return None if found is None else Folded(found.text, found.place, found.form)


def fold_list(
    values: Iterable[Value], no: Iterable[str] = ("no", "n", "0", "false")
) -> Folded | None:
    """Words of a list: `=` replaces, `+=` and items of a block add; an item of `no` removes."""
    words: dict[str, str] = {}
    found: Value | None = None
    for value in values:
        found = value
        if value.item:
            if value.text.lower() in no:
                words.pop(value.item, None)
            else:
                words[value.item] = "yes"
            continue
        if not value.append:
            words.clear()
        # One list may have words of both forms: an old include in a new file.
        text = today(value.text, value.form)
        words.update(dict.fromkeys(text.replace(",", " ").split(), "yes"))
    if found is None:
        return None
    return Folded(" ".join(words), found.place, Form.V24)


def fold_pairs(values: Iterable[Value]) -> dict[str, Value]:
    """Items of a list of `key = value`; a text of `a=b c=d` counts as its items (2.3)."""
    pairs: dict[str, Value] = {}
    for value in values:
        if value.item:
            pairs[value.item] = value
            continue
        if not value.append:
            pairs.clear()
        for word in value.text.split():
            key, equals, text = word.partition("=")
            pairs[key] = Value(text if equals else "yes", value.place, value.form, key)
    return pairs
