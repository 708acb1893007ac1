"""Why it works: freezing, similarity, movement, heads, cost. On any model and any episodes."""

from innerloop.analysis.cca import canonical_correlations, mean_cca, pwcca, svcca
from innerloop.analysis.cka import linear_cka, rbf_cka
from innerloop.analysis.cost import Cost, measure_cost, step_costs
from innerloop.analysis.freezing import Frozen, freezing
from innerloop.analysis.heads import HeadRow, Permuted, fresh_head, heads, label_permutations
from innerloop.analysis.movement import Movement, movement
from innerloop.analysis.share import head_share
from innerloop.analysis.similarity import between, block_outputs, similarity

__all__ = [
    "Cost",
    "Frozen",
    "HeadRow",
    "Movement",
    "Permuted",
    "between",
    "block_outputs",
    "canonical_correlations",
    "freezing",
    "fresh_head",
    "head_share",
    "heads",
    "label_permutations",
    "linear_cka",
    "mean_cca",
    "measure_cost",
    "movement",
    "pwcca",
    "rbf_cka",
    "similarity",
    "step_costs",
    "svcca",
]
