"""Which build the suite runs on is what it was started for, and `sharefs --version` says it."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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


def test_a_compiled_module_has_its_source_beside_it(tmp_path: Path) -> None:
    assert build.description(tmp_path) == "pure Python"
    for name in ("sharefs/acl.py", "imap/wire/reader.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "imap/wire" / ("reader" + build.SUFFIX)).touch()
    (tmp_path / "imap/wire" / ("gone" + build.SUFFIX)).touch()
    assert build.compiled(tmp_path) == [Path("imap/wire/reader.py")]
    assert build.description(tmp_path) == "1 compiled modules"


@pytest.mark.parametrize("words", [["build_ext", "--inplace"], ["editable_wheel"], ["develop"]])
def test_nothing_is_compiled_into_a_checkout(words: list[str]) -> None:
    """There it would be imported long after its source has changed."""
    done = subprocess.run(
        [sys.executable, "setup.py", *words],
        cwd=TOP, env={**os.environ, "SHAREFS_COMPILE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "scripts/compile" in done.stderr
