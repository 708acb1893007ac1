"""A method, a model and image classes from outside the package: they are trained, resumed and tested as ours are."""

import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import innerloop as il
from code_lines import code_lines
from innerloop import cli, reference
from innerloop.core.outer import objective_gradient
from innerloop.data import Regression
from innerloop.errors import InnerloopError
from innerloop.methods.catalogue import method
from innerloop.runs import RunFolder, read_json
from innerloop.training.train import _given
from naming import names
from small import conv_model, images
from tiny import CONFIG, SINES, blobs, made_images  # noqa: F401


def assert_same(a, b) -> None:
    """The same names, and tensors equal to the last bit."""
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


EXAMPLE = Path(__file__).parents[2] / "examples" / "extend_method.py"
RUN = (
    "--preset quick --way 3 --query 2 --model.filters 4 --outer.meta-batch 2 --validation.every 2 "
    "--validation.episodes 4 --test.episodes 6 --test.query 3 --device cpu --threads 1"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of somebody else's with the example in it, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "her_methods.py").write_text(EXAMPLE.read_text() + NET)
    yield tmp_path
    sys.modules.pop("her_methods", None)


NET = """

def net(way, channels, image_size):
    from collections import OrderedDict
    from torch import nn
    body = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 8), nn.ReLU())
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(8, way)))
"""


def test_the_example_is_short() -> None:
    assert code_lines(EXAMPLE) <= 25


def test_the_ridge_head_is_the_regression_s_minimum() -> None:
    """Against the normal equations (ZᵀZ + λI) W = ZᵀY, which the example turns round, task by task."""
    r2d2 = load_example().r2d2
    model, e = conv_model(), images()
    learner = r2d2(model)
    parameters = {**learner.init(), "log_lambda": torch.tensor(0.7).double(), "scale": torch.tensor(3.0).double()}
    out = learner.predict(parameters, e)
    support, query = learner.features(parameters, e)
    for task in range(len(e)):
        z, y = support[task], torch.eye(3).double()[e.support_y[task]]
        w = torch.linalg.lstsq(z.mT @ z + torch.tensor(0.7).exp() * torch.eye(z.shape[1]), z.mT @ y).solution
        torch.testing.assert_close(out[task], 3 * query[task] @ w + parameters["shift"], atol=1e-8, rtol=1e-6)


def load_example():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("extend_method", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("made_images")
def test_a_run_of_it_resumes_and_is_tested(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = f"train --method her_methods:r2d2 --model her_methods:net {RUN} --outer.steps 4 --out whole".split()
    assert cli.run(whole) == 0
    weights = RunFolder(folder / "whole").load("last").weights
    assert {"log_lambda", "scale", "shift", "body.1.weight"} <= weights.keys()
    assert weights["log_lambda"] != 0
    stop_after(2, folder / "parts")
    assert cli.run([*whole[:-1], "parts", "--resume"]) == 0
    assert_same(weights, RunFolder(folder / "parts").load("last").weights)
    assert cli.run(["evaluate", "whole", "--shot", "2", "--seed", "5"]) == 0
    rows = RunFolder(folder / "whole").evaluations
    assert [r["method"] for r in rows] == ["her_methods:r2d2", "her_methods:r2d2"]
    assert rows[0]["per_episode"] != rows[1]["per_episode"]
    assert cli.run(["evaluate", "whole", "--method", "nil"]) == 0
    assert cli.run(["analyse", "whole"]) == 1
    assert "her_methods:r2d2" in capsys.readouterr().err


def stop_after(step: int, out: Path) -> None:
    import tyro

    from innerloop.cli.options import starting_config
    from innerloop.training import Config, Interrupted, train

    args = f"--method her_methods:r2d2 --model.arch her_methods:net {RUN} --outer.steps 4".split()
    _, config = starting_config(args, "quick")
    config = tyro.cli(Config, args=[a for a in args if a not in ("--preset", "quick")], default=config)

    def stop(p) -> None:
        if p.step == step:
            raise OSError

    with pytest.raises(Interrupted):
        train(config, out, report=stop)


@pytest.mark.usefixtures("made_images")
def test_it_takes_part_in_families(folder: Path) -> None:
    args = [
        "reproduce",
        "families",
        "--methods",
        "maml",
        "her_methods:r2d2",
        "--budget",
        "smoke",
        "--way",
        "3",
        "--seeds",
        "0",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    assert cli.run([*args, "--out", "made"]) == 0
    (found,) = Path("made").glob("*/families/result.json")
    labels = [r["label"] for r in read_json(found)["rows"]]
    assert labels[:2] == ["maml", "her_methods:r2d2"]


def test_objects_train_without_a_name(tmp_path: Path) -> None:
    """A method, a network and classes that no module holds; another process needs them again and says so."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(blobs().images[0].numel(), 6), nn.ReLU())
    net = nn.Sequential(OrderedDict(body=body, head=nn.Linear(6, 3)))
    own = il.Method("two blocks", blocks=("body", "head"))
    config = replace(CONFIG, outer=replace(CONFIG.outer, steps=2))
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    given = {"method": own, "model": net, "data": blobs()}
    folder = il.train(config, tmp_path / "run", **given)
    assert [folder.config[k] for k in ("method", "data")] == ["object:two blocks", "object:blobs"]
    assert_same(before, dict(net.named_parameters()))
    other = nn.Sequential(OrderedDict(body=nn.Sequential(*body[:-1], nn.Tanh()), head=net.head))
    il.train(config, tmp_path / "other", **{**given, "model": other})  # of the same class and shapes, with other layers
    assert isinstance(il.load_run(folder.path)[1].body[-1], nn.ReLU)
    assert_same(il.load_run(folder.path)[2], folder.load("best").weights)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(reference, "_given", {})  # as another process has it
        with pytest.raises(InnerloopError, match=names("two blocks")):
            il.load_run(folder.path)
        _, model, parameters = il.load_run(folder.path, **given)
    assert model is not net
    assert_same(parameters, folder.load("best").weights)
    assert any(not torch.equal(w, before[n]) for n, w in parameters.items())


class Lines:
    """Tasks y = a·x₁ + b·x₂, with a and b drawn anew for each."""

    def __init__(self, shot: int, query: int) -> None:
        self.shot, self.query = shot, query

    def sample(self, tasks: int, generator: torch.Generator) -> il.Episodes:
        """Draw tasks."""
        x = torch.randn(tasks, self.shot + self.query, 2, generator=generator)
        y = (x * torch.randn(tasks, 1, 2, generator=generator)).sum(-1, keepdim=True)
        k = self.shot
        return il.Episodes(x[:, :k], y[:, :k], x[:, k:], y[:, k:])


def test_tasks_and_a_network_of_a_regression_train_without_a_name(tmp_path: Path) -> None:
    """The given tasks are trained on: the error falls far below their variance, which is that of guessing 0."""
    lines = Regression("lines", Lines, inputs=2)
    net = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Linear(2, 8), nn.Tanh()), head=nn.Linear(8, 1)))
    inner = replace(SINES.inner, lr=0.1, steps=3)
    outer = replace(SINES.outer, steps=60, meta_batch=8, lr=3e-2)
    config = replace(SINES, inner=inner, outer=outer, validation=replace(SINES.validation, every=60, episodes=50))
    folder = il.train(config, tmp_path / "run", model=net, data=lines)
    assert folder.config["data"] == "object:lines"
    assert folder.summary["best_validation"] < 1  # a·x₁ + b·x₂ has variance 2
    _, model, weights = il.load_run(folder.path, model=net, data=lines)
    assert_same(weights, folder.load("best").weights)
    assert isinstance(model[0][1], nn.Tanh)


def test_another_value_of_a_name_is_said() -> None:
    """Catches a run that is read with a method, or data, of the same name that it was not trained with."""
    for what, a, same, b in (
        ("method", il.Method("mine", blocks="head"), il.Method("mine", blocks="head"), il.Method("mine")),
        (
            "data",
            blobs(),
            replace(blobs(), images=blobs().images.clone()),
            replace(blobs(), images=255 - blobs().images),
        ),
    ):
        with pytest.MonkeyPatch.context() as m:
            m.setattr(reference, "_given", {})
            given: dict = {"method": None, "model": None, "data": None}
            assert _given(CONFIG, **{**given, what: a}) == _given(CONFIG, **{**given, what: same})
            with pytest.warns(UserWarning, match=names(a.name, "data set" if what == "data" else what)):
                _given(CONFIG, **{**given, what: b})


def test_blocks_by_name_are_maml() -> None:
    """A method of one's own that names all blocks is MAML, to the last bit."""
    model, e = conv_model(), images()
    own = il.Method("all by name", blocks=("conv1", "conv2", "conv3", "conv4", "head"))
    slow = il.slow_weights(model)
    a, b = (objective_gradient(m(model, steps=2, lr=0.3).objective, slow, e).gradient for m in (own, il.MAML))
    assert_same(a, b)


def test_what_is_no_method_is_refused(folder: Path) -> None:
    for name, given in (
        ("her_methods:init", "function"),
        ("her_methods:r2d3", "r2d3"),
        ("nowhere:x", "nowhere"),
        ("mame", "maml"),
    ):
        with pytest.raises(InnerloopError, match=names(given)):
            method(name)
    with pytest.raises(InnerloopError, match=names("a:b")):
        il.Method("a:b")
    with pytest.raises(InnerloopError, match=names("stepz", "steps")):
        il.MAML(conv_model(), stepz=3)
    bad = il.Method("bad", predict=lambda *_: None, init=lambda _: {"x": 3})
    with pytest.raises(InnerloopError, match=names("bad", "'x'", "int")):
        bad(conv_model()).init()


def test_the_public_names_are_listed() -> None:
    """In a fresh process, before any is used."""
    code = "import innerloop; names = dir(innerloop); print(len(names), all(hasattr(innerloop, n) for n in names))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert int(out[0]) > 50
    assert out[1] == "True"
