"""How a downloaded data set becomes a tensor: find its files, read them, keep the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from innerloop.core.episodes import ClassImages
from innerloop.data.places import DataMissing, cache_root, data_root
from innerloop.data.progress import Progress, silent
from innerloop.data.sources import Source
from innerloop.data.store import cached
from innerloop.data.tree import fingerprint


@dataclass(frozen=True)
class Recipe:
    """The steps for one data set."""

    source: Source
    version: str
    """says how the images are prepared; a cache file of another version is built anew"""
    cache_file: str
    locate: Callable[[Path], list[Path]]
    """the data folder -> the files or folders to read; raises DataMissing"""
    read: Callable[[Sequence[Path], Progress], ClassImages]
    """those paths -> every class, without splits; raises DataCorrupt unless the data set is whole"""

    def load(
        self,
        data_dir: Path | str | None = None,
        cache_dir: Path | str | None = None,
        progress: Progress = silent,
    ) -> ClassImages:
        """Every class, no splits: from the cache when it is good (even if the files are gone), else read."""
        root = data_root(data_dir)
        try:
            stamp = " ".join(fingerprint(path) for path in self.locate(root))
        except DataMissing:
            stamp = None
        return cached(
            cache_root(cache_dir) / self.cache_file,
            self.version,
            stamp,
            lambda: self.read(self.locate(root), progress),
        )
