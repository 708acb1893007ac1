"""Whole runs in small: resumed equals uninterrupted, meta-test, baselines."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from innerloop.core.functional import slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.rl import build
from innerloop.rl.cheetah import VELOCITY
from innerloop.rl.config import Config, Inner, MetaTest, Policy, Validation
from innerloop.rl.meta_test import meta_test, random_search
from innerloop.rl.methods import METHODS, NAMES
from innerloop.rl.navigation import NAVIGATION, Navigation
from innerloop.rl.optional import need
from innerloop.rl.ppo import Ppo
from innerloop.rl.presets import PRESETS, preset
from innerloop.rl.sampling import advantages, collect, examples, noise_of, sample
from innerloop.rl.train import Progress, load_run, train, validation_return
from innerloop.rl.trpo import Trpo, log_probability_loss, ratio_loss
from innerloop.runs import RunError, RunFolder
from innerloop.studies.rl_lab import RlLab
from innerloop.training import Interrupted
from naming import names
from planting import plants
from tiny import assert_same

SMALL = Config(
    horizon=5,
    policy=Policy(hidden=(6, 5)),
    iterations=4,
    meta_batch=3,
    rollouts=4,
    trpo=Trpo(curvature_rollouts=2, cg_iterations=4),
    validation=Validation(every=2, tasks=3),
    test=MetaTest(tasks=4, rollouts=3, steps=2),
)
CLOCKS = ("seconds", "seconds_sampling", "seconds_adapting", "seconds_optimising", "seconds_of_cpu")


def without_clocks(path: Path) -> None:
    """Leave out what no two runs share, so that folders can be compared."""
    rows = [{k: v for k, v in r.items() if k not in CLOCKS} for r in RunFolder(path).metrics]
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def stop_at(step: int) -> Callable[[Progress], None]:
    return lambda p: signal.raise_signal(signal.SIGINT) if p.step == step else None


@pytest.mark.parametrize(
    ("method", "at", "outer"),
    [("maml", 1, "trpo"), ("anil", 2, "trpo"), ("multitask", 3, "trpo"), ("oracle", 1, "trpo"), ("anil", 1, "ppo")],
)
def test_resumed_after_ctrl_c_equals_uninterrupted(method: str, at: int, outer: str, tmp_path: Path) -> None:
    config = replace(SMALL, method=method, outer=outer)
    train(config, tmp_path / "whole")
    with pytest.raises(Interrupted, match=names(f"step {at}", "--resume", "--out", tmp_path / "cut")):
        train(config, tmp_path / "cut", report=stop_at(at))
    assert RunFolder(tmp_path / "cut").load("last").step == at
    train(config, tmp_path / "cut", resume=True)
    for name in ("whole", "cut"):
        without_clocks(tmp_path / name)
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert RunFolder(tmp_path / "cut").summary["steps"] == 4
    with pytest.raises(RunError, match=names(tmp_path / "cut", "innerloop rl evaluate", "--out")):
        train(config, tmp_path / "cut", resume=True)


def test_a_run_begun_before_a_setting_came_is_resumed(tmp_path: Path) -> None:
    """Its default is what that run was made with; any other value is another run."""
    with pytest.raises(Interrupted):
        train(SMALL, tmp_path / "r", report=stop_at(1))
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    del config["outer"], config["ppo"]
    (tmp_path / "r" / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=names(tmp_path / "r", "outer", "'trpo'", "'ppo'")):
        train(replace(SMALL, outer="ppo"), tmp_path / "r", resume=True)
    assert train(SMALL, tmp_path / "r", resume=True).finished


def test_seeds_reproduce_and_differ(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        train(replace(SMALL, seed=seed, iterations=2), tmp_path / name)
    a, b = (RunFolder(tmp_path / n).load("last").weights for n in "ab")
    assert not torch.equal(a["head.weight"], b["head.weight"])


def test_the_best_checkpoint_is_that_of_the_best_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over an interruption, after which nothing better comes."""
    found: list[dict[str, torch.Tensor]] = []

    def validated(_policy: object, slow: dict[str, torch.Tensor], *_: object) -> float:
        found.append({n: w.detach().clone() for n, w in slow.items()})
        return (-5.0, -3.0, -4.0, -3.5)[len(found) - 1]

    monkeypatch.setattr("innerloop.rl.train.validation_return", validated)
    config = replace(SMALL, validation=Validation(every=1, tasks=2))
    with pytest.raises(Interrupted):
        train(config, tmp_path / "r", report=stop_at(3))
    folder = train(config, tmp_path / "r", resume=True)
    assert (folder.summary["best_step"], folder.summary["best_validation"]) == (2, -3.0)
    for which, weights in (("best", found[1]), ("last", found[3])):
        policy = load_run(tmp_path / "r", which)[1]
        assert all(torch.equal(p, weights[n]) for n, p in policy.named_parameters())
    assert not torch.equal(found[1]["head.weight"], found[3]["head.weight"])


