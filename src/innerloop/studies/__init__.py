"""One file per table or figure of the paper, and per study beyond it."""

from innerloop.studies.study import Stage, study

__all__ = ["Stage", "study"]
