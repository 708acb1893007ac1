"""The main job: did MAML learn rapidly, or did it reuse features? Trains MAML and ANIL and looks inside."""

import datetime
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from innerloop.analysis import freezing, heads, linear_cka, mean_cca, measure_cost, movement, similarity
from innerloop.core.episodes import ClassImages, Episodes, TaskFamily
from innerloop.core.functional import Weights, block_names, slow_weights
from innerloop.core.inner import with_steps
from innerloop.core.outer import Predict, meta_gradient
from innerloop.core.random import generator_for
from innerloop.core.statistics import Estimate, over_episodes, paired_difference
from innerloop.core.threads import use_threads
from innerloop.errors import InnerloopError
from innerloop.evaluation import Evaluation, evaluate, fixed_episodes
from innerloop.methods.catalogue import NIL, method
from innerloop.methods.method import predictor
from innerloop.methods.metric import nearest_neighbour
from innerloop.runs import RunError, RunFolder, environment
from innerloop.runs.files import as_json, write_all
from innerloop.training import Config, Progress, build, train
from innerloop.training.train import load_run
from innerloop.version import __version__

MOVEMENT_EPISODES = 100
"""episodes on which movement and similarity are measured"""
EARLY_EPISODES = 50
"""episodes on which the checkpoints along MAML's training are measured"""
CCA_POINTS = 30
"""data points a neuron that CCA compares at most: with all pixels of the first block it would take minutes"""


@dataclass(frozen=True)
class Stage:
    """What the study is doing, for whoever shows progress."""

    title: str
    done: int
    total: int
    training: Progress | None = None


