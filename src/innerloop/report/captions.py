"""What the page says in sentences: the answer, and what each figure shows and the paper found."""

# ruff: noqa: E501 (sentences)

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from innerloop.report.formats import in_percent, milliseconds, number, percent, points, ratio
from innerloop.report.summary import Summary
from innerloop.report.tables import accuracy_in_words, seeds_of, setting, short_title, without_cca

PAPER = "Raghu, Raghu, Bengio and Vinyals, “Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML”, ICLR 2020, arXiv:1909.09157"

CKA = "CKA (centred kernel alignment) asks whether the images that are alike in one set of activations are alike in the other, and counts strong directions most."
CCA = "CCA (canonical correlation analysis) pairs each direction of one set with the best match in the other by linear maps, and is the mean correlation of the pairs."

HEADS = (
    "MAML's body with other heads. Re-initialised and zeros: the head starts from random weights, or from zeros, and "
    "the same inner loop adapts all blocks. NIL: no inner loop and no trained head; a query image gets the label of the "
    "support images (cosine) or of the class mean (Euclidean) whose features are nearest. A difference near 0 says that "
    "the trained head adds nothing that the inner loop, or the features alone, do not give."
)

_ANSWERS = {
    "feature reuse": "Feature reuse: meta-training found features that already suit the new classes, and the inner loop had little to change in them",
    "rapid learning": "Rapid learning: the features themselves had to change in the inner loop, and accuracy is lost without that",
    "undecided": "Undecided: MAML's inner loop gains next to nothing here, so that freezing has nothing to lose; train longer",
    "mixed": "Mixed: some of the tests point to feature reuse and others to rapid learning",
}


@dataclass(frozen=True)
class Words:
    """The text that goes with a figure."""

    title: str
    caption: str
    """what to see in it"""
    paper: str
    """what the paper found, with its source"""
    alt: str
    """for those who do not see the figure"""


ASKS = (
    "MAML trains a network so that a few gradient steps on a new task's examples suffice. Why does that work? Either the "
    "steps change the features for each task (rapid learning), or the features serve new tasks as they are, and the steps "
    "only teach the last layer which output stands for which class (feature reuse). The paper freezes the body of a trained "
    "MAML at test time, so that the last layer alone adapts. On 5-way mini-ImageNet this costs 0.6 points with one shot and 2.1 "
    "with five, and the inner loop hardly changes what the body computes: feature reuse."
)
DIAL = (
    "The second MAML differs from the first in one number: the first random weights of its head are 20 times smaller. Body, "
    "data, order of tasks and all settings are the same. The gradient that a step sends into the body is proportional to the "
    "head's weights, the gradient of the head itself is not: the smaller the head, the larger its share of the first step. "
    "Our explanation, which this page does not test: with ordinary weights the head can hardly get away from its own random "
    "start in a few steps, and training teaches the body to turn its features towards it instead. Starting the frozen model's head from zeros, or taking it off (NIL), asks "
    "whether the features suffice; leaving it as trained asks also whether this head gets away from its start."
)
_RUNS = {
    "feature reuse": "This MAML reuses its features",
    "rapid learning": "This MAML learns rapidly: its body has to change",
    "mixed": "This MAML's body has to change as it is trained, though the same features serve without any inner loop",
    "undecided": "This run decides nothing: training has taught MAML next to nothing that an untrained body lacks",
    "inconclusive": "This run is too small to say: the interval lies on both sides of the bound",
}


def answer(summary: Summary) -> str:
    """Two sentences: the answer, and the numbers beside it."""
    if summary.get("over_seeds"):
        return _answer_over_seeds(summary)
    dial, answers = summary.get("dial") or [], (summary.get("verdict") or {}).get("answers") or {}
    if len(dial) < 2 or len(answers) < 2:
        return _one_answer(summary)
    start = _start(*(answers[d["method"]] for d in dial))
    changes = [_together(points(d["frozen"]["difference"])) for d in dial]
    times = f"{dial[0]['head_scale'] / dial[1]['head_scale']:.0f}"
    others = [
        f"{short_title(summary, m)} {accuracy_in_words(summary, m)}" for m in ("anil", "nil") if m in summary["methods"]
    ]
    reached = [accuracy_in_words(summary, d["method"]) for d in dial]
    return (
        f"{start}: freezing the body at test time changes accuracy by {changes[0]} points with ordinary first weights of the head, "
        f"and by {changes[1]} with {times} times smaller ones ({setting(summary)}, ci95). Unfrozen the two reach {reached[0]} and "
        f"{reached[1]}; {_listed(others)}."
    )


