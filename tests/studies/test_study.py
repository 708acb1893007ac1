"""The whole study in miniature, through the command line."""

import math
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from innerloop import cli
from innerloop.analysis import Frozen, block_outputs, fresh_head, head_share, mean_cca, similarity
from innerloop.analysis.similarity import as_points
from innerloop.core.inner import adapt, with_steps
from innerloop.core.outer import OuterLoop
from innerloop.core.random import generator_for
from innerloop.core.statistics import over_episodes
from innerloop.evaluation import EvalSettings, Evaluation, evaluate, fixed_episodes
from innerloop.methods.method import predictor
from innerloop.report.tables import without_cca
from innerloop.runs import RunFolder, read_json
from innerloop.studies import Stage, fan_out
from innerloop.studies import study as run_study
from innerloop.studies.inside import NO_HEAD, ZEROS, Inside, cca_if_enough
from innerloop.studies.result import difference
from innerloop.studies.study import answer_of, keep_every
from innerloop.studies.threads import Threads
from innerloop.training import Config, Validation, build
from innerloop.training import train as train_run
from innerloop.training.train import load_run
from tiny import CONFIG, FLAGS, blobs

ANSWERS = {"feature reuse", "rapid learning", "mixed", "undecided", "inconclusive"}
EPISODES = 8
"""at test, as FLAGS says"""
pytestmark = pytest.mark.usefixtures("made_images")


def args(out: Path, *more: str) -> list[str]:
    return ["study", *FLAGS, "--out", str(out), *more]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from innerloop.training import build
    from tiny import load_blobs

    out = tmp_path_factory.mktemp("study") / "s"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        assert cli.run(args(out)) == 0
    return out


def test_what_a_study_leaves(done: Path) -> None:
    summary = read_json(done / "summary.json")
    assert (done / "report.html").read_text().lstrip().lower().startswith("<!doctype html")
    assert summary["data"]["episodes"] == EPISODES
    assert set(summary["methods"]) == {"maml", "maml_small", "anil", "nil", "nil_maml", "untrained_nil", "pixels"}
    for value in summary["methods"].values():
        assert len(value["per_episode"]) == EPISODES
        assert value["mean"] == pytest.approx(sum(value["per_episode"]) / EPISODES, abs=1e-5)
    assert [len(r["frozen"]) for r in summary["freezing"]] == [0, 1, 2, 3, 4]
    assert summary["freezing"][0]["mean"] == summary["methods"]["maml"]["mean"]
    assert summary["freezing"][0]["difference"] == {"mean": 0.0, "ci95": 0.0}
    for name, folder in (("maml", "maml"), ("maml_small", "maml-small-head"), ("anil", "anil")):
        assert RunFolder(done / folder).finished
        still = [m["block"] for m in summary["movement"][name] if m["distance"] == 0]
        assert still == (["conv1", "conv2", "conv3", "conv4"] if name == "anil" else [])
    body = [r["mean"] for r in summary["cka"]["anil"] if r["block"] != "head"]
    assert body == pytest.approx([1.0] * 4, abs=1e-6)
    assert set(summary["verdict"]["answers"]) == {"maml", "maml_small"}
    assert set(summary["verdict"]["answers"].values()) <= ANSWERS
    for p in summary["paired"]:
        a, b = (summary["methods"][p[k]]["per_episode"] for k in ("a", "b"))
        assert p["mean"] == pytest.approx(sum(x - y for x, y in zip(a, b, strict=True)) / EPISODES, abs=1e-5)


def test_heads_agree_with_the_methods_of_the_same_name(done: Path) -> None:
    summary = read_json(done / "summary.json")
    rows = {r["name"]: r for r in summary["heads"]}
    assert list(rows) == ["as trained", "re-initialised", "zeros", "NIL, cosine", "NIL, Euclidean class means"]
    for head, name in (("as trained", "maml"), ("NIL, cosine", "nil_maml")):
        assert rows[head]["mean"] == pytest.approx(summary["methods"][name]["mean"])
        assert rows[head]["ci95"] == pytest.approx(summary["methods"][name]["ci95"])
    pair = next(p for p in summary["paired"] if (p["a"], p["b"]) == ("nil_maml", "maml"))
    assert rows["NIL, cosine"]["difference"] == pytest.approx({"mean": pair["mean"], "ci95": pair["ci95"]})

    config, model, weights = load_run(done / "maml", images=blobs())
    family = build.tasks(config, blobs(), "test", config.test.query)
    zeros = fresh_head(model, weights, generator_for(0), zero=True)
    found = evaluate(predictor(model, config.inner_loop), zeros, family, config.test)
    assert rows["zeros"]["mean"] == pytest.approx(found.final.mean)
    assert rows["zeros"]["difference"]["mean"] == pytest.approx(found.final.mean - summary["methods"]["maml"]["mean"])


