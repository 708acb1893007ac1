"""One file per table or figure of the paper, and per study beyond it."""

from innerloop.studies.analyse import WHERE as ANALYSIS
from innerloop.studies.analyse import analyse
from innerloop.studies.budget import Budget, default_seeds
from innerloop.studies.experiments import EXPERIMENTS, TRAINING_MINUTES, Experiment, experiment
from innerloop.studies.lab import Lab
from innerloop.studies.reproduce import finished, place, reproduce
from innerloop.studies.rl_analyse import analyse_policy
from innerloop.studies.rl_lab import RlLab
from innerloop.studies.study import Stage, study

__all__ = [
    "ANALYSIS",
    "EXPERIMENTS",
    "TRAINING_MINUTES",
    "Budget",
    "Experiment",
    "Lab",
    "RlLab",
    "Stage",
    "analyse",
    "analyse_policy",
    "default_seeds",
    "experiment",
    "finished",
    "place",
    "reproduce",
    "study",
]