def _answer_over_seeds(summary: Summary) -> str:
    """The answer over all seeds, and the loss by freezing with its seed_std."""
    over, dial = summary["over_seeds"], summary["dial"]
    answers = [over["answers"][d["method"]] for d in dial]
    start = _start(*answers) if len(dial) > 1 else _RUNS.get(answers[0], _RUNS["inconclusive"])
    lost = [over["claims"][d["method"]][0]["number"] for d in dial]
    said = [
        f"{number(r['mean'], 'points', sign=True)} points (seed_std {number(r['seed_std'], 'points')})" for r in lost
    ]
    starts = [
        f"{_together(s)} with the head's first weights × {d['head_scale']:g}" for s, d in zip(said, dial, strict=True)
    ]
    return (
        f"{start} ({seeds_of(summary)}): freezing the body at test time changes accuracy by {_listed(starts)} "
        f"({setting(summary)})."
    )


def _start(first: str, small: str) -> str:
    """The answer for two starts of the head."""
    reuse = [a == "feature reuse" for a in (first, small)]
    known = [a in ("feature reuse", "rapid learning", "mixed") for a in (first, small)]
    if not all(known):
        return "This run decides nothing" if not any(known) else "This run answers for one start of the head only"
    if reuse[0] == reuse[1]:
        return f"MAML {'reuses' if reuse[0] else 'does not reuse'} its features, wherever its head starts"
    return "Whether MAML reuses its features depends on where its head starts"


def verdict_in_words(summary: Summary) -> str:
    """What the paper's protocol says of the ordinary MAML."""
    said = ((summary.get("verdict") or {}).get("answers") or {}).get("maml")
    last, still = (summary.get("freezing") or [{}])[-1].get("difference"), summary.get("still") or []
    nil = next((e["difference"] for e in still if e["head"] == "NIL"), None)
    if said is None or last is None or nil is None:
        return ""
    return (
        f"{_RUNS.get(said, _RUNS['inconclusive'])}. Freezing its body changes accuracy by {_together(points(last))} points; its body without any inner loop "
        f"(NIL) is {_together(points(nil))} points from it (ci95, paired)."
    )


def _one_answer(summary: Summary) -> str:
    """The same for a study with one MAML."""
    verdict = summary.get("verdict") or {}
    said = verdict.get("answer")
    first = _ANSWERS.get(said, str(said)) if said else "No verdict was drawn"
    says = {"maml": "MAML, which adapts every block,", "anil": "ANIL, which adapts only the head,",
            "nil": "NIL, which adapts nothing,"}  # fmt: skip
    parts = [f"{says[m]} reaches {accuracy_in_words(summary, m)}" for m in says if m in summary["methods"]]
    claims = verdict.get("claims") or []
    held = sum(bool(c["holds"]) for c in claims)
    second = _listed(parts)
    if claims:
        counted = f"{held} of {len(claims)} claims tested hold"
        second = f"{second}; {counted}" if second else counted
    first = f"{first} ({setting(summary)})."
    return f"{first} {second}." if second else first


def words(summary: Summary, figure: str) -> Words:
    """The text of one figure."""
    return {
        "dial": _dial,
        "episodes": _episodes,
        "training": _training,
        "steps": _steps,
        "freezing": _freezing,
        "movement": _movement,
        "similarity": _similarity,
        "early": _early,
        "cost": _cost,
    }[figure](summary)


def _episodes(summary: Summary) -> Words:
    data = summary["data"]
    return Words(
        "What a task looks like",
        f"A column is a class the models never saw in training: the boxed picture with a letter is all they get to learn it "
        f"from ({data['shot']} image{'s' if data['shot'] != 1 else ''} a class); below it are query images of the same "
        "class, with ✓ for a right guess and ✗ with the letter that was guessed instead. These are the first episodes of "
        "the test, not chosen ones; no more than five classes and two query images of each are drawn.",
        "",
        "Rows of small pictures: for each class its boxed support images, then query images with a tick or a cross and "
        "the wrong letter for each method.",
    )