def test_a_row_says_what_happened(tmp_path: Path) -> None:
    folder = train(SMALL, tmp_path / "r")
    rows = folder.metrics
    assert [r["step"] for r in rows] == [1, 2, 3, 4]
    for r in rows:
        assert r["kl"] <= SMALL.trpo.max_kl
        assert r["accepted"] is (r["loss_after"] < r["loss_before"])
        assert 0 < r["environment_steps"] <= 3 * 4 * 5 * 2
        assert r["return_before"] < 0
        parts = [r[f"seconds_{part}"] for part in ("sampling", "adapting", "optimising")]
        assert min(parts) > 0
    assert sum(sum(r[k] for k in CLOCKS[1:4]) for r in rows) < rows[-1]["seconds"]
    assert [r["step"] for r in rows if "validation" in r] == [2, 4]
    config, policy, _ = load_run(tmp_path / "r", "last")
    assert config == SMALL
    last = folder.load("last").weights
    assert all(torch.equal(p, last[n]) for n, p in policy.named_parameters())


def test_ppo_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    """With its settings: at a rate of almost nothing the weights stay; not so the trust region's."""
    folder = train(replace(SMALL, outer="ppo", ppo=Ppo(lr=1e-7, epochs=3)), tmp_path / "r")
    assert [(r["tries"], r["accepted"]) for r in folder.metrics] == [(3, True)] * 4
    first = dict(build.policy(SMALL, build.simulator(SMALL)).named_parameters())
    last = folder.load("last")
    moved = max(float((last.weights[n] - p.detach()).abs().max()) for n, p in first.items())
    assert 0 < moved < 2e-6
    assert {k.split("/")[0] for k in last.optimizer} == {"step", "exp_avg", "exp_avg_sq"}
    assert Config.from_json(folder.config).ppo == Ppo(lr=1e-7, epochs=3)


def test_the_first_return_is_that_of_the_untrained_policy(tmp_path: Path) -> None:
    folder = train(replace(SMALL, iterations=1), tmp_path / "r")
    env = build.simulator(SMALL)
    policy = build.policy(SMALL, env)
    tasks = env.sample_tasks(3, generator_for(0, "tasks", 0))
    found = collect(build.learner(SMALL, policy), slow_weights(policy), env, tasks, SMALL, noise_of(SMALL, 0))
    assert folder.metrics[0]["return_before"] == pytest.approx(float(found.returns[0].mean()), rel=1e-6)
    assert folder.metrics[0]["return_after"] == pytest.approx(float(found.returns[1].mean()), rel=1e-6)
    assert found.curvature.query.x.shape[1] * 2 == found.data.query.x.shape[1]


def test_the_settings_reach_the_policy_and_its_inner_loop() -> None:
    config = replace(
        SMALL,
        method="fomaml",
        precision="float64",
        policy=Policy(hidden=(6,), activation="tanh", log_std=-0.7),
        inner=Inner(lr=0.3, loss="log_probability"),
    )
    policy = build.policy(config, build.simulator(config))
    assert {p.dtype for p in policy.parameters()} == {torch.float64}
    weights = slow_weights(policy)
    assert weights["head.log_std"].tolist() == pytest.approx([-0.7, -0.7])
    assert weights["hidden1.weight"].shape == (6, 2)
    learner = build.learner(config, policy)
    assert learner.inner == InnerLoop(blocks="all", steps=1, lr=0.3, first_order=True)
    assert learner.loss is log_probability_loss
    assert build.learner(SMALL, policy).loss is ratio_loss
    table = {"maml": "all", "fomaml": "all", "anil": "head", "boil": "body", "multitask": "none", "oracle": "none"}
    assert list(table) == [m.name for m in METHODS]
    for method, blocks in table.items():
        inner = build.learner(replace(SMALL, method=method), policy).inner
        assert (inner.blocks, inner.first_order) == (blocks, method == "fomaml")
        assert inner.steps == (0 if blocks == "none" else 1)


