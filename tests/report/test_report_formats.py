"""Numbers as text."""

import pytest

from innerloop.report.formats import blocks, duration, milliseconds, percent, plain, points


def test_percent() -> None:
    assert percent(0.46912) == "46.9"
    assert percent(None) == "—"


@pytest.mark.parametrize(
    ("mean", "text"), [(-0.0038, "−0.4 ± 0.4"), (0.0059, "+0.6 ± 0.4"), (-0.0001, "0.0 ± 0.4"), (0, "0.0 ± 0.4")]
)
def test_points_carry_a_sign_unless_they_are_nought(mean: float, text: str) -> None:
    assert points({"mean": mean, "ci95": 0.004}) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.14, "3.1 s"), (59.99, "1 min 0 s"), (75.3, "1 min 15 s"), (3599.8, "1 h 0 min"), (7260, "2 h 1 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_milliseconds_and_plain() -> None:
    assert milliseconds(12.34) == "12.3 ms"
    assert milliseconds(1234.5) == "1,234 ms"
    assert plain(0.1234, 0.004) == "0.123 ± 0.004"
    assert plain(0.1234, None) == "0.123"


def test_blocks() -> None:
    assert [blocks(b) for b in ([], ["conv1"], ["conv1", "conv2", "conv3"])] == ["none", "conv1", "conv1 to conv3"]
