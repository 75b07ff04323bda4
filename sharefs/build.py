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


def stale(top: Path = _TOP) -> list[Path]:
    """Those of them that were changed later, so that what is read is not what runs."""

    def changed(source: Path) -> float:
        return (top / source).stat().st_mtime

    def made(source: Path) -> float:
        return (top / source).with_name(source.stem + SUFFIX).stat().st_mtime

    return [source for source in compiled(top) if changed(source) > made(source)]


def description(top: Path = _TOP) -> str:
    """For people: "pure Python", or how many modules are compiled and which of them are stale."""
    modules = compiled(top)
    if not modules:
        return "pure Python"
    text = f"{len(modules)} module{'s'[: len(modules) > 1]} compiled"
    if old := stale(top):
        text += f"; compile again, for these have changed since: {', '.join(map(str, old))}"
    return text
