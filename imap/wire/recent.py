"""What commands with the same arguments meant a moment ago: clients repeat themselves."""

from typing import Final, Generic, TypeVar

T = TypeVar("T")

MOST: Final = 32  # different arguments
LONGEST: Final = 256  # octets of arguments


class Recent(Generic[T]):
    """Values that follow from the arguments alone, and that nobody changes.

    All connections of a process share one for each command.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, T] = {}

    def get(self, arguments: bytes) -> T | None:
        return self._known.get(arguments)

    def keep(self, arguments: bytes, value: T) -> T:
        """Returns value."""
        if len(arguments) <= LONGEST:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[arguments] = value
        return value
