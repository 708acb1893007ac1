"""Environment steps a second of the batched samplers and of Gymnasium's vector environments; a meta-iteration's time.

    python benchmarks/rl_sampling.py --out results/rl_sampling.json

The work is the same: a policy of two hidden layers acts in the same environments, one call of the policy a step. Each
way is warmed up, then timed `--rounds` times, the ways taking turns; medians are reported, and the ratio of each round.
The meta-iteration is the one of the preset for a CPU: sampling, the inner step, and the trust-region step, apart.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gymnasium
import mujoco
import numpy as np
import torch

from innerloop.core.functional import slow_weights
from innerloop.core.random import generator_for
from innerloop.rl import build, cheetah
from innerloop.rl.catalogue import ENVIRONMENTS, find
from innerloop.rl.policy import split_output
from innerloop.rl.presets import own_settings
from innerloop.rl.sampling import collect, noise_of, sample
from innerloop.rl.trpo import trust_region_step
from innerloop.runs import environment

NAMES = tuple(e.name for e in ENVIRONMENTS if e.published)


class Walk(gymnasium.Env[np.ndarray, np.ndarray]):
    """2D-Navigation by itself, in NumPy."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """At the origin, a goal drawn."""
        super().reset(seed=seed)
        self.goal = self.np_random.uniform(-0.5, 0.5, 2).astype(np.float32)
        self.place = np.zeros(2, np.float32)
        return self.place, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step."""
        self.place = self.place + np.minimum(np.maximum(action, np.float32(-0.1)), np.float32(0.1))
        away = self.place - self.goal
        return self.place, -math.sqrt(away[0] * away[0] + away[1] * away[1]), bool((abs(away) < 0.01).all()), False, {}


class Run(gymnasium.Env[np.ndarray, np.ndarray]):
    """One half-cheetah by MuJoCo's step function, running forwards."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (20,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (6,), np.float32)

    def __init__(self) -> None:
        self.model = cheetah.model()
        self.data = mujoco.MjData(self.model)

    def state(self) -> np.ndarray:
        """Time, positions, velocities."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    def reset(self, *, seed: int | None = None, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """At rest, with noise."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] += self.np_random.uniform(-0.1, 0.1, 9)
        self.data.qvel[:] = 0.1 * self.np_random.standard_normal(9)
        return cheetah.observation(self.state(), torso=True), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step."""
        before, cut = self.state(), np.clip(action.astype(np.float64), -1, 1)
        self.data.ctrl[:] = cut
        mujoco.mj_step(self.model, self.data, cheetah.SUBSTEPS)
        after = self.state()
        earned = cheetah.reward("direction", np.ones(1), before, after, cut)
        return cheetah.observation(after, torso=True), float(earned), False, False, {}


def batched(name: str, tasks: int, rollouts: int) -> Callable[[], int]:
    """All rollouts of all tasks in one call a step; gives the environment steps taken (those behind an end are not)."""
    config = own_settings(find(name))
    env = build.simulator(config)
    policy = build.policy(config, env)
    where = env.sample_tasks(tasks, generator_for(0, "tasks"))

    def run() -> int:
        found = sample(policy, slow_weights(policy), {}, env, where, rollouts, generator_for(0, "rollouts"))
        return int(found.alive.sum())

    return run


def vector(name: str, kind: str, envs: int, horizon: int) -> Callable[[], int]:
    """`envs` Gymnasium environments in step, with one call of the policy a step."""
    config = own_settings(find(name))
    policy = build.policy(config, build.simulator(config))
    many = [Walk if name == "navigation" else Run] * envs
    made = gymnasium.vector.SyncVectorEnv(many) if kind == "sync" else gymnasium.vector.AsyncVectorEnv(many)

    @torch.no_grad()
    def run() -> int:
        seen, _ = made.reset(seed=0)
        noise = generator_for(0, "noise")
        for _ in range(horizon):
            mean, log_std = split_output(policy(torch.as_tensor(np.asarray(seen), dtype=torch.float32)))
            action = mean + log_std.exp() * torch.randn(mean.shape, generator=noise)
            seen, *_ = made.step(action.numpy())
        return envs * horizon

    return run


def rates(ways: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Steps a second of each way in each round."""
    for run in ways.values():
        run()
    out: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            start = time.perf_counter()
            steps = run()
            out[name].append(steps / (time.perf_counter() - start))
    return out


def meta_iteration(name: str, method: str, rounds: int) -> dict[str, float]:
    """Median seconds of sampling, of the inner step (with baseline and advantages), and of the outer step."""
    config = replace(own_settings(find(name)), method=cast(Any, method))
    env = build.simulator(config)
    policy = build.policy(config, env)
    learner, slow = build.learner(config, policy), slow_weights(policy)
    sampling, inner, outer = [], [], []
    for i in range(rounds + 1):
        tasks = env.sample_tasks(config.meta_batch, generator_for(0, "tasks", i))
        start = time.perf_counter()
        found = collect(learner, slow, env, tasks, config, noise_of(config, i))
        middle = time.perf_counter()
        trust_region_step(learner, slow, found.data, config.trpo, curvature=found.curvature)
        sampling.append(middle - start - found.seconds_adapting)
        inner.append(found.seconds_adapting)
        outer.append(time.perf_counter() - middle)
    parts = {"sampling": sampling, "inner": inner, "outer": outer}
    return {name: statistics.median(seconds[1:]) for name, seconds in parts.items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--envs", nargs="*", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--rollouts", type=int, default=20)
    parser.add_argument(
        "--horizon", type=int, default=50, help="of the vector environments, whose rate is the same at any"
    )
    parser.add_argument("--no-outer", action="store_true", help="leave out the meta-iterations")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    result: dict[str, Any] = {"environment": environment(), "settings": {**vars(asked), "out": None}, "rows": []}
    for name in asked.envs:
        ways = {
            "innerloop": batched(name, asked.tasks, asked.rollouts),
            "SyncVectorEnv(20)": vector(name, "sync", 20, asked.horizon),
            "AsyncVectorEnv(2)": vector(name, "async", 2, asked.horizon),
            "AsyncVectorEnv(8)": vector(name, "async", 8, asked.horizon),
        }
        found = rates(ways, asked.rounds)
        row: dict[str, Any] = {"env": name, "steps_per_second": {k: statistics.median(v) for k, v in found.items()}}
        row["times_faster"] = {
            k: sorted(a / b for a, b in zip(found["innerloop"], v, strict=True))
            for k, v in found.items()
            if k != "innerloop"
        }
        if not asked.no_outer:
            row["seconds"] = {m: meta_iteration(name, m, asked.rounds) for m in ("maml", "anil")}
        result["rows"].append(row)
        print(json.dumps(row, indent=2), flush=True)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
