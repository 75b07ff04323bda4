"""The layers of an explanation as values: what was looked at, what it says, what would change it.

Pure.  `sharefs explain` prints them; --json is their form as data.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Kind(enum.StrEnum):
    """Which layer."""

    NAMESPACE = "namespace"
    MAP = "map"
    CACHE = "list cache"
    ACL = "ACL"
    GROUPS = "groups"
    MOUNT = "mount"
    PATH = "path"
    RULE = "rule"  # what sharefs itself refuses: a rename across permissions, an illegal name


class Verdict(enum.StrEnum):
    YES = "yes"
    NO = "no"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Layer:
    """One line.  place: what it is about: a path, FILE:LINE, a prefix; may be empty."""

    kind: Kind
    verdict: Verdict
    place: str
    text: str

    def data(self) -> dict[str, str]:
        return {
            "layer": str(self.kind), "verdict": str(self.verdict), "place": self.place,
            "text": self.text,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One change that lifts one refusal.

    command: what to type, or which setting to change.  opens: what else it would allow, and whom.
    """

    command: str
    opens: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        return {"change": self.command, "opens": list(self.opens)}


@dataclass(frozen=True, slots=True)
class Explained:
    """Whether somebody may do something, and why.

    changes: all that has to change, in this order; empty if it is allowed.  complete: with these
    changes it would be allowed; else something remains that nobody can name a change for.
    """

    user: str
    operation: str
    target: str
    layers: tuple[Layer, ...]
    changes: tuple[Change, ...] = ()
    complete: bool = True

    @property
    def allowed(self) -> bool:
        return self.denied is None

    @property
    def denied(self) -> Layer | None:
        """The first layer that denies."""
        return next((layer for layer in self.layers if layer.verdict is Verdict.NO), None)

    def data(self) -> Mapping[str, Any]:
        """As JSON has it."""
        denied = self.denied
        return {
            "user": self.user,
            "operation": self.operation,
            "target": self.target,
            "allowed": self.allowed,
            "denied": None if denied is None else denied.data(),
            "layers": [layer.data() for layer in self.layers],
            "changes": [change.data() for change in self.changes],
            "changes_suffice": self.complete,
        }
