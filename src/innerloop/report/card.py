"""A model card: what a stranger needs to know of a model, as the README.md of the Hugging Face Hub.

The head of the file is YAML (each value written as JSON, which YAML contains), then Markdown. Numbers come from the
run folder; nothing is computed.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from innerloop.data.dataset import Regression
from innerloop.report.formats import duration
from innerloop.runs import RunFolder
from innerloop.training import Config

_BARS = (
    "`±` is `ci95`, the 95 % interval of the mean over test episodes of this one model. It is one training run with "
    "one seed: how much runs with other seeds differ is not known from it."
)


def run_card(run: RunFolder, name: str, notes: Sequence[str] = ()) -> str:
    """The card of a run folder: its tests with their error bars, data, settings, command and commit."""
    config = run.config_as(Config.from_json)
    data = config.dataset
    what = f"{config.way}-way {config.shot}-shot " if not config.regression else f"{config.shot}-shot "
    tests = run.evaluations
    parts = [
        _head([config.method, config.data], _index(name, config, tests)),
        f"# {name}",
        f"A {config.model.arch} that was meta-trained with {config.method} on {config.data} for {what}"
        f"{'regression' if config.regression else 'classification'}. It is a run folder of the Python library "
        f"innerloop, with the weights of the best step on validation classes (step {run.step('best'):,}).",
        "## Test results",
        *(
            [
                _table(
                    ("method", "classes", "task", "batch norm", "inner steps", _metric(config), "episodes"),
                    tests,
                    config,
                )
            ]
            if tests
            else ["It was not tested."]
        ),
        *([_BARS] if tests else []),
        *notes,
        "## Training",
        _settings(run, config),
        "## Use",
        _python(f"config, model, parameters = il.load_run(il.from_pretrained({json.dumps(name)}))"),
        "```sh\n" + _commands(name, config) + "\n```",
        "## Limits",
        _limits(config),
    ]
    if not isinstance(data, Regression):
        source = [t for t in (data.title, data.citation) if t]
        parts.append(f"Data: {'. '.join(source) or data.name}. Licence of the data: {data.licence}.")
    return "\n\n".join(parts) + "\n"


def classifier_card(name: str, about: Mapping[str, Any]) -> str:
    """The card of a saved classifier; `about` are its metadata (`estimator.saved.Layout`)."""
    classes, config = about["classes"], about["config"]
    body = {
        "pretrained": "EfficientNet-Lite0 (Tan & Le 2019), trained on ImageNet",
        "run": f"the network of a {config['method']} run on {config['data']}" if config else "",
        "own": "a network of its author's own, whose code is not in the file",
        "none": "none: it takes features",
    }[about["body"]]
    rows = [
        ("classes", ", ".join(map(str, classes))),
        ("support images", str(about["support"])),
        ("method", about["settings"]["method"]),
        ("features", body),
        ("none of these", "yes" if about["settings"]["unknown"] is not None else "no"),
        ("innerloop", about["innerloop"]),
    ]
    small = "Small pictures of its support images are in the file." if about["examples"] else ""
    return "\n\n".join(
        [
            _head(["image-classification"], []),
            f"# {name}",
            f"A few-shot classifier of the Python library innerloop, `model.innerloop` (safetensors). {small}".strip(),
            _rows(("", ""), rows),
            "## Use",
            _python(
                f"few = il.FewShotClassifier.load(il.from_pretrained({json.dumps(name)}))\n"
                'few.predict(["photo.jpg"])'
            ),
            "## Limits",
            "It knows its classes only, from a few pictures of each. Its accuracy is not stated here: `innerloop "
            "classify --support DIR --check` estimates that of a support set.",
        ]
    ) + "\n"  # fmt: skip


def _python(code: str) -> str:
    return f"```python\nimport innerloop as il\n\n{code}\n```"


def _head(tags: Sequence[str], index: list[Any]) -> str:
    values: dict[str, Any] = {
        "library_name": "innerloop",
        "tags": ["innerloop", "few-shot-learning", "meta-learning", *tags],
    }
    if index:
        values |= {"pipeline_tag": "image-classification", "model-index": index}
    return "\n".join(["---", *(f"{k}: {json.dumps(v)}" for k, v in values.items()), "---"])


def _index(name: str, config: Config, tests: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The results as the Hub reads them."""
    found = [
        {
            "task": {"type": "image-classification", "name": f"{config.way}-way {t['shot']}-shot classification"},
            "dataset": {"type": t["data"], "name": t["data"], "split": t["split"]},
            "metrics": [
                {
                    "type": "accuracy",
                    "value": round(100 * t["mean"], 2),
                    "name": f"accuracy (%) of {t['method']}, ci95 ± {100 * t['ci95']:.2f}, {t['episodes']} episodes",
                }
            ],
        }
        for t in tests
        if t["metric"] == "accuracy"
    ]
    return [{"name": name, "results": found}] if found else []


