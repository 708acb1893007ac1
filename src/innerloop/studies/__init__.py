"""One file per table or figure of the paper, and per study beyond it."""

from innerloop.studies.bench import Bench
from innerloop.studies.budget import Budget, default_seeds
from innerloop.studies.experiments import EXPERIMENTS, Experiment, experiment
from innerloop.studies.reproduce import place, reproduce
from innerloop.studies.study import Stage, study

__all__ = [
    "EXPERIMENTS",
    "Bench",
    "Budget",
    "Experiment",
    "Stage",
    "default_seeds",
    "experiment",
    "place",
    "reproduce",
    "study",
]
