"""A method of your own: R2-D2, a ridge regression on the support set's features (Bertinetto et al. 2019, section 3.2).

In the folder of this file:

    innerloop train --method extend_method:r2d2
    innerloop reproduce families --methods maml proto extend_method:r2d2
"""

import torch
from torch.nn import Parameter
from torch.nn.functional import one_hot

import innerloop as il


def init(learner):
    """The model's weights, and what R2-D2 learns beside them: λ > 0, and the scale and shift of its outputs."""
    own = {"log_lambda": torch.zeros(()), "scale": torch.ones(()), "shift": torch.zeros(())}
    return {**il.slow_weights(learner.model), **{n: Parameter(t) for n, t in own.items()}}


def predict(learner, parameters, episodes):
    """W = Zᵀ (Z Zᵀ + λ I)⁻¹ Y, Z the support features [support, d], Y the one-hot labels; outputs a Q W + b."""
    support, query = learner.features(parameters, episodes)
    labels = one_hot(episodes.support_y, episodes.way).to(support.dtype)
    gram = support @ support.mT
    ridge = parameters["log_lambda"].exp() * torch.eye(gram.shape[-1], device=gram.device)
    weights = support.mT @ torch.linalg.solve(gram + ridge, labels)
    return parameters["scale"] * (query @ weights) + parameters["shift"]


r2d2 = il.Method("r2d2", predict=predict, init=init, source="Bertinetto, Henriques, Torr, Vedaldi 2019, 1805.08136")
