"""MAML with your own model and your own tensors: sample episodes, adapt, meta-gradient, evaluate.

python examples/own_model.py
"""

from collections import OrderedDict

import torch
from torch import nn

from innerloop import (
    ClassImages,
    EvalSettings,
    ImageTasks,
    InnerLoop,
    OuterLoop,
    accuracy,
    adapt,
    cross_entropy,
    evaluate,
    forward,
    generator_for,
    meta_gradient,
    outer_step,
    predictor,
    slow_weights,
)

# Your images: for each class a uint8 tensor [n, channels, height, width]. Here: blobs at a place of the class's own.
generator = generator_for(0, "images")
places = torch.randint(2, 12, (30, 2), generator=generator).tolist()
per_class = []
for row, column in places:
    images = torch.randint(0, 120, (20, 1, 14, 14), dtype=torch.uint8, generator=generator)
    images[:, :, row - 2 : row + 2, column - 2 : column + 2] += 100
    per_class.append(images)
names = [f"blob at {row},{column}" for row, column in places]
data = ClassImages.from_tensors("blobs", per_class, names, {"train": range(20), "test": range(20, 30)})
train, test = (ImageTasks(data.split(s), way=5, shot=1, query=5) for s in ("train", "test"))

# Your model: an nn.Sequential of named blocks; the last one is the head.
torch.manual_seed(0)
model = nn.Sequential(
    OrderedDict(
        body=nn.Sequential(nn.Flatten(), nn.Linear(14 * 14, 64), nn.ReLU()),
        head=nn.Linear(64, 5),
    )
)

# One episode by hand: fast weights from the support set, then the query set with them.
inner = InnerLoop(blocks="all", steps=3, lr=0.1)  # MAML; blocks="head" is ANIL
episodes = train.sample(4, generator_for(0, "episodes", 0))
slow = slow_weights(model)
fast = adapt(model, slow, episodes.support_x, episodes.support_y, inner)
logits = forward(model, slow, fast, episodes.query_x)  # [tasks, query, way]
print("accuracy of four episodes before training:", accuracy(logits, episodes.query_y).tolist())

# The outer loop: the meta-gradient of a batch of tasks, and Adam.
outer = OuterLoop(steps=150, meta_batch=8, lr=3e-3)
predict = predictor(model, inner)
optimizer = torch.optim.Adam(slow.values(), lr=outer.lr)
for step in range(outer.steps):
    batch = train.sample(outer.meta_batch, generator_for(0, "episodes", step))
    found = meta_gradient(predict, slow, batch, cross_entropy, accuracy)
    outer_step(optimizer, slow, found.gradient, outer, step)

result = evaluate(predictor(model, inner), slow, test, EvalSettings(episodes=200, inner_steps=3))
print("test classes:", result.final)
assert result.final.mean > 0.5, "chance is 0.2"
