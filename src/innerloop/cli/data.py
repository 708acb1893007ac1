"""`innerloop data list | fetch | check`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.cli import options, show
from innerloop.data.check import check, recipe_of
from innerloop.data.fetch import fetch
from innerloop.data.places import DataMissing, data_root
from innerloop.data.sources import SOURCES, source
from innerloop.errors import InnerloopError

USAGE = """usage: innerloop data list
       innerloop data fetch NAME [--data-dir DIR]
       innerloop data check [NAME] [--data-dir DIR]

list    what there is: classes, images, licence, and whether its files are here
fetch   download the archives of NAME (goes on where an earlier download was cut off)
check   open every image, count them, compare checksums (without NAME: all that are here)

DIR is by default INNERLOOP_DATA, else the user's data folder."""


ACTIONS = ("list", "fetch", "check")


@dataclass(frozen=True)
class DataArgs:
    """Options of an action."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """the data set"""
    data_dir: Path | None = None
    """the folder of downloads"""


def run(args: Sequence[str]) -> int:
    """List, fetch or check."""
    if not args or {"-h", "--help"} & set(args):
        print(USAGE)
        return 0
    action, *rest = args
    if action not in ACTIONS:
        return options.no_action("data", action, ACTIONS)
    asked = options.parse(DataArgs, rest, f"data {action}", makes_data_dir=action == "fetch")
    if asked.name:
        source(asked.name)
    if action == "check":
        return show_check([asked.name] if asked.name else [], asked.data_dir)
    if action == "list":
        if asked.name:
            raise InnerloopError(f"'data list' shows all data sets, and takes no name; got {asked.name}")
        return show_list(asked.data_dir)
    if not asked.name:
        raise InnerloopError(f"which data set? Give its NAME: {', '.join(s.name for s in SOURCES)}")
    with show.progress() as bar:
        paths = fetch(asked.name, asked.data_dir, bar)
    for path in paths:
        print(f"{asked.name}: {path}")
    if not paths:
        print(f"{asked.name} needs no download")
    return 0


def show_list(data_dir: Path | None) -> int:
    """What there is, and what of it is here."""
    root = data_root(data_dir)
    rows, how = [], []
    for s in SOURCES:
        try:
            recipe = recipe_of(s.name)
            here = "drawn here"
            if recipe is not None:
                recipe.locate(root)
                here = "here"
        except DataMissing:
            here = "to fetch" if any(a.url for a in s.archives) else "by hand"
            how.append(
                f"{s.name}: innerloop data fetch {s.name}"
                if here == "to fetch"
                else f"{s.name}: {s.by_hand} into {root}"
            )
        c, h, w = s.shape
        rows.append((s.name, str(s.classes), str(s.images), f"{c}×{h}×{w}", here))
    show.table("data sets", ("name", "classes", "images", "shape", "where"), rows, f"data folder: {root}")
    for line in how:
        print(line)
    for s in SOURCES:
        print(f"{s.name}: licence: {s.licence}")
    print("Also: sinusoid (regression, no files) and folder (your own ROOT/CLASS/IMAGE, --folder.root ROOT).")
    return 0


def show_check(names: Sequence[str], data_dir: Path | None) -> int:
    """Open everything; status 1 if something that was asked for is not whole."""
    bad = False
    for name in names or [s.name for s in SOURCES]:
        with show.progress() as bar:
            found = check(name, data_dir, bar)
        if not names and not found.files and found.problems:
            print(f"{name}: not here")
            continue
        bad = bad or not found.ok
        print(f"{name}: {'ok' if found.ok else 'NOT OK'}, {found.classes} classes, {found.images} images")
        for file in found.files:
            print(f"  {file.path}  {file.size} bytes, checksum {file.checksum}")
        for line in (*found.problems, *found.notes):
            print(f"  {line}")
    return 1 if bad else 0
