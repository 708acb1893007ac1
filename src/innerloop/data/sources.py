"""What each data set is, where it comes from, and how it may be used."""

from dataclasses import dataclass
from pathlib import Path

from innerloop.data.places import DataMissing
from innerloop.errors import InnerloopError, did_you_mean, quoted


@dataclass(frozen=True)
class Archive:
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
class Source:
    """A data set: what it holds, who made it, and its files."""

    name: str
    title: str
    folders: tuple[str, ...]
    """folders of the data folder in which its files are looked for, before the data folder itself"""
    archives: tuple[Archive, ...]
    classes: int
    images: int
    shape: tuple[int, int, int]
    """(channels, height, width) as loaded"""
    licence: str
    citation: str
    by_hand: str = ""
    """what to put into the first of `folders`, when it cannot be downloaded (or there is no network)"""


OMNIGLOT = Source(
    name="omniglot",
    title="Omniglot, 28×28 grey, strokes = 1",
    folders=("omniglot", "omniglot/python"),
    archives=(
        Archive(
            "images_background.zip",
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/images_background.zip",
            9_464_212,
            "68d2efa1b9178cc56df9314c21c6e718",
            ("65b711db62d00486775fcbf65e0c006f97b041aa59da4617d24d2de86991c6c5",),
            ("images_background",),
        ),
        Archive(
            "images_evaluation.zip",
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/images_evaluation.zip",
            6_462_886,
            "6b91aef0f799c5bb55b94e3f2daec811",
            ("060a71c5b53e7738c1de31ba401f625a6d3b74aad3e6ea52deb8aa4076f04b02",),
            ("images_evaluation",),
        ),
    ),
    classes=1623,
    images=32_460,
    shape=(1, 28, 28),
    licence="MIT, (c) 2015 Brenden Lake",
    citation="B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum. Human-level concept learning through "
    "probabilistic program induction. Science 350, 2015.",
    by_hand="put images_background.zip and images_evaluation.zip (or both unpacked)",
)


_CIFAR_100 = Archive(
    "cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    169_001_437,
    "eb9058c3a382ffc7106e4002c42a8d85",
    ("9c2e5ed68595c209aac11c6a7a705d325172fc92813f9de0d9ba2aa39f4e52d8",),  # re-packed as cifar100.zip
    ("cifar100.zip", "cifar-100-python", "cifar100"),
)
_CIFAR_CITATION = "A. Krizhevsky. Learning multiple layers of features from tiny images. Technical report, 2009. "
_CIFAR_BY_HAND = (
    "put cifar-100-python.tar.gz (official), or cifar100.zip as CIFAR-FS lays it out (data/CLASS/FILE.png), "
    "or either unpacked,"
)

CIFAR_FS = Source(
    name="cifar_fs",
    title="CIFAR-FS: CIFAR-100, 64/16/20 classes at random",
    folders=("cifar_fs", "fc100", "cifar100"),
    archives=(_CIFAR_100,),
    classes=100,
    images=60_000,
    shape=(3, 32, 32),
    licence="none stated by upstream, which asks for the citation",
    citation=_CIFAR_CITATION + "Split: L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi. "
    "Meta-learning with differentiable closed-form solvers. ICLR 2019.",
    by_hand=_CIFAR_BY_HAND,
)

FC100 = Source(
    name="fc100",
    title="FC100: CIFAR-100, 60/20/20 classes by superclass",
    folders=CIFAR_FS.folders,
    archives=(_CIFAR_100,),
    classes=100,
    images=60_000,
    shape=(3, 32, 32),
    licence=CIFAR_FS.licence,
    citation=_CIFAR_CITATION + "Split: B. N. Oreshkin, P. Rodriguez, A. Lacoste. TADAM: Task dependent adaptive "
    "metric for improved few-shot learning. NeurIPS 2018.",
    by_hand=_CIFAR_BY_HAND,
)

