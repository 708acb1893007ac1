"""Every data set that has a name, and the one place where names become values."""

from pathlib import Path

from innerloop.core.episodes import ClassImages
from innerloop.data.caltech101 import CALTECH101
from innerloop.data.cifar import CIFAR_FS, FC100
from innerloop.data.dataset import Dataset, Regression, of_images
from innerloop.data.folder import Folder
from innerloop.data.glyphs import GLYPHS
from innerloop.data.mini_imagenet import MINI_IMAGENET
from innerloop.data.omniglot import OMNIGLOT
from innerloop.data.progress import Progress, silent
from innerloop.data.sinusoid import SINUSOID
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.reference import is_reference, load_reference

DATASETS = (OMNIGLOT, CIFAR_FS, FC100, MINI_IMAGENET, CALTECH101, GLYPHS)
REGRESSIONS = (SINUSOID,)
FOLDER = "folder"
"""the name of a tree of images of the user's, which `Folder` describes"""


def find(name: str, *, split_scheme: str = "", folder: Folder | None = None) -> Dataset | Regression:
    """The data set, or family of regressions, of that name: one of ours, or ``module:attribute`` of the user's.

    Raises InnerloopError for a name that is not known, for a value that is neither, and for options that have no
    effect on it.
    """
    if folder is not None and folder.root and name != FOLDER:
        raise InnerloopError(f"folder.root {folder.root!r} is for data 'folder', not {name}: add --data folder")
    if is_reference(name):
        value = load_reference(name, "data set")
        value = of_images(value) if isinstance(value, ClassImages) else value
        if not isinstance(value, Dataset | Regression):
            raise InnerloopError(
                f"{name} is a {type(value).__name__}; a data set is an innerloop.Dataset or ClassImages (classes of "
                "images), or a Regression"
            )
    elif name == FOLDER:
        value = (folder or Folder()).dataset()
    else:
        values = {value.name: value for value in (*DATASETS, *REGRESSIONS)}
        if name not in values:
            known = (*values, FOLDER)
            raise InnerloopError(
                f"there is no data set {quoted(name)}; there are {', '.join(known)}, and module:attribute of your own"
                f"{did_you_mean(name, known)}"
            )
        value = values[name]
    if isinstance(value, Dataset):
        return value.with_scheme(split_scheme)
    if split_scheme:
        raise InnerloopError(f"{name} has no classes, so split_scheme {split_scheme!r} has no effect on it")
    return value


def find_images(name: str, *, split_scheme: str = "", folder: Folder | None = None) -> Dataset:
    """`find`, for what needs classes of images. Raises InnerloopError for a regression."""
    value = find(name, split_scheme=split_scheme, folder=folder)
    if isinstance(value, Regression):
        raise InnerloopError(f"{name} is a regression, which has no images; give a data set of images")
    return value


def load(
    data: str | Dataset,
    *,
    split_scheme: str | None = None,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    size: int | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """The classes, with their splits train, val and test, of a data set or of the one with that name.

    `split_scheme` is for data sets with several published splits (omniglot: "vinyals" or "lake"), `size` (pixels a
    side; 84) for caltech101; to bring another set to another size, see `convert.as_shape`. Images in a folder of your
    own: ``load(Folder("pictures").dataset())``. Raises InnerloopError for an unknown name or scheme, DataMissing (a
    FileNotFoundError) for files that are not there, DataCorrupt (an InnerloopError) for files that are not whole.
    """
    data = find_images(data) if isinstance(data, str) else data
    if size is not None:
        if data.sized is None:
            raise InnerloopError(f"{data.name} has one size only, not {size} (convert.as_shape resizes any set)")
        data = data.sized(size)
    return data.with_scheme(split_scheme or "").load(data_dir, cache_dir, progress)