def test_checkpoints_along_the_training(done: Path) -> None:
    summary = read_json(done / "summary.json")
    assert summary["config"]["validation"]["keep_every"] == 0  # as the user asked; the runs inside keep more
    early = summary["early"]
    assert [e["step"] for e in early] == RunFolder(done / "maml").kept == RunFolder(done / "anil").kept == [2, 4]
    for e in early:
        config, model, weights = load_run(done / "maml", which=f"step{e['step']}", images=blobs())
        family = build.tasks(config, blobs(), "test", config.test.query)
        whole = evaluate(predictor(model, config.inner_loop), weights, family, config.test)
        frozen = evaluate(predictor(model, replace(config.inner_loop, blocks="head")), weights, family, config.test)
        assert e["episodes"] == EPISODES
        assert (e["mean"], e["ci95"]) == pytest.approx((whole.final.mean, whole.final.ci95))
        assert (e["body_frozen"]["mean"], e["body_frozen"]["ci95"]) == pytest.approx(
            (frozen.final.mean, frozen.final.ci95)
        )
        gaps = torch.tensor(frozen.per_episode, dtype=torch.float64) - torch.tensor(whole.per_episode)
        assert e["difference"]["mean"] == pytest.approx(float(gaps.mean()), abs=1e-6)
        assert e["difference"]["ci95"] == pytest.approx(float(over_episodes(gaps).ci95), abs=1e-6)
        inner = with_steps(config.inner_loop, config.test.inner_steps)
        cka = similarity(model, weights, fixed_episodes(family, config.test), inner)["cka"]
        body = {b: c.mean for b, c in cka.items() if c and b != "head"}
        low = e["lowest_body_cka"]
        assert low["mean"] == pytest.approx(min(body.values()), rel=1e-4)  # float32, other batch sizes
        assert body[low["block"]] == pytest.approx(low["mean"], rel=1e-4)
        assert {c["block"] for c in e["cka"]} == set(cka)
    best = summary["methods"]["maml"]["best_step"]
    assert next(e for e in early if e["step"] == best)["mean"] == pytest.approx(summary["methods"]["maml"]["mean"])