def study(
    config: Config,
    out: Path,
    *,
    preset: str = "",
    data_dir: Path | None = None,
    resume: bool = False,
    report: Callable[[Stage], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the whole study into the folder `out` and return what it wrote to summary.json.

    `config` is MAML's; ANIL's differs in the method alone, so both start from the same weights and meet the same
    episodes. Runs that are finished in `out` are used, an unfinished one is continued (with `resume`). Where
    `config.validation.keep_every` is 0, both runs keep three or four checkpoints along the training.
    """
    if config.method != "maml":
        raise InnerloopError(f"the study trains MAML and ANIL itself; leave out --method {config.method}")
    if config.regression:
        raise InnerloopError(
            f"the study needs image classes; {config.data} is a regression: use 'innerloop train' for it"
        )
    began = time.perf_counter()
    if (out / "summary.json").exists():
        raise RunError(f"{out} holds a finished study; look at {out / 'report.html'}, or give another --out")
    started = (out / "maml").is_dir()
    if started and not resume:
        for name in ("maml", "anil"):
            if RunFolder(out / name).exists:
                with RunFolder(out / name).alone():  # says if another process is training there now
                    pass
        raise RunError(f"{out} holds an unfinished study; continue it with --resume, or give another --out")
    if not started and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists and holds no study; give another --out")

    folders: dict[str, RunFolder] = {}
    for name in ("maml", "anil"):
        own = replace(config, method=name, validation=replace(config.validation, keep_every=keep_every(config)))
        folder = RunFolder(out / name)
        title = f"train {name.upper()}"

        def show(p: Progress, title: str = title) -> None:
            report(Stage(title, p.step, p.steps, p))

        if folder.finished:
            if folder.config_as(Config.from_json) != own:
                raise RunError(f"{folder.path} was trained with another configuration; give another --out")
        else:
            train(own, folder.path, data_dir=data_dir, resume=resume and folder.exists, report=show)
        folders[name] = folder

    use_threads(config.threads)
    images = build.load_images(config, data_dir)
    assert images is not None
    family = build.tasks(config, images, "test", config.test.query)
    models = {name: load_run(f.path, images=images) for name, f in folders.items()}
    chunk = build.chunk_size(config, images.images.device)

    results = _evaluate_all(config, models, images, family, chunk, report)
    env = environment()
    summary: dict[str, Any] = {
        "innerloop": __version__,
        "command": env["command"],
        "commit": env["commit"],
        "env": env,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": 0.0,
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
            "statistics": config.test.statistics,
        },
        "config": config.to_json(),
        "methods": {n: _method_json(n, r, folders) for n, r in results.items()},
        "paired": _paired(results),
    }
    summary["movement"], summary["cka"], summary["cca"] = {}, {}, {}
    for i, (name, (own, model, parameters)) in enumerate(models.items()):
        report(Stage("movement and similarity", i, 2))
        inner = with_steps(own.inner_loop, own.test.inner_steps)
        few = replace(own.test, episodes=min(MOVEMENT_EPISODES, own.test.episodes))
        moved = movement(model, parameters, fixed_episodes(family, few), inner, task_chunk=chunk)
        summary["movement"][name] = [
            {
                "block": m.block,
                "parameters": m.parameters,
                "distance": m.distance.mean,
                "distance_ci95": m.distance.ci95,
                "relative": m.relative.mean,
                "relative_ci95": m.relative.ci95,
            }
            for m in moved
        ]
        alike = similarity(
            model,
            parameters,
            fixed_episodes(family, few),
            inner,
            measures={"cka": linear_cka, "cca": cca_where_it_can},
            statistics=few.statistics,
            task_chunk=chunk,
        )
        for measure, found in alike.items():
            summary[measure][name] = _blocks_json(found)
        summary["data"]["analysis_episodes"] = few.episodes
        summary["data"]["cca_points"] = CCA_POINTS
    report(Stage("movement and similarity", 2, 2))

    own, model, parameters = models["maml"]
    rows = freezing(
        model,
        parameters,
        family,
        own.inner_loop,
        own.test,
        task_chunk=chunk,
        whole=results["maml"],
        report=lambda done, total: report(Stage("freezing test", done, total)),
    )
    summary["freezing"] = [
        {
            "frozen": list(r.frozen),
            "adapted": list(r.adapted),
            "mean": r.evaluation.final.mean,
            "ci95": r.evaluation.final.ci95,
            "episodes": r.evaluation.final.episodes,
            "difference": {"mean": r.difference.mean, "ci95": r.difference.ci95},
        }
        for r in rows
    ]
    summary["early"] = _early(folders["maml"], images, family, chunk, report)
    summary["heads"] = [
        {
            "name": r.name,
            "mean": r.evaluation.final.mean,
            "ci95": r.evaluation.final.ci95,
            "episodes": r.evaluation.final.episodes,
            "difference": {"mean": r.difference.mean, "ci95": r.difference.ci95},
        }
        for r in heads(
            model,
            parameters,
            family,
            own.inner_loop,
            own.test,
            task_chunk=chunk,
            whole=results["maml"],
            report=lambda done, total: report(Stage("heads", done, total)),
        )
    ]
    report(Stage("cost", 0, 1))
    summary["cost"] = _cost(config, models, images, family)
    summary["verdict"] = verdict(summary)
    pictures = save(_pictures(models, family, config))
    summary["seconds"] = time.perf_counter() - began
    write_all(out, {"episodes.safetensors": pictures, "summary.json": as_json(summary)})
    return summary


def keep_every(config: Config) -> int:
    """Every how many outer steps the study's runs keep a checkpoint: the user's choice, else a quarter of the training
    or a little more, so that three or four are there with the last one (fewer where there are fewer validations)."""
    v = config.validation
    return v.keep_every or v.every * max(1, math.ceil(config.outer.steps // v.every / 4))


def cca_where_it_can(x: Tensor, y: Tensor) -> float:
    """Mean CCA over evenly spaced data points, `CCA_POINTS` a neuron at most; NaN where there are fewer than the two a
    neuron that it needs."""
    neurons = max(x.shape[1], y.shape[1])
    if len(x) < 2 * neurons:
        return math.nan
    if torch.equal(x, y):  # a body that was not adapted
        return math.nan if bool((x == x[0]).all()) else 1.0
    n = min(len(x), CCA_POINTS * neurons)
    chosen = torch.arange(n, device=x.device) * len(x) // n
    return mean_cca(x[chosen], y[chosen])


def _blocks_json(found: Mapping[str, Estimate | None]) -> list[dict[str, Any]]:
    """The blocks that have a value."""
    return [{"block": b, "mean": e.mean, "ci95": e.ci95} for b, e in found.items() if e]


Loaded = tuple[Config, nn.Sequential, dict[str, Tensor]]


def _evaluate_all(
    config: Config,
    models: dict[str, Loaded],
    images: ClassImages,
    family: TaskFamily,
    chunk: int | None,
    report: Callable[[Stage], None],
) -> dict[str, Evaluation]:
    """MAML, ANIL, NIL on both bodies, NIL on an untrained body, pixels: all on the same test episodes."""
    untrained = build.build_model(config, images)
    _, maml, maml_weights = models["maml"]
    _, anil, anil_weights = models["anil"]
    jobs: list[tuple[str, nn.Sequential, Weights, str]] = [
        ("maml", maml, maml_weights, "maml"),
        ("anil", anil, anil_weights, "anil"),
        ("nil", anil, anil_weights, "nil"),
        ("nil_maml", maml, maml_weights, "nil"),
        ("untrained_nil", untrained, slow_weights(untrained), "nil"),
    ]
    results: dict[str, Evaluation] = {}
    for i, (name, model, weights, kind) in enumerate(jobs):

        def show(done: int, i: int = i) -> None:
            report(Stage("test episodes", i * config.test.episodes + done, (len(jobs) + 1) * config.test.episodes))

        results[name] = evaluate(
            method(kind)(model, inner=config.inner_loop),
            weights,
            family,
            config.test,
            task_chunk=chunk,
            report=show,
        )
    scores = torch.cat([nearest_neighbour(e) for e in fixed_episodes(family, config.test)])
    estimate = over_episodes(scores.cpu())
    results["pixels"] = Evaluation(estimate, (estimate,), tuple(scores.tolist()), config.test)
    return results


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
        change = paired_difference(torch.tensor(frozen.per_episode), torch.tensor(whole.per_episode))
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
                "mean": whole.final.mean,
                "ci95": whole.final.ci95,
                "body_frozen": {"mean": frozen.final.mean, "ci95": frozen.final.ci95},
                "difference": {"mean": change.mean, "ci95": change.ci95},
                "cka": cka,
                "lowest_body_cka": min((e for e in cka if e["block"] != head), key=lambda e: e["mean"], default=None),
            }
        )
    report(Stage("early in training", len(rows), len(rows)))
    return rows


_TITLES = {
    "maml": ("MAML", "all blocks adapt"),
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
        e = paired_difference(torch.tensor(results[a].per_episode), torch.tensor(results[b].per_episode))
        rows.append({"a": a, "b": b, "mean": e.mean, "ci95": e.ci95, "episodes": e.episodes})
    return rows


def _cost(config: Config, models: dict[str, Loaded], images: ClassImages, family: TaskFamily) -> dict[str, Any]:
    """Training step and test-time adaptation of MAML and ANIL, timed in turn on one thread."""
    device = images.images.device
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_tasks = build.tasks(config, images, "train")
        batch = train_tasks.sample(config.outer.meta_batch, generator_for(config.seed, "cost"))
        one = family.sample(1, generator_for(config.seed, "cost", 1))
        training: dict[str, Callable[[], object]] = {}
        inference: dict[str, Callable[[], object]] = {}

        def learn(predict: Predict, parameters: Weights) -> Callable[[], object]:
            chunk = build.chunk_size(config, device)
            kinds = build.losses(config)
            return lambda: meta_gradient(predict, parameters, batch, kinds.loss, task_chunk=chunk)

        def infer(predict: Predict, parameters: Weights) -> Callable[[], object]:
            def run() -> None:
                with torch.no_grad():
                    for _ in range(5):
                        predict(parameters, one)

            return run

        for name, (own, model, parameters) in models.items():
            training[name] = learn(
                predictor(model, own.inner_loop, statistics=own.inner.statistics),
                parameters,
            )
            inner = with_steps(own.inner_loop, own.test.inner_steps)
            inference[name] = infer(predictor(model, inner, statistics=own.test.statistics), parameters)
        own, model, parameters = models["anil"]
        nil = predictor(model, NIL.inner(own.inner_loop), head="cosine", statistics=own.test.statistics)
        inference["nil"] = infer(nil, parameters)
        trained = measure_cost(training, device=device)
        inferred = measure_cost(inference, device=device)
    finally:
        torch.set_num_threads(threads)
    return {
        "threads": 1,
        "device": device.type,
        "repeats": trained.repeats,
        "train_ms": dict(trained.milliseconds),
        "train_ratio": trained.ratio("maml", "anil"),
        "inference_ms": {n: t / 5 for n, t in inferred.milliseconds.items()},
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


def verdict(summary: dict[str, Any]) -> dict[str, Any]:
    """The paper's claims as predicates on this study's numbers, each with its tolerance and its evidence.

    The answer is "undecided" where MAML's inner loop gains next to nothing: then no freezing could lose anything.
    """
    freeze = {len(r["frozen"]): r for r in summary["freezing"]}
    last = freeze[max(freeze)]["difference"]
    paired = {(p["a"], p["b"]): p for p in summary["paired"]}
    anil, nil = paired["anil", "maml"], paired["nil_maml", "maml"]
    cka = {r["block"]: r["mean"] for r in summary["cka"]["maml"]}
    body = [v for b, v in cka.items() if b != "head"]
    moved = {r["block"]: r["relative"] for r in summary["movement"]["maml"]}
    steps = summary["methods"]["maml"]["steps"]
    gain = steps[-1]["mean"] - steps[0]["mean"]

    def points(e: dict[str, Any]) -> str:
        return f"{100 * e['mean']:+.1f} ± {100 * e['ci95']:.1f} points (ci95, paired)"

    reuse = [
        {
            "claim": "Freezing the whole body of the MAML model at test costs less than 2 points",
            "holds": last["mean"] > -0.02,
            "evidence": points(last),
        },
        {
            "claim": "ANIL is not more than 2 points below MAML",
            "holds": anil["mean"] > -0.02,
            "evidence": points(anil),
        },
        {
            "claim": "With MAML's body and no inner loop at all (NIL), not more than 2 points are lost",
            "holds": nil["mean"] > -0.02,
            "evidence": points(nil),
        },
        {
            "claim": "The inner loop leaves the body's representation alike (linear CKA above 0.9 in every body block)",
            "holds": min(body, default=0.0) > 0.9,
            "evidence": f"lowest body CKA {min(body, default=math.nan):.3f}, head {cka.get('head', math.nan):.3f}",
        },
    ]
    context = [
        {
            "claim": "The inner loop does something: accuracy rises with its steps",
            "holds": gain > 0.05,
            "evidence": f"{100 * steps[0]['mean']:.1f} % before, {100 * steps[-1]['mean']:.1f} % after",
        },
        {
            "claim": "The head moves farther than every body block, for its size",
            "holds": moved["head"] > max(v for b, v in moved.items() if b != "head"),
            "evidence": ", ".join(f"{b} {v:.3f}" for b, v in moved.items()),
        },
    ]
    held = sum(c["holds"] for c in reuse)
    answer = "feature reuse" if held == len(reuse) else "rapid learning" if held == 0 else "mixed"
    return {"answer": answer if context[0]["holds"] else "undecided", "claims": reuse + context}
