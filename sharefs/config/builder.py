"""The tree of a configuration -> one Scope with canonical names, whichever form it was written in.

Names are looked up, values are checked against their types, and every finding becomes a Problem.
Nothing is dropped without one.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sharefs.config import legacy
from sharefs.config.grammar import BLOCKS, PAIRS, WITHOUT_EFFECT, setting_of
from sharefs.config.kinds import STRING, Kind
from sharefs.config.known import (
    AUDITED,
    KNOWN_BLOCKS,
    PROTOCOLS,
    is_known,
)
from sharefs.config.old_form import OldForm
from sharefs.config.problems import Problems, nearest
from sharefs.config.reader import Assign, Block
from sharefs.config.scope import FILTERS, Scope, Value
from sharefs.config.settings import SCHEMA
from sharefs.config.variables import Form
from sharefs.config.writer import Writer, label

# In the 2.3 form 0 means what `unlimited` means in 2.4.
_ZERO_IS_UNLIMITED: Final = frozenset({"mail_max_userip_connections"})


class Builder:
    """Builds one Scope tree.  forms: which form each file is in."""

    def __init__(
        self, problems: Problems, forms: Mapping[str, Form], later: Scope | None = None
    ) -> None:
        self.problems = problems
        self.writer = Writer(problems, forms, later)
        self.old = OldForm(self.writer)

    def build(self, tree: Block, into: Scope | None = None) -> Scope:
        scope = into or Scope("", "", tree.place, self.writer.form_of(tree.place))
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
                self.old.plugin(block, scope)
                return
            if kind == "dict" and scope.kind == "acl_sharing_map" and not name:
                name = ""
            if kind in FILTERS:
                self._check_filter(block)
            inner = scope.child(kind, name, block.place, self.writer.form_of(block.place))
            before = {each: inner.last(each) for each in inner.values}
            self._items(block, inner)
            if kind in ("passdb", "userdb"):
                self._merged(inner, before)
            return
        found = setting_of(scope.kind, scope.name, kind)
        if found is not None and found[1].is_list:
            self._list_block(block, scope, found[0], found[1])
            return
        takes_globals = BLOCKS[scope.kind].globals_too
        if takes_globals and not name and any(each.startswith(f"{kind}_") for each in SCHEMA):
            self._group(block, scope)
            return
        if kind in KNOWN_BLOCKS or is_known(kind) or is_known(f"{kind}_"):
            if not block.items and not name:
                return  # `dict { }` as packages ship it: nothing is asked for
            heading = f"{kind} {name}".strip()
            self.problems.unimplemented(
                f"block {heading}",
                block.place,
                f"`{heading} {{ }}` is not implemented and has no effect",
            )
            return
        if kind in BLOCKS:
            self.problems.error("misplaced", block.place,
                                f"`{kind}` cannot stand inside {label(scope)}",
                                "move it out")  # fmt: skip
            return
        where = f" in {label(scope)}" if scope.kind else ""
        candidates = [*BLOCKS[scope.kind].children, *(KNOWN_BLOCKS if not scope.kind else ())]
        self.problems.error("unknown-block", block.place, f"there is no block `{kind}`{where}",
                            nearest(kind, candidates))  # fmt: skip

    def _merged(self, scope: Scope, before: Mapping[str, Value | None]) -> None:
        """Two databases under one name are one database, and the second takes the first's place.

        It means that hardly ever: `passdb passwd-file` once for masters and once for users.
        """
        for name, old in before.items():
            new = scope.last(name)
            if old is None or new is None or new.item or new.text == old.text:
                continue
            self.problems.warning(
                "merged-block",
                new.place,
                f"{label(scope)} continues the block at {scope.place}, whose {name} = {old.text}"
                " has no effect any more",
                f"call one of them otherwise: {scope.kind} NAME {{ driver = {scope.name} ... }}",
            )

    def _group(self, block: Block, scope: Scope) -> None:
        """`ssl_server { cert_file = ... }`: settings with their common beginning taken out."""
        for item in block.items:
            if isinstance(item, Block):
                self._block(replace(item, kind=f"{block.kind}_{item.kind}"), scope)
            else:
                self.assign(replace(item, name=f"{block.kind}_{item.name}"), scope)

    def _check_filter(self, block: Block) -> None:
        """A filter that can never match would drop what is in it without a word."""
        for name in " ".join(block.names).replace(",", " ").split():
            if block.kind == "protocol":
                if name.removeprefix("!") not in PROTOCOLS:
                    self.problems.warning(
                        "unknown-protocol", block.place, f"no protocol is called {name}",
                        nearest(name, PROTOCOLS),
                    )  # fmt: skip
                continue
            try:
                ipaddress.ip_network(name, strict=False)
            except ValueError:
                self.problems.error(
                    "bad-address", block.place, f"{name} is no IP address or network",
                    f"write it like `{block.kind} 192.0.2.0/24 {{`",
                )  # fmt: skip

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
            value = self.writer.expander.value(item, name)
            if value is None:
                continue
            if kind is PAIRS:
                self.writer.check_template(value)
            elif kind is not STRING and item.value.lower() not in ("no", "n", "0"):
                self.writer.check(name, kind, replace(value, text=item.name))
            scope.put(name, replace(value, item=item.name))

    # -- settings ----------------------------------------------------------------------------

    def assign(self, item: Assign, scope: Scope) -> None:
        """One `name = value` in a scope."""
        if "/" in item.name and setting_of(scope.kind, scope.name, item.name) is None:
            self._path(item, scope)
            return
        name = item.name.removeprefix(f"{scope.kind}_") if scope.kind == "namespace" else item.name
        if name in legacy.LOCATIONS and (scope.kind == "namespace" or name == "mail_location"):
            self.old.location(item, scope)
            return
        if scope.kind in ("passdb", "userdb") and name == "args":
            self.old.args(item, scope)
            return
        if BLOCKS[scope.kind].globals_too and self.old.renamed(item, scope):
            return
        found = setting_of(scope.kind, scope.name, item.name)
        if found is None:
            self.writer.unknown(item.name, scope, item.place)
            if item.name in AUDITED and (kept := self.writer.expander.value(item, item.name)):
                scope.put(item.name, kept)
            return
        canonical, kind = found
        if kind.is_list and canonical in ("mail_plugins",):
            value = self.writer.expander.value(item, canonical, scope)
        else:
            value = self.writer.expander.value(item, item.name, scope)
        if value is None:
            return
        if (scope.kind, canonical) in WITHOUT_EFFECT:
            self.problems.unimplemented(f"{scope.kind}/{canonical}", item.place,
                                        f"{canonical} in {label(scope)} is not implemented"
                                        " and has no effect")  # fmt: skip
        if item.append and not kind.is_list:
            self.problems.error("bad-value", item.place, f"{item.name} is not a list",
                                f"write {item.name} = {item.value}")  # fmt: skip
            return
        if value.form is Form.V23 and canonical in _ZERO_IS_UNLIMITED and value.text == "0":
            value = replace(value, text="unlimited")
        if kind is PAIRS:
            self.writer.check_template(value)
            scope.put(canonical, value)
        elif self.writer.check(canonical, kind, value):
            scope.put(canonical, value)

    def _path(self, item: Assign, scope: Scope) -> None:
        """`namespace/inbox/separator = /`, as on the command line and in userdb fields."""
        kind, _, rest = item.name.partition("/")
        if kind == "plugin" and rest:
            self.old.plugin_setting(replace(item, name=rest), scope)
            return
        if kind in BLOCKS[scope.kind].children and rest:
            if BLOCKS[kind].named == "no":
                name, rest = "", rest
            else:
                name, _, rest = rest.partition("/")
            if rest:
                inner = scope.child(kind, name, item.place, self.writer.form_of(item.place))
                self.assign(replace(item, name=rest), inner)
                return
        found = setting_of(scope.kind, scope.name, kind)
        if found is not None and found[1].is_list and rest:
            block = Block(kind, (), item.place, [replace(item, name=rest)])
            self._list_block(block, scope, *found)
            return
        self.writer.unknown(item.name, scope, item.place)
