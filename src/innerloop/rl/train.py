"""The outer loop over a whole meta-RL run: sample, adapt, sample, outer step; resumable bit for bit."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from innerloop.core.functional import slow_weights
from innerloop.core.random import generator_for
from innerloop.core.ranks import ALONE, Ranks, joined
from innerloop.core.threads import use_threads
from innerloop.rl import build
from innerloop.rl.catalogue import name_of
from innerloop.rl.config import Config
from innerloop.rl.environment import Environment, Simulator
from innerloop.rl.meta_test import meta_test
from innerloop.rl.methods import PolicyMethod
from innerloop.rl.methods import name_of as name_of_method
from innerloop.rl.ppo import proximal_step
from innerloop.rl.sampling import collect, noise_of
from innerloop.rl.trpo import trust_region_step
from innerloop.runs import RunError, RunFolder
from innerloop.runs.folder import Checkpoint, load_weights
from innerloop.training.loop import Job, Progress, run

_VALIDATION_SEED = 2_000_003


def train(
    config: Config,
    out: Path,
    *,
    env: Environment | None = None,
    method: PolicyMethod | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> RunFolder:
    """Meta-train as `config` says, into the run folder `out`.

    `env` and `method` take the place of those that `config` names. The run folder then records module:attribute of the
    environment, if a module holds it; if none does, and for a method that is not ours, only Python can continue with
    the run or test it, given the same value.

    The data of an iteration depends on the seed, the iteration and the weights alone, and the state of the outer step
    (TRPO has none, PPO that of Adam) is in the checkpoint, so that a resumed run ends with the same weights as an
    uninterrupted one (bit for bit with the same number of threads). Ctrl-C, SIGTERM and SIGHUP finish the running
    iteration, write a checkpoint and raise `Interrupted`.

    Under torchrun the processes split the tasks of each iteration and of validation: sampling, gradients, Fisher
    products. The result equals that of one process, to rounding.

    Raises RunError for a folder that may not be written to, FloatingPointError if returns or gradient are not finite
    (the last good checkpoint stays), ValueError if a package of the extra `rl` is needed and not there.
    """
    config = config if method is None else replace(config, method=name_of_method(method))
    with joined() as ranks:
        return _train(config, out, env, ranks, resume=resume, report=report)


def _train(
    config: Config,
    out: Path,
    env: Environment | None,
    ranks: Ranks,
    *,
    resume: bool,
    report: Callable[[Progress], None],
) -> RunFolder:
    use_threads(config.threads, stored=resume)
    config = config if env is None else replace(config, env=name_of(env))
    environment = build.simulator(config, env)
    policy = build.policy(config, environment)
    learner = build.learner(config, policy)
    slow = slow_weights(policy)
    kind = next(iter(slow.values())).dtype
    adam = torch.optim.Adam(slow.values(), lr=config.ppo.lr, foreach=False) if config.outer == "ppo" else None
    folder = RunFolder(out)

    def check_new() -> None:
        if folder.finished:
            raise RunError(
                f"{out} holds a finished run, which is never overwritten; test it with 'innerloop rl evaluate', or "
                "give another --out"
            )

    ranks.from_first(check_new)

    def step(step: int) -> dict[str, Any]:
        start, worked = time.perf_counter(), time.process_time()
        noise = noise_of(config, step)
        tasks = environment.sample_tasks(config.meta_batch, generator_for(config.seed, "tasks", step)).to(kind)
        found = collect(learner, slow, environment, tasks, config, noise, ranks)
        sampled = time.perf_counter()
        returns = [float(r.mean()) for r in found.returns]
        if not all(map(math.isfinite, returns)):
            rates = "--inner.lr" if adam is None else "--inner.lr or --ppo.lr"
            raise FloatingPointError(f"the returns at meta-iteration {step} are {returns}: lower {rates}")
        if adam is None:
            outcome = trust_region_step(
                learner, slow, found.data, config.trpo, curvature=found.curvature, chunk=config.task_chunk
            )
        else:
            outcome = proximal_step(learner, slow, found.data, config.ppo, adam, chunk=config.task_chunk)
        return {
            "return_before": returns[0],
            "return_after": returns[-1],
            "loss_before": outcome.loss_before,
            "loss_after": outcome.loss_after,
            "kl": outcome.kl,
            "accepted": outcome.accepted,
            "tries": outcome.tries,
            "gradient_norm": outcome.gradient_norm,
            "environment_steps": found.steps,
            "seconds_sampling": sampled - start - found.seconds_adapting,
            "seconds_adapting": found.seconds_adapting,
            "seconds_optimising": time.perf_counter() - sampled,
            "seconds_of_cpu": time.process_time() - worked,
        }

    job = Job(
        config.iterations,
        step,
        dict(slow),
        [] if adam is None else [(adam, dict(slow))],
        config.validation.every,
        lambda: {"validation": validation_return(policy, slow, environment, config, ranks)},
    )
    return run(
        job,
        out,
        config.to_json(),
        read=lambda c: Config.from_json(c).to_json(),
        resume=resume,
        ranks=ranks,
        report=report,
    )


def validation_return(
    policy: nn.Sequential,
    slow: dict[str, nn.Parameter],
    environment: Simulator,
    config: Config,
    ranks: Ranks = ALONE,
) -> float:
    """Mean return after the inner steps of training, on the validation tasks."""
    steps = config.inner_loop.steps
    settings = replace(
        config.test,
        tasks=config.validation.tasks,
        rollouts=config.rollouts,
        steps=steps,
        later_lr=0.0,
        seed=_VALIDATION_SEED,
    )
    found = meta_test(policy, slow, environment, config, settings=settings, ranks=ranks)
    return float(found.values[-1].double().mean())


def load_run(
    path: Path,
    which: str | Checkpoint = "best",
    *,
    threads: int = 0,
    env: Environment | None = None,
    method: PolicyMethod | None = None,
) -> tuple[Config, nn.Sequential, Simulator]:
    """The config, policy and environment of a run folder ('best' or 'last' checkpoint, or one read from it;
    'untrained': the first weights). `env` takes the place of the environment that the run names; `method` is the one
    that `train` was given.

    From here on PyTorch and the environment use that many `threads`; 0: those of the run, as far as there are cores.
    """
    folder = RunFolder(path)
    if method is not None:
        name_of_method(method)
    config = folder.config_as(Config.from_json)
    checkpoint = folder.load(which) if isinstance(which, str) and which != "untrained" else which
    config = replace(config, threads=use_threads(threads) or use_threads(config.threads, stored=True))
    environment = build.simulator(config, env)
    policy = build.policy(config, environment)
    if isinstance(checkpoint, Checkpoint):
        load_weights(dict(policy.named_parameters()), checkpoint)
    return config, policy, environment
