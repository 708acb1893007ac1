"""How much of the first inner step goes into the head."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights, block_names, block_of, forward
from innerloop.core.inner import InnerLoop, adapted_parameters
from innerloop.core.losses import Loss, cross_entropy, per_task
from innerloop.core.statistics import Estimate, over_episodes
from innerloop.methods.gradient import own_weights


def head_share(
    model: nn.Sequential,
    slow: Weights,
    batches: Iterable[Episodes],
    *,
    loss: Loss = cross_entropy,
    task_chunk: int | None = None,
) -> Estimate:
    """The head's part of the squared gradient of the support loss L at the slow weights θ, where the inner loop starts:

        s = ‖∂L/∂θ_head‖² / Σ_b ‖∂L/∂θ_b‖²

    over all blocks b (normalisation's scale and shift left out): 0 to 1, mean and ci95 over episodes. To first order a
    step lowers the loss by its rate times Σ_b ‖∂L/∂θ_b‖², so s is the part of this that the head achieves.

    For a linear head z_i = W f_i on features f_i, with softmax outputs p_i and one-hot labels y_i of n images,

        ∂L/∂W = 1/n Σ_i (p_i − y_i) f_iᵀ    and    ∂L/∂f_i = 1/n Wᵀ (p_i − y_i).

    W enters the first only through p_i, but the second, and with it the whole gradient of the body, in proportion: a
    head ε times as large has about ε² of the body's squared gradient, and s goes to 1 as ε goes to 0.
    """
    weights = own_weights(slow)
    names = adapted_parameters(model, InnerLoop(blocks="all"))
    head = block_names(model)[-1]
    shares: list[Tensor] = []
    for batch in batches:
        for i in range(0, len(batch), task_chunk or len(batch)):
            e = batch[i : i + (task_chunk or len(batch))]
            with torch.enable_grad():
                leaves = {n: weights[n].detach().expand(len(e), *weights[n].shape).clone() for n in names}
                leaves = {n: w.requires_grad_() for n, w in leaves.items()}
                outputs = forward(model, weights, leaves, e.support_x)
                losses = per_task(loss, outputs, e.support_y)
                gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
            squares = [g.double().flatten(1).square().sum(1) for g in gradients]
            own = [s for n, s in zip(names, squares, strict=True) if block_of(n) == head]
            shares.append(torch.stack(own).sum(0) / torch.stack(squares).sum(0))
    return over_episodes(torch.cat(shares).cpu())
