"""A data set as a value: what it holds, how its images are read, where its files come from, how it may be used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from innerloop.core.episodes import ClassImages, TaskFamily
from innerloop.data.archive import fingerprint
from innerloop.data.paths import DataCorrupt, DataMissing, cache_root, data_root, find
from innerloop.data.progress import Progress, silent
from innerloop.data.store import cached
from innerloop.errors import InnerloopError, brief, did_you_mean, quoted


@dataclass(frozen=True)
class Download:
    """One file of a data set."""

    file: str
    url: str | None = None
    """where upstream offers it, or None when there is no lawful direct download"""
    size: int | None = None
    """bytes of upstream's file"""
    md5: str | None = None
    """upstream's, 32 hexadecimal digits: what `fetch` demands"""
    sha256: tuple[str, ...] = ()
    """of other known good packings of the same images, which `check` accepts"""
    alternatives: tuple[str, ...] = ()
    """other names or packings that are read in its stead"""


@dataclass(frozen=True)
class Regression:
    """A family of regression tasks, scored by mean squared error, as a value that stands beside data sets."""

    name: str
    tasks: Callable[[int, int], TaskFamily]
    """(shot, query) -> tasks of so many support and query points"""
    inputs: int = 1
    """numbers of an x"""
    outputs: int = 1
    """numbers of a y"""


def each_file(data: "Dataset", root: Path) -> list[Path]:
    """Where each of the `files` lies under the data folder `root`; raises DataMissing."""
    return [path_of(data, file, root) for file in data.files]


def path_of(data: "Dataset", file: Download, root: Path) -> Path:
    """Where one file lies; raises DataMissing, which says how to get it."""
    names = (file.file, *file.alternatives)
    path = find(root, data.places, names)
    if path is not None:
        return path
    looked = ", ".join(str(p) for p in (*(root / place for place in data.places), root))
    lines = [f"{data.name}: {file.file} is missing.", f"Looked for {' or '.join(names)} in {looked}."]
    if file.url:
        lines.append(f"Get it with `innerloop data fetch {data.name}` (from {file.url}).")
    lines.append(f"By hand (without a network): {data.how_by_hand(root)}.")
    lines.append("Another data folder: --data-dir, or the environment variable INNERLOOP_DATA.")
    raise DataMissing("\n".join(lines))


def stamp_of_files(paths: Sequence[Path]) -> str:
    """Changes with the content of the files."""
    return " ".join(fingerprint(path) for path in paths)


def of_images(images: ClassImages) -> "Dataset":
    """Classes that are in memory, with their splits, as a data set."""
    splits = {s: [images.class_names[c] for c in own] for s, own in images.splits.items()}
    return Dataset(images.name, images.image_shape, lambda *_: images, lambda _: splits, locate=lambda *_: [])


def own_name(name: str, across: bool) -> frozenset[str]:  # noqa: ARG001
    """The concept of a class that no other class shares."""
    return frozenset((name,))


