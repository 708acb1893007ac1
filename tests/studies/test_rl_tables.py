"""`reproduce table2-rl` and `rl-features` in miniature."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from innerloop import cli
from innerloop.cli import reproduce
from innerloop.core.functional import block_names, forward
from innerloop.core.inner import adapt, with_steps
from innerloop.core.random import generator_for
from innerloop.core.statistics import over_episodes
from innerloop.report import drawing
from innerloop.report.reproduction import write_reproduction
from innerloop.rl import build
from innerloop.rl.cheetah import VELOCITY
from innerloop.rl.navigation import NAVIGATION
from innerloop.rl.sampling import Trajectories
from innerloop.rl.train import load_run
from innerloop.runs import RunError, read_json
from innerloop.studies import fan_out, rl_tables
from innerloop.studies.rl_lab import RlLab
from innerloop.studies.rl_tables import states

ARGS = ["--env", "navigation", "--budget", "smoke", "--seeds", "0", "1"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("rl")
    for name in ("table2-rl", "rl-features"):
        assert cli.run(["reproduce", name, *ARGS, "--out", str(where)]) == 0
    return where


def result(out: Path, name: str) -> dict[str, Any]:
    return read_json(out / "rl-navigation-smoke" / name / "result.json")


def lab(out: Path) -> RlLab:
    return RlLab((NAVIGATION,), "smoke", out, seeds=(0, 1))


def test_the_table_has_the_returns_of_its_runs_beside_the_paper_s(out: Path) -> None:
    rows = {r["label"]: r for r in result(out, "table2-rl")["rows"]}
    steps = ("0 steps", "1 step", "2 steps")
    assert list(rows) == [f"2D-Navigation, {m}, {s}" for m in ("MAML", "ANIL") for s in steps]
    assert [r["paper"] for r in rows.values()] == ["", "-20.3 ± 3.2", "", "", "-20.1 ± 2.3", ""]
    for method in ("maml", "anil"):
        for seed in (0, 1):
            path = out / "runs" / f"navigation-smoke-{method}-seed{seed}"
            assert cli.run(["rl", "evaluate", str(path)]) == 0
            tested = read_json(path / "eval.json")["evaluations"][-1]["steps"]
            for step, found in zip(steps, tested, strict=True):
                value = rows[f"2D-Navigation, {method.upper()}, {step}"]["values"][seed]
                assert value["mean"] == pytest.approx(found["mean"], abs=1e-6)
                assert value["ci95"] == pytest.approx(found["ci95"], abs=1e-6)
        assert set(rows[f"2D-Navigation, {method.upper()}, 1 step"]["measured"]) == {"training (min)"}


def test_all_runs_meet_the_same_tasks(out: Path) -> None:
    b = lab(out)
    found = [b.returns(NAVIGATION, m, s).tasks for m in ("maml", "anil") for s in (0, 1)]
    for tasks in found[1:]:
        torch.testing.assert_close(tasks, found[0])
    env = load_run(b.folder(NAVIGATION, "maml", 0).path)[2]
    for seed in (0, 1):  # and not those of the training
        trained_on = env.sample_tasks(2, generator_for(seed, "tasks", 0))
        assert float(torch.cdist(trained_on, found[0]).min()) > 1e-6


def test_nothing_frozen_is_the_method_and_all_frozen_is_no_step(out: Path) -> None:
    b = lab(out)
    rows = {r["label"]: r for r in result(out, "rl-features")["rows"]}
    for index, seed in enumerate((0, 1)):
        whole = b.returns(NAVIGATION, "maml", seed).values
        everything = rows["2D-Navigation: hidden1 hidden2 head adapts"]["values"][index]["mean"]
        assert everything == pytest.approx(over_episodes(whole[1]).mean, abs=1e-6)
    # with no step to take, the policy is the same before and after; only the noise of its actions differs
    run = b.trained(NAVIGATION, "maml", 0)
    still = b.returns(NAVIGATION, "maml", 0, ())
    assert still.values.shape == (2, run.config.test.tasks)
    nothing = rows["2D-Navigation: nothing adapts"]["values"][0]["mean"]
    assert nothing == pytest.approx(over_episodes(still.values[1]).mean, abs=1e-6)


def test_movement_and_similarity_are_those_of_one_step_by_hand(out: Path) -> None:
    """A slow loop over tasks and blocks."""
    b = lab(out)
    rows = {r["label"]: r for r in result(out, "rl-features")["rows"]}
    run = b.trained(NAVIGATION, "maml", 0)
    learner = build.learner(run.config, run.policy)
    one = with_steps(learner.inner, 1)
    names = block_names(run.policy)
    moved: dict[str, list[float]] = {n: [] for n in names}
    alike: dict[str, list[float]] = {n: [] for n in names}
    for e in states(run):
        with torch.no_grad():
            fast = adapt(run.policy, run.slow, e.support_x, e.support_y, one, loss=learner.loss)
        for i, name in enumerate(names):
            own = [n for n in fast if n.startswith(f"{name}.")]
            change = sum(float((fast[n][0] - run.slow[n]).double().square().sum()) for n in own) ** 0.5
            moved[name].append(change / sum(float(run.slow[n].double().square().sum()) for n in own) ** 0.5)
            part = run.policy[: i + 1]
            mine = {n: w for n, w in fast.items() if n.split(".")[0] in names[: i + 1]}
            with torch.no_grad():
                before = forward(part, run.slow, {}, e.query_x)[0].double()
                after = forward(part, run.slow, mine, e.query_x)[0].double()
            x, y = before - before.mean(0), after - after.mean(0)
            cross = (x.T @ y).square().sum()
            alike[name].append(float(cross / ((x.T @ x).norm() * (y.T @ y).norm())))
    for name in names:
        m = rows[f"2D-Navigation: movement of {name}"]["values"][0]["mean"]
        assert m == pytest.approx(sum(moved[name]) / len(moved[name]), rel=1e-4)
        c = rows[f"2D-Navigation: CKA of {name}"]["values"][0]["mean"]
        assert c == pytest.approx(sum(alike[name]) / len(alike[name]), rel=1e-4)


def test_states_behind_an_end_are_left_out(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trajectory of each task ends after 3 steps, the others go on to the horizon, 8."""
    plain = rl_tables.sample

    def cut(*args: Any, **options: Any) -> Trajectories:
        found = plain(*args, **options)
        alive = found.alive.clone()
        alive[:, 0, 3:] = False
        return replace(found, alive=alive, rewards=torch.where(alive, found.rewards, 0.0))

    monkeypatch.setattr(rl_tables, "sample", cut)
    run = lab(out).trained(NAVIGATION, "maml", 0)
    for e in states(run):
        assert e.support_x.shape[1] == 3 * 8
        assert e.query_x.shape[1] == 3 + 2 * 8
        assert bool((e.query_y[..., -1] == 1).all())


