"""The playground's models and drawings, made from run folders and Omniglot's test characters.

    python benchmarks/playground_weights.py MAML_RUN MAML_SMALL_HEAD_RUN ANIL_RUN

docs/playground.md names the runs. Weights are rounded to float16; each file's header says what it is.
"""

import sys
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import save_file

import innerloop
from innerloop.runs import RunFolder

MODELS = Path(str(files("innerloop.playground"))) / "models"
NAMES = ("maml", "maml-small-head", "anil")
CHARACTERS, DRAWINGS = 24, 6
LICENCE = "Omniglot: Lake, Salakhutdinov & Tenenbaum 2015, MIT licence"


def model(run: Path, name: str) -> None:
    """One model, with its best step and its validation accuracy."""
    folder = RunFolder(run)
    step = folder.step("best")
    score = next(row["validation"] for row in folder.metrics if row["step"] == step)
    config = folder.config
    about = {
        "method": config["method"],
        "head_scale": f"{config['model']['head_scale']:g}",
        "steps": str(config["inner"]["steps"]),
        "lr": f"{config['inner']['lr']:g}",
        "outer_steps": str(step),
        "validation_accuracy": f"{score:.4f}",
        "validation_episodes": str(config["validation"]["episodes"]),
        "statistics": config["inner"]["statistics"],
        "data": f"omniglot, split vinyals, 5-way 1-shot. {LICENCE}",
    }
    weights = {n: w.half().contiguous() for n, w in folder.load("best").weights.items()}
    save_file(weights, MODELS / f"{name}.safetensors", about)


def characters() -> None:
    """Some drawings of some test characters (not rotated), spread over the alphabets: uint8, ink is 255."""
    images = innerloop.load("omniglot")
    upright = [c for c in images.splits["test"] if images.class_names[c].endswith("/rot000")]
    chosen = upright[:: len(upright) // CHARACTERS][:CHARACTERS]
    first = [int(images.first[c]) for c in chosen]
    drawings = torch.stack([images.images[i : i + DRAWINGS].reshape(DRAWINGS, 28, 28) for i in first])
    about = {"names": ", ".join(images.class_names[c].removesuffix("/rot000") for c in chosen), "data": LICENCE}
    save_file({"drawings": drawings.contiguous()}, MODELS / "characters.safetensors", about)


if __name__ == "__main__":
    MODELS.mkdir(exist_ok=True)
    for path, name in zip(map(Path, sys.argv[1:]), NAMES, strict=True):
        model(path, name)
    characters()
