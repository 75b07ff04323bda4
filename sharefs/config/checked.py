"""What a check of the configuration looks at, and how it names a place."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sharefs.config.namespaces import NamespaceSettings
from sharefs.config.problems import Problems
from sharefs.config.scope import Value
from sharefs.config.settings import Settings
from sharefs.errors import Place

GroupLookup = Callable[[str], bool]


NOWHERE: Final = Place("(configuration)")


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks look at.  written: (namespace name, setting) -> the value as written."""

    settings: Settings
    written: Mapping[tuple[str, str], Value]
    places: Mapping[str, Place]
    problems: Problems
    lookup_group: GroupLookup

    @property
    def namespaces(self) -> tuple[NamespaceSettings, ...]:
        return self.settings.namespaces

    def of_others(self) -> Iterator[NamespaceSettings]:
        """Namespaces whose mail is not the viewer's own."""
        return (each for each in self.namespaces if each.type != "private")


def place_of(namespace: NamespaceSettings, setting: str) -> Place:
    """Where a namespace's setting stands, be it the global one; else where the block begins."""
    return (
        namespace.location.places.get(setting)
        or namespace.places.get(setting)
        or namespace.place
        or NOWHERE
    )
