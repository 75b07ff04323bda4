"""Which build the suite runs on is what it was started for, and `sharefs --version` says it."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from sharefs import build

TOP = Path(__file__).resolve().parent.parent


def listed() -> list[Path]:
    """Sources that pyproject.toml wants compiled."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    table = project["tool"]["sharefs"]["compiled"]
    patterns = [f"{package}/{name}.py" for package in table for name in table[package].split()]
    found = {pattern: list(TOP.glob(pattern)) for pattern in patterns}
    assert [pattern for pattern, paths in found.items() if not paths] == []
    return sorted({path.relative_to(TOP) for paths in found.values() for path in paths})


def test_the_suite_runs_on_the_build_it_was_started_for() -> None:
    """scripts/compile sets SHAREFS_BUILD.  Without it nothing is compiled, not even by chance."""
    want = listed() if os.environ.get("SHAREFS_BUILD") == "compiled" else []
    assert build.compiled() == want
    assert build.stale() == []


def test_compiled_modules_are_what_is_imported() -> None:
    made = build.compiled()
    for source in listed():
        name = ".".join(source.with_suffix("").parts).removesuffix(".__init__")
        file = importlib.import_module(name).__file__
        assert file is not None
        assert file.endswith(".so") == (source in made)


def test_the_version_says_which_build_it_is() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "sharefs", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("sharefs, version ")
    assert f"({build.description()})" in said.stdout


def a_tree(top: Path, *, compiled_at: int, changed_at: int) -> None:
    """Two modules, of which one is compiled."""
    (top / "sharefs").mkdir()
    (top / "imap" / "wire").mkdir(parents=True)
    (top / "sharefs" / "acl.py").touch()
    source = top / "imap" / "wire" / "reader.py"
    source.touch()
    os.utime(source, (changed_at, changed_at))
    made = source.with_name("reader" + build.SUFFIX)
    made.touch()
    os.utime(made, (compiled_at, compiled_at))
    (top / "imap" / ("gone" + build.SUFFIX)).touch()  # of a source that is no more


def test_a_compiled_module_is_told(tmp_path: Path) -> None:
    a_tree(tmp_path, changed_at=1000, compiled_at=2000)
    assert build.compiled(tmp_path) == [Path("imap/wire/reader.py")]
    assert build.stale(tmp_path) == []
    assert build.description(tmp_path) == "1 module compiled"


def test_a_module_that_changed_since_is_told(tmp_path: Path) -> None:
    a_tree(tmp_path, changed_at=2000, compiled_at=1000)
    assert build.stale(tmp_path) == [Path("imap/wire/reader.py")]
    assert "imap/wire/reader.py" in build.description(tmp_path)


def test_nothing_compiled_is_pure_python(tmp_path: Path) -> None:
    assert build.description(tmp_path) == "pure Python"
