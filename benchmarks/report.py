"""The audit's report with very many cells: seconds to make it, its size, how it scrolls.

Needs a Chromium for the last.  Exit status 1 if a limit is missed.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from sharefs.audit.report.html import render
from tests.audit_report.chromium import browser, browser_path
from tests.audit_report.sample import large

FRAMES: Final = 120
DISPLAY: Final = 1000 / 60  # ms between two frames of a display
LIMITS: Final = {"render_s": 10.0, "open_s": 3.0, "frame_p95_ms": 2 * DISPLAY, "filter_s": 0.5}

_SCROLL: Final = """new Promise(done => {
  const grid = document.getElementById('grid'), times = [];
  let last = performance.now();
  const step = (now) => {
    times.push(now - last);
    last = now;
    grid.scrollTop += 617;
    grid.scrollLeft += 133;
    if (times.length < FRAMES) return requestAnimationFrame(step);
    times.sort((a, b) => a - b);
    done([times[times.length >> 1], times[Math.floor(times.length * 0.95)], times.at(-1)]);
  };
  requestAnimationFrame(step);
})"""


@dataclass(frozen=True, slots=True)
class Measured:
    """render_s: from values to text.  *_ms: between frames while scrolling by a screen each."""

    cells: int
    render_s: float
    megabytes: float
    peak_megabytes: float
    open_s: float = 0.0
    frame_median_ms: float = 0.0
    frame_p95_ms: float = 0.0
    frame_max_ms: float = 0.0
    work_per_frame_ms: float = 0.0
    filter_s: float = 0.0

    def missed(self) -> list[str]:
        values = asdict(self)
        return [f"{name} {values[name]:.2f} > {limit:.2f}" for name, limit in LIMITS.items()
                if values[name] > limit]  # fmt: skip


def measure(users: int, mailboxes: int) -> Measured:
    model = large(users, mailboxes)
    began = time.monotonic()
    text = render(model)
    made = Measured(
        users * mailboxes, time.monotonic() - began, len(text) / 1e6,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    )  # fmt: skip
    if browser_path() is None:
        print("no Chromium: only the making is measured", file=sys.stderr)
        return made
    with tempfile.TemporaryDirectory() as scratch, browser() as page:
        file = Path(scratch) / "report.html"
        file.write_text(text, encoding="utf-8")
        page.resize(1360, 900)
        began = time.monotonic()
        page.open(file, ready="document.documentElement?.dataset.ready")
        page.settle()
        opened = time.monotonic() - began
        page.press("2")
        page.click_on("#cell-filter [data-value=all]")
        busy = page.busy()
        median, high, worst = page.ask(_SCROLL.replace("FRAMES", str(FRAMES)))
        work = (page.busy() - busy) / FRAMES * 1000
        began = time.monotonic()
        page.click_on("#cell-filter [data-value=leaked]")
        filtered = time.monotonic() - began
    return Measured(
        made.cells, made.render_s, made.megabytes, made.peak_megabytes, opened, median, high,
        worst, work, filtered,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=__doc__)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--mailboxes", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    measured = measure(given.users, given.mailboxes)
    if given.json:
        print(json.dumps(asdict(measured)))
    else:
        for name, value in asdict(measured).items():
            print(f"{name:20} {value:,.2f}" if isinstance(value, float) else f"{name:20} {value:,}")
    for missed in measured.missed():
        print(f"missed: {missed}", file=sys.stderr)
    return 1 if measured.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
