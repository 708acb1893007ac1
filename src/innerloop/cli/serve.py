"""`innerloop serve`: a saved classifier on a web page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.core.threads import use_threads
from innerloop.errors import InnerloopError, shown
from innerloop.runs import RunError

HELP = Help(
    "Serve a saved classifier on a web page: drop a photo or use the camera, see the prediction and the nearest "
    "examples, correct it, and it learns. Make a classifier with: innerloop classify --support DIR --save my.innerloop",
    (
        "innerloop serve my.innerloop                          # at http://127.0.0.1:8000",
        "innerloop serve my.innerloop --save my.innerloop      # keep what it is taught",
        "innerloop serve my.innerloop --host 0.0.0.0 --port 8080  # for other machines; there is no password",
    ),
)


@dataclass(frozen=True)
class ServeArgs:
    """Options of `innerloop serve`."""

    model: Positional[Path]
    """a file that `innerloop classify --save` wrote"""
    save: Path | None = None
    """the file that keeps what it is taught, which may be the same one (default: nothing is kept)"""
    host: str = "127.0.0.1"
    """the address to listen at; the default accepts this machine only. There is no password"""
    port: int = 8000
    """the port to listen at"""
    megabytes: float = 20.0
    """the largest upload, in megabytes"""
    pixels: int = 50_000_000
    """the largest image, in pixels"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice"""


def run(args: Sequence[str]) -> int:
    """Serve until interrupted."""
    asked = options.parse(ServeArgs, args, "serve", text=HELP)
    if not 1 <= asked.port <= 65535:
        raise InnerloopError(f"--port must be 1 to 65535, got {asked.port}")
    if not 0 < asked.megabytes <= 1000 or not 1 <= asked.pixels <= 100_000_000:
        raise InnerloopError("--megabytes must be above 0 and at most 1000, --pixels from 1 to 100000000")
    if asked.save:
        options.check_out(asked.save.parent)
    use_threads(asked.threads)
    try:
        import uvicorn

        from innerloop.estimator import FewShotClassifier
        from innerloop.serve import Limits, application
        from innerloop.serve.app import LOOPBACK
    except ImportError as error:
        what = (
            str(error)
            if "innerloop[" in str(error)
            else "serve needs more packages: pip install 'innerloop[serve,pretrained]'"
        )
        raise RunError(what) from error
    try:
        classifier = FewShotClassifier.load(options.found(asked.model), device=asked.device)
    except ImportError as error:
        raise RunError(str(error)) from error
    everywhere = asked.host in ("0.0.0.0", "::")
    hosts = ("*",) if everywhere else (*LOOPBACK, asked.host.lower(), f"[{asked.host.lower()}]")
    app = application(classifier, save=asked.save, limits=Limits(asked.megabytes, asked.pixels), hosts=hosts)
    at = f"[{asked.host}]" if ":" in asked.host else asked.host
    show.console.print(f"{shown(asked.model)} is at http://{at}:{asked.port} (Ctrl-C ends it)", markup=False)
    if asked.host not in ("127.0.0.1", "localhost", "::1"):
        show.console.print("whoever reaches this address can ask it and teach it: there is no password")
    uvicorn.run(app, host=asked.host, port=asked.port, log_level="warning", server_header=False)
    return 0
