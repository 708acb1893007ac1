"""The outer loop over whole runs, and the presets."""

from innerloop.training.config import Config, Folder, Inner, Model, Validation
from innerloop.training.loop import Interrupted, Job, Progress, run
from innerloop.training.presets import PRESETS, for_method, preset
from innerloop.training.train import load_run, train

__all__ = [
    "PRESETS",
    "Config",
    "Folder",
    "Inner",
    "Interrupted",
    "Job",
    "Model",
    "Progress",
    "Validation",
    "for_method",
    "load_run",
    "preset",
    "run",
    "train",
]