def test_examples_have_the_advantages_of_the_config() -> None:
    """Discount and λ not in each other's place, nor left at their defaults; actions and what is alive beside them."""
    config = replace(SMALL, gamma=0.9, lam=0.3)
    env = build.simulator(config)
    policy = build.policy(config, env)
    slow = slow_weights(policy)
    found = sample(policy, slow, {}, env, env.sample_tasks(3, generator_for(0)), 4, generator_for(1))
    got = examples(build.learner(config, policy), slow, {}, found, config).y
    expected = advantages(found, 0.9, 0.3).float().flatten(1)
    assert torch.equal(got[..., 3], expected)
    assert not torch.allclose(expected, advantages(found, 0.3, 0.9).float().flatten(1), atol=0.01)
    assert torch.equal(got[..., :2], found.actions.flatten(1, 2))
    assert torch.equal(got[..., 4] == 1, found.alive.flatten(1))


@plants(
    "the same noise before and after",
    "rl.sampling:generator_for",
    lambda right: lambda seed, name, iteration, phase: right(seed, name, iteration),
)
def test_each_phase_and_iteration_has_noise_of_its_own() -> None:
    """At inner rate 0 the policy is the same before and after; only the noise can tell the first actions apart."""
    config = replace(SMALL, inner=Inner(lr=0.0))
    env = build.simulator(config)
    policy = build.policy(config, env)
    slow = slow_weights(policy)
    tasks = env.sample_tasks(3, generator_for(0))
    drawn = [
        collect(build.learner(config, policy), slow, env, tasks, config, noise_of(config, i)).data for i in (0, 0, 1)
    ]
    before, again, other = (d.support[0].y[:, 0, :2] for d in drawn)
    assert torch.equal(before, again)
    assert float((before - other).abs().min()) > 1e-4
    assert float((before - drawn[0].query.y[:, 0, :2]).abs().min()) > 1e-4


