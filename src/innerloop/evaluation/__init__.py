"""Test episodes to accuracy and interval."""

from innerloop.evaluation.evaluate import EvalSettings, Evaluation, evaluate, fixed_episodes, only_rates_of

__all__ = ["EvalSettings", "Evaluation", "evaluate", "fixed_episodes", "only_rates_of"]
