"""All ratios as one picture: a row each, a mark for each size, on a scale of powers of ten."""

import math
from html import escape
from typing import Final

from benchmarks.imap.tables import HOST, Report, name_without_size, ratio, title

_LEFT, _WIDTH, _STEP, _TOP = 330, 560, 18, 58  # pixels
_LOW, _HIGH = -1.3, 3.5  # powers of ten at the edges
_COLOURS: Final = ("#777777", "#1b9e77", "#d95f02", "#7570b3", "#e7298a")
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#222}.grid{stroke:#ddd}.one{stroke:#222}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.one{stroke:#ddd}}"
)


def plot(report: Report) -> str:
    """An SVG file."""
    sections = [name for name, _ in report.in_order()]
    marks: dict[str, list[tuple[int, float, str]]] = {}
    for number, (section, results) in enumerate(report.in_order()):
        for result in results:
            if result.ratio is not None:
                key = result.name if section == HOST else name_without_size(result.name)
                told = f"{result.name}, {title(section)}: {ratio(result)}"
                marks.setdefault(key, []).append((number, result.ratio, told))
    height = _TOP + _STEP * len(marks) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" height="{height}"'
        f' role="img" aria-label="Time of Dovecot by time of sharefs"><style>{_STYLE}</style>',
        f'<text x="{_LEFT}" y="16">Dovecot / sharefs: right of 1, sharefs needs less</text>',
    ]
    for power in range(math.ceil(_LOW), math.floor(_HIGH) + 1):
        at = _x(10.0**power)
        parts.append(
            f'<line class="{"grid" if power else "one"}" x1="{at:.0f}" x2="{at:.0f}"'
            f' y1="{_TOP - 8}" y2="{height}"/>'
            f'<text x="{at:.0f}" y="{_TOP - 12}" text-anchor="middle">{10.0**power:g}</text>'
        )
    for number, section in enumerate(sections):
        at = _LEFT + 130 * number
        parts.append(
            f'<circle cx="{at}" cy="28" r="4" fill="{_COLOURS[number % len(_COLOURS)]}"/>'
            f'<text x="{at + 8}" y="32">{escape(title(section))}</text>'
        )
    for line, (name, found) in enumerate(marks.items()):
        y = _TOP + _STEP * line + 6
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        for number, value, told in found:
            parts.append(
                f'<circle cx="{_x(value):.1f}" cy="{y}" r="4.5" fill-opacity=".85"'
                f' fill="{_COLOURS[number % len(_COLOURS)]}"><title>{escape(told)}</title></circle>'
            )
    return "\n".join(parts) + "\n</svg>\n"


def _x(value: float) -> float:
    power = min(max(math.log10(value), _LOW), _HIGH)
    return _LEFT + _WIDTH * (power - _LOW) / (_HIGH - _LOW)
