"""From a config to a run, for each family: what is trained, how it is tested, what is refused, and resuming."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from innerloop.core.functional import slow_weights
from innerloop.core.outer import OuterLoop, objective_gradient
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings
from innerloop.methods.catalogue import METHODS
from innerloop.methods.heads import Metric
from innerloop.methods.method import Learner
from innerloop.models.head import CosineLinear, FullContext, Linear, PairHead
from innerloop.runs import RunError, RunFolder
from innerloop.runs.folder import load_weights
from innerloop.training import PRESETS, Config, Inner, Interrupted, Model, Progress, build, load_run, preset, train
from innerloop.training.presets import for_method
from naming import names
from small import step_outputs
from tiny import CONFIG, SINES, assert_same, blobs

pytestmark = pytest.mark.usefixtures("made_images")

MLP = replace(CONFIG, model=Model(arch="mlp", hidden=(6, 5)))
REPTILE = replace(CONFIG, method="reptile", outer=replace(CONFIG.outer, optimizer="sgd", lr=1.0))
PLUS = replace(CONFIG, method="maml++", inner=replace(CONFIG.inner, anneal_steps=2))
SIAMESE = replace(CONFIG, method="siamese")
IMAML = replace(MLP, method="imaml", inner=Inner(steps=2, lr=0.1, proximal=2.0))


# ---- what is trained


def test_each_method_has_the_head_of_its_paper_and_the_same_body() -> None:
    plain = build.build_model(CONFIG, blobs())
    for m in METHODS:
        c = replace(CONFIG, method=m.name, inner=replace(CONFIG.inner, proximal=2.0 if m.name == "imaml" else 0.0))
        model = build.build_model(c, blobs())
        kind = {"baseline++": CosineLinear, "siamese": PairHead}.get(m.name, Linear)
        assert type(model[-1]) is kind, m.name
        outputs = 6 if m.trains_on == "classes" else 3
        assert getattr(model[-1], "out_features", outputs) == outputs, m.name
        for n, w in plain.named_parameters():
            if not n.startswith("head"):
                assert torch.equal(w, model.get_parameter(n)), (m.name, n)


def test_the_metric_reaches_the_model() -> None:
    c = replace(CONFIG, method="baseline++", metric=Metric(scale=2.0))
    head = build.build_model(c, blobs())[-1]
    assert isinstance(head, CosineLinear)
    assert head.scale == 2.0
    c = replace(CONFIG, method="matching", metric=Metric(full_context=True))
    head = build.build_model(c, blobs())[-1]
    assert isinstance(head, FullContext)
    assert (head.in_features, head.readout) == (4, "mean")


def test_what_is_learned_beside_the_weights() -> None:
    """Meta-SGD: a rate an element; MAML++: one a block and step, and norms with a row a support set and one more."""
    for name in ("maml", "reptile", "proto-maml", "unicorn", "proto", "siamese", "baseline"):
        c = replace(CONFIG, method=name)
        assert not [n for n in build.learner(c, build.build_model(c, blobs())).init() if ":" in n], name
    c = replace(CONFIG, method="meta-sgd")
    parameters = build.learner(c, build.build_model(c, blobs())).init()
    rates = {n.removeprefix("rate:"): p for n, p in parameters.items() if ":" in n}
    assert set(rates) == {n for n in parameters if ":" not in n and "norm" not in n}
    assert all(r.shape == parameters[n].shape and bool((r == 0.4).all()) for n, r in rates.items())
    parameters = build.learner(PLUS, build.build_model(PLUS, blobs())).init()
    rates = {n: p for n, p in parameters.items() if n.startswith("rate:")}
    assert set(rates) == {"rate:conv1", "rate:conv2", "rate:conv3", "rate:conv4", "rate:head"}
    assert all(p.shape == (2,) and p.tolist() == pytest.approx([0.4, 0.4]) for p in rates.values())
    rows = {n: p for n, p in parameters.items() if n.startswith("step:")}
    assert set(rows) == {f"step:conv{i}.norm.{p}" for i in (1, 2, 3, 4) for p in ("weight", "bias")}
    assert all(p.shape == (3, 4) for p in rows.values())
    assert all(bool((p == (1.0 if n.endswith("weight") else 0.0)).all()) for n, p in rows.items())
    assert all(p.requires_grad and p.is_leaf for p in parameters.values())


@pytest.mark.parametrize("method", ["proto", "matching", "nil"])
def test_train_way_builds_wider_episodes_for_training_alone(method: str) -> None:
    c = replace(CONFIG, method=method, train_way=5)
    e = build.training_tasks(c, blobs()).sample(2, generator_for(0, "t"))
    assert e.support_y.unique().tolist() == [0, 1, 2, 3, 4]
    assert (e.way, e.query_x.shape[1]) == (5, 10)
    assert build.tasks(c, blobs(), "test", 2).sample(1, generator_for(0, "t")).way == 3
    model = build.build_model(c, blobs())
    losses, out = build.learner(c, model, 0).objective(build.learner(c, model).init(), e)
    assert out.shape == (2, 10, 5)
    assert bool(losses.isfinite().all())


def test_siamese_trains_on_pairs_and_transfer_on_all_classes() -> None:
    e = build.training_tasks(SIAMESE, blobs()).sample(2, generator_for(0, "t"))
    assert e.support_x.shape == e.query_x.shape
    assert e.query_y.unique().tolist() == [0, 1]
    model = build.build_model(SIAMESE, blobs())
    _, out = build.learner(SIAMESE, model, 0).objective(build.learner(SIAMESE, model).init(), e)
    assert out.shape == (*e.query_y.shape, 2)
    for name in ("baseline", "baseline++", "finetune", "centroid", "multiclass"):
        e = build.training_tasks(replace(CONFIG, method=name), blobs()).sample(2, generator_for(0, "t"))
        assert e.support_x.shape[1] == 0
        assert int(e.query_y.max()) == 5


def test_second_order_begins_where_it_is_asked_to() -> None:
    """MAML++'s derivative-order annealing: the gradient of first order before that step, of second from it on."""
    for method in ("maml", "anil", "maml++"):
        c = replace(MLP, method=method, inner=replace(MLP.inner, second_order_from=2, recompute=True))
        model = build.build_model(c, blobs())
        parameters = build.learner(c, model).init()
        batch = build.training_tasks(c, blobs()).sample(2, generator_for(0, "t"))

        def gradient(config: Config, step: int, model=model, parameters=parameters, batch=batch) -> torch.Tensor:
            objective = build.learner(config, model, step).objective
            return objective_gradient(objective, parameters, batch).gradient["hidden1.linear.weight"]

        full = replace(c, inner=replace(c.inner, second_order_from=0))
        first = replace(full, inner=replace(full.inner, first_order=True, recompute=False))
        for step in (0, 1, 2):
            same, other = (first, full) if step < 2 else (full, first)
            torch.testing.assert_close(gradient(c, step), gradient(same, step))
            assert not torch.allclose(gradient(c, step), gradient(other, step))