def test_anil_s_body_stands_still_in_a_frozen_test(out: Path) -> None:
    """With the head alone adapting, MAML's policy changes in nothing else."""
    run = lab(out).trained(NAVIGATION, "maml", 0)
    learner = build.learner(run.config, run.policy, blocks=("head",))
    e = next(states(run))
    fast = adapt(run.policy, run.slow, e.support_x, e.support_y, learner.inner, loss=learner.loss)
    assert {n.split(".")[0] for n in fast} == {"head"}


def test_results_that_are_there_are_not_made_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = out / "rl-navigation-smoke" / "table2-rl" / "result.json"
    before = file.stat().st_mtime_ns
    assert cli.run(["reproduce", "table2-rl", *ARGS, "--out", str(out)]) == 0
    assert file.stat().st_mtime_ns == before
    assert "ANIL does as well as MAML" in capsys.readouterr().out
    assert cli.run(["reproduce", "table2-rl", *ARGS, "--again", "--out", str(out)]) == 0
    assert file.stat().st_mtime_ns > before


def test_its_files_say_what_was_run(out: Path) -> None:
    folder = out / "rl-navigation-smoke" / "table2-rl"
    text = (folder / "table.md").read_text("utf-8")
    for said in ("horizon 8", "2 meta-iterations of 2 tasks", "seeds 0, 1", "interval over test tasks", "| tasks |"):
        assert said in text
    assert "outer steps" not in text
    with (folder / "table.csv").open(encoding="utf-8") as f:
        assert [r["unit"] for r in csv.DictReader(f)] == ["return"] * 6
    drawing = result(out, "table2-rl")["drawing"]
    assert [s["panel"] for s in drawing["series"]] == ["2D-Navigation"] * 2
    assert [s["x"] for s in drawing["series"]] == [[1, 2]] * 2


