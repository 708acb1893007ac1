"""The outer loop over whole runs, and the presets."""

from innerloop.training.config import Config, Inner, Model, Validation
from innerloop.training.train import Interrupted, Progress, load_run, train

__all__ = ["Config", "Inner", "Interrupted", "Model", "Progress", "Validation", "load_run", "train"]
