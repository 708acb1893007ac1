"""`reproduce rl-baselines` in miniature."""

from pathlib import Path
from typing import Any

import pytest
import torch

from innerloop import cli
from innerloop.core.statistics import over_episodes
from innerloop.rl import setup
from innerloop.rl.meta_test import meta_test, random_search
from innerloop.runs import read_json
from innerloop.studies import rl_baselines
from innerloop.studies.rl_bench import RlBench

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
    bench = RlBench(("navigation",), "smoke", out, seeds=(0, 1))
    for index, seed in enumerate((0, 1)):
        both = bench.trained("navigation", "multitask", seed)
        env, config, policy = both.environment, both.config, both.policy
        first = {
            n: w.detach() for n, w in setup.policy(bench.config("navigation", "maml", seed), env).named_parameters()
        }
        expected = {
            "multitask, fine-tuned": meta_test(policy, both.slow, env, config, blocks="all"),
            "random weights, trained": meta_test(policy, first, env, config, blocks="all"),
            "random search": random_search(policy, first, env, config),
            "MAML": bench.returns("navigation", "maml", seed),
            "ANIL": bench.returns("navigation", "anil", seed),
        }
        for name, found in expected.items():
            for step, word in enumerate(("0 steps", "1 step", "2 steps")):
                value = rows[f"{name}, {word}"][index]
                assert value["mean"] == pytest.approx(over_episodes(found.values[step]).mean, abs=1e-6), (name, step)
        told = bench.trained("navigation", "oracle", seed)
        alone = meta_test(told.policy, told.slow, told.environment, told.config)
        assert rows["oracle, 0 steps"][index]["mean"] == pytest.approx(over_episodes(alone.values[0]).mean, abs=1e-6)
        assert told.slow["hidden1.weight"].shape[1] == both.slow["hidden1.weight"].shape[1] + 2


def test_claims_hold_and_fail_where_they_should(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The baselines' returns and the oracle's put above and below MAML's and ANIL's."""
    bench = RlBench(("navigation",), "smoke", out, seeds=(0, 1))
    plain = rl_baselines._ways(bench, "navigation")

    def outcome(**added: float) -> list[bool | None]:
        def ways(*_: object) -> dict[str, Any]:
            def moved(get: Any, by: float) -> Any:
                def returns(seed: int) -> Any:
                    found = get(seed)
                    return type(found)(torch.zeros_like(found.values) + by, found.tasks)

                return returns

            return {n: moved(get, added.get(n.split(",")[0].replace(" ", "_"), 0.0)) for n, get in plain.items()}

        monkeypatch.setattr(rl_baselines, "_ways", ways)
        return [c.holds for c in rl_baselines.rl_baselines(bench).claims]

    assert outcome(oracle=3.0, MAML=2.0, ANIL=1.0) == [True, True, True, True]
    assert outcome(oracle=1.5, MAML=2.0, ANIL=1.0) == [True, False, True, True]
    for name in ("multitask", "random_weights", "random_search"):
        assert outcome(oracle=3.0, MAML=2.0, ANIL=1.0, **{name: 1.5}) == [True, True, False, True]