def test_panels_have_axes_of_their_own(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = result(out, "table2-rl")
    one = value["drawing"]["series"]
    value["drawing"]["series"] = [*one, *({**s, "panel": "another"} for s in one)]
    (tmp_path / "result.json").write_text(json.dumps(value), "utf-8")
    monkeypatch.setattr("innerloop.report.reproduction.png", drawing.png)
    write_reproduction(tmp_path)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    both = (tmp_path / "figure.svg").read_text("utf-8").count('id="axes_')
    alone = (out / "rl-navigation-smoke" / "table2-rl" / "figure.svg").read_text("utf-8").count('id="axes_')
    assert (both, alone) == (2, 1)


def test_a_single_seed_leaves_the_claim_open(out: Path) -> None:
    args = ["reproduce", "table2-rl", "--env", "navigation", "--budget", "smoke", "--seeds", "0", "--out", str(out)]
    assert cli.run(args) == 0
    assert result(out, "table2-rl")["claims"][0]["holds"] is None


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--env", "navigation", "navigation"], "each once, got navigation navigation"),
        (["--seeds", "1", "1"], "seeds must differ"),
    ],
)
def test_what_makes_no_sense_is_refused(args: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        reproduce.run(["table2-rl", *args, "--out", str(tmp_path)])


def test_a_run_of_another_configuration_is_not_taken_for_it(out: Path, tmp_path: Path) -> None:
    config = out / "runs" / "navigation-smoke-maml-seed0" / "config.json"
    place = tmp_path / "runs" / "navigation-smoke-maml-seed0"
    place.mkdir(parents=True)
    (place / "config.json").write_text(config.read_text("utf-8").replace('"iterations": 2', '"iterations": 3'), "utf-8")
    with pytest.raises(RunError, match="another configuration"):
        RlLab((NAVIGATION,), "smoke", tmp_path).train(NAVIGATION, "maml", 0)


def test_the_threads_asked_for_are_those_of_policy_and_simulator(tmp_path: Path) -> None:
    """Not those of the training, which was on one."""
    pytest.importorskip("mujoco")
    before = torch.get_num_threads()
    try:
        one = RlLab((VELOCITY,), "smoke", tmp_path, seeds=(0,))
        assert one.trained(VELOCITY, "anil", 0).config.threads == 1
        run = replace(one, threads=2).trained(VELOCITY, "anil", 0)
        assert torch.get_num_threads() == 2
        assert (run.config.threads, getattr(run.environment, "threads", None)) == (2, 2)
    finally:
        torch.set_num_threads(before)


def test_policies_that_train_at_once_are_the_runs_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches another method, seed, environment or number of threads; the table trains nothing by itself then."""

    def here(work, items, *, jobs: int, **_: object) -> dict[int, str]:
        assert jobs == 3
        for item in items:
            work(item)
        monkeypatch.setattr(fan_out, "train_policy", lambda *_, **__: pytest.fail("trained by the table"))
        return {}

    monkeypatch.setattr(fan_out, "fan_out", here)
    for name, jobs in (("one", "1"), ("three", "3")):
        assert cli.run(["reproduce", "table2-rl", *ARGS, "--jobs", jobs, "--out", str(tmp_path / name)]) == 0
    one, three = ([r["values"] for r in result(tmp_path / n, "table2-rl")["rows"]] for n in ("one", "three"))
    assert one == three
    assert len(one[0]) == 2
