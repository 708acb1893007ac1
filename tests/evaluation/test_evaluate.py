"""Fixed episodes, paired methods, scores after each step."""

import copy
from dataclasses import replace

import pytest
import torch

from innerloop.core.episodes import Episodes, ImageTasks
from innerloop.core.functional import batch_statistics, forward, slow_weights
from innerloop.core.inner import InnerLoop, adapt, with_steps
from innerloop.core.losses import accuracy, mean_squared_error
from innerloop.core.statistics import over_episodes
from innerloop.data.sinusoid import Sinusoid
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings, evaluate, fixed_episodes
from innerloop.methods.method import predictor
from innerloop.models import mlp
from innerloop.training import build
from naming import names
from planting import plants
from tiny import CONFIG, blobs

FAMILY = ImageTasks(blobs().split("test"), 3, 1, 3)
INNER = InnerLoop(lr=0.4)


@pytest.fixture(scope="module")
def model() -> torch.nn.Sequential:
    return build.build_model(CONFIG, blobs()).double()


class Doubles:
    """The same episodes in float64: no ties, no rounding."""

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        e = FAMILY.sample(tasks, generator)
        return replace(e, support_x=e.support_x.double(), query_x=e.query_x.double())


def joined(settings: EvalSettings) -> torch.Tensor:
    return torch.cat([e.query_x for e in fixed_episodes(FAMILY, settings)])


@plants(
    "the same episodes in every draw",
    "evaluation.evaluate:generator_for",
    lambda right: lambda seed, *path: right(seed, path[0], 0),
)
def test_the_first_episodes_of_many_are_those_of_few() -> None:
    many = joined(EvalSettings(episodes=60))
    assert len(many) == 60
    for n in (2, 24, 25, 26, 50):
        assert torch.equal(joined(EvalSettings(episodes=n)), many[:n])
    assert not torch.equal(many[:25], many[25:50])
    assert not torch.equal(joined(EvalSettings(episodes=2, seed=5)), many[:2])


def test_episodes_do_not_depend_on_what_is_measured_on_them() -> None:
    a = joined(EvalSettings(episodes=30))
    b = joined(EvalSettings(episodes=30, inner_steps=3, statistics="support", temperature=9.0))
    assert torch.equal(a, b)
    torch.manual_seed(77)  # nor on the global generator
    assert torch.equal(joined(EvalSettings(episodes=30)), a)


@pytest.mark.parametrize("statistics", ["batch", "support"])
@pytest.mark.parametrize("blocks", ["all", "head", "body", ("conv2", "conv4"), "none"])
def test_scores_after_each_step_are_those_of_separate_adaptations(model, blocks, statistics) -> None:
    settings = EvalSettings(episodes=4, inner_steps=3, statistics=statistics)
    inner = replace(INNER, blocks=blocks)
    found = evaluate(predictor(model, inner), slow_weights(model), Doubles(), settings, task_chunk=3)
    assert len(found.steps) == (1 if blocks == "none" else 4)
    (batch,) = fixed_episodes(Doubles(), settings)
    slow = slow_weights(model)
    for step, estimate in enumerate(found.steps):
        scores = []
        for i in range(4):
            e = batch[i : i + 1]
            with torch.no_grad():
                fast = adapt(model, slow, e.support_x, e.support_y, with_steps(inner, step))
                of = batch_statistics(model, slow, fast, e.support_x) if statistics == "support" else None
                scores.append(accuracy(forward(model, slow, fast, e.query_x, statistics=of), e.query_y))
        expected = over_episodes(torch.cat(scores))
        assert (estimate.mean, estimate.ci95) == pytest.approx((expected.mean, expected.ci95))
    assert found.final == found.steps[-1]
    assert found.final.mean == pytest.approx(sum(found.per_episode) / 4)
    last = evaluate(predictor(model, inner), slow_weights(model), Doubles(), settings, task_chunk=3, each_step=False)
    assert (last.steps, last.per_episode) == ((found.final,), found.per_episode)


@pytest.mark.parametrize("head", ["model", "cosine"])
def test_the_chunk_changes_nothing(model, head) -> None:
    settings = EvalSettings(episodes=27, inner_steps=2)
    inner = replace(INNER, blocks="none" if head == "cosine" else "all")
    each = [
        evaluate(predictor(model, inner, head=head), slow_weights(model), Doubles(), settings, task_chunk=c).per_episode
        for c in (1, 4, None)
    ]
    assert each[0] == each[1] == each[2]
    assert len(each[0]) == 27
    assert len(set(each[0])) > 2


@plants(
    "an interval over the first draw alone",
    "evaluation.evaluate:fixed_episodes",
    lambda right: lambda *given: iter([next(right(*given))]),
)
def test_report_counts_episodes(model) -> None:
    seen: list[int] = []
    evaluate(
        predictor(model, replace(INNER, blocks="head")),
        slow_weights(model),
        Doubles(),
        EvalSettings(episodes=30, inner_steps=1),
        report=seen.append,
    )
    assert seen == [25, 30]


def test_regression_is_scored_by_squared_error() -> None:
    net = mlp(1, 1, hidden=(5,))
    family = Sinusoid(5, 7)
    settings = EvalSettings(episodes=3, inner_steps=0)
    found = evaluate(
        predictor(net, INNER, loss=mean_squared_error), slow_weights(net), family, settings, score=mean_squared_error
    )
    (e,) = fixed_episodes(family, settings)
    expected = (net(e.query_x.flatten(0, 1)).reshape(3, 7, 1) - e.query_y).square().mean((1, 2))
    assert found.per_episode == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("head", ["model", "cosine"])