@dataclass(frozen=True)
class Dataset:
    """Labelled classes of images, with splits that share no class. Ours and a user's are values of this one class.

        characters = Dataset("characters", (1, 28, 28), read, shared_out(seed=0), files=(Download("characters.npz"),))

    On the command line a user's is named ``--data module:attribute``. All that is known of a data set stands in its
    value; nothing asks for its name.
    """

    name: str
    shape: tuple[int, int, int]
    """(channels, height, width) of every image; 1 channel is grey, 3 are RGB"""
    read: Callable[[Sequence[Path], Progress], ClassImages]
    """paths of the files -> every class, without splits; raises DataCorrupt unless the data set is whole"""
    splits: Callable[[Sequence[str]], Mapping[str, Sequence[str]]]
    """class names -> split (train, val, test) -> its class names; such as `splits.shared_out(seed=0)`"""
    files: tuple[Download, ...] = ()
    drawn: bool = False
    """light strokes on black, as Omniglot's; False: photographs"""
    title: str = ""
    licence: str = "not stated"
    citation: str = ""
    classes: int | None = None
    images: int | None = None
    """how many there are, if that is known before they are read"""
    scheme: str = ""
    """the name of the published split, if there are several"""
    schemes: tuple["Dataset", ...] = ()
    """the same images in other published splits"""
    rotations: bool = False
    """each quarter turn of a class is a class of its own, called CLASS/rot000, CLASS/rot090, … (counter-clockwise)"""
    domain: str = ""
    """data sets of one domain ("letters", "objects") call their concepts by the same words"""
    concepts: Callable[[str, bool], frozenset[str]] = own_name
    """(class name, whether another data set of the domain is compared with) -> what the class shows: a model that was
    trained on one of these concepts has seen the class"""
    folders: tuple[str, ...] = ()
    """folders of the data folder in which files are looked for, before the data folder itself; (): called as `name`"""
    by_hand: str = ""
    """what to put into the first of `folders`, when it cannot be downloaded (or there is no network)"""
    locate: Callable[["Dataset", Path], list[Path]] = each_file
    """the data folder -> the files or folders to read; raises DataMissing"""
    cache: str = ""
    """the file of the cache folder that keeps the images; "": they are read again each time"""
    version: str = "1"
    """says how the images are prepared; a cache file of another version is rebuilt"""
    stamp: Callable[[Sequence[Path]], str] = stamp_of_files
    """changes with what the images are read from; a cache file of another stamp is rebuilt"""
    sized: Callable[[int], "Dataset"] | None = None
    """pixels a side -> the same data set in another size, where its files hold larger images"""

    def __post_init__(self) -> None:
        if not self.name:
            raise InnerloopError("a data set needs a name")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InnerloopError(f"{self.name}: shape must be (channels, height, width), got {quoted(self.shape)}")

    @property
    def places(self) -> tuple[str, ...]:
        """Folders of the data folder in which files are looked for."""
        return self.folders or (self.name,)

    def how_by_hand(self, root: Path) -> str:
        """What to put where under the data folder `root`."""
        what = self.by_hand or f"put {' and '.join(f.file for f in self.files)}"
        return f"{what} into the folder {root / self.places[0]}"

    def with_scheme(self, scheme: str) -> "Dataset":
        """The same images in the published split of that name; "" is the usual one. Raises InnerloopError."""
        if scheme in ("", self.scheme):
            return self
        known = {d.scheme: d for d in (self, *self.schemes)}
        if not self.schemes:
            raise InnerloopError(f"{self.name} has one split only; it has no split_scheme {quoted(scheme)}")
        if scheme not in known:
            near = did_you_mean(scheme, known)
            raise InnerloopError(f"{self.name} has no split scheme {quoted(scheme)}; it has {', '.join(known)}{near}")
        return known[scheme]

    def load(
        self, data_dir: Path | str | None = None, cache_dir: Path | str | None = None, progress: Progress = silent
    ) -> ClassImages:
        """Every class with its splits: from the cache when it is good (even if the files are gone), else read.

        Raises DataMissing, DataCorrupt, and InnerloopError for splits that do not fit the classes.
        """
        root = data_root(data_dir)

        def build() -> ClassImages:
            return self.read(self.locate(self, root), progress)

        if not self.cache:
            return self.split(build())
        try:
            stamp = self.stamp(self.locate(self, root))
        except DataMissing:
            stamp = None
        return self.split(cached(cache_root(cache_dir) / self.cache, self.version, stamp, build))

    def split(self, data: ClassImages) -> ClassImages:
        """What `read` gives, with splits (and rotations), after a look at whether it is what this value says."""
        if data.image_shape != self.shape:
            raise DataCorrupt(f"{self.name}: its images are {data.image_shape}, and its shape says {self.shape}")
        names = data.class_names
        number = {name: i for i, name in enumerate(names)}
        if len(number) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InnerloopError(f"{self.name} has two classes that are both called {brief(twice)}; rename one")
        listed = self.splits(names)
        if unknown := [name for own in listed.values() for name in own if name not in number]:
            raise InnerloopError(
                f"{self.name}: the splits name {len(unknown)} classes that have no images, for instance "
                f"{brief(unknown[0])}; there are {', '.join(map(brief, names[:5]))}{' …' if len(names) > 5 else ''}"
            )
        turns = 4 if self.rotations else 1
        splits = {s: tuple(turns * number[n] + k for n in own for k in range(turns)) for s, own in listed.items()}
        if not self.rotations:
            return replace(data, name=self.name, splits=splits)
        return ClassImages(
            self.name,
            data.images,
            data.first.repeat_interleave(4),
            data.count.repeat_interleave(4),
            torch.arange(4).repeat(len(names)),
            tuple(f"{name}/rot{90 * k:03}" for name in names for k in range(4)),
            splits,
        )
