"""`innerloop rl train | evaluate | analyse | render`: meta-reinforcement learning."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
import tyro

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.cli.reproduce import print_result
from innerloop.core.functional import Blocks
from innerloop.core.random import generator_for
from innerloop.core.ranks import ALONE, Ranks, joined
from innerloop.errors import InnerloopError
from innerloop.report.reproduction import write_reproduction
from innerloop.rl import pictures
from innerloop.rl.catalogue import NAMES, find
from innerloop.rl.config import Config
from innerloop.rl.meta_test import meta_test, random_search
from innerloop.rl.methods import method
from innerloop.rl.presets import PRESETS, own_settings, preset
from innerloop.rl.sampling import Trajectories
from innerloop.rl.train import Progress, load_run, train
from innerloop.runs import RunFolder, made_with
from innerloop.runs.files import write_bytes
from innerloop.studies import ANALYSIS, analyse_policy

HELP = Help(
    "Meta-reinforcement learning: train, evaluate, analyse and draw MAML and ANIL policies.",
    (
        "innerloop rl train --env navigation                 # about 3 minutes on one core",
        "innerloop rl evaluate runs/navigation-cpu-maml-seed0 --steps 5",
        "innerloop rl render runs/navigation-cpu-maml-seed0  # learning curve, trajectories, a GIF",
    ),
    more="""usage: innerloop rl train [OPTIONS]
       innerloop rl evaluate RUN [OPTIONS]
       innerloop rl analyse RUN [OPTIONS]
       innerloop rl render RUN [OPTIONS]

actions
  train      meta-train a policy (MAML, ANIL, ...) into a run folder and test it
  evaluate   returns on new tasks after 0, 1, 2, ... adaptation steps; also freezing, fine-tuning, random search
  analyse    how the inner step changes each block (movement, CKA, CCA), and what freezing blocks costs
  render     figures of a trained run: learning curve, trajectories before and after adaptation, a GIF

innerloop rl ACTION --help shows all options of an action, with their defaults.""",
)

TRAIN_HELP = Help(
    "Meta-train a policy on a family of environments, keep the best on validation tasks, and test it. --env decides "
    "the defaults of all other options, unless --preset names a published protocol.",
    (
        "innerloop rl train --env navigation",
        "innerloop rl train --env cheetah-direction --method anil     # needs MuJoCo",
        "innerloop rl train --env my_envs:mine --iterations 200       # an environment of your own",
    ),
    main=(
        *("--env", "--preset", "--method", "--iterations", "--meta-batch", "--rollouts", "--seed"),
        *("--out", "--resume", "--threads"),
    ),
    more=options.preset_list(PRESETS),
)

EVALUATE_HELP = Help(
    "Test a trained policy: returns on new tasks after 0, 1, 2, ... adaptation steps. Options that you leave out are "
    "as in training; the result is added to RUN/eval.json.",
    (
        "innerloop rl evaluate runs/navigation-cpu-maml-seed0 --steps 5 --later-lr 0.05",
        "innerloop rl evaluate runs/navigation-cpu-maml-seed0 --adapt head           # freeze the body",
        "innerloop rl evaluate runs/navigation-cpu-maml-seed0 --which untrained      # fine-tuning from random",
    ),
)

ANALYSE_HELP = Help(
    "Analyse a trained policy: how the inner step changes each block, and what freezing costs. Results go to "
    "RUN/analysis.",
    (
        "innerloop rl analyse runs/navigation-cpu-maml-seed0",
        "innerloop rl analyse runs/navigation-cpu-maml-seed0 --which last",
    ),
)

RENDER_HELP = Help(
    "Draw a trained run into its folder: learning curve, trajectories before and after adaptation, and film.gif.",
    (
        "innerloop rl render runs/navigation-cpu-maml-seed0",
        "innerloop rl render runs/navigation-cpu-maml-seed0 --tasks 12 --no-film",
    ),
)
_MOST_DRAWN = 60
"""tasks in a picture"""


@dataclass(frozen=True)
class TrainArgs:
    """Options of `innerloop rl train`."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    preset: str = ""
    """a published protocol, listed below (default: ENV-cpu, the environment's own settings)"""
    out: Path | None = None
    """the run folder (default: runs/PRESET-METHOD-seedN; ENV-like-PRESET where --env differs)"""
    resume: bool = False
    """continue the unfinished run in --out; if there is none, start a new one and say so"""


@dataclass(frozen=True)
class EvaluateArgs:
    """Options of `innerloop rl evaluate`."""

    run: tyro.conf.Positional[Path]
    """a run folder"""
    which: Literal["best", "last", "untrained"] = "best"
    """which checkpoint; untrained: the initial weights, for fine-tuning from random as a baseline"""
    learner: Literal["gradient", "random-search"] = "gradient"
    """how new tasks are learned; random-search: a baseline without gradients"""
    adapt: tuple[str, ...] = ()
    """which blocks adapt: all, head, body, none, or names (default: the method's own)"""
    steps: int | None = None
    """inner steps (default: the run's)"""
    tasks: int | None = None
    """test tasks (default: the run's)"""
    rollouts: int | None = None
    """trajectories per task and step (default: the run's)"""
    later_lr: float | None = None
    """inner rate after the first step; 0: the same (default: the run's)"""
    seed: int | None = None
    """seed of tasks and trajectories (default: the run's)"""


