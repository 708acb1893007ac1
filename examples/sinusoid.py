"""Regression of sinusoids from ten points (Finn et al. 2017, section 5.1), with error after each inner step.

python examples/sinusoid.py
"""

import torch

from innerloop import (
    EvalSettings,
    InnerLoop,
    OuterLoop,
    Sinusoid,
    evaluate,
    generator_for,
    mean_squared_error,
    meta_gradient,
    outer_step,
    predictor,
    slow_weights,
)
from innerloop.models import mlp

model = mlp(1, 1, hidden=(40, 40), generator=generator_for(0, "init"))
tasks = Sinusoid(shot=10, query=10)
inner = InnerLoop(blocks="all", steps=1, lr=0.01)
outer = OuterLoop(steps=300, meta_batch=25, lr=1e-3)
slow = slow_weights(model)
predict = predictor(model, inner, loss=mean_squared_error)
optimizer = torch.optim.Adam(slow.values())
for step in range(outer.steps):
    batch = tasks.sample(outer.meta_batch, generator_for(0, "episodes", step))
    found = meta_gradient(predict, slow, batch, mean_squared_error)
    outer_step(optimizer, slow, found.gradient, outer, step)

settings = EvalSettings(episodes=200, inner_steps=5)
result = evaluate(predictor(model, inner, loss=mean_squared_error), slow, tasks, settings, score=mean_squared_error)
for m, e in enumerate(result.steps):
    print(f"after {m} inner steps: mean squared error {e.mean:.2f} ± {e.ci95:.2f} (ci95 over {e.episodes} tasks)")
assert result.steps[-1].mean < result.steps[0].mean, "adaptation should lower the error"
