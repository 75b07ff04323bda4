"""Takes the pictures of docs/audit-report.md: python -m tests.audit_report.screenshot DIRECTORY."""

import sys
import tempfile
from pathlib import Path

from sharefs.audit.report.html import render
from tests.audit_report.chromium import browser
from tests.audit_report.sample import office

READY = "document.documentElement?.dataset.ready"


def main(where: Path, font: str = "Inter") -> None:
    """The matrix with a leak opened, in a window of 1280 by 860.

    font: a headless browser has no system font of its own that anybody would recognise.
    """
    with tempfile.TemporaryDirectory() as scratch, browser() as page:
        file = Path(scratch) / "report.html"
        file.write_text(render(office()), encoding="utf-8")
        page.resize(1280, 860)
        page.open(file, ready=READY)
        page.ask(f"document.documentElement.style.setProperty('--text', {font!r} + ', sans-serif')")
        page.press("2")
        page.press("n", "n", "n", "Enter")
        page.settle()
        (where / "audit-report.png").write_bytes(page.screenshot())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
