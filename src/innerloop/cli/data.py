"""`innerloop data list | fetch | check`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from innerloop.cli import show
from innerloop.data.check import check, recipe_of
from innerloop.data.fetch import fetch
from innerloop.data.places import DataMissing, data_root
from innerloop.data.sources import SOURCES

USAGE = """usage: innerloop data list
       innerloop data fetch NAME [--data-dir DIR]
       innerloop data check [NAME] [--data-dir DIR]

list    what there is: classes, images, licence, and whether its files are here
fetch   download the archives of NAME (goes on where an earlier download was cut off)
check   open every image, count them, compare checksums (without NAME: all that are here)

DIR is by default INNERLOOP_DATA, else the user's data folder."""


def run(args: Sequence[str]) -> int:
    """List, fetch or check."""
    args = list(args)
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    action, *rest = args
    data_dir: Path | None = None
    names: list[str] = []
    while rest:
        arg = rest.pop(0)
        if arg in ("-h", "--help"):
            print(USAGE)
            return 0
        if arg == "--data-dir" and rest:
            data_dir = Path(rest.pop(0))
        elif arg.startswith("--data-dir="):
            data_dir = Path(arg.split("=", 1)[1])
        elif arg.startswith("-"):
            return usage(f"unknown option {arg!r}")
        else:
            names.append(arg)
    known = [s.name for s in SOURCES]
    unknown = [n for n in names if n not in known]
    if unknown:
        return usage(f"there is no data set {unknown[0]!r}; there are {', '.join(known)}")
    if action == "list" and not names:
        return show_list(data_dir)
    if action == "fetch" and len(names) == 1:
        with show.progress() as bar:
            paths = fetch(names[0], data_dir, bar)
        for path in paths:
            print(f"{names[0]}: {path}")
        if not paths:
            print(f"{names[0]} needs no download")
        return 0
    if action == "fetch":
        return usage(f"fetch takes one NAME: {', '.join(known)}")
    if action == "check":
        return show_check(names, data_dir)
    return usage(f"unknown action {' '.join([action, *names])!r}")


def usage(problem: str) -> int:
    """Wrong usage: what was wrong, and how it goes."""
    print(f"innerloop data: {problem}\n\n{USAGE}", file=sys.stderr)
    return 2


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
