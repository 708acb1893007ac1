"""Environments as values: names, run folders of before, and a stranger's from outside the package."""

import ast
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_rl_runs import SMALL, stop_at

from innerloop import cli
from innerloop.core.functional import slow_weights
from innerloop.errors import InnerloopError
from innerloop.rl.catalogue import ENVIRONMENTS, find, name_of
from innerloop.rl.config import Config
from innerloop.rl.meta_test import meta_test
from innerloop.rl.navigation import NAVIGATION
from innerloop.rl.presets import own_settings
from innerloop.rl.train import load_run, train
from innerloop.runs import RunFolder, read_json
from innerloop.studies import ANALYSIS
from innerloop.training import Interrupted
from naming import names

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "extend_environment.py"
FLAGS = shlex.split("""
    --iterations 2 --meta-batch 2 --rollouts 3 --trpo.curvature-rollouts 2 --horizon 4 --policy.hidden 5
    --validation.every 1 --validation.tasks 2 --test.tasks 3 --test.rollouts 2 --test.steps 1 --threads 1
""")
TINY = replace(SMALL, iterations=2)


def test_names_lead_to_values_and_back() -> None:
    for own in ENVIRONMENTS:
        assert find(own.name) is own
        assert find(name_of(own)) is own
    assert find(f"{__name__}:NAVIGATION") is NAVIGATION
    assert name_of(NAVIGATION) == "navigation"
    with pytest.raises(InnerloopError, match=names("'navigatoin'", "'navigation'", *(e.name for e in ENVIRONMENTS))):
        find("navigatoin")
    with pytest.raises(InnerloopError, match=names("function", "Environment", "test_names_lead_to_values_and_back")):
        find(f"{__name__}:test_names_lead_to_values_and_back")
    for name in ("", "a b", "a/b", "../a", "a:b", "-", "."):
        with pytest.raises(InnerloopError, match=names(repr(name), "letters", "digits")):
            replace(NAVIGATION, name=name)


def test_its_own_settings_are_those_of_the_config() -> None:
    own = replace(NAVIGATION, name="other", horizon=7, settings={"iterations": 9, "test": {"tasks": 5}})
    config = own_settings(own, "anil")
    assert (config.env, config.horizon, config.method, config.iterations) == ("object:other", 7, "anil", 9)
    assert config.test == replace(Config().test, tasks=5)
    with pytest.raises(InnerloopError, match=names("iteratoins", "'iterations'")):
        own_settings(replace(own, name="another", settings={"iteratoins": 9}))


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "rl").glob("*/config.json")), ids=lambda p: p.parent.name)
def test_run_folders_of_before_are_read(path: Path) -> None:
    before = read_json(path)
    config = Config.from_json(before)
    assert (config.env, config.horizon) == (before["env"]["name"], before["env"]["horizon"])
    assert config.action_scale == before["env"]["action_scale"]
    now = json.loads(json.dumps(config.to_json()))
    assert all(now[k] == v for k, v in before.items() if k != "env")


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"name": "cheetah-velocity", "torso": False, "horizon": 9, "action_scale": 0.5}, "cheetah-velocity-17"),
        ({"name": "cheetah-velocity", "torso": True}, "cheetah-velocity"),
        ({"name": "navigation", "torso": False}, "navigation"),  # where it had no effect
    ],
)
def test_a_cheetah_without_its_torso_is_an_environment_now(env: dict[str, Any], name: str) -> None:
    config = Config.from_json({**Config().to_json(), "env": env})
    assert config.env == name
    assert (config.horizon, config.action_scale) == (env.get("horizon", 100), env.get("action_scale", 1.0))