def _metric(config: Config) -> str:
    return "mean squared error ± ci95" if config.regression else "accuracy (%) ± ci95"


def _table(heads: Sequence[str], tests: Sequence[Mapping[str, Any]], config: Config) -> str:
    rows = []
    for t in tests:
        scale = 100 if t["metric"] == "accuracy" else 1
        places = 2 if scale == 100 else 3
        asked = t["settings"]
        more = f", support augmented by {t['augment_support']}" if t.get("augment_support") else ""
        way = "" if config.regression else f"{config.way}-way "
        rows.append(
            (
                f"{t['method']}{more}",
                f"{t.get('data', config.data)}, {t['split']}",
                f"{way}{t['shot']}-shot",
                "query batch (transductive)" if asked["statistics"] == "batch" else "support set (non-transductive)",
                str(len(t["steps"]) - 1),
                f"{scale * t['mean']:.{places}f} ± {scale * t['ci95']:.{places}f}",
                str(t["episodes"]),
            )
        )
    return _rows(heads, rows)


def _settings(run: RunFolder, config: Config) -> str:
    env, none = run.environment, "not recorded"
    inner, outer = config.inner, config.outer
    best = run.step("best")
    score = next((r["validation"] for r in run.metrics if r["step"] == best and "validation" in r), None)
    rows = [
        ("outer loop", f"{outer.steps:,} steps of {outer.meta_batch} tasks, {outer.optimizer} at {outer.lr:g}"),
        ("inner loop", f"{inner.steps} steps at {inner.lr:g}, {'first' if inner.first_order else 'second'} order"),
        ("initial head", f"Xavier × {config.model.head_scale:g}"),
        ("augmentation", config.augment),
        ("seed", str(config.seed)),
    ]
    if score is not None:
        scaled = f"{score:.3f}" if config.regression else f"{100 * score:.1f} %"
        rows.append(("validation at the best step", f"{scaled} ({config.validation.episodes} episodes)"))
    if run.finished:
        rows.append(("time", duration(run.summary["seconds"])))
    rows += [
        ("command", f"`{shlex.join(env['command'])}`" if env.get("command") else none),
        ("commit", str(env.get("commit") or none)),
        ("versions", ", ".join(f"{k} {env[k]}" for k in ("innerloop", "torch", "python") if env.get(k)) or none),
        ("processor", str(env.get("gpu") or env.get("processor") or none)),
    ]
    return _rows(("", ""), rows) + "\n\n`config.json` has every setting."


def _commands(name: str, config: Config) -> str:
    which = f"hf:{name}" if "/" in name else name
    lines = [f"innerloop evaluate {which}"]
    return "\n".join(lines if config.regression else [*lines, f"innerloop analyse {which}"])


def _limits(config: Config) -> str:
    if config.regression:
        return f"It was trained and tested on {config.data} alone."
    channels, height, width = config.dataset.shape  # pyright: ignore[reportAttributeAccessIssue]
    return (
        f"It takes images {channels}×{height}×{width} like those of {config.data}, {config.way} classes at a time, "
        "and was tested on no others. Batch norm has no stored statistics: a prediction depends on the support set's, "
        "or on those of the images that it is given together with (see the table)."
    )


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """One cell of a table: a bar or a line break would end it."""
    return " ".join(text.split()).replace("|", "\\|")
