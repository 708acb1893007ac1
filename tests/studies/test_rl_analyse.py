"""`innerloop rl analyse`, ANIL's rows of `rl-features`, and meta-RL runs that are cut or met by the wrong command."""

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from innerloop import cli
from innerloop.core.statistics import over_episodes
from innerloop.rl import methods
from innerloop.rl.catalogue import ENVIRONMENTS
from innerloop.rl.meta_test import meta_test
from innerloop.rl.navigation import NAVIGATION
from innerloop.rl.train import train
from innerloop.runs import RunFolder, read_json
from innerloop.studies.result import printed
from innerloop.studies.rl_analyse import OneRun, analyse_policy
from innerloop.studies.rl_lab import rl_budget_config
from innerloop.studies.rl_tables import cca_if_enough
from innerloop.training.dagan import DaganConfig
from naming import names


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder of each method."""
    where = tmp_path_factory.mktemp("runs")
    for method in ("maml", "anil", "boil", "multitask"):
        train(rl_budget_config(NAVIGATION, "smoke", method, 3), where / method)
    return {p.name: p for p in where.iterdir()}


def rows(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {r["label"].removeprefix("2D-Navigation: "): r for r in value["rows"]}


def test_a_run_is_looked_into(made: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["rl", "analyse", str(made["maml"])]) == 0
    assert "the head moves farthest" in " ".join(capsys.readouterr().out.lower().split())
    folder = made["maml"] / "analysis"
    value = read_json(folder / "result.json")
    assert {p.name for p in folder.iterdir()} - {".lock"} == {
        "result.json",
        "table.md",
        "table.csv",
        "figure.png",
        "figure.svg",
    }
    assert (value["seeds"], value["step"]) == ([3], RunFolder(made["maml"]).load("best").step)
    found = rows(value)
    assert all(math.isfinite(r["mean"]) for r in found.values())
    assert value["drawing"]["series"][0]["x"] == ["hidden1", "hidden2", "head"]
    lab = OneRun((NAVIGATION,), "smoke", made["maml"], seeds=(3,), path=made["maml"])
    run = lab.trained(NAVIGATION, "maml", 3)
    after = over_episodes(meta_test(run.policy, run.slow, run.environment, run.config).values[1])
    assert found["hidden1 hidden2 head adapts"]["mean"] == pytest.approx(after.mean, abs=1e-6)


def test_frozen_blocks_do_not_move_and_others_do(made: dict[str, Path]) -> None:
    """Through the fast weights that meta-test used: a frozen block has none, or those of the slow weights."""
    lab = OneRun((NAVIGATION,), "smoke", made["maml"], seeds=(3,), path=made["maml"])
    run = lab.trained(NAVIGATION, "maml", 3)
    names = ("hidden1", "hidden2", "head")
    for j in range(len(names) + 1):
        moved: set[str] = set()

        def look(step: int, _found: Any, fast: Any, moved: set[str] = moved) -> None:
            if step == 1:
                moved |= {n.split(".")[0] for n, w in fast.items() if bool((w != run.slow[n]).any())}

        meta_test(run.policy, run.slow, run.environment, run.config, blocks=names[j:], look=look)
        assert moved == set(names[j:])


def test_anil_s_body_is_unmoved_and_the_claim_says_so(made: dict[str, Path]) -> None:
    value = analyse_policy(made["anil"])
    found = rows(value)
    for block in ("hidden1", "hidden2"):
        assert found[f"2D-Navigation, ANIL: movement of {block}"]["mean"] == 0
        assert found[f"2D-Navigation, ANIL: CKA of {block}"]["mean"] == pytest.approx(1, abs=1e-9)
    assert found["2D-Navigation, ANIL: movement of head"]["mean"] > 0
    assert not any("adapts" in label for label in found)
    (claim,) = value["claims"]
    assert claim["holds"] is True


def test_a_body_that_moves_under_anil_s_name_is_found_out(made: dict[str, Path], monkeypatch) -> None:
    """The claim can fail: with ANIL's blocks planted as all."""
    anil = methods.method("anil")
    monkeypatch.setattr(methods, "METHODS", (replace(anil, blocks="all"),))
    monkeypatch.setattr("innerloop.studies.rl_tables.find", lambda _: anil)
    (claim,) = analyse_policy(made["anil"])["claims"]
    assert claim["holds"] is False


def test_rl_features_has_both_methods_and_shares_their_runs(tmp_path: Path, made: dict[str, Path]) -> None:
    args = ["--env", "navigation", "--budget", "smoke", "--seeds", "3", "--out", str(tmp_path)]
    assert cli.run(["reproduce", "rl-features", *args]) == 0
    value = read_json(tmp_path / "rl-navigation-smoke" / "rl-features" / "result.json")
    assert sorted(value["runs"]) == [f"navigation-smoke-{m}-seed3" for m in ("anil", "maml")]
    one = rows(analyse_policy(made["maml"])) | rows(analyse_policy(made["anil"]))
    both = rows(value)
    assert set(both) == set(one)
    for label, row in both.items():
        assert row["mean"] == pytest.approx(one[label]["mean"], abs=1e-6)


