"""What docs/audit-report.md promises about pictures, keys and files."""

import re
import struct
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "docs"
ASSETS = TOP / "sharefs" / "audit" / "report" / "assets"


def test_the_picture_is_there_and_small() -> None:
    octets = (DOCS / "audit-report.png").read_bytes()
    assert octets.startswith(b"\x89PNG")
    width, height = struct.unpack("!II", octets[16:24])
    assert (width, height) == (1280, 860)
    assert len(octets) < 300_000
    for page in (DOCS / "audit-report.md", TOP / "README.md"):
        assert "audit-report.png" in page.read_text()


def test_files_that_it_names_exist() -> None:
    text = (DOCS / "audit-report.md").read_text()
    for name in re.findall(r"`(scripts/[\w./-]+)`", text):
        assert (TOP / name).exists(), name


def test_the_keys_of_the_help_are_keys_of_the_script() -> None:
    page = (ASSETS / "report.html").read_text()
    script = "".join((ASSETS / name).read_text() for name in ("app.js", "grid.js"))
    keys = set(re.findall(r"<kbd>(\w+|/)</kbd>", page)) - {"1", "2", "3", "Ctrl", "Page"}
    assert keys == {"/", "Home", "End", "n", "p", "Enter", "m", "u", "Esc"}
    for key in keys - {"Esc"}:
        assert re.search(rf'"{re.escape(key)}"|\b{re.escape(key)}:', script), key
    assert '"Escape"' in script
