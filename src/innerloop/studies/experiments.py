"""All that can be reproduced, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.studies.comparison_tables import table2, table4
from innerloop.studies.families import TRAINED, families
from innerloop.studies.freezing_table import table1
from innerloop.studies.learning_curves import figure3, figure5
from innerloop.studies.regimes import regime_heads, table5
from innerloop.studies.result import Result
from innerloop.studies.rl_baselines import TRAINED as RL_TRAINED
from innerloop.studies.rl_baselines import rl_baselines
from innerloop.studies.rl_tables import rl_features, table2_rl
from innerloop.studies.shift import domain_shift
from innerloop.studies.similarity_tables import figure2, regime_similarity, seeds_regression, table3
from innerloop.studies.weights_and_cost import cost, distances, permutations


@dataclass(frozen=True)
class Experiment:
    """One table or figure."""

    name: str
    title: str
    make: Callable[[Any], Result]
    """takes a Lab, or an RlLab"""
    methods: tuple[str, ...]
    """whose runs it needs"""
    where: str
    """in the paper"""
    two_seeds: bool = False
    """whether it compares models of different seeds"""
    of_the_paper: bool = True
    """whether "all" means it too"""
    rl: bool = False
    """whether it is about reinforcement learning"""


TRAINING_MINUTES = {
    **{"maml": 11, "anil": 2, "nil": 2, "multitask": 2, "multiclass": 2},
    **{"fomaml": 5, "boil": 3, "meta-sgd": 4, "maml++": 23, "proto-maml": 23, "unicorn": 7, "reptile": 17, "imaml": 13},
    **{"proto": 1, "matching": 2, "siamese": 2, "baseline++": 2},
}
"""of one run of the cpu budget, measured on one core of a busy two-core machine (Omniglot; the first five on CIFAR-FS
alike)"""

_MAML, _BOTH = ("maml",), ("maml", "anil")
_ALL = ("maml", "anil", "nil", "multitask", "multiclass")

EXPERIMENTS = (
    Experiment("table1", "Freezing blocks at test", table1, _MAML, "table 1"),
    Experiment("table2", "MAML against ANIL", table2, _BOTH, "table 2, image columns"),
    Experiment("table3", "Similarity between models", table3, _BOTH, "table 3", two_seeds=True),
    Experiment("table4", "NIL: no inner loop at test", table4, _BOTH, "table 4"),
    Experiment("table5", "Bodies of six training regimes under NIL's head", table5, _ALL, "table 5"),
    Experiment("figure2", "Similarity before and after the inner loop", figure2, _MAML, "figure 2"),
    Experiment("figure3", "Freezing and similarity early in training", figure3, _MAML, "figure 3"),
    Experiment("figure5", "Learning curves", figure5, _BOTH, "figure 5"),
    Experiment("cost", "Time of a training and an inference step", cost, _MAML, "section 4, appendix C.5"),
    Experiment("distances", "How far each block's weights move", distances, _MAML, "appendix B.3"),
    Experiment(
        "seeds",
        "Does adaptation change how alike two seeds are?",
        seeds_regression,
        _MAML,
        "appendix B.4",
        two_seeds=True,
    ),
    Experiment("regime-heads", "The same bodies under MAML's inner loop", regime_heads, _ALL, "appendix D.1"),
    Experiment(
        "regime-similarity",
        "Each regime's body against MAML's",
        regime_similarity,
        _ALL,
        "appendix D.2",
        two_seeds=True,
    ),
    Experiment(
        "permutations",
        "A trained head under permuted class labels",
        permutations,
        _MAML,
        "not in the paper: Ye & Chao 2022, arXiv 2106.16245",
    ),
    Experiment(
        "families",
        "Every family of few-shot learning on the same episodes",
        families,
        TRAINED,
        "not in the paper",
        of_the_paper=False,
    ),
    Experiment(
        "shift",
        "Domain shift",
        domain_shift,
        ("maml", "anil", "nil", "proto", "matching", "baseline++", "multiclass"),
        "not in the paper: Chen et al. 2019, section 4.3",
        of_the_paper=False,
    ),
    Experiment(
        "table2-rl",
        "MAML against ANIL in reinforcement learning",
        table2_rl,
        _BOTH,
        "table 2, columns of reinforcement learning",
        of_the_paper=False,
        rl=True,
    ),
    Experiment(
        "rl-features",
        "Does the policy's body change when it adapts?",
        rl_features,
        _BOTH,
        "not in the paper: its question, asked of a policy",
        of_the_paper=False,
        rl=True,
    ),
    Experiment(
        "rl-baselines",
        "Meta-trained policies beside baselines and an oracle",
        rl_baselines,
        RL_TRAINED,
        "not in the paper: baselines as in Finn et al. 2017, section 5.3",
        of_the_paper=False,
        rl=True,
    ),
)


def experiment(name: str) -> Experiment:
    """The experiment of that name."""
    for e in EXPERIMENTS:
        if e.name == name:
            return e
    names = [e.name for e in EXPERIMENTS]
    near = did_you_mean(name, [*names, "all"])
    raise InnerloopError(f"there is no experiment {quoted(name)}; there are {', '.join(names)}{near}")
