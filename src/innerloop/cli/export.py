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
    "Share a run of `innerloop train` or a classifier that `innerloop classify --save` wrote: as a folder with a model "
    "card, on the Hugging Face Hub (others use it as hf:OWNER/NAME), or as an ONNX file.",
    (
        "innerloop export runs/mine --out mine                    # ends with mine/README.md, the model card",
        "innerloop export runs/mine --hub owner/mine              # upload it, as a private repository",
        "innerloop export my.innerloop --onnx my.onnx             # images in, probabilities out",
    ),
)


@dataclass(frozen=True)
class ExportArgs:
    """Options of `innerloop export`."""

    source: Positional[Path]
    """a run folder, or a file that `innerloop classify --save` wrote"""
    out: Path | None = None
    """the folder to write, which must not be there yet"""
    hub: str | None = None
    """OWNER/NAME: upload it to the Hugging Face Hub, as a private repository (log in first: hf auth login)"""
    public: bool = False
    """with --hub: a repository that is not there yet is public"""
    onnx: Path | None = None
    """the ONNX file to write a classifier to: pictures in, a probability for each class out"""


def run(args: Sequence[str]) -> int:
    """Write what is asked for."""
    asked = options.parse(ExportArgs, args, "export", text=HELP)
    if asked.onnx is None and asked.out is None and asked.hub is None:
        raise InnerloopError("export it as what? Give --out FOLDER, --hub OWNER/NAME or --onnx FILE")
    if asked.public and asked.hub is None:
        raise InnerloopError("--public goes with --hub OWNER/NAME")
    source = options.found(asked.source)
    try:
        if asked.onnx is not None:
            _write_onnx(source, asked.onnx)
        if asked.out is not None or asked.hub is not None:
            _share(source, asked)
    except ImportError as error:
        raise RunError(str(error)) from error
    return 0


def _share(source: Path, asked: ExportArgs) -> None:
    from innerloop.sharing import export_classifier, export_run, push_to_hub

    is_run = not source.is_file()
    if is_run:
        options.check_run(source)
    if is_run and not RunFolder(source).evaluations:
        show.console.print(
            f"the run was not tested, and its card will say so: innerloop evaluate {source}", markup=False
        )
    if asked.out is not None:
        options.check_out(asked.out.parent)
        (export_run if is_run else export_classifier)(source, asked.out)
        show.console.print(f"{shown(asked.out)}, with the model card README.md", markup=False)
    if asked.hub is not None:
        show.console.print(f"uploaded to {push_to_hub(source, asked.hub, public=asked.public)}", markup=False)


def _write_onnx(source: Path, path: Path) -> None:
    if RunFolder(source).exists:
        raise InnerloopError(
            f"{source} is a run: an ONNX file holds a classifier with its examples; make one with 'innerloop classify "
            f"--run {source} --support DIR --save FILE' and export that"
        )
    options.check_out(path.parent)
    if path.exists() and path.suffix != ".onnx":
        raise RunError(f"{path} is left as it is; give a file that ends in .onnx")
    from innerloop.estimator import FewShotClassifier

    FewShotClassifier.load(source, device="cpu").export_onnx(path)
    size = path.stat().st_size / 1e6
    show.console.print(f"{shown(path)} ({size:.1f} MB): pictures in, probabilities out", markup=False)
