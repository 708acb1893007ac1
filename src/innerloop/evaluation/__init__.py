"""Test episodes to accuracy and interval."""

from innerloop.evaluation.evaluate import EvalSettings, Evaluation, evaluate, fixed_episodes

__all__ = ["EvalSettings", "Evaluation", "evaluate", "fixed_episodes"]