def test_diverged_weights_are_no_score(model, head) -> None:
    """The largest of NaNs is class 0: without a check, a dead model would score like chance."""
    slow = {n: p.detach().clone() for n, p in model.named_parameters()}
    slow["conv4.conv.weight"][0, 0, 0, 0] = torch.nan
    inner = replace(INNER, blocks="none") if head == "cosine" else INNER
    with pytest.raises(FloatingPointError, match=names("episode", "inner rate")):
        evaluate(predictor(model, inner, head=head), slow, Doubles(), EvalSettings(episodes=2, inner_steps=1))


def test_a_rate_that_is_much_too_large_is_no_score(model) -> None:
    slow = {**slow_weights(model), "rate:head": torch.tensor(torch.inf, dtype=torch.double)}
    with pytest.raises(FloatingPointError, match=names("episode", "inner rate")):
        evaluate(predictor(model, INNER), slow, Doubles(), EvalSettings(episodes=2, inner_steps=5))


def test_learned_rates_serve_where_their_block_adapts(model) -> None:
    slow = dict(slow_weights(model))
    rates = {"rate:head": torch.tensor([0.1, 0.2], dtype=torch.double), "rate:conv1": torch.tensor(0.3).double()}
    settings = EvalSettings(episodes=5, inner_steps=2)

    def scores(blocks, parameters, lr):
        inner = InnerLoop(blocks=blocks, lr=lr)
        return evaluate(predictor(model, inner), parameters, Doubles(), settings, score=confidence).per_episode

    # with the rates of blocks that do not adapt beside them
    assert scores("head", {**slow, **rates}, 9.0) == scores("head", {**slow, "rate:head": rates["rate:head"]}, 9.0)
    same = {"rate:head": torch.full((1,), 0.25).double()}
    assert scores("head", {**slow, **same}, 9.0) == scores("head", slow, 0.25)
    assert scores("none", {**slow, **rates}, 9.0) == scores("none", slow, 9.0)


def confidence(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A score that changes with every weight."""
    return logits.softmax(-1).gather(-1, labels[..., None]).mean((1, 2))


@plants(
    "the best step is called the final one",
    "evaluation.evaluate:Evaluation",
    lambda right: lambda last, steps, *rest: right(max(steps, key=lambda e: e.mean), steps, *rest),
)
def test_the_final_score_is_that_of_the_last_step_and_not_of_the_best(model) -> None:
    """A choice among the steps would be a choice on the test set. Here every step makes the score worse."""
    settings = EvalSettings(episodes=4, inner_steps=3)

    def doubt(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 1 - confidence(logits, labels)

    found = evaluate(predictor(model, INNER), slow_weights(model), Doubles(), settings, score=doubt)
    means = [e.mean for e in found.steps]
    assert means == sorted(means, reverse=True)
    assert means[-1] < means[0]
    assert found.final == found.steps[-1]
    assert sum(found.per_episode) / 4 == pytest.approx(means[-1])


@plants(
    "NIL's temperature not applied at test time",
    "evaluation.evaluate:under",
    lambda right: lambda learner, settings: right(learner, replace(settings, temperature=1.0)),
)
@pytest.mark.parametrize("head", ["cosine", "euclidean"])
def test_the_temperature_asked_for_is_the_one_tested_at(model, head) -> None:
    """Two images a class, so that the temperature changes more than the sharpness."""
    family, inner = ImageTasks(blobs().split("test"), 3, 2, 3), replace(INNER, blocks="none")
    net = copy.deepcopy(model).float()
    slow = slow_weights(net)
    scores = {}
    for temperature in (1.0, 9.0):
        settings = EvalSettings(episodes=3, temperature=temperature)
        found = evaluate(predictor(net, inner, head=head), slow, family, settings, score=confidence)
        (e,) = fixed_episodes(family, settings)
        with torch.no_grad():
            out = predictor(net, inner, head=head, temperature=temperature)(slow, e)
        assert found.per_episode == pytest.approx(confidence(out, e.query_y).tolist(), rel=1e-5)
        scores[temperature] = found.final.mean
    assert abs(scores[9.0] - scores[1.0]) > 0.01


def test_json_has_everything(model) -> None:
    found = evaluate(
        predictor(model, INNER), slow_weights(model), Doubles(), EvalSettings(episodes=3, inner_steps=1)
    ).to_json()
    assert found["episodes"] == len(found["per_episode"]) == 3
    assert found["steps"][-1] == {"mean": found["mean"], "ci95": found["ci95"]}
    assert EvalSettings(**found["settings"]) == EvalSettings(episodes=3, inner_steps=1)


@pytest.mark.parametrize("each_step", [True, False])
def test_a_head_of_another_way_is_refused(model, each_step: bool) -> None:
    """Catches a 3-way head scored on 2-way tasks, where chance would be another number."""
    other = ImageTasks(blobs().split("test"), 2, 1, 3)
    net = copy.deepcopy(model).float()
    with pytest.raises(InnerloopError, match=names("3 classes", 2, "proto", "nil")):
        evaluate(predictor(net, INNER), slow_weights(net), other, EvalSettings(episodes=2), each_step=each_step)
    found = evaluate(predictor(net, INNER, head="cosine"), slow_weights(net), other, EvalSettings(episodes=2))
    assert 0 <= found.final.mean <= 1
