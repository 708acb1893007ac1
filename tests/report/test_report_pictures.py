"""Episodes of other shapes than the usual ones, and files that do not agree with themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from innerloop.report import ReportError, write_report
from naming import names


@pytest.mark.parametrize(("way", "shot", "channels"), [(2, 1, 1), (5, 5, 3), (20, 1, 1), (30, 3, 3)])
def test_any_way_and_shot_is_drawn(
    tmp_path: Path, summary: dict[str, Any], made_study: Any, way: int, shot: int, channels: int
) -> None:
    summary["data"] |= {"way": way, "shot": shot}
    for part in ("dial", "freezing", "movement", "cka", "early", "cost"):  # what need not be drawn here
        del summary[part]
    for method in summary["methods"].values():
        method.pop("curve", None)
        del method["steps"]
    made_study(tmp_path, summary, way=way, shot=shot, channels=channels)
    assert "Episode 1" in write_report(tmp_path).read_text()


def test_without_episodes_the_rest_is_there(study: Path) -> None:
    (study / "episodes.safetensors").unlink()
    text = write_report(study).read_text()
    assert '<figure id="episodes">' not in text
    assert '<figure id="training">' in text


def test_a_wrong_guess_is_marked_by_a_sign_not_by_colour_alone(study: Path) -> None:
    arrays = load_file(study / "episodes.safetensors")
    arrays["guess_maml"] = arrays["query_y"].copy()
    arrays["guess_maml"][0, 0] = 2
    save_file(arrays, study / "episodes.safetensors")
    text = write_report(study).read_text()
    assert text.count("MAML ✗ C") == 1
    assert "MAML ✗ A" not in text


@pytest.mark.parametrize("name", ["query_y", "support_y", "guess_nil"])
def test_shapes_that_do_not_agree_are_refused(study: Path, name: str) -> None:
    arrays = load_file(study / "episodes.safetensors")
    arrays[name] = np.ascontiguousarray(arrays[name][:, 1:])
    save_file(arrays, study / "episodes.safetensors")
    with pytest.raises(ReportError, match=names(study / "episodes.safetensors")):
        write_report(study)


def test_a_missing_array_is_named(study: Path) -> None:
    arrays = load_file(study / "episodes.safetensors")
    del arrays["query_x"]
    save_file(arrays, study / "episodes.safetensors")
    with pytest.raises(ReportError, match=names(study / "episodes.safetensors", "query_x")):
        write_report(study)
