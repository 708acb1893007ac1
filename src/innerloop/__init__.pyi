"""The public API in the order of the docs, for type checkers, and read by `__init__.py`."""

# ruff: noqa: I001 (in the order of the docs)

from innerloop.version import __version__ as __version__

# methods: a method is a value, and at work on a model a learner
from innerloop.methods.method import Learner as Learner
from innerloop.methods.method import Method as Method
from innerloop.methods.method import Settings as Settings
from innerloop.methods.method import predictor as predictor
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

# models
from innerloop.models import conv4 as conv4
from innerloop.models import mlp as mlp
from innerloop.models import resnet12 as resnet12
from innerloop.models.pretrained import pretrained as pretrained

# data
from innerloop.core.episodes import ClassImages as ClassImages
from innerloop.core.episodes import Episodes as Episodes
from innerloop.core.episodes import ImageTasks as ImageTasks
from innerloop.core.episodes import TaskFamily as TaskFamily
from innerloop.data.catalogue import load as load
from innerloop.data.dataset import Dataset as Dataset
from innerloop.data.dataset import Download as Download
from innerloop.data.sinusoid import Sinusoid as Sinusoid

# inner and outer loop
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

# runs
from innerloop.training import Config as Config
from innerloop.training import Job as Job
from innerloop.training import load_run as load_run
from innerloop.training import preset as preset
from innerloop.training import run as run
from innerloop.training import train as train
from innerloop.evaluation import EvalSettings as EvalSettings
from innerloop.evaluation import Evaluation as Evaluation
from innerloop.evaluation import evaluate as evaluate
from innerloop.sharing import export_run as export_run
from innerloop.sharing import from_pretrained as from_pretrained
from innerloop.sharing import push_to_hub as push_to_hub

# why it works
from innerloop.analysis import freezing as freezing
from innerloop.analysis import heads as heads
from innerloop.analysis import linear_cka as linear_cka
from innerloop.analysis import mean_cca as mean_cca
from innerloop.analysis import movement as movement
from innerloop.analysis import similarity as similarity
from innerloop.analysis import step_costs as step_costs
from innerloop.studies.table import Claim as Claim
from innerloop.studies.table import Table as Table

# for pictures of your own
from innerloop.estimator import FewShotClassifier as FewShotClassifier
from innerloop.estimator import choose_method as choose_method
