"""Why it works: freezing, similarity, movement, cost. On any model and any episodes."""

from innerloop.analysis.cost import Cost, measure_cost
from innerloop.analysis.freezing import Frozen, freezing
from innerloop.analysis.movement import Movement, movement
from innerloop.analysis.similarity import block_outputs, linear_cka, similarity

__all__ = [
    "Cost",
    "Frozen",
    "Movement",
    "block_outputs",
    "freezing",
    "linear_cka",
    "measure_cost",
    "movement",
    "similarity",
]
