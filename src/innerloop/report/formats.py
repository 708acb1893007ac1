"""Numbers as a reader sees them: one way for each kind of number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

NONE = "—"

Number = float | int
"""JSON writes 0.0 and 0 alike"""


def percent(value: Number | None) -> str:
    """0.4691 → 46.9"""
    return NONE if value is None else f"{100 * value:.1f}"


def in_percent(value: Number | None) -> str:
    """0.4691 → 46.9 %, for a sentence: never broken over two lines"""
    return f"{percent(value)}\u00a0%"


def with_interval(entry: Mapping[str, Any]) -> str:
    """{"mean": 0.469, "ci95": 0.007} → 46.9 ± 0.7 (per cent; the heading has to name the bar)"""
    return f"{percent(entry.get('mean'))} ± {percent(entry.get('ci95'))}"


def points(entry: Mapping[str, Any]) -> str:
    """A difference of accuracies in percentage points, always with its sign: −0.3 ± 0.4"""
    mean = 100 * entry["mean"]
    text = f"{abs(mean):.1f}"
    sign = "" if text == "0.0" else "+" if mean > 0 else "−"
    return f"{sign}{text} ± {percent(entry.get('ci95'))}"


def plain(mean: Number | None, ci95: Number | None) -> str:
    """A number without a unit, with its interval: 0.123 ± 0.004"""
    if mean is None:
        return NONE
    return f"{mean:.3f}" if ci95 is None else f"{mean:.3f} ± {ci95:.3f}"


def duration(seconds: Number | None) -> str:
    """75.3 → 1 min 15 s"""
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def milliseconds(value: Number | None) -> str:
    """12.34 → 12.3 ms"""
    return NONE if value is None else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def ratio(value: Number | None) -> str:
    """1.72 → 1.7×"""
    return NONE if value is None else f"{value:.1f}×"


def blocks(names: Sequence[str]) -> str:
    """["conv1", "conv2", "conv3"] → conv1 to conv3"""
    if not names:
        return "none"
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


_SCALE = {"accuracy": 100.0, "points": 100.0}
_DIGITS = {
    "accuracy": 1,
    "points": 1,
    "similarity": 3,
    "distance": 3,
    "relative": 3,
    "ms": 2,
    "ratio": 2,
    "return": 2,
}
SAID = {
    "accuracy": "%",
    "points": "points",
    "similarity": "",
    "distance": "",
    "relative": "",
    "ms": "ms",
    "ratio": "",
    "return": "",
}
"""what stands behind a number of the unit"""


def number(x: float | None, unit: str, *, sign: bool = False) -> str:
    """A number of one of the units of `SAID`: 0.4691, accuracy → 46.9"""
    if x is None or math.isnan(x):
        return NONE
    text = f"{_SCALE.get(unit, 1.0) * x:{'+' if sign else ''}.{_DIGITS[unit]}f}"
    return text.replace("-", "−")
