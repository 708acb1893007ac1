"""The study over several seeds: each claim tested on all of them, with the mean and the seed_std of its number."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from innerloop.core.statistics import paired_difference
from innerloop.errors import InnerloopError
from innerloop.runs import read_json
from innerloop.runs.files import as_json, write_all
from innerloop.runs.folder import differences
from innerloop.studies import claims
from innerloop.studies.fan_out import Launcher
from innerloop.studies.inside import CUT, Numbers
from innerloop.studies.result import Row, SeedValue, Unit, without_speed_settings
from innerloop.studies.stage import Stage
from innerloop.studies.study import (
    FOLDERS,
    MEASURES,
    check_config,
    check_folder,
    claim_json,
    shared_out,
    study,
    train_at_once,
    trainings,
    verdict,
)
from innerloop.training import Config, build

Summary = Mapping[str, Any]
"""a study's summary.json"""


def study_seeds(
    config: Config,
    seeds: Sequence[int],
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
    """A `study` for each of `seeds`, which differ, into ``out/seedN``; returns what is written to ``out/summary.json``.

    That is the first seed's, with the entry `over_seeds`: the accuracies and the claims over all seeds. First all
    models of all seeds are trained (`jobs`, `launcher` and `options` as in `study`), then each seed is measured here.
    Finished studies are used, unfinished ones continued (with `resume`, which also adds seeds to a finished study).
    Raises InnerloopError where a finished one has other settings.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InnerloopError(f"seeds must differ, got {' '.join(map(str, seeds)) or 'none'}")
    check_config(config)
    folders = {s: out / f"seed{s}" for s in seeds}
    if not (resume and _has_others(out, seeds)):
        check_folder(out, [f"{f.name}/{name}" for f in folders.values() for name in FOLDERS.values()], resume=resume)
    unfinished = [s for s, f in folders.items() if not (f / "summary.json").exists()]
    configs = {s: replace(config, seed=s) for s in seeds}
    for s in [s for s in seeds if s not in unfinished]:
        _check_settings(folders[s], configs[s])
    images = build.load_images(config, data_dir)
    assert images is not None
    shared, threads = shared_out(config, jobs, len(FOLDERS) * len(seeds))
    threads = threads if launcher == "local" else config.threads
    wanted = [w for s in unfinished for w in trainings(configs[s], images, folders[s], threads, data_dir).values()]
    title = f"train {len(wanted)} models"
    train_at_once(wanted, title, out, jobs=shared, launcher=launcher, options=options, report=report)
    for s in unfinished:

        def of_seed(stage: Stage, s: int = s) -> None:
            report(replace(stage, title=f"seed {s}: {stage.title}"))

        study(configs[s], folders[s], preset=preset, data_dir=data_dir, resume=True, jobs=jobs, report=of_seed)
    summaries = {s: read_json(f / "summary.json") for s, f in folders.items()}
    first = folders[seeds[0]]
    summary = summaries[seeds[0]] | {"over_seeds": over_seeds(summaries)}
    pictures = (first / "episodes.safetensors").read_bytes()
    write_all(out, {"episodes.safetensors": pictures, "summary.json": as_json(summary)})
    return summary


def _check_settings(folder: Path, config: Config) -> None:
    """Refuse a finished study that differs from `config` in more than what changes speed only."""
    own, asked = (
        without_speed_settings(c).to_json()
        for c in (Config.from_json(read_json(folder / "summary.json")["config"]), config)
    )
    if found := differences(own, asked):
        raise InnerloopError(
            f"{folder} holds a finished study with other settings ({'; '.join(found)}); ask for the same, or give "
            "another --out"
        )


def _has_others(out: Path, seeds: Sequence[int]) -> bool:
    """Whether the folder holds a finished study of several seeds, but not of these."""
    path = out / "summary.json"
    known = read_json(path).get("over_seeds") if path.exists() else None
    return known is not None and known["seeds"] != list(seeds)


def over_seeds(summaries: Mapping[int, Summary]) -> dict[str, Any]:
    """The accuracies and the claims over seeds, each claim with the `Row` of the number that decides it."""
    first = next(iter(summaries.values()))
    starts = [d["method"] for d in first["dial"]]
    numbers = {n: numbers_of(summaries, n) for n in starts}
    anil = [_value(s, _entry(v["paired"], a="anil", b="maml")) for s, v in summaries.items()]
    found = verdict(numbers, claims.range_of(anil))
    tested = {n: [claim_json(o) for o in numbers[n].outcomes()] for n in starts} | {"maml": found["claims"]}

    def with_numbers(name: str) -> list[dict[str, Any]]:
        own = [_deciding(numbers_of({s: v}, name)) for s, v in summaries.items()]
        decided = [
            tuple(SeedValue(s, r.mean, r.high - r.mean) for s, r in zip(summaries, of_claim, strict=True))
            for of_claim in zip(*own, strict=True)
        ]
        rows = zip(tested[name], _UNITS, [*decided, tuple(anil)], strict=False)  # of the small start the first six
        return [
            claim | {"number": None if any(math.isnan(v.mean) for v in values) else Row("", unit, values).to_json()}
            for claim, unit, values in rows
        ]

    accuracy = [
        Row(m["title"], "accuracy", tuple(_value(s, v["methods"][n]) for s, v in summaries.items()))
        for n, m in first["methods"].items()
    ]
    return {
        "seeds": list(summaries),
        "answer": found["answer"],
        "answers": found["answers"],
        "accuracy": [r.to_json() for r in accuracy],
        "claims": {n: with_numbers(n) for n in starts},
    }


def numbers_of(summaries: Mapping[int, Summary], name: str) -> Numbers:
    """What the claims about the MAML `name` are tested on, over the seeds: as `Inside.numbers` of one of them."""

    def over(find: Callable[[Summary], Mapping[str, Any]]) -> claims.Range:
        return claims.range_of([_value(s, find(v)) for s, v in summaries.items()])

    def by_block(part: str, mean: str, ci95: str) -> dict[str, claims.Range]:
        found = [{e["block"]: e for e in v[part][name]} for v in summaries.values()]
        blocks = [b for b in found[0] if all(b in f for f in found)]
        return {b: over(lambda v, b=b: _interval(_entry(v[part][name], block=b), mean, ci95)) for b in blocks}

    def gain(v: Summary) -> Mapping[str, Any]:
        whole, untrained = (torch.tensor(v["methods"][n]["per_episode"]) for n in (name, "untrained_nil"))
        return asdict(paired_difference(whole, untrained))

    shot = next(iter(summaries.values()))["data"]["shot"]
    return Numbers(
        over(lambda v: _entry(v["dial"], method=name)["frozen"]["difference"]),
        over(lambda v: _entry(v["dial"], method=name)["nil"]["difference"]),
        claims.Learnt(over(gain), shot),
        {measure: by_block(part, "mean", "ci95") for part, measure in MEASURES.items()},
        by_block("movement", "relative", "relative_ci95"),
    )


_ALIKE: tuple[Unit, Unit] = ("similarity", "similarity")
_UNITS: tuple[Unit, ...] = ("points", *_ALIKE, *_ALIKE, "relative", "points", "points")


def _deciding(n: Numbers) -> list[claims.Range]:
    """The number that decides each of `Numbers.outcomes`, that of a body being its lowest block's; then NIL's."""
    head = list(n.moved)[-1]
    unknown = claims.range_of(math.nan)
    found = [n.frozen]
    for measure in (CUT, "CKA"):
        body = [r for b, r in n.alike[measure].items() if b != head]
        found += [min(body, default=unknown), n.alike[measure].get(head, unknown)]
    return [*found, n.moved[head], n.nil]


def _entry(entries: Sequence[Mapping[str, Any]], **having: str) -> Mapping[str, Any]:
    return next(e for e in entries if all(e[k] == v for k, v in having.items()))


def _interval(entry: Mapping[str, Any], mean: str, ci95: str) -> Mapping[str, Any]:
    return {"mean": entry[mean], "ci95": entry[ci95]}


def _value(seed: int, found: Mapping[str, Any]) -> SeedValue:
    return SeedValue(seed, found["mean"], found["ci95"], found.get("episodes"))