def _dial(summary: Summary) -> Words:
    said = " ".join(
        f"Head × {d['head_scale']:g}: "
        + _listed([f"{in_percent(d[k]['mean'])} {t}" for k, t in (("whole", "with all blocks adapting"),
                   ("frozen", "with the body frozen"), ("zeros", "with the head from zeros as well"),
                   ("nil", "without a head")) if d.get(k)]) + "."
        for d in summary["dial"]
    )  # fmt: skip
    return Words(
        "The body frozen, and the head's start",
        "Two trainings of MAML that differ in the size of the head's first weights alone. Where the second bar is as high as "
        "the first, the body need not adapt. The last two bars ask whether the frozen features suffice for another head.",
        "",
        f"Bar chart of test accuracy. {said}",
    )


def _training(summary: Summary) -> Words:
    best = [
        f"{short_title(summary, n)}'s best at step {m['best_step']:,}"
        for n, m in summary["methods"].items()
        if m.get("curve") and m.get("best_step") is not None
    ]
    chosen = f" The weights with the best validation are tested ({_listed(best)})." if best else ""
    return Words(
        "Learning curves",
        "Accuracy over meta-training, after the inner loop. Where the two thick lines lie on each other, training learns as "
        f"much without the inner loop in the body as with it.{chosen}",
        "The curves of MAML and ANIL nearly overlay on mini-ImageNet 5-way 5-shot (Figure 5).",
        f"Line chart of accuracy over outer steps for {_having(summary, 'curve')}.",
    )


def _steps(summary: Summary) -> Words:
    ends = [
        f"{short_title(summary, n)} goes from {percent(m['steps'][0]['mean'])} to {in_percent(m['steps'][-1]['mean'])} in {len(m['steps']) - 1} inner steps"
        for n, m in summary["methods"].items()
        if len(m.get("steps") or []) > 1
    ]
    said = f"{_listed(ends)}."
    return Words(
        "Accuracy after each inner step",
        f"{said} Without any step the head does not know yet which output stands for which class, so even perfect features "
        "give about the accuracy of guessing there.",
        "After its inner loop MAML reaches 46.9 ± 0.2 % (1-shot) and 63.1 ± 0.4 % (5-shot), ANIL 46.7 ± 0.4 % and "
        "61.5 ± 0.5 % on 5-way mini-ImageNet (Table 2; ± there is the standard deviation over three seeds).",
        f"Line chart of test accuracy per inner step with ci95 bands. {said}",
    )


def _freezing(summary: Summary) -> Words:
    found = summary["freezing"]
    last = found[-1]
    change = f" ({points(last['difference'])} points, ci95, paired)" if last.get("difference") else ""
    said = (
        f"MAML's model gets {in_percent(found[0]['mean'])} when every block adapts and {in_percent(last['mean'])} when only "
        f"{_the(last['adapted'])} does{change}."
    )
    return Words(
        "Freezing the body at test time",
        f"{said} A flat line means that the frozen blocks did not need to learn at test time.",
        "On 5-way mini-ImageNet, from no block frozen to all four: 46.9 to 46.3 % (1-shot), 63.1 to 61.0 % (5-shot) "
        "(Table 1 of the camera-ready version, as quoted by later work).",
        f"Accuracy with error bars against the number of frozen blocks. {said}",
    )


def _movement(summary: Summary) -> Words:
    said = _per_block(summary, "movement", "relative")
    return Words(
        "How far the weights move",
        "How far the inner loop moves the weights of each block, as a share of their size. ANIL's body stays where it is by "
        "definition; for MAML, compare the body with the head.",
        "The distance is clearly visible for the head only, though the body has far more parameters (appendix B.3, shown "
        "as a figure without numbers, as described by later work).",
        f"Bar chart of relative distance per block. {said}",
    )


