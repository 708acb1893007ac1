"""The main job: does MAML learn rapidly, or does it reuse features? And what decides it?

MAML is trained twice, with the head's ordinary first weights and with `SMALL` times these, and ANIL once.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from innerloop.analysis import Movement, similarity
from innerloop.core.episodes import ClassImages, Episodes, TaskFamily
from innerloop.core.functional import Weights, block_names, slow_weights
from innerloop.core.inner import with_steps
from innerloop.core.statistics import Estimate, over_episodes
from innerloop.core.threads import use_threads
from innerloop.errors import InnerloopError
from innerloop.evaluation import Evaluation, evaluate, fixed_episodes
from innerloop.methods.catalogue import NIL, method
from innerloop.methods.method import predictor
from innerloop.methods.metric import nearest_neighbour
from innerloop.models.head import Linear
from innerloop.runs import RunError, RunFolder
from innerloop.runs.files import as_json, write_all
from innerloop.studies import claims
from innerloop.studies.fan_out import Launcher, Training, finished_run, train_together
from innerloop.studies.inside import CUT, NO_HEAD, ZEROS, Inside, Numbers, changes, look_inside
from innerloop.studies.result import Outcome, difference, made_by
from innerloop.studies.stage import MOVEMENT_EPISODES, Stage
from innerloop.studies.threads import Threads
from innerloop.studies.weights_and_cost import step_times
from innerloop.training import Config, build
from innerloop.training.train import load_run

SMALL = 0.05
"""the factor of the head's first weights in the second training of MAML"""
FOLDERS = {"maml": "maml", "maml_small": "maml-small-head", "anil": "anil"}
EARLY_EPISODES = 50
"""episodes on which the checkpoints along MAML's training are measured"""
MEASURES = {"cka": "CKA", "cca": "CCA", "cca98": CUT}
"""the measures of similarity, by their entry in summary.json"""
CCA_POINTS = 30
"""data points per neuron that CCA compares at most: with all pixels of the first block it would take minutes"""


