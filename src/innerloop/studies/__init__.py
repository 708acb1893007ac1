"""Tables and figures of the paper and beyond it, the lab that makes them, and the study that asks its question."""

from innerloop.studies.analyse import WHERE as ANALYSIS
from innerloop.studies.analyse import analyse
from innerloop.studies.budget import Budget, default_seeds
from innerloop.studies.lab import Lab
from innerloop.studies.reproduce import finished, place, reproduce
from innerloop.studies.rl_analyse import analyse_policy
from innerloop.studies.rl_lab import RlLab
from innerloop.studies.stage import Stage
from innerloop.studies.study import study
from innerloop.studies.table import Claim, Table
from innerloop.studies.tables import TABLES, TRAINING_MINUTES, find_table

__all__ = [
    "ANALYSIS",
    "TABLES",
    "TRAINING_MINUTES",
    "Budget",
    "Claim",
    "Lab",
    "RlLab",
    "Stage",
    "Table",
    "analyse",
    "analyse_policy",
    "default_seeds",
    "find_table",
    "finished",
    "place",
    "reproduce",
    "study",
]
