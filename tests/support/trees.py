"""Removing directories in which a server may still be at work."""

import shutil
import time
from pathlib import Path
from typing import Final

PATIENCE: Final = 10.0  # seconds


def remove_tree(path: Path) -> None:
    """Harmless if it is not there.  A file that appears meanwhile goes as well."""
    deadline = time.monotonic() + PATIENCE
    while path.exists():
        assert time.monotonic() < deadline, f"{path} keeps growing"
        shutil.rmtree(path, ignore_errors=True)
