"""The trained models that come with the package: run folders whose weights are kept in half precision."""

import hashlib
import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors.torch import load

from innerloop.data.paths import cache_root
from innerloop.runs import RunFolder
from innerloop.runs.folder import WEIGHTS, Checkpoint
from innerloop.sharing.bundle import CARD, kept, write_manifest
from innerloop.sharing.export import RUN_FILES


@dataclass(frozen=True)
class Shipped:
    """Where the weights of a model of the package are."""

    step: int
    """of the training"""
    playground: str = ""
    """the file of the playground that has them; "": they lie beside the settings"""


SHIPPED = {
    "omniglot-20way-1shot-maml": Shipped(12000),
    "omniglot-5way-1shot-maml": Shipped(400, "maml"),
    "omniglot-5way-1shot-maml-small-head": Shipped(400, "maml-small-head"),
    "omniglot-5way-1shot-anil": Shipped(400, "anil"),
    "glyphs-5way-1shot-maml": Shipped(600),
    "glyphs-5way-1shot-maml-small-head": Shipped(600),
    "glyphs-5way-1shot-anil": Shipped(600),
}


def unpacked(name: str) -> Path:
    """The run folder of a model of the package, in the user's cache folder, where results can be added to it."""
    at = SHIPPED[name]
    with as_file(files("innerloop")) as package:
        source = package / "sharing" / "models" / name
        place = (
            package / "playground" / "models" / f"{at.playground}.safetensors" if at.playground else source / WEIGHTS
        )
        own = [source / file for file in (*RUN_FILES, CARD) if (source / file).exists()]
        content = place.read_bytes()
        digest = hashlib.sha256(content + b"".join(p.read_bytes() for p in own)).hexdigest()

        def make(part: Path) -> None:
            for file in own:
                shutil.copyfile(file, part / file.name)
            tensors = {n: t.float() if t.dtype == torch.float16 else t for n, t in load(content).items()}
            RunFolder(part).save(Checkpoint(at.step, tensors, {}, {}), best=True)
            write_manifest(part, "run")

        return kept(cache_root() / "models" / digest[:12] / name, make)