@plants(
    "the same tasks in every meta-iteration",
    "rl.train:generator_for",
    lambda right: lambda seed, *path: right(seed, path[0], 0),
)
def test_each_iteration_has_tasks_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training on the same few tasks for ever would look like any other run in its metrics."""
    drawn: list[torch.Tensor] = []
    right = Navigation.sample_tasks

    def recorded(self: Navigation, n: int, generator: torch.Generator) -> torch.Tensor:
        tasks = right(self, n, generator)
        drawn.append(tasks)
        return tasks

    monkeypatch.setattr(Navigation, "sample_tasks", recorded)
    train(replace(SMALL, iterations=3, validation=Validation(every=3, tasks=7)), tmp_path / "r")
    seen = [t for t in drawn if len(t) == SMALL.meta_batch]
    assert len(seen) == 3
    assert len({float(v) for t in seen for v in t.flatten()}) == 3 * seen[0].numel()


@plants(
    "the same noise at each test step",
    "rl.meta_test:generator_for",
    lambda right: lambda seed, *path: right(seed, *path[:1]),
)
def test_each_step_of_a_meta_test_has_noise_of_its_own() -> None:
    """At inner rate 0 the policy stays as it is; the same noise would give the same actions and returns again."""
    config = replace(SMALL, inner=Inner(lr=0.0))
    env = build.simulator(config)
    policy = build.policy(config, env)
    seen: list[torch.Tensor] = []
    found = meta_test(policy, slow_weights(policy), env, config, look=lambda _m, t, _f: seen.append(t.actions[:, :, 0]))
    assert len(seen) == 3
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float((seen[a] - seen[b]).abs().min()) > 1e-4
        assert not torch.equal(found.values[a], found.values[b])


def test_the_action_scale_counts_wherever_the_policy_acts() -> None:
    """Scaled to nothing, the point stays at the origin: each return is 5 times the distance to the goal."""
    config = replace(SMALL, action_scale=1e-12)
    env = build.simulator(config)
    policy = build.policy(config, env)
    slow = {n: p.detach() for n, p in policy.named_parameters()}
    goals = env.sample_tasks(3, generator_for(0))
    for returns in collect(build.learner(config, policy), slow, env, goals, config, noise_of(config, 0)).returns:
        assert torch.allclose(returns, -5 * goals.norm(dim=1), atol=1e-5)
    for found in (meta_test(policy, slow, env, config), random_search(policy, slow, env, config)):
        assert torch.allclose(found.values, -5 * found.tasks.norm(dim=1).expand(3, -1), atol=1e-5)


def test_validation_takes_the_steps_of_training() -> None:
    """Not the rate that meta-test gives to later steps."""
    config = replace(SMALL, inner=Inner(steps=2))
    env = build.simulator(config)
    policy = build.policy(config, env)
    slow = slow_weights(policy)
    plain = validation_return(policy, slow, env, config)
    assert validation_return(policy, slow, env, replace(config, test=replace(config.test, later_lr=5.0))) == plain
    assert validation_return(policy, slow, env, replace(config, inner=Inner(steps=1))) != plain


def test_meta_test_is_paired_and_learns_nothing_without_blocks() -> None:
    env = build.simulator(SMALL)
    policy = build.policy(SMALL, env)
    slow = slow_weights(policy)
    one, again = (meta_test(policy, slow, env, SMALL) for _ in range(2))
    assert torch.equal(one.values, again.values)
    assert one.values.shape == (3, 4)
    frozen = meta_test(policy, slow, env, SMALL, blocks="none")
    head = meta_test(policy, slow, env, SMALL, blocks="head")
    assert torch.equal(one.values[0], frozen.values[0])
    assert torch.equal(one.tasks, head.tasks)
    assert not torch.equal(one.values[1], head.values[1])
    other = meta_test(policy, slow, env, SMALL, settings=replace(SMALL.test, seed=5))
    assert not torch.equal(one.tasks, other.tasks)
    row = one.to_json()
    assert row["steps"][1]["mean"] == pytest.approx(float(one.values[1].mean()), rel=1e-6)
    spread = float(one.values[1].double().std())
    assert row["steps"][1]["ci95"] == pytest.approx(1.96 * spread / 4**0.5)


@plants(
    "each step learns from the slow weights",
    "rl.trpo:adapt",
    lambda right: lambda *given, start=None, **more: right(*given, **more),
)
def test_the_rate_of_later_steps() -> None:
    env = build.simulator(SMALL)
    policy = build.policy(SMALL, env)
    seen: list[dict[str, torch.Tensor]] = []
    settings = replace(SMALL.test, later_lr=1e-12)
    meta_test(
        policy, slow_weights(policy), env, SMALL, settings=settings, look=lambda _m, _t, fast: seen.append(dict(fast))
    )
    assert [len(f) > 0 for f in seen] == [False, True, True]
    first = dict(policy.named_parameters())["head.bias"].detach()
    assert float((seen[1]["head.bias"] - first).abs().max()) > 1e-4
    assert torch.allclose(seen[1]["head.bias"], seen[2]["head.bias"], atol=1e-9)


def test_log_std_adapts_unless_told_not_to() -> None:
    for adapts in (True, False):
        config = replace(SMALL, inner=Inner(adapt_log_std=adapts), method="anil")
        env = build.simulator(config)
        policy = build.policy(config, env)
        learner = build.learner(config, policy)
        found = collect(
            learner, slow_weights(policy), env, env.sample_tasks(3, generator_for(0)), config, noise_of(config, 0)
        )
        fast = learner.adapt(slow_weights(policy), found.data.support)
        moved = (fast["head.log_std"] - dict(policy.named_parameters())["head.log_std"]).detach().abs().max()
        assert bool(moved > 0) is adapts
        assert bool((fast["head.bias"] - dict(policy.named_parameters())["head.bias"]).detach().abs().max() > 0)


def test_random_search_keeps_the_best_and_is_paired() -> None:
    env = build.simulator(SMALL)
    policy = build.policy(SMALL, env)
    slow = {n: p.detach() for n, p in policy.named_parameters()}
    found = random_search(policy, slow, env, SMALL)
    assert torch.allclose(found.values[0], meta_test(policy, slow, env, SMALL).values[0], atol=1e-5)
    assert not torch.equal(found.values[0], found.values[1])
    still = random_search(policy, slow, env, SMALL, spread=0.0)  # nothing else to be found
    assert float((still.values[1] - still.values[0]).abs().max()) < 1.0


def test_random_search_without_noise_never_gets_worse() -> None:
    """Catches: a worse policy taken, none taken, the worst of those tried."""
    config = replace(SMALL, policy=Policy(hidden=(6, 5), log_std=-12.0))
    env = build.simulator(config)
    policy = build.policy(config, env)
    slow = {n: p.detach() for n, p in policy.named_parameters()}
    settings = MetaTest(tasks=6, rollouts=12, steps=4)
    gain = random_search(policy, slow, env, config, settings=settings).values.diff(dim=0)
    assert float(gain.min()) > -1e-3
    assert float((gain > 1e-3).float().mean()) > 0.4  # three policies a step, half of which are better at first


@pytest.mark.parametrize("p", PRESETS, ids=lambda p: p.name)
def test_presets(p: object) -> None:
    name = str(getattr(p, "name", ""))
    for method in NAMES:
        config = preset(name, method)
        assert config.method == method
        assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    config = preset(name)
    year2020 = name.endswith("2020")
    assert config.horizon == (200 if "cheetah" in name and not year2020 else 100)
    assert config.policy == (Policy((64, 64), "tanh") if year2020 else Policy((100, 100), "relu"))
    assert (config.inner.lr, config.rollouts, config.gamma, config.lam) == (0.1, 20, 0.99, 1.0)
    assert (config.trpo.max_kl, config.trpo.cg_iterations, config.trpo.damping) == (0.01, 10, 1e-5)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InnerloopError, match=names("'walker'", *(p.name for p in PRESETS))):
        preset("walker")
    with pytest.raises(InnerloopError, match=names("trpo.curvature_rollouts", 9, "rollouts", 4)):
        replace(SMALL, trpo=Trpo(curvature_rollouts=9))
    assert replace(SMALL, trpo=Trpo(curvature_rollouts=9), outer="ppo").outer == "ppo"
    with pytest.raises(InnerloopError, match=names("inner.steps", 1, 0, "multitask")):
        Inner(steps=0)
    with pytest.raises(InnerloopError, match=names("gamma", 1, 1.5)):
        replace(SMALL, gamma=1.5)
    with pytest.raises(InnerloopError, match=names("trpo", "--outer ppo")):
        replace(SMALL, ppo=Ppo(epochs=1))
    with pytest.raises(InnerloopError, match=names("innerloop evaluate", "innerloop analyse")):
        Config.from_json({"method": "maml"})
    with pytest.raises(InnerloopError, match=names("colour")):
        Config.from_json({**SMALL.to_json(), "colour": 1})


def test_without_the_package_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(InnerloopError, match=names("'mujoco'", "pip install 'innerloop[rl]'")):
        need("mujoco")


def test_returns_that_are_not_finite_are_said() -> None:
    """Not: 'float values are not JSON compliant', once the file is written."""
    env = build.simulator(SMALL)
    policy = build.policy(SMALL, env)
    settings = replace(SMALL.test, later_lr=1e30)
    with pytest.raises(FloatingPointError, match=names("2 inner steps", "inner rate")):
        meta_test(policy, slow_weights(policy), env, SMALL, settings=settings)


def test_a_package_that_lacks_is_said_before_a_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the same command works once it is installed; and before the hours of the other environments."""
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(InnerloopError, match=names("'gymnasium'", "pip install 'innerloop[rl]'")):
        train(replace(SMALL, env="cheetah-velocity"), tmp_path / "r")
    lab = RlLab((NAVIGATION, VELOCITY), "smoke", tmp_path)
    with pytest.raises(InnerloopError, match=names("'gymnasium'", "pip install 'innerloop[rl]'")):
        lab.train(NAVIGATION, "maml", 0)
    assert not list(tmp_path.iterdir())


