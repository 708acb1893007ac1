"""`innerloop playground`: a page in the browser in which MAML can be played with."""

import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from innerloop.cli import options
from innerloop.cli.help import Help
from innerloop.data.paths import cache_root
from innerloop.playground import write_page

HELP = Help(
    "Open the playground in the browser: meta-train MAML on sine waves, and let MAML, ANIL and NIL learn characters "
    "from one drawing each, including yours. It is one HTML file that needs no network.",
    (
        "innerloop playground",
        "innerloop playground --out site    # write site/playground.html, open nothing",
    ),
)


@dataclass(frozen=True)
class PlaygroundArgs:
    """Options of `innerloop playground`."""

    out: Path | None = None
    """write playground.html into this folder, and open nothing"""


def run(args: Sequence[str]) -> int:
    """Write the page and open it."""
    asked = options.parse(PlaygroundArgs, args, "playground", text=HELP)
    path = write_page(asked.out or cache_root())
    if asked.out is None and webbrowser.open(path.resolve().as_uri()):
        print(f"opened {path}")
    else:
        print(f"wrote {path}; open it in a browser")
    return 0
