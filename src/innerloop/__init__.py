"""innerloop: few-shot meta-learning, and the study of why it works.

The names below are loaded when first used, so that the command line starts without PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from innerloop.version import __version__ as __version__

if TYPE_CHECKING:
    from innerloop.core.episodes import ClassImages as ClassImages
    from innerloop.core.episodes import Episodes as Episodes
    from innerloop.core.episodes import ImageTasks as ImageTasks
    from innerloop.core.functional import forward as forward
    from innerloop.core.functional import slow_weights as slow_weights
    from innerloop.core.inner import InnerLoop as InnerLoop
    from innerloop.core.inner import adapt as adapt
    from innerloop.core.inner import adapt_path as adapt_path
    from innerloop.core.losses import accuracy as accuracy
    from innerloop.core.losses import cross_entropy as cross_entropy
    from innerloop.core.losses import mean_squared_error as mean_squared_error
    from innerloop.core.outer import OuterLoop as OuterLoop
    from innerloop.core.outer import meta_gradient as meta_gradient
    from innerloop.core.outer import outer_step as outer_step
    from innerloop.core.random import stream as stream
    from innerloop.data.catalogue import load as load
    from innerloop.data.dataset import Dataset as Dataset
    from innerloop.data.dataset import Download as Download
    from innerloop.data.sinusoid import Sinusoid as Sinusoid
    from innerloop.estimator import FewShotClassifier as FewShotClassifier
    from innerloop.estimator import choose_method as choose_method
    from innerloop.evaluation import EvalSettings as EvalSettings
    from innerloop.evaluation import evaluate as evaluate
    from innerloop.methods.gradient import predictor as predictor
    from innerloop.models.pretrained import pretrained as pretrained

_WHERE = {
    "core.episodes": ("ClassImages", "Episodes", "ImageTasks"),
    "core.functional": ("forward", "slow_weights"),
    "core.inner": ("InnerLoop", "adapt", "adapt_path"),
    "core.losses": ("accuracy", "cross_entropy", "mean_squared_error"),
    "core.outer": ("OuterLoop", "meta_gradient", "outer_step"),
    "core.random": ("stream",),
    "data.catalogue": ("load",),
    "data.dataset": ("Dataset", "Download"),
    "data.sinusoid": ("Sinusoid",),
    "estimator": ("FewShotClassifier", "choose_method"),
    "evaluation": ("EvalSettings", "evaluate"),
    "methods.gradient": ("predictor",),
    "models.pretrained": ("pretrained",),
}
_EXTRA = ("estimator",)
"""modules that need packages of an extra: `from innerloop import *` leaves them alone"""
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = ["__version__", *(n for n, m in _MODULE_OF.items() if m not in _EXTRA)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'innerloop' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"innerloop.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # `innerloop.evaluate` is the function, also once the package of that part is imported
    return value
