"""The trained models of the package, made from run folders: settings, tests, card, weights rounded to float16.

python benchmarks/ship_models.py weights RUN NAME   # a run folder becomes the model NAME
python benchmarks/ship_models.py playground         # the models of the playground: their settings, no new weights
innerloop evaluate NAME                             # tests the rounded weights
python benchmarks/ship_models.py card NAME "..."    # takes the tests over and writes the card, with further paragraphs
"""

import json
import shlex
import sys
from importlib.resources import files
from pathlib import Path

from safetensors.torch import save_file

from innerloop.cli import options
from innerloop.cli.train import HELP, TrainArgs
from innerloop.report.card import run_card
from innerloop.runs import RunFolder, write_json
from innerloop.runs.files import write_bytes
from innerloop.runs.folder import WEIGHTS
from innerloop.sharing.export import RUN_FILES
from innerloop.sharing.shipped import unpacked

MODELS = Path(str(files("innerloop.sharing"))) / "models"
TRAIN = (
    "train --preset omniglot-5way-1shot-cpu --model.readout mean --model.affine --inner.steps 5 --inner.lr 0.1 "
    "--inner.statistics support --test.statistics support --test.inner-steps 5 --outer.meta-batch 4 --outer.steps 400 "
    "--validation.every 200 --validation.episodes 100"
)
"""docs/playground.md"""
PLAYGROUND = {
    "omniglot-5way-1shot-maml": "",
    "omniglot-5way-1shot-maml-small-head": "--model.head-scale 0.05",
    "omniglot-5way-1shot-anil": "--method anil",
}


def weights(run: Path, name: str) -> None:
    """Files of the run, but its tests, which are of weights that were not rounded."""
    for file in RUN_FILES:
        if file != "eval.json":
            write_bytes(MODELS / name / file, (run / file).read_bytes())
    rounded = {n: w.half().contiguous() for n, w in RunFolder(run).load("best").weights.items()}
    save_file(rounded, MODELS / name / WEIGHTS)


def playground() -> None:
    """Settings of the models that the playground has; commit and time of these runs were not kept."""
    for name, more in PLAYGROUND.items():
        args = shlex.split(f"{TRAIN} {more}")
        start, config = options.starting_config(args[1:], "")
        asked = options.parse(TrainArgs, args[1:], "train", text=HELP, default=TrainArgs(config, preset=start))
        write_json(MODELS / name / "config.json", asked.config.to_json())
        write_json(MODELS / name / "env.json", {"command": ["innerloop", *args], "commit": None})


def card(name: str, *notes: str) -> None:
    """The tests of the unpacked model, and the card."""
    made = RunFolder(unpacked(name))
    write_json(MODELS / name / "eval.json", json.loads((made.path / "eval.json").read_text()))
    write_bytes(MODELS / name / "README.md", run_card(made, name, notes).encode())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["weights", run, name]:
            weights(Path(run), name)
        case ["playground"]:
            playground()
        case ["card", name, *notes]:
            card(name, *notes)
        case _:
            sys.exit(__doc__)