def test_a_package_that_fails_at_its_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MuJoCo does where MUJOCO_GL asks for what is not there."""
    (tmp_path / "fails_here.py").write_text("raise AttributeError('no attribute glGetError')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(InnerloopError, match=names("'fails_here'", "AttributeError", "glGetError", "MUJOCO_GL=osmesa")):
        need("fails_here")
    monkeypatch.delenv("MUJOCO_GL")
    with pytest.raises(InnerloopError, match=names("'fails_here'", "glGetError")) as caught:
        need("fails_here")
    assert "MUJOCO_GL" not in str(caught.value)


@pytest.mark.slow
def test_cheetah_trains_and_tests(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    for name in ("cheetah-direction", "cheetah-velocity"):
        config = replace(SMALL, env=name, horizon=4, iterations=2, threads=1)
        train(config, tmp_path / name)
        config, policy, env = load_run(tmp_path / name)
        assert meta_test(policy, slow_weights(policy), env, config).values.shape == (3, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("outer", "gain"), [("trpo", 4.0), ("ppo", 1.0)])
def test_navigation_learns(outer: str, gain: float, tmp_path: Path) -> None:
    """A small policy, small batches, 12 iterations: well above where it starts, and better after the inner step."""
    config = replace(
        preset("navigation-cpu"),
        outer=outer,
        policy=Policy(hidden=(32,)),
        iterations=12,
        meta_batch=10,
        rollouts=10,
        trpo=Trpo(curvature_rollouts=4),
        validation=Validation(every=12, tasks=20),
        horizon=60,
    )
    rows = train(config, tmp_path / "r").metrics
    assert rows[-1]["return_after"] > rows[0]["return_after"] + 15
    assert rows[-1]["return_after"] > rows[-1]["return_before"] + gain
