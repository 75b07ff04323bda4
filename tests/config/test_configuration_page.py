"""docs/configuration.md keeps its word: its example loads, and its tables name what there is."""

import re
from pathlib import Path

from sharefs.config import load
from sharefs.config.checks import CHECKS
from sharefs.config.settings import DEFAULTS

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
SOURCES = sorted(Path(__file__).parents[2].glob("sharefs/config/*.py"))


def test_the_example_has_no_problems() -> None:
    (example,) = (each for each in PAGE.split("```")[1::2] if "mail_driver" in each)
    found = load(text=example, lookup_group=lambda name: True).problems
    # This host need not have the example's certificate.
    assert {each.check for each in found} <= {"tls-file"}


def test_every_check_is_explained() -> None:
    in_code: set[str] = {check.__name__.replace("_", "-") for check in CHECKS}
    for path in SOURCES:
        pattern = r"(?:\.error|\.warning)\(\s*\"([a-z0-9-]+)\""
        in_code.update(re.findall(pattern, path.read_text()))
    table = PAGE.partition("## What is checked")[2].partition("## Diff")[0]
    explained = set(re.findall(r"`([a-z0-9-]+)`", table))
    assert not sorted(in_code - explained)


def test_our_own_settings_are_listed_with_their_defaults() -> None:
    listed = dict(re.findall(r"^\| `(sharefs_\w+)` \| (?:`([^`]+)` )?\|", PAGE, re.MULTILINE))
    assert listed == {name: DEFAULTS[name] for name in DEFAULTS if name.startswith("sharefs_")}