@dataclass(frozen=True)
class AnalyseArgs:
    """Options of `innerloop rl analyse`."""

    run: tyro.conf.Positional[Path]
    """a run folder"""
    which: Literal["best", "last"] = "best"
    """checkpoint"""
    threads: int = 0
    """CPU threads (default: the run's)"""


@dataclass(frozen=True)
class RenderArgs:
    """Options of `innerloop rl render`."""

    run: tyro.conf.Positional[Path]
    """a run folder"""
    which: Literal["best", "last", "untrained"] = "best"
    """which checkpoint; other choices than the default, here and in --steps, are part of the file names"""
    tasks: int = 6
    """number of tasks in the figure of trajectories, 1 to 60; the film shows the first"""
    steps: int | None = None
    """inner steps (default: the run's)"""
    seed: int | None = None
    """seed of tasks and trajectories (default: the run's)"""
    film: bool = True
    """also make film.gif, before and after adaptation side by side (MuJoCo needs OpenGL for it)"""


def run(args: Sequence[str]) -> int:
    """Train, evaluate, analyse or render."""
    actions = {"train": run_train, "evaluate": run_evaluate, "analyse": run_analyse, "render": run_render}
    action = options.action_of("rl", args[:1], HELP, actions)  # each has a help of its own
    return action if isinstance(action, int) else actions[action](args[1:])


def starting_config(args: Sequence[str]) -> Config:
    """Of the preset, or else the environment, and the method that the arguments name: the defaults of all options."""
    name, env, given = (options.value_of(args, flag) for flag in ("--preset", "--env", "--method"))
    own = given or "maml"
    return preset(name, own) if name else own_settings(find(NAMES[0] if env is None else env), own)


def run_train(args: Sequence[str]) -> int:
    """Train and test."""
    asked = options.parse(TrainArgs, args, "rl train", default=TrainArgs(starting_config(args)), text=TRAIN_HELP)
    config = asked.config
    start = asked.preset or f"{find(config.env).name}-cpu"
    if asked.preset and config.env != preset(asked.preset).env:
        start = f"{find(config.env).name}-like-{asked.preset}"
    out = asked.out or Path("runs") / f"{start}-{method(config.method).name}-seed{config.seed}"
    options.check_out(out, resume=asked.resume)
    with joined() as ranks:
        with show.progress() as bar:
            folder = train(
                config,
                out,
                resume=asked.resume,
                report=lambda p: bar(f"train {config.method}", p.step, p.steps, detail(p), p.first),
            )
        if ranks.first:
            finished = folder.summary_with("best_step")
            show.console.print(
                f"trained {finished['steps']} meta-iterations in {finished['seconds']:.0f} s; "
                f"best on validation at {finished['best_step']}"
            )
        row = evaluate(EvaluateArgs(out), ranks)
        if ranks.first:
            print_returns(out, row)
    return 0


def detail(p: Progress) -> str:
    """Returns as text."""
    val = "" if p.validation is None else f"  val {p.validation:.1f}"
    return f"return {p.numbers['return_before']:.1f} → {p.numbers['return_after']:.1f}{val}"


def run_evaluate(args: Sequence[str]) -> int:
    """Test a run and print what came out."""
    asked = options.parse(EvaluateArgs, args, "rl evaluate", text=EVALUATE_HELP)
    print_returns(asked.run, evaluate(asked))
    return 0


