"""A trained run or a saved classifier as a folder that can be handed on."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from innerloop.report.card import classifier_card, run_card
from innerloop.runs import RunError, RunFolder
from innerloop.runs.files import write_bytes
from innerloop.sharing.bundle import CARD, CLASSIFIER, made_whole, write_manifest
from innerloop.training import Config

RUN_FILES = ("config.json", "env.json", "finished.json", "metrics.jsonl", "eval.json")


def export_run(
    run: str | os.PathLike[str], out: str | os.PathLike[str], *, name: str = "", notes: Sequence[str] = ()
) -> Path:
    """Write a run of `innerloop train` as a folder: its best weights (safetensors), settings, tests and a model card.

    The folder is itself a run folder: `load_run`, `innerloop evaluate` and `innerloop analyse` take it. `name` is what
    the card calls it ("owner/name" on the Hub; by default that of `out`); `notes` are further paragraphs. Raises
    RunError for another kind of run, or a folder `out` that is not empty.
    """
    source, out = RunFolder(Path(run)), Path(out)
    source.config_as(Config.from_json)  # names another kind of run
    checkpoint = source.load("best")
    _check_free(out)
    with made_whole(out) as part:
        for file in RUN_FILES:
            if (source.path / file).exists():
                shutil.copyfile(source.path / file, part / file)
        made = RunFolder(part)
        made.save(replace(checkpoint, optimizer={}), best=True)
        write_bytes(part / CARD, run_card(made, name or out.name, notes).encode())
        write_manifest(part, "run")
    return out


def export_classifier(path: str | os.PathLike[str], out: str | os.PathLike[str], *, name: str = "") -> Path:
    """Write a saved classifier as a folder with a model card. Raises InnerloopError for a file that is none."""
    from innerloop.estimator.saved import read_saved

    out = Path(out)
    saved = read_saved(path)
    about = asdict(saved.layout) | {"support": len(saved.support[1])}
    _check_free(out)
    with made_whole(out) as part:
        shutil.copyfile(path, part / CLASSIFIER)
        write_bytes(part / CARD, classifier_card(name or out.name, about).encode())
        write_manifest(part, "classifier")
    return out


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is there already and is left as it is; give another --out")
