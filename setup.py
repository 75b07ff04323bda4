"""Everything is in pyproject.toml; this is only for what setuptools cannot be told there.

`SHAREFS_COMPILE=1 pip install .` compiles the modules listed in [tool.sharefs.compiled] with
mypyc, which pip fetches for that.  Without it nothing here is compiled (docs/performance.md).
MYPYC_OPT_LEVEL: as gcc's -O.
"""

import os
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from setuptools import Distribution, Extension, setup

COMPILED = os.environ.get("SHAREFS_COMPILE", "") not in ("", "0")
BASE = "build/mypyc"
# Its errors are ours to see in scripts/test; here it only needs the types of what is compiled.
MYPY = ("--config-file=", "--explicit-package-bases", "--ignore-missing-imports")


_ASKED = set(sys.argv)
if COMPILED and _ASKED & {"develop", "editable_wheel", "--inplace", "-i"}:
    sys.exit(
        "setup.py: nothing is compiled beside the sources of a checkout, where Python would import"
        " it long after its source has changed; use scripts/compile, or install without -e"
    )


def extensions() -> list[Extension]:
    """The modules to compile: none when pip only asks for requirements or metadata."""
    if not COMPILED or _ASKED & {"egg_info", "dist_info"}:
        return []
    from mypyc.build import mypycify

    top = Path(__file__).resolve().parent
    table = tomllib.loads((top / "pyproject.toml").read_text())["tool"]["sharefs"]["compiled"]
    modules = [
        str(path.relative_to(top))
        for package, names in table.items()
        for name in names.split()
        for path in sorted(top.glob(f"{package}/{name}.py"))
    ]
    level = os.environ.get("MYPYC_OPT_LEVEL", "2")
    return mypycify(
        [*MYPY, *modules],
        opt_level=level,
        debug_level="0",
        group_name="sharefs",
        target_dir=BASE,
    )


class WithCompiled(Distribution):
    """Adds them to the extension modules that pyproject.toml names, which setup() would replace."""

    def parse_config_files(
        self, filenames: Iterable[str] | None = None, ignore_option_errors: bool = False
    ) -> None:
        super().parse_config_files(filenames, ignore_option_errors)
        self.ext_modules = [*(self.ext_modules or ()), *extensions()]


setup(
    distclass=WithCompiled,
    setup_requires=["mypy>=2.4,<3"] if COMPILED else [],
    # Extensions that lie about in build/ are put into wheels, so these have a place of their own.
    options={"build": {"build_base": BASE}, "build_ext": {"parallel": os.cpu_count()}}
    if COMPILED
    else {},
)
