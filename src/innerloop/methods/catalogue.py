"""The methods that we ship, as values, and the one place where a method's name is looked up."""

from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights
from innerloop.core.losses import per_task
from innerloop.methods.gradient import pair_outputs
from innerloop.methods.heads import Metric
from innerloop.methods.method import Learner, Method, query_loss
from innerloop.methods.objectives import implicit, multi_step, reptile
from innerloop.models.head import CosineLinear, FullContext, PairHead, Readout
from innerloop.reference import find_value


def _each_step(learner: Learner, parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
    s = learner.settings
    if s.anneal >= 1:
        return query_loss(learner, parameters, episodes)
    objective = multi_step(learner.model, learner.inner, anneal=s.anneal, loss=s.loss, statistics=s.statistics)
    return objective(parameters, episodes)


def _reptile(learner: Learner, parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
    return reptile(learner.model, learner.inner, loss=learner.settings.loss)(parameters, episodes)


def _implicit(learner: Learner, parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
    s = learner.settings
    return implicit(learner.model, learner.inner, iterations=s.solve_steps, loss=s.loss)(parameters, episodes)


def _pairs(learner: Learner, parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
    output = pair_outputs(learner.model, parameters, episodes, learner.settings.metric)
    return per_task(learner.settings.loss, output, episodes.query_y), output


def _cosine_head(inputs: int, outputs: int, readout: Readout, metric: Metric) -> nn.Module:
    return CosineLinear(inputs, outputs, scale=metric.scale, readout=readout)


def _pair_head(inputs: int, _: int, readout: Readout, __: Metric) -> nn.Module:
    return PairHead(inputs, readout=readout)


def _context_head(inputs: int, _: int, readout: Readout, metric: Metric) -> nn.Module | None:
    return FullContext(inputs, readout=readout) if metric.full_context else None


MAML = Method("maml", "all", source="Finn, Abbeel, Levine 2017, arXiv 1703.03400, algorithm 2")
FOMAML = Method(
    "fomaml",
    "all",
    first_order=True,
    source="Finn, Abbeel, Levine 2017, section 5.2 (first-order approximation)",
)
ANIL = Method("anil", "head", source="Raghu, Raghu, Bengio, Vinyals 2020, arXiv 1909.09157, section 4")
BOIL = Method("boil", "body", source="Oh, Yoo, Kim, Yun 2021, arXiv 2008.08882")
NIL = Method("nil", head="cosine", source="Raghu, Raghu, Bengio, Vinyals 2020, section 5 (no inner loop)")
META_SGD = Method(
    "meta-sgd", "all", learns="parameter_rates", source="Li, Zhou, Chen, Li 2017, arXiv 1707.09835, algorithm 1"
)
MAML_PLUS_PLUS = Method(
    "maml++",
    "all",
    objective=_each_step,
    each_step=True,
    learns="block_rates",
    step_norms=True,
    source="Antoniou, Edwards, Storkey 2019, arXiv 1810.09502, section 4",
)
PROTO_MAML = Method("proto-maml", "all", start="means", source="Triantafillou et al. 2020, arXiv 1903.03096, section 4")
UNICORN = Method("unicorn", "all", start="shared", source="Ye & Chao 2022, arXiv 2106.16245 (UNICORN-MAML)")
REPTILE = Method(
    "reptile",
    "all",
    objective=_reptile,
    differentiates=False,
    adapt_norm=True,
    source="Nichol, Achiam, Schulman 2018, arXiv 1803.02999",
)
IMAML = Method(
    "imaml",
    "all",
    objective=_implicit,
    differentiates=False,
    proximal=True,
    adapt_norm=True,
    source="Rajeswaran, Finn, Kakade, Levine 2019, arXiv 1909.04630, algorithms 1-2",
)
PROTO = Method("proto", head="euclidean", source="Snell, Swersky, Zemel 2017, arXiv 1703.05175")
MATCHING = Method("matching", head="cosine", make_head=_context_head, source="Vinyals et al. 2016, arXiv 1606.04080")
SIAMESE = Method(
    "siamese",
    head="pairs",
    objective=_pairs,
    trains_on="pairs",
    make_head=_pair_head,
    source="Koch, Zemel, Salakhutdinov 2015",
)
_HEAD_FROM_ZERO = Method("head from zero", "head", start="zero")
_HEAD_FROM_MEANS = Method("head from class means", "head", start="means")
_ALL_FROM_ZERO = Method("all from zero", "all", start="zero")
MULTITASK = Method(
    "multitask",
    test=NIL,
    source="Raghu, Raghu, Bengio, Vinyals 2020, section 5.2: all tasks at once, one shared head, no inner loop",
)
MULTICLASS = Method(
    "multiclass",
    trains_on="classes",
    test=NIL,
    source="Raghu, Raghu, Bengio, Vinyals 2020, section 5.2: one classifier of all training classes",
)
BASELINE = Method(
    "baseline",
    trains_on="classes",
    test=_HEAD_FROM_ZERO,
    source="Chen, Liu, Kira, Wang, Huang 2019, arXiv 1904.04232, section 3.2 (Baseline)",
)
BASELINE_PLUS_PLUS = Method(
    "baseline++",
    trains_on="classes",
    make_head=_cosine_head,
    test=_HEAD_FROM_MEANS,
    source="Chen, Liu, Kira, Wang, Huang 2019, section 3.2 (Baseline++: a cosine head)",
)
FINETUNE = Method(
    "finetune",
    trains_on="classes",
    test=_ALL_FROM_ZERO,
    source="Baseline of Chen et al. 2019, all blocks adapting at test time",
)
CENTROID = Method(
    "centroid",
    trains_on="classes",
    test=PROTO,
    source="nearest class mean on pre-trained features; Snell et al. 2017, equations 1-2, without episodic training",
)

METHODS = (
    MAML,
    FOMAML,
    ANIL,
    BOIL,
    META_SGD,
    MAML_PLUS_PLUS,
    PROTO_MAML,
    UNICORN,
    REPTILE,
    IMAML,
    PROTO,
    MATCHING,
    SIAMESE,
    NIL,
    BASELINE,
    BASELINE_PLUS_PLUS,
    FINETUNE,
    CENTROID,
    MULTICLASS,
    MULTITASK,
)
REGIMES = (MULTICLASS, MULTITASK)
"""not methods for few shots of their own, but trainings that Raghu et al. 2020 compare"""
NAMES = tuple(m.name for m in METHODS)


def method(name: str) -> Method:
    """The method of that name: one of `METHODS`, or `module:attribute` of your own.

    Raises InnerloopError for a name that there is not, and for an attribute that is no `Method`.
    """
    return find_value(name, {m.name: m for m in METHODS}, Method, "method")
