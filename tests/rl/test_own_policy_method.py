"""A method of meta-RL from outside the package: it is trained, resumed, tested and analysed as ours are."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_rl_runs import SMALL

from innerloop import cli, reference
from innerloop.errors import InnerloopError
from innerloop.rl import build
from innerloop.rl.config import Config, Inner
from innerloop.rl.methods import METHODS, PolicyMethod, method, name_of
from innerloop.rl.navigation import NAVIGATION
from innerloop.rl.presets import preset
from innerloop.rl.train import load_run, train
from innerloop.rl.trpo import log_probability_loss
from innerloop.runs import RunFolder, read_json
from naming import names

HERS = """
from innerloop.rl.methods import PolicyMethod
from innerloop.rl.trpo import log_probability_loss, ratio_loss

def rewarded_doubt(output, y):
    return ratio_loss(output, y) - 0.1 * output[..., output.shape[-1] // 2 :].sum(-1).mean(1)

head_alone = PolicyMethod("head alone", "head")
doubtful = PolicyMethod("doubtful", "all", loss=rewarded_doubt)
parity = PolicyMethod("parity", "all", loss=log_probability_loss)
told = PolicyMethod("told", ("hidden1", "head"), first_order=True, observes_task=True)
number = 3
"""
FLAGS = shlex.split("""
    --env navigation --iterations 2 --meta-batch 2 --rollouts 3 --trpo.curvature-rollouts 2 --horizon 4
    --policy.hidden 5
    --validation.every 1 --validation.tasks 2 --test.tasks 3 --test.rollouts 2 --test.steps 1 --threads 1
""")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of somebody else's with her file in it, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "her_policies.py").write_text(HERS)
    yield tmp_path
    sys.modules.pop("her_policies", None)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(RunFolder(path).load("last").weights)


def same(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def test_a_stranger_s_method_from_the_command_line(folder: Path) -> None:
    """ANIL under her name gives ANIL's weights; her file alone was written."""
    assert cli.run(["rl", "train", *FLAGS, "--method", "her_policies:head_alone"]) == 0
    hers = folder / "runs" / "navigation-cpu-head alone-seed0"
    assert cli.run(["rl", "train", *FLAGS, "--method", "anil", "--out", "anil"]) == 0
    assert same(hers, folder / "anil")
    assert cli.run(["rl", "evaluate", str(hers), "--steps", "2"]) == 0
    assert [r["method"] for r in RunFolder(hers).evaluations] == ["her_policies:head_alone"] * 2
    assert cli.run(["rl", "analyse", str(hers)]) == 0
    moved = {r["label"]: r["values"][0]["mean"] for r in read_json(hers / "analysis" / "result.json")["rows"]}
    body, head = (next(v for k, v in moved.items() if k.endswith(f"movement of {b}")) for b in ("hidden1", "head"))
    assert body == 0 < head


def test_its_own_inner_loss(folder: Path) -> None:
    """Her copy of a loss of ours gives the weights of ours; another loss gives others; ours beside hers is refused."""
    for name, flags in {
        "maml": ["--method", "maml"],
        "theirs": ["--method", "maml", "--inner.loss", "log_probability"],
        "parity": ["--method", "her_policies:parity"],
        "doubtful": ["--method", "her_policies:doubtful"],
    }.items():
        assert cli.run(["rl", "train", *FLAGS, *flags, "--out", name]) == 0
    assert same(folder / "theirs", folder / "parity")
    assert not same(folder / "maml", folder / "parity")
    assert not same(folder / "maml", folder / "doubtful")
    with pytest.raises(InnerloopError, match=names("her_policies:parity", "inner.loss", "ratio")):
        Config(method="her_policies:parity", inner=Inner(loss="log_probability"))


@pytest.mark.usefixtures("folder")
def test_what_a_value_says_is_what_is_built() -> None:
    config = replace(SMALL, method="her_policies:told")
    simulator = build.simulator(config)
    assert simulator.observation_size == NAVIGATION.make(3, 1).observation_size + simulator.task_size
    learner = build.learner(config, build.policy(config, simulator))
    assert (learner.inner.blocks, learner.inner.first_order) == (("hidden1", "head"), True)
    assert preset("navigation-2019", "her_policies:told").method == "her_policies:told"


def test_an_object_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = PolicyMethod("mine", "all", loss=log_probability_loss)
    run = train(replace(SMALL, iterations=1), tmp_path / "run", method=mine)
    monkeypatch.setattr(reference, "_given", {})  # as in another process
    with pytest.raises(InnerloopError, match=names("'mine'", "load_run")):
        load_run(run.path)
    config, policy, _ = load_run(run.path, method=mine)
    assert build.learner(config, policy).loss is log_probability_loss
    assert [name_of(m) for m in METHODS] == [m.name for m in METHODS]


@pytest.mark.usefixtures("folder")
def test_what_is_no_method_is_named() -> None:
    with pytest.raises(InnerloopError, match=names("'anli'", "'anil'", *(m.name for m in METHODS))):
        Config(method="anli")
    with pytest.raises(InnerloopError, match=names("her_policies:number", "int", "PolicyMethod")):
        method("her_policies:number")
    with pytest.raises(InnerloopError, match=names("innerloop.methods.catalogue:ANIL", "Method", "PolicyMethod")):
        method("innerloop.methods.catalogue:ANIL")
    with pytest.raises(InnerloopError, match=names("'a/b'", "slash")):
        PolicyMethod("a/b")
