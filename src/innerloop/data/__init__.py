"""Data sets: every one gives a ClassImages, or is a task family of its own (Sinusoid)."""

from innerloop.data.catalogue import NAMES, load
from innerloop.data.folder import FolderOptions
from innerloop.data.places import DataCorrupt, DataMissing
from innerloop.data.sinusoid import Sinusoid
from innerloop.data.sources import SOURCES

__all__ = ["NAMES", "SOURCES", "DataCorrupt", "DataMissing", "FolderOptions", "Sinusoid", "load"]
