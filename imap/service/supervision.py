"""When to start a crashed process again.  Pure; time arrives as an argument."""

from dataclasses import dataclass
from typing import Final

FIRST_DELAY: Final = 0.1  # seconds; a single crash is repaired before a client notices
LONGEST_DELAY: Final = 30.0  # seconds; a process that cannot start must not fill the log
LONG_LIFE: Final = 60.0  # seconds; who lived this long crashed for a new reason


@dataclass(frozen=True, slots=True)
class Backoff:
    """How many quick deaths in a row a role has seen."""

    quick_deaths: int = 0

    def after_death(self, *, lived: float) -> "Backoff":
        """lived: seconds from start to death."""
        return Backoff(1 if lived >= LONG_LIFE else self.quick_deaths + 1)

    @property
    def delay(self) -> float:
        """Seconds to wait before the next start."""
        if not self.quick_deaths:
            return 0.0
        return min(FIRST_DELAY * 2.0 ** min(self.quick_deaths - 1, 16), LONGEST_DELAY)
