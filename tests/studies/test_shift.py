"""Models of one data set on another: which classes, which episodes, which intervals. Runs take a second."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from innerloop.core.episodes import ClassImages, ImageTasks
from innerloop.core.random import generator_for
from innerloop.core.statistics import over_episodes
from innerloop.data.convert import as_shape
from innerloop.data.dataset import Dataset
from innerloop.data.within_alphabet import WithinAlphabet
from innerloop.evaluation import EvalSettings, Evaluation, evaluate
from innerloop.runs import RunFolder
from innerloop.studies import shift as study
from innerloop.studies.lab import Lab, Trained
from innerloop.studies.shift import (
    compared,
    domain_shift,
    find_target,
    independent_difference,
    measure,
    notes,
    task_families,
    unseen_classes,
)
from innerloop.training import Config, build, load_run, train
from tiny import CONFIG

BRIEF = replace(CONFIG, outer=replace(CONFIG.outer, steps=2))
OMNIGLOT = replace(BRIEF, data="omniglot", split_scheme="vinyals")


def images(
    name: str,
    names: Sequence[str],
    splits: dict[str, Sequence[int]],
    *,
    each: int = 8,
    size: int = 16,
    channels: int = 1,
) -> ClassImages:
    """`each` noisy pictures of a pattern for every class."""
    g = generator_for(0, name)
    pattern = torch.rand(len(names), 1, channels, size, size, generator=g)
    noise = torch.rand(len(names), each, channels, size, size, generator=g)
    pixels = ((0.6 * pattern + 0.4 * noise) * 255).to(torch.uint8)
    return ClassImages.from_tensors(name, list(pixels), names, splits)


CHARACTERS = [f"{a}/character{i:02}" for a in ("Aa", "Bb", "Cc") for i in range(1, 7)]
VINYALS = images(
    "omniglot",
    [f"{c}/rot{k:03}" for c in CHARACTERS for k in (0, 90)],
    {"train": range(16), "val": range(16, 22), "test": range(22, 36)},
)
"""Aa and Bb/01, 02 are trained on; Bb/03 to 05 chose the checkpoint; Bb/06 and all of Cc are unseen"""
LAKE = images("omniglot", CHARACTERS, {"train": range(6), "test": range(6, 18)}, size=16)
GLYPHS = images(
    "glyphs",
    ["latin/A", "latin/B", "lao/KO", "lao/KHO", "lao/NGO", "ogham/MUIN"],
    {"train": range(2), "val": range(2, 5), "test": range(5, 6)},
    each=6,
    size=20,
    channels=3,
)
FINE = ["apple", "bear", "boy", "bus", "chair", "crab", "dolphin", "elephant", "lamp"]
CIFAR = images("cifar_fs", FINE, {"train": range(3), "val": range(3, 6), "test": range(6, 9)}, channels=3)
FC = images("fc100", FINE, {"train": range(6, 9), "val": range(3, 6), "test": range(3)}, channels=3)
CALTECH = images("caltech101", ["Faces", "anchor", "bass", "chair", "emu"], {"test": range(5)}, channels=3)
ALL = {"omniglot": VINYALS, "cifar_fs": CIFAR, "fc100": FC}
TARGETS = {"omniglot": LAKE, "glyphs": GLYPHS, "caltech101": CALTECH}


def load_source(config: Config, data_dir: Path | None = None) -> ClassImages | None:
    return None if config.regression else ALL[config.data]


def load_target(data: Dataset, **_: Any) -> ClassImages:
    return TARGETS[data.name]


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set is read or drawn."""
    monkeypatch.setattr(build, "load_images", load_source)
    monkeypatch.setattr(study, "load", load_target)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs: three methods on omniglot, two on each split of CIFAR-100."""
    root = tmp_path_factory.mktemp("runs")
    configs = {
        "maml": OMNIGLOT,
        "anil": replace(OMNIGLOT, method="anil"),
        "anil-1": replace(OMNIGLOT, method="anil", seed=1),
        "cifar": replace(BRIEF, data="cifar_fs", method="nil"),
        "fc": replace(BRIEF, data="fc100", method="nil"),
    }
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_source)
        for name, config in configs.items():
            train(config, root / name)
    return {name: root / name for name in configs}


def test_characters_that_were_trained_on_are_not_tested() -> None:
    """Catches: leaks through rotations, through the validation split, and classes left out for nothing."""
    found = unseen_classes(OMNIGLOT, VINYALS, find_target("omniglot-lake"))
    assert found.data.class_names == ("Bb/character06", *(c for c in CHARACTERS if c.startswith("Cc")))
    assert found.left_out == tuple(f"Bb/character{i:02}" for i in range(1, 6))
    for i, name in enumerate(found.data.class_names):
        at, there = int(found.data.first[i]), int(LAKE.first[CHARACTERS.index(name)])
        assert torch.equal(found.data.images[at], LAKE.images[there]), "a class with another's images"


def test_scripts_and_things_that_were_trained_on_are_not_tested() -> None:
    latin = replace(VINYALS, class_names=tuple(n.replace("Aa/", "Latin/") for n in VINYALS.class_names))
    assert unseen_classes(OMNIGLOT, latin, find_target("glyphs")).data.class_names == GLYPHS.class_names[2:]
    assert unseen_classes(OMNIGLOT, VINYALS, find_target("glyphs")).left_out == ()
    found = unseen_classes(replace(CONFIG, data="cifar_fs"), CIFAR, find_target("caltech101"))
    assert found.left_out == ("Faces", "chair")


def test_too_few_classes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"of the 1 classes of glyphs .* 1 are left, too few for 3 ways"):
        unseen_classes(OMNIGLOT, VINYALS, find_target("glyphs"), split="test")


def test_a_model_of_another_data_set_is_not_tested_on_fc100() -> None:
    """Its own test classes were, under the name of fc100."""
    with pytest.raises(ValueError, match="model of cifar_fs itself cannot be tested on fc100"):
        unseen_classes(replace(CONFIG, data="cifar_fs"), CIFAR, find_target("fc100"))
    assert (
        unseen_classes(replace(CONFIG, data="fc100"), FC, find_target("fc100")).data.class_names
        == FC.split("test").class_names
    )


def test_the_target_takes_the_shape_of_the_source() -> None:
    found = unseen_classes(OMNIGLOT, VINYALS, find_target("glyphs")).data
    assert found.image_shape == VINYALS.image_shape == (1, 16, 16)
    assert torch.equal(found.images, as_shape(GLYPHS, 1, 16).images)


def test_way_shot_and_query_are_the_same_on_both_sides() -> None:
    """The poorer side has 6 images a class: 5 query images beside 1 shot, though the run asks for 7."""
    config = replace(OMNIGLOT, test=replace(OMNIGLOT.test, query=7))
    expected = {"glyphs": 5, "omniglot-lake": 7, "omniglot-within": 1}
    for name, query in expected.items():
        target = find_target(name)
        unseen = unseen_classes(config, VINYALS, target)
        home, away = task_families(config, VINYALS, target, unseen)
        assert isinstance(home, ImageTasks)
        assert isinstance(away, WithinAlphabet if target.within else ImageTasks)
        assert (home.way, home.shot, home.query) == (away.way, away.shot, away.query) == (3, 1, query)
        assert home.data.class_names == tuple(VINYALS.class_names[c] for c in VINYALS.splits["test"])


def scored(values: Sequence[float]) -> Evaluation:
    final = over_episodes(torch.tensor(values))
    return Evaluation(final, (final,), tuple(values), EvalSettings(episodes=len(values)))


def test_one_shot_within_an_alphabet_is_not_called_five() -> None:
    """The episodes had one shot, and eval.json said five."""
    five = replace(OMNIGLOT, shot=5)
    unseen = unseen_classes(five, VINYALS, find_target("omniglot-within"))
    with pytest.raises(ValueError, match="one-shot protocol; it cannot be had with 5 shots"):
        task_families(five, VINYALS, find_target("omniglot-within"), unseen)


def test_the_drop_has_the_interval_of_independent_means() -> None:
    """Closed form, and against the spread of the drop over repeated draws."""
    g = generator_for(0)
    a, b = torch.rand(400, generator=g), 0.3 * torch.rand(400, generator=g)
    found = independent_difference(scored(a.tolist()), scored(b.tolist()))
    width = 1.96 * math.sqrt(float(a.double().var()) / 400 + float(b.double().var()) / 400)
    assert found.mean == pytest.approx(float(a.mean() - b.mean()), abs=1e-6)
    assert found.ci95 == pytest.approx(width, rel=1e-6)
    draws = torch.rand(4000, 400, generator=g).mean(1) - 0.3 * torch.rand(4000, 400, generator=g).mean(1)
    assert found.ci95 == pytest.approx(1.96 * float(draws.std()), rel=0.1)


def loaded(path: Path, images: ClassImages) -> Trained:
    config, model, parameters = load_run(path, images=images)
    return Trained(config.method, config, model, parameters, RunFolder(path))


def test_a_table_by_the_slow_way(runs: dict[str, Path]) -> None:
    """Every number again from the run folders and the families; catches swapped sides, seeds and methods."""
    target = find_target("omniglot-lake")
    trained = {n: loaded(runs[n], VINYALS) for n in ("maml", "anil", "anil-1")}
    unseen = unseen_classes(OMNIGLOT, VINYALS, target)
    families = task_families(OMNIGLOT, VINYALS, target, unseen)
    found = compared(measure([(run, run) for run in trained.values()], families))
    maml, anil = found.values()
    plain = LAKE.select([11, *range(12, 18)])
    scores: dict[str, tuple[Evaluation, Evaluation]] = {}
    for name, run in trained.items():
        learner = build.at_test(run.config, run.model)
        there = replace(run.config.test, seed=run.config.test.seed + 1)
        scores[name] = (
            evaluate(learner, run.parameters, ImageTasks(VINYALS.split("test"), 3, 1, 3), run.config.test),
            evaluate(learner, run.parameters, ImageTasks(plain, 3, 1, 3), there),
        )
    assert list(found) == ["maml", "anil"]
    assert maml["in_domain"].mean == pytest.approx(scores["maml"][0].final.mean, abs=1e-6)
    assert maml["shifted"].mean == pytest.approx(scores["maml"][1].final.mean, abs=1e-6)
    assert maml["drop"].mean == pytest.approx(maml["in_domain"].mean - maml["shifted"].mean, abs=1e-6)
    assert "against_first" not in maml
    both = [scores[n] for n in ("anil", "anil-1")]
    assert anil["shifted"].mean == pytest.approx(sum(s[1].final.mean for s in both) / 2, abs=1e-6)
    assert [v.seed for v in anil["shifted"].values] == [0, 1]
    (pair,) = anil["against_first"].values  # seed 1 has no maml to be paired with
    gaps = torch.tensor(scores["anil"][1].per_episode) - torch.tensor(scores["maml"][1].per_episode)
    assert pair.mean == pytest.approx(float(gaps.mean()), abs=1e-5)
    assert pair.ci95 == pytest.approx(1.96 * float(gaps.std()) / math.sqrt(6), abs=1e-5)
    assert any("upright only" in note for note in notes(target, unseen, OMNIGLOT))


def test_superclasses_compare_two_models(runs: dict[str, Path]) -> None:
    """In-domain is the model of cifar_fs on its own classes, shifted the one of fc100 on its own."""
    home, away = loaded(runs["cifar"], CIFAR), loaded(runs["fc"], FC)
    target = find_target("fc100")
    unseen = unseen_classes(away.config, FC, target)
    assert unseen.left_out == ()
    (row,) = compared(measure([(home, away)], task_families(home.config, CIFAR, target, unseen))).values()
    for run, data, part, add in ((home, CIFAR, "in_domain", 0), (away, FC, "shifted", 1)):
        test = replace(run.config.test, seed=run.config.test.seed + add)
        family = ImageTasks(data.split("test"), 3, 1, 3)
        again = evaluate(build.at_test(run.config, run.model), run.parameters, family, test)
        assert row[part].mean == pytest.approx(again.final.mean, abs=1e-6)


@pytest.mark.slow
def test_the_table_of_reproduce(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every target of omniglot for every method; the drop is in-domain minus target."""
    monkeypatch.setattr(study, "METHODS", ("maml", "baseline"))
    lab = Lab("omniglot", "smoke", tmp_path, way=3, seeds=(0,))
    found = domain_shift(lab)
    assert [r.label for r in found.rows] == [
        f"{m} → {t}" for t in ("glyphs", "omniglot-lake", "omniglot-within") for m in ("maml", "baseline")
    ]
    for row in found.rows:
        assert row.measured["drop (points)"] == pytest.approx(row.measured["in-domain (%)"] - 100 * row.mean)
    gap = found.rows[1].mean - found.rows[0].mean
    assert found.rows[1].measured["− maml (points)"] == pytest.approx(100 * gap, abs=1e-3)
    assert found.claims[0].holds in (None, gap > 0)
    assert [s.name for s in found.drawing.series] == ["glyphs", "omniglot-lake", "omniglot-within"]
    with pytest.raises(ValueError, match="mini_imagenet has no target"):
        domain_shift(Lab("mini_imagenet", "smoke", tmp_path))