def test_other_methods(made: dict[str, Path]) -> None:
    labels = rows(analyse_policy(made["boil"]))
    assert labels["2D-Navigation, BOIL: movement of head"]["mean"] == 0
    assert labels["2D-Navigation, BOIL: movement of hidden1"]["mean"] > 0
    with pytest.raises(ValueError, match=names("multitask", "--adapt all")):
        analyse_policy(made["multitask"])


def test_few_states_have_no_cca() -> None:
    """Trajectories that end early must not end the study."""
    x = torch.randn(11, 6, generator=torch.Generator().manual_seed(0))
    assert math.isnan(cca_if_enough(x, x))
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    assert cca_if_enough(x, x) == pytest.approx(1)


def test_interrupted_and_run_again(tmp_path: Path, made: dict[str, Path], monkeypatch, capsys) -> None:
    """Ctrl-C in the second training: the same command goes on, and ends with the weights of an uninterrupted one."""
    real = train

    def stopping(config, out, *, report, **more):
        def stop(p):
            report(p)
            if p.step == 1 and p.first == 0 and config.method == "anil":
                signal.raise_signal(signal.SIGINT)

        return real(config, out, report=stop, **more)

    monkeypatch.setattr("innerloop.studies.fan_out.train_policy", stopping)
    command = ["reproduce", "table2-rl", "--env", "navigation", "--budget", "smoke", "--seeds", "3"]
    command += ["--out", str(tmp_path)]
    assert cli.run(command) == 130
    assert "the same command continues from there" in capsys.readouterr().err
    cut = RunFolder(tmp_path / "runs" / "navigation-smoke-anil-seed3")
    assert not cut.finished
    assert RunFolder(tmp_path / "runs" / "navigation-smoke-maml-seed3").finished
    assert cli.run([*command, "--threads", "2"]) == 0
    torch.set_num_threads(1)
    whole = RunFolder(made["anil"]).load("last").weights
    for name, w in cut.load("last").weights.items():
        assert torch.equal(w, whole[name])


def test_the_paper_s_numbers_are_numbers() -> None:
    found = {m: {e.name: printed(e.published[m]) for e in ENVIRONMENTS if e.published} for m in ("maml", "anil")}
    assert found["maml"] == {"cheetah-direction": 170.4, "cheetah-velocity": -139.0, "navigation": -20.3}
    assert found["anil"] == {"cheetah-direction": 363.2, "cheetah-velocity": -120.9, "navigation": -20.1}


@pytest.mark.parametrize(
    ("command", "kind", "says"),
    [
        ("evaluate", "rl", "innerloop rl evaluate"),
        ("analyse", "rl", "innerloop rl analyse"),
        ("evaluate", "dagan", "innerloop evaluate RUN --augment-support"),
        ("analyse", "dagan", "innerloop dagan --samples-only"),
    ],
)
def test_the_wrong_command_names_the_right_one(
    command: str, kind: str, says: str, tmp_path: Path, made: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = made["maml"]
    if kind == "dagan":
        path = tmp_path / "d"
        path.mkdir()
        (path / "config.json").write_text(json.dumps(DaganConfig().to_json()))
    assert cli.run([command, str(path)]) == 1
    said = capsys.readouterr().err
    assert f"is a run of 'innerloop {kind}'" in said
    assert says in said


def test_a_finished_policy_names_its_own_test(made: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["rl", "train", "--preset", "navigation-cpu", "--out", str(made["maml"])]) == 1
    assert "test it with 'innerloop rl evaluate'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "has", "hasnot"),
    [("dagan", "--batch", "--task-chunk"), ("rl", "--rollouts", "--outer"), ("train", "--task-chunk", "--batch")],
)
def test_memory_advice_names_options_of_the_command(command: str, has: str, hasnot: str) -> None:
    said = cli.explain(MemoryError(), command)
    assert said is not None
    assert has in said
    assert hasnot not in said


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["table2-rl", "--data", "omniglot"], "--data has no effect"),
        (["rl-features", "--shot", "5"], "--shot has no effect"),
        (["table1", "--env", "navigation"], "--env has no effect"),
    ],
)
def test_options_without_effect_are_refused(args: list[str], says: str, tmp_path: Path, capsys) -> None:
    assert cli.run(["reproduce", *args, "--budget", "smoke", "--out", str(tmp_path)]) == 1
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_gymnasium_finds_the_names_through_the_module() -> None:
    """In a process of its own, in which nothing has registered them."""
    pytest.importorskip("gymnasium")
    make = "import gymnasium; gymnasium.make('innerloop.rl.as_gymnasium:innerloop/navigation-v0').reset(seed=0)"
    done = subprocess.run([sys.executable, "-c", make], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
