"""`innerloop data list | fetch | check`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.data.catalogue import DATASETS, FOLDER, REGRESSIONS, find_images
from innerloop.data.check import check
from innerloop.data.dataset import Dataset
from innerloop.data.fetch import fetch
from innerloop.data.paths import DataMissing, data_root
from innerloop.errors import InnerloopError

HELP = Help(
    "List, download and check data sets. NAME is one of ours, or module:attribute for a data set of your own.",
    (
        "innerloop data list                     # classes, images, licence, and what is here",
        "innerloop data fetch omniglot           # continues an interrupted download",
        "innerloop data check omniglot           # open every image, compare checksums",
    ),
    more="""usage: innerloop data list [NAME]
       innerloop data fetch NAME [--data-dir DIR]
       innerloop data check [NAME] [--data-dir DIR]

actions
  list    all data sets (or NAME alone): classes, images, licence, and whether the files are here
  fetch   download the files of NAME, continuing an interrupted download
  check   open every image, count them, compare checksums (without NAME: all data sets that are here)

DIR is by default INNERLOOP_DATA, else the user's data folder.""",
)


ACTIONS = ("list", "fetch", "check")


@dataclass(frozen=True)
class DataArgs:
    """Options of an action."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """the data set, or module:attribute"""
    data_dir: Path | None = None
    """the folder of downloads"""


def run(args: Sequence[str]) -> int:
    """List, fetch or check."""
    action, rest = options.action_of("data", args, HELP, ACTIONS), args[1:]
    if isinstance(action, int):
        return action
    asked = options.parse(DataArgs, rest, f"data {action}", text=HELP, makes_data_dir=action == "fetch")
    given = [find_images(asked.name)] if asked.name else []
    if action == "check":
        return show_check(given, asked.data_dir)
    if action == "list":
        return show_list(given or DATASETS, asked.data_dir)
    if not given:
        raise InnerloopError(f"which data set? Give its NAME: {', '.join(d.name for d in DATASETS)}")
    with show.progress() as bar:
        paths = fetch(given[0], asked.data_dir, bar)
    for path in paths:
        print(f"{given[0].name}: {path}")
    if not paths:
        print(f"{given[0].name} needs no download")
    return 0


def show_list(datasets: Sequence[Dataset], data_dir: Path | None) -> int:
    """What there is, and what of it is here."""
    root = data_root(data_dir)
    rows, how = [], []
    for d in datasets:
        try:
            here = "here" if d.locate(d, root) else "drawn here"
        except DataMissing:
            fetched = any(file.url for file in d.files)
            here = "to fetch" if fetched else "by hand"
            how.append(f"{d.name}: " + (f"innerloop data fetch {d.name}" if fetched else d.how_by_hand(root)))
        count = ("not known" if n is None else str(n) for n in (d.classes, d.images))
        rows.append((d.name, *count, "×".join(map(str, d.shape)), here))
    show.table("data sets", ("name", "classes", "images", "shape", "where"), rows, f"data folder: {root}")
    for line in how:
        print(line)
    for d in datasets:
        print(f"{d.name}: licence: {d.licence}")
    others = ", ".join(r.name for r in REGRESSIONS)
    print(f"Also: {others} (regression, no files) and {FOLDER} (your own ROOT/CLASS/IMAGE, --folder.root ROOT).")
    return 0


def show_check(given: Sequence[Dataset], data_dir: Path | None) -> int:
    """Open everything; status 1 if something that was asked for is not whole."""
    bad = False
    for data in given or DATASETS:
        with show.progress() as bar:
            found = check(data, data_dir, bar)
        name = data.name
        if not given and not found.files and found.problems:
            print(f"{name}: not here")
            continue
        bad = bad or not found.ok
        print(f"{name}: {'ok' if found.ok else 'NOT OK'}, {found.classes} classes, {found.images} images")
        for file in found.files:
            print(f"  {file.path}  {file.size} bytes, checksum {file.checksum}")
        for line in (*found.problems, *found.notes):
            print(f"  {line}")
    return 1 if bad else 0
