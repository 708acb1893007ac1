"""All tables and figures that `reproduce` makes by name, and those of yours."""

from dataclasses import replace

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.reference import is_reference, load_reference
from innerloop.studies.accuracy_tables import REGIME_HEADS, TABLE_1, TABLE_2, TABLE_4, TABLE_5
from innerloop.studies.dial import DIAL
from innerloop.studies.families import TRAINED, families
from innerloop.studies.learning_curves import figure3, figure5
from innerloop.studies.rl_baselines import TRAINED as RL_TRAINED
from innerloop.studies.rl_baselines import rl_baselines
from innerloop.studies.rl_tables import rl_features, table2_rl
from innerloop.studies.shift import domain_shift
from innerloop.studies.similarity_tables import FIGURE_2, regime_similarity, seeds_regression, table3
from innerloop.studies.table import Table, source_of
from innerloop.studies.weights_and_cost import DISTANCES, cost, permutations

TRAINING_MINUTES = {
    **{"maml": 11, "anil": 2, "nil": 2, "multitask": 2, "multiclass": 2},
    **{"fomaml": 5, "boil": 3, "meta-sgd": 4, "maml++": 23, "proto-maml": 23, "unicorn": 7, "reptile": 17, "imaml": 13},
    **{"proto": 1, "matching": 2, "siamese": 2, "baseline++": 2},
}
"""of one run of the cpu budget, measured on one core of a busy two-core machine (Omniglot; the first five on CIFAR-FS
alike)"""

_MAML, _BOTH = ("maml",), ("maml", "anil")
_ALL = ("maml", "anil", "nil", "multitask", "multiclass")

TABLES = (
    TABLE_1,
    TABLE_2,
    Table(
        "table3",
        "Similarity between models",
        make=table3,
        where="table 3",
        trains=_BOTH,
        two_seeds=True,
        in_all=True,
    ),
    TABLE_4,
    TABLE_5,
    FIGURE_2,
    Table(
        "figure3",
        "Freezing and similarity early in training",
        make=figure3,
        where="figure 3",
        trains=_MAML,
        in_all=True,
    ),
    Table("figure5", "Learning curves", make=figure5, where="figure 5", trains=_BOTH, in_all=True),
    Table(
        "cost",
        "Time of a training and an inference step",
        make=cost,
        where="section 4, appendix C.5",
        trains=_MAML,
        in_all=True,
    ),
    DISTANCES,
    Table(
        "seeds",
        "Does adaptation change how alike two seeds are?",
        make=seeds_regression,
        where="appendix B.4",
        trains=_MAML,
        two_seeds=True,
        in_all=True,
    ),
    REGIME_HEADS,
    Table(
        "regime-similarity",
        "Each regime's body against MAML's",
        make=regime_similarity,
        where="appendix D.2",
        trains=_ALL,
        two_seeds=True,
        in_all=True,
    ),
    Table(
        "permutations",
        "A trained head under permuted class labels",
        make=permutations,
        where="not in the paper: Ye & Chao 2022, arXiv 2106.16245",
        trains=_MAML,
        in_all=True,
    ),
    DIAL,
    Table("families", "Every family of few-shot learning on the same episodes", make=families, trains=TRAINED),
    Table(
        "shift",
        "Domain shift",
        make=domain_shift,
        where="not in the paper: Chen et al. 2019, section 4.3",
        trains=("maml", "anil", "nil", "proto", "matching", "baseline++", "multiclass"),
    ),
    Table(
        "table2-rl",
        "MAML against ANIL in reinforcement learning",
        make=table2_rl,
        where="table 2, columns of reinforcement learning",
        trains=_BOTH,
        rl=True,
    ),
    Table(
        "rl-features",
        "Does the policy's body change when it adapts?",
        make=rl_features,
        where="not in the paper: its question, asked of a policy",
        trains=_BOTH,
        rl=True,
    ),
    Table(
        "rl-baselines",
        "Meta-trained policies beside baselines and an oracle",
        make=rl_baselines,
        where="not in the paper: baselines as in Finn et al. 2017, section 5.3",
        trains=RL_TRAINED,
        rl=True,
    ),
)


def find_table(name: str) -> Table:
    """The table of that name, or the value that module:attribute names."""
    by_name = {t.name: t for t in TABLES}
    if name in by_name:
        return by_name[name]
    if not is_reference(name):
        near = did_you_mean(name, [*by_name, "all"])
        raise InnerloopError(
            f"there is no table {quoted(name)}; there are {', '.join(by_name)}, and module:attribute of your own{near}"
        )
    table = load_reference(name, "table")
    if not isinstance(table, Table):
        raise InnerloopError(f"{quoted(name)} is a {type(table).__name__}; a table is an innerloop.Table")
    if table.name in by_name:
        raise InnerloopError(f"the table of {quoted(name)} has the name of one of ours, {table.name}; call it another")
    return replace(table, source=source_of(table))
