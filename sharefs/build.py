"""Which build this is: pure Python, or with modules compiled by mypyc (docs/performance.md).

A compiled module lies beside its source, and Python takes it first.
"""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

SUFFIX: Final = EXTENSION_SUFFIXES[0]  # the one that names this very Python
_TOP: Final = Path(__file__).resolve().parent.parent
_PACKAGES: Final = ("sharefs", "imap")


def compiled(top: Path = _TOP) -> list[Path]:
    """Sources that have a compiled module beside them, relative to top, sorted."""
    found = (path for package in _PACKAGES for path in (top / package).rglob(f"*{SUFFIX}"))
    sources = (path.with_name(path.name.removesuffix(SUFFIX) + ".py") for path in found)
    return sorted(source.relative_to(top) for source in sources if source.exists())


def description(top: Path = _TOP) -> str:
    """For people: "pure Python", or how many modules are compiled."""
    count = len(compiled(top))
    return f"{count} compiled modules" if count else "pure Python"
