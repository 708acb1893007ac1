"""`reproduce families` in miniature: every method on the same episodes, with its cost."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from innerloop import cli
from innerloop.core.episodes import ClassImages
from innerloop.core.functional import slow_weights
from innerloop.evaluation import evaluate, fixed_episodes
from innerloop.methods.catalogue import METHODS
from innerloop.methods.metric import nearest_neighbour
from innerloop.runs import read_json
from innerloop.studies.families import ADAPTATION, MINUTES, NAMES, PARAMETERS, TRAINED, adapted_count
from innerloop.studies.lab import SHARE_MULTICLASS, Lab
from innerloop.studies.published import published
from innerloop.training import Config, build
from tiny import blobs


def load_blobs(config: Config, data_dir: Path | None = None) -> ClassImages | None:
    """Ten images a class, which Reptile's preset takes, and more."""
    return None if config.regression else blobs(images=12)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("families")
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        args = ["reproduce", "families", "--budget", "smoke", "--way", "3", "--seeds", "0", "--out", str(where)]
        assert cli.run(args) == 0
    return where


@pytest.fixture(scope="module")
def value(out: Path) -> dict[str, Any]:
    return read_json(out / "glyphs-3way-1shot-smoke" / "families" / "result.json")


def test_the_families_are_those_of_the_papers() -> None:
    """Metric and transfer methods by name; the two regimes that are no few-shot methods are left out."""
    family = {m.name: m.family for m in METHODS}
    assert {n for n in NAMES if family[n] == "metric"} == {"proto", "matching", "siamese", "nil"}
    assert {n for n in NAMES if family[n] == "transfer"} == {"baseline", "baseline++", "finetune", "centroid"}
    assert set(family) - set(NAMES) == {"multiclass", "multitask"}
    assert set(SHARE_MULTICLASS) == {"baseline", "finetune", "centroid"}
    assert sorted(TRAINED) == sorted((set(NAMES) - set(SHARE_MULTICLASS)) | {"multiclass"})


def test_every_method_has_its_row_and_its_cost(value: dict[str, Any], out: Path) -> None:
    rows = {r["label"]: r for r in value["rows"]}
    assert list(rows) == [*NAMES, "untrained body, nil's head", "nearest pixels"]
    for name in NAMES:
        assert 0 <= rows[name]["mean"] <= 1
        assert rows[name]["ci95"] > 0
        assert rows[name]["measured"][MINUTES] > 0
        assert rows[name]["measured"][ADAPTATION] > 0
    for name in ("proto", "matching", "siamese", "nil", "centroid"):
        assert rows[name]["measured"][PARAMETERS] == 0, "no inner loop at test"
    # 4 filters on 16×16 grey images: 36 + 3 · 144 weights of the convolutions, a head of 4 × 3 + 3
    assert rows["anil"]["measured"][PARAMETERS] == 15
    assert rows["maml"]["measured"][PARAMETERS] == 36 + 3 * 144 + 15
    assert rows["boil"]["measured"][PARAMETERS] == 36 + 3 * 144 + 4 * 8, "the body with batch norm, not the head"
    assert rows["baseline"]["measured"][PARAMETERS] == 15, "a head of the test's way, not of all training classes"
    assert rows["baseline++"]["measured"][PARAMETERS] == 12
    folder = out / "glyphs-3way-1shot-smoke" / "families"
    with (folder / "table.csv").open() as file:
        lines = {x["label"]: x for x in csv.DictReader(file)}
    assert float(lines["anil"][PARAMETERS]) == 15
    assert lines["nearest pixels"][PARAMETERS] == ""
    assert (folder / "figure.png").exists()
    svg = (folder / "figure.svg").read_text()
    assert all(name in svg for name in ("baseline++", "proto-maml")), "names stand at the points"


def test_methods_meet_the_same_episodes_each_with_its_own_test(value: dict[str, Any], out: Path) -> None:
    """Each row again, from its run folder and by `evaluate` itself."""
    rows = {r["label"]: r for r in value["rows"]}
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        lab = Lab("glyphs", "smoke", out, way=3, seeds=(0,))
        batches = fixed_episodes(lab.family, lab.settings)
        pixels = torch.cat([nearest_neighbour(e) for e in batches]).mean()
        assert rows["nearest pixels"]["mean"] == pytest.approx(float(pixels))
        for name in ("proto", "baseline", "finetune", "reptile", "matching"):
            run = lab.trained(name, 0)
            learner = build.at_test(run.config, run.model, name)
            found = evaluate(learner, run.parameters, lab.family, run.config.test)
            assert rows[name]["mean"] == pytest.approx(found.final.mean), name
        tests = {n: lab.trained(n, 0).config.test for n in ("baseline", "finetune", "matching", "maml")}
    assert (tests["baseline"].inner_steps, tests["finetune"].inner_steps) == (100, 20)
    assert tests["matching"].temperature == 10
    assert {(t.episodes, t.seed, t.query) for t in tests.values()} == {(4, tests["maml"].seed, 10)}


def test_three_transfer_methods_share_one_training(out: Path) -> None:
    found = {p.name.split("smoke-")[1].removesuffix("-seed0") for p in (out / "runs").iterdir()}
    assert found == set(TRAINED)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        lab = Lab("glyphs", "smoke", out, way=3, seeds=(0,))
        first, second = (lab.trained(n, 0) for n in ("baseline", "multiclass"))
    assert all(torch.equal(p, second.parameters[n]) for n, p in first.parameters.items())


def test_a_head_made_for_the_task_counts_its_own_ways(out: Path) -> None:
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        run = Lab("glyphs", "smoke", out, way=3, seeds=(0,)).trained("baseline", 0)
    assert slow_weights(run.model)["head.weight"].shape == (6, 4), "an output for each training class"
    assert [adapted_count(run, "baseline", way) for way in (2, 3, 20)] == [10, 15, 100]


def test_claims_say_what_they_saw(value: dict[str, Any]) -> None:
    rows = {r["label"]: r["mean"] for r in value["rows"]}
    learn, anil = value["claims"]
    least = min(NAMES, key=lambda n: rows[n])
    gap = 100 * (rows[least] - rows["untrained body, nil's head"])
    assert learn["evidence"].startswith(f"least: {least}, {gap:+.1f} points (".replace("-", "−"))
    assert learn["holds"] in (None, gap >= 2), "episodes are few"
    assert f"{100 * (rows['anil'] - rows['maml']):+.1f} points".replace("-", "−") in anil["evidence"]
    assert "best of all" in anil["evidence"]


def test_what_differs_in_training_is_said(value: dict[str, Any]) -> None:
    said = " ".join(value["notes"])
    assert "proto: 4-way episodes" in said
    assert "imaml: 16 inner steps" in said
    assert " maml:" not in said.split("Training that differs")[1]


def test_published_numbers_stand_beside_their_own_data_only() -> None:
    assert published("proto", "omniglot", 20, 1) == "96.0"
    assert published("baseline++", "mini_imagenet", 5, 5) == "66.4 ± 0.6"
    assert published("proto", "cifar_fs", 5, 1) == ""
    assert published("unicorn", "mini_imagenet", 5, 1) == "", "another body"


def test_json_has_numbers_only(value: dict[str, Any]) -> None:
    json.dumps(value, allow_nan=False)
    assert all(math.isfinite(x) for r in value["rows"] for x in r["measured"].values())
