"""A table of your own: a MAML model's accuracy by the number of inner steps at test time, and a claim about it.

In the folder of this file:

    innerloop reproduce extend_table:inner_steps
"""

import innerloop as il


def measure(lab, seed):
    """Accuracy of one seed by the label of its row. The lab trains what is not there yet; best checkpoint, test set."""
    run = lab.trained("maml", seed)
    return {f"{n} steps": lab.score(run, "maml", inner_steps=n) for n in (0, 1, 2, 5, 10, 20)}


inner_steps = il.Table(
    "inner-steps",
    "Accuracy by inner steps at test time",
    measure,
    claims=[il.Claim("Twenty steps are no worse than ten", "20 steps", minus="10 steps", at_least=-0.01)],
)
