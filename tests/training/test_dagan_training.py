"""Training a DAGAN: what it learns from, resuming, what it refuses."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forks import DAGAN, together
from innerloop import cli
from innerloop.core.episodes import ClassImages
from innerloop.core.random import generator_for
from innerloop.data.distort import Affine, Crop, Elastic, Flip
from innerloop.errors import InnerloopError
from innerloop.models.dagan import Critic, Generator, Sizes
from innerloop.runs import RunError, RunFolder
from innerloop.training import Config, Interrupted, build, dagan, loop
from innerloop.training.dagan import DaganConfig, augmentation, load_dagan, same_class_pairs, train_dagan
from innerloop.training.loop import Progress
from naming import names
from planting import plants
from tiny import blobs

pytestmark = pytest.mark.usefixtures("made_images")

CONFIG = DaganConfig(
    sizes=Sizes(widths=(4, 4), noise=2), steps=4, critic_steps=2, batch=4, lr=1e-3, every=2, device="cpu"
)


def everything(path: Path) -> tuple[Any, ...]:
    """What a training left, but for the seconds it took."""
    c = RunFolder(path).load("last")
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in RunFolder(path).metrics]
    return c.step, c.weights, c.optimizer, {k: v for k, v in c.state.items() if k != "seconds"}, rows


def same(a: Path, b: Path) -> bool:
    """Both folders hold the same run, to the last bit."""
    (step, weights, moments, state, rows), there = everything(a), everything(b)
    if (step, state, rows) != (there[0], there[3], there[4]):
        return False
    for mine, its in ((weights, there[1]), (moments, there[2])):
        if mine.keys() != its.keys() or not all(torch.equal(mine[n], its[n]) for n in mine):
            return False
    return True


def at(step: int, do: Callable[[], object]) -> Callable[[Progress], None]:
    def report(p: Progress) -> None:
        if p.step == step:
            do()

    return report


@pytest.mark.parametrize("stop_at", [1, 2])
def test_resumed_after_ctrl_c_equals_uninterrupted(stop_at: int, tmp_path: Path) -> None:
    train_dagan(CONFIG, tmp_path / "whole")
    with pytest.raises(Interrupted, match=names(f"step {stop_at}", "--resume", "--out", tmp_path / "cut")):
        train_dagan(CONFIG, tmp_path / "cut", report=at(stop_at, lambda: signal.raise_signal(signal.SIGINT)))
    assert not RunFolder(tmp_path / "cut").finished
    train_dagan(CONFIG, tmp_path / "cut", resume=True)
    assert same(tmp_path / "whole", tmp_path / "cut")
    train_dagan(replace(CONFIG, seed=1), tmp_path / "other")
    assert not same(tmp_path / "whole", tmp_path / "other")
    with pytest.raises(RunError, match=names(tmp_path / "whole", "--out")):
        train_dagan(CONFIG, tmp_path / "whole", resume=True)


def test_the_run_folder(tmp_path: Path) -> None:
    folder = train_dagan(CONFIG, tmp_path / "r")
    assert folder.config["kind"] == "dagan"
    assert DaganConfig.from_json(json.loads(json.dumps(folder.config))) == CONFIG
    assert (folder.path / "env.json").exists()
    assert [row["step"] for row in folder.metrics] == [2, 4]
    assert set(folder.metrics[0]) == {"step", "distance", "penalty", "distance_val", "seconds"}
    assert folder.summary["steps"] == 4
    assert {n.split(".")[0] for n in folder.load("last").weights} == {"generator", "critic"}
    network = load_dagan(folder.path).network
    x, z = torch.rand(2, 1, 16, 16, generator=generator_for(0, "x")), torch.randn(2, 2, generator=generator_for(0, "z"))
    start = Generator((1, 16, 16), CONFIG.sizes, generator_for(0, "init", "generator"))
    with torch.no_grad():
        assert not torch.equal(network(x, z), start(x, z)), "what was loaded is not what was trained"
        start.load_state_dict({n[10:]: t for n, t in folder.load("last").weights.items() if n.startswith("generator.")})
        assert torch.equal(network(x, z), start(x, z))
    made = load_dagan(folder.path)(x, generator_for(0))
    assert torch.equal(made, load_dagan(folder.path)(x, generator_for(0)))


def test_the_metrics_are_means_over_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over an interruption: no step is lost, none counted twice."""
    seen: list[float] = []
    penalty = dagan.gradient_penalty

    def spy(*args: Any) -> Tensor:
        found = penalty(*args)
        seen.append(float(found.detach()))
        return found

    monkeypatch.setattr(dagan, "gradient_penalty", spy)
    config = replace(CONFIG, every=4)
    with pytest.raises(Interrupted):
        train_dagan(config, tmp_path / "r", report=at(3, lambda: signal.raise_signal(signal.SIGTERM)))
    (row,) = train_dagan(config, tmp_path / "r", resume=True).metrics
    assert len(seen) == 8
    assert row["penalty"] == pytest.approx(sum(seen) / 8, rel=1e-6)


