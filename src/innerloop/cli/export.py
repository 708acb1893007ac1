"""`innerloop export`: what was trained or saved here, in a form that others use."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.errors import InnerloopError, shown
from innerloop.runs import RunError, RunFolder

HELP = Help(
    "Write a saved classifier in a form that other programs use: an ONNX file for onnxruntime and the like.",
    (
        "innerloop classify --support examples --save my.innerloop    # make a classifier",
        "innerloop export my.innerloop --onnx my.onnx                 # images in, probabilities out",
    ),
)


@dataclass(frozen=True)
class ExportArgs:
    """Options of `innerloop export`."""

    source: Positional[Path]
    """a file that `innerloop classify --save` wrote"""
    onnx: Path | None = None
    """the ONNX file to write a classifier to: pictures in, a probability for each class out"""


def run(args: Sequence[str]) -> int:
    """Write what is asked for."""
    asked = options.parse(ExportArgs, args, "export", text=HELP)
    if asked.onnx is None:
        raise InnerloopError("export it as what? Give --onnx FILE")
    _write_onnx(asked.source, asked.onnx)
    return 0


def _write_onnx(source: Path, path: Path) -> None:
    if RunFolder(source).exists:
        raise InnerloopError(
            f"{source} is a run: an ONNX file holds a classifier with its examples; make one with 'innerloop classify "
            f"--run {source} --support DIR --save FILE' and export that"
        )
    options.check_out(path.parent)
    if path.exists() and path.suffix != ".onnx":
        raise RunError(f"{path} is left as it is; give a file that ends in .onnx")
    try:
        from innerloop.estimator import FewShotClassifier

        FewShotClassifier.load(source, device="cpu").export_onnx(path)
    except ImportError as error:
        raise RunError(str(error)) from error
    show.console.print(f"{shown(path)} ({path.stat().st_size / 1e6:.1f} MB): pictures in, probabilities out")
