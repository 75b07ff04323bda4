"""UIDs of a big mailbox whose list is made when somebody looks at more than a few of them.

Half a million Python numbers take longer to make than all else that a first SELECT asks for.
"""

from collections.abc import Callable, Sequence
from typing import overload


class LateUids(Sequence[int]):
    """Ascending.  few: the same numbers, slow to get.  make: the list, which others may have."""

    def __init__(self, few: Sequence[int], make: Callable[[], list[int]]) -> None:
        self.few = few
        self._make = make

    def all(self) -> list[int]:
        """The list.  Do not mutate."""
        return self._make()

    def __len__(self) -> int:
        return len(self.few)

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...

    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        return self.few[at] if isinstance(at, int) else self.all()[at]