def _similarity(summary: Summary) -> Words:
    both = bool(summary.get("cca"))
    said = _per_block(summary, "cka", "mean")
    caption = (
        "Each block's activations on the same query images before and after the inner loop: 1 means that they are the same "
        "up to rotation and scale. Feature reuse shows as bars near 1 for the body and a lower one for the head."
    )
    if both:
        said = f"CKA: {said} CCA: {_per_block(summary, 'cca', 'mean')}"
        caption = (
            "Each block's activations on the same query images before and after the inner loop, by two measures of "
            f"similarity. {CKA} {CCA} Feature reuse shows as bars near 1 for the body and lower ones for the head; ANIL's body is 1 by "
            "construction. CCA gives a direction that hardly varies as much weight as a strong one, so it is the lower "
            "one where the inner loop changes only weak directions."
        )
    if left_out := without_cca(summary):
        caption += (
            f" CCA needs two data points per neuron or more; {_listed(left_out)} {'gives' if len(left_out) == 1 else 'give'} "
            "fewer here (the images or the query sets are too small) and no CCA is shown there."
        )
    return Words(
        "How much the activations change",
        caption,
        "Similarity (CCA) is above 0.9 for all four conv blocks and below 0.5 for the head on mini-ImageNet; CKA shows the "
        "same pattern (Figure 2).",
        f"Bar chart{'s of CKA and of CCA' if both else ' of CKA'} per block. {said}",
    )


def _early(summary: Summary) -> Words:
    found = summary["early"]
    first, last = found[0], found[-1]

    def at(e: Mapping[str, Any]) -> str:
        return f"by {points(e['difference'])} points (ci95, paired) after {e['step']:,} outer steps"

    said = f"Freezing the whole body of MAML's model at test time changes its accuracy {at(first)} and {at(last)}."
    lows = [e["lowest_body_cka"] for e in (first, last) if e.get("lowest_body_cka")]
    if len(lows) == 2:
        said += f" The lowest CKA of a body block is {lows[0]['mean']:.3f} at first and {lows[1]['mean']:.3f} at last."
    count = f", on the first {first['episodes']:,} test episodes" if first.get("episodes") is not None else ""
    return Words(
        "Early in training",
        f"{said} Each point is a checkpoint along the training{count}; the last one is the end of training, which need not "
        "be the one with the best validation that all other parts test. Where reuse comes early, the two lines run "
        "together from the first checkpoint on.",
        "After 10,000 outer steps already, as after 20,000 and 30,000, freezing blocks leaves accuracy about unchanged and "
        "the body's similarity is very high, on 5-way 5-shot mini-ImageNet (Figure 3).",
        f"Line charts over outer steps: accuracy with nothing and with the body frozen, and lowest body CKA. {said}",
    )


def _cost(summary: Summary) -> Words:
    cost = summary["cost"]
    parts = []
    for part, what in (
        ("train", "a training step"),
        ("inference", "adapting to one episode and answering it"),
    ):
        times = cost.get(f"{part}_ms") or {}
        spent = _listed([f"{milliseconds(ms)} for {short_title(summary, n)}" for n, ms in times.items()])
        by = cost.get(f"{part}_ratio")
        if spent:
            ended = f" (MAML takes {ratio(by)} the time of ANIL)" if by else ""
            parts.append(f"{what} takes {spent}{ended}")
    said = _capital("; ".join(parts)) + "."
    return Words(
        "What it costs",
        f"{said} The times belong to this machine, model and image size; the ratios are what to compare.",
        "ANIL is 1.7× as fast as MAML in training and 4.1× in inference, on average (section 4).",
        f"Two bar charts of milliseconds. {said}",
    )


def _per_block(summary: Summary, part: str, value: str) -> str:
    said = []
    for name, found in summary[part].items():
        each = ", ".join(f"{e['block']} {e[value]:.3f}" for e in found)
        said.append(f"{short_title(summary, name)}: {each}.")
    return " ".join(said)


def _together(text: str) -> str:
    """Never broken over two lines."""
    return text.replace(" ", "\u00a0")


def _the(blocks: list[str]) -> str:
    return f"the {_listed(blocks)}" if blocks else "nothing"


def _having(summary: Summary, part: str) -> str:
    return _listed([short_title(summary, n) for n, m in summary["methods"].items() if m.get(part)])


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
