"""What there is to know about an index.  Pure."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Status:
    """path: None for one in memory.  octets: on disk.  mail: octets of the messages it is about.

    indexed, messages: counts.  texts: messages whose texts can be searched without reading them.
    """

    path: Path | None
    octets: int
    mail: int
    messages: int
    indexed: int
    texts: int
    modseq: int

    @property
    def share(self) -> float:
        """The index's size by that of the mail it is about."""
        return self.octets / self.mail if self.mail else 0.0
