"""Every source of image classes by its name."""

from pathlib import Path

from innerloop.core.episodes import ClassImages
from innerloop.data.caltech101 import load_caltech101
from innerloop.data.cifar import load_cifar_fs, load_fc100
from innerloop.data.folder import FolderOptions, load_folder
from innerloop.data.mini_imagenet import load_mini_imagenet
from innerloop.data.omniglot import load_omniglot
from innerloop.data.places import cache_root
from innerloop.data.progress import Progress, silent
from innerloop.errors import InnerloopError, did_you_mean, quoted

NAMES = ("omniglot", "cifar_fs", "fc100", "mini_imagenet", "caltech101", "glyphs", "folder")


def load(
    name: str,
    *,
    split_scheme: str | None = None,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    folder: FolderOptions | None = None,
    size: int | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """The classes, with their splits train, val and test, of the data set `name`.

    `split_scheme` is for omniglot alone ("vinyals" or "lake"), `size` (pixels a side; 84) for caltech101 alone; to
    bring another set to another size, see `convert.as_shape`. For the name "folder", `data_dir` is the
    folder of classes itself, and `folder` says how it is read. Raises ValueError for an unknown name or
    scheme, DataMissing (a FileNotFoundError) for files that are not there, DataCorrupt (a ValueError) for
    files that are not whole.
    """
    if split_scheme is not None and name in NAMES and name != "omniglot":
        raise InnerloopError(f"{name} has one split only; split_scheme {split_scheme!r} is for omniglot")
    if size is not None and name in NAMES and name != "caltech101":
        raise InnerloopError(
            f"{name} has one size only; size {size} is for caltech101 (convert.as_shape resizes any set)"
        )
    match name:
        case "omniglot":
            return load_omniglot(split_scheme or "vinyals", data_dir=data_dir, cache_dir=cache_dir, progress=progress)
        case "cifar_fs":
            return load_cifar_fs(data_dir=data_dir, cache_dir=cache_dir, progress=progress)
        case "fc100":
            return load_fc100(data_dir=data_dir, cache_dir=cache_dir, progress=progress)
        case "mini_imagenet":
            return load_mini_imagenet(data_dir=data_dir, cache_dir=cache_dir, progress=progress)
        case "caltech101":
            return load_caltech101(
                84 if size is None else size, data_dir=data_dir, cache_dir=cache_dir, progress=progress
            )
        case "glyphs":
            from innerloop.data.glyphs import load_glyphs  # brings matplotlib, which takes its time

            return load_glyphs(cache_root(cache_dir))
        case "folder":
            if data_dir is None:
                raise InnerloopError("folder: name the folder of classes (ROOT/CLASS/IMAGE) as the data folder")
            return load_folder(data_dir, folder, cache_dir=cache_dir, progress=progress)
        case "sinusoid":
            raise InnerloopError("sinusoid has no images: use innerloop.data.sinusoid.Sinusoid(shot, query)")
        case _:
            near = did_you_mean(name, NAMES)
            raise InnerloopError(f"there is no data set {quoted(name)}; there are {', '.join(NAMES)}{near}")
