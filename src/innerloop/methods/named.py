"""The methods as values: they differ in which blocks adapt, where the head starts, what the outer loop minimises and
which head classifies, and in nothing else."""

from dataclasses import dataclass, replace
from typing import Literal

from innerloop.core.functional import Blocks
from innerloop.core.inner import InnerLoop
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.methods.heads import Head
from innerloop.methods.starts import Start

MethodName = Literal[
    "maml",
    "fomaml",
    "anil",
    "boil",
    "nil",
    "meta-sgd",
    "maml++",
    "proto-maml",
    "unicorn",
    "reptile",
    "imaml",
    "proto",
    "matching",
    "siamese",
    "baseline",
    "baseline++",
    "finetune",
    "centroid",
    "multiclass",
    "multitask",
]


@dataclass(frozen=True)
class Method:
    """A few-shot method."""

    name: MethodName
    blocks: Blocks
    """which blocks the inner loop changes in training"""
    first_order: bool = False
    head: Head = "model"
    """what classifies in training: the model's last block, or the support set's features"""
    start: Start = "own"
    """where the head begins the inner loop"""
    trains_on: Literal["episodes", "classes", "pairs"] = "episodes"
    """classes: batches of all training classes, one output each; pairs: same class or not"""
    objective: Literal["query", "each_step", "reptile", "implicit"] = "query"
    """what the outer loop minimises: the query loss after the last inner step; after each one (weighted); Reptile's and
    iMAML's gradients"""
    learns: Literal["none", "block_rates", "parameter_rates"] = "none"
    """inner rates that are learned together with the weights"""
    step_norms: bool = False
    """batch norm's scale and shift are learned for each inner step"""
    adapt_norm: bool = False
    """batch norm's scale and shift always adapt"""
    test_blocks: Blocks | None = None
    """which blocks adapt at test; None: those of training"""
    test_head: Head | None = None
    """the head at validation and test; None: the same as in training"""
    test_start: Start | None = None
    """where the head begins at test; None: as in training"""
    source: str = ""

    @property
    def adapts(self) -> bool:
        """Whether an inner loop runs in training."""
        return self.blocks != "none"

    @property
    def adapts_at_test(self) -> bool:
        """Whether an inner loop runs at test."""
        return (self.test_blocks or self.blocks) != "none"

    @property
    def final_head(self) -> Head:
        """The head at test."""
        return self.test_head or self.head

    @property
    def final_start(self) -> Start:
        """Where the head begins at test."""
        return self.test_start or self.start

    def inner(self, loop: InnerLoop) -> InnerLoop:
        """`loop` (steps, rate) with this method's blocks and order."""
        return replace(
            loop,
            blocks=self.blocks,
            first_order=self.first_order or loop.first_order,
            adapt_norm=self.adapt_norm or loop.adapt_norm,
        )

    def test_inner(self, loop: InnerLoop) -> InnerLoop:
        """The inner loop at test."""
        inner = self.inner(loop)
        return inner if self.test_blocks is None else replace(inner, blocks=self.test_blocks)


MAML = Method("maml", "all", source="Finn, Abbeel, Levine 2017, arXiv 1703.03400, algorithm 2")
FOMAML = Method(
    "fomaml",
    "all",
    first_order=True,
    source="Finn, Abbeel, Levine 2017, section 5.2 (first-order approximation)",
)
ANIL = Method("anil", "head", source="Raghu, Raghu, Bengio, Vinyals 2020, arXiv 1909.09157, section 4")
BOIL = Method("boil", "body", source="Oh, Yoo, Kim, Yun 2021, arXiv 2008.08882")
NIL = Method("nil", "none", head="cosine", source="Raghu, Raghu, Bengio, Vinyals 2020, section 5 (no inner loop)")
META_SGD = Method(
    "meta-sgd", "all", learns="parameter_rates", source="Li, Zhou, Chen, Li 2017, arXiv 1707.09835, algorithm 1"
)
MAML_PLUS_PLUS = Method(
    "maml++",
    "all",
    objective="each_step",
    learns="block_rates",
    step_norms=True,
    source="Antoniou, Edwards, Storkey 2019, arXiv 1810.09502, section 4",
)
PROTO_MAML = Method("proto-maml", "all", start="means", source="Triantafillou et al. 2020, arXiv 1903.03096, section 4")
UNICORN = Method("unicorn", "all", start="shared", source="Ye & Chao 2022, arXiv 2106.16245 (UNICORN-MAML)")
REPTILE = Method(
    "reptile", "all", objective="reptile", adapt_norm=True, source="Nichol, Achiam, Schulman 2018, arXiv 1803.02999"
)
IMAML = Method(
    "imaml",
    "all",
    objective="implicit",
    adapt_norm=True,
    source="Rajeswaran, Finn, Kakade, Levine 2019, arXiv 1909.04630, algorithms 1-2",
)
PROTO = Method("proto", "none", head="euclidean", source="Snell, Swersky, Zemel 2017, arXiv 1703.05175")
MATCHING = Method("matching", "none", head="cosine", source="Vinyals et al. 2016, arXiv 1606.04080")
SIAMESE = Method("siamese", "none", head="pairs", trains_on="pairs", source="Koch, Zemel, Salakhutdinov 2015")
MULTITASK = Method(
    "multitask",
    "none",
    test_head="cosine",
    source="Raghu, Raghu, Bengio, Vinyals 2020, section 5.2: all tasks at once, one shared head, no inner loop",
)
MULTICLASS = Method(
    "multiclass",
    "none",
    trains_on="classes",
    test_head="cosine",
    source="Raghu, Raghu, Bengio, Vinyals 2020, section 5.2: one classifier of all training classes",
)
BASELINE = Method(
    "baseline",
    "none",
    trains_on="classes",
    test_blocks="head",
    test_start="zero",
    source="Chen, Liu, Kira, Wang, Huang 2019, arXiv 1904.04232, section 3.2 (Baseline)",
)
BASELINE_PLUS_PLUS = Method(
    "baseline++",
    "none",
    trains_on="classes",
    test_blocks="head",
    test_start="means",
    source="Chen, Liu, Kira, Wang, Huang 2019, section 3.2 (Baseline++: a cosine head)",
)
FINETUNE = Method(
    "finetune",
    "none",
    trains_on="classes",
    test_blocks="all",
    test_start="zero",
    source="Baseline of Chen et al. 2019, all blocks adapting at test",
)
CENTROID = Method(
    "centroid",
    "none",
    trains_on="classes",
    test_head="euclidean",
    source="nearest class mean on pre-trained features; Snell et al. 2017, equations 1-2, without episodic training",
)

METHODS = (
    MAML,
    FOMAML,
    ANIL,
    BOIL,
    NIL,
    META_SGD,
    MAML_PLUS_PLUS,
    PROTO_MAML,
    UNICORN,
    REPTILE,
    IMAML,
    PROTO,
    MATCHING,
    SIAMESE,
    BASELINE,
    BASELINE_PLUS_PLUS,
    FINETUNE,
    CENTROID,
    MULTICLASS,
    MULTITASK,
)


def method(name: MethodName) -> Method:
    """The method of that name."""
    for m in METHODS:
        if m.name == name:
            return m
    names = [m.name for m in METHODS]
    raise InnerloopError(f"no method {quoted(name)}; there are {', '.join(names)}{did_you_mean(name, names)}")