def evaluate(asked: EvaluateArgs, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Test a run folder, add the result to its eval.json, and return that entry; `ranks` split the tasks."""
    folder = RunFolder(asked.run)
    _ = folder.evaluations  # fails before the work
    config, policy, slow, env, step = load(asked)
    change = {k: getattr(asked, k) for k in ("steps", "tasks", "rollouts", "later_lr", "seed")}
    settings = replace(config.test, **{k: v for k, v in change.items() if v is not None})
    if asked.learner == "random-search":
        if asked.adapt:
            raise InnerloopError("--adapt names blocks for gradient steps; random search changes all of them")
        if asked.later_lr is not None:
            raise InnerloopError("--later-lr is a rate of gradient steps; random search has none")
        settings = replace(settings, later_lr=0.0)
        found = random_search(policy, slow, env, config, settings=settings)
    else:
        if not asked.adapt and not config.adapts:
            settings = settings if asked.steps else replace(settings, steps=0)  # nothing would change
        found = meta_test(policy, slow, env, config, settings=settings, blocks=blocks(asked.adapt), ranks=ranks)
    row = {
        "method": config.method,
        "learner": asked.learner,
        "adapt": list(asked.adapt),
        "checkpoint": asked.which,
        "step": step,
        "env": config.env,
        "seed": config.seed,
        "settings": {k: getattr(settings, k) for k in ("tasks", "rollouts", "steps", "later_lr", "seed")},
        **made_with(),
        **found.to_json(),
    }
    if ranks.first:
        folder.add_evaluation(row, ("method", "learner", "adapt", "checkpoint", "step", "settings"))
    return row


def run_analyse(args: Sequence[str]) -> int:
    """Look into a run and print what came out."""
    asked = options.parse(AnalyseArgs, args, "rl analyse", text=ANALYSE_HELP)
    with show.progress() as bar:
        analyse_policy(
            asked.run,
            which=asked.which,
            threads=asked.threads,
            report=lambda stage: bar(stage.title, stage.done, stage.total),
        )
    write_reproduction(asked.run / ANALYSIS)
    print_result(asked.run / ANALYSIS)
    return 0


def run_render(args: Sequence[str]) -> int:
    """Draw a run into its folder."""
    asked = options.parse(RenderArgs, args, "rl render", text=RENDER_HELP)
    if not 1 <= asked.tasks <= _MOST_DRAWN:
        raise InnerloopError(f"a picture shows 1 to {_MOST_DRAWN} tasks, got --tasks {asked.tasks}")
    if asked.film and not any(map(os.environ.get, ("MUJOCO_GL", "DISPLAY"))) and sys.platform == "linux":
        os.environ["MUJOCO_GL"] = "egl"  # read when MuJoCo is first imported; Mesa's software renderer has it too
    config, policy, slow, env, _ = load(asked)
    own = find(config.env)
    rows = RunFolder(asked.run).metrics_with("return_before", "return_after")
    change = {k: getattr(asked, k) for k in ("steps", "seed")}
    test = replace(config.test, **{k: v for k, v in change.items() if v is not None})
    tasks = env.sample_tasks(asked.tasks, generator_for(test.seed, "tasks"))
    found: list[Trajectories] = []
    weights: list[dict[str, torch.Tensor]] = []
    meta_test(
        policy,
        slow,
        env,
        config,
        settings=test,
        tasks=tasks,
        look=lambda _step, t, fast: (found.append(t), weights.append({n: w[:1] for n, w in fast.items()}), None)[-1],
    )
    other = ("" if asked.which == "best" else f"-{asked.which}") + (
        "" if asked.steps is None else f"-{asked.steps}-steps"
    )
    made = {f"trajectories{other}.png": pictures.png(pictures.paths(own, found, tasks))}
    if rows:
        made["learning_curve.png"] = pictures.png(pictures.learning_curve(rows))
    for name, content in made.items():
        write_bytes(asked.run / name, content)
        show.console.print(f"wrote {asked.run / name}")
    if asked.film:
        from innerloop.rl.as_gymnasium import filmed

        if (single := filmed(own, tasks[0].numpy())) is None:
            show.console.print(f"no film: {own.title} does not say how it is drawn")
            return 0
        try:
            before, after = (
                pictures.film(single, tasks[0], policy, slow, w, config) for w in (weights[0], weights[-1])
            )
        finally:
            single.close()
        name = asked.run / f"film{other}.gif"
        write_bytes(name, pictures.gif(before, after))
        steps = f"{test.steps} step{'' if test.steps == 1 else 's'}"
        show.console.print(f"wrote {name} (left before, right after {steps})")
    return 0


def load(asked: EvaluateArgs | RenderArgs) -> tuple[Config, torch.nn.Sequential, dict[str, torch.Tensor], Any, int]:
    """Config, policy, slow weights, environment and meta-iteration of the checkpoint that is asked for."""
    checkpoint = asked.which if asked.which == "untrained" else RunFolder(asked.run).load(asked.which)
    config, policy, env = load_run(asked.run, checkpoint)
    step = 0 if isinstance(checkpoint, str) else checkpoint.step
    return config, policy, {n: w.detach() for n, w in policy.named_parameters()}, env, step


def blocks(names: Sequence[str]) -> Blocks | None:
    """Blocks as `core.functional.resolve_blocks` takes them; None for the method's own."""
    whole = [n for n in names if n in ("all", "body", "none")]
    if whole and len(names) > 1:
        raise InnerloopError(f"--adapt {whole[0]} stands alone; got --adapt {' '.join(names)}")
    if len(names) == 1 and names[0] in ("all", "head", "body", "none"):
        return cast(Blocks, names[0])
    return tuple(names) or None


def print_returns(path: Path, row: dict[str, Any]) -> None:
    """One evaluation as a table: the return after each inner step."""
    how = {"gradient": row["method"], "random-search": "random search"}[row["learner"]]
    how += f", {', '.join(row['adapt'])} adapt" if row["adapt"] else ""
    show.table(
        f"{how} on new tasks of {row['env']} ({row['checkpoint']} checkpoint, meta-iteration {row['step']})",
        ("inner steps", "return ± ci95"),
        [(str(i), f"{e['mean']:.2f} ± {e['ci95']:.2f}") for i, e in enumerate(row["steps"])],
        f"{row['tasks']} tasks, {row['settings']['rollouts']} trajectories per task and step, seed "
        f"{row['settings']['seed']}; in {path / 'eval.json'}",
    )