def test_maml_plus_plus_gives_way_to_the_last_step() -> None:
    """Over `anneal_steps` outer steps, by default a tenth of all: even shares at 0, the last alone from there on."""
    for c, over in (
        (replace(PLUS, inner=replace(PLUS.inner, anneal_steps=4)), 4),
        (replace(PLUS, inner=Inner(steps=2), outer=OuterLoop(steps=50)), 5),
    ):
        model = build.build_model(c, blobs())
        parameters = build.learner(c, model).init()
        e = build.training_tasks(c, blobs()).sample(2, generator_for(0, "t"))
        with torch.no_grad():
            out = step_outputs(model, parameters, e, c.inner_loop)
        loss = build.losses(c).loss
        after = [loss(o, e.query_y) for o in out]
        for step in (0, 1, over - 1, over, over + 1):
            share = 0.5 * (1 - min(1, step / over))
            wanted = share * after[1] + (1 - share) * after[2]
            torch.testing.assert_close(build.learner(c, model, step).objective(parameters, e)[0].detach(), wanted)


# ---- resuming, saving


@pytest.mark.parametrize(
    "config",
    [
        REPTILE,
        PLUS,
        SIAMESE,
        IMAML,
        replace(MLP, method="meta-sgd"),
        replace(CONFIG, method="matching", metric=Metric(full_context=True, normalise="centre"), train_way=4),
        replace(MLP, method="baseline++", augment="affine"),
    ],
    ids=lambda c: c.method,
)
def test_resumed_equals_uninterrupted(config: Config, tmp_path: Path) -> None:
    def stop(p: Progress) -> None:
        if p.step == 3:
            signal.raise_signal(signal.SIGINT)

    train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "cut", report=stop)
    train(config, tmp_path / "cut", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("config", [PLUS, replace(MLP, method="meta-sgd"), SINES], ids=lambda c: c.method)
def test_what_is_learned_survives_saving(config: Config, tmp_path: Path) -> None:
    """Rates and rows come back as they were, no longer at their beginning; of another shape they are refused."""
    train(config, tmp_path / "r")
    checkpoint = RunFolder(tmp_path / "r").load("last")
    saved = checkpoint.weights
    read, _, parameters = load_run(tmp_path / "r", which="last")
    assert read == config
    assert parameters.keys() == saved.keys()
    assert all(torch.equal(parameters[n], w) for n, w in saved.items())
    fresh = build.learner(config, build.build_model(config, blobs())).init()
    for n in (n for n in saved if ":" in n):
        assert not torch.equal(saved[n], fresh[n]), f"{n} was not trained"
        for spoilt in (
            {**saved, n: saved[n][:1, ...].expand(7, *saved[n].shape[1:])},
            {k: w for k, w in saved.items() if k != n},
        ):
            with pytest.raises(RunError, match=names("weights.safetensors", f"'{n}'")):
                load_weights(parameters, replace(checkpoint, weights=spoilt))


# ---- how a run is tested


def at_test(config: Config, name: str | None = None) -> Learner:
    images = None if config.regression else blobs()
    return build.at_test(config, build.build_model(config, images), name)


def refused(config: Config, name: str, *named: object) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        at_test(config, name)


def test_how_runs_are_tested() -> None:
    """(blocks, head, start) of each method's own test."""
    found = {}
    for m in METHODS:
        c = replace(CONFIG, method=m.name, inner=replace(CONFIG.inner, proximal=2.0 if m.name == "imaml" else 0.0))
        t = at_test(c)
        found[m.name] = (t.inner.blocks, t.method.head, t.method.start)
        assert t.inner.adapt_norm == (m.name in ("imaml", "reptile"))
    all_own = dict.fromkeys(("maml", "fomaml", "meta-sgd", "maml++", "reptile", "imaml"), ("all", "model", "own"))
    cosine = dict.fromkeys(("nil", "matching", "multiclass", "multitask"), ("none", "cosine", "own"))
    assert found == {
        **all_own,
        **cosine,
        "anil": ("head", "model", "own"),
        "boil": ("body", "model", "own"),
        "proto-maml": ("all", "model", "means"),
        "unicorn": ("all", "model", "shared"),
        "proto": ("none", "euclidean", "own"),
        "centroid": ("none", "euclidean", "own"),
        "siamese": ("none", "pairs", "own"),
        "baseline": ("head", "model", "zero"),
        "baseline++": ("head", "model", "means"),
        "finetune": ("all", "model", "zero"),
    }


def test_tests_that_the_head_cannot_serve_are_refused() -> None:
    refused(CONFIG, "siamese", "siamese", "head", "maml")
    for name in ("maml", "anil", "unicorn", "baseline", "finetune", "proto-maml"):
        refused(SIAMESE, name, "siamese", name, "nil", "proto")
    for trained in ("multiclass", "baseline", "baseline++", "finetune", "centroid"):
        for name in ("maml", "anil", "boil"):
            refused(
                replace(CONFIG, method=trained),
                name,
                *("head", trained, name, 3),
            )
    for name in ("nil", "proto", "proto-maml", "unicorn", "baseline", "multitask"):
        refused(SINES, name, name, "classes", "regression")


@pytest.mark.parametrize("trained", ["multiclass", "baseline++", "proto", "siamese", "maml", "unicorn", "matching"])
def test_tests_that_are_allowed_run(trained: str) -> None:
    """By whatever method is not refused, the outputs are finite and of the run's way; a zero start of cosines is
    refused by the head itself."""
    c = replace(CONFIG, method=trained)
    model = build.build_model(c, blobs())
    parameters = build.learner(c, model).init()
    e = build.tasks(c, blobs(), "test", 2).sample(2, generator_for(0, "t"))
    ran = 0
    for m in METHODS:
        try:
            predict = build.at_test(c, model, m.name)
        except ValueError:
            continue
        if trained == "baseline++" and predict.method.start == "zero":
            with pytest.raises(InnerloopError, match=names("start", "'zero'", "cosine", "baseline++")):
                predict(parameters, e)
            continue
        with torch.no_grad():
            out = predict(parameters, e)
        assert out.shape == (2, 6, 3), m.name
        assert bool(out.isfinite().all()), m.name
        ran += 1
    assert ran >= 6


# ---- what a config refuses


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": "maml", "train_way": 5}, ("train_way 5", "maml", "proto", "matching", "nil")),
        ({"method": "siamese", "train_way": 5}, ("train_way 5", "siamese")),
        ({"method": "centroid", "train_way": 5}, ("train_way 5", "centroid")),
        ({"method": "proto", "train_way": -1}, ("train_way", 0, 2, "-1")),
        ({"method": "nil", "metric": Metric(full_context=True)}, ("metric.full_context", "matching", "nil")),
        ({"method": "siamese", "metric": Metric(normalise="centre")}, ("siamese", "support", "l2", "none")),
        ({"method": "siamese", "inner": Inner(statistics="support")}, ("siamese", "support")),
        ({"method": "baseline", "inner": Inner(statistics="support")}, ("baseline", "support")),
        ({"method": "proto-maml", "data": "sinusoid"}, ("proto-maml", "regression", "maml", "anil")),
        ({"method": "unicorn", "data": "sinusoid"}, ("unicorn", "regression", "maml", "anil")),
        ({"method": "baseline", "data": "sinusoid"}, ("baseline", "regression", "maml", "anil")),
        ({"method": "imaml"}, ("imaml", "inner.proximal")),
        ({"method": "maml", "inner": Inner(proximal=1.0)}, ("inner.proximal", "imaml", "maml")),
        ({"method": "reptile", "inner": Inner(recompute=True)}, ("reptile", "recompute")),
        ({"method": "imaml", "inner": Inner(recompute=True, proximal=2.0)}, ("imaml", "recompute")),
        ({"method": "maml", "inner": Inner(recompute=True, first_order=True)}, ("maml", "recompute")),
        ({"method": "proto", "inner": Inner(learn_rates=True)}, ("proto", "inner loop")),
        ({"method": "baseline", "inner": Inner(learn_rates=True)}, ("baseline", "inner loop")),
        ({"method": "reptile", "inner": Inner(learn_rates=True)}, ("reptile", "rates")),
        ({"method": "imaml", "inner": Inner(learn_rates=True, proximal=2.0)}, ("imaml", "rates")),
        ({"method": "maml++", "inner": Inner(steps=0)}, ("maml++", "inner.steps", 0)),
        ({"method": "maml++", "inner": Inner(adapt_norm=True)}, ("maml++", "inner.adapt_norm")),
        ({"method": "fomaml", "inner": Inner(second_order_from=3)}, ("second_order_from 3", "fomaml")),
        ({"method": "nil", "inner": Inner(second_order_from=3)}, ("second_order_from 3", "nil")),
        ({"inner": Inner(first_order=True, second_order_from=3)}, ("second_order_from 3", "maml")),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change: dict, named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        Config(**change)


# ---- presets


def test_what_presets_change_for_each_method() -> None:
    base = preset("omniglot-5way-1shot")
    for m in ("maml", "fomaml", "anil", "nil", "multitask", "multiclass", "unicorn", "centroid"):
        assert for_method(base, m) == replace(base, method=m)
    c = for_method(preset("quick"), "reptile")
    assert (c.outer.optimizer, c.outer.lr, c.outer.schedule, c.outer.clip) == ("sgd", 1.0, "cosine", "none")
    assert (c.query + c.shot, c.inner.steps) == (10, 10)
    assert for_method(preset("mini-imagenet-5way-5shot"), "reptile").query == 5
    c = for_method(preset("quick"), "imaml")
    assert (c.inner.steps, c.inner.proximal, c.inner.solve_steps, c.test.inner_steps) == (16, 2.0, 5, 16)
    c = for_method(preset("quick"), "meta-sgd")
    assert (c.inner.steps, c.test.inner_steps) == (1, 1)
    assert for_method(base, "proto").train_way == 15
    assert for_method(preset("omniglot-20way-1shot"), "proto").train_way == 60
    assert for_method(preset("mini-imagenet-5way-1shot"), "proto").train_way == 15
    assert for_method(base, "matching").test == replace(base.test, temperature=10.0)
    assert for_method(base, "baseline").test.inner_steps == 100
    assert isinstance(for_method(base, "baseline").test, EvalSettings)


# ---- methods and options that do not go together


@pytest.mark.parametrize("name", [p.name for p in PRESETS])
def test_imaml_s_pull_converges_in_every_preset(name: str) -> None:
    """θ_m − θ is multiplied by 1 − αλ in each step, beside the gradient: it must be a contraction."""
    inner = preset(name, "imaml").inner
    assert inner.lr * inner.proximal < 2


def test_learn_rates_does_not_turn_meta_sgd_into_another_method() -> None:
    try:
        c = replace(CONFIG, method="meta-sgd", inner=replace(CONFIG.inner, learn_rates=True))
    except ValueError:
        return
    assert "rate:head.weight" in build.learner(c, build.build_model(c, blobs())).init()


@pytest.mark.parametrize("method", ["reptile", "imaml"])
def test_second_order_from_is_refused_where_it_has_no_meaning(method: str) -> None:
    with pytest.raises(InnerloopError, match=names("second_order_from 3")):
        Config(method=method, inner=Inner(second_order_from=3, proximal=2.0 if method == "imaml" else 0.0))


@pytest.mark.parametrize("name", ["maml", "anil", "unicorn", "baseline"])
def test_a_context_is_no_head_to_adapt(name: str) -> None:
    refused(replace(CONFIG, method="matching", metric=Metric(full_context=True)), name, "matching")


@pytest.mark.parametrize("name", ["anil", "nil"])
def test_maml_plus_plus_s_rows_serve_its_run_under_other_tests(name: str) -> None:
    """The un-trained scale and shift of a MAML++ run have no say in any test of it."""
    model = build.build_model(PLUS, blobs())
    parameters = build.learner(PLUS, model).init()
    e = build.tasks(PLUS, blobs(), "test", 2).sample(2, generator_for(0, "t"))
    predict = build.at_test(PLUS, model, name)
    before = predict(parameters, e)
    idle = {n: (2 * w if f"step:{n}" in parameters else w) for n, w in parameters.items()}
    torch.testing.assert_close(predict(idle, e), before)
    # blocks that do not adapt see no step: only their first row counts, for support and query alike
    late = {n: torch.cat([w[:1], 2 * w[1:]]) if n.startswith("step:") else w for n, w in parameters.items()}
    torch.testing.assert_close(predict(late, e), before)
    first = {n: torch.cat([2 * w[:1], w[1:]]) if n.startswith("step:") else w for n, w in parameters.items()}
    assert not torch.allclose(predict(first, e), before)


def test_reptile_trains_every_parameter() -> None:
    """Its outer gradient is θ − θ_m: what does not adapt is never trained. Theirs trains all variables."""
    c = replace(for_method(CONFIG, "reptile"), query=CONFIG.query)
    model = build.build_model(c, blobs())
    batch = build.training_tasks(c, blobs()).sample(2, generator_for(0, "t"))
    found = objective_gradient(build.learner(c, model, 0).objective, slow_weights(model), batch).gradient
    assert all(bool(g.any()) for g in found.values())