MINI_IMAGENET = Source(
    name="mini_imagenet",
    title="mini-ImageNet, 84×84 RGB, split of Ravi & Larochelle",
    folders=("mini_imagenet", "mini-imagenet", "miniImageNet"),
    archives=(
        Archive(
            "images",
            alternatives=(
                "images.zip",
                "mini-imagenet-cache-train.pkl",
                "mini-imagenet-cache-val.pkl",
                "mini-imagenet-cache-test.pkl",
            ),
        ),
    ),
    classes=100,
    images=60_000,
    shape=(3, 84, 84),
    licence="ImageNet's terms of access (research, non-commercial); the images may not be passed on",
    citation="O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra. Matching networks for one "
    "shot learning. NeurIPS 2016. Split: S. Ravi, H. Larochelle. Optimization as a model for few-shot "
    "learning. ICLR 2017.",
    by_hand="put the folder images/ (or images.zip) with the files of Ravi & Larochelle's lists, as "
    "n0153282900000005.jpg, or the three pickles mini-imagenet-cache-{train,val,test}.pkl,",
)

CALTECH101 = Source(
    name="caltech101",
    title="Caltech-101, the middle square of each photograph, 84×84 RGB (other sizes on request)",
    folders=("caltech101", "caltech-101", "caltech101_short84"),
    archives=(
        Archive(
            # Size and checksum are the ones that other libraries demand of this file (TensorFlow Datasets: size and
            # SHA-256 3312…1f91; several projects: MD5). The download itself has not been tried from here.
            "caltech-101.zip",
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            137_414_764,
            "3138e1922a9193bfa496528edbbc45d0",
            (
                "af6ece2f339791ca20f855943d8b55dd60892c0a25105fcd631ee3d6430f9926",  # the tar.gz as once offered alone
                "ce7049d7368d2add1efcff56fba610d66d688b49ff08d3445576d6b96a0ad3ff",  # re-packed, shorter side 84 pixels
            ),
            ("101_ObjectCategories.tar.gz", "101_ObjectCategories"),
        ),
    ),
    classes=101,
    images=8_677,
    shape=(3, 84, 84),
    licence="CC BY 4.0, as public cards of the data set state it (upstream's record itself was not read)",
    citation="L. Fei-Fei, R. Fergus, P. Perona. Learning generative visual models from few training examples. "
    "CVPR workshop 2004.",
    by_hand="put caltech-101.zip, or the 101_ObjectCategories.tar.gz in it, or that unpacked,",
)

GLYPHS = Source(
    name="glyphs",
    title="letters of many scripts, drawn from fonts that are installed with the library: no download",
    folders=(),
    archives=(),
    classes=670,
    images=13_400,
    shape=(1, 28, 28),
    licence="the fonts' own (DejaVu, STIX): free use",
    citation="",
)

SOURCES = (OMNIGLOT, CIFAR_FS, FC100, MINI_IMAGENET, CALTECH101, GLYPHS)
"""every data set that has a name of its own; `folder` reads the user's"""


def source(name: str) -> Source:
    """The description of the data set `name`; raises ValueError."""
    for one in SOURCES:
        if one.name == name:
            return one
    names = [s.name for s in SOURCES]
    raise InnerloopError(
        f"there is no data set {quoted(name)}; there are {', '.join(names)}{did_you_mean(name, names)}"
    )


def by_hand(data: Source, root: Path) -> str:
    """What to put where under the data folder `root`."""
    return f"{data.by_hand} into the folder {root / data.folders[0]}"


def missing(data: Source, file: str, root: Path) -> DataMissing:
    """The error for a file of `data` that is not under `root`."""
    archive = next((a for a in data.archives if a.file == file), Archive(file))
    names = " or ".join((file, *archive.alternatives))
    places = ", ".join(str(p) for p in (*(root / f for f in data.folders), root))
    lines = [f"{data.name}: {file} is missing.", f"Looked for {names} in {places}."]
    if archive.url:
        lines.append(f"Get it with `innerloop data fetch {data.name}` (from {archive.url}).")
    lines.append(f"By hand (without a network): {by_hand(data, root)}.")
    lines.append("Another data folder: --data-dir, or the environment variable INNERLOOP_DATA.")
    return DataMissing("\n".join(lines))
