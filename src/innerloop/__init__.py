"""innerloop: few-shot meta-learning, and the study of why it works.

What is listed here is the public API, in the order of the docs; other modules may change without a word in the
changelog. The names are loaded when first used, so that the command line starts without PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from innerloop.version import __version__ as __version__

if TYPE_CHECKING:
    from innerloop.analysis import freezing as freezing
    from innerloop.analysis import heads as heads
    from innerloop.analysis import linear_cka as linear_cka
    from innerloop.analysis import mean_cca as mean_cca
    from innerloop.analysis import movement as movement
    from innerloop.analysis import similarity as similarity
    from innerloop.analysis import step_costs as step_costs
    from innerloop.core.episodes import ClassImages as ClassImages
    from innerloop.core.episodes import Episodes as Episodes
    from innerloop.core.episodes import ImageTasks as ImageTasks
    from innerloop.core.episodes import TaskFamily as TaskFamily
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
    from innerloop.core.random import generator_for as generator_for
    from innerloop.data.catalogue import load as load
    from innerloop.data.dataset import Dataset as Dataset
    from innerloop.data.dataset import Download as Download
    from innerloop.data.sinusoid import Sinusoid as Sinusoid
    from innerloop.estimator import FewShotClassifier as FewShotClassifier
    from innerloop.estimator import choose_method as choose_method
    from innerloop.evaluation import EvalSettings as EvalSettings
    from innerloop.evaluation import Evaluation as Evaluation
    from innerloop.evaluation import evaluate as evaluate
    from innerloop.methods.catalogue import ANIL as ANIL
    from innerloop.methods.catalogue import BASELINE as BASELINE
    from innerloop.methods.catalogue import BASELINE_PLUS_PLUS as BASELINE_PLUS_PLUS
    from innerloop.methods.catalogue import BOIL as BOIL
    from innerloop.methods.catalogue import CENTROID as CENTROID
    from innerloop.methods.catalogue import FINETUNE as FINETUNE
    from innerloop.methods.catalogue import FOMAML as FOMAML
    from innerloop.methods.catalogue import IMAML as IMAML
    from innerloop.methods.catalogue import MAML as MAML
    from innerloop.methods.catalogue import MAML_PLUS_PLUS as MAML_PLUS_PLUS
    from innerloop.methods.catalogue import MATCHING as MATCHING
    from innerloop.methods.catalogue import META_SGD as META_SGD
    from innerloop.methods.catalogue import MULTICLASS as MULTICLASS
    from innerloop.methods.catalogue import MULTITASK as MULTITASK
    from innerloop.methods.catalogue import NIL as NIL
    from innerloop.methods.catalogue import PROTO as PROTO
    from innerloop.methods.catalogue import PROTO_MAML as PROTO_MAML
    from innerloop.methods.catalogue import REPTILE as REPTILE
    from innerloop.methods.catalogue import SIAMESE as SIAMESE
    from innerloop.methods.catalogue import UNICORN as UNICORN
    from innerloop.methods.method import Learner as Learner
    from innerloop.methods.method import Method as Method
    from innerloop.methods.method import Settings as Settings
    from innerloop.methods.method import predictor as predictor
    from innerloop.models import conv4 as conv4
    from innerloop.models import mlp as mlp
    from innerloop.models import resnet12 as resnet12
    from innerloop.models.pretrained import pretrained as pretrained
    from innerloop.sharing import export_run as export_run
    from innerloop.sharing import from_pretrained as from_pretrained
    from innerloop.sharing import push_to_hub as push_to_hub
    from innerloop.studies.table import Claim as Claim
    from innerloop.studies.table import Table as Table
    from innerloop.training import Config as Config
    from innerloop.training import Job as Job
    from innerloop.training import load_run as load_run
    from innerloop.training import preset as preset
    from innerloop.training import run as run
    from innerloop.training import train as train

_WHERE = {
    # methods: a method is a value, and at work on a model a learner
    "methods.method": (
        "Learner",
        "Method",
        "Settings",
        "predictor",
    ),
    "methods.catalogue": (
        "ANIL",
        "BASELINE",
        "BASELINE_PLUS_PLUS",
        "BOIL",
        "CENTROID",
        "FINETUNE",
        "FOMAML",
        "IMAML",
        "MAML",
        "MAML_PLUS_PLUS",
        "MATCHING",
        "META_SGD",
        "MULTICLASS",
        "MULTITASK",
        "NIL",
        "PROTO",
        "PROTO_MAML",
        "REPTILE",
        "SIAMESE",
        "UNICORN",
    ),
    # models
    "models": (
        "conv4",
        "mlp",
        "resnet12",
    ),
    "models.pretrained": ("pretrained",),
    # data
    "core.episodes": (
        "ClassImages",
        "Episodes",
        "ImageTasks",
        "TaskFamily",
    ),
    "data.catalogue": ("load",),
    "data.dataset": ("Dataset", "Download"),
    "data.sinusoid": ("Sinusoid",),
    # inner and outer loop
    "core.functional": (
        "forward",
        "slow_weights",
    ),
    "core.inner": (
        "InnerLoop",
        "adapt",
        "adapt_path",
    ),
    "core.losses": (
        "accuracy",
        "cross_entropy",
        "mean_squared_error",
    ),
    "core.outer": (
        "OuterLoop",
        "meta_gradient",
        "outer_step",
    ),
    "core.random": ("generator_for",),
    # runs
    "training": ("Config", "Job", "load_run", "preset", "run", "train"),
    "evaluation": (
        "EvalSettings",
        "Evaluation",
        "evaluate",
    ),
    "sharing": ("export_run", "from_pretrained", "push_to_hub"),
    # why it works
    "analysis": (
        "freezing",
        "heads",
        "linear_cka",
        "mean_cca",
        "movement",
        "similarity",
        "step_costs",
    ),
    "studies.table": ("Claim", "Table"),
    # for pictures of your own
    "estimator": (
        "FewShotClassifier",
        "choose_method",
    ),
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


def __dir__() -> list[str]:
    return ["__version__", *_MODULE_OF]