def constant(of: Callable[[int], int], classes: int = 18, images: int = 8) -> ClassImages:
    """Images of one grey each, their class's."""
    plain = blobs()
    pixels = [torch.full((images, 1, 16, 16), of(c), dtype=torch.uint8) for c in range(classes)]
    return ClassImages.from_tensors("constant", pixels, plain.class_names, plain.splits)


def test_pairs_are_two_images_of_one_class_and_all_classes_come() -> None:
    data = constant(lambda c: 10 * c).split("train")
    x, other = same_class_pairs(data, 300, generator_for(0, "pairs"))
    assert torch.equal(x, other)  # of one grey, so of one class
    assert len(x.flatten(1).unique(dim=0)) == 6
    noisy = blobs().split("train")
    x, other = same_class_pairs(noisy, 300, generator_for(0, "pairs"))
    assert not (x == other).flatten(1).all(1).any()  # never an image with itself
    assert torch.equal(
        same_class_pairs(noisy, 3, generator_for(0, "pairs"))[0],
        same_class_pairs(noisy, 3, generator_for(0, "pairs"))[0],
    )


def test_the_critic_sees_pairs_of_one_training_class_and_what_is_made_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greys = constant(lambda c: 10 * c)
    shade = (torch.arange(len(greys.images)) % 8).to(torch.uint8)  # no two images of a class are alike
    greys.images.add_(shade[:, None, None, None])
    monkeypatch.setattr(build, "load_images", lambda config, data_dir=None: greys)
    trained: list[tuple[Tensor, Tensor]] = []
    forward = Critic.forward

    def spy(self: Critic, x: Tensor, other: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            trained.append((x.detach(), other.detach()))
        return forward(self, x, other)

    monkeypatch.setattr(Critic, "forward", spy)
    monkeypatch.setattr(Generator, "forward", lambda self, x, z: x * 0 + x.mean((1, 2, 3), keepdim=True) / 2)
    monkeypatch.setattr(dagan, "_step", lambda optimizer, loss, more, *_: [0.0 for _ in more])
    monkeypatch.setattr(loop, "optimizer_state", lambda optimizer, own: {})
    train_dagan(CONFIG, tmp_path / "r")
    assert len(trained) == 4 * (2 * 2 + 1)  # steps · (critic steps · (values, penalty) + the generator's)
    values = [pair for pair in trained if len(pair[0]) == 8]
    assert len(values) == 8
    train_greys = {10 * c for c in greys.splits["train"]}

    def classes(x: Tensor) -> list[int]:
        return [10 * (round(255 * v) // 10) for v in x[:, 0, 0, 0].tolist()]

    for x, _ in trained:
        assert set(classes(x)) <= train_greys
    for x, other in values:
        assert torch.equal(x[:4], x[4:]), "real and generated pairs share their first images"
        assert classes(x[:4]) == classes(other[:4]), "the real second image is of another class"
        assert bool((x[:4] != other[:4]).flatten(1).any(1).all()), "the real second image is the first"
        assert torch.allclose(x[4:] / 2, other[4:]), "the generated one is not made of the first"


def test_only_training_classes_are_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other images of the validation and test classes the weights are the same to the last bit."""
    train_dagan(CONFIG, tmp_path / "a")
    plain = blobs()
    images = plain.images.clone()
    images[int(plain.first[6]) :] = 255 - images[int(plain.first[6]) :]
    monkeypatch.setattr(build, "load_images", lambda config, data_dir=None: replace(plain, images=images))
    train_dagan(CONFIG, tmp_path / "b")
    one, other = everything(tmp_path / "a"), everything(tmp_path / "b")
    assert all(torch.equal(one[1][n], other[1][n]) for n in one[1])
    assert [r["distance"] for r in one[4]] == [r["distance"] for r in other[4]]
    assert [r["distance_val"] for r in one[4]] != [r["distance_val"] for r in other[4]]  # those are looked at


def test_the_critic_learns_to_tell_them_apart(tmp_path: Path) -> None:
    """Real pairs come to have the higher value; catches a wrong sign of the critic's loss."""
    first: list[float] = []
    train_dagan(
        replace(CONFIG, steps=1, critic_steps=40, lr=3e-3, penalty=0.1),
        tmp_path / "r",
        report=lambda p: first.append(p.numbers["distance"]),
    )
    assert first[0] > 0.05  # a trained critic tells them apart, the right way round


def test_the_generator_comes_nearer(tmp_path: Path) -> None:
    """On one grey class the generator learns its grey; catches a wrong sign of its loss."""
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", lambda config, data_dir=None: constant(lambda c: 230))
        config = replace(CONFIG, steps=40, every=40, lr=1e-2, batch=8, critic_steps=3)
        train_dagan(config, tmp_path / "r")
    x = torch.full((4, 1, 16, 16), 230 / 255)
    network = load_dagan(tmp_path / "r")
    start = Generator((1, 16, 16), CONFIG.sizes, generator_for(0, "init", "generator"))
    with torch.no_grad():
        before = float((start(x, torch.zeros(4, 2)) - x).abs().mean())
    assert float((network(x, generator_for(0)) - x).abs().mean()) < 0.5 * before


def test_a_loss_that_is_no_number_stops_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    penalty = dagan.gradient_penalty
    calls: list[int] = []

    def spoilt(*args: Any) -> Tensor:
        calls.append(1)
        return penalty(*args) * (float("nan") if len(calls) > 4 else 1.0)

    monkeypatch.setattr(dagan, "gradient_penalty", spoilt)
    with pytest.raises(FloatingPointError, match=names("critic", "step 2", "nan", "--lr", tmp_path / "r")):
        train_dagan(CONFIG, tmp_path / "r")
    assert RunFolder(tmp_path / "r").load("last").step == 2


@plants(
    "no sum of the processes' losses", "core.ranks:Ranks.sum_all", lambda right: lambda self, tensors: list(tensors)
)
@plants("each process takes all pairs", "core.ranks:Ranks.share", lambda right: lambda self, tasks: slice(0, tasks))
def test_several_processes_train_as_one(tmp_path: Path) -> None:
    """Five pairs do not divide by two. Catches pairs or noise of a process's own, means of means, and a stop that one
    process alone hears; a resume needs no two processes."""
    config = replace(CONFIG, batch=5, steps=6)
    train_dagan(config, tmp_path / "one")

    def cut() -> int:
        try:  # the first process alone reports
            train_dagan(config, Path("run"), report=at(3, lambda: signal.raise_signal(signal.SIGTERM)))
        except Interrupted as stopped:
            return stopped.step
        return 70

    def go_on() -> int:
        train_dagan(config, Path("run"), resume=True)
        return 0

    assert together(2, tmp_path / "two", cut) == [3, 3]
    assert together(3, tmp_path / "two", go_on) == [0, 0, 0]
    (step, weights, moments, _, rows), there = everything(tmp_path / "one"), everything(tmp_path / "two" / "run")
    assert step == there[0]
    for mine, its in ((weights, there[1]), (moments, there[2])):
        assert mine.keys() == its.keys()
        for name in mine:
            if "critic.head.bias" not in name:  # it cancels: its gradient is rounding alone, which Adam makes large
                torch.testing.assert_close(mine[name], its[name], rtol=1e-3, atol=1e-5)
    for mine, its in zip(rows, there[4], strict=True):
        assert mine == pytest.approx(its, rel=1e-3, abs=1e-5)


def test_the_command_under_torchrun_and_too_few_pairs(tmp_path: Path) -> None:
    """The first process alone prints and draws samples; nothing is written for a batch that is too small."""

    def command(*more: str) -> Callable[[], int]:
        return lambda: cli.run(["dagan", *DAGAN, *more, "--threads", "1", "--out", "run"])

    assert together(2, tmp_path / "two", command()) == [0, 0], [f.read_text() for f in tmp_path.glob("two/*.log")]
    assert (tmp_path / "two" / "run" / "generated.json").exists()
    assert "4 generator steps" in (tmp_path / "two" / "0.log").read_text()
    assert (tmp_path / "two" / "1.log").read_text() == ""
    assert together(2, tmp_path / "few", command("--batch", "1")) == [1, 1]
    assert "1 pairs" in (tmp_path / "few" / "0.log").read_text()
    assert not (tmp_path / "few" / "run").exists()


def test_an_augmentation_by_name_or_folder(tmp_path: Path) -> None:
    assert [augmentation(n) for n in ("affine", "elastic", "crop", "flip")] == [Affine(), Elastic(), Crop(), Flip()]
    train_dagan(replace(CONFIG, steps=1), tmp_path / "r")
    x = torch.rand(2, 1, 16, 16, generator=generator_for(0, "x"))
    assert torch.equal(
        augmentation(str(tmp_path / "r"))(x, generator_for(0)), load_dagan(tmp_path / "r")(x, generator_for(0))
    )
    with pytest.raises(InnerloopError, match=names("'afine'", "affine", "elastic", "crop", "flip", "innerloop dagan")):
        augmentation("afine")


def test_another_kind_of_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(Config().to_json()))
    with pytest.raises(RunError, match=names(tmp_path / "config.json", "innerloop dagan")):
        load_dagan(tmp_path)
    with pytest.raises(RunError, match=names(tmp_path / "nix", "config.json")):
        load_dagan(tmp_path / "nix")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG.to_json(), "new": 1}))
    with pytest.raises(RunError, match=names(tmp_path / "config.json", "new")):
        load_dagan(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"data": "sinusoid"}, ("sinusoid", "regression")),
        ({"data": "glyphs", "split_scheme": "lake"}, ("glyphs", "split_scheme", "'lake'")),
    ],
)
def test_what_the_config_refuses(wrong: dict[str, Any], named: tuple[str, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        replace(CONFIG, **wrong)
