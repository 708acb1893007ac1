"""`reproduce rl-baselines` in miniature."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from innerloop import cli
from innerloop.core.statistics import over_episodes
from innerloop.rl import build
from innerloop.rl.meta_test import meta_test, random_search
from innerloop.rl.navigation import NAVIGATION
from innerloop.runs import read_json
from innerloop.studies import rl_baselines
from innerloop.studies.rl_lab import RlLab

ARGS = ["--env", "navigation", "--budget", "smoke", "--seeds", "0", "1"]
NAMES = ("MAML", "ANIL", "multitask, fine-tuned", "random weights, trained", "random search")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("baselines")
    assert cli.run(["reproduce", "rl-baselines", *ARGS, "--out", str(where)]) == 0
    return where


@pytest.fixture(scope="module")
def result(out: Path) -> dict[str, Any]:
    return read_json(out / "rl-navigation-smoke" / "rl-baselines" / "result.json")


def test_each_way_has_its_steps_and_the_oracle_none(result: dict[str, Any]) -> None:
    labels = [r["label"].removeprefix("2D-Navigation: ") for r in result["rows"]]
    steps = ("0 steps", "1 step", "2 steps")
    assert labels == ["oracle, 0 steps", *(f"{n}, {s}" for n in NAMES for s in steps)]
    assert all(len(r["values"]) == 2 for r in result["rows"])
    lines = {s["name"]: s for s in result["drawing"]["series"]}
    assert list(lines) == ["oracle", *NAMES]
    assert {tuple(s["x"]) for s in lines.values()} == {("0", "1", "2")}
    assert len(set(lines["oracle"]["y"])) == 1


def test_each_row_is_that_of_its_policy_by_hand(out: Path, result: dict[str, Any]) -> None:
    """Catches: the weights of another run or seed, a body that stays frozen, search from trained weights."""
    rows = {r["label"].removeprefix("2D-Navigation: "): r["values"] for r in result["rows"]}
    lab = RlLab((NAVIGATION,), "smoke", out, seeds=(0, 1))
    for index, seed in enumerate((0, 1)):
        both = lab.trained(NAVIGATION, "multitask", seed)
        env, config, policy = both.environment, both.config, both.policy
        first = {n: w.detach() for n, w in build.policy(lab.config(NAVIGATION, "maml", seed), env).named_parameters()}
        expected = {
            "multitask, fine-tuned": meta_test(policy, both.slow, env, config, blocks="all"),
            "random weights, trained": meta_test(policy, first, env, config, blocks="all"),
            "random search": random_search(policy, first, env, config),
            "MAML": lab.returns(NAVIGATION, "maml", seed),
            "ANIL": lab.returns(NAVIGATION, "anil", seed),
        }
        for name, found in expected.items():
            for step, word in enumerate(("0 steps", "1 step", "2 steps")):
                value = rows[f"{name}, {word}"][index]
                assert value["mean"] == pytest.approx(over_episodes(found.values[step]).mean, abs=1e-6), (name, step)
        told = lab.trained(NAVIGATION, "oracle", seed)
        alone = meta_test(told.policy, told.slow, told.environment, told.config)
        assert rows["oracle, 0 steps"][index]["mean"] == pytest.approx(over_episodes(alone.values[0]).mean, abs=1e-6)
        assert told.slow["hidden1.weight"].shape[1] == both.slow["hidden1.weight"].shape[1] + 2


def test_claims_hold_and_fail_where_they_should(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The returns of both seeds put where the answer is known; where the seeds disagree more, there is none."""
    lab = RlLab((NAVIGATION,), "smoke", out, seeds=(0, 1))
    plain = rl_baselines._ways(lab, NAVIGATION)

    def outcome(lab: RlLab = lab, **means: tuple[float, float]) -> list[bool | None]:
        def ways(*_: object) -> dict[str, Any]:
            def put(get: Any, at: tuple[float, float]) -> Any:
                def returns(seed: int) -> Any:
                    found = get(seed)
                    return type(found)(torch.zeros_like(found.values) + at[seed], found.tasks)

                return returns

            return {n: put(get, means.get(n.split(",")[0].replace(" ", "_"), (0.0, 0.0))) for n, get in plain.items()}

        monkeypatch.setattr(rl_baselines, "_ways", ways)
        return [c.holds for c in rl_baselines.rl_baselines(lab).claims]

    high: dict[str, Any] = {"oracle": (3.0, 3.1), "MAML": (2.0, 2.1), "ANIL": (1.0, 1.1)}
    assert outcome(**high) == [True, True, True, True]
    assert outcome(**{**high, "oracle": (1.5, 1.5)}) == [True, False, True, True]
    for name in ("multitask", "random_weights", "random_search"):
        assert outcome(**high, **{name: (1.5, 1.5)}) == [True, True, False, True]
    # better by 0.5 on average, but by 2 with one seed and not at all (−1) with the other
    assert outcome(**high, multitask=(0.0, 3.1)) == [None, True, None, True]
    assert outcome(replace(lab, seeds=(0,)), **high) == [None] * 4
