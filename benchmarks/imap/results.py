"""What was measured, and what it says.  Less is better in every row."""

import statistics
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Unit = Literal["seconds", "octets"]
SERVERS: Final = ("dovecot", "sharefs")


@dataclass(slots=True)
class Result:
    """One row.  runs: of each server.  missing: why a server could not be measured.

    remark: what the reader has to know to compare.
    """

    name: str
    unit: Unit = "seconds"
    runs: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SERVERS})
    missing: dict[str, str] = field(default_factory=dict)
    remark: str = ""

    def has(self, server: str) -> bool:
        return bool(self.runs[server]) and server not in self.missing

    def median(self, server: str) -> float:
        return statistics.median(self.runs[server])

    def spread(self, server: str) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        runs = sorted(self.runs[server])
        low, high = runs[len(runs) // 4], runs[(3 * len(runs)) // 4]
        middle = self.median(server)
        return (high - low) / 2 / middle if middle else 0.0

    @property
    def ratio(self) -> float | None:
        """Dovecot's by ours: above 1, sharefs needs less.  None: one of them has no such thing."""
        if not all(self.has(name) for name in SERVERS):
            return None
        return self.median("dovecot") / max(self.median("sharefs"), 1e-9)

    def data(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "ratio": self.ratio,
            **{name: self.runs[name] for name in SERVERS},
            "missing": self.missing,
            "remark": self.remark,
        }

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Result":
        return cls(
            data["name"], data["unit"], {name: data[name] for name in SERVERS}, data["missing"],
            data["remark"],
        )  # fmt: skip


def shown(value: float, unit: Unit) -> str:
    """With three digits and a unit that suits: 0.071 ms, 1.31 s, 4.5 MB, 1.45 GB."""
    if unit == "octets":
        return f"{value / 1e6:.3g} MB" if value < 999.5e6 else f"{value / 1e9:.3g} GB"
    if value >= 1:
        return f"{value:.3g} s"
    milliseconds = value * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.2g} ms"