def test_a_run_of_before_goes_on(tmp_path: Path) -> None:
    train(SMALL, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(SMALL, tmp_path / "cut", report=stop_at(1))
    config = read_json(tmp_path / "cut" / "config.json")
    env = {"name": config.pop("env"), "horizon": config.pop("horizon"), "action_scale": config.pop("action_scale")}
    (tmp_path / "cut" / "config.json").write_text(json.dumps({**config, "env": {**env, "torso": True}}))
    train(SMALL, tmp_path / "cut", resume=True)
    for which in ("best", "last"):
        assert_equal_weights(tmp_path / "whole", tmp_path / "cut", which)


def assert_equal_weights(one: Path, other: Path, which: str = "last") -> None:
    a, b = (RunFolder(p).load(which).weights for p in (one, other))
    assert all(torch.equal(a[n], b[n]) for n in a | b)


def test_an_object_that_no_module_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains, goes on and is tested in Python; without it, an error says what is missing."""
    own = replace(NAVIGATION, name="walk")
    train(TINY, tmp_path / "whole", env=own)
    with pytest.raises(Interrupted):
        train(TINY, tmp_path / "cut", env=own, report=stop_at(1))
    assert read_json(tmp_path / "cut" / "config.json")["env"] == "object:walk"
    with monkeypatch.context() as another_process:
        another_process.setattr("innerloop.reference._given", {})
        with pytest.raises(InnerloopError, match="'walk'"):
            train(replace(TINY, env="object:walk"), tmp_path / "cut", resume=True)
        with pytest.raises(InnerloopError, match="'walk'"):
            load_run(tmp_path / "cut", "last")
    train(TINY, tmp_path / "cut", env=own, resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    config, policy, environment = load_run(tmp_path / "cut", env=own)
    assert meta_test(policy, slow_weights(policy), environment, config).values.shape == (3, 4)


WALK = replace(NAVIGATION, name="walk", title="Walk", draw=None, picture=None, published={})


def test_an_object_of_a_module_is_recorded_by_it(tmp_path: Path) -> None:
    train(TINY, tmp_path / "r", env=WALK)
    assert read_json(tmp_path / "r" / "config.json")["env"] == f"{__name__}:WALK"
    assert load_run(tmp_path / "r")[0].env == f"{__name__}:WALK"


def test_what_cannot_be_drawn_is_not_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(TINY, tmp_path / "r", env=WALK)
    assert cli.run(["rl", "render", str(tmp_path / "r")]) == 0
    assert "no film" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "r").glob("*.*g*f")} == set()
    with Image.open(tmp_path / "r" / "trajectories.png") as picture:
        assert picture.size[0] > 200


def test_a_strangers_takes_part_in_the_tables(tmp_path: Path) -> None:
    """Beside one of ours; with no published number it has none in the table."""
    envs = ["navigation", f"{__name__}:WALK"]
    args = ["--env", *envs, "--budget", "smoke", "--seeds", "0", "--out", str(tmp_path)]
    for name in ("table2-rl", "rl-features", "rl-baselines"):
        assert cli.run(["reproduce", name, *args]) == 0
    value = read_json(tmp_path / "rl-navigation-walk-smoke" / "table2-rl" / "result.json")
    rows = {r["label"]: r for r in value["rows"]}
    ours, own = (rows[f"{title}, MAML, 1 step"] for title in ("2D-Navigation", "Walk"))
    assert ours["values"] == own["values"]
    assert (ours["paper"], own["paper"]) == ("-20.3 ± 3.2", "")
    assert sorted(value["runs"]) == [f"{e}-smoke-{m}-seed0" for e in ("navigation", "walk") for m in ("anil", "maml")]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the example and nothing else."""
    where = tmp_path_factory.mktemp("outside")
    (where / "my_ant.py").write_text(EXAMPLE.read_text())
    return where


def innerloop(where: Path, *args: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-m", "innerloop", *args]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_is_short() -> None:
    """Lines of code, without imports and docstrings."""
    tree = ast.parse(EXAMPLE.read_text())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [n for n in body if not isinstance(n, ast.Import | ast.ImportFrom) and not is_text(n)]
    assert 20 < len({line for n in ast.walk(tree) if hasattr(n, "lineno") for line in (n.lineno, n.end_lineno)}) <= 70


def is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.slow
def test_a_strangers_environment_from_the_command_line(outside: Path) -> None:
    """Train, go on after a stop, test, look into and draw, in a folder of the user's own."""
    pytest.importorskip("mujoco")
    train_it = ["rl", "train", "--env", "my_ant:ANT", "--method", "anil", *FLAGS]
    assert "on new tasks of my_ant:ANT" in innerloop(outside, *train_it)
    whole = outside / "runs" / "ant-direction-cpu-anil-seed0"
    assert read_json(whole / "config.json")["env"] == "my_ant:ANT"
    innerloop(outside, *train_it, "--iterations", "3", "--out", "longer")
    stop = (
        "import signal; from pathlib import Path; from my_ant import ANT; from innerloop.rl.train import train;"
        "from innerloop.rl.config import Config; from innerloop.runs import read_json;"
        f"config = Config.from_json(read_json(Path({str(whole)!r}) / 'config.json'));"
        "train(config, Path('cut'), env=ANT, report=lambda p: signal.raise_signal(signal.SIGINT))"
    )
    done = subprocess.run([sys.executable, "-c", stop], cwd=outside, capture_output=True, text=True, check=False)
    assert "Interrupted" in done.stderr
    assert not RunFolder(outside / "cut").finished
    innerloop(outside, *train_it, "--out", "cut", "--resume")
    assert_equal_weights(whole, outside / "cut")
    innerloop(outside, "rl", "evaluate", str(whole), "--adapt", "all")
    innerloop(outside, "rl", "analyse", str(whole))
    assert read_json(whole / ANALYSIS / "result.json")["title"] == "ANIL on Ant-Direction"
    innerloop(outside, "rl", "render", str(whole), "--no-film")
    assert (whole / "trajectories.png").exists()
