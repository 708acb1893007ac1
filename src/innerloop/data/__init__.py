"""Data sets as values: each gives a ClassImages, or is a family of regressions (Sinusoid)."""

from innerloop.data.catalogue import DATASETS, find, load
from innerloop.data.dataset import Dataset, Download, Regression
from innerloop.data.folder import Folder
from innerloop.data.paths import DataCorrupt, DataMissing
from innerloop.data.sinusoid import Sinusoid
from innerloop.data.splits import by_group, shared_out

__all__ = [
    "DATASETS",
    "DataCorrupt",
    "DataMissing",
    "Dataset",
    "Download",
    "Folder",
    "Regression",
    "Sinusoid",
    "by_group",
    "find",
    "load",
    "shared_out",
]
