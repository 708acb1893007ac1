"""Folders of images, sorted by a few examples per class."""

import hashlib
import io
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from innerloop.data.picture import opened
from innerloop.errors import InnerloopError, shown
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
    known: bool = True
    """whether it is of one of the classes, as far as the classifier can say that (`unknown`)"""


def read_support(folder: Path) -> Support:
    """The examples in `folder`, one sub-folder per class, named after it.

    Hidden files are skipped; files that are not images, lie in no sub-folder or too deep, or show the same as another
    example of their class, are in `not_used`. Raises ValueError, naming the folder, if there are fewer than two classes
    or a class has no picture that can be read, or naming the files, if one picture is in two classes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InnerloopError(
            f"the support folder {shown(folder)} {what}; it should hold one sub-folder of pictures per class"
        )
    found = sorted(p for p in folder.iterdir() if _visible(p))
    not_used = [NotUsed(shown(p), "it lies in no class folder") for p in found if not p.is_dir()]
    names = [p for p in found if p.is_dir()]
    if len(names) < 2:
        one = f"has one sub-folder only, {shown(names[0].name)!r}" if names else "has no sub-folders"
        raise InnerloopError(
            f"the support folder {shown(folder)} {one}; it should hold two or more, one a class: DIR/CLASS/PICTURE"
        )
    files: list[Path] = []
    labels: list[str] = []
    images: list[Image.Image] = []
    seen: dict[bytes, int] = {}
    for place in names:
        inside = sorted(p for p in place.iterdir() if _visible(p))
        bad = []
        for path in inside:
            read = _no_file(path) or (read_picture(path) if looks_like_a_picture(path) else _no_picture(path))
            if isinstance(read, NotUsed):
                bad.append(read)
                continue
            twin = seen.setdefault(_content(read), len(files))
            if twin == len(files):
                files.append(path)
                labels.append(shown(place.name))
                images.append(read)
            elif files[twin].parent == place:
                bad.append(NotUsed(shown(path), f"it shows the same as {shown(files[twin].name)}"))
            else:
                raise InnerloopError(
                    f"{shown(files[twin])} and {shown(path)} are the same picture in two classes; it can be an example "
                    "of one only: take it out of the other"
                )
        if len(bad) == len(inside):
            why = f" (for instance {bad[0].name}: {bad[0].reason})" if bad else ""
            raise InnerloopError(f"the class folder {shown(place)} has no picture that can be read{why}")
        not_used += bad
    return Support(tuple(files), tuple(labels), tuple(images), tuple(not_used))


def saved_support(classifier: "FewShotClassifier") -> Support:
    """The examples that a classifier was saved with; without any they are numbered, and grey.

    Raises InnerloopError for a small picture that cannot be read.
    """
    labels = tuple(shown(c) for c in classifier.support_labels_.tolist())
    kept = getattr(classifier, "examples_", None)
    if kept is None:
        grey = Image.new("RGB", (32, 32), (128, 128, 128))
        return Support(tuple(Path(f"example {i}") for i in range(len(labels))), labels, (grey,) * len(labels), ())
    try:
        images = tuple(opened(io.BytesIO(e.jpeg), "RGB") for e in kept)
    except InnerloopError as error:
        raise InnerloopError(f"a small picture in the saved classifier cannot be read: {error}") from None
    return Support(tuple(Path(shown(e.name)) for e in kept), labels, images, ())


def find_pictures(
    given: Sequence[Path], *, examples: Iterable[Path] = (), without: Iterable[Path] = ()
) -> tuple[list[Path], list[NotUsed]]:
    """The files named in `given` and those in its folders, at any depth and each once, and what is not used of them.

    Hidden files and folders are skipped, in folders also files whose ending is no picture's (they are named among
    those not used, as are the `examples`, links to folders, and what cannot be opened). The files `without` are left
    out without a word.
    """
    support, left_out = {p.resolve() for p in examples}, {p.resolve() for p in without}
    seen: set[Path] = set()
    found: list[Path] = []
    not_used: list[NotUsed] = []
    for start in given:
        try:
            inside = stat.S_ISDIR(start.stat().st_mode)
        except FileNotFoundError:
            not_used.append(NotUsed(shown(start), "there is no such file or folder"))
            continue
        except OSError as error:  # may not be looked at, a name too long, a link in a circle
            not_used.append(NotUsed(shown(start), f"it cannot be opened: {error.strerror}"))
            continue
        paths, closed = _files(start) if inside else ([start], [])
        not_used += closed
        for path in paths:
            if fault := _no_file(path):
                not_used.append(fault)
                continue
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
        found = classifier.guess(good, nearest=1) if good else None
        rows = iter(range(len(good)))
        for path, r in zip(chunk, read, strict=True):
            if isinstance(r, NotUsed) or found is None:
                yield r  # pyright: ignore[reportReturnType]
                continue
            i = next(rows)
            known = found.known is None or bool(found.known[i])
            yield Sorted(shown(path), r, found.probabilities[i], int(found.nearest[i, 0]), known)


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


def least_certain(probabilities: Sequence[float], share: float) -> set[int]:
    """The places of the `share` (0 to 1, rounded up) of guesses with the lowest probability."""
    if not 0 <= share <= 1:
        raise InnerloopError(f"the share must lie in 0..1, got {share:g}")
    order = sorted(range(len(probabilities)), key=lambda i: probabilities[i])
    return set(order[: math.ceil(share * len(order) - 1e-9)])


def _no_picture(path: Path) -> NotUsed:
    return NotUsed(
        shown(path),
        f"its name ends in {shown(path.suffix)!r}, a format that is not read"
        if path.suffix
        else "its name has no ending",
    )


def _no_file(path: Path) -> NotUsed | None:
    """Why this file cannot be opened, if so; opening a pipe would block."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return NotUsed(shown(path), "it is a link to nothing")
    except OSError as error:
        return NotUsed(shown(path), f"it cannot be opened: {error.strerror}")
    if stat.S_ISDIR(mode):
        return NotUsed(shown(path), "it is a folder, and the pictures of a class lie in the class folder itself")
    return None if stat.S_ISREG(mode) else NotUsed(shown(path), "it is not a regular file")


def _content(image: Image.Image) -> bytes:
    return hashlib.sha256(f"{image.size}\0".encode() + image.tobytes()).digest()


def _files(folder: Path) -> tuple[list[Path], list[NotUsed]]:
    """Files at any depth, and the folders that were not searched."""
    closed: list[NotUsed] = []
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        closed.append(NotUsed(shown(error.filename), f"it cannot be opened: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if _visible(Path(name))]
        links = [path for name in folders if (path := Path(place, name)).is_symlink()]
        closed += [NotUsed(shown(path), "it is a link to a folder, which is not followed") for path in links]
        found += [path for name in files if _visible(path := Path(place, name))]
    return sorted(found), closed


def _visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != "__MACOSX"
