"""Folders of pictures as people have them, sorted by a few examples of each class."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from innerloop.estimator.pictures import SHRUNK, PictureError, load_picture

if TYPE_CHECKING:
    from innerloop.estimator.classifier import FewShotClassifier

BATCH = 16
"""pictures held at a time"""
_NEVER = (".eps", ".ps", ".pdf")
"""programs for a printer: to read them another program would be started"""


@dataclass(frozen=True)
class NotUsed:
    """A file that was given but not used."""

    name: str
    reason: str
    """one sentence"""


@dataclass(frozen=True)
class Support:
    """The examples: DIR/CLASS/PICTURE."""

    files: tuple[Path, ...]
    labels: tuple[str, ...]
    """the class of each, its folder's name"""
    images: tuple[Image.Image, ...]
    not_used: tuple[NotUsed, ...]

    @property
    def classes(self) -> dict[str, int]:
        """Examples of each class, by name."""
        return {c: self.labels.count(c) for c in sorted(set(self.labels))}


@dataclass(frozen=True)
class Sorted:
    """A picture and what the classifier makes of it."""

    name: str
    image: Image.Image
    probabilities: NDArray[np.float64]
    """of each class, in the order of the classifier's `classes_`; they sum to 1"""
    nearest: int
    """the number of the support picture whose features are nearest by cosine"""


def read_support(folder: Path) -> Support:
    """The examples in `folder`, one sub-folder a class, named after it.

    Hidden files are passed over; what is no picture, or lies in no sub-folder, is in `not_used`. Raises ValueError,
    naming the folder, if there are fewer than two classes or a class has no picture that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ValueError(
            f"the support folder {shown(folder)} {what}; it should hold one sub-folder of pictures a class"
        )
    found = sorted(p for p in folder.iterdir() if _visible(p))
    not_used = [NotUsed(shown(p), "it lies in no class folder") for p in found if not p.is_dir()]
    names = [p for p in found if p.is_dir()]
    if len(names) < 2:
        one = f"has one sub-folder only, {shown(names[0].name)!r}" if names else "has no sub-folders"
        raise ValueError(
            f"the support folder {shown(folder)} {one}; it should hold two or more, one a class: DIR/CLASS/PICTURE"
        )
    files: list[Path] = []
    labels: list[str] = []
    images: list[Image.Image] = []
    for place in names:
        inside = sorted(p for p in place.iterdir() if _visible(p) and p.is_file())
        bad = []
        for path in inside:
            read = read_picture(path) if looks_like_a_picture(path) else _no_picture(path)
            if isinstance(read, NotUsed):
                bad.append(read)
            else:
                files.append(path)
                labels.append(shown(place.name))
                images.append(read)
        if len(bad) == len(inside):
            why = f" (for instance {bad[0].name}: {bad[0].reason})" if bad else ""
            raise ValueError(f"the class folder {shown(place)} has no picture that can be read{why}")
        not_used += bad
    return Support(tuple(files), tuple(labels), tuple(images), tuple(not_used))


def find_pictures(
    given: Sequence[Path], *, examples: Iterable[Path] = (), without: Iterable[Path] = ()
) -> tuple[list[Path], list[NotUsed]]:
    """The files named in `given` and those in its folders, at any depth and each once, and what is not used of them.

    Hidden files and folders are passed over, in folders also files whose ending is no picture's (they are named among
    those not used, as are the `examples`). The files `without` are left out without a word.
    """
    support, left_out = {p.resolve() for p in examples}, {p.resolve() for p in without}
    seen: set[Path] = set()
    found: list[Path] = []
    not_used: list[NotUsed] = []
    for start in given:
        if not start.exists():
            not_used.append(NotUsed(shown(start), "there is no such file or folder"))
            continue
        inside = start.is_dir()
        for path in _files(start) if inside else [start]:
            real = path.resolve()
            if real in seen or real in left_out:
                continue
            seen.add(real)
            if real in support:
                not_used.append(NotUsed(shown(path), "it is an example itself"))
            elif inside and not looks_like_a_picture(path):
                not_used.append(_no_picture(path))
            else:
                found.append(path)
    return found, not_used


def sort_pictures(
    classifier: "FewShotClassifier", files: Sequence[Path], *, batch: int = BATCH
) -> Iterator[Sorted | NotUsed]:
    """What a fitted classifier makes of each file, in order; a file that cannot be read is NotUsed. Holds few at a
    time, however many there are."""
    for start in range(0, len(files), batch):
        chunk = files[start : start + batch]
        read = [read_picture(path) for path in chunk]
        good = [r for r in read if not isinstance(r, NotUsed)]
        probabilities = iter(classifier.predict_proba(good)) if good else iter(())
        nearest = iter(classifier.nearest_support(good)) if good else iter(())
        for path, r in zip(chunk, read, strict=True):
            yield r if isinstance(r, NotUsed) else Sorted(shown(path), r, next(probabilities), int(next(nearest)))


def read_picture(path: Path) -> Image.Image | NotUsed:
    """The picture in a file as RGB, a large one reduced (no side below 1,024 pixels), or why there is none."""
    try:
        image = load_picture(path)
    except PictureError as error:
        reason = str(error).replace(f"the picture {path}", "it")  # the name stands beside it
        return NotUsed(shown(path), shown(" ".join(reason.split())))
    times = min(image.size) // SHRUNK
    return image.reduce(times) if times > 1 else image


def looks_like_a_picture(path: Path) -> bool:
    """Whether the name ends like a format that can be read."""
    endings = Image.registered_extensions()
    end = path.suffix.lower()
    return end in endings and end not in _NEVER and endings[end] in Image.OPEN


def shown(path: Path | str) -> str:
    """A file's name as text on one line; bytes that are no text, and control characters, are written as escapes."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def least_certain(probabilities: Sequence[float], share: float) -> set[int]:
    """The places of the `share` (0 to 1, rounded up) of guesses with the lowest probability."""
    if not 0 <= share <= 1:
        raise ValueError(f"the share must lie in 0..1, got {share:g}")
    order = sorted(range(len(probabilities)), key=lambda i: probabilities[i])
    return set(order[: math.ceil(share * len(order) - 1e-9)])


def _no_picture(path: Path) -> NotUsed:
    return NotUsed(
        shown(path),
        f"its name ends in {path.suffix!r}, as no picture's does" if path.suffix else "its name has no ending",
    )


def _files(folder: Path) -> list[Path]:
    inside = (p for p in folder.rglob("*") if all(map(_visible, (p, *p.relative_to(folder).parents[:-1]))))
    return sorted(p for p in inside if p.is_file())


def _visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != "__MACOSX"