def test_cca_stands_beside_cka(done: Path) -> None:
    summary = read_json(done / "summary.json")
    config, model, weights = load_run(done / "maml", images=blobs())
    family = build.tasks(config, blobs(), "test", config.test.query)
    inner = with_steps(config.inner_loop, config.test.inner_steps)
    # 9 query images, of 8×8, 4×4, 2×2 and 1 pixels: more than 30 points for each of 4 filters in the first two
    means: dict[str, list[float]] = {}
    for e in fixed_episodes(family, config.test):
        fast = adapt(model, weights, e.support_x, e.support_y, inner)
        before, after = (block_outputs(model, weights, f, e.query_x) for f in ({}, fast))
        for block in before:
            for x, y in zip(before[block], after[block], strict=True):
                x, y = as_points(x), as_points(y)
                if len(x) > 30 * x.shape[1]:
                    chosen = [i * len(x) // (30 * x.shape[1]) for i in range(30 * x.shape[1])]
                    x, y = x[chosen], y[chosen]
                means.setdefault(block, []).append(mean_cca(x, y))
    assert [r["block"] for r in summary["cca"]["maml"]] == [r["block"] for r in summary["cka"]["maml"]]
    for row in summary["cca"]["maml"]:
        values = torch.tensor([v for v in means[row["block"]] if v == v], dtype=torch.float64)
        assert row["mean"] == pytest.approx(float(values.mean()), abs=1e-6)
    body = {r["block"]: (r["mean"], r["ci95"]) for r in summary["cca"]["anil"] if r["block"] != "head"}
    assert set(body.values()) == {(1.0, 0.0)}
    assert len(body) == 4


def test_cca_is_left_out_where_points_are_too_few() -> None:
    x = torch.randn(7, 4, generator=generator_for(0))
    assert math.isnan(cca_if_enough(x, x + 1))
    assert math.isnan(cca_if_enough(torch.ones(8, 4), torch.ones(8, 4)))
    y = torch.randn(1000, 3, generator=generator_for(1))
    assert cca_if_enough(y, y) == 1.0
    assert cca_if_enough(y, y @ torch.tensor([[1.0, 2, 0], [0, 1, 0], [3, 0, 1]])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("steps", "every", "wanted"),
    [(600, 100, 200), (60_000, 1_000, 15_000), (5, 1, 2), (30, 100, 100), (100, 100, 100), (400, 100, 100)],
)
def test_how_often_checkpoints_are_kept(steps: int, every: int, wanted: int) -> None:
    config = Config(outer=OuterLoop(steps=steps), validation=Validation(every=every))
    assert keep_every(config) == wanted
    own = replace(config, validation=Validation(every=every, keep_every=3 * every))
    assert keep_every(own) == 3 * every


def test_each_part_is_reported_and_a_block_without_cca_is_named(tmp_path: Path) -> None:
    stages: list[Stage] = []
    few = replace(CONFIG.test, episodes=2, query=2)  # 6 data points for the 4 filters of the last block
    config = replace(CONFIG, test=few, validation=replace(CONFIG.validation, keep_every=4))
    summary = run_study(config, tmp_path / "s", report=stages.append)
    last = {s.title: (s.done, s.total) for s in stages}
    assert last["movement and similarity"] == (1, 1)
    assert last["early in training"] == (2, 2)
    assert last["heads"] == (5, 5)
    assert RunFolder(tmp_path / "s" / "maml").kept == [4]  # the user's choice; the end is looked at all the same
    assert [e["step"] for e in summary["early"]] == [4, 6]
    assert [r["block"] for r in summary["cca"]["maml"]] == ["conv1", "conv2", "conv3", "head"]
    assert [r["block"] for r in summary["cka"]["maml"]] == ["conv1", "conv2", "conv3", "conv4", "head"]
    assert without_cca(summary) == ["conv4"]


def test_the_dial_is_the_head_s_start_alone(done: Path) -> None:
    """Two runs whose configurations and first weights differ in the head's size and in nothing else."""
    configs = [RunFolder(done / f).config_as(Config.from_json) for f in ("maml", "maml-small-head")]
    assert replace(configs[1], model=configs[0].model) == configs[0]
    first, small = (dict(build.build_model(c, blobs()).named_parameters()) for c in configs)
    for name, weights in first.items():
        assert torch.equal(small[name], weights * (0.05 if name == "head.weight" else 1.0)), name
    summary = read_json(done / "summary.json")
    assert [d["head_scale"] for d in summary["dial"]] == [1.0, 0.05]
    for d in summary["dial"]:
        config, model, weights = load_run(
            done / {"maml_small": "maml-small-head"}.get(d["method"], "maml"), images=blobs()
        )
        family = build.tasks(config, blobs(), "test", config.test.query)
        only_head = replace(config.inner_loop, blocks="head")
        zeros = fresh_head(model, weights, generator_for(0), zero=True)
        whole = evaluate(predictor(model, config.inner_loop), weights, family, config.test).final.mean
        for key, slow in (("frozen", weights), ("zeros", zeros)):
            alone = evaluate(predictor(model, only_head), slow, family, config.test).final.mean
            assert d[key]["mean"] == pytest.approx(alone)
            assert d[key]["difference"]["mean"] == pytest.approx(alone - whole, abs=1e-6)
        assert d["whole"]["mean"] == pytest.approx(whole)
        share = head_share(model, weights, fixed_episodes(family, config.test))
        assert d["share"]["mean"] == pytest.approx(share.mean, rel=1e-4)
    assert summary["dial"][0]["frozen"]["difference"] == summary["freezing"][-1]["difference"]
    assert {s["head"] for s in summary["still"]} == {ZEROS, NO_HEAD}
    nil = next(s for s in summary["still"] if s["head"] == NO_HEAD)
    assert nil["mean"] == pytest.approx(summary["methods"]["nil_maml"]["mean"])


def scores(*values: float) -> Evaluation:
    estimate = over_episodes(torch.tensor(values))
    return Evaluation(estimate, (estimate,), values, EvalSettings())


@pytest.mark.parametrize(
    ("frozen", "nil", "untrained", "answer"),
    [
        ((0.79, 0.69), 0.7, 0.3, "feature reuse"),
        ((0.6, 0.5), 0.75, 0.3, "mixed"),
        ((0.6, 0.5), 0.5, 0.3, "rapid learning"),
        ((0.8, 0.66), 0.7, 0.3, "inconclusive"),
        ((0.8, 0.7), 0.75, 0.8, "undecided"),
    ],
)
def test_the_answer(frozen: tuple[float, ...], nil: float, untrained: float, answer: str) -> None:
    """Freezing a model that learnt nothing loses nothing, which is no feature reuse."""
    whole, still = scores(0.8, 0.7), scores(*frozen)
    share = over_episodes(torch.tensor([0.5, 0.5]))
    row = Frozen(("conv1",), ("head",), still, difference(still, whole))
    of = scores(untrained, untrained - 0.1)
    found = Inside(whole, of, [row], {NO_HEAD: scores(nil + 0.05, nil - 0.05)}, [], [], {}, share, 1)
    assert answer_of(found.numbers) == answer


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_finished_study_is_not_run_again(done: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = (done / "summary.json").read_bytes()
    assert cli.run(args(done, *more)) == 1
    err = capsys.readouterr().err
    assert "finished study" in err
    assert "report.html" in err
    assert (done / "summary.json").read_bytes() == before


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For pages that nobody looks at."""
    monkeypatch.setattr("innerloop.report.page.figures", lambda summary, episodes: {})


@pytest.mark.usefixtures("no_figures")
def test_a_lost_page_is_written_again(done: Path) -> None:
    page = done / "report.html"
    page.unlink()
    assert cli.run(args(done)) == 0
    assert page.exists()


@pytest.mark.usefixtures("no_figures")
def test_interrupted_in_anil_and_resumed(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_anil(config, out, *, report, **more):
        def stopping(p):
            report(p)
            if config.method == "anil" and p.step == 3:
                signal.raise_signal(signal.SIGINT)

        return train_run(config, out, report=stopping, **more)

    out = tmp_path / "s"
    with monkeypatch.context() as m:
        m.setattr(fan_out, "train", stop_anil)
        assert cli.run(args(out)) == 130
    err = capsys.readouterr().err
    assert "step 3" in err
    assert f"--resume --out {out} " in err  # the study's folder, not the run's inside
    assert cli.run(args(out)) == 1
    assert "--resume" in capsys.readouterr().err
    with RunFolder(out / "anil").alone():
        for more in ([], ["--resume"]):
            assert cli.run(args(out, *more)) == 1
            assert f"another process is training in {out / 'anil'}" in capsys.readouterr().err
    assert cli.run(args(out, "--resume", "--seed", "9")) == 1
    assert "another configuration" in capsys.readouterr().err
    assert cli.run(args(out, "--resume")) == 0
    one, other = read_json(out / "summary.json"), read_json(done / "summary.json")
    for name, value in one["methods"].items():
        assert value["per_episode"] == other["methods"][name]["per_episode"]
    assert one["freezing"] == other["freezing"]
    assert one["movement"] == other["movement"]


def test_foreign_folder_and_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").touch()
    assert cli.run(args(tmp_path)) == 1
    assert "holds no study" in capsys.readouterr().err
    assert cli.run(args(tmp_path / "new", "--method", "boil")) == 1
    assert "both maml and anil" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("asked", "threads", "cores", "jobs", "each"),
    [(2, 0, 5, 2, 2), (2, 1, 5, 2, 1), (0, 0, 2, 3, 1), (0, 0, 8, 3, 2), (0, 0, 1, 1, 0), (0, 2, 8, 1, 2)],
)
def test_trainings_at_once_share_out_the_cores(
    asked: int, threads: int, cores: int, jobs: int, each: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[tuple[int, list[int]]] = []

    def begin(wanted: list[fan_out.Training], *, jobs: int, **_: object) -> None:
        together.append((jobs, [w.config.threads for w in wanted]))
        raise KeyboardInterrupt

    def begin_alone(config: Config, *_: object, **__: object) -> None:
        together.append((1, [config.threads]))
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[run_study.__module__], "train_together", begin)
    monkeypatch.setattr(fan_out, "train", begin_alone)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    with pytest.raises(KeyboardInterrupt):
        run_study(replace(CONFIG, threads=threads), tmp_path / "s", jobs=asked)
    assert together == [(jobs, [each] * (1 if jobs == 1 else 3))]


@pytest.mark.usefixtures("no_figures")
def test_trained_at_once_or_one_after_another_is_the_same(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches runs at once of other settings than those that the study then reads. (Processes: test_fan_out.)"""

    def here(work, items, **_: object) -> dict[int, str]:
        for item in items:
            work(item)
        return {}

    monkeypatch.setattr(fan_out, "fan_out", here)
    assert cli.run(args(tmp_path / "s", "--jobs", "3", "--threads", "1")) == 0
    one, other = read_json(tmp_path / "s" / "summary.json"), read_json(done / "summary.json")
    for key in ("dial", "freezing", "verdict"):
        assert one[key] == other[key]


def test_an_error_in_one_thread_ends_the_others() -> None:
    """They end where they next report, and the caller gets the error; nothing that waits is begun."""
    begun, heard = threading.Event(), []
    at_once = Threads(2, heard.append)

    def endless() -> None:
        begun.set()
        while True:
            at_once.report(Stage("x", 0, 1))
            time.sleep(0.001)

    def fails() -> None:
        begun.wait(10)
        raise FloatingPointError("not finite")

    with pytest.raises(FloatingPointError, match="not finite"):
        at_once([endless, fails, lambda: pytest.fail("begun")])
    assert heard
    assert Threads(3, heard.append)([lambda i=i: i for i in range(7)]) == list(range(7))