def study(
    config: Config,
    out: Path,
    *,
    preset: str = "",
    data_dir: Path | None = None,
    resume: bool = False,
    jobs: int = 1,
    launcher: Launcher = "local",
    options: Mapping[str, str] = {},
    report: Callable[[Stage], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the whole study into the folder `out` and return what it wrote to summary.json.

    `config` is MAML's; the second MAML's differs in `model.head_scale` alone and ANIL's in the method alone, so all
    start from the same weights but for the head's size, and meet the same episodes. A model whose head is not linear
    has no second MAML. Runs that are finished in `out` are used, an unfinished one is continued (with `resume`). Where
    `config.validation.keep_every` is 0, all runs keep three or four checkpoints along the training.

    `jobs` of the trainings run at once, in processes that share out the cores, or have `config.threads` threads each;
    then as many measurements, in threads, but one per core. A script must have this call under ``if __name__ ==
    "__main__":``. 0 is all at once, but 1 on a single core, on a GPU, or if `config.threads` is given. `launcher`
    and `options` are as in `fan_out`; what is measured is measured here.
    """
    began = time.perf_counter()
    check_config(config)
    check_folder(out, list(FOLDERS.values()), resume=resume)
    images = build.load_images(config, data_dir)
    assert images is not None
    cores = torch.get_num_threads()
    jobs, threads = shared_out(config, jobs, len(FOLDERS))
    wanted = trainings(config, images, out, threads if launcher == "local" else config.threads, data_dir)
    title = f"train {', '.join(_TITLES[name][0] for name in wanted)}"
    train_at_once(list(wanted.values()), title, out, jobs=jobs, launcher=launcher, options=options, report=report)
    folders = {name: _trained(name, own, report) for name, own in wanted.items()}
    use_threads(threads)
    at_once = Threads(min(jobs, cores), report)
    report = at_once.report
    family = build.tasks(config, images, "test", config.test.query)
    models: dict[str, Loaded] = {name: load_run(f.path, images=images) for name, f in folders.items()}
    chunk = build.chunk_size(config, images.images.device)
    results = _evaluate_all(config, models, images, family, chunk, at_once)
    inside = {
        name: look_inside(
            *models[name],
            images,
            whole=results[name],
            untrained=results["untrained_nil"],
            per_neuron=CCA_POINTS,
            blocks=name == "maml",
            at_once=at_once,
            report=report,
        )
        for name in models
        if name != "anil"
    }
    changed = {name: (i.alike, i.moved) for name, i in inside.items()}
    changed["anil"], early = at_once(
        (
            lambda: changes(*models["anil"], images, per_neuron=CCA_POINTS),
            lambda: _early(folders["maml"], images, family, chunk, report),
        )
    )
    maml = inside["maml"]
    summary: dict[str, Any] = {
        **made_by(0.0),
        "preset": preset,
        "seed": config.seed,
        "data": {
            "name": images.name,
            "way": config.way,
            "shot": config.shot,
            "query": getattr(family, "query", config.test.query),
            "image_shape": list(images.image_shape),
            "classes": {s: len(c) for s, c in images.splits.items()},
            "episodes": config.test.episodes,
            "inner_steps": config.test.inner_steps,
            "train_inner_steps": config.inner.steps,
            "inner_lr": config.inner.lr,
            "statistics": config.test.statistics,
            "analysis_episodes": min(MOVEMENT_EPISODES, config.test.episodes),
            "cca_points": CCA_POINTS,
        },
        "config": config.to_json(),
        "methods": {n: _method_json(n, r, folders) for n, r in results.items()},
        "paired": _paired(results),
        "movement": {n: [_movement_json(m) for m in moved] for n, (_, moved) in changed.items()},
        **{
            key: {n: _blocks_json(alike[measure]) for n, (alike, _) in changed.items()}
            for key, measure in MEASURES.items()
        },
        "freezing": [
            {
                "frozen": list(r.frozen),
                "adapted": list(r.adapted),
                **_accuracy(r.evaluation),
                "difference": _interval(r.difference),
            }
            for r in maml.frozen
        ],
        "still": [
            {"head": name, **_accuracy(e), "difference": _interval(difference(e, maml.whole))}
            for name, e in maml.still.items()
        ],
        "early": early,
        "heads": [
            {"name": r.name, **_accuracy(r.evaluation), "difference": _interval(r.difference)} for r in maml.heads
        ],
        "dial": [_dial_json(n, models[n][0], i) for n, i in inside.items()],
        "verdict": verdict(
            {name: i.numbers for name, i in inside.items()},
            claims.range_of(difference(results["anil"], results["maml"])),
        ),
    }
    report(Stage("cost", 0, 1))
    summary["cost"] = _cost(models["maml"], images)
    pictures = save(_pictures(models, family, config))
    summary["seconds"] = time.perf_counter() - began
    write_all(out, {"episodes.safetensors": pictures, "summary.json": as_json(summary)})
    return summary


def shared_out(config: Config, jobs: int, runs: int) -> tuple[int, int]:
    """How many of `runs` trainings run at once (`jobs`; 0: all, or as many as there are cores where these are more than
    three, but one on a single core, on a GPU, or with `config.threads`), and the threads of each."""
    cores = torch.get_num_threads()
    if jobs == 0:
        alone = cores == 1 or config.threads or build.choose_device(config.device).type != "cpu"
        jobs = 1 if alone else min(runs, max(cores, len(FOLDERS)))
    return jobs, config.threads if jobs == 1 else config.threads or max(1, cores // jobs)


def trainings(
    config: Config, images: ClassImages, out: Path, threads: int, data_dir: Path | None = None
) -> dict[str, Training]:
    """The study's trainings by name."""
    kept = replace(config, threads=threads, validation=replace(config.validation, keep_every=keep_every(config)))
    small = isinstance(build.network(config, images)[-1], Linear)
    configs = {
        "maml": kept,
        **({"maml_small": replace(kept, model=replace(kept.model, head_scale=SMALL))} if small else {}),
        "anil": replace(kept, method="anil"),
    }
    return {name: Training(c, out / FOLDERS[name], data_dir) for name, c in configs.items()}


def train_at_once(
    wanted: Sequence[Training],
    title: str,
    out: Path,
    *,
    jobs: int,
    launcher: Launcher,
    options: Mapping[str, str],
    report: Callable[[Stage], None],
) -> None:
    """Train what is not finished, `jobs` at a time or by the launcher; nothing where one after the other will do."""
    if (jobs > 1 or launcher != "local") and not all(RunFolder(w.folder).finished for w in wanted):
        train_together(
            wanted,
            jobs=jobs,
            launcher=launcher,
            options=options,
            logs=out / "jobs",
            report=lambda _f, _r, done, of: report(Stage(title, done, of)),
        )


def check_config(config: Config) -> None:
    """Refuse what cannot be studied."""
    if config.method != "maml":
        raise InnerloopError(f"the study trains MAML and ANIL itself; leave out --method {config.method}")
    if config.model.head_scale != 1:
        raise InnerloopError(
            f"the study trains MAML with head_scale 1 and {SMALL} itself; leave out --model.head-scale "
            f"{config.model.head_scale:g}"
        )
    if config.regression:
        raise InnerloopError(
            f"the study needs image classes; {config.data} is a regression: use 'innerloop train' for it"
        )


def check_folder(out: Path, runs: Sequence[str], *, resume: bool) -> None:
    """Refuse a folder of a finished study, of an unfinished one without `resume`, and one that holds something else;
    `runs` are the run folders in it."""
    if (out / "summary.json").exists():
        raise RunError(f"{out} holds a finished study; look at {out / 'report.html'}, or give another --out")
    started = any((out / name).is_dir() for name in runs)
    if started and not resume:
        for name in runs:
            if RunFolder(out / name).exists:
                with RunFolder(out / name).alone():  # says if another process is training there now
                    pass
        raise RunError(f"{out} holds an unfinished study; continue it with --resume, or give another --out")
    if not started and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists and holds no study; give another --out")


def _trained(name: str, wanted: Training, report: Callable[[Stage], None]) -> RunFolder:
    """The finished run of one of the study's models."""
    title = f"train {_TITLES[name][0]}"
    return finished_run(wanted, lambda p: report(Stage(title, p.step, p.steps, p)))


def keep_every(config: Config) -> int:
    """Every how many outer steps the study's runs keep a checkpoint: the user's choice, else a quarter of the training
    or a little more, so that there are three or four with the last one (fewer if there are fewer validations)."""
    v = config.validation
    return v.keep_every or v.every * max(1, math.ceil(config.outer.steps // v.every / 4))


def _blocks_json(found: Mapping[str, Estimate | None]) -> list[dict[str, Any]]:
    """The blocks that have a value."""
    return [{"block": b, "mean": e.mean, "ci95": e.ci95} for b, e in found.items() if e]


def _movement_json(m: Movement) -> dict[str, Any]:
    return {
        "block": m.block,
        "parameters": m.parameters,
        "distance": m.distance.mean,
        "distance_ci95": m.distance.ci95,
        "relative": m.relative.mean,
        "relative_ci95": m.relative.ci95,
    }


def _interval(e: Estimate) -> dict[str, float]:
    return {"mean": e.mean, "ci95": e.ci95}


def _accuracy(e: Evaluation) -> dict[str, Any]:
    return {**_interval(e.final), "episodes": e.final.episodes}


def _dial_json(name: str, config: Config, found: Inside) -> dict[str, Any]:
    """One setting of the head's start and all that it decides."""
    lowest = {
        key: min((e.mean for b, e in found.alike[measure].items() if e and b != found.head), default=None)
        for key, measure in MEASURES.items()
    }
    tests = {
        "whole": found.whole,
        "frozen": found.frozen[-1].evaluation,
        "zeros": found.still.get(ZEROS),
        "nil": found.still[NO_HEAD],
    }
    return {
        "method": name,
        "head_scale": config.model.head_scale,
        **{
            key: {**_accuracy(e), "difference": _interval(difference(e, found.whole))} if e else None
            for key, e in tests.items()
        },
        "lowest_body": lowest,
        "moved": {m.block: m.relative.mean for m in found.moved},
        "share": _interval(found.share),
        "claims": [claim_json(o) for o in found.numbers.outcomes()],
    }


Loaded = tuple[Config, nn.Sequential, dict[str, Tensor]]


def _evaluate_all(
    config: Config,
    models: dict[str, Loaded],
    images: ClassImages,
    family: TaskFamily,
    chunk: int | None,
    at_once: Threads,
) -> dict[str, Evaluation]:
    """MAML, ANIL, NIL on both bodies, NIL on an untrained body, pixels: all on the same test episodes."""
    untrained = build.build_model(config, images)
    _, maml, maml_weights = models["maml"]
    _, anil, anil_weights = models["anil"]
    jobs: list[tuple[str, nn.Sequential, Weights, str]] = [
        ("maml", maml, maml_weights, "maml"),
        *(("maml_small", *models[n][1:], "maml") for n in models if n == "maml_small"),
        ("anil", anil, anil_weights, "anil"),
        ("nil", anil, anil_weights, "nil"),
        ("nil_maml", maml, maml_weights, "nil"),
        ("untrained_nil", untrained, slow_weights(untrained), "nil"),
    ]
    done = {name: 0 for name, *_ in jobs}

    def scored(name: str, model: nn.Sequential, weights: Weights, kind: str) -> Evaluation:
        def show(episodes: int) -> None:
            done[name] = episodes
            at_once.report(Stage("test episodes", sum(done.values()), len(jobs) * config.test.episodes))

        learner = method(kind)(model, inner=config.inner_loop)
        return evaluate(learner, weights, family, config.test, task_chunk=chunk, report=show)

    def in_pixels() -> Evaluation:
        scores = torch.cat([nearest_neighbour(e) for e in fixed_episodes(family, config.test)])
        estimate = over_episodes(scores.cpu())
        return Evaluation(estimate, (estimate,), tuple(scores.tolist()), config.test)

    found = at_once((*(partial(scored, *job) for job in jobs), in_pixels))
    return dict(zip((*done, "pixels"), found, strict=True))


def _early(
    folder: RunFolder,
    images: ClassImages,
    family: TaskFamily,
    chunk: int | None,
    report: Callable[[Stage], None],
) -> list[dict[str, Any]]:
    """MAML's checkpoints along the training: accuracy with nothing and with the whole body frozen, and the body's CKA
    (Raghu et al. 2020, figure 3), on the first test episodes."""
    checkpoints = {step: f"step{step}" for step in folder.kept}
    checkpoints.setdefault(int(folder.summary["steps"]), "last")
    rows: list[dict[str, Any]] = []
    for step, which in checkpoints.items():
        report(Stage("early in training", len(rows), len(checkpoints)))
        own, model, parameters = load_run(folder.path, which=which, images=images)
        few = replace(own.test, episodes=min(EARLY_EPISODES, own.test.episodes))
        inner, head = own.inner_loop, block_names(model)[-1]
        whole, frozen = (
            evaluate(predictor(model, loop), parameters, family, few, task_chunk=chunk, each_step=False)
            for loop in (inner, replace(inner, blocks=(head,)))
        )
        alike = similarity(
            model,
            parameters,
            fixed_episodes(family, few),
            with_steps(inner, few.inner_steps),
            statistics=few.statistics,
            task_chunk=chunk,
        )["cka"]
        cka = _blocks_json(alike)
        rows.append(
            {
                "step": step,
                "episodes": few.episodes,
                **_interval(whole.final),
                "body_frozen": _interval(frozen.final),
                "difference": _interval(difference(frozen, whole)),
                "cka": cka,
                "lowest_body_cka": min((e for e in cka if e["block"] != head), key=lambda e: e["mean"], default=None),
            }
        )
    report(Stage("early in training", len(rows), len(rows)))
    return rows


_TITLES = {
    "maml": ("MAML", "all blocks adapt"),
    "maml_small": ("MAML, small head start", f"the same, the head's first weights {1 / SMALL:.0f} times smaller"),
    "anil": ("ANIL", "only the head adapts, in training and test"),
    "nil": ("NIL on ANIL's body", "no inner loop: cosine attention over un-adapted features"),
    "nil_maml": ("NIL on MAML's body", "the same, with the body that MAML trained"),
    "untrained_nil": (
        "NIL on an untrained body",
        "the same, with random weights: what the architecture gives for free",
    ),
    "pixels": ("nearest neighbour in pixels", "no learning at all"),
}


def _method_json(name: str, result: Evaluation, folders: dict[str, RunFolder]) -> dict[str, Any]:
    title, note = _TITLES[name]
    value: dict[str, Any] = {"title": title, "note": note, **result.to_json()}
    del value["settings"]
    if name in folders:
        finished = folders[name].summary_with("best_step")
        value |= {
            "train_seconds": finished["seconds"],
            "outer_steps": finished["steps"],
            "best_step": finished["best_step"],
            "curve": folders[name].metrics,
        }
    return value


def _paired(results: dict[str, Evaluation]) -> list[dict[str, Any]]:
    rows = []
    for a, b in (
        ("anil", "maml"),
        ("nil", "anil"),
        ("nil_maml", "maml"),
        ("nil", "untrained_nil"),
        ("maml", "pixels"),
    ):
        e = difference(results[a], results[b])
        rows.append({"a": a, "b": b, **_interval(e), "episodes": e.episodes})
    return rows


def _cost(maml: Loaded, images: ClassImages) -> dict[str, Any]:
    """Training step and test-time adaptation by MAML and ANIL of one model, timed in turn on one thread."""
    config = maml[0]
    trained, inferred = step_times(*maml, images)
    names = ("maml", "anil", "nil")
    return {
        "threads": 1,
        "device": images.images.device.type,
        "repeats": trained.repeats,
        "train_ms": {n: trained.milliseconds[n] for n in names if n in trained.milliseconds},
        "train_ratio": trained.ratio("maml", "anil"),
        "inference_ms": {n: inferred.milliseconds[n] for n in names},
        "inference_ratio": inferred.ratio("maml", "anil"),
        "note": f"{trained.clock}, medians of {trained.repeats} interleaved repeats; training: one meta-batch of "
        f"{config.outer.meta_batch} tasks; inference: {config.test.inner_steps} inner steps and one query set",
    }


@torch.no_grad()
def _pictures(models: dict[str, Loaded], family: TaskFamily, config: Config, episodes: int = 3) -> dict[str, Tensor]:
    """The first test episodes as pictures, with the guesses of all three."""
    shown = next(iter(fixed_episodes(family, config.test)))[slice(0, episodes)]
    query = _first_of_each_class(shown, 3)
    out = {
        "support_x": _bytes(shown.support_x),
        "support_y": shown.support_y.contiguous(),
        "query_x": _bytes(shown.query_x[:, query]),
        "query_y": shown.query_y[:, query].contiguous(),
    }
    for name, (own, model, parameters) in models.items():
        predict = predictor(model, with_steps(own.inner_loop, own.test.inner_steps), statistics=own.test.statistics)
        out[f"guess_{name}"] = predict(parameters, shown).argmax(-1)[:, query].contiguous()
    own, model, parameters = models["anil"]
    predict = predictor(model, NIL.inner(own.inner_loop), head="cosine", statistics=own.test.statistics)
    out["guess_nil"] = predict(parameters, shown).argmax(-1)[:, query].contiguous()
    return {n: t.cpu() for n, t in out.items()}


def _first_of_each_class(episodes: Episodes, n: int) -> list[int]:
    labels = episodes.query_y[0].tolist()
    seen: dict[int, int] = {}
    keep = []
    for i, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= n:
            keep.append(i)
    return keep


def _bytes(x: Tensor) -> Tensor:
    return (x * 255).round().clamp(0, 255).to(torch.uint8).contiguous()


def claim_json(o: Outcome) -> dict[str, Any]:
    return {"claim": o.text, **{k: v for k, v in asdict(o).items() if k != "text"}}


def verdict(numbers: Mapping[str, Numbers], anil: claims.Range) -> dict[str, Any]:
    """The paper's claims about the ordinary MAML (`anil`: ANIL − MAML), and the answer for each start of the head."""
    maml = numbers["maml"]
    outcomes = [
        *maml.outcomes(),
        claims.nil_as_good(maml.nil, maml.learnt, "MAML"),
        claims.anil_as_good(anil, maml.learnt),
    ]
    answers = {name: answer_of(n) for name, n in numbers.items()}
    both = set(answers.values())
    answer = both.pop() if len(both) == 1 else "it depends on the head's start"
    return {"answer": answer, "answers": answers, "claims": [claim_json(o) for o in outcomes]}


def answer_of(found: Numbers) -> str:
    """feature reuse: the body need not adapt. rapid learning: it must, and without any inner loop accuracy is lost too.
    mixed: it must, but the same features serve as well without an inner loop. undecided: training has taught nothing.
    Else the intervals are too wide: inconclusive."""
    frozen = claims.body_frozen(found.frozen, found.learnt).holds
    without = claims.nil_as_good(found.nil, found.learnt, "MAML").holds
    if found.learnt.gain.low <= 0:
        return "undecided"
    if frozen is None:
        return "inconclusive"
    return "feature reuse" if frozen else "mixed" if without else "rapid learning"
